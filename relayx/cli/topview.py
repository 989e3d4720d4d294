"""What ``relayx top`` shows, as rich has it."""

from __future__ import annotations

import msgspec
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from relayx.admin.model import GatewayState, History, Page, Session, Status

_BARS = " ▁▂▃▄▅▆▇█"
_STYLES = {GatewayState.READY: "green", GatewayState.DRAINING: "yellow"}
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


class Seen(msgspec.Struct, frozen=True):
    """What was asked for at one time."""

    status: Status
    sessions: Page[Session]
    history: History


def amount(count: float) -> str:
    """Bytes for a person."""
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


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


def screen(seen: Seen, url: str, most: int) -> RenderableType:
    """All of it.

    :param most: sessions to show.
    """
    status = seen.status
    head = Text.assemble(
        ("relayx ", "bold"), status.version, f" at {url}  ",
        (str(status.state), _STYLES.get(status.state, "red")),
        f"  up {span(status.uptime)}  configuration {status.revision}",
    )  # fmt: skip
    for why in status.reasons:
        head.append(f"\n{why}", "yellow")
    return Group(
        head, spark(seen.history, status.throughput), _counts(status), _sessions(seen, most)
    )


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


def _sessions(seen: Seen, most: int) -> RenderableType:
    found = seen.sessions
    fastest = sorted(found.items, key=lambda s: -(s.fe_to_be_rate + s.be_to_fe_rate))[:most]
    title = f"{found.total} sessions"
    if len(fastest) < found.total:
        title += f", the fastest {len(fastest)}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, expand=True)
    for name, right in (
        ("FE", False), ("BE", False), ("port", True), ("service", False), ("state", False),
        ("to BE", True), ("to FE", True), ("bytes", True), ("for", True), *_link_columns(fastest),
    ):  # fmt: skip
        table.add_column(
            name,
            justify="right" if right else "left",
            overflow="ellipsis",
            no_wrap=True,
            ratio=1 if name in ("FE", "BE") else None,  # ids give way where it is narrow
        )
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
            *(_links(session) if _link_columns(fastest) else ()),
        )
    return table


def _link_columns(sessions: list[Session]) -> list[tuple[str, bool]]:
    """What there is to show of SRT links, where there is any; FE and BE in this order."""
    if not any(end.link for session in sessions for end in (session.fe, session.be)):
        return []
    return [("RTT ms", True), ("loss %", True), ("dropped", True)]


def _links(session: Session) -> tuple[str, str, str]:
    links = (session.fe.link, session.be.link)
    return (
        " / ".join("-" if link is None else f"{link.rtt_ms:.1f}" for link in links),
        " / ".join(
            "-" if link is None else f"{max(link.send_loss_percent, link.recv_loss_percent):.1f}"
            for link in links
        ),
        " / ".join("-" if link is None else str(link.messages_dropped) for link in links),
    )


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
