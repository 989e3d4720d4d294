"""Where a configuration listens, as a firewall and a socket unit need to know it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator

import msgspec

from relayx.config.endpoints import EndpointError, endpoint_interface, endpoint_port
from relayx.config.model import Config
from relayx.config.srt import Enabled

EVERY_IPV4 = "0.0.0.0"
EVERY = "::"


class Listener(msgspec.Struct, frozen=True):
    """TCP ports in a row at one address, and with `udp` the same UDP ports.

    :ivar purpose: ``control``, ``http``, ``srt`` or ``zmq``.
    :ivar interface: an address or a host name; ``0.0.0.0`` every IPv4 address, ``::`` every one.
    :ivar udp: whether real SRT is there too.
    :ivar text: what the configuration says where no port can be told from it, else "".
    """

    purpose: str
    interface: str
    ports: range
    text: str = ""
    udp: bool = False

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The one address that it listens on; None: every one, or a name's."""
        try:
            found = ipaddress.ip_address(self.interface.partition("%")[0])
        except ValueError:
            return None
        return None if found.is_unspecified else found

    @property
    def is_local(self) -> bool:
        """Whether this machine alone can reach it."""
        return self.interface == "localhost" or (
            self.address is not None and self.address.is_loopback
        )

    @property
    def span(self) -> str:
        """The ports as ``first-last``, or the one."""
        first, last = self.ports[0], self.ports[-1]
        return str(first) if first == last else f"{first}-{last}"


def listeners(config: Config) -> list[Listener]:
    """Every place where this configuration listens, in the order of the file."""
    found: list[Listener] = []
    for text in config.control.endpoints or (f"tcp:{config.relay.control_port}",):
        _add(found.append, "control", text)
    for protocol in ("srt", "zmq"):
        if ports := config.relay.ports(protocol):
            interface = config.data.interface or EVERY_IPV4
            udp = protocol == "srt" and config.srt.enabled is not Enabled.NO
            found.append(Listener(protocol, interface, ports, udp=udp))
    if config.http.endpoint:
        _add(found.append, "http", config.http.endpoint)
    return found


def _add(add: Callable[[Listener], None], purpose: str, text: str) -> None:
    try:
        port = endpoint_port(text)
    except EndpointError:  # which every user of a configuration has been told before
        port = None
    if port is None:
        if not text.startswith("unix:"):
            add(Listener(purpose, "", range(0), text))
        return
    add(Listener(purpose, endpoint_interface(text) or EVERY_IPV4, range(port, port + 1)))


def known(each: list[Listener]) -> Iterator[Listener]:
    """Those whose ports are known."""
    return (listener for listener in each if listener.ports)


def opened_line(config: Config) -> str:
    """What a firewall has to let through, on one line."""
    tcp, udp = [], []
    for listener in known(listeners(config)):
        if not listener.is_local:
            where = "" if listener.address is None else f" of {listener.address}"
            tcp.append(f"{listener.span}{where} ({listener.purpose})")
            udp += tcp[-1:] if listener.udp else []
    parts = [f"tcp {', '.join(tcp) or 'nothing'}", *([f"udp {', '.join(udp)}"] if udp else [])]
    return f"firewall: {'; '.join(parts)}; relayx firewall prints the rules"
