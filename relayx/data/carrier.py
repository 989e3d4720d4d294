"""What carries the bytes of a data connection: TCP, or TLS over it.

The rules of a session and the buffered pump know of a connection what stands here. Both kinds
are :class:`~relayx.data.transport.DataTransport` and
:class:`~relayx.data.tlstransport.TlsTransport`; the spliced pump takes the former alone.
"""

from __future__ import annotations

from typing import Any, Protocol

from relayx.net.proxy import Address
from relayx.net.tcp import Failure


class Carrier(Protocol):
    """One data connection, as the session and its pump use it. Bytes are those of the session."""

    @property
    def whole(self) -> bool:
        """Whether it sends messages, so that a session may end between any two of them."""

    @property
    def failure(self) -> Failure | None:
        """Why the connection cannot go on, None while it can."""

    @property
    def route(self) -> tuple[Address, Address]:
        """The addresses and ports of the peer and of the gateway."""

    @property
    def connected(self) -> Any:
        """Whether it is not closed yet."""

    @property
    def paused(self) -> bool:
        """Whether it is not being read."""

    @property
    def read_ended(self) -> bool:
        """Whether the peer's stream has been read to its end."""

    @property
    def received(self) -> int:
        """Grows with whatever comes from the peer."""

    @property
    def sent(self) -> int:
        """Bytes given to the kernel so far."""

    @property
    def settled(self) -> int:
        """What `sent` was when all were last known to be acknowledged."""

    @property
    def unsent(self) -> int:
        """Bytes that the gateway itself still holds for the peer."""

    @property
    def in_pipe(self) -> int:
        """Those of them that are in a pipe of the kernel."""

    @property
    def delivered(self) -> int:
        """Bytes that the peer's TCP has acknowledged."""

    @property
    def all_delivered(self) -> bool:
        """Whether nothing is left on its way to the peer, our end of stream included."""

    def is_dead(self, seconds: float) -> bool:
        """Whether the peer has left bytes unanswered for that long (contract section 7)."""

    def has_unread(self) -> bool:
        """Whether bytes have come that were not read yet."""

    def discard_unread(self) -> None:
        """Throw away what has come so far; what comes from now on stays."""

    def limit_reads(self, size: int) -> None:
        """Read at most so many bytes at once."""

    def start_watching(self) -> None:
        """Have the end seen from now on, though nobody reads the connection."""

    def fail(self, failure: Failure) -> None:
        """The peer takes no more bytes."""

    def write(self, data: bytes) -> None:
        """Send, or throw away where the peer takes no more."""

    def pauseProducing(self) -> None:
        """Stop reading; the end of the connection is still seen."""

    def resumeProducing(self) -> None:
        """Read on, unless the stream has ended."""

    def stopProducing(self) -> None:
        """Close; a consumer that is gone calls it."""

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Have whoever fills this connection pushed back."""

    def unregisterProducer(self) -> None:
        """Push back on nobody any more."""

    def loseWriteConnection(self) -> None:
        """End our own stream behind what was written."""

    def loseConnection(self) -> None:
        """Close behind what was written."""

    def abortConnection(self) -> None:
        """Reset."""

    def close_ended(self) -> None:
        """Close, where both streams have ended."""
