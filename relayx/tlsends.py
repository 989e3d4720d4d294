"""Twisted's TLS, for the control plane and for clients, with an end that always comes.

A peer's close_notify (RFC 8446 section 6.1) ends both directions with Twisted: it answers, and
closes the TCP connection below once that has sent all. But where a producer had been told to
pause, TCP asks it for more instead of closing, and none of what it brings is sent any more: the
connection would stay for as long as the producer does, unread, its peer long gone.
"""

from __future__ import annotations

from typing import Any

from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol

__all__ = ["EndingTlsFactory"]


class _EndingTls(BufferingTLSTransport):
    """Waits for no producer once TLS is over; what was written before is sent all the same."""

    def dataReceived(self, data: bytes) -> None:
        """Take what came; where that was the peer's end, see to it that TCP can close."""
        super().dataReceived(data)
        below: Any = self.transport
        if below is not None and below.disconnecting:
            self.unregisterProducer()


class EndingTlsFactory(TLSMemoryBIOFactory):
    """Adds TLS to connections, as its base does."""

    protocol: type[TLSMemoryBIOProtocol] = _EndingTls
