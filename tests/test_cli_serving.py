"""``relayx be`` and ``relayx fe``: echoes, services and commands behind a local port."""

from __future__ import annotations

import functools
import http.server
import os
import random
import select
import signal
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relayx.cli.execution import Command, Commands
from relayx.client import Events, Stream
from relayx.core.messages import Cause, SessionEnd
from tests.guide_peer import DEADLINE, WasResetError
from tests.live import Data11, Gateway, live
from tests.relayx_process import RelayxProcess, relayx, run_relayx

MIB = 1024 * 1024


@contextmanager
def tunnel(gateway: Gateway, *serve: str) -> Iterator[tuple[RelayxProcess, tuple[str, int]]]:
    """``relayx be`` that serves so, and the address of a ``relayx fe`` that leads to it."""
    with (
        relayx("be", "--service", "web", *serve, gateway=gateway.host) as be,
        front_end(gateway) as (_, address),
    ):
        be.line("registered")
        yield be, address


@contextmanager
def front_end(gateway: Gateway, *options: str) -> Iterator[tuple[RelayxProcess, tuple[str, int]]]:
    """``relayx fe`` for service web, and where it listens."""
    listen = ("--service", "web", "--listen", "0")
    with relayx("fe", *listen, *options, gateway=gateway.host) as fe:
        host, _, port = fe.line("listening on ").rpartition(" ")[2].rpartition(":")
        yield fe, (host, int(port))


def connect(address: tuple[str, int]) -> socket.socket:
    """A connection whose every call ends within the deadline."""
    return socket.create_connection(address, DEADLINE)


def read_all(connection: socket.socket) -> bytes:
    """All that comes up to the end of the stream."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def exchange(address: tuple[str, int], data: bytes) -> bytes:
    """Send it, end our direction, and read all that comes back, at the same time."""
    with connect(address) as connection:

        def send() -> None:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            return read_all(connection)
        finally:
            sender.join(DEADLINE)


@contextmanager
def listener() -> Iterator[socket.socket]:
    """A socket that listens on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(DEADLINE)
        yield listening


def forward_to(listening: socket.socket) -> tuple[str, str]:
    """The option that leads there."""
    return "--forward", "{}:{}".format(*listening.getsockname())


class ForwardTests(TestCase):
    """``be --forward`` and ``fe --listen`` expose a real service."""

    @live()
    def test_web_server(self, gateway: Gateway) -> None:
        """python's own, fetched by several at once."""
        folder = Path(self.mktemp())
        folder.mkdir()
        data = random.Random(1).randbytes(5 * MIB)
        (folder / "file").write_bytes(data)
        serve = functools.partial(QuietFiles, directory=str(folder))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                with tunnel(gateway, *forward_to(server.socket)) as (be, address):
                    url = "http://{}:{}/file".format(*address)
                    fetches = [gateway.background(fetch, url) for _ in range(4)]
                    self.assertEqual(
                        [done.result(DEADLINE) == data for done in fetches], [True] * 4
                    )
                    be.line("ended; ")
                    self.assertEqual(be.interrupted(), 0)
            finally:
                server.shutdown()
                thread.join(DEADLINE)
        begun = [line for line in be.stderr.splitlines() if " begins: " in line]
        self.assertEqual(len(begun), 4)
        self.assertRegex(be.stderr, r"ended; \d+ bytes in, 524\d+ bytes out, \d+\.\d{3} s")

    @live()
    def test_ends(self, gateway: Gateway) -> None:
        """Each direction ends by itself, whichever ends first; a reset comes out as a reset."""
        with listener() as target, tunnel(gateway, *forward_to(target)) as (be, address):
            for client_first in (True, False):
                with connect(address) as client, target.accept()[0] as service:
                    service.settimeout(DEADLINE)
                    first, second = (client, service) if client_first else (service, client)
                    first.sendall(b"first")
                    first.shutdown(socket.SHUT_WR)
                    self.assertEqual(read_all(second), b"first")
                    second.sendall(b"second")
                    second.shutdown(socket.SHUT_WR)
                    self.assertEqual(read_all(first), b"second")
            for client_resets in (True, False):
                with connect(address) as client, target.accept()[0] as service:
                    service.settimeout(DEADLINE)
                    client.sendall(b"x")
                    service.recv(1)
                    one, other = (client, service) if client_resets else (service, client)
                    reset(one)
                    self.assertRaises(ConnectionResetError, other.recv, 1)
            be.line("broke: ")

    @live()
    def test_target_refuses(self, gateway: Gateway) -> None:
        """That session alone is reset, and the next one is served."""
        with listener() as target:
            name = "{}:{}".format(*target.getsockname())
        with relayx("be", "--forward", name, gateway=gateway.host) as be:
            self.assertRaises(WasResetError, session(gateway).receive, 1)
            be.line(f"reset: {name} cannot be reached: connection refused")
            with socket.create_server(target_address(name)) as again:
                fe = session(gateway)
                with again.accept()[0] as service:
                    service.sendall(b"here")
                    self.assertEqual(fe.receive(4), b"here")


class EchoTests(TestCase):
    """``be --echo``."""

    @live(zmq=2, srt=2)
    def test_echo(self, gateway: Gateway) -> None:
        """Nothing, a byte, and more than any buffer holds."""
        with tunnel(gateway, "--echo", "--zmq", "1", "--srt", "1") as (be, address):
            for size in (0, 1, 8 * MIB):
                data = random.Random(size).randbytes(size)
                self.assertEqual(exchange(address, data) == data, True)
            be.line(f"{8 * MIB} bytes in, {8 * MIB} bytes out")
            be.signal(signal.SIGTERM)
            self.assertEqual(be.ended(), 0)

    @live()
    def test_protocol(self, gateway: Gateway) -> None:
        """``--protocol srt`` goes to the srt port, where zmq ports are ready too."""
        web = {"service": "web"}
        client = gateway.be11()
        for port in gateway.zmq:
            gateway.waiting(port, **web)
        with tunnel(gateway, "--echo", "--zmq", "0", "--srt", "1") as (be, _):
            with front_end(gateway, "--protocol", "srt") as (_, address):
                client.state(lambda state: state["services"]["web"]["srt_ready"] == 1)
                self.assertEqual(exchange(address, b"by srt"), b"by srt")
            be.line("6 bytes in, 6 bytes out")

    @live()
    def test_trace_id(self, gateway: Gateway) -> None:
        """The lines of a session carry that of the request for its lease, where there was one."""
        client = gateway.fe("phone")
        with relayx("be", "--echo", "--zmq", "1", gateway=gateway.host) as be:
            client.state(lambda state: bool(state["zmq_ready_ports"]))
            client.say("port_acquire", {"need_zmq": True, "request_id": "r"}, trace_id="trace-7")
            grant = client.expect("port_grant", request_id="r")
            fe = gateway.entering(grant["zmq_port"], session_id=grant["session_id"])
            fe.expect("RLX1PAIRED")
            fe.shutdown()
            self.assertEqual(fe.rest(), (b"", "end"))
            for part in (" begins: ", " ended; "):
                self.assertTrue(be.line(part).endswith(" trace_id=trace-7"), be.stderr)
            client.say("port_release", {"session_id": grant["session_id"]})
            session(gateway).shutdown()
            be.wait_for(lambda: be.stderr.count(" ended; ") == 2)
            self.assertEqual(be.stderr.count("trace_id="), 2)
            self.assertEqual(be.interrupted(), 0)

    @live()
    def test_grace(self, gateway: Gateway) -> None:
        """After Ctrl-C a session may go on to its end; one that does not is reset."""
        for grace, ends in (("30s", True), ("50ms", False)):
            with (
                relayx("be", "--echo", "--grace", grace, gateway=gateway.host) as be,
            ):
                fe = session(gateway)
                be.line(" begins: ")
                be.signal(signal.SIGINT)
                be.line("stopping, 1 sessions run")
                if ends:
                    fe.send(b"late")
                    fe.shutdown()
                    self.assertEqual(fe.rest(), (b"late", "end"))
                else:
                    self.assertRaises(WasResetError, fe.receive, 1)
                self.assertEqual(be.ended(), 0)


class ExecTests(TestCase):
    """``be --exec``."""

    @live()
    def test_streams(self, gateway: Gateway) -> None:
        """Its standard input and output are the session, whichever ends first."""
        result = Path(self.mktemp()).absolute()
        with relayx("be", "--exec", 'read -r line; eval "$line"', gateway=gateway.host) as be:

            def run(command: str, data: bytes, *, output_first: bool = False) -> bytes:
                fe = session(gateway)
                fe.send(command.encode() + b"\n")
                output = fe.rest()[0] if output_first else b""
                sending = gateway.background(lambda: (fe.send(data), fe.shutdown()))
                output += fe.rest()[0]
                sending.result(DEADLINE)
                return output

            self.assertEqual(
                run("tr a-z A-Z; echo end; exit 3", b"ab " * 999), b"AB " * 999 + b"end\n"
            )
            be.line("ended, the command's exit status was 3; ")
            self.assertEqual(run("head -c 3 >&1; echo oops >&2", b"abcdef" * MIB), b"abc")
            be.line("oops")
            self.assertEqual(
                run(f"exec >&-; cat > {result}", b"still taken", output_first=True), b""
            )
            be.line(" bytes in, 0 bytes out")
        self.assertEqual(result.read_bytes(), b"still taken")

    @live()
    def test_environment(self, gateway: Gateway) -> None:
        """It knows whose session it is, and not the secret."""
        with relayx("be", "--exec", "env", gateway=gateway.host):
            fe = session(gateway, "curious")
            text = fe.rest()[0].decode()
        found = dict(line.split("=", 1) for line in text.splitlines() if line.startswith("RELAYX"))
        self.assertNotIn("RELAYX_SECRET", found)
        self.assertTrue(found["RELAYX_PAIRING_ID"].startswith("pair_"))
        self.assertEqual(found["RELAYX_CLIENT_ID"], "curious")
        self.assertEqual(found["RELAYX_ADDRESS"], "127.0.0.1")
        self.assertIn("RELAYX_SESSION_ID", found)
        self.assertIn("RELAYX_TRACE_ID", found)

    @live()
    def test_killed_on_reset(self, gateway: Gateway) -> None:
        """All that it has started, also where it reads nothing, and nothing is read for it."""
        with relayx("be", "--exec", "sleep 60 & echo $!; wait", gateway=gateway.host) as be:
            for flood in (0, 460 * 1024):
                fe = session(gateway)
                sleeper = os.pidfd_open(int(fe.receive_line()))
                try:
                    fe.send(bytes(flood))
                    fe.wait_until_acknowledged()
                    fe.reset()
                    ended, _, _ = select.select([sleeper], [], [], DEADLINE)
                    self.assertEqual(ended, [sleeper])
                finally:
                    os.close(sleeper)
            self.assertEqual(be.interrupted(), 0)

    @live()
    def test_killed_at_the_end(self, gateway: Gateway) -> None:
        """None outlives ``be``."""
        with relayx(
            "be", "--grace", "0s", "--exec", "echo $$; sleep 60", gateway=gateway.host
        ) as be:
            fe = session(gateway)
            command = os.pidfd_open(int(fe.receive_line()))
            try:
                self.assertEqual(be.interrupted(), 0)
                self.assertEqual(select.select([command], [], [], DEADLINE)[0], [command])
            finally:
                os.close(command)


class FrontEndTests(TestCase):
    """``fe --listen``."""

    @live()
    def test_no_session(self, gateway: Gateway) -> None:
        """The connection is reset, one line says why, and Ctrl-C ends with status 0."""
        with front_end(gateway, "--wait", "0s") as (fe, address):
            with connect(address) as client:
                self.assertRaises(ConnectionResetError, client.recv, 1)
            line = fe.line("is reset, no session for it: PORT_EXHAUSTED")
            self.assertIn("connection from 127.0.0.1:", line)
            self.assertEqual(fe.interrupted(), 0)

    @live()
    def test_unread_until_paired(self, gateway: Gateway) -> None:
        """Before there is a back end nothing is read; then all of it arrives."""
        gateway.be11()
        with front_end(gateway, "--wait", "1m") as (_, address), socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            client.settimeout(DEADLINE)
            client.connect(address)
            client.setblocking(False)
            sent = 0
            while select.select([], [client], [], 0.3)[1]:
                sent += client.send(bytes(65536))
            self.assertLess(sent, 16 * MIB)
            be = gateway.waiting(gateway.zmq[0], service="web")
            be.paired()
            client.setblocking(True)
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(len(be.rest()[0]), sent)

    @live()
    def test_port_taken(self, gateway: Gateway) -> None:
        """One line that names it, status 1."""
        with listener() as taken:
            name = "{}:{}".format(*taken.getsockname())
            done = run_relayx("fe", "--listen", name, gateway=gateway.host)
        self.assertEqual(done.ended(), 1)
        self.assertIn(f"Error: cannot listen on {name}: Address already in use", done.stderr)

    @live()
    def test_connections_are_reset_at_the_end(self, gateway: Gateway) -> None:
        """Those that do not end within the grace."""
        with relayx("be", "--service", "web", "--echo", gateway=gateway.host) as be:
            be.line("registered")
            with front_end(gateway, "--grace", "50ms") as (fe, address), connect(address) as client:
                client.sendall(b"x")
                self.assertEqual(client.recv(1), b"x")
                self.assertEqual(fe.interrupted(), 0)
                self.assertRaises(ConnectionResetError, client.recv, 1)
            self.assertIn("stopping, 1 connections are open", fe.stderr)
            self.assertNotIn("critical", fe.stderr)


class BackPressureTests(SynchronousTestCase):
    """A command and its session slow each other (contract section 7)."""

    def setUp(self) -> None:
        self.stream = Stream()
        self.network = StringTransport()
        self.network.loseWriteConnection = lambda: None  # type: ignore[attr-defined]
        self.stream.makeConnection(self.network)
        self.command = Command(SimpleNamespace(stream=self.stream))  # type: ignore[arg-type]
        self.pipes = Pipes()
        self.command.makeConnection(self.pipes)
        self.result: list[Any] = []
        Deferred.fromCoroutine(self.command.run()).addBoth(self.result.append)

    def test_session_is_slow(self) -> None:
        """The command's output is not read until there is room."""
        self.command.outReceived(b"1")
        self.assertEqual(self.pipes.calls, [])
        self.stream.pauseProducing()
        self.command.outReceived(b"2")
        self.assertEqual(self.pipes.calls, ["pause"])
        self.stream.resumeProducing()
        self.assertEqual(self.pipes.calls, ["pause", "resume"])
        self.assertEqual(self.network.value(), b"12")

    def test_command_is_slow(self) -> None:
        """The session is not read until the command has taken what there is."""
        self.command.pauseProducing()
        self.stream.dataReceived(b"1")
        self.stream.dataReceived(b"2" * MIB)
        self.assertEqual(self.pipes.written, b"1")
        self.assertEqual(self.network.producerState, "paused")
        self.command.resumeProducing()
        self.assertEqual(self.network.producerState, "producing")
        self.assertEqual(len(self.pipes.written), 1 + MIB)

    def test_status(self) -> None:
        """Told when both the output and the command have ended, in whichever order."""
        self.command.processExited(Failure(ProcessTerminated(signal=9)))
        self.assertEqual(self.result, [])
        self.command.outConnectionLost()
        self.assertEqual(self.result, ["the command was killed by signal 9"])

    def test_good_status(self) -> None:
        """Is not worth a word."""
        self.command.outConnectionLost()
        self.assertEqual(self.result, [])
        self.command.processExited(Failure(ProcessDone(0)))
        self.assertEqual(self.result, [""])


class WatchTests(SynchronousTestCase):
    """What the gateway tells of a session that is not being read."""

    def test_session_end(self) -> None:
        """A broken session is reset here too; one that ended in order goes on to its own end."""
        events = Events()
        streams = {cause: Recorder() for cause in Cause}
        sessions = {str(cause): SimpleNamespace(stream=it) for cause, it in streams.items()}
        backend: Any = SimpleNamespace(sessions=sessions, control=SimpleNamespace(events=events))
        Commands(None, "true").watch(backend)
        for cause in (*Cause, "of a session that is not here"):
            events.emit(
                SessionEnd(
                    pairing_id=str(cause), session_id="", protocol="zmq", port=1, cause=str(cause),
                    error="", fe_to_be_bytes=0, be_to_fe_bytes=0, seconds=0.0,
                )
            )  # fmt: skip
        kept = {cause for cause, stream in streams.items() if not stream.aborted}
        self.assertEqual(kept, {Cause.FE_CLOSED, Cause.BE_CLOSED})


class Recorder:
    """A stream that knows whether it was aborted."""

    aborted = False

    def abort(self) -> None:
        """So it was."""
        self.aborted = True


class Pipes:
    """The pipes of a command that is not there."""

    pid = None

    def __init__(self) -> None:
        self.written = b""
        self.calls: list[str] = []

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Never full by itself."""

    def write(self, data: bytes) -> None:
        """To its standard input."""
        self.written += data

    def closeStdin(self) -> None:
        """Its end."""
        self.calls.append("close")

    def pauseProducing(self) -> None:
        """Do not read its output."""
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        """Read it again."""
        self.calls.append("resume")


class QuietFiles(http.server.SimpleHTTPRequestHandler):
    """A web server's handler that logs nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def fetch(url: str) -> bytes:
    """What is there."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        url, None, DEADLINE
    ) as it:
        return bytes(it.read())


def reset(connection: socket.socket) -> None:
    """Close it by a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def session(gateway: Gateway, client_id: str = "") -> Data11:
    """An FE's connection that is paired with the ``be`` of the test."""
    fe = gateway.fe11(client_id)
    port = fe.state(lambda state: bool(state["zmq_ready_ports"]))["zmq_ready_ports"][0]
    link = gateway.entering(port, client_id)
    link.expect("RLX1PAIRED")
    return link


def target_address(name: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``."""
    host, _, port = name.rpartition(":")
    return host, int(port)
