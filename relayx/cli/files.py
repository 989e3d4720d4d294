"""Standard streams and files, read and written without blocking the reactor."""

from __future__ import annotations

import os
import stat
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReadDescriptor, IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

CHUNK = 256 * 1024
"""Bytes."""


@implementer(IReadDescriptor)
class Source:
    """Reads a descriptor that is a file, a pipe, a terminal or a socket.

    A pipe is waited for on the reactor. It stays in blocking mode, which it shares with
    every process that has it, for a read after the reactor's word does not block.

    :ivar size: bytes of a regular file from here to its end, None for all else.
    """

    def __init__(self, reactor: Any, descriptor: int) -> None:
        self._reactor = reactor
        self._descriptor = descriptor
        self._reader: tuple[Deferred[bytes], int] | None = None
        status = os.fstat(descriptor)
        self.size: int | None = None
        if stat.S_ISREG(status.st_mode):
            self.size = max(0, status.st_size - os.lseek(descriptor, 0, os.SEEK_CUR))

    def read(self, max_bytes: int = CHUNK) -> Deferred[bytes]:
        """The next 1 to `max_bytes` bytes, b"" at the end; fails with OSError."""
        if self.size is not None:
            return maybeDeferred(os.read, self._descriptor, max_bytes)
        reader: Deferred[bytes] = Deferred(self._cancelled)
        self._reader = (reader, max_bytes)
        self._reactor.addReader(self)
        return reader

    def _cancelled(self, _: Deferred[bytes]) -> None:
        self._take()

    def _take(self) -> tuple[Deferred[bytes], int] | None:
        taken, self._reader = self._reader, None
        if taken is not None:
            self._reactor.removeReader(self)
        return taken

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def logPrefix(self) -> str:
        """For the reactor's log."""
        return "source"

    def doRead(self) -> None:
        """The reactor's word that a read does not block."""
        taken = self._take()
        if taken is None:
            return
        try:
            data = os.read(self._descriptor, taken[1])
        except OSError:
            taken[0].errback(Failure())
        else:
            taken[0].callback(data)

    def connectionLost(self, reason: Failure) -> None:
        """The pipe's other end is gone; what it wrote before can still be read."""
        self.doRead()


@implementer(IWriteDescriptor)
class Sink:
    """Writes to a descriptor that is a file, a pipe, a terminal or a socket.

    A pipe is put into non-blocking mode until `close`.
    """

    def __init__(self, reactor: Any, descriptor: int) -> None:
        self._reactor = reactor
        self._descriptor = descriptor
        self._left = memoryview(b"")
        self._writer: Deferred[None] | None = None
        self._registered = False
        mode = os.fstat(descriptor).st_mode
        self._waits = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
        self._was_blocking = os.get_blocking(descriptor)
        if self._waits:
            os.set_blocking(descriptor, False)

    def write(self, data: bytes) -> Deferred[None]:
        """Write all of `data`; fires when that is done, fails with OSError."""
        self._left = memoryview(data)
        writer: Deferred[None] = Deferred(self._cancelled)
        self._writer = writer
        self._write()
        if self._writer is not None:
            self._registered = True
            self._reactor.addWriter(self)
        return writer

    def _cancelled(self, _: Deferred[None]) -> None:
        self._take()

    def _write(self) -> None:
        try:
            while self._left:
                self._left = self._left[os.write(self._descriptor, self._left) :]
        except BlockingIOError:
            return
        except OSError:
            self._fail(Failure())
            return
        writer = self._take()
        if writer is not None:
            writer.callback(None)

    def _take(self) -> Deferred[None] | None:
        taken, self._writer = self._writer, None
        if self._registered:
            self._registered = False
            self._reactor.removeWriter(self)
        return taken

    def _fail(self, failure: Failure) -> None:
        writer = self._take()
        if writer is not None:
            writer.errback(failure)

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def logPrefix(self) -> str:
        """For the reactor's log."""
        return "sink"

    def doWrite(self) -> None:
        """The reactor's word that there is room."""
        self._write()

    def connectionLost(self, reason: Failure) -> None:
        """Nobody reads the pipe any more."""
        self._fail(Failure(BrokenPipeError(32, "nobody reads the output any more")))

    def close(self) -> None:
        """Leave the descriptor as it was found; it stays open."""
        self._take()
        if self._waits:
            os.set_blocking(self._descriptor, self._was_blocking)
