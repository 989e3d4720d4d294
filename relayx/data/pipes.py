"""Pipes for the splice path: one that all sessions share, and more while bytes are stuck."""

from __future__ import annotations

import contextlib
import fcntl
import os

from twisted.logger import Logger

F_SETPIPE_SZ = getattr(fcntl, "F_SETPIPE_SZ", 1031)
F_GETPIPE_SZ = getattr(fcntl, "F_GETPIPE_SZ", 1032)
PAGE = 4096
WANTED = 1 << 20
LEAST = 1 << 16
KEPT = 16
"""Most empty pipes kept for the next session that gets stuck."""

_MAX_FILE = "/proc/sys/fs/pipe-max-size"
_log = Logger(namespace="relayx.data")


class Pipe:
    """A non-blocking pipe. It belongs to the pool only while it is empty."""

    __slots__ = ("end_in", "end_out", "held", "size")

    def __init__(self, wanted: int) -> None:
        """:raises OSError: where no descriptors are left."""
        self.end_out, self.end_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.held = 0
        self.size = fcntl.fcntl(self.end_in, F_GETPIPE_SZ)
        size = wanted
        while size > self.size:
            try:
                self.size = fcntl.fcntl(self.end_in, F_SETPIPE_SZ, size)
                break
            except OSError:  # over the system's or the user's limit
                size //= 2

    def close(self) -> None:
        """Close both ends; what it holds is gone."""
        self.held = 0
        for descriptor in (self.end_in, self.end_out):
            with contextlib.suppress(OSError):
                os.close(descriptor)


class PipePool:
    """Lends pipes.

    :param most: bytes that a pipe may hold, from ``relay.ring_buffer_size``.
    """

    def __init__(self, most: int) -> None:
        self._free: list[Pipe] = []
        self._told = False
        self.lent = 0
        self.change(most)

    def change(self, most: int) -> None:
        """Lend pipes of another size from now on."""
        self._wanted = max(LEAST, min(most, WANTED, _system_most()))
        self.close()

    def take(self) -> Pipe:
        """An empty pipe.

        :raises OSError: where no descriptors are left.
        """
        pipe = self._free.pop() if self._free else Pipe(self._wanted)
        if pipe.size < self._wanted and not self._told:
            self._told = True
            _log.warn(
                "{text}",
                text=f"the kernel gives pipes of {pipe.size} bytes instead of {self._wanted} "
                "(fs.pipe-max-size, fs.pipe-user-pages-soft); sessions work, a little slower",
            )
        self.lent += 1
        return pipe

    def give_back(self, pipe: Pipe) -> None:
        """Return a pipe; one with bytes in it is never lent again."""
        self.lent -= 1
        if pipe.held or len(self._free) >= KEPT:
            pipe.close()
        else:
            self._free.append(pipe)

    def close(self) -> None:
        """Close the pipes that are not lent."""
        for pipe in self._free:
            pipe.close()
        self._free.clear()


def _system_most() -> int:
    try:
        with open(_MAX_FILE) as file:
            return int(file.read())
    except (OSError, ValueError):
        return WANTED
