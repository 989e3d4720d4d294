"""The rules for section ``proxy_protocol``."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from relayx.config.faults import Fault, shown
from relayx.config.model import Config

_ADDRESSES = "an IP address, or a network such as 10.1.0.0/16"


def proxy_faults(file: str, config: Config, broken: frozenset[str]) -> Iterator[Fault]:
    """What is wrong with it; nothing is said about the dotted keys in `broken`."""
    if "proxy_protocol.trusted" not in broken:
        for index, entry in enumerate(config.proxy_protocol.trusted):
            if problem := _network_problem(entry):
                key = f"proxy_protocol.trusted[{index}]"
                yield Fault(file, key, shown(entry), problem, _ADDRESSES)


def _network_problem(entry: str) -> str:
    try:
        ipaddress.ip_network(entry)
    except ValueError:
        try:
            network = ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return "is neither an address nor a network"
        return f"is an address within {network} rather than a network"
    return ""
