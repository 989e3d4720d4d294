"""Where what is received goes: a file that is there whole or not at all, or standard output."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from relayx.cli.files import Sink
from relayx.cli.running import Failed

STANDARD_STREAM = "-"


class Landing:
    """Takes bytes, and keeps them for good only when told that they are all there.

    A file is written under another name in the same directory until then.

    :param path: the file, "-" for standard output.
    :param force: whether a file that exists may be replaced.
    :raises Failed: where it exists and may not be, or cannot be written.

    :ivar kept: whether it is there for good.
    """

    def __init__(self, reactor: Any, path: str, *, force: bool = False) -> None:
        self.path = path
        self.kept = False
        self._force = force
        self._temporary = ""
        if path == STANDARD_STREAM:
            self._descriptor = 1
        else:
            self._refuse_existing(force=force)
            folder, name = os.path.split(path)
            self._temporary = os.path.join(folder, f".{name[:200]}.{secrets.token_hex(4)}.part")
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            try:
                self._descriptor = os.open(self._temporary, flags, 0o666)
            except OSError as error:
                raise self._unwritten(error) from None
        self._sink = Sink(reactor, self._descriptor)

    def _refuse_existing(self, *, force: bool) -> None:
        if os.path.isdir(self.path):
            raise Failed(f"{self.path} is a directory")
        if not force and os.path.lexists(self.path):
            raise Failed(f"{self.path} exists; --force replaces it")

    def write(self, data: bytes) -> Deferred[None]:
        """Write all of `data`; fires when there may be more, fails with `Failed`."""
        return self._sink.write(data).addErrback(self._not_written)

    def _not_written(self, failure: Failure) -> Failure:
        error = failure.value
        return Failure(self._unwritten(error)) if isinstance(error, OSError) else failure

    def _unwritten(self, error: OSError) -> Failed:
        """What to say about an error of the system, which knows only the name in between."""
        name = "standard output" if self.path == STANDARD_STREAM else self.path
        return Failed(f"{name} cannot be written: {error.strerror or error}")

    def keep(self) -> None:
        """All is there: give the file its name.

        :raises Failed: where that name has been taken meanwhile, or the disk does not take it.
        """
        self._sink.close()
        if self._temporary:
            try:
                self._name()
            except OSError as error:
                raise self._unwritten(error) from None
        self.kept = True

    def _name(self) -> None:
        os.fsync(self._descriptor)
        if self._force:
            os.replace(self._temporary, self.path)
        else:
            try:
                os.link(self._temporary, self.path)  # unlike a rename, this replaces nothing
            except FileExistsError:
                self._refuse_existing(force=False)
                raise
            except OSError:  # a file system without links
                self._refuse_existing(force=False)
                os.rename(self._temporary, self.path)
            else:
                os.unlink(self._temporary)
        self._temporary = ""
        os.close(self._descriptor)

    def drop(self) -> None:
        """Leave nothing of it, unless it is kept."""
        self._sink.close()
        temporary, self._temporary = self._temporary, ""
        if temporary:
            with suppress(OSError):  # why it is dropped is what the person has to know
                os.unlink(temporary)
            os.close(self._descriptor)
