"""Faults of the byte path that a review proved, so that they stay away (sections 1 and 5 to 7)."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet import reactor, tcp, threads
from twisted.trial.unittest import TestCase

from relayx.core.messages import Role
from relayx.data.connection import DataConnection
from relayx.data.plane import DataPlane
from relayx.data.transport import DataTransport
from relayx.net.tcp import Failure, unread
from relayx.planeevents import PlaneEvents
from tests.guide_peer import DEADLINE, Data, hello_line, message
from tests.live import Gateway, live
from tests.test_loopback_data_close import too_slow_after, unless_too_slow
from tests.test_loopback_data_corners import gateway_held
from tests.test_loopback_data_without_pipes import NoPipes

T = TypeVar("T")
OPEN = {"admission": "open"}


def ask(call: Callable[[], T]) -> T:
    """What a call returns in the gateway's own thread."""
    found: T = threads.blockingCallFromThread(reactor, call)
    return found


def until(true: Callable[[], object]) -> None:
    """Wait until something is so in the gateway's thread, which has its turn between the looks."""
    deadline = time.monotonic() + DEADLINE
    while not ask(true):
        if time.monotonic() > deadline:
            raise TimeoutError("it never came to be so")


class Inside(TestCase):
    """Scenarios that look at the gateway's own end of a connection."""

    def setUp(self) -> None:
        self.built: list[DataConnection] = []
        build = DataPlane.build

        def remember(plane: DataPlane, number: int, host: str) -> DataConnection:
            self.built.append(build(plane, number, host))
            return self.built[-1]

        self.patch(DataPlane, "build", remember)

    def end_of(self, role: Role) -> DataTransport:
        """The gateway's transport of the only connection of a role."""
        (found,) = [one for one in self.built if one.hello is not None and one.hello.role is role]
        return found.transport

    def narrow(self, transport: Any) -> None:
        """Give the gateway's end of a connection hardly any room for what it sends."""
        handle = transport.getHandle()
        ask(lambda: handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096))

    def narrow_pair(self, gateway: Gateway) -> tuple[Data, Data]:
        """A session whose BE takes little before it reads."""
        be = gateway.dial11(gateway.zmq[0], receive_buffer=4096)
        be.hello("BE")
        be.expect("RLX1OK")
        self.narrow(self.end_of(Role.BE))
        fe = gateway.entering(gateway.zmq[0])
        fe.expect("RLX1PAIRED")
        be.expect("RLX1PAIRED")
        return fe, be

    def stuck(self, fe: Data) -> int:
        """Have an FE's bytes stuck here, by a BE that does not read; how many were sent."""
        source, taker = self.end_of(Role.FE), self.end_of(Role.BE)
        before, sent = source.received, 0
        while not ask(lambda: taker.unsent):
            fe.send(b"z" * 20000)
            sent += 20000
            until(lambda sent=sent: taker.unsent or source.received == before + sent)
        return sent


class LongSessions(TestCase):
    """A session that is older than half_close_timeout (section 7)."""

    def talk(self, fe: Data, be: Data) -> None:
        """Exchange bytes for longer than half_close_timeout."""
        deadline = time.monotonic() + 1.6
        while time.monotonic() < deadline:
            fe.send(b"ping")
            self.assertEqual(be.receive(4), b"ping")
            be.send(b"pong")
            self.assertEqual(fe.receive(4), b"pong")
            self.assertRaises(TimeoutError, fe.fill, 0.05)

    @live(zmq=1, srt=0, data={**OPEN, "half_close_timeout": 1.5})
    def test_an_end_is_not_a_stall(self, gateway: Gateway) -> None:
        """Section 7, close: the other direction goes on after the first end."""
        unless_too_slow(lambda: self.end_late(gateway))

    def end_late(self, gateway: Gateway) -> None:
        fe, be = gateway.pair(gateway.zmq[0])
        self.talk(fe, be)
        with too_slow_after(1.5, time.monotonic()):
            fe.send(b"last")
            fe.shutdown()
            self.assertEqual(be.rest(), (b"last", "end"))
            be.send(b"answer")
            be.close()
            self.assertEqual(fe.rest(), (b"answer", "end"))

    @live(zmq=1, srt=0, data={**OPEN, "half_close_timeout": 1.5})
    def test_a_kept_be_outlives_it(self, gateway: Gateway) -> None:
        """Section 7, keep: an FE's plain close does not reset the BE."""
        client = gateway.fe()
        gateway.be()
        be = gateway.kept(gateway.zmq[0], client)
        for _ in range(2):
            fe = gateway.entering(gateway.zmq[0])
            fe.expect("RLX1PAIRED")
            self.talk(fe, be)
            fe.close()
            client.state(lambda state: gateway.zmq[0] in state["zmq_ready_ports"])


class Pairing(Inside):
    """Who is there when an FE comes (sections 5 and 6)."""

    @live(zmq=1, srt=0, data=OPEN)
    def test_a_be_that_ends_in_the_same_batch(self, gateway: Gateway) -> None:
        """Section 6: a BE whose end has been read is not paired; the next one is."""
        be = gateway.waiting(gateway.zmq[0])
        fe = gateway.dial11(gateway.zmq[0])
        until(lambda: len(self.built) == 2)
        with gateway_held():
            be.close()
            fe.hello("FE", first=b"data")
        word, _ = fe.answer()
        self.assertEqual(word, "RLX1ERR")

    @live(zmq=1, srt=0, data=OPEN)
    def test_an_exception_does_not_close_the_port(self, gateway: Gateway) -> None:
        """Section 1: a data port stays open whatever one connection does."""
        said_hello = DataPlane.said_hello
        failing = [RuntimeError("a fault of the rules")]

        def fails_once(plane: DataPlane, *what: Any) -> None:
            if failing:
                raise failing.pop()
            said_hello(plane, *what)

        self.patch(DataPlane, "said_hello", fails_once)
        with gateway_held():
            unlucky = gateway.dial(gateway.zmq[0])
            unlucky.hello("BE")
        self.assertEqual(unlucky.rest(), (b"", "reset"))
        fe, be = gateway.pair(gateway.zmq[0])
        fe.send(b"hello")
        self.assertEqual(be.receive(5), b"hello")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class DeadPeers(Inside):
    """A peer that the sweep finds dead (section 7): its bytes go first, its reset soon after."""

    @live(zmq=1, srt=0, data=OPEN)
    def test_bytes_on_their_way(self, gateway: Gateway) -> None:
        """All that the dead FE had sent is on its way to a BE that stands still."""
        fe, be = self.narrow_pair(gateway)
        source = self.end_of(Role.FE)
        sent = self.stuck(fe)
        ask(lambda: source.fail(Failure.DEAD))
        self.assertEqual(be.rest(), (b"z" * sent, "reset"))

    @live(zmq=1, srt=0, data=OPEN)
    def test_unread_bytes(self, gateway: Gateway) -> None:
        """A BE that stands still pushes back on the FE, which is found dead then."""
        fe, be = self.narrow_pair(gateway)
        source, taker = self.end_of(Role.FE), self.end_of(Role.BE)
        before = source.received
        fe.socket.setblocking(False)
        deadline = time.monotonic() + DEADLINE
        while not ask(lambda: taker.unsent and source.has_unread()):
            self.assertTrue(time.monotonic() < deadline, "nothing holds the FE back")
            try:
                fe.socket.send(b"z" * 100000)
            except BlockingIOError:
                continue

        def fail() -> int:
            came = source.received + unread(source.getHandle())
            source.fail(Failure.DEAD)
            return came

        came = ask(fail)
        got, how = be.rest()
        self.assertEqual((len(got), how), (source.received - before, "reset"))
        self.assertGreaterEqual(source.received, came)
        self.assertEqual(got.count(b"z"), len(got))

    @live(zmq=1, srt=0, data=OPEN)
    def test_nothing_left(self, gateway: Gateway) -> None:
        fe, be = gateway.pair(gateway.zmq[0])
        fe.send(b"all")
        self.assertEqual(be.receive(3), b"all")
        ask(lambda: self.end_of(Role.FE).fail(Failure.DEAD))
        self.assertEqual(be.rest(), (b"", "reset"))


class DeadPeersWithoutPipes(DeadPeers):
    """The same on the buffered path."""

    def setUp(self) -> None:
        super().setUp()
        NoPipes.setUp(self)

    @live(zmq=1, srt=0, data=OPEN)
    def test_an_end_behind_held_bytes(self, gateway: Gateway) -> None:
        """Section 7: the end of a living FE's stream waits for its bytes."""
        fe, be = self.narrow_pair(gateway)
        sent = self.stuck(fe)
        fe.shutdown()
        be.shutdown()
        self.assertEqual(be.rest(), (b"z" * sent, "end"))
        self.assertEqual(fe.rest(), (b"", "end"))

    @live(zmq=1, srt=0, data=OPEN)
    def test_a_taker_that_is_not_read_resets(self, gateway: Gateway) -> None:
        """Section 7: neither side reads; what the BE had sent comes before its reset."""
        fe, be = self.narrow_pair(gateway)
        self.stuck(fe)
        taker = self.end_of(Role.BE)
        be.socket.setblocking(False)
        deadline = time.monotonic() + DEADLINE
        while not ask(lambda: taker.paused):
            self.assertTrue(time.monotonic() < deadline, "nothing holds the BE back")
            try:
                be.socket.send(b"y" * 100_000)
            except BlockingIOError:
                continue
        be.reset()
        got, how = fe.rest()
        self.assertEqual((got.count(b"y"), how), (len(got), "reset"))
        self.assertGreater(len(got), 0)


class StandingStill(Inside):
    """A reader that stands still is not dead (section 7)."""

    @live(zmq=1, srt=0, data={**OPEN, "keepalive": 0.5})
    def test_the_sweep_spares_it(self, gateway: Gateway) -> None:
        fe, be = self.narrow_pair(gateway)
        looked: list[bool] = []
        is_dead = DataTransport.is_dead

        def look(transport: DataTransport, seconds: float) -> bool:
            looked.append(is_dead(transport, seconds))
            return looked[-1]

        self.patch(DataTransport, "is_dead", look)
        sent = self.stuck(fe)
        looked.clear()
        until(lambda: len(looked) >= 4)
        self.assertNotIn(True, looked)
        fe.shutdown()
        self.assertEqual(be.rest(), (b"z" * sent, "end"))
        ends = [self.end_of(role) for role in Role if role in (Role.FE, Role.BE)]
        be.close()
        until(lambda: not any(end.connected for end in ends))
        self.assertEqual(ask(lambda: [end.is_dead(0.0) for end in ends]), [False, False])


class Broken(Inside):
    """Connections that are broken before they are anybody's (section 6)."""

    @live(zmq=1, srt=0, data=OPEN)
    def test_as_they_come(self, gateway: Gateway) -> None:
        """The end, or a reset, is there already when the connection is accepted."""
        with gateway_held():
            gateway.dial(gateway.zmq[0]).close()
            gateway.dial(gateway.zmq[0]).reset()
            said = gateway.dial(gateway.zmq[0])
            said.hello("BE", first=b"early")
            said.reset()
        until(lambda: len(self.built) == 3 and not gateway.service.data.open_connections())
        self.assertEqual(gateway.entering(gateway.zmq[0]).refusal(), "PORT_EMPTY")

    @live(zmq=1, srt=0, data=OPEN)
    def test_a_be_that_is_not_read_any_more(self, gateway: Gateway) -> None:
        """Past 64 KiB of early bytes its reset is seen all the same."""
        be = gateway.waiting(gateway.zmq[0])
        be.send(b"x" * 100_000)
        until(lambda: self.end_of(Role.BE).paused)
        be.reset()
        until(lambda: not gateway.service.data.open_connections())
        self.assertEqual(gateway.entering(gateway.zmq[0]).refusal(), "PORT_EMPTY")

    @live(zmq=1, srt=0, data=OPEN)
    def test_a_waiting_be_that_is_dead(self, gateway: Gateway) -> None:
        """Section 7: the sweep's finding ends the waiting."""
        gateway.waiting(gateway.zmq[0])
        ask(lambda: self.end_of(Role.BE).fail(Failure.DEAD))
        until(lambda: not gateway.service.data.open_connections())
        self.assertEqual(gateway.entering(gateway.zmq[0]).refusal(), "PORT_EMPTY")

    @live(zmq=1, srt=0, data=OPEN)
    def test_a_kept_be_that_talks_between_sessions(self, gateway: Gateway) -> None:
        """Section 7, keep: what comes with the next FE's HELLO is thrown away, not more."""
        client = gateway.fe()
        gateway.be()
        be = gateway.kept(gateway.zmq[0], client)
        for ending in (Data.close, Data.reset):
            fe = gateway.entering(gateway.zmq[0])
            fe.expect("RLX1PAIRED")
            ending(fe)
            client.state(lambda state: gateway.zmq[0] in state["zmq_ready_ports"])
            fe = gateway.dial11(gateway.zmq[0])
            with gateway_held():
                fe.hello("FE")
                be.send(b"late" * 100)
                be.wait_until_acknowledged()
            fe.expect("RLX1PAIRED")
            be.send(b"fresh")
            self.assertEqual(fe.receive(5), b"fresh")
            fe.close()
            client.state(lambda state: gateway.zmq[0] in state["zmq_ready_ports"])


class EarlyBytes(Inside):
    """What came before the session goes first (section 6)."""

    @live(zmq=1, srt=0, data=OPEN)
    def test_they_are_not_overtaken(self, gateway: Gateway) -> None:
        """More than the BE takes at once, and a source that resets meanwhile."""
        words = b"".join(struct.pack("!I", word) for word in range(25000))
        be = gateway.dial11(gateway.zmq[0], receive_buffer=4096)
        be.hello("BE")
        be.expect("RLX1OK")
        self.narrow(self.end_of(Role.BE))
        fe = gateway.dial(gateway.zmq[0])
        with gateway_held():
            fe.hello("FE", first=words[:50000])
        until(lambda: self.end_of(Role.BE).unsent)
        fe.send(words[50000:])
        fe.wait_until_acknowledged()
        fe.reset()
        be.send(b"x")
        until(lambda: self.end_of(Role.FE).failure is not None)
        be.expect("RLX1PAIRED")
        got, how = be.rest()
        self.assertEqual(how, "reset")
        self.assertEqual(len(got), len(words))
        self.assertTrue(got == words)


class TurnedAway(Inside):
    """Connections that are refused are bounded, in number and in time (sections 1, 2 and 6)."""

    @live(zmq=1, srt=0, data={"max_waiting_hello": 4}, control={"max_unregistered": 4})
    def test_their_number(self, gateway: Gateway) -> None:
        for port, plane in (
            (gateway.zmq[0], gateway.service.data),
            (gateway.control_port, gateway.service.control),
        ):
            peers = [gateway.dial(port) for _ in range(20)]
            for peer in peers:
                peer.send(b"GET / HTTP/1.0\r\n\r\n")
            until(lambda plane=plane: plane.open_connections() <= 4)

    @live(zmq=1, srt=0)
    def test_their_time(self, gateway: Gateway) -> None:
        """One that never closes its own end is closed."""
        peer = gateway.dial(gateway.zmq[0])
        peer.send(hello_line("XX", ack=True))
        self.assertTrue(peer.receive_line().startswith(b"RLX1ERR"))
        until(lambda: not gateway.service.data.open_connections())

    @live(zmq=1, srt=0)
    def test_a_client_that_does_not_read(self, gateway: Gateway) -> None:
        """Section 2: what it was told last cannot be delivered, and it is closed all the same."""
        client = gateway.be(receive_buffer=4096)
        (end,) = ask(
            lambda: [
                one
                for one in reactor.getReaders()  # type: ignore[attr-defined]
                if isinstance(one, tcp.Server) and one.getHost().host == gateway.host
            ]
        )
        self.narrow(end)
        pings = b"".join(message("ping", {"c_send": beat}) for beat in range(2000))
        client.send(pings + b"nonsense")
        until(lambda: not gateway.service.control.open_connections())


class Stopping(TestCase):
    """A stop ends (section 1)."""

    @live(zmq=1, srt=0, data={**OPEN, "drain_timeout": 0.2})
    def test_though_a_session_was_never_told_over(self, gateway: Gateway) -> None:
        _, be = gateway.pair(gateway.zmq[0])
        told: list[bool] = []
        session_over = PlaneEvents.session_over

        def fails_once(happens: PlaneEvents, *what: Any) -> None:
            told.append(True)
            if len(told) == 1:
                raise RuntimeError("a fault of the rules")
            session_over(happens, *what)

        self.patch(PlaneEvents, "session_over", fails_once)
        be.reset()
        until(lambda: told)
        gateway.stop().result(DEADLINE)
        self.flushLoggedErrors(RuntimeError)
