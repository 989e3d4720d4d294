"""Ends of stream, for protocols and transports that may know nothing of half-closes."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, ISSLTransport


def pass_end_of_stream(receiver: IProtocol, transport: Any) -> None:
    """Tell a protocol of the peer's end; as in Twisted, one that knows no half-close is closed."""
    half = IHalfCloseableProtocol(receiver, None)
    if half is not None:
        half.readConnectionLost()
    else:
        transport.loseConnection()


def end_writing(transport: Any) -> None:
    """End our direction of a connection once all is sent.

    Over TLS that is a close_notify (RFC 8446, section 6.1): what the peer still sends before its
    own is read, and `connectionLost` comes where `writeConnectionLost` would. Twisted's TLS
    has no half-close; the one of the TCP below would cut it off.
    """
    if ISSLTransport.providedBy(transport):
        transport.loseConnection()
    else:
        transport.loseWriteConnection()
