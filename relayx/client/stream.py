"""The bytes of a session, for code that awaits them (contract section 7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory

from relayx.core.hello import Paired

READ_LIMIT = 256 * 1024


class Stream:
    """A byte stream each way over one connection, a protocol for Twisted's transports.

    At most 256 KiB wait to be read; past that the transport is paused, which slows the
    peer. The connection is closed once both directions have ended.

    :ivar transport: the connection's.
    :ivar paired: the gateway's answer, None where the stream is not a session's.
    :ivar received: bytes that came so far.
    :ivar sent: bytes written so far.
    """

    def __init__(self, paired: Paired | None = None) -> None:
        self.paired = paired
        self.transport: Any = None
        self.received = 0
        self.sent = 0

    def read(self, max_bytes: int = 65536) -> Deferred[bytes]:
        """The next 1 to `max_bytes` bytes, or b"" at the end of the peer's direction.

        Fails with `StreamReset` where the connection broke before that end, once all that
        came before has been read. One read at a time.
        """
        raise NotImplementedError

    def write(self, data: bytes) -> Deferred[None]:
        """Send `data`; fires when there is room for more.

        Fails with `StreamReset`, or `StreamEnded` after `end`.
        """
        raise NotImplementedError

    def end(self) -> None:
        """End our direction once all that was written is sent; the other one goes on."""

    def discard(self) -> None:
        """Throw away what comes from now on, so that the peer is never held up."""

    def abort(self) -> None:
        """Reset the connection: the peer sees that the stream is not whole."""

    def closed(self) -> Deferred[None]:
        """Fire when both directions have ended, fail with `StreamReset` where one broke."""
        raise NotImplementedError

    def hand_over(self, receiver: IProtocol) -> None:
        """Give the connection, and what waits to be read, to another protocol."""


class StreamFactory(Factory):
    """Makes a `Stream` of each connection to a listening port and passes it on."""

    def __init__(self, on_stream: Callable[[Stream], object]) -> None:
        self._on_stream = on_stream


def connect_stream(endpoint: IStreamClientEndpoint) -> Deferred[Stream]:
    """Dial any TCP service and have its connection as a `Stream` (`paired` is None)."""
    raise NotImplementedError
