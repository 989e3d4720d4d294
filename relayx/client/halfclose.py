"""A peer's end of stream, for protocols that may know nothing of half-closes."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol


def pass_end_of_stream(receiver: IProtocol, transport: Any) -> None:
    """Tell a protocol of the peer's end; as in Twisted, one that knows no half-close is closed."""
    half = IHalfCloseableProtocol(receiver, None)
    if half is not None:
        half.readConnectionLost()
    else:
        transport.loseConnection()
