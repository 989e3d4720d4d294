"""A back end: keeps ports ready and serves the sessions that come (contract sections 4 to 8)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from relayx.client.control import ControlClient
from relayx.client.gateway import EndpointMaker, Gateway
from relayx.client.session import Session


class Backend:
    """Registers as a BE and keeps a water mark of waiting ports per protocol.

    Each pairing calls `on_session(session)`. It may return a Deferred or a coroutine: when
    that ends, our direction of the stream is ended and the rest of the other discarded;
    when it fails, or `on_session` raises, that session alone is aborted and the error logged.

    :param service: the name that the ports carry, 0 to 64 of a-z, 0-9, "-", ".".
    :param zmq: how many zmq ports shall wait at any time.
    :param srt: how many srt ports.
    :param client_id: "" lets the gateway choose.
    :param endpoints: how to reach a host and port; TCP with a dial timeout of 3 s by default.
    :param rng: chooses among the empty ports, and the jitter.

    :ivar control: the control client; its `events` tell more.
    :ivar done: fires after `stop`; fails with the reason of a final stop
        (``AUTH_FAILED``, ``TAKEN_OVER``).
    :ivar sessions: those that run now, by pairing id.
    """

    control: ControlClient
    done: Deferred[None]
    sessions: dict[str, Session]

    def __init__(
        self,
        reactor: Any,
        gateway: Gateway,
        service: str = "",
        zmq: int = 0,
        srt: int = 0,
        *,
        on_session: Callable[[Session], object],
        client_id: str = "",
        endpoints: EndpointMaker | None = None,
        rng: random.Random | None = None,
    ) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Begin to register and to wait."""

    def set_marks(self, zmq: int, srt: int) -> None:
        """Change how many ports shall wait; those above the mark are given up."""

    @property
    def waiting(self) -> dict[str, tuple[int, ...]]:
        """The ports where this BE waits now, sorted, by protocol."""
        raise NotImplementedError

    def stop(self, grace: float = 0.0) -> Deferred[None]:
        """Give up the waiting ports, let running sessions end for `grace` seconds, stop."""
        raise NotImplementedError
