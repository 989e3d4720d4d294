"""The listening socket of one data port."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Any

from twisted.internet import tcp
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from relayx.data.transport import DataTransport
from relayx.net.tcp import set_keepalive

BACKLOG = 512
_RESETS = struct.pack("ii", 1, 0)
_log = Logger(namespace="relayx.data")


def _of_twisted(
    accepted: socket.socket, protocol: Any, client: Any, server: Any, number: int, reactor: Any
) -> DataTransport:
    """A transport, made as Twisted's own accept makes one."""
    return DataTransport(accepted, protocol, client, server, reactor)


def _host(client: Any) -> str:
    """The address of an accepted connection, with its zone where it has one."""
    if len(client) == 4 and client[3]:
        return str(socket.getnameinfo(client, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0])
    return str(client[0])


class DataPort(tcp.Port):
    """Accepts data connections; "::" takes IPv4 and IPv6 (contract section 1).

    Accepted sockets have the options of the listening one on Linux, so that keepalive and
    no-delay cost nothing for each connection.

    :param keepalive: seconds, ``data.keepalive``.
    :param adopted: a socket that listens already, with what connections wait on it.
    """

    transport: Any = staticmethod(_of_twisted)

    def __init__(
        self,
        number: int,
        factory: Any,
        interface: str,
        reactor: Any,
        keepalive: float,
        adopted: socket.socket | None = None,
    ) -> None:
        super().__init__(number, factory, BACKLOG, interface, reactor)
        self._keepalive = keepalive
        self.is_adopted = adopted is not None
        self._is_shut = False
        if adopted is not None:
            self.addressFamily = adopted.family
            self._addressType = IPv6Address if adopted.family == socket.AF_INET6 else IPv4Address
            self._preexistingSocket = adopted  # Twisted's: listens with it, never shuts it down
            self._set_options(adopted)

    def createInternetSocket(self) -> socket.socket:
        """Make the socket, with the options that its connections are to have."""
        created: socket.socket = super().createInternetSocket()
        if self.addressFamily == socket.AF_INET6:
            created.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self._set_options(created)
        return created

    def try_it(self) -> None:
        """Bind as :meth:`startListening` would, and let go at once: nobody can connect.

        :raises OSError: where it cannot be bound.
        """
        with self.createInternetSocket() as created:
            if self.addressFamily == socket.AF_INET6:
                found = socket.getaddrinfo(self.interface, self.port, socket.AF_INET6)
                created.bind(found[0][4])
            else:
                created.bind((self.interface, self.port))

    def _set_options(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # An urgent byte stays in its place; without this, reading would leave it out.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        set_keepalive(sock, self._keepalive)

    def change_keepalive(self, seconds: float) -> None:
        """Give connections that come from now on another TCP keepalive."""
        self._keepalive = seconds
        set_keepalive(self.socket, seconds)

    def close(self) -> None:
        """Accept who has connected, and no more.

        The port can be bound again as soon as this returns.
        """
        self._accept_all()
        self.disconnecting = True
        self.stopReading()
        if self.connected:
            self.connectionLost(Failure(ConnectionDone()))

    def shut(self) -> None:
        """Accept who has connected, and reset who connects from now on, as a closed port would."""
        self._accept_all()
        self._is_shut = True

    def open_again(self, keepalive: float) -> None:
        """Accept again, after :meth:`shut`."""
        self._accept_all()  # who came before
        self._is_shut = False
        self.change_keepalive(keepalive)

    def _accept_all(self) -> None:
        for _ in range(BACKLOG):
            if not self._accept():
                break

    def doRead(self) -> None:
        """Accept one connection; the reactor calls again while more wait.

        A port seldom has two waiting, and asking for a second costs a call that fails.
        """
        self._accept()

    def _accept(self) -> bool:
        """Accept one connection; whether there was one."""
        factory: Any = self.factory
        try:
            accepted, client = self.socket.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError:
            super().doRead()  # out of descriptors, which Twisted has an answer to
            return False
        if self._is_shut:
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESETS)
            accepted.close()
            return True
        if sys.platform != "linux":
            self._set_options(accepted)
        protocol = factory.build(_host(client))
        transport = DataTransport(accepted, protocol, client, self, self.reactor)
        try:
            protocol.makeConnection(transport)
        except Exception:  # must not reach the reactor, which would close the port
            _log.failure("a data connection failed as it came")
            transport.abortConnection()
        return True
