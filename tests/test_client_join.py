"""relayx.client.join: bytes, ends and resets pass from one connection to the other."""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet import reactor as real_reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relayx.client import Joined, Stream, StreamFactory, StreamReset, join
from relayx.net.tcp import unacknowledged
from tests.test_client_fakes import MemoryTransport, done, reset

KIB = 1024
reactor: Any = real_reactor


class JoinCase(SynchronousTestCase):
    """Two streams on memory transports."""

    def setUp(self) -> None:
        """Connect both."""
        self.clock = Clock()
        self.a, self.b = Stream(), Stream()
        self.at, self.bt = MemoryTransport(), MemoryTransport()
        self.a.makeConnection(self.at)
        self.b.makeConnection(self.bt)

    def join(self) -> Deferred[Joined]:
        """Join them."""
        return join(self.clock, self.a, self.b)


class JoinTests(JoinCase):
    """The rules."""

    def test_bytes_both_ways(self) -> None:
        """What waited goes first, then all that comes."""
        self.a.dataReceived(b"1")
        self.b.dataReceived(b"x")
        joined = self.join()
        self.a.dataReceived(b"23")
        self.b.dataReceived(b"y")
        self.assertEqual((self.bt.value(), self.at.value()), (b"123", b"xy"))
        self.assertNoResult(joined)

    def test_half_close_both_ways(self) -> None:
        """Each end is passed on alone; after both, each connection is closed."""
        joined = self.join()
        self.a.dataReceived(b"abc")
        self.a.readConnectionLost()
        self.assertTrue(self.bt.write_ended)
        self.assertIsNone(self.bt.producer)
        self.assertFalse(self.at.write_ended or self.bt.disconnecting)
        self.b.writeConnectionLost()
        self.b.dataReceived(b"still")
        self.assertEqual(self.at.value(), b"still")
        self.b.readConnectionLost()
        self.assertTrue(self.at.write_ended and self.bt.disconnecting)
        self.assertFalse(self.at.disconnecting)
        self.a.writeConnectionLost()
        self.assertTrue(self.at.disconnecting)
        self.a.connectionLost(done())
        self.assertNoResult(joined)
        self.b.connectionLost(done())
        self.assertEqual(self.successResultOf(joined), Joined(3, 5))
        self.successResultOf(self.a.closed())

    def test_ends_that_came_before(self) -> None:
        """An end of stream before the join is passed on after the bytes before it."""
        self.a.dataReceived(b"abc")
        self.a.readConnectionLost()
        self.join()
        self.assertEqual(self.bt.value(), b"abc")
        self.assertTrue(self.bt.write_ended)
        self.assertFalse(self.at.write_ended)
        self.b.dataReceived(b"d")
        self.assertEqual(self.at.value(), b"d")

    def test_resets_both_ways(self) -> None:
        """A reset of either is a reset of the other, never an end."""
        for first, second, transport in (("a", "b", "bt"), ("b", "a", "at")):
            self.setUp()
            joined = self.join()
            getattr(self, first).connectionLost(reset())
            self.assertTrue(getattr(self, transport).aborted)
            self.assertFalse(getattr(self, transport).write_ended)
            self.assertNoResult(joined)
            getattr(self, second).connectionLost(reset())
            self.failureResultOf(joined, StreamReset)

    def test_reset_after_one_end(self) -> None:
        """A side that has ended its stream and then breaks is passed on too."""
        joined = self.join()
        self.a.readConnectionLost()
        self.b.writeConnectionLost()
        self.a.connectionLost(reset())
        self.assertTrue(self.bt.aborted)
        self.b.connectionLost(reset())
        self.failureResultOf(joined, StreamReset)

    def test_reset_before(self) -> None:
        """A side that was lost before the join resets the other, after what it had sent."""
        for first, second, transport in (("a", "b", "bt"), ("b", "a", "at")):
            self.setUp()
            getattr(self, first).dataReceived(b"abc")
            getattr(self, first).connectionLost(reset())
            joined = self.join()
            self.assertEqual(getattr(self, transport).value(), b"abc")
            self.assertTrue(getattr(self, transport).aborted)
            getattr(self, second).connectionLost(reset())
            self.failureResultOf(joined, StreamReset)

    def test_back_pressure_both_ways(self) -> None:
        """A full side pauses the other, and resumes it, but not past its end."""
        self.join()
        for full, source in ((self.bt, self.at), (self.at, self.bt)):
            full.producer.pauseProducing()
            self.assertEqual(source.producerState, "paused")
            full.producer.resumeProducing()
            self.assertEqual(source.producerState, "producing")
        producer = self.bt.producer
        producer.pauseProducing()
        self.a.readConnectionLost()
        producer.resumeProducing()
        self.assertEqual(self.at.producerState, "paused")
        producer.stopProducing()
        self.assertFalse(self.at.disconnecting or self.at.aborted)

    def test_transport_without_half_close(self) -> None:
        """Where one side closes as a whole, the other is closed after its last bytes."""
        joined = self.join()
        self.a.dataReceived(b"abc")
        self.a.connectionLost(done())
        self.assertEqual(self.bt.value(), b"abc")
        self.assertTrue(self.bt.disconnecting)
        self.b.connectionLost(done())
        self.assertEqual(self.successResultOf(joined), Joined(3, 0))

    def test_cancelled(self) -> None:
        """Cancelling resets both."""
        joined = self.join()
        joined.cancel()
        self.failureResultOf(joined, CancelledError)
        self.assertTrue(self.at.aborted and self.bt.aborted)
        self.a.connectionLost(reset())
        self.b.connectionLost(reset())

    def test_twice(self) -> None:
        """A stream that was joined cannot be joined again."""
        self.join()
        self.assertRaises(RuntimeError, self.join)


class SocketTests(TestCase):
    """What only real sockets show."""

    async def joined(self) -> tuple[socket.socket, socket.socket, list[Stream], Deferred[Joined]]:
        """Two plain sockets, and their other ends, which are joined."""
        accepted: list[Stream] = []
        port = reactor.listenTCP(0, StreamFactory(accepted.append), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        plain = []
        for number in (1, 2):
            made = socket.socket()
            if number == 2:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * KIB)
            made.connect(("127.0.0.1", port.getHost().port))
            made.setblocking(False)
            self.addCleanup(made.close)
            plain.append(made)
            while len(accepted) < number:
                await deferLater(reactor, 0.002)
        return plain[0], plain[1], accepted, join(reactor, *accepted)

    async def send(self, plain: socket.socket, data: bytes) -> None:
        """Send all, in as many pieces as it takes."""
        view = memoryview(data)
        while view:
            try:
                view = view[plain.send(view) :]
            except BlockingIOError:
                await deferLater(reactor, 0.002)

    async def take(self, plain: socket.socket, at_most: int = 1 << 30) -> bytes:
        """Read up to the end, or so many bytes."""
        parts: list[bytes] = []
        while sum(map(len, parts)) < at_most:
            try:
                data = plain.recv(64 * KIB)
            except BlockingIOError:
                await deferLater(reactor, 0.002)
                continue
            if not data:
                break
            parts.append(data)
        return b"".join(parts)

    def test_last_bytes_before_a_reset(self) -> None:
        """All that a side sent before its reset reaches a slow reader, then the reset does."""

        async def scenario() -> None:
            a, b, streams, joined = await self.joined()
            blob = b"0123456789abcdef" * 40_000
            await self.send(a, blob)
            head = await self.take(b, 100 * KIB)
            while unacknowledged(a):  # or the reset would throw it away on this side
                await deferLater(reactor, 0.002)
            a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            a.close()
            with self.assertRaises(StreamReset):
                await streams[0].closed()
            tail = await self.take(b, len(blob) - len(head))
            self.assertTrue(head + tail == blob)
            with self.assertRaises(ConnectionResetError):
                await self.take(b)
            with self.assertRaises(StreamReset):
                await joined

        return Deferred.fromCoroutine(scenario())  # type: ignore[return-value]

    def test_bulk_both_ways_at_once(self) -> None:
        """Megabytes both ways, one reader slower than the other, arrive whole with their ends."""

        async def scenario() -> None:
            a, b, _, joined = await self.joined()
            there, back = b"fe-to-be" * 500_000, b"be-to-fe" * 300_000

            async def side(plain: socket.socket, data: bytes) -> None:
                await self.send(plain, data)
                plain.shutdown(socket.SHUT_WR)

            sending = [
                Deferred.fromCoroutine(side(a, there)),
                Deferred.fromCoroutine(side(b, back)),
            ]
            taking = [
                Deferred.fromCoroutine(self.take(a)),
                Deferred.fromCoroutine(self.take(b)),
            ]
            self.assertTrue(await taking[0] == back)
            self.assertTrue(await taking[1] == there)
            for sent in sending:
                await sent
            self.assertEqual(await joined, Joined(len(there), len(back)))

        return Deferred.fromCoroutine(scenario())  # type: ignore[return-value]
