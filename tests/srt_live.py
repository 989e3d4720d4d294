"""What the tests of SRT through a live gateway have in common."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet import reactor, threads
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from tests.guide_peer import DEADLINE, Control
from tests.live import Gateway, Peers

try:
    from tests import srt_peer
    from tests.srt_peer import Rejected, SrtPeer
except ImportError:
    MISSING = "cffi is not installed"
else:
    MISSING = srt_peer.missing()

OPEN = {"admission": "open"}
KEEP = {"admission": "open", "be_on_fe_close": "keep"}
BE = "#!::u=cam,m=publish"
FE = "#!::u=eye,m=request"


class SrtCase(TestCase):
    """What the tests of SRT have in common."""

    skip = MISSING or None

    def call(
        self, gateway: Peers, streamid: str | bytes = "", port: int = 0, **options: Any
    ) -> SrtPeer:
        """Connect to a port, by default the first srt port; closed in the end."""
        options.setdefault("latency", 20)
        peer = SrtPeer.connect(gateway.host, port or gateway.srt[0], streamid, **options)
        gateway.before_closing(peer.close)
        return peer

    def watched(self, gateway: Gateway, watcher: Control, count: int) -> None:
        """Wait until so many sessions move messages, and callers are decided on by that."""
        moving = gateway.service.data.srt._sessions._sessions
        deadline = time.monotonic() + DEADLINE
        while len(moving) < count:
            self.assertTrue(time.monotonic() < deadline, f"only {len(moving)} sessions move")
            watcher.ping()
        self.refreshed(gateway)

    def refreshed(self, gateway: Gateway) -> None:
        """Callers are decided on by the rules' state as it is now, not a moment ago."""
        threads.blockingCallFromThread(reactor, gateway.service.data.refresh)

    def obeyed(self, gateway: Gateway) -> None:
        """Wait until the SRT thread has done what the reactor has ordered."""
        done = threading.Event()
        engine = gateway.service.data.srt._engine
        threads.blockingCallFromThread(reactor, engine.order, done.set)
        self.assertTrue(done.wait(DEADLINE), "the SRT thread stands still")

    def ready(self, watcher: Control, port: int) -> None:
        """Wait until a port is listed as ready by SRT."""
        watcher.state(lambda state: port in state["srt_native_ready_ports"])

    def empty(self, watcher: Control, port: int) -> None:
        """Wait until a port is listed as empty."""
        watcher.state(lambda state: port in state["srt_empty_ports"])

    def rejected(
        self, gateway: Gateway, streamid: str | bytes = "", port: int = 0, **options: Any
    ) -> int:
        """Connect and be refused; the reason that libsrt gives the caller."""
        refusal = self.assertRaises(Rejected, self.call, gateway, streamid, port, **options)
        return int(refusal.code)


class Lines:
    """What the gateway of the test's own process has logged."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._news = threading.Condition()

    def __call__(self, event: LogEvent) -> None:
        with self._news:
            self.all.append(formatEvent(event))
            self._news.notify_all()

    def wait_for(self, *parts: str) -> str:
        """The first line that has all these parts, as soon as it is there."""

        def found() -> str:
            return next((one for one in self.all if all(part in one for part in parts)), "")

        with self._news:
            line = self._news.wait_for(found, DEADLINE)
        if not line:
            raise AssertionError(f"no line has {parts}: {self.all}")
        return line


@contextmanager
def logged() -> Iterator[Lines]:
    """The lines that are logged meanwhile."""
    lines = Lines()
    observer: Callable[[LogEvent], None] = lines
    globalLogPublisher.addObserver(observer)
    try:
        yield lines
    finally:
        globalLogPublisher.removeObserver(observer)


def numbered(first: int, count: int, size: int = 200) -> list[bytes]:
    """Messages that tell which they are."""
    return [
        number.to_bytes(4, "big") + bytes(size + number % 700)
        for number in range(first, first + count)
    ]


def number_of(message: bytes) -> int:
    """Which of :func:`numbered` it is."""
    return int.from_bytes(message[:4], "big")
