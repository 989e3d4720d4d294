"""The texts of ``relayx firewall``, after the guide's section 8.4 (nft(8), iptables-restore(8))."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from relayx.config.listeners import EVERY_IPV4, Listener, known

CHAIN = "RELAYX-INPUT"
DHCPV6_CLIENT = 546


class Whitelist(msgspec.Struct, frozen=True):
    """What is let through.

    :ivar source: the configuration that it is for.
    :ivar ssh: TCP ports of SSH.
    """

    source: str
    ssh: list[int]
    listeners: list[Listener]

    def open(self) -> list[Listener]:
        """Where others than this machine come in."""
        return [listener for listener in known(self.listeners) if not listener.is_local]

    def unknown(self) -> Iterator[str]:
        """A remark for each endpoint that names no port."""
        for listener in self.listeners:
            if not listener.ports:
                shown = " ".join(listener.text.split())
                yield f"# {listener.purpose} endpoint {shown}: its port is not known here; add it"


def nft_rules(whitelist: Whitelist) -> str:
    """A table of its own, which replaces the one of before as a whole."""
    ssh = ", ".join(map(str, whitelist.ssh))
    rules = [
        'iifname "lo" accept',
        "ct state invalid drop",
        "ct state established,related accept",
        "meta l4proto { icmp, ipv6-icmp } accept",
        f"ip6 saddr fe80::/10 udp dport {DHCPV6_CLIENT} accept",
        f'tcp dport {{ {ssh} }} accept comment "ssh"',
        *(rule for listener in whitelist.open() for rule in _nft_rules(listener)),
    ]
    lines = [
        *_heading(whitelist, "relayx firewall --format nft | nft -f -", "nft -c -f -"),
        "# Tables of others are not touched, and may drop what this one lets through.",
        *whitelist.unknown(),
        "table inet relayx",
        "delete table inet relayx",
        "table inet relayx {",
        "    chain input {",
        "        type filter hook input priority filter; policy drop;",
        *(f"        {rule}" for rule in rules),
        "    }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _transports(listener: Listener) -> tuple[str, ...]:
    return ("tcp", "udp") if listener.udp else ("tcp",)


def _nft_rules(listener: Listener) -> Iterator[str]:
    address = listener.address
    where = ""
    if address is not None:
        where = f"{'ip' if address.version == 4 else 'ip6'} daddr {address} "
    elif listener.interface == EVERY_IPV4:
        where = "meta nfproto ipv4 "
    for transport in _transports(listener):
        yield f'{where}{transport} dport {listener.span} accept comment "relayx {listener.purpose}"'


def iptables_rules(whitelist: Whitelist) -> str:
    """A chain of its own; ``-4`` and ``-6`` say whose a rule is, the other one leaves it out."""
    rules = [
        "-i lo -j ACCEPT",
        "-m conntrack --ctstate INVALID -j DROP",
        "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
        "-4 -p icmp -j ACCEPT",
        "-6 -p ipv6-icmp -j ACCEPT",
        f"-6 -s fe80::/10 -p udp --dport {DHCPV6_CLIENT} -j ACCEPT",
        *(f'-p tcp --dport {port} -m comment --comment "ssh" -j ACCEPT' for port in whitelist.ssh),
        *(rule for listener in whitelist.open() for rule in _iptables_rules(listener)),
        "-j DROP",
    ]
    lines = [
        *_heading(
            whitelist,
            "relayx firewall --format iptables | iptables-restore --noflush",
            "iptables-restore --noflush --test",
        ),
        "# and the same with ip6tables-restore. The rules that INPUT has already go first.",
        *whitelist.unknown(),
        "*filter",
        f":{CHAIN} - [0:0]",
        *(_appended(rule) for rule in rules),
        f"-A INPUT -j {CHAIN}",
        "COMMIT",
    ]
    return "\n".join(lines) + "\n"


def _appended(rule: str) -> str:
    """``-4`` and ``-6`` stand before the command."""
    family = rule[:3] if rule[:3] in ("-4 ", "-6 ") else ""
    return f"{family}-A {CHAIN} {rule[len(family) :]}"


def _iptables_rules(listener: Listener) -> Iterator[str]:
    address = listener.address
    where = ""
    if address is not None:
        where = f"-{address.version} -d {address} "
    elif listener.interface == EVERY_IPV4:
        where = "-4 "
    ports = listener.span.replace("-", ":")
    comment = f'-m comment --comment "relayx {listener.purpose}"'
    for transport in _transports(listener):
        yield f"{where}-p {transport} --dport {ports} {comment} -j ACCEPT"


def _heading(whitelist: Whitelist, apply: str, check: str) -> list[str]:
    return [
        f"# Made by relayx firewall for {' '.join(whitelist.source.split())}. Nothing is applied;",
        f"# to apply it: {apply}",
        f"# to check it only, end with: {check}",
    ]


FORMATS: dict[str, Callable[[Whitelist], str]] = {"nft": nft_rules, "iptables": iptables_rules}
"""How the rules are written, by the name of the option's value."""
