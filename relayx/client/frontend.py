"""A front end: asks for sessions (contract sections 5 to 7)."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectError

from relayx.client.backoff import Backoff
from relayx.client.control import ControlClient
from relayx.client.data import ANSWER_TIMEOUT, DataConnection, ReceiverMaker, open_data
from relayx.client.errors import ControlLost, DataLost, Refused, TimedOut
from relayx.client.gateway import EndpointMaker, Gateway, tcp_endpoints
from relayx.client.session import LeasedSession
from relayx.core.errors import Code
from relayx.core.hello import Hello
from relayx.core.messages import PortGrant, Protocol, Role

LINGER = 10.0
DIAL_ATTEMPTS = 5
ANOTHER_LEASE = frozenset({Code.TTL_EXPIRED, Code.PORT_EMPTY, Code.PORT_BUSY, Code.PORT_RESERVED})
"""Refusals on a data port that another lease may mend."""


class Frontend:
    """Registers as an FE and opens sessions.

    :param client_id: "" lets the gateway choose.
    :param endpoints: how to reach a host and port; TCP with a dial timeout of 3 s by default.
    :param jitter: returns a random number from 0 up to 1.

    :ivar control: the control client, for `acquire` of two ports, `port_state`, `ping`, events.
    """

    def __init__(
        self,
        reactor: Any,
        gateway: Gateway,
        client_id: str = "",
        *,
        endpoints: EndpointMaker | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._reactor = reactor
        self._gateway = gateway
        self._endpoints = endpoints or tcp_endpoints(reactor)
        self._jitter = jitter
        self.control = ControlClient(
            reactor, gateway, Role.FE, client_id, endpoints=self._endpoints, jitter=jitter
        )

    def start(self) -> None:
        """Begin to register."""
        self.control.start()

    def stop(self) -> Deferred[None]:
        """Close the control connection; leases end with it, running sessions go on."""
        return self.control.stop()

    def session(
        self,
        protocol: str = "zmq",
        service: str = "",
        be: str | None = None,
        ttl: int = 30,
        timeout: float | None = None,
    ) -> AbstractAsyncContextManager[LeasedSession]:
        """One session, for ``async with``: acquires, connects, and releases at the end.

        Leaving the block ends our direction, discards what still comes, and waits up to
        10 s for the other side's end: it raises `StreamReset` where the stream broke, and
        `TimedOut` (after an abort) where that end does not come. Leaving it by an exception
        aborts the stream.

        :param protocol: ``zmq`` or ``srt``.
        :param ttl: seconds that the lease holds, 1 to 600.
        :param timeout: seconds to get a session within; None tries without end.
        """
        return self._session(protocol, service, be, ttl, timeout)

    @asynccontextmanager
    async def _session(
        self, protocol: str, service: str, be: str | None, ttl: int, timeout: float | None
    ) -> AsyncIterator[LeasedSession]:
        opened = await self.open_session(protocol, service, be, ttl, timeout)
        stream = opened.stream
        try:
            yield opened
        except BaseException as error:
            stream.abort()
            if isinstance(error, Exception):  # not where the coroutine is only thrown away
                await opened.release()
            raise
        try:
            stream.end()
            stream.discard()
            await stream.closed().addTimeout(LINGER, self._reactor)
        except DeferredTimeout:
            stream.abort()
            raise TimedOut(f"the other side did not end within {LINGER:g} s") from None
        finally:
            await opened.release()

    def open_session(
        self,
        protocol: str = "zmq",
        service: str = "",
        be: str | None = None,
        ttl: int = 30,
        timeout: float | None = None,
        *,
        build: ReceiverMaker | None = None,
    ) -> Deferred[LeasedSession]:
        """Acquire, connect and pair; the caller calls `release` when the stream is over.

        ``PORT_EXHAUSTED``, ``RATE_LIMITED`` and a lost control connection are tried again with
        backoff, until `timeout`; ``TTL_EXPIRED``, ``PORT_EMPTY``, ``PORT_BUSY`` and
        ``PORT_RESERVED`` on the granted port release it and acquire anew. A data port that
        cannot be reached is given up after five attempts. Cancelling gives the lease back.

        :param build: makes the protocol for the bytes; `Stream` by default.

        Fails with `Refused`, `ControlLost`, `DataLost`, `TimedOut`, `Stopped`, the dial's
        error, or ValueError where `protocol` is neither zmq nor srt.
        """
        return Deferred.fromCoroutine(self._open(protocol, service, be, ttl, timeout, build))

    async def _open(
        self,
        protocol: str,
        service: str,
        be: str | None,
        ttl: int,
        timeout: float | None,
        build: ReceiverMaker | None,
    ) -> LeasedSession:
        label = Protocol(protocol)
        deadline = None if timeout is None else self._reactor.seconds() + timeout
        backoff = Backoff(self._jitter)
        unreachable = 0
        while True:
            try:
                grant = await self.control.acquire(
                    need_zmq=label is Protocol.ZMQ,
                    need_srt=label is Protocol.SRT,
                    ttl_seconds=ttl,
                    service=service,
                    be=be,
                    timeout=self._left(deadline),
                )
                return await self._connect(label, service, grant, deadline, build)
            except Refused as refused:
                if refused.code not in ANOTHER_LEASE:
                    raise
                await self._before_next(backoff, deadline, refused)
            except ControlLost as lost:
                await self._before_next(backoff, deadline, lost)
            except (ConnectError, DataLost) as error:
                unreachable += 1
                if unreachable >= DIAL_ATTEMPTS:
                    raise
                await self._before_next(backoff, deadline, error)

    def _left(self, deadline: float | None) -> float | None:
        return None if deadline is None else max(0.0, deadline - float(self._reactor.seconds()))

    async def _before_next(
        self, backoff: Backoff, deadline: float | None, error: Exception
    ) -> None:
        """Wait for the next attempt, or raise `error` where no time is left for one."""
        delay = backoff.next()
        if deadline is not None and self._reactor.seconds() + delay >= deadline:
            raise error
        await self.control.pause(delay)

    async def _connect(
        self,
        protocol: Protocol,
        service: str,
        grant: PortGrant,
        deadline: float | None,
        build: ReceiverMaker | None,
    ) -> LeasedSession:
        """Dial the granted port and pair; the lease is given back where that fails."""
        port = grant.zmq_port if protocol is Protocol.ZMQ else grant.srt_port
        hello = Hello(
            role=Role.FE,
            client_id=self.control.client_id,
            service=service,
            session_id=grant.session_id,
            ticket=grant.ticket,
            ack=True,
        )
        endpoint = self._gateway.data_endpoint(
            self._reactor, self._endpoints, port, grant.host or ""
        )
        left = self._left(deadline)
        limit = ANSWER_TIMEOUT if not left else min(ANSWER_TIMEOUT, left)
        connection: DataConnection | None = None
        try:
            connection = await open_data(
                self._reactor, endpoint, hello, build=build, answer_timeout=limit
            )
            receiver = await connection.when_paired()
        except Exception as error:
            if isinstance(error, CancelledError) and connection is not None:
                connection.abort()
            self.control.release(grant.session_id).addErrback(lambda _: None)
            raise
        if connection.paired is None:
            raise DataLost("the connection was paired without an answer")
        return LeasedSession(
            protocol, port, connection, connection.paired, receiver, grant, self.control.release
        )
