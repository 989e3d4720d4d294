"""Writing a file so that there is the old one or the new one, whenever the machine stops."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

_LEFT_OVER = re.compile(r"\.(.+)\.[0-9a-f]{16}\.tmp", re.DOTALL)


def replace_file(path: str, data: bytes, mode: int, owner: os.stat_result | None = None) -> None:
    """Put `data` in the place of what `path` holds, if anything, with one rename.

    The file has its mode from before its first byte on; it and its name are on the disk when
    this returns.

    :param owner: whose the file is to be, where that is not whoever runs this and may be chosen.
    :raises OSError: where it cannot be written; what was there is there as before.
    """
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, mode & 0o600)
    try:
        with naming(path), open(descriptor, "wb") as file:
            if owner is not None and os.geteuid() == 0:
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync_directory(directory or ".")


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Let an error of writing to an open file name it, which the kernel's does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = path
        raise


@contextmanager
def locked(directory: str) -> Iterator[None]:
    """Keep other writers out of a directory meanwhile; waits for one that is at work.

    The lock is the kernel's (``flock`` on the directory), which lets go of it when its holder
    ends in whatever way.

    :raises OSError: where the directory cannot be opened or locked.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def sweep(directory: str, name: str = "") -> None:
    """Remove what writers that were killed left; only for who has the lock.

    :param name: of the file whose left-overs to remove, "" for every file's.
    """
    for found in os.listdir(directory):
        left_over = _LEFT_OVER.fullmatch(found)
        if left_over and name in ("", left_over[1]):
            os.unlink(os.path.join(directory, found))


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
