"""Answers requests: finds the route, checks who asks, reads the query, writes the answer."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from relayx.admin.access import MARK, Access, Asked
from relayx.admin.answers import Answers, Call, Given, Streamed
from relayx.admin.errors import Refusal
from relayx.admin.gateway import Gateway, Metrics, NotDone, Settings
from relayx.admin.model import Failed
from relayx.admin.query import read_query
from relayx.admin.routes import HTML, JSON, Route, find
from relayx.admin.server import MOST_BODY_BYTES, AdminFactory, AdminRequest
from relayx.net.address import plain

_log = Logger(namespace="relayx.admin")
_encoder = msgspec.json.Encoder(enc_hook=str)

_ALWAYS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
_PAGES = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
}


class AdminSite:
    """Everything that is served on one address.

    :param reactor: an IReactorTime.
    :ivar factory: what to listen with.
    :ivar private: whether the address can be reached from this machine alone.
    """

    def __init__(
        self, reactor: Any, gateway: Gateway, settings: Settings, metrics: Metrics
    ) -> None:
        self.private = True
        self.factory = AdminFactory(reactor, self._answer)
        self.answers = Answers(reactor, gateway, metrics)
        self._gateway = gateway
        self._settings = settings

    def close(self) -> None:
        """Answer no more: close streams and connections."""
        self.answers.close()
        self.factory.close()

    def _answer(self, request: AdminRequest) -> None:
        call: Call | None = None
        try:
            call = self._read(request)
            given = self.answers.answer(call)
        except Refusal as refusal:
            self._refuse(request, refusal)
        except NotDone as error:
            self._refuse(request, _conflict(error))
        except Exception:
            self._failed(request, Failure())
        else:
            if isinstance(given, Deferred):
                self._later(request, call.route, given)
            elif not isinstance(given, Streamed):
                self._give(request, call.route, given)

    def _read(self, request: AdminRequest) -> Call:
        method = request.method.decode("latin-1")
        path, _, query = request.uri.partition(b"?")
        route, names = find(method, path)
        who = plain(getattr(request.getClientAddress(), "host", "")) or "this machine"
        self._check(route, request, who)
        if request.body_bytes > MOST_BODY_BYTES:
            raise Refusal(413, "BODY_TOO_LARGE", f"allowed: {MOST_BODY_BYTES} bytes of body")
        try:
            asked = read_query(query.decode("ascii"), route.query)
        except UnicodeDecodeError:
            raise Refusal(400, "QUERY_INVALID", "the query is not ASCII") from None
        return Call(route, names, asked, who, request)

    def _check(self, route: Route, request: AdminRequest, who: str) -> None:
        access = Access(
            private=self.private, token=self._settings.token(), hosts=self._settings.hosts()
        )
        asked = Asked(
            host=_header(request, "host"),
            origin=_header(request, "origin"),
            fetch_site=_header(request, "sec-fetch-site"),
            fetch_mode=_header(request, "sec-fetch-mode"),
            authorization=_header(request, "authorization"),
            mark=_header(request, MARK),
        )
        try:
            access.check(route.needs, asked)
        except Refusal as refusal:
            self._gateway.denied(who, f"{route.method} {route.path}: {refusal.code}")
            raise

    def _later(self, request: AdminRequest, route: Route, given: Deferred[Given]) -> None:
        here = True

        def gone(_: Failure) -> None:
            nonlocal here
            here = False
            given.cancel()

        def done(result: Given) -> None:
            if here:
                self._give(request, route, result)

        def failed(failure: Failure) -> None:
            error = failure.value
            if not here:
                return
            if isinstance(error, Refusal):
                self._refuse(request, error)
            elif isinstance(error, NotDone):
                self._refuse(request, _conflict(error))
            elif isinstance(error, CancelledError):
                self._refuse(request, Refusal(503, "STOPPING", "the gateway is stopping"))
            else:
                self._failed(request, failure)

        request.notifyFinish().addErrback(gone)
        given.addCallbacks(done, failed)

    def _give(self, request: AdminRequest, route: Route, given: Given) -> None:
        body = given.body if isinstance(given.body, bytes) else _encoder.encode(given.body)
        headers = dict(given.headers)
        if route.kinds == (HTML,):
            headers.update(_PAGES)
        kind = given.kind or route.kinds[0]
        self._write(request, given.status or route.status, kind, body, headers)

    def _refuse(self, request: AdminRequest, refusal: Refusal) -> None:
        body = Failed(error_code=refusal.code, error=refusal.text, problems=refusal.problems)
        self._write(request, refusal.status, JSON, _encoder.encode(body), refusal.headers)

    def _failed(self, request: AdminRequest, failure: Failure) -> None:
        _log.failure("a request failed", failure)
        self._refuse(request, Refusal(500, "INTERNAL", "this should not happen; see the log"))

    def _write(
        self, request: AdminRequest, status: int, kind: str, body: bytes, headers: dict[str, str]
    ) -> None:
        # Twisted has no words for some of them.
        request.setResponseCode(status, HTTPStatus(status).phrase.encode("ascii"))
        for name, value in {**_ALWAYS, "Content-Type": kind, **headers}.items():
            request.setHeader(name, value)
        request.setHeader("Content-Length", str(len(body)))
        request.write(body)
        request.finish()


def _conflict(error: NotDone) -> Refusal:
    return Refusal(409, error.code, error.text, problems=error.problems)


def _header(request: AdminRequest, name: str) -> str | None:
    """A header of a request; where it is there twice, what is no value of it."""
    found = request.requestHeaders.getRawHeaders(name.encode("ascii"))
    # Any bytes may come, which Twisted would refuse to read as UTF-8.
    return None if not found else b",".join(found).decode("latin-1")
