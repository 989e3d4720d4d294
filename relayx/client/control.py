"""The control connection of a client: registers, stays registered, asks (contract 2 and 3)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from relayx.client.events import Events
from relayx.client.gateway import EndpointMaker, Gateway
from relayx.core.messages import PortGrant, PortState, Role


class ControlClient:
    """Registers with a gateway and comes back after each loss, until it is stopped.

    The connection is tried again after 50 ms to 5 s, with jitter, always under the same
    random `instance` and the id that the gateway gave. ``AUTH_FAILED`` and ``TAKEN_OVER``
    are final: the client stops by itself. What is asked for while there is no connection
    waits for one; what was asked on a connection that ends fails with `ControlLost`.

    :param reactor: provides IReactorTime, and IReactorTCP unless `endpoints` is given.
    :param role: FE or BE.
    :param client_id: "" lets the gateway choose.
    :param endpoints: how to reach a host and port; TCP with a dial timeout of 3 s by default.
    :param request_timeout: seconds that a request may take, the wait for a connection included.
    :param jitter: returns a random number from 0 up to 1.

    :ivar instance: random, one for each object.
    :ivar client_id: what the gateway calls this client, "" before the first `auth`.
    :ivar connected: whether the client is registered now.
    :ivar events: what comes unasked, `Events.on`.
    :ivar state: the newest `port_state` that was pushed, None before the first.
    """

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
    ) -> None:
        self.events = Events()
        raise NotImplementedError

    def start(self) -> None:
        """Begin to connect. Starting twice does nothing."""

    def stop(self) -> Deferred[None]:
        """Close the connection for good; fires when that is done. What waits fails: `Stopped`."""
        raise NotImplementedError

    def when_connected(self) -> Deferred[str]:
        """Fire with the `client_id` once registered; fail with the reason of a final stop."""
        raise NotImplementedError

    def when_stopped(self) -> Deferred[None]:
        """Fire after `stop`; fail with `Refused` where the gateway's answer was final."""
        raise NotImplementedError

    def acquire(
        self,
        *,
        need_zmq: bool = False,
        need_srt: bool = False,
        ttl_seconds: int = 30,
        service: str = "",
        be: str | None = None,
        timeout: float | None = None,
        trace_id: str = "",
    ) -> Deferred[PortGrant]:
        """Lease one port of each protocol asked for (contract section 5).

        ``PORT_EXHAUSTED`` is tried again with backoff, for `timeout` seconds (None: without
        end, 0: not at all). Cancelling gives back what is granted later.

        Fails with `Refused`, `ControlLost`, `TimedOut` or `Stopped`.
        """
        raise NotImplementedError

    def release(self, session_id: str) -> Deferred[None]:
        """End a lease. Fails with `Refused` (``INVALID_REQUEST``) where it is not ours."""
        raise NotImplementedError

    def port_state(self, *, need_zmq: bool = False, need_srt: bool = False) -> Deferred[PortState]:
        """Ask for the ports' states; with neither flag, of both protocols."""
        raise NotImplementedError

    def ping(self) -> Deferred[float]:
        """Seconds that a ping takes to the gateway and back."""
        raise NotImplementedError

    def exchange_key(self, public_key: str) -> Deferred[None]:
        """Tell every FE this BE's public key (PEM), again after each reconnect."""
        raise NotImplementedError

    def subscribe_telemetry(self) -> Deferred[None]:
        """As a BE, have `Telemetry` events every 100 ms, after each reconnect too."""
        raise NotImplementedError
