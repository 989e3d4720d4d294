"""The rules for what meets the data ports first: ``data.tls`` and ``proxy_protocol``."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from relayx.config.faults import Fault, shown
from relayx.config.model import Config

_ADDRESSES = "an IP address, or a network such as 10.1.0.0/16"


def edge_faults(file: str, config: Config, broken: frozenset[str]) -> Iterator[Fault]:
    """What is wrong with them; nothing is said about the dotted keys in `broken`."""
    tls = config.data.tls
    files = {"data.tls.certificate": tls.certificate, "data.tls.private_key": tls.private_key}
    if not broken & files.keys():
        missing = [key for key, path in files.items() if not path]
        if len(missing) == 1:
            (there,) = files.keys() - set(missing)
            yield Fault(
                file, missing[0], '""', f"is empty, and {there} is not", "both files, or neither"
            )
        elif missing and tls.required and "data.tls.required" not in broken:
            problem = "and there is no data.tls.certificate: nobody could connect"
            yield Fault(file, "data.tls.required", "true", problem, "false, or both files")
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
