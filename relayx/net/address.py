"""Addresses in one spelling, so that they can be compared."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache


@lru_cache(maxsize=4096)
def plain(host: str) -> str:
    """An IP address in its usual form; an IPv4-mapped IPv6 one as IPv4 (contract section 6)."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(plain(host)).is_loopback
    except ValueError:
        return False


_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


class Networks:
    """A set of addresses, given as addresses and networks; IPv4-mapped ones count as IPv4."""

    def __init__(self, entries: Iterable[str]) -> None:
        """:raises ValueError: where an entry is neither an address nor a network."""
        self._networks = [_as_ipv4(ipaddress.ip_network(entry)) for entry in entries]
        self._known: dict[str, bool] = {}

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, host: str) -> bool:
        """Whether a host's address is one of them."""
        found = self._known.get(host)
        if found is None:
            if len(self._known) >= 4096:
                self._known.clear()
            found = self._known[host] = self._look(plain(host))
        return found

    def _look(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self._networks)


def _as_ipv4(
    network: ipaddress.IPv4Network | ipaddress.IPv6Network,
) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        host = ipaddress.IPv4Address(network.network_address.packed[12:])
        return ipaddress.IPv4Network((host, network.prefixlen - 96))
    return network
