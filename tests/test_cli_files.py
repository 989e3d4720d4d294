"""Standard streams and files of the command line, without blocking the reactor."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relayx.cli.files import Sink, Source
from relayx.cli.landing import Landing
from relayx.cli.running import Failed


class PipeTests(TestCase):
    """A pipe at either end."""

    def setUp(self) -> None:
        self.read_end, self.write_end = os.pipe()
        self.open = {self.read_end, self.write_end}
        self.addCleanup(lambda: [self.close(end) for end in tuple(self.open)])

    def close(self, end: int) -> None:
        """Close an end, once."""
        self.open.remove(end)
        os.close(end)

    async def test_source(self) -> None:
        """A read waits for the writer; what was written before the end is not lost."""
        source = Source(reactor, self.read_end)
        self.assertIsNone(source.size)
        first = source.read()
        self.assertFalse(first.called)
        os.write(self.write_end, b"first")
        self.assertEqual(await first, b"first")
        os.write(self.write_end, b"last")
        self.close(self.write_end)
        self.assertEqual([await source.read(3), await source.read(), await source.read()],
                         [b"las", b"t", b""])  # fmt: skip
        self.assertTrue(os.get_blocking(self.read_end))

    async def test_source_cancelled(self) -> None:
        """Nothing waits any more, and nothing was lost."""
        source = Source(reactor, self.read_end)
        waiting = source.read()
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        os.write(self.write_end, b"x")
        self.assertEqual(await source.read(), b"x")

    async def test_sink(self) -> None:
        """A write waits for a slow reader, and the pipe is left as it was."""
        sink = Sink(reactor, self.write_end)
        data = os.urandom(1024 * 1024)
        written = sink.write(data)
        self.assertFalse(written.called)
        source = Source(reactor, self.read_end)
        read = b""
        while len(read) < len(data):
            read += await source.read()
        await written
        self.assertEqual(read, data)
        sink.close()
        self.assertTrue(os.get_blocking(self.write_end))

    async def test_sink_without_reader(self) -> None:
        """Fails, both at once and while it waits."""
        sink = Sink(reactor, self.write_end)
        waiting = sink.write(bytes(1024 * 1024))
        self.close(self.read_end)
        await self.assertFailure(waiting, BrokenPipeError)
        await self.assertFailure(sink.write(b"x"), BrokenPipeError)
        sink.close()

    async def test_sink_cancelled(self) -> None:
        """Nothing waits any more."""
        sink = Sink(reactor, self.write_end)
        waiting = sink.write(bytes(1024 * 1024))
        waiting.addErrback(lambda _: None)
        waiting.cancel()
        sink.close()


class FileTests(SynchronousTestCase):
    """A regular file."""

    def test_source(self) -> None:
        """Its size is known, from where it is read on; it is read at once."""
        path = Path(self.mktemp())
        path.write_bytes(b"0123456789")
        with path.open("rb", buffering=0) as file:
            file.seek(4)
            source = Source(None, file.fileno())
            self.assertEqual(source.size, 6)
            self.assertEqual(self.successResultOf(source.read(4)), b"4567")
            self.assertEqual(self.successResultOf(source.read(4)), b"89")
            self.assertEqual(self.successResultOf(source.read(4)), b"")

    def test_directory(self) -> None:
        """Cannot be read."""
        descriptor = os.open(os.curdir, os.O_RDONLY)
        self.addCleanup(os.close, descriptor)
        source = Source(reactor, descriptor)
        source.size = 0
        self.failureResultOf(source.read(), IsADirectoryError)


class LandingTests(SynchronousTestCase):
    """A file that is there whole or not at all."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = self.folder / "file"

    def landing(self, **options: Any) -> Landing:
        """One for the file."""
        return Landing(reactor, str(self.path), **options)

    def test_kept(self) -> None:
        """Under its own name at the end, with the usual mode; nothing else is left."""
        landing = self.landing()
        self.successResultOf(landing.write(b"data"))
        self.assertFalse(self.path.exists())
        landing.keep()
        landing.drop()
        self.assertEqual(self.path.read_bytes(), b"data")
        self.assertEqual(os.listdir(self.folder), ["file"])
        mask = os.umask(0)
        os.umask(mask)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o666 & ~mask)

    def test_dropped(self) -> None:
        """Nothing is left, and to drop it again does no harm."""
        landing = self.landing()
        self.successResultOf(landing.write(b"data"))
        landing.drop()
        landing.drop()
        self.assertEqual(os.listdir(self.folder), [])

    def test_exists(self) -> None:
        """Refused, a link that leads nowhere too; with force a file is replaced, no directory."""
        os.symlink("nowhere", self.path)
        self.assertIn("exists", self.assertRaises(Failed, self.landing).message)
        landing = self.landing(force=True)
        self.successResultOf(landing.write(b"new"))
        landing.keep()
        self.assertEqual(self.path.read_bytes(), b"new")
        self.path.unlink()
        self.path.mkdir()
        for force in (True, False):
            refused = self.assertRaises(Failed, self.landing, force=force)
            self.assertIn("is a directory", refused.message)

    def test_no_links(self) -> None:
        """On a file system without hard links too nothing is replaced."""

        def link(*_: str) -> None:
            raise OSError(errno.EPERM, "no links here")

        self.patch(os, "link", link)
        kept, late = self.landing(), self.landing()
        kept.keep()
        self.assertIn("exists", self.assertRaises(Failed, late.keep).message)
        late.drop()
        self.assertEqual(os.listdir(self.folder), ["file"])

    def failing(self, name: str, number: int) -> None:
        """Let a call of the system fail from now on."""

        def fail(*_: Any) -> None:
            raise OSError(number, os.strerror(number))

        self.patch(os, name, fail)

    def test_full(self) -> None:
        """A disk without room, at a write or at the end: the file's own name, and what failed."""
        landing = self.landing()
        self.failing("write", errno.ENOSPC)
        refused = self.failureResultOf(landing.write(b"data"), Failed).value
        landing.drop()
        self.assertEqual(refused.message, f"{self.path} cannot be written: No space left on device")
        for call in ("fsync", "link"):
            late = self.landing()
            if call == "link":
                self.failing("rename", errno.EDQUOT)
            self.failing(call, errno.EDQUOT)
            refused = self.assertRaises(Failed, late.keep)
            self.patch(os, "fsync", lambda _: None)
            late.drop()
            self.assertEqual(refused.message, f"{self.path} cannot be written: Disk quota exceeded")
        self.assertEqual(os.listdir(self.folder), [])

    def test_unwritable_folder(self) -> None:
        """Said at once, by the name that was asked for."""
        self.failing("open", errno.EACCES)
        refused = self.assertRaises(Failed, self.landing)
        self.assertEqual(refused.message, f"{self.path} cannot be written: Permission denied")

    def test_standard_output(self) -> None:
        """Is named too."""
        landing = Landing(reactor, "-")
        self.failing("write", errno.ENOSPC)
        refused = self.failureResultOf(landing.write(b"data"), Failed).value
        landing.drop()
        self.assertIn("standard output cannot be written: No space", refused.message)

    def test_no_folder(self) -> None:
        """Said at once, not after the transfer."""
        self.path = self.folder / "missing" / "file"
        self.assertIn("cannot be written: No such", self.assertRaises(Failed, self.landing).message)
