"""``relayx demo`` (contract section 10): equal digests, failures, and nothing left behind."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import select
import signal
import socket
from pathlib import Path
from threading import Event

from rich.console import Console
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relayx.cli import demo, demo_progress
from relayx.cli.demo_data import BLOCK, FileSource, MadeSource, Part, parts, whole_sha256
from relayx.cli.demo_result import Trip, differences
from relayx.cli.demo_work import marks, protocol_of
from relayx.cli.gateway_child import HOST, GatewayChild, child_environment, free_ports
from relayx.cli.running import Failed
from relayx.cli.transfer import Receipt
from tests.guide_peer import DEADLINE
from tests.relayx_process import RelayxProcess, relayx, run_relayx


def sha256(data: bytes) -> str:
    """In hex."""
    return hashlib.sha256(data).hexdigest()


def trip(sent: bytes, at_be: bytes, back: bytes, wanted: int = -1) -> Trip:
    """One session that carried these."""
    receipts = [Receipt(len(data), sha256(data)) for data in (sent, at_be, back)]
    return Trip("zmq 30101", len(sent) if wanted < 0 else wanted, 1.0, 3.0, *receipts)


class ResultTests(SynchronousTestCase):
    """What is printed, and the exit status."""

    def conclude(self, *trips: Trip, width: int = 80) -> tuple[int, str]:
        """Exit status and output."""
        out = io.StringIO()
        said: list[str] = []
        self.patch(demo.click, "echo", lambda text, err=False: said.append(text))
        status = demo.conclude(Console(file=out, width=width), list(trips), sha256(b"whole"))
        return status, out.getvalue() + "\n".join(said)

    def test_equal(self) -> None:
        """Status 0; bytes, seconds, GB/s, and each digest in full."""
        status, text = self.conclude(
            trip(b"a" * 2000, b"a" * 2000, b"a" * 2000), trip(b"", b"", b"")
        )
        self.assertEqual(status, 0)
        self.assertEqual(text.count(sha256(b"a" * 2000)), 3)
        self.assertEqual(text.count(sha256(b"")), 3)
        self.assertEqual(text.count(sha256(b"whole")), 1)
        self.assertRegex(text, r"1 +zmq 30101 +2,000 +2\.000 +0\.000")
        self.assertRegex(text, r"all +2,000 +2\.000 +0\.000")
        self.assertIn("All digests are equal.", text)

    def test_narrow(self) -> None:
        """A digest is never cut, and no line is longer than a terminal's 80 columns."""
        for width in (10, 40, 79, 200):
            _, text = self.conclude(trip(b"a", b"a", b"a"), width=width)
            self.assertEqual(text.count(sha256(b"a")), 3)
            self.assertLessEqual(max(map(len, text.splitlines())), 80)

    def test_difference_at_the_back_end(self) -> None:
        """Status 1, and both digests named."""
        status, text = self.conclude(trip(b"a", b"a", b"a"), trip(b"sent", b"else", b"sent"))
        self.assertEqual(status, 1)
        self.assertIn("FE 2: the BE got 4 bytes with sha256 " + sha256(b"else"), text)
        self.assertIn(sha256(b"sent"), text)
        self.assertNotIn("equal", text)

    def test_difference_on_the_way_back(self) -> None:
        """A byte less."""
        found = differences([trip(b"abc", b"abc", b"ab")])
        self.assertEqual(len(found), 1)
        self.assertIn("the FE got back 2 bytes", found[0])

    def test_not_all_sent(self) -> None:
        """A file that has become shorter is a difference though all digests are equal."""
        self.assertEqual(
            differences([trip(b"ab", b"ab", b"ab", wanted=3)]), ["FE 1 sent 2 bytes instead of 3"]
        )


class DataTests(SynchronousTestCase):
    """What is sent."""

    def test_parts(self) -> None:
        """They cover all, once, in order."""
        self.assertEqual(parts(10, 3), [Part(0, 4), Part(4, 3), Part(7, 3)])
        self.assertEqual(parts(1, 2), [Part(0, 1), Part(1, 0)])
        self.assertEqual(parts(0, 1), [Part(0, 0)])

    def test_made(self) -> None:
        """The same each time, whatever pieces it is read in, and no block twice."""
        size = 5 * BLOCK + 7
        one, other = MadeSource(size), MadeSource(size)
        blocks = [one.read(n * BLOCK, BLOCK) for n in range(6)]
        self.assertEqual([len(block) for block in blocks], [BLOCK] * 5 + [7])
        self.assertEqual(len({sha256(block) for block in blocks}), 6)
        self.assertEqual(other.read(BLOCK - 3, 100), blocks[0][-3:])
        self.assertEqual(other.read(size, 100), b"")
        self.assertEqual(whole_sha256(other, Event()), sha256(b"".join(blocks)))
        self.assertEqual(MadeSource().size, 256 * BLOCK)

    def test_file(self) -> None:
        """A file's bytes, from anywhere."""
        path = self.mktemp()
        Path(path).write_bytes(b"0123456789")
        source = FileSource(path)
        self.assertEqual((source.size, source.read(7, 100), source.read(10, 1)), (10, b"789", b""))
        self.assertEqual(whole_sha256(source, Event()), sha256(b"0123456789"))

    def test_given_up(self) -> None:
        """The digest of a large file does not hold up the end."""
        given_up = Event()
        given_up.set()
        self.assertEqual(whole_sha256(MadeSource(), given_up), sha256(b""))

    def test_protocols(self) -> None:
        """zmq and srt ports by turns, as many as there are sessions."""
        for sessions in range(1, 6):
            labels = [str(protocol_of(number)) for number in range(sessions)]
            self.assertEqual(marks(sessions), (labels.count("zmq"), labels.count("srt")))

    def test_progress_lines(self) -> None:
        """One a second, and one at the end."""
        now = [0.0]
        said: list[str] = []
        self.patch(demo_progress, "say", said.append)
        lines = demo_progress.Lines(100, lambda: now[0])
        for now[0], count in ((0.0, 10), (0.5, 10), (1.0, 30), (1.5, 50)):
            lines.add(count)
        self.assertEqual(
            [line.split(",")[0] for line in said],
            [" 50 %  50 of 100 bytes back", "100 %  100 of 100 bytes back"],
        )


class PortTests(SynchronousTestCase):
    """Finding free ports."""

    def test_free(self) -> None:
        """So many in a row, which can be listened on."""
        found = free_ports(5)
        self.assertEqual(len(found), 5)
        for port in found:
            socket.create_server((HOST, port)).close()

    def test_taken(self) -> None:
        """A row with one that is taken is passed over; where there is no other, that is said."""
        with socket.create_server((HOST, 0)) as taken:
            port = taken.getsockname()[1]
            around = range(port - 1, port + 2)
            failed = self.assertRaises(Failed, free_ports, 2, around)
            self.assertIn(f"no 2 free ports in a row on {HOST}", failed.message)
            other = free_ports(1).start
            choices = iter([port, port, other])
            self.assertEqual(
                free_ports(1, choose=lambda *_: next(choices)), range(other, other + 1)
            )

    def test_environment(self) -> None:
        """Nothing that would choose another configuration gets to the child."""
        ours = {"RELAY_ENV": "prod", "RELAYX_SECRET": "x", "HOME": "/", "RELAY_CONFIG": "c"}
        self.assertEqual(child_environment(ours), {"HOME": "/"})


class GatewayChildTests(TestCase):
    """The gateway as a child process."""

    def demo(self, source: bytes, children: list[GatewayChild]) -> Deferred[int]:
        """The demo's work on trial's reactor."""
        path = Path(self.mktemp())
        path.write_bytes(source)
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        work = demo._demo(reactor, self.directory, FileSource(str(path)), 1, children)
        return Deferred.fromCoroutine(work)

    async def test_port_taken_meanwhile(self) -> None:
        """It tries again with others, and that works; the secret file is its owner's alone."""
        self.patch(demo_progress, "say", lambda text: None)
        self.patch(demo, "conclude", lambda console, trips, whole: differences(trips) == [])
        with socket.create_server((HOST, 0)) as taken:
            port = taken.getsockname()[1]
            rows = iter([range(port, port + 2), free_ports(2)])
            self.patch(demo, "free_ports", lambda count: next(rows))
            children: list[GatewayChild] = []
            self.assertEqual(await self.demo(b"data", children), True)
        self.assertEqual([child.could_not_listen for child in children], [True, False])
        self.assertEqual((self.directory / "secrets.json").stat().st_mode & 0o777, 0o600)

    async def test_gateway_cannot_start(self) -> None:
        """Its own last line says why, and nothing of it is left."""
        children: list[GatewayChild] = []
        self.patch(demo, "HOST", "192.0.2.1")
        self.patch(demo, "PORT_ATTEMPTS", 1)
        failed = await self.assertFailure(self.demo(b"data", children), Failed)
        self.assertIn("the gateway has ended: ", failed.message)
        self.assertIn("192.0.2.1", failed.message)
        self.assertTrue(all(child.ended.called for child in children))


class DemoTests(SynchronousTestCase):
    """The command as a process of its own."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def test_file(self) -> None:
        """A file over three sessions, from another folder and without PATH: all as it should be."""
        data = os.urandom(1024 * 1024 + 1)
        path = self.folder / "file"
        path.write_bytes(data)
        temporary = self.folder / "temporary"
        temporary.mkdir()
        done = run_relayx(
            *("demo", "--file", str(path), "--sessions", "3"),
            cwd=str(temporary), TMPDIR=str(temporary), PATH="", COLUMNS="60", RELAY_ENV="prod",
        )  # fmt: skip
        self.assertEqual(done.ended(), 0, done.stderr)
        text = done.stdout.decode()
        for part in parts(len(data), 3):
            digest = sha256(data[part.offset : part.offset + part.size])
            self.assertEqual(text.count(digest), 3)
        self.assertIn(sha256(data), text)
        self.assertRegex(text, r"1 +zmq \d+ +349,526 ")
        self.assertRegex(text, r"2 +srt \d+ +349,526 ")
        self.assertIn("All digests are equal.", text)
        self.assertIn("bytes back", done.stderr)
        self.assertEqual(os.listdir(temporary), [])

    def test_terminal(self) -> None:
        """On a terminal there is a bar for each front end, with throughput."""
        path = self.folder / "file"
        path.write_bytes(bytes(1024 * 1024))
        main_end, terminal = os.openpty()
        try:
            with relayx("demo", "--file", str(path), stderr=terminal, TERM="xterm") as it:
                os.close(terminal)
                drawn = b""
                with contextlib.suppress(OSError):  # the terminal's last user has ended
                    while data := os.read(main_end, 65536):
                        drawn += data
                self.assertEqual(it.ended(), 0)
        finally:
            os.close(main_end)
        for text in (b"FE 1 zmq", b"FE 2 srt", b"524.3/524.3 kB"):
            self.assertIn(text, drawn)
        self.assertRegex(drawn, rb"\d (bytes|[kMG]B)/s")
        self.assertIn(b"All digests are equal.", it.stdout)

    def endless(self) -> str:
        """A file to whose end no test comes; it takes no room."""
        path = Path(self.mktemp()).absolute()
        path.touch()
        os.truncate(path, 64 << 30)
        return str(path)

    def running(self, demo_process: RelayxProcess) -> int:
        """Wait until sessions run; a pidfd of the gateway."""
        demo_process.line(" begins, ")
        pid = demo_process.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self.assertEqual(len(children), 1)
        return os.pidfd_open(int(children[0]))

    def assert_gone(self, pidfd: int) -> None:
        """The process ends, if it has not."""
        try:
            self.assertEqual(select.select([pidfd], [], [], DEADLINE)[0], [pidfd])
        finally:
            os.close(pidfd)

    def test_interrupted(self) -> None:
        """Ctrl-C in the middle: status 1, no gateway and no file is left."""
        with relayx("demo", "-v", "--file", self.endless(), TMPDIR=str(self.folder)) as it:
            gateway = self.running(it)
            self.assertEqual(it.interrupted(), 1)
            self.assert_gone(gateway)
        self.assertIn("Error: interrupted", it.stderr)
        self.assertEqual(os.listdir(self.folder), [])

    def test_killed(self) -> None:
        """The gateway does not outlive a demo that is killed."""
        with relayx("demo", "-v", "--file", self.endless(), TMPDIR=str(self.folder)) as it:
            gateway = self.running(it)
            it.signal(signal.SIGKILL)
            it.ended()
            self.assert_gone(gateway)

    def test_gateway_dies(self) -> None:
        """Status 1 and one line that says so."""
        with relayx("demo", "-v", "--file", self.endless(), TMPDIR=str(self.folder)) as it:
            gateway = self.running(it)
            signal.pidfd_send_signal(gateway, signal.SIGKILL)
            self.assertEqual(it.ended(), 1)
            self.assert_gone(gateway)
        self.assertIn("Error: ", it.stderr)
        self.assertNotIn("Traceback", it.stderr)
        self.assertEqual(os.listdir(self.folder), [])
