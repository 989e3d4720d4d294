"""A front end: asks for sessions (contract sections 5 to 7)."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from twisted.internet.defer import Deferred

from relayx.client.control import ControlClient
from relayx.client.data import ReceiverMaker
from relayx.client.gateway import EndpointMaker, Gateway
from relayx.client.session import LeasedSession


class Frontend:
    """Registers as an FE and opens sessions.

    :param client_id: "" lets the gateway choose.
    :param endpoints: how to reach a host and port; TCP with a dial timeout of 3 s by default.
    :param jitter: returns a random number from 0 up to 1.

    :ivar control: the control client, for `acquire` of two ports, `port_state`, `ping`, events.
    """

    control: ControlClient

    def __init__(
        self,
        reactor: Any,
        gateway: Gateway,
        client_id: str = "",
        *,
        endpoints: EndpointMaker | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Begin to register."""

    def stop(self) -> Deferred[None]:
        """Close the control connection; leases end with it, running sessions go on."""
        raise NotImplementedError

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
        10 s for the other side's end; leaving it by an exception aborts the stream.

        :param ttl: seconds that the lease holds, 1 to 600.
        :param timeout: seconds to get a session within; None tries without end.
        """
        raise NotImplementedError

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

        ``PORT_EXHAUSTED`` is tried again with backoff; ``TTL_EXPIRED``, ``PORT_EMPTY``,
        ``PORT_BUSY`` and ``PORT_RESERVED`` on the granted port release it and acquire anew.

        :param build: makes the protocol for the bytes; `Stream` by default.

        Fails with `Refused`, `ControlLost`, `DataLost`, `TimedOut`, `Stopped` or the dial's error.
        """
        raise NotImplementedError
