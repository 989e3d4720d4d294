"""What each route answers; a method is named as its route is."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from relayx.admin import model, queries
from relayx.admin.errors import Refusal, not_found
from relayx.admin.events import EventStreams
from relayx.admin.gateway import Gateway, Metrics
from relayx.admin.heap import heap
from relayx.admin.openapi import document
from relayx.admin.profile import Profiler
from relayx.admin.routes import BYTES, JSON, TEXT, Route
from relayx.admin.server import AdminRequest
from relayx.net.bucket import TokenBucket

PAGES = resources.files("relayx.admin") / "pages"
STATIC = {
    "dashboard.js": "text/javascript; charset=utf-8",
    "dashboard.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""The files that pages are made of, with their types."""

SCRAPES = 10.0
"""Scrapes a second that are made anew, and twice as many at once: each takes milliseconds, and
needs no token. Who asks more often gets the last one again."""


class Call(msgspec.Struct, frozen=True):
    """A request that may be answered.

    :ivar names: what stands for the names in the route's path.
    :ivar query: of the type that the route asks for.
    :ivar who: where it comes from.
    """

    route: Route
    names: dict[str, str]
    query: Any
    who: str
    request: AdminRequest


class Given(msgspec.Struct, frozen=True):
    """An answer; a body that is not bytes is written as JSON.

    :ivar kind: its content type, "" for the route's.
    :ivar status: 0 for the route's.
    """

    body: Any
    kind: str = ""
    status: int = 0
    headers: dict[str, str] = {}


class Streamed:
    """The answer is written by somebody else, bit by bit."""


Answer = Given | Streamed | Deferred[Given]


class Answers:
    """Answers for a gateway.

    :param reactor: an IReactorTime.
    """

    def __init__(self, reactor: Any, gateway: Gateway, metrics: Metrics) -> None:
        self._gateway = gateway
        self._metrics = metrics
        self._streams = EventStreams(reactor, gateway)
        self._profiler = Profiler(reactor)
        self._reactor = reactor
        self._scrapes = TokenBucket(SCRAPES, 2 * SCRAPES, reactor.seconds())
        self._scraped = b""
        self._answers: dict[str, Callable[[Call], Answer]] = {
            "healthz": lambda call: Given(model.Health()),
            "readyz": self._readyz,
            "metrics": self._scrape,
            "openapi": lambda call: Given(document()),
            "status": lambda call: Given(gateway.status()),
            "clients": lambda call: Given(gateway.clients(call.query)),
            "ports": lambda call: Given(gateway.ports(call.query)),
            "brokers": lambda call: Given(gateway.brokers(call.query)),
            "leases": lambda call: Given(gateway.leases(call.query)),
            "sessions": lambda call: Given(gateway.sessions(call.query)),
            "history": lambda call: Given(gateway.history()),
            "drop_client": self._drop_client,
            "end_session": self._end_session,
            "drain": lambda call: Given(model.Draining(sessions=gateway.drain(call.who))),
            "reload": self._reload,
            "events": self._events,
            "profile": self._profile,
            "heap": self._heap,
            "pprof": lambda call: Given((PAGES / "pprof.html").read_bytes()),
            "dashboard": lambda call: Given((PAGES / "dashboard.html").read_bytes()),
            "static": self._static,
        }

    def answer(self, call: Call) -> Answer:
        """Answer a request.

        :raises Refusal: where it is not to be done.
        :raises NotDone: where it cannot be done.
        """
        return self._answers[call.route.name](call)

    def end_streams(self) -> None:
        """End every stream; its reader may open another."""
        self._streams.close()

    def close(self) -> None:
        """End every stream, and a profile that is being taken."""
        self._streams.close()
        self._profiler.close()

    def _scrape(self, call: Call) -> Given:
        if not self._scraped or self._scrapes.take(1, self._reactor.seconds()):
            self._scraped = self._metrics.render()
        return Given(self._scraped, self._metrics.content_type)

    def _readyz(self, call: Call) -> Given:
        reasons = self._gateway.not_ready()
        found = model.Readiness(ready=not reasons, reasons=reasons)
        return Given(found, status=503 if reasons else 200)

    def _drop_client(self, call: Call) -> Given:
        client_id = call.names["client_id"]
        dropped = self._gateway.drop_client(client_id, call.query.role, call.who)
        if not dropped:
            raise not_found("nobody of that id is registered")
        return Given(model.Dropped(client_id=client_id, dropped=dropped))

    def _end_session(self, call: Call) -> Given:
        pairing_id = call.names["pairing_id"]
        if not self._gateway.end_session(pairing_id, call.who):
            raise not_found("no session of that id runs")
        return Given(model.Ended(pairing_id=pairing_id))

    def _reload(self, call: Call) -> Given:
        if call.query.dry_run:
            return Given(self._gateway.plan_reload())
        return Given(self._gateway.reload(call.who))

    def _events(self, call: Call) -> Streamed | Given:
        if call.request.method == b"HEAD":
            return Given(b"")
        self._streams.open(call.request)
        return Streamed()

    def _profile(self, call: Call) -> Deferred[Given]:
        told: queries.ProfileQuery = call.query

        def given(body: bytes) -> Given:
            name = f"relayx.{told.format}" + (".json" if told.format == "speedscope" else "")
            kind = JSON if told.format is queries.ProfileFormat.SPEEDSCOPE else BYTES
            return Given(body, kind, headers=_attached(name))

        if call.request.method == b"HEAD":
            raise Refusal(405, "METHOD_NOT_ALLOWED", "allowed here: GET", headers={"Allow": "GET"})
        return self._profiler.take(told.seconds, told.format).addCallback(given)

    def _heap(self, call: Call) -> Given:
        told: queries.HeapQuery = call.query
        if told.format is queries.HeapFormat.TEXT:
            return Given(heap(told.format), TEXT)
        return Given(heap(told.format), JSON, headers=_attached("relayx-heap.speedscope.json"))

    def _static(self, call: Call) -> Given:
        name = call.names["file"]
        kind = STATIC.get(name)
        if kind is None:
            raise not_found("there is no such file")
        return Given((PAGES / name).read_bytes(), kind)


def _attached(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}
