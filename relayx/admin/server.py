"""HTTP within limits: how long, how large and how many requests may be.

Twisted parses; what it leaves open is bounded here. A connection has :data:`PATIENCE` seconds
from its first byte, or from its last answer, to a whole request: one that sends a byte now and
then gains nothing by it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, HTTPFactory, Request, datetimeToString

from relayx.net.newcomers import Newcomers
from relayx.net.sources import source_of

PATIENCE = 15.0
"""Seconds for a whole request."""

MOST_WAITING = 64
MOST_WAITING_PER_SOURCE = 32
"""Connections that have no whole request; past it the oldest is closed."""

MOST_CONNECTIONS = 128
MOST_HEADER_BYTES = 8192
MOST_HEADERS = 64
MOST_BODY_BYTES = 4096
"""No route takes a body; a small one is read and thrown away, and past it the answer is 413."""

FAR_OVER = 1024 * 1024
"""Bytes of a body past which nobody waits for the answer."""

_TOO_LONG = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n"
    b"Content-Type: application/json\r\n\r\n"
    b'{"error_code":"HEADER_TOO_LARGE","error":"allowed: %d bytes of header"}' % MOST_HEADER_BYTES
)

_MALFORMED = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/json\r\n\r\n"
    b'{"error_code":"REQUEST_INVALID","error":"this is no HTTP request that is understood; '
    b'allowed: HTTP/1.1 with up to %d header fields"}' % MOST_HEADERS
)

_log = Logger(namespace="relayx.admin")


class AdminRequest(Request):
    """One request. Its body is counted and thrown away.

    :ivar body_bytes: how long the body was.
    """

    channel: Any

    def __init__(self, channel: Any, queued: Any = None) -> None:
        super().__init__(channel, parsePOSTFormSubmission=False)
        self.body_bytes = 0

    def handleContentChunk(self, data: bytes) -> None:
        """A part of the body has come."""
        self.body_bytes += len(data)
        if self.body_bytes > FAR_OVER:
            self.channel.loseConnection()

    def process(self) -> None:
        """The request is whole: have it answered."""
        self.setHeader(b"Date", datetimeToString())
        self.setHeader(b"Server", b"relayx")
        try:
            self.channel.factory.answer(self)
        except Exception:
            _log.failure("a request could not be answered")
            self.channel.loseConnection()


class AdminChannel(HTTPChannel):
    """One connection."""

    maxHeaders = MOST_HEADERS
    totalHeadersSize = MOST_HEADER_BYTES
    MAX_LENGTH = MOST_HEADER_BYTES
    requestFactory = AdminRequest  # type: ignore[assignment]  # narrower than Twisted says
    factory: AdminFactory

    def connectionMade(self) -> None:
        """Wait for a request."""
        super().connectionMade()
        self.factory.opened(self)

    def dataReceived(self, data: bytes) -> None:
        """Bytes have come, which give no more time."""
        LineReceiver.dataReceived(self, data)

    def lineLengthExceeded(self, line: bytes) -> None:
        """A line of the header is too long, and so is the header."""
        transport: Any = self.transport
        transport.write(_TOO_LONG)
        self.loseConnection()

    def _respondToBadRequestAndDisconnect(self) -> None:
        """What came is no request. Twisted's own answer, which has no other place to be
        changed, says nothing but 400."""
        transport: Any = self.transport
        transport.write(_MALFORMED)
        self.loseConnection()

    def allContentReceived(self) -> None:
        """A request is whole."""
        self.factory.newcomers.discard(self)
        super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        """A request is answered; wait for the next.

        One that has come already has a turn of its own, or a connection with a thousand of them
        would hold the gateway up until they are all answered.
        """
        self.factory.await_request(self)
        self.factory.reactor.callLater(0, self._go_on, request)

    def _go_on(self, request: Any) -> None:
        if self.factory.has(self):
            super().requestDone(request)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # no default
        """The connection is closed."""
        self.factory.closed(self)
        super().connectionLost(reason)

    @property
    def source(self) -> str:
        """Where it comes from."""
        transport: Any = self.transport
        return source_of(getattr(transport.getPeer(), "host", ""))

    def abort(self) -> None:
        """Close at once."""
        transport: Any = self.transport
        transport.abortConnection()


class AdminFactory(HTTPFactory):
    """Accepts connections, and has each request answered.

    :param answer: answers a request.
    :ivar newcomers: connections without a whole request.
    """

    protocol = AdminChannel  # type: ignore[assignment]  # narrower than Twisted says
    noisy = False

    def __init__(self, reactor: Any, answer: Callable[[AdminRequest], None]) -> None:
        super().__init__(reactor=reactor)
        self.timeOut = None  # `newcomers` does it
        self.answer = answer
        self._open: set[AdminChannel] = set()
        self.newcomers: Newcomers[AdminChannel] = Newcomers(
            reactor,
            PATIENCE,
            MOST_WAITING,
            timed_out=AdminChannel.abort,
            crowded_out=AdminChannel.abort,
            per_source=MOST_WAITING_PER_SOURCE,
        )

    def log(self, request: Any) -> None:
        """Requests are not logged, but what they do is."""

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Take a connection, unless there are too many."""
        if len(self._open) >= MOST_CONNECTIONS:
            return None
        return super().buildProtocol(addr)

    def opened(self, channel: AdminChannel) -> None:
        """A connection is there."""
        self._open.add(channel)
        self.await_request(channel)

    def await_request(self, channel: AdminChannel) -> None:
        """A connection is to send a request."""
        if channel in self._open:
            self.newcomers.add(channel, channel.source)

    def closed(self, channel: AdminChannel) -> None:
        """A connection has ended."""
        self._open.discard(channel)
        self.newcomers.discard(channel)

    def has(self, channel: AdminChannel) -> bool:
        """Whether a connection is open."""
        return channel in self._open

    def open_connections(self) -> int:
        """How many connections are open."""
        return len(self._open)

    def close(self) -> None:
        """Close every connection behind what it was sent."""
        for channel in list(self._open):
            transport: Any = channel.transport
            transport.loseConnection()

    def release(self) -> None:
        """Close every connection at once, and wait for nobody."""
        self.newcomers.close()
        for channel in list(self._open):
            channel.abort()
