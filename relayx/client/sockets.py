"""How the client sets its TCP connections up (contract section 7, dead peers)."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from twisted.internet.interfaces import ISSLTransport, ITCPTransport

KEEPALIVE = 15
PROBES = 3


def tcp_below(transport: Any) -> Any:
    """The transport below TLS; the one given where that is no TLS."""
    while ISSLTransport.providedBy(transport) and hasattr(transport, "transport"):
        transport = transport.transport
    return transport


def set_up(transport: Any) -> None:
    """Send small writes at once, and find a silent dead peer within a minute.

    A gateway or a router between that vanished without a word would else leave a connection
    waiting for ever. Transports other than TCP, or TLS over it, are left as they are.
    """
    transport = tcp_below(transport)
    if not ITCPTransport.providedBy(transport):
        return
    transport.setTcpNoDelay(True)
    transport.setTcpKeepAlive(True)
    handle = transport.getHandle() if hasattr(transport, "getHandle") else None
    if isinstance(handle, socket.socket) and hasattr(socket, "TCP_KEEPIDLE"):
        with contextlib.suppress(OSError):  # the peer may be gone already
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE)
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE)
            handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
