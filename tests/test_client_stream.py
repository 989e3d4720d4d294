"""relayx.client.stream: reads, writes, ends and resets."""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet import reactor as real_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relayx.client import (
    Stream,
    StreamEnded,
    StreamFactory,
    StreamReset,
    connect_stream,
    tcp_endpoints,
)
from tests.test_client_fakes import MemoryTransport, done, reset

KIB = 1024
reactor: Any = real_reactor


class StreamCase(SynchronousTestCase):
    """A stream on a memory transport."""

    def setUp(self) -> None:
        """Connect it."""
        self.stream = Stream()
        self.transport = MemoryTransport()
        self.stream.makeConnection(self.transport)


class ReadTests(StreamCase):
    """The peer's direction."""

    def test_read_before_and_after_the_data(self) -> None:
        """A read waits for data, and takes no more than it asked for."""
        waiting = self.stream.read(3)
        self.assertNoResult(waiting)
        self.stream.dataReceived(b"abcdefg")
        self.assertEqual(self.successResultOf(waiting), b"abc")
        self.assertEqual(self.successResultOf(self.stream.read(3)), b"def")
        self.assertEqual(self.successResultOf(self.stream.read()), b"g")
        self.assertEqual(self.stream.received, 7)

    def test_end_of_stream(self) -> None:
        """After the peer's end reads give b"", for as long as they are asked."""
        self.stream.dataReceived(b"x")
        self.stream.readConnectionLost()
        results = [self.successResultOf(self.stream.read()) for _ in range(3)]
        self.assertEqual(results, [b"x", b"", b""])
        self.assertNoResult(self.stream.closed())

    def test_end_while_a_read_waits(self) -> None:
        """A waiting read sees the end."""
        waiting = self.stream.read()
        self.stream.readConnectionLost()
        self.assertEqual(self.successResultOf(waiting), b"")

    def test_reset_is_not_an_end(self) -> None:
        """What came before a reset can be read; then reads and `closed` fail with it."""
        self.stream.dataReceived(b"part")
        self.stream.connectionLost(reset())
        self.assertEqual(self.successResultOf(self.stream.read()), b"part")
        for failed in (self.stream.read(), self.stream.read(), self.stream.closed()):
            self.failureResultOf(failed, StreamReset)

    def test_reset_while_a_read_waits(self) -> None:
        """A waiting read fails with the reset, which tells why."""
        waiting = self.stream.read()
        self.stream.connectionLost(reset())
        error = self.failureResultOf(waiting, StreamReset).value
        self.assertIn("reset before its end: Connection to the other side was lost", str(error))

    def test_reset_after_the_peers_end(self) -> None:
        """The peer's direction was whole; `closed` and writes tell of the reset."""
        self.stream.readConnectionLost()
        self.stream.connectionLost(reset())
        self.assertEqual(self.successResultOf(self.stream.read()), b"")
        self.failureResultOf(self.stream.closed(), StreamReset)
        self.failureResultOf(self.stream.write(b"x"), StreamReset)

    def test_own_abort_is_not_an_end(self) -> None:
        """Nor does our own abort look like an end."""
        waiting = self.stream.read()
        self.stream.abort()
        self.assertTrue(self.transport.aborted)
        self.stream.connectionLost(Failure(ConnectionAborted()))
        self.failureResultOf(waiting, StreamReset)
        self.transport.aborted = False
        self.stream.abort()
        self.assertFalse(self.transport.aborted)

    def test_bounded_buffer(self) -> None:
        """Past 256 KiB the transport is paused, and resumed when half of that is read."""
        for _ in range(4):
            self.stream.dataReceived(bytes(64 * KIB))
        self.assertEqual(self.transport.producerState, "producing")
        self.stream.dataReceived(b"x")
        self.assertEqual(self.transport.producerState, "paused")
        self.successResultOf(self.stream.read())
        self.assertEqual(self.transport.producerState, "paused")
        self.successResultOf(self.stream.read())
        self.successResultOf(self.stream.read())
        self.assertEqual(self.transport.producerState, "producing")

    def test_no_resume_after_the_end(self) -> None:
        """A transport whose end was read is not asked to read on."""
        self.stream.dataReceived(bytes(257 * KIB))
        self.stream.readConnectionLost()
        self.successResultOf(self.stream.read(257 * KIB))
        self.assertEqual(self.transport.producerState, "paused")

    def test_one_read_at_a_time(self) -> None:
        """A second read fails, a cancelled one makes room, and nothing is lost by it."""
        first = self.stream.read()
        self.failureResultOf(self.stream.read(), RuntimeError)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.stream.dataReceived(b"x")
        self.assertEqual(self.successResultOf(self.stream.read()), b"x")
        self.failureResultOf(self.stream.read(0), ValueError)

    def test_discard(self) -> None:
        """Discarding throws away what is there and what comes, and frees the peer."""
        self.stream.dataReceived(bytes(257 * KIB))
        self.stream.discard()
        self.assertEqual(self.transport.producerState, "producing")
        self.stream.dataReceived(bytes(257 * KIB))
        self.assertEqual(self.transport.producerState, "producing")
        waiting = self.stream.read()
        self.stream.readConnectionLost()
        self.assertEqual(self.successResultOf(waiting), b"")


class WriteTests(StreamCase):
    """Our own direction."""

    def test_write_waits_for_room(self) -> None:
        """A write fires at once while the transport has room, else when it has again."""
        self.successResultOf(self.stream.write(b"abc"))
        self.transport.producer.pauseProducing()
        waiting = self.stream.write(b"def")
        given_up = self.stream.write(b"g")
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        self.assertNoResult(waiting)
        self.transport.producer.resumeProducing()
        self.successResultOf(waiting)
        self.assertEqual(self.transport.value(), b"abcdefg")
        self.assertEqual(self.stream.sent, 7)

    def test_write_fails_with_the_reset(self) -> None:
        """A write that waits, and each later one, fails with a reset."""
        self.transport.producer.pauseProducing()
        waiting = self.stream.write(b"abc")
        self.transport.producer.stopProducing()
        self.stream.connectionLost(reset())
        self.failureResultOf(waiting, StreamReset)
        self.failureResultOf(self.stream.write(b"d"), StreamReset)

    def test_end(self) -> None:
        """`end` half-closes once; writes fail after it, reads go on."""
        self.successResultOf(self.stream.write(b"abc"))
        self.stream.end()
        self.assertTrue(self.transport.write_ended)
        self.assertIsNone(self.transport.producer)
        self.transport.write_ended = False
        self.stream.end()
        self.assertFalse(self.transport.write_ended)
        self.failureResultOf(self.stream.write(b"d"), StreamEnded)
        self.stream.dataReceived(b"x")
        self.assertEqual(self.successResultOf(self.stream.read()), b"x")

    def test_end_waits_for_what_is_buffered(self) -> None:
        """While the transport holds much, the end comes after it, and so do the writers."""
        self.transport.producer.pauseProducing()
        waiting = self.stream.write(b"abc")
        self.stream.end()
        self.assertFalse(self.transport.write_ended)
        self.transport.producer.resumeProducing()
        self.successResultOf(waiting)
        self.assertTrue(self.transport.write_ended)

    def test_closed_when_both_have_ended(self) -> None:
        """Both ends, in either order, close the connection; then `closed` fires."""
        for first, second in (("read", "write"), ("write", "read")):
            self.setUp()
            closed = self.stream.closed()
            self.stream.end()
            getattr(self.stream, f"{first}ConnectionLost")()
            self.assertFalse(self.transport.disconnecting)
            getattr(self.stream, f"{second}ConnectionLost")()
            self.assertTrue(self.transport.disconnecting)
            self.stream.connectionLost(done())
            self.assertIsNone(self.successResultOf(closed))
            self.assertIsNone(self.successResultOf(self.stream.closed()))
            self.failureResultOf(self.stream.write(b"x"), StreamEnded)

    def test_transport_without_half_close(self) -> None:
        """Where the whole connection ends in order, reads see an end."""
        waiting = self.stream.read()
        self.stream.connectionLost(done())
        self.assertEqual(self.successResultOf(waiting), b"")
        self.successResultOf(self.stream.closed())


class Recorder(Protocol):
    """Remembers what it is told; it knows nothing of half-closes."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def dataReceived(self, data: bytes) -> None:
        """Remember."""
        self.told.append(data)

    def connectionLost(self, reason: Any = None) -> None:
        """Remember."""
        self.told.append(reason.type)


class HandOverTests(StreamCase):
    """Another protocol takes the connection."""

    def test_gets_what_waited_and_what_comes(self) -> None:
        """The bytes in order, then the end; the transport reads again and has no producer."""
        self.stream.dataReceived(bytes(257 * KIB))
        receiver = Recorder()
        self.stream.hand_over(receiver)
        self.assertIs(receiver.transport, self.transport)
        self.assertEqual(self.transport.producerState, "producing")
        self.assertIsNone(self.transport.producer)
        self.stream.dataReceived(b"x")
        self.assertEqual(receiver.told, [bytes(257 * KIB), b"x"])
        closed = self.stream.closed()
        self.stream.readConnectionLost()
        self.assertTrue(self.transport.disconnecting)
        self.stream.writeConnectionLost()
        self.stream.connectionLost(done())
        self.assertEqual(receiver.told[-1], done().type)
        self.successResultOf(closed)

    def test_end_or_reset_came_before(self) -> None:
        """A protocol is told of an end, or a loss, that came before it."""
        self.stream.dataReceived(b"x")
        self.stream.readConnectionLost()
        receiver = Recorder()
        self.stream.hand_over(receiver)
        self.assertEqual(receiver.told, [b"x"])
        self.assertTrue(self.transport.disconnecting)
        self.setUp()
        self.stream.connectionLost(reset())
        receiver = Recorder()
        self.stream.hand_over(receiver)
        self.assertEqual(receiver.told, [StreamReset])

    def test_what_is_over_then(self) -> None:
        """Reads and writes are over, a writer that waited goes on; a waiting read refuses it."""
        waiting = self.stream.read()
        self.assertRaises(RuntimeError, self.stream.hand_over, Recorder())
        self.stream.dataReceived(b"x")
        self.successResultOf(waiting)
        self.transport.producer.pauseProducing()
        writer = self.stream.write(b"y")
        self.stream.hand_over(Recorder())
        self.successResultOf(writer)
        self.failureResultOf(self.stream.read(), RuntimeError)
        self.failureResultOf(self.stream.write(b"z"), StreamEnded)
        self.stream.end()
        self.stream.discard()
        self.assertFalse(self.transport.write_ended)
        self.assertRaises(RuntimeError, self.stream.hand_over, Recorder())


class SocketTests(TestCase):
    """What only real sockets show."""

    def accepted(self) -> Deferred[tuple[Stream, socket.socket]]:
        """A stream, and the plain socket at its other end."""
        made: Deferred[tuple[Stream, socket.socket]] = Deferred()
        port = reactor.listenTCP(
            0, StreamFactory(lambda stream: made.callback((stream, plain))), interface="127.0.0.1"
        )
        self.addCleanup(port.stopListening)
        plain = socket.create_connection(("127.0.0.1", port.getHost().port))
        self.addCleanup(plain.close)
        plain.setblocking(False)
        return made

    def test_dialled_by_name(self) -> None:
        """A host name is resolved, and half-closes work as with an address."""

        async def scenario() -> None:
            accepted: Deferred[Stream] = Deferred()
            port = reactor.listenTCP(0, StreamFactory(accepted.callback), interface="127.0.0.1")
            self.addCleanup(port.stopListening)
            number = port.getHost().port
            stream = await connect_stream(tcp_endpoints(reactor)("localhost", number))
            other = await accepted
            await stream.write(b"x")
            stream.end()
            self.assertEqual([await other.read(), await other.read()], [b"x", b""])
            await other.write(b"y")
            other.end()
            self.assertEqual([await stream.read(), await stream.read()], [b"y", b""])
            await stream.closed()
            await other.closed()

        return Deferred.fromCoroutine(scenario())  # type: ignore[return-value]

    def test_reset_of_a_paused_stream(self) -> None:
        """A reset that comes while nobody reads is a reset when somebody does."""

        async def scenario() -> None:
            stream, plain = await self.accepted()
            for _ in range(40):
                try:
                    plain.send(bytes(32 * KIB))
                except BlockingIOError:
                    break
                await deferLater(reactor, 0.005)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            plain.close()
            await deferLater(reactor, 0.05)
            self.assertLess(stream.received, 400 * KIB)
            with self.assertRaises(StreamReset):
                while await stream.read():
                    pass
            with self.assertRaises(StreamReset):
                await stream.closed()

        return Deferred.fromCoroutine(scenario())  # type: ignore[return-value]

    def test_end_of_a_paused_stream_loses_nothing(self) -> None:
        """Both ends come while much is unread: all of it is read, then the end."""

        async def scenario() -> None:
            stream, plain = await self.accepted()
            sent = 0
            for _ in range(40):
                try:
                    sent += plain.send(bytes(32 * KIB))
                except BlockingIOError:
                    break
                await deferLater(reactor, 0.002)
            plain.shutdown(socket.SHUT_WR)
            stream.end()
            await deferLater(reactor, 0.05)
            got = 0
            while data := await stream.read():
                got += len(data)
            self.assertEqual(got, sent)
            self.assertGreater(sent, 256 * KIB)
            await stream.closed()

        return Deferred.fromCoroutine(scenario())  # type: ignore[return-value]
