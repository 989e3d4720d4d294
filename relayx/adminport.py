"""The admin HTTP of one gateway: where it listens, and the gateway as an operator sees it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from twisted.internet.interfaces import IAddress

from relayx import __version__
from relayx.admin import model, queries
from relayx.admin.api import AdminSite
from relayx.admin.gateway import Metrics, NotDone, Settings, Who
from relayx.admin.heap import start_tracing
from relayx.admin.model import GatewayState
from relayx.brokering import Brokering
from relayx.config.faults import ConfigError
from relayx.config.model import Config, Secrets
from relayx.core.messages import Role
from relayx.core.switchboard import Switchboard
from relayx.impact import Impact
from relayx.logs import shown
from relayx.net.address import is_loopback
from relayx.net.bucket import TokenBucket
from relayx.planes import Planes
from relayx.rates import Trail
from relayx.reloading import Reloading
from relayx.view import View

MOST_EVENTS = 200
"""Events that are remembered."""

MOST_SHOWN = 200
"""Clients and sessions of a snapshot."""

INTERVAL = 5.0
MOST_POINTS = 120
"""Throughput is remembered for ten minutes, in steps of seconds."""

DENIALS = 1.0
"""Lines a second about those who are denied, and ten at once."""


class Operated(Protocol):
    """What an operator does to a gateway."""

    config: Config
    secrets: Secrets
    switchboard: Switchboard
    data: Planes
    brokering: Brokering
    reloading: Reloading

    def end_session(self, pairing_id: str) -> None:
        """End a session, with the cause ``admin``."""

    def drop_client(self, conn: int) -> None:
        """Close a control connection, as if its client had gone."""

    @property
    def state(self) -> GatewayState:
        """What it is doing."""

    def drain(self) -> object:
        """Stop, as soon as no session is left or their time is up."""

    def plan_reload(self) -> Impact:
        """What a reload would do.

        :raises ConfigError: where the files are wrong.
        """

    def reload(self) -> Impact:
        """Read the files again, and take them.

        :raises ConfigError: where they are wrong; everything stays as it was.
        """

    def say(self, level: str, event: str, text: str, **fields: Any) -> None:
        """Write a line in the log."""


class AdminPort:
    """Implements :class:`relayx.admin.gateway.Gateway` for a service."""

    def __init__(self, reactor: Any, service: Operated, metrics: Metrics) -> None:
        self._reactor = reactor
        self._service = service
        self._started: float | None = None
        self._recent: deque[model.Happened] = deque(maxlen=MOST_EVENTS)
        self._told: Callable[[model.Happened], None] | None = None
        self._denials = TokenBucket(DENIALS, 10 * DENIALS, reactor.seconds())
        self._view = View(
            service.switchboard, service.data, reactor, lambda: service.brokering.reports
        )
        self._trail = Trail(reactor, self._view.keep_rates_fresh, INTERVAL, MOST_POINTS)
        http = service.config.http
        settings = Settings(
            token=lambda: service.secrets.admin_token, hosts=lambda: service.config.http.hosts
        )
        self._site = AdminSite(reactor, self, settings, metrics)
        self._token = service.secrets.admin_token
        service.reloading.when_applied.append(self._reloaded)
        if http.heap:
            start_tracing()

    @property
    def factory(self) -> Any:
        """What to listen with."""
        return self._site.factory

    def listens_on(self, address: IAddress) -> None:
        """Go by where we listen from now on."""
        host = getattr(address, "host", None)
        self._site.private = host is None or is_loopback(host)

    def started(self) -> None:
        """The gateway serves from now on."""
        self._started = self._reactor.seconds()
        self._trail.start()

    def close(self) -> None:
        """Answer no more."""
        self._trail.stop()
        self._site.close()

    def release(self) -> None:
        """Wait for nobody."""
        self._site.factory.release()

    def open_connections(self) -> int:
        """How many connections are open."""
        return self._site.factory.open_connections()

    def _reloaded(self, config: Config) -> None:
        """With another token, who reads on by the one before has to ask again."""
        before, self._token = self._token, self._service.secrets.admin_token
        if self._token != before:
            self._site.answers.end_streams()

    def note(self, level: str, event: str, text: str, fields: dict[str, Any]) -> None:
        """Something is logged: remember it, and tell who reads."""
        at = datetime.fromtimestamp(self._reactor.seconds(), UTC)
        happened = model.Happened(at=at, level=level, event=event, text=text, fields=shown(fields))
        self._recent.append(happened)
        if self._told is not None:
            self._told(happened)

    # relayx.admin.gateway.Gateway

    def status(self) -> model.Status:
        """See Gateway."""
        view, service = self._view, self._service
        moved, throughput = view.moved()
        began, now = self._started, self._reactor.seconds()
        return model.Status(
            version=__version__,
            state=service.state,
            reasons=self.not_ready(),
            pid=os.getpid(),
            started_at=None if began is None else datetime.fromtimestamp(began, UTC),
            uptime=0.0 if began is None else round(now - began, 3),
            revision=service.reloading.revision,
            last_reload=self._last_reload(),
            clients=view.clients_by_role(),
            ports=view.ports_by_protocol(),
            leases=view.lease_count(),
            sessions=view.session_count(),
            brokers=view.brokers(queries.Paging(limit=model.MOST_ITEMS)).items,
            bytes_moved=moved,
            throughput=throughput,
        )

    def _last_reload(self) -> model.LastReload | None:
        told = self._service.reloading
        if not told.last_at:
            return None
        return model.LastReload(
            at=datetime.fromtimestamp(told.last_at, UTC),
            successful=told.last_ok,
            problems=tuple(map(str, told.last_faults)),
        )

    def not_ready(self) -> tuple[str, ...]:
        """See Gateway."""
        state = self._service.state
        if state is GatewayState.READY:
            return ()
        running = self._service.switchboard.sessions_running()
        return {
            GatewayState.STARTING: ("the gateway is starting",),
            GatewayState.DRAINING: (f"the gateway is draining; {running} sessions run",),
        }.get(state, ("the gateway has stopped",))

    def clients(self, query: queries.ClientQuery) -> model.Page[model.Client]:
        """See Gateway."""
        return self._view.clients(query)

    def ports(self, query: queries.PortQuery) -> model.Page[model.Port]:
        """See Gateway."""
        return self._view.ports(query)

    def brokers(self, query: queries.Paging) -> model.Page[model.Broker]:
        """See Gateway."""
        return self._view.brokers(query)

    def leases(self, query: queries.LeaseQuery) -> model.Page[model.Lease]:
        """See Gateway."""
        return self._view.leases(query)

    def sessions(self, query: queries.SessionQuery) -> model.Page[model.Session]:
        """See Gateway."""
        return self._view.sessions(query)

    def snapshot(self) -> model.Snapshot:
        """See Gateway."""
        return model.Snapshot(
            at=datetime.fromtimestamp(self._reactor.seconds(), UTC),
            status=self.status(),
            ports=self._view.ports(queries.PortQuery(limit=model.MOST_ITEMS)),
            clients=self._view.clients(queries.ClientQuery(limit=MOST_SHOWN)),
            sessions=self._view.sessions(queries.SessionQuery(limit=MOST_SHOWN)),
        )

    def history(self) -> model.History:
        """See Gateway."""
        points = (
            model.Point(at=datetime.fromtimestamp(at, UTC), throughput=rate)
            for at, rate in self._trail.points
        )
        return model.History(interval=INTERVAL, points=tuple(points))

    def end_session(self, pairing_id: str, who: Who) -> bool:
        """See Gateway."""
        if not self._service.switchboard.has_session(pairing_id):
            return False
        self._did(who, f"closes session {pairing_id}", pairing_id=pairing_id)
        self._service.end_session(pairing_id)
        return True

    def drop_client(self, client_id: str, role: Role | None, who: Who) -> int:
        """See Gateway."""
        found = [c for c in self._service.switchboard.clients(role) if c.client_id == client_id]
        for client in found:
            text = f"drops {client.role} {client.client_id} at {client.address}"
            self._did(who, text, client_id=client.client_id, role=str(client.role))
            self._service.drop_client(client.conn)
        return len(found)

    def drain(self, who: Who) -> int:
        """See Gateway."""
        self._did(who, "drains the gateway")
        self._reactor.callLater(0, self._service.drain)  # which may close what asks for it
        return self._service.switchboard.sessions_running()

    def plan_reload(self) -> model.Reload:
        """See Gateway."""
        try:
            return _report(self._service.plan_reload(), applied=False)
        except ConfigError as error:
            raise _refused(error) from None

    def reload(self, who: Who) -> model.Reload:
        """See Gateway."""
        self._did(who, "reloads the configuration")
        try:
            return _report(self._service.reload(), applied=True)
        except ConfigError as error:
            raise _refused(error) from None

    def recent_events(self) -> tuple[model.Happened, ...]:
        """See Gateway."""
        return tuple(self._recent)

    def watch_events(self, told: Callable[[model.Happened], None]) -> None:
        """See Gateway."""
        self._told = told

    def unwatch_events(self, told: Callable[[model.Happened], None]) -> None:
        """See Gateway."""
        self._told = None

    def denied(self, who: Who, what: str) -> None:
        """See Gateway."""
        if self._denials.take(1, self._reactor.seconds()):
            self._service.say("warn", "admin_denied", f"{who} is denied {what}", address=who)

    def _did(self, who: Who, what: str, **fields: Any) -> None:
        self._service.say("info", "admin", f"an operator at {who} {what}", address=who, **fields)


def _report(impact: Impact, *, applied: bool) -> model.Reload:
    return model.Reload(
        applied=applied,
        revision=impact.revision,
        changes=tuple(
            model.Changed(key=c.key, old=c.old, new=c.new, applies=str(c.applies))
            for c in impact.changes
        ),
        ports_added=impact.ports_added,
        ports_removed=impact.ports_removed,
        ports_kept=impact.ports_kept,
        sessions=impact.sessions,
        leases=impact.leases,
        clients=impact.clients,
        waiting=impact.waiting,
        problems=tuple(map(str, impact.faults)),
    )


def _refused(error: ConfigError) -> NotDone:
    text = "the configuration stays as it was"
    return NotDone("RELOAD_REFUSED", text, tuple(map(str, error.faults)))
