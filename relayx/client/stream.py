"""The bytes of a session, for code that awaits them (contract section 7)."""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from relayx.client.errors import StreamEnded, StreamReset
from relayx.client.halfclose import end_writing, pass_end_of_stream
from relayx.client.once import Once
from relayx.client.sockets import set_up
from relayx.core.hello import Paired

READ_LIMIT = 256 * 1024


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer)
class Stream:
    """A byte stream each way over one connection, a protocol for Twisted's transports.

    At most 256 KiB wait to be read, and what one segment brings more; past that the
    transport is paused, which slows the peer. The connection is closed once both directions
    have ended.

    :ivar transport: the connection's.
    :ivar paired: the gateway's answer, None where the stream is not a session's.
    :ivar received: bytes that came so far.
    :ivar sent: bytes written so far.
    """

    __slots__ = (
        "_buffered", "_chunks", "_closed", "_discarding", "_end_asked", "_lost", "_producing",
        "_read_ended", "_read_paused", "_reader", "_receiver", "_room", "_write_ended",
        "_write_paused", "paired", "received", "sent", "transport",
    )  # fmt: skip

    def __init__(self, paired: Paired | None = None) -> None:
        self.paired = paired
        self.transport: Any = None
        self.received = 0
        self.sent = 0
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._reader: tuple[Deferred[bytes], int] | None = None
        self._room: list[Deferred[None]] = []
        self._receiver: IProtocol | None = None
        self._discarding = False
        self._read_paused = False
        self._read_ended = False
        self._producing = False
        self._write_paused = False
        self._end_asked = False
        self._write_ended = False
        self._lost: Failure | None = None
        self._closed: Once[None] = Once()

    # what the owner calls

    def read(self, max_bytes: int = 65536) -> Deferred[bytes]:
        """The next 1 to `max_bytes` bytes, or b"" at the end of the peer's direction.

        Fails with `StreamReset` where the connection broke before that end, once all that
        came before has been read. One read at a time.
        """
        if self._reader is not None or self._receiver is not None:
            return fail(RuntimeError("this stream is being read already"))
        if max_bytes < 1:
            return fail(ValueError(f"max_bytes is {max_bytes}; allowed: 1 and more"))
        reader: Deferred[bytes] = Deferred(self._stop_reading)
        self._reader = (reader, max_bytes)
        self._serve_reader()
        return reader

    def _stop_reading(self, _: Deferred[bytes]) -> None:
        self._reader = None

    def write(self, data: bytes) -> Deferred[None]:
        """Send `data`; fires when there is room for more.

        Fails with `StreamReset`, or `StreamEnded` after `end`.
        """
        if self._lost is not None:
            return fail(self._lost)
        if self._end_asked or self._closed.settled or self._receiver is not None:
            return fail(StreamEnded("our direction of the stream has ended"))
        self.sent += len(data)
        self.transport.write(data)
        if not self._write_paused:
            return succeed(None)
        room: Deferred[None] = Deferred(self._room.remove)
        self._room.append(room)
        return room

    def end(self) -> None:
        """End our direction once all that was written is sent; the other one goes on.

        Over TLS for as long as the gateway lets it: an end of stream there ends the session.
        """
        if not self._end_asked and not self._closed.settled and self._receiver is None:
            self._end_asked = True
            if not self._write_paused:
                self._end_writing()

    def _end_writing(self) -> None:
        self.leave_transport()
        end_writing(self.transport)

    def discard(self) -> None:
        """Throw away what comes from now on, so that the peer is never held up."""
        if self._receiver is None:
            self._discarding = True
            self._chunks.clear()
            self._buffered = 0
            self._resume_reading()

    def abort(self) -> None:
        """Reset the connection: the peer sees that the stream is not whole."""
        if not self._closed.settled:
            self.transport.abortConnection()

    def closed(self) -> Deferred[None]:
        """Fire when both directions have ended, fail with `StreamReset` where one broke."""
        return self._closed.wait()

    def leave_transport(self) -> None:
        """Be the producer of the transport no more, so that another may register.

        :meth:`hand_over` does it; writes that wait for room wait no longer.
        """
        if self._producing:
            self._producing = False
            self.transport.unregisterProducer()
            self._make_room()

    def hand_over(self, receiver: IProtocol) -> None:
        """Give the connection, and what waits to be read, to another protocol.

        It gets `makeConnection`, then what waited, the end of stream if that has come
        already, and everything after. `read`, `write` and `end` are over; `abort`, `closed`
        and the counters go on.

        :raises RuntimeError: while a read waits, or after another hand-over.
        """
        if self._reader is not None or self._receiver is not None:
            raise RuntimeError("this stream is being read already")
        self.leave_transport()
        self._receiver = receiver
        receiver.makeConnection(self.transport)
        self._resume_reading()
        chunks, self._chunks = self._chunks, deque()
        for chunk in chunks:
            receiver.dataReceived(chunk)
        if self._closed.settled:
            receiver.connectionLost(self._lost or Failure(ConnectionDone()))
        elif self._read_ended:
            pass_end_of_stream(receiver, self.transport)

    # what the transport calls

    def makeConnection(self, transport: Any) -> None:
        """Take the transport, as the producer of what is written."""
        self.transport = transport
        set_up(transport)
        self._producing = True
        transport.registerProducer(self, True)
        self.connectionMade()

    def connectionMade(self) -> None:
        """The transport is there."""

    def dataReceived(self, data: bytes) -> None:
        """Keep what came until it is read."""
        self.received += len(data)
        if self._receiver is not None:
            self._receiver.dataReceived(data)
            return
        if self._discarding:
            return
        self._chunks.append(data)
        self._buffered += len(data)
        self._serve_reader()
        if self._buffered > READ_LIMIT and not self._read_paused:
            self._read_paused = True
            self.transport.pauseProducing()

    def _serve_reader(self) -> None:
        if self._reader is None:
            return
        reader, max_bytes = self._reader
        if self._chunks:
            self._reader = None
            data = self._take(max_bytes)
            self._resume_reading()
            reader.callback(data)
        elif self._read_ended:
            self._reader = None
            reader.callback(b"")
        elif self._lost is not None:
            self._reader = None
            reader.errback(self._lost)

    def _take(self, max_bytes: int) -> bytes:
        first = self._chunks.popleft()
        if len(first) > max_bytes:
            self._chunks.appendleft(first[max_bytes:])
            first = first[:max_bytes]
        self._buffered -= len(first)
        return first

    def _resume_reading(self) -> None:
        if self._read_paused and (self._receiver is not None or self._buffered <= READ_LIMIT // 2):
            self._read_paused = False
            if not self._read_ended and not self._closed.settled:
                self.transport.resumeProducing()

    def readConnectionLost(self) -> None:
        """The peer has ended its direction."""
        self._read_ended = True
        if self._receiver is not None:
            pass_end_of_stream(self._receiver, self.transport)
            return
        self._serve_reader()
        self._close_when_over()

    def writeConnectionLost(self) -> None:
        """All that was written is sent, and so is the end of our direction."""
        self._write_ended = True
        if self._receiver is not None:
            half = IHalfCloseableProtocol(self._receiver, None)
            if half is not None:
                half.writeConnectionLost()
            return
        self._close_when_over()

    def _close_when_over(self) -> None:
        if self._read_ended and self._write_ended and not self._closed.settled:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone: in order, or broken."""
        if self._producing:
            self._producing = False
            self.transport.unregisterProducer()
        if reason.check(ConnectionDone):
            self._read_ended = True
        else:
            text = f"the stream was reset before its end: {reason.getErrorMessage()}"
            self._lost = Failure(StreamReset(text))
        room, self._room = self._room, []
        for waiter in room:
            waiter.errback(self._lost or Failure(StreamEnded("the stream was closed")))
        if self._lost is None:
            self._closed.fire(None)
        else:
            self._closed.fail(self._lost)
        if self._receiver is not None:
            self._receiver.connectionLost(reason)
        else:
            self._serve_reader()

    # the transport's buffer

    def pauseProducing(self) -> None:
        """The transport holds enough."""
        self._write_paused = True

    def resumeProducing(self) -> None:
        """The transport has room again."""
        self._write_paused = False
        self._make_room()
        if self._end_asked and not self._write_paused:
            self._end_writing()

    def _make_room(self) -> None:
        room, self._room = self._room, []
        for waiter in room:
            waiter.callback(None)

    def stopProducing(self) -> None:
        """The connection is lost; `connectionLost` tells why."""
