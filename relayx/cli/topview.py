"""What ``relayx top`` shows, as rich has it."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from relayx.admin.model import End, GatewayState, History, Page, Session, SrtLink, Status

_BARS = " ▁▂▃▄▅▆▇█"
_STYLES = {GatewayState.READY: "green", GatewayState.DRAINING: "yellow"}
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_HEAD = 2
"""Lines above the rows of a table."""


class Seen(msgspec.Struct, frozen=True):
    """What was asked for at one time."""

    status: Status
    sessions: Page[Session]
    history: History


class Leg(NamedTuple):
    """One side of a session that is SRT."""

    port: int
    role: str
    end: End
    link: SrtLink


def amount(count: float) -> str:
    """Bytes for a person."""
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


def bits(rate: float) -> str:
    """Bits a second for a person; the column has the unit."""
    return amount(rate).removesuffix("B").rstrip()


def span(seconds: float) -> str:
    """Seconds for a person."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    hours = whole // 3600
    return f"{hours}h{whole // 60 % 60:02}m" if hours < 48 else f"{hours // 24}d{hours % 24:02}h"


def spark(history: History, now: float, width: int = 50) -> Text:
    """Throughput of the last minutes, a bar a point."""
    late = history.points[-(width - 1) :]
    rates = [*(point.throughput for point in late), now]
    peak = max(rates)
    bars = "".join(_BARS[round(rate / peak * 8)] if peak else _BARS[0] for rate in rates)
    return Text.assemble((bars.rjust(width), "cyan"), f" {amount(now)}/s, up to {amount(peak)}/s")


def screen(seen: Seen, url: str, most: int | None = None) -> RenderableType:
    """All of it.

    :param most: lines that sessions and their SRT links may take; None for no limit.
    """
    status = seen.status
    head = Text.assemble(
        ("relayx ", "bold"), status.version, f" at {url}  ",
        (str(status.state), _STYLES.get(status.state, "red")),
        f"  up {span(status.uptime)}  configuration {status.revision}",
    )  # fmt: skip
    for why in status.reasons:
        head.append(f"\n{why}", "yellow")
    found = seen.sessions
    fastest = sorted(found.items, key=lambda s: -(s.fe_to_be_rate + s.be_to_fe_rate))
    links = [leg for session in fastest for leg in legs(session)]
    count = len(links)
    if most is not None:
        # where it is tight, half is for the sessions
        left = max(most // 2, most - _HEAD - count) if links else most
        fastest = fastest[: max(1, left)]
        links = links[: max(1, most - _HEAD - len(fastest))]
    parts: list[Text | Table] = [spark(seen.history, status.throughput), _counts(status)]
    parts.append(_sessions(fastest, found.total))
    if links:
        parts.append(_links(links, count))
    return Group(head, *parts)


def _counts(status: Status) -> Table:
    table = Table("", "total", "ready", "busy", "empty", "reserved", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for protocol, ports in status.ports.items():
        counts = (ports.total, ports.ready, ports.busy, ports.empty, ports.reserved)
        table.add_row(f"{protocol} ports", *map(str, counts))
    for role, clients in status.clients.items():
        lost = f", {clients.lost} lost" if clients.lost else ""
        table.add_row(f"{role} clients", f"{clients.registered}/{clients.most}{lost}")
    for broker in status.brokers:
        front, back = broker.frontend, broker.backend
        table.add_row(
            f"{broker.pattern} broker", f"{front.port}/{back.port}", str(broker.state), "", "",
            f"{front.connections} and {back.connections} connected, "
            f"{amount(front.received.bytes + back.received.bytes)} received",
        )  # fmt: skip
    table.add_row("leases", str(status.leases))
    ended = sum(status.sessions.ended.values())
    table.add_row("sessions", f"{status.sessions.running}", "", "", "", f"{ended} ended")
    return table


def _table(title: str, *columns: tuple[str, bool], gap: int = 2) -> Table:
    """An empty one, of columns and whether they are numbers."""
    table = Table(
        title=title,
        title_justify="left",
        box=None,
        pad_edge=False,
        expand=True,
        padding=(0, gap, 0, 0),
    )
    for name, right in columns:
        table.add_column(
            name,
            justify="right" if right else "left",
            overflow="ellipsis",
            no_wrap=True,
            ratio=1 if name in ("FE", "BE", "peer") else None,  # ids give way where it is narrow
        )
    return table


def _sessions(fastest: list[Session], total: int) -> Table:
    title = f"{total} sessions"
    if len(fastest) < total:
        title += f", the fastest {len(fastest)}"
    table = _table(
        title,
        ("FE", False), ("BE", False), ("port", True), ("service", False), ("state", False),
        ("to BE", True), ("to FE", True), ("bytes", True), ("for", True),
    )  # fmt: skip
    for session in fastest:
        table.add_row(
            Text(session.fe.client_id or session.fe.address),
            Text(session.be.client_id or session.be.address),
            str(session.port),
            Text(session.service),
            Text(_state(session)),
            f"{amount(session.fe_to_be_rate)}/s",
            f"{amount(session.be_to_fe_rate)}/s",
            amount(session.fe_to_be_bytes + session.be_to_fe_bytes),
            span(session.seconds),
        )
    return table


def legs(session: Session) -> list[Leg]:
    """Its sides that are SRT, the FE first."""
    return [
        Leg(session.port, role, end, end.link)
        for role, end in (("FE", session.fe), ("BE", session.be))
        if end.link is not None
    ]


def _links(shown: list[Leg], total: int) -> Table:
    """A line for each; loss and latency are those of the worse direction."""
    title = f"{total} SRT links"
    if len(shown) < total:
        title += f", {len(shown)} of them"
    table = _table(
        title,
        ("peer", False), ("", False), ("port", True), ("RTT ms", True), ("send bps", True),
        ("recv bps", True), ("loss %", True), ("resent", True), ("dropped", True), ("late", True),
        ("latency", True),
        gap=1,
    )  # fmt: skip
    for port, role, end, link in shown:
        table.add_row(
            Text(end.client_id or end.address),
            role,
            str(port),
            f"{link.rtt_ms:.1f}",
            bits(link.send_rate_bps),
            bits(link.recv_rate_bps),
            f"{max(link.send_loss_percent, link.recv_loss_percent):.1f}",
            str(link.retransmitted),
            str(link.messages_dropped),
            str(link.received_late),
            f"{max(link.send_latency_ms, link.receive_latency_ms)} ms",
            style="yellow" if link.dropping else "",
        )
    return table


def _state(session: Session) -> str:
    for name, end in (("FE", session.fe), ("BE", session.be)):
        if end.link is not None and end.link.dropping:
            return f"{name} drops"
    if session.fe.pushed_back or session.be.pushed_back:
        return "BE slow" if session.fe.pushed_back else "FE slow"
    if session.fe.held_back or session.be.held_back:
        return "at limit"
    return session.cause or str(session.state)


def trouble(text: str) -> RenderableType:
    """What is shown while the gateway does not answer."""
    return Panel(Text(text, "red"), title="no answer; trying again, q ends")
