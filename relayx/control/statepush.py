"""Pushes ``port_state`` to every client: coalesced, encoded once, in slices (section 4).

What changes while a push is under way goes out with the next one. Nobody gets a state older than
one that it has: who was told the newer one meanwhile is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from relayx.control.factory import ControlFactory
from relayx.core.messages import PortState

SOON = 0.005
"""Seconds from a change to its push where none has been for a while; more changes join it."""

LEAST_GAP = 0.02
"""Seconds between two pushes, at least."""

SLICE = 64
"""Clients that are sent to in one turn of the reactor."""


class StatePush:
    """When to push, and to whom.

    :param reactor: an IReactorTime.
    :param recipients: gives the connections to push to and whether each is a 1.1 client.
    :param state: gives what ``port_state`` says now, for 1.1 clients or for others.
    """

    def __init__(
        self,
        reactor: Any,
        factory: ControlFactory,
        recipients: Callable[[], list[tuple[int, bool]]],
        state: Callable[[bool], PortState],
    ) -> None:
        self._reactor = reactor
        self._factory = factory
        self._recipients = recipients
        self._state = state
        self._call: Any = None
        self._sending = False
        self._changed = False
        self._traces: set[str] = set()
        self._ahead: set[int] = set()
        self._began = 0.0
        self._not_before = 0.0
        self._closed = False

    def changed(self, trace_id: str) -> None:
        """The state is another; `trace_id` is that of the request that caused it, or ""."""
        self._changed = True
        if len(self._traces) < 2:
            self._traces.add(trace_id)
        self._schedule()

    def told(self, conn: int) -> None:
        """A client was sent the state that is now.

        Where it has changed since the push under way began, that one passes the client over; the
        next one, which is due then, does not.
        """
        if self._sending and self._changed:
            self._ahead.add(conn)

    def close(self) -> None:
        """Push no more."""
        self._closed = True
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _schedule(self) -> None:
        if self._call is None and not self._sending and not self._closed:
            wait = self._not_before - self._reactor.seconds()
            self._call = self._reactor.callLater(max(SOON, wait), self._push)

    def _push(self) -> None:
        self._call = None
        self._changed = False
        self._sending = True
        self._began = self._reactor.seconds()
        trace_id = next(iter(self._traces)) if len(self._traces) == 1 else ""
        self._traces.clear()
        self._ahead.clear()
        recipients = self._recipients()
        lines = {
            v11: self._factory.encode(self._state(v11), trace_id)
            for v11 in {v11 for _, v11 in recipients}
        }
        self._factory.counts.sent[PortState.TYPE] += len(recipients)
        self._send_slice(iter(recipients), lines)

    def _send_slice(self, recipients: Iterator[tuple[int, bool]], lines: dict[bool, bytes]) -> None:
        self._call = None
        for _ in range(SLICE):
            following = next(recipients, None)
            if following is None:
                self._finish()
                return
            conn, v11 = following
            connection = self._factory.get(conn)
            if connection is not None and conn not in self._ahead:
                connection.outbox.send_newest("port_state", lines[v11])
        self._call = self._reactor.callLater(0, self._send_slice, recipients, lines)

    def _finish(self) -> None:
        """The longer a push took, the longer until the next: under load they go apart."""
        now = self._reactor.seconds()
        self._sending = False
        self._not_before = self._began + max(LEAST_GAP, 4 * (now - self._began))
        if self._changed:
            self._schedule()
