"""Joins two streams into one connection (contract section 7, as the gateway does it)."""

from __future__ import annotations

import sys
from array import array
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocol,
    IPullProducer,
    IPushProducer,
    IReactorTime,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from relayx.client.errors import StreamReset
from relayx.client.halfclose import end_writing
from relayx.client.sockets import tcp_below
from relayx.client.stream import Stream

if sys.platform == "linux":
    import fcntl
    import termios

LOOK_AGAIN = 0.02
LAST_BYTES_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Joined:
    """How many bytes went each way."""

    a_to_b: int
    b_to_a: int


def join(reactor: IReactorTime, a: Stream, b: Stream) -> Deferred[Joined]:
    """Relay between two streams until both are over.

    What waits to be read goes first. Each end of stream is passed on after the last byte,
    and the other direction goes on; a reset is passed on as a reset, after what came
    before it. Whoever reads slowly slows the other. Neither stream may be read or written
    from here on, but each may be aborted, which resets both. Cancelling aborts both.

    Fails with `StreamReset` where either side broke.

    :raises RuntimeError: where a read of either waits, or it was handed over already.
    """
    joint = _Joint(reactor, a, b)
    joint.begin()
    return joint.over


class _Joint:
    """The two sides and what is known of both."""

    def __init__(self, reactor: IReactorTime, a: Stream, b: Stream) -> None:
        self.reactor = reactor
        self.over: Deferred[Joined] = Deferred(self._cancelled)
        self._first, self._second = _Side(self, a), _Side(self, b)
        self._first.other, self._second.other = self._second, self._first
        self._broken: Failure | None = None
        self._settled = False

    def begin(self) -> None:
        """Take both streams, their transports first: either may be written to at once."""
        for side in (self._first, self._second):
            side.stream.leave_transport()
            side.transport = side.stream.transport
        for side in (self._first, self._second):
            side.stream.hand_over(side)

    def broke(self, reason: Failure) -> None:
        """Remember why the first side to break did."""
        if self._broken is None:
            text = f"one side of the joined streams was reset: {reason.getErrorMessage()}"
            self._broken = Failure(StreamReset(text))

    def side_over(self) -> None:
        """One connection is gone; settle when both are."""
        if self._settled or not (self._first.lost and self._second.lost):
            return
        self._settled = True
        if self._broken is not None:
            self.over.errback(self._broken)
        else:
            self.over.callback(Joined(self._first.relayed, self._second.relayed))

    def _cancelled(self, _: Deferred[Joined]) -> None:
        self._settled = True
        self._first.stream.abort()
        self._second.stream.abort()


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer)
class _Side:
    """One of the two connections: the protocol of its bytes, the producer of the other's.

    Twisted's transports would do as producers of each other but for two things: a resume
    after the end of stream would read that end again, and `stopProducing` would close the
    other side in order where this one broke.
    """

    __slots__ = (
        "_joint",
        "_last_bytes",
        "_read_ended",
        "_write_ended",
        "lost",
        "other",
        "relayed",
        "stream",
        "transport",
    )

    def __init__(self, joint: _Joint, stream: Stream) -> None:
        self._joint = joint
        self.stream = stream
        self.other: _Side
        self.transport: Any = None
        self.relayed = 0
        self.lost = False
        self._read_ended = False
        self._write_ended = False
        self._last_bytes: _LastBytes | None = None

    # the protocol of this connection

    def makeConnection(self, transport: Any) -> None:
        """Become the producer of what the other side sends."""
        if not self.other.lost:
            self.other.transport.registerProducer(self, True)

    def connectionMade(self) -> None:
        """Twisted's name for what `makeConnection` does here."""

    def dataReceived(self, data: bytes) -> None:
        """Pass bytes on."""
        self.relayed += len(data)
        self.other.transport.write(data)

    def readConnectionLost(self) -> None:
        """Pass the end of stream on."""
        self._read_ended = True
        if not self.other.lost:
            self.other.transport.unregisterProducer()
            end_writing(self.other.transport)
        self._close_when_over()

    def writeConnectionLost(self) -> None:
        """The other side's end has been passed on."""
        self._write_ended = True
        self._close_when_over()

    def _close_when_over(self) -> None:
        if self._read_ended and self._write_ended and not self.lost:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure) -> None:
        """Pass on how this connection ended."""
        self.lost = True
        if self._last_bytes is not None:
            self._last_bytes.stop()
        if not reason.check(ConnectionDone):
            self._joint.broke(reason)
            self.other.reset_after_last_bytes()
        elif not self._write_ended:  # a transport that knows no half-close
            self._read_ended = True
            if not self.other.lost:
                self.other.transport.unregisterProducer()
                self.other.transport.loseConnection()
        self._joint.side_over()

    def reset_after_last_bytes(self) -> None:
        """Reset this connection once its peer has what was written so far."""
        if not self.lost and self._last_bytes is None:
            self._last_bytes = _LastBytes(self._joint.reactor, self.transport)
            self._last_bytes.start(buffered=not self._write_ended)

    # the producer of the other connection

    def pauseProducing(self) -> None:
        """The other side holds enough."""
        if not self._read_ended and not self.lost:
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """The other side has room."""
        if not self._read_ended and not self.lost:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The other side is lost; its `connectionLost` says what that means."""


@implementer(IPullProducer)
class _LastBytes:
    """Sees the last bytes out to a peer, then resets its connection.

    A reset throws away what the socket still holds, so it waits until the peer's TCP has
    acknowledged all (where the kernel tells), at most 30 s.
    """

    __slots__ = ("_asked", "_limit", "_look", "_reactor", "_tcp", "_transport")

    def __init__(self, reactor: IReactorTime, transport: Any) -> None:
        self._reactor = reactor
        self._transport = transport
        self._tcp = tcp_below(transport)
        self._asked = False
        self._look: IDelayedCall | None = None
        self._limit: IDelayedCall | None = None

    def start(self, *, buffered: bool) -> None:
        """Begin; `buffered` tells that the transport itself may hold bytes."""
        if not hasattr(self._tcp, "startWriting"):
            self._transport.abortConnection()
            return
        self._limit = self._reactor.callLater(LAST_BYTES_TIMEOUT, self._reset)
        self._transport.pauseProducing()
        self._transport.unregisterProducer()
        if not buffered:
            self._wait()
        elif self._tcp is self._transport:
            self._watch_buffer()
        else:  # Twisted's TLS gathers small writes for a turn of the reactor
            self._look = self._reactor.callLater(0, self._watch_buffer)

    def _watch_buffer(self) -> None:
        self._tcp.registerProducer(self, False)
        self._tcp.startWriting()

    def resumeProducing(self) -> None:
        """Called once at registration, and again when the transport has sent all it held."""
        if self._asked:
            self._tcp.unregisterProducer()
            self._wait()
        self._asked = True

    def stopProducing(self) -> None:
        """The connection is lost."""

    def _wait(self) -> None:
        if unacknowledged(self._tcp):
            self._look = self._reactor.callLater(LOOK_AGAIN, self._wait)
        else:
            self._reset()

    def _reset(self) -> None:
        self.stop()
        self._transport.abortConnection()

    def stop(self) -> None:
        """Look no more."""
        for call in (self._look, self._limit):
            if call is not None and call.active():
                call.cancel()


def unacknowledged(transport: Any) -> int:
    """Bytes in a transport's socket that its peer has not acknowledged; 0 where unknown."""
    if sys.platform != "linux":
        return 0
    count = array("i", [0])
    try:
        fcntl.ioctl(transport.getHandle().fileno(), termios.TIOCOUTQ, count)
    except (AttributeError, OSError):
        return 0
    return count[0]
