"""Ports that the system hands out by itself (ip(7), ip_local_port_range), and ours among them.

A data port in that range is taken whenever some program's outgoing connection got it first, and
then the gateway does not start.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from relayx.config.faults import Fault
from relayx.config.model import Config

PROC = Path("/proc/sys/net/ipv4")


class LocalPorts(msgspec.Struct, frozen=True):
    """What the system may hand out.

    :ivar handed_out: from the first to the last.
    :ivar reserved: ranges in it that it leaves alone.
    """

    handed_out: range = range(0)
    reserved: tuple[range, ...] = ()

    @classmethod
    def here(cls, proc: Path = PROC) -> LocalPorts:
        """This machine's, nothing where that cannot be told."""
        try:
            first, last = map(int, (proc / "ip_local_port_range").read_text().split())
            text = (proc / "ip_local_reserved_ports").read_text().strip()
            reserved = [part.partition("-") for part in text.split(",") if part]
            spans = tuple(range(int(low), int(high or low) + 1) for low, _, high in reserved)
        except (OSError, ValueError):
            return cls()
        return cls(range(first, last + 1), spans)

    def at_risk(self, ports: range) -> list[range]:
        """Those of `ports` that the system may hand out, in rows."""
        found: list[range] = []
        for port in ports:
            if port not in self.handed_out or any(port in span for span in self.reserved):
                continue
            if found and found[-1].stop == port:
                found[-1] = range(found[-1].start, port + 1)
            else:
                found.append(range(port, port + 1))
        return found


def ephemeral_warnings(file: str, config: Config, local: LocalPorts) -> list[Fault]:
    """A warning for each protocol that has ports at risk."""
    ranges = {protocol: config.relay.ports(protocol) for protocol in ("srt", "zmq")}
    risky = {protocol: local.at_risk(ports) for protocol, ports in ranges.items()}
    all_risky = [row for rows in risky.values() for row in rows]
    to_reserve = ",".join(map(_span, [*local.reserved, *all_risky]))
    warnings = []
    for protocol, rows in risky.items():
        if not rows:
            continue
        first, last = local.handed_out[0], local.handed_out[-1]
        problem = (
            f"means {', '.join(map(_span, rows))}, which the system hands out to outgoing"
            f" connections ({first}-{last}, net.ipv4.ip_local_port_range), so that a gateway may"
            " find one taken as it starts; reserve what it may not hand out:"
            f" sysctl -w net.ipv4.ip_local_reserved_ports={to_reserve}"
        )
        value = _span(ranges[protocol])
        warnings.append(Fault(file, f"relay.{protocol}_start_port", value, problem))
    return warnings


def _span(ports: range) -> str:
    return str(ports[0]) if len(ports) == 1 else f"{ports[0]}-{ports[-1]}"
