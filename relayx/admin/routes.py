"""Everything that is served, as a table; the OpenAPI document is made of it."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from relayx.admin import model, queries
from relayx.admin.access import Needs
from relayx.admin.errors import Refusal, not_found

JSON = "application/json"
HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"
STREAM = "text/event-stream"


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that can be asked for.

    :ivar path: a name in braces stands for one segment.
    :ivar name: of what answers it, and its ``operationId``.
    :ivar query: the type of what may stand behind the question mark.
    :ivar answer: the type of a JSON answer, None for another kind.
    :ivar kinds: the content types of the answer.
    :ivar refusals: statuses of its own that it may answer with, and when.
    """

    method: str
    path: str
    name: str
    summary: str
    needs: Needs = Needs.TOKEN
    query: type[msgspec.Struct] = queries.NoQuery
    answer: Any = None
    kinds: tuple[str, ...] = (JSON,)
    status: int = 200
    refusals: dict[int, str] = {}

    @property
    def segments(self) -> tuple[str, ...]:
        """Its path, cut at the slashes."""
        return tuple(self.path.split("/")[1:])


def _page(name: str, summary: str) -> Route:
    path = "/" if name == "dashboard" else f"/{name}"
    return Route(
        method="GET", path=path, name=name, summary=summary, needs=Needs.PAGE, kinds=(HTML,)
    )


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/healthz",
        name="healthz",
        summary="Whether the process answers.",
        needs=Needs.NOTHING,
        answer=model.Health,
    ),
    Route(
        method="GET",
        path="/readyz",
        name="readyz",
        summary="Whether clients are taken: not while starting or draining.",
        needs=Needs.NOTHING,
        answer=model.Readiness,
        refusals={503: "it is starting or draining; the reasons are in the answer"},
    ),
    Route(
        method="GET",
        path="/metrics",
        name="metrics",
        summary="Every metric, for Prometheus.",
        needs=Needs.NOTHING_BEYOND,
        kinds=(TEXT,),
    ),
    Route(
        method="GET",
        path="/api/v1/openapi.json",
        name="openapi",
        summary="This document.",
        answer=dict[str, Any],
    ),
    Route(
        method="GET",
        path="/api/v1/status",
        name="status",
        summary="The gateway as a whole.",
        answer=model.Status,
    ),
    Route(
        method="GET",
        path="/api/v1/clients",
        name="clients",
        summary="Who is registered, and which BEs are lost and may come back.",
        query=queries.ClientQuery,
        answer=model.Page[model.Client],
    ),
    Route(
        method="DELETE",
        path="/api/v1/clients/{client_id}",
        name="drop_client",
        summary="Close the control connections of an id; a client may come back at once.",
        needs=Needs.CHANGE,
        query=queries.DropQuery,
        answer=model.Dropped,
        refusals={404: "nobody of that id is registered"},
    ),
    Route(
        method="GET",
        path="/api/v1/ports",
        name="ports",
        summary="The data ports, and who is on them.",
        query=queries.PortQuery,
        answer=model.Page[model.Port],
    ),
    Route(
        method="GET",
        path="/api/v1/brokers",
        name="brokers",
        summary="The brokers of zmq ports, who is connected to them, and what they moved.",
        query=queries.Paging,
        answer=model.Page[model.Broker],
    ),
    Route(
        method="GET",
        path="/api/v1/leases",
        name="leases",
        summary="What is kept for whom.",
        query=queries.LeaseQuery,
        answer=model.Page[model.Lease],
    ),
    Route(
        method="GET",
        path="/api/v1/sessions",
        name="sessions",
        summary="What runs, with bytes so far and bytes a second.",
        query=queries.SessionQuery,
        answer=model.Page[model.Session],
    ),
    Route(
        method="DELETE",
        path="/api/v1/sessions/{pairing_id}",
        name="end_session",
        summary="Close both sides of a session at once, with the cause admin.",
        needs=Needs.CHANGE,
        answer=model.Ended,
        refusals={404: "no session of that id runs"},
    ),
    Route(
        method="GET",
        path="/api/v1/history",
        name="history",
        summary="Throughput of the last minutes.",
        answer=model.History,
    ),
    Route(
        method="GET",
        path="/api/v1/events",
        name="events",
        summary="A stream of server-sent events: snapshot each second, happened as it happens.",
        kinds=(STREAM,),
        refusals={503: "as many readers as there may be are there"},
    ),
    Route(
        method="POST",
        path="/api/v1/drain",
        name="drain",
        summary="Take nobody new; what runs goes on.",
        needs=Needs.CHANGE,
        answer=model.Draining,
        status=202,
    ),
    Route(
        method="POST",
        path="/api/v1/reload",
        name="reload",
        summary="Read the configuration again, and take all of it or none.",
        needs=Needs.CHANGE,
        query=queries.ReloadQuery,
        answer=model.Reload,
        refusals={409: "the files cannot be used, or a restart is needed; nothing has changed"},
    ),
    Route(
        method="GET",
        path="/debug/profile",
        name="profile",
        summary="What the process does for some seconds, as a profile.",
        query=queries.ProfileQuery,
        kinds=(JSON, BYTES),
        refusals={409: "another profile is being taken"},
    ),
    Route(
        method="GET",
        path="/debug/heap",
        name="heap",
        summary="What memory was allocated where; only with http.heap on, or PYTHONTRACEMALLOC.",
        query=queries.HeapQuery,
        kinds=(JSON, TEXT),
        refusals={404: "allocations are not traced"},
    ),
    _page("pprof", "The profiles, and how to open them."),
    _page("dashboard", "The dashboard."),
    Route(
        method="GET",
        path="/static/{file}",
        name="static",
        summary="What the pages are made of.",
        needs=Needs.PAGE,
        kinds=("text/css", "text/javascript", "image/svg+xml"),
        refusals={404: "there is no such file"},
    ),
)


def find(method: str, path: bytes) -> tuple[Route, dict[str, str]]:
    """The route of a request, and what stands for the names in its path.

    HEAD is answered as GET.

    :raises Refusal: 404 without one, 405 for another method.
    """
    try:
        told = tuple(unquote_to_bytes(part).decode() for part in path.split(b"/")[1:])
    except UnicodeDecodeError:
        raise not_found("the path is no UTF-8") from None
    wanted = "GET" if method == "HEAD" else method
    allowed: list[str] = []
    for route in ROUTES:
        names = _match(route.segments, told)
        if names is None:
            continue
        if route.method == wanted:
            return route, names
        allowed.append(route.method)
    if not allowed:
        raise not_found("there is nothing here")
    methods = ", ".join([*allowed, "HEAD"] if "GET" in allowed else allowed)
    raise Refusal(405, "METHOD_NOT_ALLOWED", f"allowed here: {methods}", headers={"Allow": methods})


def _match(segments: tuple[str, ...], told: tuple[str, ...]) -> dict[str, str] | None:
    if len(segments) != len(told):
        return None
    names: dict[str, str] = {}
    for segment, part in zip(segments, told, strict=True):
        if segment.startswith("{"):
            if not part:
                return None
            names[segment[1:-1]] = part
        elif segment != part:
            return None
    return names
