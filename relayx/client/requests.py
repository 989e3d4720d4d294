"""What a control client has asked for and not been answered yet."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from relayx.client.errors import ClientError, ControlLost, Refused, TimedOut
from relayx.client.link import Link
from relayx.core.messages import (
    Error,
    Message,
    Ping,
    Pong,
    PortAcquire,
    PortGrant,
    PortRelease,
    PortState,
    PortStateQuery,
)

LATE_GRANTS = 256


class Request:
    """One message to the gateway and the Deferred of its answer.

    A message that the gateway answers only where it refuses it is followed by a ping: the
    gateway takes what a client sends in order, so that the pong says it was taken.
    """

    __slots__ = ("answer", "barrier", "message", "msg_id", "sent_at", "timer", "trace_id")

    def __init__(self, message: Message, trace_id: str) -> None:
        self.message = message
        self.trace_id = trace_id
        self.answer: Deferred[Any]
        self.timer: IDelayedCall | None = None
        self.msg_id = ""
        self.barrier = 0
        self.sent_at = 0.0

    def settle(self, result: Any) -> None:
        """Give the answer, a value or a Failure, and stop the clock."""
        self.stop_clock()
        self.answer.callback(result)

    def stop_clock(self) -> None:
        """Let no time-out come any more."""
        if self.timer is not None and self.timer.active():
            self.timer.cancel()


class Requests:
    """Sends requests, waits for a link where there is none, and finds whose each answer is."""

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._query_prefix = f"port_state_q-{uuid.uuid4()}-"
        self._link: Link | None = None
        self._ended: Failure | None = None
        self._requests: list[Request] = []
        self._pauses: dict[Deferred[None], IDelayedCall] = {}
        self._late_grants: dict[str, None] = {}

    def ask(self, message: Message, limit: float, trace_id: str = "") -> Deferred[Any]:
        """Send `message` and return a Deferred of its answer.

        :param limit: seconds for all of it, the wait for a link included.
        """
        if self._ended is not None:
            return fail(self._ended)
        request = Request(message, trace_id)
        request.answer = Deferred(lambda _: self._give_up(request))
        request.timer = self._reactor.callLater(limit, self._timed_out, request, limit)
        self._requests.append(request)
        if self._link is not None:
            self._send(request, self._link)
        return request.answer

    def pause(self, seconds: float) -> Deferred[None]:
        """Fire after `seconds`; fail as every request does when the client stops."""
        if self._ended is not None:
            return fail(self._ended)
        pause: Deferred[None] = Deferred(lambda given_up: self._pauses.pop(given_up).cancel())

        def over() -> None:
            del self._pauses[pause]
            pause.callback(None)

        self._pauses[pause] = self._reactor.callLater(seconds, over)
        return pause

    def link_up(self, link: Link) -> None:
        """Send what has waited for a link."""
        self._link = link
        for request in tuple(self._requests):
            if not request.msg_id:
                self._send(request, link)

    def link_down(self, reason: Failure) -> None:
        """Fail what was asked on the link that ended; what was not sent yet goes on waiting."""
        self._link = None
        self._late_grants.clear()
        sent = [request for request in self._requests if request.msg_id]
        self._requests = [request for request in self._requests if not request.msg_id]
        for request in sent:
            request.settle(reason)

    def finish(self, reason: Failure) -> None:
        """Fail everything, now and from now on."""
        self._ended = reason
        self._link = None
        requests, self._requests = self._requests, []
        pauses, self._pauses = self._pauses, {}
        for request in requests:
            request.settle(reason)
        for pause, timer in pauses.items():
            timer.cancel()
            pause.errback(reason)

    def _send(self, request: Request, link: Link) -> None:
        request.sent_at = self._reactor.seconds()
        if isinstance(request.message, Ping):
            request.barrier = link.ping()
            request.msg_id = str(request.barrier)
            return
        request.msg_id = link.send(request.message, trace_id=request.trace_id)
        if not isinstance(request.message, PortAcquire | PortStateQuery):
            request.barrier = link.ping()

    def _give_up(self, request: Request) -> None:
        """Forget a request; a lease that is granted to it later is given back."""
        if request in self._requests:
            self._requests.remove(request)
        request.stop_clock()
        if isinstance(request.message, PortAcquire) and request.msg_id:
            self._late_grants[request.message.request_id] = None
            while len(self._late_grants) > LATE_GRANTS:
                del self._late_grants[next(iter(self._late_grants))]

    def _timed_out(self, request: Request, limit: float) -> None:
        self._give_up(request)
        error: ClientError
        if request.msg_id:
            error = TimedOut(f"the gateway did not answer {request.message.TYPE} in {limit:g} s")
        else:
            error = ControlLost(f"no connection to the gateway within {limit:g} s")
        request.answer.errback(Failure(error))

    def answered(self, message: Message, trace_id: str) -> bool:
        """Settle the request that `message` answers; False where it answers none."""
        if isinstance(message, PortGrant):
            return self._granted(message)
        if isinstance(message, Pong):
            return self._settle(lambda it: it.barrier == message.c_send, self._pong)
        if isinstance(message, Error):
            refused = Failure(Refused(message.error_code, message.error))
            return bool(message.in_reply_to) and self._settle(
                lambda it: it.msg_id == message.in_reply_to, lambda _: refused
            )
        if isinstance(message, PortState) and trace_id.startswith(self._query_prefix):
            self._settle(lambda it: it.trace_id == trace_id, lambda _: message)
            return True
        return False

    def ask_state(self, message: PortStateQuery, limit: float) -> Deferred[Any]:
        """As `ask`, under a `trace_id` that tells the answer from what is pushed."""
        return self.ask(message, limit, f"{self._query_prefix}{uuid.uuid4()}")

    def _settle(self, match: Callable[[Request], bool], result: Callable[[Request], Any]) -> bool:
        for request in self._requests:
            if request.msg_id and match(request):
                self._requests.remove(request)
                request.settle(result(request))
                return True
        return False

    def _pong(self, request: Request) -> float:
        return self._reactor.seconds() - request.sent_at

    def _granted(self, grant: PortGrant) -> bool:
        if grant.request_id in self._late_grants:
            del self._late_grants[grant.request_id]
            if grant.session_id and self._link is not None:
                self._link.send(PortRelease(session_id=grant.session_id))
            return True

        def ours(request: Request) -> bool:
            asked = request.message
            return isinstance(asked, PortAcquire) and asked.request_id == grant.request_id

        refused = Failure(Refused(grant.error_code, grant.error))
        return self._settle(ours, lambda _: grant if grant.session_id else refused)
