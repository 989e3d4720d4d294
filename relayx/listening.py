"""What the gateway listens on: control endpoints, data ports and the admin HTTP, all or none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.error import CannotListenError

from relayx.adminport import AdminPort
from relayx.config.endpoints import ssl_files
from relayx.config.model import Config
from relayx.control.factory import ControlFactory
from relayx.core.errors import RelayError
from relayx.core.ports import Port
from relayx.net.address import Networks
from relayx.net.inherited import AdoptingReactor, Inherited
from relayx.net.listening import listen_at_once, reason
from relayx.net.proxied import ProxiedFactory
from relayx.net.tls import ListeningReactor, ServerFiles, ServerTls
from relayx.planes import Planes

BACKLOG = 512
"""Control connections that may wait to be accepted: all clients come back at once when a gateway
has been started again, and one that finds no room tries again only a second later."""


class StartError(RelayError):
    """The gateway cannot start; the text says what is in the way."""


class BindError(StartError):
    """A port could not be listened on; the text names it."""


class Listening:
    """The listening ports of one gateway.

    :param admin: the admin HTTP, None where it is off.
    :param inherited: sockets that listen already.
    :ivar tls: what ``ssl:`` control endpoints make connections with; `http_tls` likewise.
    :ivar proxied: the factories that read PROXY headers below control endpoints.
    """

    def __init__(
        self,
        reactor: Any,
        config: Config,
        control: ControlFactory,
        data: Planes,
        inherited: Inherited | None,
    ) -> None:
        self.admin: AdminPort | None = None
        self.tls: list[ServerTls] = []
        self.http_tls: list[ServerTls] = []
        self.proxied: list[ProxiedFactory] = []
        self._reactor = reactor
        self._config = config
        self._control = control
        self._data = data
        self._inherited = inherited or Inherited()
        self._adopting = AdoptingReactor(reactor, self._inherited)
        self._trusted = Networks(config.proxy_protocol.trusted)
        self._control_ports: list[Any] = []
        self._http_port: Any = None

    @property
    def control_addresses(self) -> list[Any]:
        """Where the control plane listens, an IAddress each."""
        return [port.getHost() for port in self._control_ports]

    @property
    def http_address(self) -> Any:
        """Where the admin HTTP listens, an IAddress; None where it does not."""
        return None if self._http_port is None else self._http_port.getHost()

    def begin(self, ports: Iterable[Port]) -> None:
        """Listen on everything.

        :raises BindError: naming the first that cannot be listened on.
        """
        for endpoint in self._config.control.endpoints or (
            f"tcp:{self._config.relay.control_port}:backlog={BACKLOG}",
        ):
            self._listen_control(endpoint)
        for port in ports:
            if port.broker is None:  # libzmq listens on those
                self._listen_data(port)
        self._listen_http()

    def leave_unused(self) -> list[str]:
        """Close the inherited sockets that nothing is configured for; a line about each."""
        unused = [*self._inherited.refused, *self._inherited.unused()]
        self._inherited.close()
        return unused

    def _listen_control(self, endpoint: str) -> None:
        try:
            tls = _tls_for(endpoint, self.tls, self._config.control.client_ca)
            listening = ListeningReactor(self._adopting, tls, self._wrap_control)
            port = listen_at_once(listening, endpoint, self._control)
        except RelayError as fault:
            raise BindError(f"cannot listen on control endpoint {endpoint}: {fault}") from None
        self._control_ports.append(port)

    def _wrap_control(self, factory: Any) -> Any:
        """A factory that reads PROXY headers below another, from proxies that are trusted."""
        told = self._config.control
        wrapped = ProxiedFactory(
            self._reactor, factory, self._trusted, told.register_timeout, told.max_unregistered
        )
        self.proxied.append(wrapped)
        return wrapped

    def _listen_data(self, port: Port) -> None:
        number, interface = port.number, self._config.data.interface
        try:
            adopted = self._inherited.take(number, interface)
            self._data.listen(number, port.protocol, adopted)
        except CannotListenError as error:
            where = interface or "every IPv4 address"
            raise BindError(
                f"cannot listen on {port.protocol} port {number} of {where}: {reason(error)}"
            ) from None

    def _listen_http(self) -> None:
        endpoint = self._config.http.endpoint
        if self.admin is None:
            return
        try:
            # Of its own, so that health is told until the end, whose socket it may be.
            adopting = AdoptingReactor(self._reactor, self._inherited)
            listening = ListeningReactor(adopting, _tls_for(endpoint, self.http_tls, ""))
            self._http_port = listen_at_once(listening, endpoint, self.admin.factory)
        except RelayError as fault:
            raise BindError(f"cannot listen on http endpoint {endpoint}: {fault}") from None
        self.admin.listens_on(self._http_port.getHost())

    def leave_adopted(self) -> None:
        """Who connects from now on to a socket that outlives us waits for the next gateway."""
        adopted = self._adopting.adopted
        self._control_ports = [port for port in self._control_ports if port not in adopted]
        for port in adopted:
            port.stopListening()
        self._data.leave_adopted()

    def end(self) -> None:
        """Listen on nothing any more."""
        ports, self._control_ports = self._control_ports, []
        for port in ports:
            port.stopListening()
        self._stop_http()
        self._data.stop_listening()

    def close_connections(self) -> None:
        """Close those that are there."""
        for proxied in self.proxied:
            proxied.close()
        self._control.close()
        self._data.close()
        if self.admin is not None:
            self.admin.close()

    def open_connections(self) -> int:
        """How many are there."""
        count = self._control.open_connections() + self._data.open_connections()
        return count + (self.admin.open_connections() if self.admin is not None else 0)

    def release(self) -> None:
        """Nobody is waited for any more, and nearly always every connection is gone."""
        self._control.release()
        self._data.release()
        self._stop_http()
        if self.admin is not None:
            self.admin.close()
            self.admin.release()

    def _stop_http(self) -> None:
        if self._http_port is not None:
            self._http_port.stopListening()
            self._http_port = None


def _tls_for(endpoint: str, kept: list[ServerTls], client_ca: str) -> ServerTls | None:
    """What an ``ssl:`` endpoint makes connections with; None where it is none."""
    told = ssl_files(endpoint)
    if told is None:
        return None
    tls = ServerTls(
        ServerFiles(
            certificate=told.certificate,
            private_key=told.private_key,
            chain=told.chain,
            client_ca=client_ca,
        )
    )
    kept.append(tls)
    return tls
