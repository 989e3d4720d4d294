"""A back end: keeps ports ready and serves the sessions that come (contract sections 4 to 8)."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import UNSET
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from relayx.client.control import ControlClient
from relayx.client.data import DataConnection, open_data
from relayx.client.errors import StreamReset
from relayx.client.events import Connected, Disconnected, Ended
from relayx.client.gateway import EndpointMaker, Gateway, tcp_endpoints
from relayx.client.once import Once
from relayx.client.session import Session
from relayx.client.stream import Stream
from relayx.client.waiting import WaitingPorts
from relayx.core.hello import SERVICE, SERVICE_ALLOWED, Hello
from relayx.core.messages import (
    FrontEndLink,
    PortGrant,
    PortRelease,
    PortState,
    Protocol,
    Role,
    SessionEnd,
    Telemetry,
)

REMEMBERED = 256


class Backend:
    """Registers as a BE and keeps a water mark of waiting ports per protocol.

    Each pairing calls `on_session(session)`. It may return a Deferred or a coroutine: when
    that ends, our direction of the stream is ended and the rest of the other discarded;
    when it fails, or `on_session` raises, that session alone is aborted and the error logged.

    Where the gateway's answer is final (``AUTH_FAILED``, ``TAKEN_OVER``) the waiting ports
    are given up and nothing new begins; sessions that run go on to their end, or to `stop`.

    :param service: the name that the ports carry, 0 to 64 of a-z, 0-9, "-", ".".
    :param zmq: how many zmq ports shall wait at any time.
    :param srt: how many srt ports.
    :param on_link: called once a second for each session whose FE is there by SRT, with how its
        link is: RTT, loss, what waits to be sent. It may be any session of this BE's connections,
        those of an encoder under the same `client_id` too, which connects by itself.
    :param client_id: "" lets the gateway choose.
    :param proxy: "v2" has each session begin with a PROXY header, version 2, that tells the FE's
        address; it comes in the session's stream, which is to be passed to a service whole.
    :param endpoints: how to reach a host and port; TCP with a dial timeout of 3 s by default.
    :param rng: chooses among the empty ports, and the jitter.
    :raises ValueError: where `service`, `proxy` or a mark is not allowed.

    :ivar control: the control client; its `events` tell more.
    :ivar done: fires after `stop`; fails with the reason of a final stop.
    :ivar sessions: those that run now, by pairing id.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        gateway: Gateway,
        service: str = "",
        zmq: int = 0,
        srt: int = 0,
        *,
        on_session: Callable[[Session], object],
        on_link: Callable[[FrontEndLink], object] | None = None,
        client_id: str = "",
        proxy: str = "",
        endpoints: EndpointMaker | None = None,
        rng: random.Random | None = None,
    ) -> None:
        if not SERVICE.fullmatch(service):
            raise ValueError(f"service is {service!r}; allowed: {SERVICE_ALLOWED}")
        if proxy not in ("", "v2"):
            raise ValueError(f'proxy is {proxy!r}; allowed: "", "v2"')
        rng = rng or random.Random()
        self._reactor = reactor
        self._gateway = gateway
        self._service = service
        self._proxy = proxy
        self._on_session = on_session
        self._on_link = on_link
        self._endpoints = endpoints or tcp_endpoints(reactor)
        self._stopping: Once[None] | None = None
        self._recent: dict[str, Session] = {}
        self.sessions: dict[str, Session] = {}
        self.done: Deferred[None] = Deferred()
        self.control = ControlClient(
            reactor,
            gateway,
            Role.BE,
            client_id,
            endpoints=self._endpoints,
            jitter=rng.random,
            link_telemetry=on_link is not None,
        )
        self._pools = {
            protocol: WaitingPorts(reactor, protocol, self._dial, self._paired, rng)
            for protocol in Protocol
        }
        self.set_marks(zmq, srt)
        events = self.control.events
        events.on(Connected, self._connected)
        events.on(Disconnected, self._disconnected)
        events.on(Ended, self._ended)
        events.on(PortState, self._port_state)
        events.on(PortGrant, self._port_grant)
        events.on(PortRelease, self._port_release)
        events.on(SessionEnd, self._session_end)
        events.on(Telemetry, self._telemetry)

    def start(self) -> None:
        """Begin to register and to wait."""
        self.control.start()

    def set_marks(self, zmq: int, srt: int) -> None:
        """Change how many ports shall wait; those above the mark are given up.

        :raises ValueError: where a mark is below 0.
        """
        if zmq < 0 or srt < 0:
            raise ValueError(f"the marks are {zmq} and {srt}; allowed: 0 and more")
        if self._stopping is None:
            self._pools[Protocol.ZMQ].set_mark(zmq)
            self._pools[Protocol.SRT].set_mark(srt)

    @property
    def waiting(self) -> dict[str, tuple[int, ...]]:
        """The ports where this BE waits now, sorted, by protocol."""
        return {str(protocol): pool.ready for protocol, pool in self._pools.items()}

    def stop(self, grace: float = 0.0) -> Deferred[None]:
        """Give up the waiting ports, let running sessions end for `grace` seconds, stop.

        Fires when every connection is closed. Stopping again waits for the first one.
        """
        if self._stopping is None:
            self._stopping = Once()
            for pool in self._pools.values():
                pool.give_up_all()
            stopped = Deferred.fromCoroutine(self._stop(grace))
            stopped.addCallbacks(self._stopping.fire, self._stopping.fail)
        return self._stopping.wait()

    async def _stop(self, grace: float) -> None:
        open_sessions = self._closings()
        if self.sessions and grace > 0:
            limit: Deferred[None] = Deferred()
            timer = self._reactor.callLater(grace, limit.callback, None)
            either: list[Deferred[Any]] = [DeferredList(open_sessions), limit]
            await DeferredList(either, fireOnOneCallback=True)
            if timer.active():
                timer.cancel()
        for session in tuple(self.sessions.values()):
            session.connection.abort()
        await DeferredList(self._closings())
        await self.control.stop()

    def _closings(self) -> list[Deferred[None]]:
        return [session.connection.when_closed() for session in self.sessions.values()]

    # the control connection

    def _connected(self, event: Connected) -> None:
        if self._stopping is None:
            for pool in self._pools.values():
                pool.open()

    def _disconnected(self, event: Disconnected) -> None:
        for pool in self._pools.values():
            pool.shut()

    def _ended(self, event: Ended) -> None:
        for pool in self._pools.values():
            pool.give_up_all()
        if event.reason is None:
            self.control.when_stopped().addBoth(lambda _: self.done.callback(None))
        else:
            self._log.error("stopped by the gateway: {why}", why=event.reason.getErrorMessage())
            self.done.errback(event.reason)

    def _port_state(self, state: PortState) -> None:
        self._pools[Protocol.ZMQ].empty_ports(state.zmq_empty_ports)
        self._pools[Protocol.SRT].empty_ports(state.srt_empty_ports)

    def _port_grant(self, grant: PortGrant) -> None:
        if grant.session_id:
            self._pools[Protocol.ZMQ].granted(grant.zmq_port, grant.session_id)
            self._pools[Protocol.SRT].granted(grant.srt_port, grant.session_id)

    def _port_release(self, release: PortRelease) -> None:
        for pool in self._pools.values():
            pool.released(release.session_id)

    def _session_end(self, end: SessionEnd) -> None:
        session = self._recent.pop(end.pairing_id, None)
        if session is None:
            return
        session.end = end
        self._log.info(
            "session {pairing_id} on {protocol} port {port} ended: {cause}, {fe_to_be} bytes in, "
            "{be_to_fe} bytes out, {seconds:.3f} s, trace_id={trace_id}",
            pairing_id=end.pairing_id,
            protocol=end.protocol,
            port=end.port,
            cause=end.cause,
            fe_to_be=end.fe_to_be_bytes,
            be_to_fe=end.be_to_fe_bytes,
            seconds=end.seconds,
            trace_id=session.paired.trace_id,
        )

    def _telemetry(self, telemetry: Telemetry) -> None:
        if self._on_link is not None and telemetry.link is not UNSET:
            self._on_link(telemetry.link)

    # the ports

    def _dial(self, port: int) -> Deferred[DataConnection]:
        hello = Hello(
            role=Role.BE,
            client_id=self.control.client_id,
            service=self._service,
            ack=True,
            on_fe_close="close",
            proxy=self._proxy,
        )
        endpoint = self._gateway.data_endpoint(self._reactor, self._endpoints, port)
        return open_data(self._reactor, endpoint, hello)

    def _paired(self, protocol: Protocol, port: int, connection: DataConnection) -> None:
        paired, receiver = connection.paired, connection.receiver
        if paired is None or not isinstance(receiver, Stream):
            raise TypeError("a connection that is not paired was passed on as a session")
        session = Session(protocol, port, connection, paired, receiver)
        self.sessions[paired.pairing_id] = session
        self._recent[paired.pairing_id] = session
        while len(self._recent) > REMEMBERED + len(self.sessions):
            del self._recent[next(iter(self._recent))]
        connection.when_closed().addCallback(lambda _: self._over(session))
        self._log.info(
            "session {pairing_id} on {protocol} port {port} with {client_id} at {address} "
            "begins, trace_id={trace_id}",
            pairing_id=paired.pairing_id,
            protocol=protocol,
            port=port,
            client_id=paired.client_id,
            address=paired.address,
            trace_id=paired.trace_id,
        )
        self._serve(session)

    def _serve(self, session: Session) -> None:
        try:
            result = self._on_session(session)
        except Exception:
            self._session_failed(Failure(), session)
            return
        if isinstance(result, Awaitable):
            served: Deferred[object] = maybeDeferred(lambda: result)
            served.addCallback(self._served, session)
            served.addErrback(self._session_failed, session)

    def _served(self, result: object, session: Session) -> None:
        session.stream.end()
        session.stream.discard()

    def _session_failed(self, failure: Failure, session: Session) -> None:
        paired = session.paired
        told: dict[str, Any] = {"pairing_id": paired.pairing_id, "trace_id": paired.trace_id}
        if failure.check(StreamReset):  # the peer's doing, and no fault of the callback's
            self._log.info(
                "session {pairing_id} broke: {why}, trace_id={trace_id}",
                why=failure.getErrorMessage(),
                **told,
            )
        else:
            text = "session {pairing_id} failed, trace_id={trace_id}"
            self._log.failure(text, failure=failure, **told)
        session.connection.abort()

    def _over(self, session: Session) -> None:
        self.sessions.pop(session.paired.pairing_id, None)
        self._pools[session.protocol].session_over(session.port)
