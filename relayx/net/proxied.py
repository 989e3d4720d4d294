"""PROXY headers below any protocol of Twisted's, on connections from trusted proxies."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IProtocolFactory
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import directlyProvides, providedBy

from relayx.net.address import Networks
from relayx.net.newcomers import Newcomers
from relayx.net.proxy import Address, Header, ProxyError, ProxyReader

_log = Logger(namespace="relayx.proxy")


def _spelled(address: Address) -> IPv4Address | IPv6Address:
    kind = IPv6Address if ":" in address.host else IPv4Address
    return kind("TCP", address.host, address.port)


class ToldTransport:
    """A transport whose two addresses are those that the header told; all else is its own."""

    def __init__(self, transport: Any, header: Header) -> None:
        self._transport = transport
        self._header = header
        directlyProvides(self, providedBy(transport))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def getPeer(self) -> Any:
        """The client, as the proxy saw it."""
        told = self._header.source
        return self._transport.getPeer() if told is None else _spelled(told)

    def getHost(self) -> Any:
        """Where the client connected to."""
        told = self._header.destination
        return self._transport.getHost() if told is None else _spelled(told)


class HeaderReading(Protocol):
    """Reads the header, then has the wrapped factory's protocol take its place."""

    def __init__(self, factory: ProxiedFactory, address: Any) -> None:
        self._factory = factory
        self._reader = ProxyReader()
        self.proxy = address

    def connectionMade(self) -> None:
        """Wait for the header."""
        self._factory.waiting.add(self)

    def dataReceived(self, data: bytes) -> None:
        """Take some of the header."""
        transport: Any = self.transport
        if transport.disconnecting:
            return
        try:
            found = self._reader.feed(data)
        except ProxyError as error:
            self.refuse(str(error))
            return
        if found is not None:
            self._factory.waiting.discard(self)
            self._make_way(transport, *found)

    def _make_way(self, transport: Any, header: Header, rest: bytes) -> None:
        told = ToldTransport(transport, header)
        protocol: Any = self._factory.wrapped.buildProtocol(told.getPeer())
        if protocol is None:
            transport.abortConnection()
            return
        transport.protocol = protocol
        protocol.makeConnection(told)
        if rest:
            protocol.dataReceived(rest)

    def refuse(self, why: str) -> None:
        """Close a connection that does not begin as it should."""
        transport: Any = self.transport
        self._factory.waiting.discard(self)
        self._factory.say(self.proxy, why)
        transport.loseConnection()

    def abort(self) -> None:
        """Close without a word."""
        transport: Any = self.transport
        transport.abortConnection()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """It ended before its header."""
        self._factory.waiting.discard(self)


class ProxiedFactory(ServerFactory):
    """Any factory, behind load balancers: goes below TLS where there is TLS.

    A connection from a trusted address must begin with a header; any other is the wrapped
    factory's from the start, where a header is as wrong as anything else.

    :param reactor: an IReactorTime.
    :param wrapped: the IProtocolFactory.
    :param trusted: addresses of the load balancers.
    :param timeout: seconds for the header.
    :param limit: how many may wait for theirs; past it the oldest is closed.
    :ivar waiting: those that do.
    """

    noisy = False

    def __init__(
        self, reactor: Any, wrapped: IProtocolFactory, trusted: Networks, timeout: float, limit: int
    ) -> None:
        self.wrapped: Any = wrapped
        self._trusted = trusted
        self._timeout = timeout
        self.waiting: Newcomers[HeaderReading] = Newcomers(
            reactor,
            timeout,
            limit,
            timed_out=self._no_header,
            crowded_out=HeaderReading.abort,
        )

    def change(self, trusted: Networks, timeout: float, limit: int) -> None:
        """Go by other addresses and limits from now on."""
        self._trusted = trusted
        self._timeout = timeout
        self.waiting.change(timeout, limit)

    def doStart(self) -> None:
        """A port listens."""
        super().doStart()
        self.wrapped.doStart()

    def doStop(self) -> None:
        """A port listens no more."""
        self.wrapped.doStop()
        super().doStop()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """What reads the header, or the wrapped factory's own protocol."""
        if getattr(addr, "host", "") in self._trusted:
            return HeaderReading(self, addr)
        return self.wrapped.buildProtocol(addr)

    def _no_header(self, connection: HeaderReading) -> None:
        connection.refuse(f"there was none within {self._timeout:g} s")

    def say(self, address: Any, why: str) -> None:
        """Tell the log of a connection that began without a header, or with a wrong one."""
        host = getattr(address, "host", "")
        _log.info(
            "{text}", text=f"a connection from {host}, in proxy_protocol.trusted, is closed for "
            f"want of a PROXY header: {why}", event="proxy_refused", address=host,
        )  # fmt: skip

    def close(self) -> None:
        """Close those that wait."""
        for connection in self.waiting:
            connection.abort()
        self.waiting.close()
