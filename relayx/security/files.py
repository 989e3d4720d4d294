"""Reading a small file that may be anything."""

from __future__ import annotations

import os
import stat

from relayx.security.errors import KeyFileError, plain

MOST_BYTES = 64 * 1024
"""Of a key file; the longest key has 4 KiB."""

_KINDS = {
    stat.S_IFDIR: "is a directory",
    stat.S_IFIFO: "is a named pipe",
    stat.S_IFCHR: "is a device",
    stat.S_IFBLK: "is a device",
}


def read_file(path: str, most: int = MOST_BYTES) -> tuple[bytes, int]:
    """The bytes of a regular file and its permission bits. Never waits for a writer.

    :param most: bytes that it may have.
    :raises KeyFileError: where it cannot be read, is something else, or is longer.
    """
    try:
        with open(path, "rb", opener=_open) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                kind = _KINDS.get(stat.S_IFMT(mode), "is no file")
                raise KeyFileError(path, kind, "a regular file")
            data = file.read(most + 1)
    except FileNotFoundError:
        raise KeyFileError(path, "does not exist") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        kind = _KINDS[stat.S_IFDIR] if isinstance(error, IsADirectoryError) else ""
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise KeyFileError(path, kind or f"cannot be read: {reason}") from None
    if len(data) > most:
        raise KeyFileError(path, "is too long for what it should be", f"up to {most} bytes")
    return data, stat.S_IMODE(mode)


def check_not_open_to_all(path: str, mode: int, says: str) -> None:
    """Refuse a file that anybody may write, though it says whom to trust.

    :param says: what, as in "says which key is current".
    :raises KeyFileError: where anybody may write it.
    """
    if mode & stat.S_IWOTH:
        problem = f"{says} and can be written by others, its mode is {mode:04o}"
        raise KeyFileError(path, problem, f"mode 0644 (chmod 644 {plain(path)})")


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # otherwise, a named pipe would be waited for
