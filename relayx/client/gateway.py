"""Where the gateway is and what opens it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from relayx.client.tls import ClientTls, TlsEndpoint
from relayx.security.trust import Trust

DEFAULT_PORT = 5555
DIAL_TIMEOUT = 3.0

EndpointMaker = Callable[[str, int], IStreamClientEndpoint]
"""Makes the endpoint that leads to a host and a TCP port."""


@dataclass(frozen=True)
class Gateway:
    """A gateway's control address, the shared secret, and what is TLS.

    :ivar host: a host name or an address, an IPv6 one without brackets.
    :ivar port: its control port.
    :ivar secret: what `register` proves; in no repr.
    :ivar trust: signs control messages and verifies the gateway's; None: neither.
    :ivar tls: TLS on the control connection; None: none.
    :ivar data_tls: TLS on data connections, True: verified as on the control connection, or by
        what the system trusts where that has none. The certificate must name the host that is
        dialled, which is a grant's where it names one.
    """

    host: str
    port: int = DEFAULT_PORT
    secret: str = field(default="", repr=False)
    trust: Trust | None = field(default=None, repr=False, compare=False)
    tls: ClientTls | None = None
    data_tls: ClientTls | bool = False

    def __post_init__(self) -> None:
        if not self.host:
            raise ValueError("the gateway's host is empty; expected HOST[:PORT]")
        if not 1 <= self.port <= 65535:
            raise ValueError(f"the gateway's port is {self.port}; allowed: 1 to 65535")

    @classmethod
    def parse(cls, address: str, secret: str) -> Gateway:
        """Read ``HOST[:PORT]``; an IPv6 address with a port stands in brackets.

        :raises ValueError: naming what is wrong with `address` and what is allowed.
        """
        expected = f"{address!r} is not HOST[:PORT] or [IPv6]:PORT"
        if address.startswith("["):
            host, bracket, rest = address[1:].partition("]")
            if not bracket or not isIPv6Address(host) or (rest and not rest.startswith(":")):
                raise ValueError(expected)
            port = rest[1:] if rest else str(DEFAULT_PORT)
        elif address.count(":") > 1:
            if not isIPv6Address(address):
                raise ValueError(expected)
            host, port = address, str(DEFAULT_PORT)
        else:
            host, colon, port = address.partition(":")
            port = port if colon else str(DEFAULT_PORT)
        if not (port.isascii() and port.isdigit()):
            raise ValueError(expected)
        return cls(host, int(port), secret)

    def control_endpoint(
        self, reactor: IReactorTime, endpoints: EndpointMaker
    ) -> IStreamClientEndpoint:
        """Leads to the control port, through TLS where that is asked for."""
        return _secured(reactor, self.tls, self.host, endpoints(self.host, self.port))

    def data_endpoint(
        self, reactor: IReactorTime, endpoints: EndpointMaker, port: int, host: str = ""
    ) -> IStreamClientEndpoint:
        """Leads to a data port, through TLS where that is asked for.

        :param host: where a grant says that it is, "" at the gateway's own.
        """
        tls = (self.tls or ClientTls()) if self.data_tls is True else self.data_tls or None
        where = host or self.host
        return _secured(reactor, tls, where, endpoints(where, port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _secured(
    reactor: IReactorTime, tls: ClientTls | None, host: str, endpoint: IStreamClientEndpoint
) -> IStreamClientEndpoint:
    return endpoint if tls is None else TlsEndpoint(reactor, tls, host, endpoint)


def tcp_endpoints(reactor: Any) -> EndpointMaker:
    """Endpoints over TCP on `reactor`, given up after 3 s each; names are resolved."""

    def make(host: str, port: int) -> IStreamClientEndpoint:
        if isIPAddress(host):
            return TCP4ClientEndpoint(reactor, host, port, timeout=DIAL_TIMEOUT)
        if isIPv6Address(host):
            return TCP6ClientEndpoint(reactor, host, port, timeout=DIAL_TIMEOUT)
        return HostnameEndpoint(reactor, host, port, timeout=DIAL_TIMEOUT)

    return make
