"""What the gateway is doing, for those who look on: read from the rules and the data plane.

Nothing here changes anything, and nothing secret comes out (tickets, keys, secrets, and the
`instance` by which a client is taken over).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar

from relayx.admin import model, queries
from relayx.admin.model import BrokerState, ClientState, PortStatus, SessionState
from relayx.core.directory import Client
from relayx.core.leases import Lease
from relayx.core.messages import Protocol, Role
from relayx.core.ports import Link, Port, Session, Status
from relayx.core.switchboard import Switchboard
from relayx.core.zmtpseen import ZmtpSeen
from relayx.planes import Look, Planes, Side
from relayx.rates import Rates
from relayx.srt.dropping import Dropped
from relayx.srt.statistics import LinkState
from relayx.zmq.counts import BrokerReport, Moved

T = TypeVar("T")
V = TypeVar("V")

MOST_KEPT_FRESH = 1000
"""Sessions that are looked at for their rates though nobody asks; each look takes microseconds."""


class View:
    """What there is to see of one gateway.

    :param clock: an IReactorTime, whose seconds are since the epoch.
    :param reports: gives each broker.
    """

    def __init__(
        self,
        switchboard: Switchboard,
        plane: Planes,
        clock: Any,
        reports: Callable[[], Iterable[BrokerReport]] = tuple,
    ) -> None:
        self._reports = reports
        self._board = switchboard.board
        self._planes = plane
        self._clock = clock
        self._rates = Rates()
        self._began = clock.seconds()

    # all of it

    def clients_by_role(self) -> dict[Role, model.ClientCount]:
        """How many clients there are."""
        board, rules = self._board, self._board.rules
        lost = Counter(client.role for client in board.roster.lost())
        most = {Role.FE: rules.max_fe, Role.BE: rules.max_be}
        return {
            role: model.ClientCount(
                registered=board.roster.count(role), lost=lost[role], most=most[role]
            )
            for role in Role
        }

    def ports_by_protocol(self) -> dict[Protocol, model.PortCount]:
        """How many ports there are."""
        found = {}
        for protocol in Protocol:
            ports = self._board.ports.of(protocol)
            counts = Counter(map(_port_status, ports))
            found[protocol] = model.PortCount(
                total=len(ports), **{str(status): counts[status] for status in PortStatus}
            )
        return found

    def lease_count(self) -> int:
        """How many leases there are."""
        return len(self._board.leases)

    def session_count(self) -> model.SessionCount:
        """How many sessions there are, and have been."""
        ended = {str(cause): n for cause, n in sorted(self._board.sessions_ended.items())}
        return model.SessionCount(running=len(self._board.sessions), ended=ended)

    def moved(self) -> tuple[int, float]:
        """Bytes delivered since the start, and a second of late."""
        now, total = self._clock.seconds(), self._planes.bytes_moved()
        return total, self._rates.of("", now, (total,), self._began)[0]

    def keep_rates_fresh(self) -> int:
        """Look at what moves, so that whoever asks once an hour is told of late, not of the hour.

        :return: bytes delivered since the start.
        """
        now = self._clock.seconds()
        for session in islice(self._board.sessions.values(), MOST_KEPT_FRESH):
            self._moved_in(session, self._planes.look(session.pairing_id), now)
        return self.moved()[0]

    # lists

    def clients(self, query: queries.ClientQuery) -> model.Page[model.Client]:
        """Who is there, by role and id."""
        board = self._board
        clients = sorted(
            [*board.roster, *board.roster.lost()], key=lambda c: (c.role, c.client_id, c.order)
        )

        def wanted(client: Client) -> bool:
            return (
                query.role in (None, client.role)
                and query.state in (None, _client_state(client))
                and query.client_id in (None, client.client_id)
                and query.address in (None, client.address)
            )

        leases = Counter(id(lease.owner) for lease in board.leases)
        sessions = Counter(
            id(board.roster.owner(link))
            for session in board.sessions.values()
            for link in (session.fe, session.be)
        )

        def shown(client: Client) -> model.Client:
            return model.Client(
                client_id=client.client_id,
                role=client.role,
                state=_client_state(client),
                address=client.address,
                protocol="1.1" if client.v11 else "1.0",
                registered_at=_when(client.since),
                telemetry=client.telemetry,
                leases=leases[id(client)],
                sessions=sessions[id(client)],
            )

        return _page(clients, wanted, shown, query)

    def ports(self, query: queries.PortQuery) -> model.Page[model.Port]:
        """The data ports, by number."""

        def wanted(port: Port) -> bool:
            return (
                query.protocol in (None, port.protocol)
                and query.state in (None, _port_status(port))
                and query.service in (None, port.service or "")
                and query.client_id in (None, "" if port.be is None else port.be.client_id)
            )

        # those that a reload has added are at the end of the board
        ports = sorted(self._board.ports, key=lambda port: port.number)
        return _page(ports, wanted, _shown_port, query)

    def brokers(self, query: queries.Paging) -> model.Page[model.Broker]:
        """The brokers, in the order of the configuration."""
        return _page(self._reports(), lambda _: True, _shown_broker, query)

    def leases(self, query: queries.LeaseQuery) -> model.Page[model.Lease]:
        """What is kept for whom, the first to expire first."""

        def wanted(lease: Lease) -> bool:
            return (
                query.role in (None, lease.role)
                and query.client_id in (None, lease.owner.client_id)
                and query.service in (None, lease.service)
                and (
                    query.protocol is None
                    or any(port.protocol is query.protocol for port in lease.ports)
                )
            )

        leases = sorted(self._board.leases, key=lambda lease: (lease.expires, lease.session_id))
        return _page(leases, wanted, _shown_lease, query)

    def sessions(self, query: queries.SessionQuery) -> model.Page[model.Session]:
        """What runs, the oldest first."""
        ids = query.client_id

        def wanted(session: Session) -> bool:
            return (
                query.protocol in (None, session.be.port.protocol)
                and query.port in (None, session.be.port.number)
                and query.service in (None, session.be.hello.service)
                and query.session_id in (None, session.session_id)
                and query.state in (None, self._session_state(session))
                and (ids is None or ids in (self._whose(session.fe), self._whose(session.be)))
            )

        return _page(self._board.sessions.values(), wanted, self._shown_session, query)

    def _whose(self, link: Link) -> str:
        owner = self._board.roster.owner(link)
        return link.client_id if owner is None else owner.client_id

    def _session_state(self, session: Session) -> SessionState:
        if session.draining:
            return SessionState.DRAINING
        running = self._planes.look(session.pairing_id)
        ending = session.ending or running is None or running.cause is not None
        return SessionState.ENDING if ending else SessionState.RUNNING

    def _shown_session(self, session: Session) -> model.Session:
        now = self._clock.seconds()
        port = session.be.port
        running = self._planes.look(session.pairing_id)
        moved, rates = self._moved_in(session, running, now)
        started = now if running is None else running.started
        return model.Session(
            pairing_id=session.pairing_id,
            session_id=session.session_id,
            trace_id=session.trace_id,
            protocol=port.protocol,
            port=port.number,
            service=session.be.hello.service,
            state=self._session_state(session),
            cause="" if running is None or running.cause is None else str(running.cause),
            keep=running is not None and running.keep,
            fe=self._end(session.fe, running, fe=True),
            be=self._end(session.be, running, fe=False),
            started_at=_when(started),
            seconds=round(now - started, 3),
            fe_to_be_bytes=moved[0],
            be_to_fe_bytes=moved[1],
            fe_to_be_rate=rates[0],
            be_to_fe_rate=rates[1],
            zmtp=None if running is None else _shown_zmtp(running.zmtp),
        )

    def _moved_in(
        self, session: Session, running: Look | None, now: float
    ) -> tuple[tuple[int, int], tuple[float, ...]]:
        """Bytes to the BE and to the FE, and a second of late."""
        moved = (0, 0) if running is None else (running.to_be, running.to_fe)
        started = now if running is None else running.started
        return moved, self._rates.of(session.pairing_id, now, moved, started)

    def _end(self, link: Link, running: Look | None, *, fe: bool) -> model.End:
        """One end of a session."""
        stalled = throttled = 0.0
        side = Side()
        if running is not None:
            side, stalls = running.fe if fe else running.be, running.stalls
            stalled = stalls.fe if fe else stalls.be
            throttled = stalls.fe_throttled if fe else stalls.be_throttled
        return model.End(
            client_id=self._whose(link),
            address=link.address,
            transport=link.transport,
            link=None if side.link is None else _shown_link(side.link, side.dropped),
            pushed_back=side.pushed_back and not side.held_back,
            held_back=side.held_back,
            stalled=round(stalled, 3),
            throttled=round(throttled, 3),
        )


def _page(
    items: Iterable[T], wanted: Callable[[T], bool], shown: Callable[[T], V], query: queries.Paging
) -> model.Page[V]:
    """A page of those that are wanted; only what is on it is looked at closely."""
    found = [item for item in items if wanted(item)]
    chosen = found[query.offset : query.offset + query.limit]
    return model.Page(
        items=tuple(map(shown, chosen)), total=len(found), limit=query.limit, offset=query.offset
    )


def _when(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _client_state(client: Client) -> ClientState:
    return ClientState.LOST if client.lost else ClientState.LIVE


def _port_status(port: Port) -> PortStatus:
    if port.status is Status.BUSY:
        return PortStatus.BUSY
    return PortStatus.RESERVED if port.reserved else PortStatus(port.status.value)


def _shown_port(port: Port) -> model.Port:
    be, lease, session = port.be, port.lease, port.session
    return model.Port(
        port=port.number,
        protocol=port.protocol,
        state=_port_status(port),
        service=port.service or "",
        client_id="" if be is None else be.client_id,
        address="" if be is None else be.address,
        session_id="" if lease is None else lease.session_id,
        transport="" if be is None else be.transport,
        pairing_id="" if session is None else session.pairing_id,
        sessions=len(port.sessions),
    )


def _shown_link(link: LinkState, dropped: Dropped) -> model.SrtLink:
    return model.SrtLink(
        rtt_ms=round(link.rtt_ms, 3),
        send_rate_bps=round(link.send_rate_bps),
        recv_rate_bps=round(link.recv_rate_bps),
        send_loss_percent=round(link.send_loss_percent, 3),
        recv_loss_percent=round(link.recv_loss_percent, 3),
        retransmitted=link.retransmitted,
        sent_late=link.send_dropped,
        received_late=link.recv_dropped,
        send_buffer_bytes=link.send_buffer_bytes,
        send_buffer_ms=link.send_buffer_ms,
        send_latency_ms=link.send_latency_ms,
        receive_latency_ms=link.receive_latency_ms,
        messages_dropped=dropped.messages,
        dropping_seconds=dropped.seconds,
        dropping=dropped.now,
    )


def _shown_zmtp(zmtp: ZmtpSeen | None) -> model.Zmtp | None:
    if zmtp is None:
        return None
    return model.Zmtp(
        mechanism=zmtp.mechanism,
        fe_type=zmtp.fe_type,
        be_type=zmtp.be_type,
        fe_to_be_messages=zmtp.fe_to_be_messages,
        be_to_fe_messages=zmtp.be_to_fe_messages,
    )


def _shown_broker(report: BrokerReport) -> model.Broker:
    state = BrokerState.STALLED if report.stalled else BrokerState.RUNNING
    moved, durations = report.moved, report.durations
    return model.Broker(
        pattern=report.pattern,
        state=state if report.running else BrokerState.ENDED,
        security=report.security,
        frontend=model.BrokerSide(
            port=report.frontend,
            connections=report.live[0],
            accepted=report.accepted[0],
            received=_shown_moved(moved.frontend_received),
            sent=_shown_moved(moved.frontend_sent),
        ),
        backend=model.BrokerSide(
            port=report.backend,
            connections=report.live[1],
            accepted=report.accepted[1],
            received=_shown_moved(moved.backend_received),
            sent=_shown_moved(moved.backend_sent),
        ),
        handshake_failures=report.failures,
        answers=0 if durations is None else durations.count,
        answer_seconds=0.0 if durations is None else round(durations.sum, 6),
    )


def _shown_moved(moved: Moved) -> model.Moved:
    return model.Moved(parts=moved.parts, bytes=moved.bytes)


def _shown_lease(lease: Lease) -> model.Lease:
    return model.Lease(
        session_id=lease.session_id,
        client_id=lease.owner.client_id,
        role=lease.role,
        service=lease.service,
        ports=tuple(port.number for port in lease.ports),
        expires_at=_when(lease.expires),
        trace_id=lease.trace_id,
    )
