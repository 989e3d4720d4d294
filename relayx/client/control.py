"""The control connection of a client: registers, stays registered, asks (contract 2 and 3)."""

from __future__ import annotations

import random
import secrets
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.application.internet import ClientService
from twisted.internet.defer import Deferred, fail
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from relayx.client.backoff import Backoff
from relayx.client.errors import ClientError, Refused, Stopped, TimedOut
from relayx.client.events import Connected, Disconnected, Ended, Events, LogLine, Unreachable
from relayx.client.gateway import EndpointMaker, Gateway, tcp_endpoints
from relayx.client.link import Link
from relayx.client.once import Once
from relayx.client.registering import RegisteringEndpoint
from relayx.client.requests import Requests
from relayx.core.errors import Code
from relayx.core.messages import (
    PROTOCOL_VERSION,
    Auth,
    Error,
    KeyExchange,
    Message,
    Ping,
    PortAcquire,
    PortAlloc,
    PortGrant,
    PortRelease,
    PortState,
    PortStateQuery,
    Register,
    Role,
    Transport,
)
from relayx.security.trust import Trust

FINAL = frozenset({Code.AUTH_FAILED, Code.TAKEN_OVER, Code.INVALID_REQUEST})
"""Refusals of a registration that trying again cannot mend."""

AGAIN = frozenset({Code.PORT_EXHAUSTED, Code.RATE_LIMITED})
"""Refusals of a lease that time may mend."""


class ControlClient:
    """Registers with a gateway and comes back after each loss, until it is stopped.

    The connection is tried again after 50 ms to 5 s, with jitter, always under the same
    random `instance` and the id that the gateway gave. ``AUTH_FAILED``, ``TAKEN_OVER`` and a
    `register` that the gateway finds invalid are final: the client stops by itself. Others,
    such as ``CAPACITY`` and ``RATE_LIMITED``, are tried again. What is
    asked for while there is no connection waits for one; what was asked on a connection that
    ends fails with `ControlLost`.

    :param reactor: provides IReactorTime, and IReactorTCP unless `endpoints` is given.
    :param role: FE or BE.
    :param client_id: "" lets the gateway choose.
    :param endpoints: how to reach a host and port; TCP with a dial timeout of 3 s by default.
    :param request_timeout: seconds that a request may take, the wait for a connection included.
    :param jitter: returns a random number from 0 up to 1.
    :param link_telemetry: as a BE, have `Telemetry` events with a `link` once a second for each
        session whose FE is there by SRT.

    :ivar instance: random, one for each object.
    :ivar trust: its own of `Gateway.trust`; other keys put there count from the next message on.
    :ivar client_id: what the gateway calls this client; before the first `auth`, as given.
    :ivar connected: whether the client is registered now.
    :ivar events: what comes unasked, `Events.on`.
    :ivar state: the newest `port_state` that was pushed, None before the first.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        gateway: Gateway,
        role: Role,
        client_id: str = "",
        *,
        endpoints: EndpointMaker | None = None,
        request_timeout: float = 10.0,
        jitter: Callable[[], float] = random.random,
        link_telemetry: bool = False,
    ) -> None:
        self.gateway = gateway
        self.role = role
        self.client_id = client_id
        self.instance = secrets.token_hex(16)
        self.trust = gateway.trust.of_one_client() if gateway.trust else Trust()
        self.connected = False
        self.events = Events()
        self.state: PortState | None = None
        # Two processes may share a certificate, hence a name; neither is to replace the other.
        self._named_by_certificate = bool(not client_id and gateway.tls and gateway.tls.certificate)
        self._reactor = reactor
        self._endpoints = endpoints or tcp_endpoints(reactor)
        self._timeout = request_timeout
        self._jitter = jitter
        self._requests = Requests(reactor)
        self._link: Link | None = None
        self._up: Once[str] = Once()
        self._stopped: Once[None] = Once()
        self._ended: Failure | None = None
        self._public_key = ""
        self._telemetry = False
        self._link_telemetry = link_telemetry
        self._service = ClientService(
            RegisteringEndpoint(
                lambda: gateway.control_endpoint(reactor, self._endpoints),
                self._new_link,
                self._registered,
                self._failed,
            ),
            Factory.forProtocol(Protocol),
            retryPolicy=Backoff(jitter).delay,
            clock=reactor,
        )

    def start(self) -> None:
        """Begin to connect. Starting twice, or after the end, does nothing."""
        if self._ended is None and not self._service.running:
            self._service.startService()

    def stop(self) -> Deferred[None]:
        """Close the connection for good; fires when that is done. What waits fails: `Stopped`."""
        self._finish(None)
        over: Deferred[None] = Deferred()
        self._stopped.wait().addBoth(lambda _: over.callback(None))
        return over

    def when_connected(self) -> Deferred[str]:
        """Fire with the `client_id` once registered; fail with the reason of the end."""
        return self._up.wait()

    def when_stopped(self) -> Deferred[None]:
        """Fire after `stop`; fail with `Refused` where the gateway's answer was final."""
        return self._stopped.wait()

    def acquire(
        self,
        *,
        need_zmq: bool = False,
        need_srt: bool = False,
        ttl_seconds: int = 30,
        service: str = "",
        be: str | None = None,
        transport: str = Transport.TCP,
        timeout: float | None = None,
        trace_id: str = "",
    ) -> Deferred[PortGrant]:
        """Lease one port of each protocol asked for (contract section 5).

        With `transport` "srt" the srt port is one for a connection by SRT, which is some other
        program's to make (ffmpeg, for one): the library connects by TCP alone.

        ``PORT_EXHAUSTED`` and ``RATE_LIMITED`` are tried again with backoff, for `timeout`
        seconds (None: without end, 0: not at all). Cancelling gives back what is granted later.

        Fails with `Refused`, `ControlLost`, `TimedOut` or `Stopped`.
        """
        asked = PortAcquire(
            need_zmq=need_zmq, need_srt=need_srt, ttl_seconds=ttl_seconds, service=service, be=be,
            transport=transport,
        )  # fmt: skip
        return Deferred.fromCoroutine(self._acquire(asked, timeout, trace_id))

    async def _acquire(self, asked: PortAcquire, timeout: float | None, trace_id: str) -> PortGrant:
        backoff = Backoff(self._jitter)
        deadline = None if timeout is None else self._reactor.seconds() + timeout
        exhausted: Refused | None = None
        while True:
            asked = msgspec.structs.replace(asked, request_id=str(uuid.uuid4()))
            try:
                grant: PortGrant = await self._requests.ask(
                    asked, self._limit(deadline), trace_id or asked.request_id
                )
                return grant
            except Refused as refused:
                if refused.code not in AGAIN:
                    raise
                exhausted = refused
                delay = backoff.next()
                if deadline is not None:
                    delay = min(delay, deadline - self._reactor.seconds())
                if delay <= 0:
                    raise
            except TimedOut:
                if exhausted is not None:  # that is why; the last try just had no time left
                    raise exhausted from None
                raise
            await self.pause(delay)

    def _limit(self, deadline: float | None) -> float:
        """Seconds for one request: all that is left, within the time-out of requests."""
        left = self._timeout if deadline is None else deadline - self._reactor.seconds()
        return min(self._timeout, left) if left > 0 else self._timeout

    def release(self, session_id: str) -> Deferred[None]:
        """End a lease. Fails with `Refused` (``INVALID_REQUEST``) where it is not ours."""
        return self._confirmed(PortRelease(session_id=session_id))

    def port_state(self, *, need_zmq: bool = False, need_srt: bool = False) -> Deferred[PortState]:
        """Ask for the ports' states; with neither flag, of both protocols."""
        asked = PortStateQuery(need_zmq=need_zmq, need_srt=need_srt)
        return self._requests.ask_state(asked, self._timeout)

    def ping(self) -> Deferred[float]:
        """Seconds that a ping takes to the gateway and back."""
        return self._requests.ask(Ping(c_send=0), self._timeout)

    def exchange_key(self, public_key: str) -> Deferred[None]:
        """Tell every FE this BE's public key (PEM), again after each reconnect."""
        if self.role is not Role.BE:
            return fail(ClientError("only a BE may send key_exchange"))
        self._public_key = public_key
        return self._confirmed(KeyExchange(public_key=public_key))

    def subscribe_telemetry(self) -> Deferred[None]:
        """As a BE, have `Telemetry` events every 100 ms, after each reconnect too."""
        if self.role is not Role.BE:
            return fail(ClientError("only a BE may subscribe to telemetry"))
        self._telemetry = True
        return self._confirmed(PortAlloc())

    def pause(self, seconds: float) -> Deferred[None]:
        """Fire after `seconds`, or fail with the reason when the client stops meanwhile."""
        return self._requests.pause(seconds)

    def _confirmed(self, message: Message) -> Deferred[None]:
        return Deferred.fromCoroutine(self._until_confirmed(message))

    async def _until_confirmed(self, message: Message) -> None:
        """Ask; where we ask too much at once, again a little later."""
        backoff = Backoff(self._jitter)
        deadline = self._reactor.seconds() + self._timeout
        while True:
            try:
                await self._requests.ask(message, self._limit(deadline))
                return
            except Refused as refused:
                delay = backoff.next()
                late = self._reactor.seconds() + delay >= deadline
                if refused.code != Code.RATE_LIMITED or late:
                    raise
            await self.pause(delay)

    # the connection

    def _new_link(self, lost: Callable[[Failure], None]) -> Link:
        self.trust.renew()
        register = Register(
            role=self.role,
            secret=self.gateway.secret,
            client_id="" if self._named_by_certificate else self.client_id,
            protocol=PROTOCOL_VERSION,
            instance=self.instance,
            link_telemetry=self._link_telemetry,
        )

        def link_lost(reason: Failure) -> None:
            self._lost(reason)
            lost(reason)

        return Link(self._reactor, register, self._received, link_lost, self.trust)

    def _registered(self, link: Link, auth: Auth) -> None:
        self._link = link
        self.client_id = auth.client_id
        self.connected = True
        if self._public_key:
            link.send(KeyExchange(public_key=self._public_key))
        if self._telemetry:
            link.send(PortAlloc())
        self._requests.link_up(link)
        self._up.fire(auth.client_id)
        self.events.emit(Connected(auth.client_id, auth.server))

    def _failed(self, reason: Failure) -> None:
        if self._ended is not None:
            return
        refused = reason.value
        if isinstance(refused, Refused) and refused.code in FINAL:
            self._finish(reason)
        else:
            self.events.emit(Unreachable(reason))

    def _lost(self, reason: Failure) -> None:
        self._link = None
        if not self.connected:
            return
        self.connected = False
        self._up = Once()
        self._requests.link_down(reason)
        self.events.emit(Disconnected(reason))

    def _received(self, message: Message | str, trace_id: str) -> None:
        if isinstance(message, str):
            self.events.emit(LogLine(message))
            return
        if isinstance(message, Error) and message.error_code == Code.TAKEN_OVER:
            self._finish(Failure(Refused(message.error_code, message.error)))
            return
        if self._requests.answered(message, trace_id):
            return
        if isinstance(message, PortState):
            self.state = message
        self.events.emit(message)

    def _finish(self, reason: Failure | None) -> None:
        """Stop for good; `reason` is None where the owner wants it."""
        if self._ended is not None:
            return
        self._ended = reason or Failure(Stopped("the client was stopped"))
        link, self._link = self._link, None
        was_connected, self.connected = self.connected, False
        if self._up.settled:
            self._up = Once()
        self._up.fail(self._ended)
        if link is not None:
            link.loseConnection()
        closed = self._service.stopService()
        self._requests.finish(self._ended)
        if was_connected:
            self.events.emit(Disconnected(self._ended))
        self.events.emit(Ended(reason))
        closed.addBoth(lambda _: self._over(reason))

    def _over(self, reason: Failure | None) -> None:
        if reason is None:
            self._stopped.fire(None)
        else:
            self._stopped.fail(reason)
