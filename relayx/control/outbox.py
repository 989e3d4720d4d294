"""Sends to one client without letting a slow reader hold memory (contract sections 1 and 3).

Messages are kept in order up to ``max_outbox_bytes``; past that the client is dropped. What
is only worth having while it is fresh is kept once, the newest (``port_state``,
``telemetry``), and log lines are kept in a short queue that loses its oldest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

LOG_LINES = 256
"""Most log lines kept for a client that lags."""


@implementer(IPushProducer)
class Outbox:
    """The way out to one client.

    :param transport: an ITransport and IConsumer; it pauses this producer.
    :param max_bytes: most bytes kept here beyond the transport's own buffer.
    :param overflowed: called once when a client reads too slowly to stay under that.
    """

    __slots__ = (
        "_closed", "_fresh", "_logs", "_max_bytes", "_overflowed", "_paused", "_queue",
        "_queued", "_transport", "log_lines_dropped",
    )  # fmt: skip

    def __init__(self, transport: Any, max_bytes: int, overflowed: Callable[[], None]) -> None:
        self._transport = transport
        self._max_bytes = max_bytes
        self._overflowed = overflowed
        self._paused = False
        self._closed = False
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._fresh: dict[str, bytes] = {}
        self._logs: deque[bytes] = deque(maxlen=LOG_LINES)
        self.log_lines_dropped = 0
        transport.registerProducer(self, True)

    @property
    def lags(self) -> bool:
        """Whether what is sent now waits, since the client has not read what was sent before."""
        return self._paused

    def change(self, max_bytes: int) -> None:
        """Go by another limit from now on."""
        self._max_bytes = max_bytes

    def send(self, data: bytes) -> None:
        """Send a message that must arrive, and in order."""
        if self._closed:
            return
        if not self._paused:
            self._transport.write(data)
            return
        self._queue.append(data)
        self._queued += len(data)
        if self._queued > self._max_bytes:
            self.close()
            self._overflowed()

    def send_newest(self, kind: str, data: bytes) -> None:
        """Send something that replaces an unsent one of the same `kind`."""
        if self._closed:
            return
        if self._paused:
            self._fresh[kind] = data
        else:
            self._transport.write(data)

    def send_logs(self, lines: list[bytes]) -> None:
        """Send log lines, or keep the newest few of them."""
        if self._closed:
            return
        if not self._paused:
            self._transport.writeSequence(lines)
            return
        for line in lines:
            if len(self._logs) == LOG_LINES:
                self.log_lines_dropped += 1
            self._logs.append(line)

    def close(self) -> None:
        """Send nothing more; what the transport holds still goes out."""
        if not self._closed:
            self._closed = True
            self._queue.clear()
            self._fresh.clear()
            self._logs.clear()
            self._transport.unregisterProducer()

    def flush(self) -> None:
        """Hand all that is queued to the transport, before an orderly close."""
        for data in self._queue:
            self._transport.write(data)
        self._queue.clear()

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The transport's buffer is empty: go on with what was kept."""
        self._paused = False
        while self._queue and not self._paused:
            data = self._queue.popleft()
            self._queued -= len(data)
            self._transport.write(data)
        while self._fresh and not self._paused:
            self._transport.write(self._fresh.pop(next(iter(self._fresh))))
        while self._logs and not self._paused:
            self._transport.write(self._logs.popleft())

    def stopProducing(self) -> None:
        """The connection is gone."""
        self.close()
