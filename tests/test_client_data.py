"""relayx.client.data: HELLO, the gateway's answers in any pieces, and what follows them."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionRefusedError
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from relayx.client import DataConnection, DataLost, Refused, Stream, StreamReset, open_data
from relayx.client.gateway import tcp_endpoints
from relayx.core import hello as wire
from relayx.core.hello import Hello, Waiting, encode_answer
from relayx.core.messages import Role
from tests.test_client_fakes import PAIRED, DataPeer, done, refuse_dial, reset

HELLO = Hello(role=Role.BE, client_id="b", ack=True, on_fe_close="close")


class DataCase(SynchronousTestCase):
    """One data connection on a memory reactor."""

    def open(self, build: Any = None) -> tuple[DataConnection, DataPeer]:
        """It and the gateway's end of it."""
        self.reactor = MemoryReactorClock()
        endpoint = tcp_endpoints(self.reactor)("127.0.0.1", 30101)
        opening = open_data(self.reactor, endpoint, HELLO, build=build)
        peer = DataPeer(self.reactor)
        return self.successResultOf(opening), peer


class AnswerTests(DataCase):
    """From HELLO to the pairing."""

    def test_hello(self) -> None:
        """HELLO is said at once; the dial time-out is 3 s."""
        _, peer = self.open()
        self.assertEqual(peer.hello(), HELLO)
        self.assertEqual((peer.port, peer.timeout), (30101, 3.0))

    def test_split_at_each_byte(self) -> None:
        """Answers and the bytes behind them mean the same however they are cut."""
        sent = encode_answer(Waiting()) + encode_answer(PAIRED) + b"session\nbytes"
        for cut in range(1, len(sent)):
            connection, peer = self.open()
            waiting, paired = connection.when_waiting(), connection.when_paired()
            peer.receive(sent[:cut])
            peer.receive(sent[cut:])
            self.successResultOf(waiting)
            stream = self.successResultOf(paired)
            self.assertEqual(stream.paired, PAIRED)
            got = b""
            while len(got) < 13:
                got += self.successResultOf(stream.read())
            self.assertEqual(got, b"session\nbytes")
        connection, peer = self.open()
        for at in range(len(sent)):
            peer.receive(sent[at : at + 1])
        self.assertEqual(connection.paired, PAIRED)
        self.assertIsInstance(connection.receiver, Stream)

    def test_paired_without_waiting(self) -> None:
        """An FE is paired without RLX1OK; both Deferreds fire."""
        connection, peer = self.open()
        peer.pair()
        self.successResultOf(connection.when_waiting())
        self.successResultOf(connection.when_paired())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_refused(self) -> None:
        """RLX1ERR fails with its code, and closes."""
        connection, peer = self.open()
        peer.answer(wire.Refused("PORT_BUSY", "taken"))
        for failed in (connection.when_waiting(), connection.when_paired()):
            error = self.failureResultOf(failed, Refused).value
            self.assertEqual((error.code, error.text), ("PORT_BUSY", "taken"))
        self.assertTrue(peer.transport.disconnecting)
        closed = connection.when_closed()
        peer.lose(done())
        self.successResultOf(closed)

    def test_refused_while_it_waits(self) -> None:
        """A waiting connection may be refused later."""
        connection, peer = self.open()
        peer.wait()
        peer.answer(wire.Refused("DRAINING", "stopping"))
        self.successResultOf(connection.when_waiting())
        self.failureResultOf(connection.when_paired(), Refused)

    def test_closed_or_reset_before_the_pairing(self) -> None:
        """The end of a connection that was not paired is a loss."""
        for lose in (lambda peer: peer.protocol.readConnectionLost(), lambda peer: peer.lose()):
            connection, peer = self.open()
            peer.wait()
            lose(peer)
            self.failureResultOf(connection.when_paired(), DataLost)

    def test_no_answer(self) -> None:
        """Ten seconds without an answer are enough; one that waits may wait for ever."""
        connection, peer = self.open()
        self.reactor.advance(10.1)
        error = self.failureResultOf(connection.when_paired(), DataLost).value
        self.assertIn("10 s", str(error))
        self.assertTrue(peer.transport.disconnecting)
        connection, peer = self.open()
        peer.wait()
        self.reactor.advance(1000)
        self.assertNoResult(connection.when_paired())

    def test_not_a_gateway(self) -> None:
        """Anything else than an answer, or one without end, is a loss."""
        for junk in (b"SSH-2.0-x\r\n", b"RLX1PAIRED {}\n", b"x" * 20_000):
            connection, peer = self.open()
            peer.receive(junk)
            self.failureResultOf(connection.when_paired(), DataLost)
            self.assertTrue(peer.transport.disconnecting)

    def test_dial_fails(self) -> None:
        """Where nobody listens, the dial's error says so."""
        reactor = MemoryReactorClock()
        opening = open_data(reactor, tcp_endpoints(reactor)("::1", 1), HELLO)
        refuse_dial(reactor)
        self.failureResultOf(opening, ConnectionRefusedError)

    def test_ack_is_needed(self) -> None:
        """A HELLO that asks for no answers is a mistake."""
        reactor = MemoryReactorClock()
        endpoint = tcp_endpoints(reactor)("127.0.0.1", 1)
        self.assertRaises(ValueError, open_data, reactor, endpoint, Hello(role=Role.FE))


class SessionTests(DataCase):
    """After the pairing."""

    def test_ends_and_resets_are_passed_on(self) -> None:
        """The stream sees a half-close as an end, and a reset as a reset."""
        connection, peer = self.open()
        peer.pair()
        stream = connection.receiver
        assert isinstance(stream, Stream)
        reading = stream.read()
        peer.protocol.readConnectionLost()
        self.assertEqual(self.successResultOf(reading), b"")
        stream.end()
        peer.protocol.writeConnectionLost()
        self.assertTrue(peer.transport.disconnecting)
        connection, peer = self.open()
        peer.pair()
        stream = connection.receiver
        assert isinstance(stream, Stream)
        reading = stream.read()
        peer.lose(reset())
        self.failureResultOf(reading, StreamReset)
        self.successResultOf(connection.when_closed())

    def test_own_protocol(self) -> None:
        """Another protocol has transport, bytes and end; a half-close closes it."""
        told: list[Any] = []

        class Own(Protocol):
            def connectionMade(self) -> None:
                told.append("made")

            def dataReceived(self, data: bytes) -> None:
                told.append(data)

            def connectionLost(self, reason: Any = None) -> None:
                told.append(reason.type)

        _, peer = self.open(lambda paired: Own())
        peer.receive(encode_answer(PAIRED) + b"a")
        peer.receive(b"b")
        peer.protocol.readConnectionLost()
        self.assertTrue(peer.transport.disconnecting)
        peer.lose(done())
        self.assertEqual(told, ["made", b"a", b"b", done().type])

    def test_build_fails(self) -> None:
        """An exception of the caller's factory resets the connection and is told."""
        connection, peer = self.open(lambda paired: 1 / 0)
        peer.pair()
        self.failureResultOf(connection.when_paired(), ZeroDivisionError)
        self.assertTrue(peer.transport.aborted)

    def test_abort(self) -> None:
        """`abort` resets, once."""
        connection, peer = self.open()
        connection.abort()
        self.assertTrue(peer.transport.aborted)
        peer.lose()
        peer.transport.aborted = False
        connection.abort()
        self.assertFalse(peer.transport.aborted)
