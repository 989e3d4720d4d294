"""``telemetry``: the gateway's throughput, from one timer for all who subscribed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from relayx.control.factory import ControlFactory
from relayx.core.messages import Telemetry

INTERVAL = 0.1


class TelemetryTimer:
    """Sends Mbps over both directions of every session, every 100 ms (contract section 3).

    :param reactor: an IReactorTime.
    :param bytes_moved: gives the bytes delivered since the start.
    """

    def __init__(
        self, reactor: Any, factory: ControlFactory, bytes_moved: Callable[[], int]
    ) -> None:
        self._reactor = reactor
        self._factory = factory
        self._bytes_moved = bytes_moved
        self._subscribers: set[int] = set()
        self._call: Any = None
        self._before = 0
        self._since = 0.0

    def subscribe(self, conn: int) -> None:
        """Send to this client from now on."""
        self._subscribers.add(conn)
        if self._call is None:
            self._before = self._bytes_moved()
            self._since = self._reactor.seconds()
            self._call = self._reactor.callLater(INTERVAL, self._send)

    def unsubscribe(self, conn: int) -> None:
        """This client is gone; without any, the timer stops."""
        self._subscribers.discard(conn)
        if not self._subscribers:
            self.close()

    def close(self) -> None:
        """Send no more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _send(self) -> None:
        self._call = self._reactor.callLater(INTERVAL, self._send)
        now, moved = self._reactor.seconds(), self._bytes_moved()
        seconds = now - self._since
        mbps = (moved - self._before) * 8 / 1e6 / seconds if seconds > 0 else 0.0
        self._before, self._since = moved, now
        message = Telemetry(current_speed=round(max(0.0, mbps), 6))
        line = self._factory.encode(message)
        self._factory.counts.went(message, len(self._subscribers))
        for conn in self._subscribers:
            connection = self._factory.get(conn)
            if connection is not None:
                connection.outbox.send_newest("telemetry", line)
