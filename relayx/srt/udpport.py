"""The UDP port of one data port, which costs nothing before somebody calls.

libsrt has two threads for each UDP port that it listens on, one of which looks a hundred times a
second: a hundred ports that nobody uses would take a tenth of a core. So the socket is the
gateway's own until its first packet, and is given to libsrt then, the packet still in it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(IReadDescriptor)
class UdpPort:
    """A UDP socket that waits for its first packet.

    :param reactor: an IReactorFDSet.
    :param interface: the address; "" is every IPv4 address, "::" all of both kinds.
    :param called: called once, when a packet has come.
    :raises OSError: where it cannot be bound.
    """

    def __init__(
        self, reactor: Any, interface: str, number: int, called: Callable[[], None]
    ) -> None:
        self._reactor = reactor
        self._called = called
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            if family == socket.AF_INET6:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            self._socket.setblocking(False)
            self._socket.bind((interface, number))
        except OSError:
            self._socket.close()
            raise
        reactor.addReader(self)

    def fileno(self) -> int:
        """Of the socket; -1 once it is closed."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """For Twisted's log."""
        return "relayx srt"

    def doRead(self) -> None:
        """The first packet has come; it stays where it is."""
        self._reactor.removeReader(self)
        self._called()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor stops."""
        self.close()

    def take(self) -> int:
        """A descriptor of the socket, for libsrt, which closes it and waits on it in a thread."""
        self._socket.setblocking(True)
        return os.dup(self._socket.fileno())

    def close(self) -> None:
        """Wait no more. A descriptor that was taken is libsrt's, and stays open."""
        if self._socket.fileno() >= 0:
            self._reactor.removeReader(self)
            self._socket.close()
