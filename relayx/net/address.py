"""Addresses in one spelling, so that they can be compared."""

from __future__ import annotations

import ipaddress
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
