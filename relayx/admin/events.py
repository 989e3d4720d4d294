"""Server-sent events: a snapshot each second, and what happens as it happens.

A reader that does not read is told to stop by its transport, as any producer is. From then on it
misses snapshots, of which only the newest counts, and events wait, up to :data:`MOST_WAITING`.
One that stays so for :data:`PATIENCE` seconds, or has more waiting, is dropped.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from relayx.admin.errors import Refusal
from relayx.admin.gateway import Gateway
from relayx.admin.model import Happened, Shown
from relayx.admin.server import AdminRequest

MOST_READERS = 32
MOST_WAITING = 256
"""Events of one reader."""

PATIENCE = 20.0
"""Seconds for which a reader may stand still."""

INTERVAL = 1.0
"""Seconds between two snapshots."""

_encoder = msgspec.json.Encoder(enc_hook=str)


@implementer(IPushProducer)
class _Reader:
    """One who reads.

    :ivar still_since: since when it does not, None while it does.
    """

    def __init__(self, request: AdminRequest, clock: Any) -> None:
        self.request = request
        self.still_since: float | None = None
        self._clock = clock
        self._waiting: deque[bytes] = deque()
        self._snapshot = b""

    def tell(self, line: bytes) -> bool:
        """Send an event, or have it wait; False where too many do."""
        if self.still_since is None:
            self.request.write(line)
            return True
        self._waiting.append(line)
        return len(self._waiting) <= MOST_WAITING

    def show(self, line: bytes) -> None:
        """Send a snapshot, or keep it instead of the one before."""
        if self.still_since is None:
            self.request.write(line)
        else:
            self._snapshot = line

    def pauseProducing(self) -> None:
        """It has enough."""
        if self.still_since is None:
            self.still_since = self._clock.seconds()

    def resumeProducing(self) -> None:
        """It has room."""
        self.still_since = None
        while self._waiting and self.still_since is None:
            self.request.write(self._waiting.popleft())
        if self._snapshot and self.still_since is None:
            line, self._snapshot = self._snapshot, b""
            self.request.write(line)

    def stopProducing(self) -> None:
        """It is gone."""


class EventStreams:
    """All who read.

    :param reactor: an IReactorTime.
    """

    def __init__(self, reactor: Any, gateway: Gateway) -> None:
        self._reactor = reactor
        self._gateway = gateway
        self._readers: set[_Reader] = set()
        self._call: Any = None

    def __len__(self) -> int:
        return len(self._readers)

    def open(self, request: AdminRequest) -> None:
        """Have a request read from now on.

        :raises Refusal: 503 where there are too many.
        """
        if len(self._readers) >= MOST_READERS:
            text = f"{MOST_READERS} readers are there already"
            raise Refusal(503, "TOO_MANY_READERS", text, headers={"Retry-After": "10"})
        for name, value in (
            ("Content-Type", "text/event-stream"),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("X-Accel-Buffering", "no"),  # nginx would keep it back
        ):
            request.setHeader(name, value)
        reader = _Reader(request, self._reactor)
        request.registerProducer(reader, True)
        request.notifyFinish().addErrback(lambda _: self._gone(reader))
        late = self._gateway.recent_events()
        if not self._readers:
            self._gateway.watch_events(self._happened)
        self._readers.add(reader)
        first = [_line("history", self._gateway.history())]
        first += [_line("happened", event) for event in late]
        reader.tell(b"retry: 2000\n\n" + b"".join(first))
        reader.show(_line("snapshot", self._gateway.snapshot()))
        if self._call is None:
            self._call = self._reactor.callLater(INTERVAL, self._tick)

    def _gone(self, reader: _Reader) -> None:
        self._readers.discard(reader)
        if not self._readers:
            self._rest()

    def _rest(self) -> None:
        self._gateway.unwatch_events(self._happened)
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _happened(self, event: Happened) -> None:
        line = _line("happened", event)
        for reader in list(self._readers):
            if not reader.tell(line):
                self._drop(reader)

    def _tick(self) -> None:
        self._call = None
        now = self._reactor.seconds()
        for reader in list(self._readers):
            if reader.still_since is not None and now - reader.still_since >= PATIENCE:
                self._drop(reader)
        if not self._readers:
            return
        self._call = self._reactor.callLater(INTERVAL, self._tick)
        line = _line("snapshot", self._gateway.snapshot())
        for reader in list(self._readers):
            reader.show(line)

    def _drop(self, reader: _Reader) -> None:
        self._readers.discard(reader)
        reader.request.channel.abort()
        if not self._readers:
            self._rest()

    def close(self) -> None:
        """End every stream."""
        readers, self._readers = self._readers, set()
        for reader in readers:
            reader.request.unregisterProducer()
            reader.request.finish()
        self._rest()


def _line(event: str, told: Shown) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event.encode(), _encoder.encode(told))
