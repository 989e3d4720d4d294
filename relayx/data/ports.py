"""The data ports: which are listened on, and which sockets are only kept."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory

from relayx.data.connection import DataConnection
from relayx.data.listener import DataPort
from relayx.data.settings import Settings
from relayx.net.endwatch import EndWatch

Build = Callable[[int, str], DataConnection]
"""Takes the port and the address of a connection that was accepted, and makes its protocol."""


class PortFactory(ServerFactory):
    """Accepts the connections of one data port.

    :ivar watch: where their transports have their ends watched.
    """

    noisy = False

    def __init__(self, build: Build, watch: EndWatch, number: int) -> None:
        self._build = build
        self.number = number
        self.watch = watch

    def build(self, host: str) -> DataConnection:
        """The protocol of a connection, not yet known to be anybody's."""
        return self._build(self.number, host)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """The same for Twisted's own accept."""
        return self.build(getattr(addr, "host", ""))


class DataPorts:
    """Every data port of one plane.

    :param reactor: an IReactorFDSet.
    """

    def __init__(self, reactor: Any, settings: Settings, build: Build, watch: EndWatch) -> None:
        self._reactor = reactor
        self._settings = settings
        self._build = build
        self._watch = watch
        self._ports: dict[int, DataPort] = {}
        self._shut: dict[int, DataPort] = {}  # adopted ones, which nothing but we can close

    def listen(self, number: int, adopted: socket.socket | None = None) -> None:
        """Listen on one.

        :param adopted: a socket that listens there already.
        :raises twisted.internet.error.CannotListenError: where it cannot be bound.
        """
        shut = self._shut.pop(number, None)
        if shut is not None:
            shut.open_again(self._settings.keepalive)
            self._ports[number] = shut
            return
        port = self._port(number, adopted)
        port.startListening()
        self._ports[number] = port

    def try_listening(self, number: int) -> None:
        """Find out whether :meth:`listen` would work, and listen on nothing.

        :raises OSError: where it would not.
        """
        if number not in self._ports and number not in self._shut:
            self._port(number).try_it()

    def _port(self, number: int, adopted: socket.socket | None = None) -> DataPort:
        settings, factory = self._settings, PortFactory(self._build, self._watch, number)
        return DataPort(
            number, factory, settings.interface, self._reactor, settings.keepalive, adopted
        )

    def leave_adopted(self) -> None:
        """Accept no more on sockets that were adopted: the next process will."""
        for number, port in [*self._ports.items(), *self._shut.items()]:
            if port.is_adopted:
                self._ports.pop(number, None)
                port.stopListening()
        self._shut.clear()

    def stop_listening(self) -> list[Any]:
        """Accept no more; return the Deferreds of ports that are not closed yet."""
        ports = [*self._ports.values(), *self._shut.values()]
        self._ports, self._shut = {}, {}
        return [port.stopListening() for port in ports]

    def stop_listening_on(self, number: int) -> None:
        """Accept no more on one port; its connections stay.

        One that was adopted still listens wherever it came from, whose backlog would keep who
        dials it waiting for ever: those are turned away, and it can be listened on again.
        """
        port = self._ports.pop(number)
        if port.is_adopted:
            port.shut()
            self._shut[number] = port
        else:
            port.close()

    @property
    def listening(self) -> set[int]:
        """Those that are listened on."""
        return set(self._ports)

    def change(self, settings: Settings) -> None:
        """Go by another ``keepalive`` from now on; that of connections that are there stays."""
        before, self._settings = self._settings, settings
        if before.keepalive != settings.keepalive:
            for port in self._ports.values():
                port.change_keepalive(settings.keepalive)
