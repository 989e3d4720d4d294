"""``log``: the gateway's log lines to the clients that ``log.stream`` names.

A bounded queue stands between the log and the clients, and nothing that is logged while it
is being emptied gets into it: a line about sending a line can never feed it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from twisted.logger import ILogObserver, LogEvent
from zope.interface import implementer

from relayx.control.factory import ControlFactory

QUEUE = 1024
"""Most lines kept between two deliveries; the oldest are lost first."""

INTERVAL = 0.05


@implementer(ILogObserver)
class LogStream:
    """A log observer that sends each line on.

    :param reactor: an IReactorTime and IReactorThreads.
    :param render: turns an event into a line, None for one that is not to be shown.
    :param recipients: gives the connections to send to.
    """

    def __init__(
        self,
        reactor: Any,
        factory: ControlFactory,
        render: Callable[[LogEvent], str | None],
        recipients: Callable[[], Iterable[int]],
    ) -> None:
        self._reactor = reactor
        self._factory = factory
        self._render = render
        self._recipients = recipients
        self._queue: deque[str] = deque(maxlen=QUEUE)
        self._delivering = False
        self._closed = False
        self._call: Any = None
        self.lines_dropped = 0

    def __call__(self, event: LogEvent) -> None:
        """Take one log event, from any thread."""
        if self._delivering or self._closed:
            return
        line = self._render(event)
        if line is None:
            return
        if len(self._queue) == QUEUE:
            self.lines_dropped += 1
        self._queue.append(line)
        if self._call is None:
            self._call = True  # only one is ever under way
            self._reactor.callFromThread(self._schedule)

    def close(self) -> None:
        """Send no more."""
        self._closed = True
        if self._call not in (None, True):
            self._call.cancel()
        self._call = None

    def _schedule(self) -> None:
        if not self._closed:
            self._call = self._reactor.callLater(INTERVAL, self._deliver)

    def _deliver(self) -> None:
        self._call = None
        lines = list(self._queue)
        self._queue.clear()
        recipients = list(self._recipients())
        self._delivering = True
        try:
            encoded = [self._factory.encode(line.rstrip("\n")) for line in lines if recipients]
            for conn in recipients:
                connection = self._factory.get(conn)
                if connection is not None:
                    self._factory.counts.sent["log"] += len(encoded)
                    connection.outbox.send_logs(encoded)
        finally:
            self._delivering = False
