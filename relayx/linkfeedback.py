"""``telemetry`` with a link: how an FE's SRT connection is, told to the BE that sends to it.

An encoder can lower its rate before anything is dropped. It goes to BEs that asked for it in
``register``, once for each measurement of a link (once a second) and each session: with several
FEs at one stream, its BE is told of each.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from relayx.control.factory import ControlFactory
from relayx.core.messages import FrontEndLink, Role, Telemetry, Transport
from relayx.core.ports import Session
from relayx.core.switchboard import Switchboard
from relayx.planes import Planes, Side
from relayx.srt.statistics import LinkState

SPAN = 0.5
"""Seconds over which the speed of all sessions is taken, at least."""


class _Seen(NamedTuple):
    link: LinkState
    dropped: int


class LinkFeedback:
    """Sends what is new about the links of FEs.

    :param clock: an IReactorTime.
    """

    def __init__(
        self, clock: Any, switchboard: Switchboard, control: ControlFactory, planes: Planes
    ) -> None:
        self._clock = clock
        self._switchboard = switchboard
        self._control = control
        self._planes = planes
        self._seen: dict[str, _Seen] = {}
        self._since = clock.seconds()
        self._moved = 0
        self._mbps = 0.0

    def measured(self) -> None:
        """The state of some links is new; those of which it is not are left alone."""
        if not any(client.link_telemetry for client in self._switchboard.clients(Role.BE)):
            self._seen.clear()
            return
        seen, self._seen = self._seen, {}
        for session in self._switchboard.board.sessions.values():
            if session.fe.transport is not Transport.SRT:
                continue
            look = self._planes.look(session.pairing_id)
            if look is None or look.fe.link is None:
                continue
            before = seen.get(session.pairing_id)
            self._seen[session.pairing_id] = _Seen(look.fe.link, look.fe.dropped.messages)
            # The first is of a link that has just begun: there are no rates yet.
            if before is not None and before.link is not look.fe.link:
                self._tell(session, look.fe.link, look.fe, before)
            elif before is not None:
                self._seen[session.pairing_id] = before

    def _tell(self, session: Session, link: LinkState, side: Side, before: _Seen) -> None:
        client = self._switchboard.board.roster.owner(session.be)
        connection = None if client is None else self._control.get(client.conn)
        if client is None or connection is None or not client.link_telemetry:
            return
        if connection.outbox.lags:  # it is worth having while it is fresh alone
            return
        message = Telemetry(
            current_speed=self._speed(),
            link=FrontEndLink(
                pairing_id=session.pairing_id,
                session_id=session.session_id,
                port=session.be.port.number,
                rtt_ms=round(link.rtt_ms, 3),
                loss_percent=round(link.send_loss_percent, 3),
                retransmitted=max(0, link.retransmitted - before.link.retransmitted),
                dropped=max(0, side.dropped.messages - before.dropped),
                send_buffer_bytes=link.send_buffer_bytes,
                send_buffer_ms=link.send_buffer_ms,
                send_rate_bps=round(link.send_rate_bps),
                latency_ms=link.send_latency_ms,
            ),
        )
        connection.send(message, session.trace_id)

    def _speed(self) -> float:
        now = self._clock.seconds()
        if now - self._since >= SPAN:
            moved = self._planes.bytes_moved()
            mbps = (moved - self._moved) * 8 / 1e6 / (now - self._since)
            self._since, self._moved, self._mbps = now, moved, round(max(0.0, mbps), 6)
        return self._mbps
