"""Log lines that repeat: the first few are written, then one that counts the rest.

Lines repeat where they tell of the same event, at the same level, from the same source. A line
that stands for something that is accounted for, such as the end of a session, is never left out.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import msgspec
from twisted.logger import ILogObserver, LogEvent, LogLevel
from zope.interface import implementer

from relayx.logs import Renderer

FIRST = 20
"""Lines of one kind from one source that are written within :data:`WINDOW`."""

WINDOW = 10.0
"""Seconds."""

MOST_KINDS = 4096
"""Kinds that are counted at once; past it the oldest begins anew."""

ALWAYS = frozenset({
    "session_end", "started", "stopping", "stopped", "reloaded", "reload_failed", "admin",
})  # fmt: skip
"""Events that are always written."""

OF_CLIENTS = frozenset({
    "registered", "lost", "reaped", "taken_over", "granted", "lease_ended",
})  # fmt: skip
"""Events that tell of a client that is registered, each of which is a source of its own."""

Kind = tuple[str, str, str]


class Count(msgspec.Struct):
    """The lines of one kind.

    :ivar until: when its window ends; `lines` that came in it, `example` one that was left out.
    """

    until: float
    lines: int = 0
    example: LogEvent | None = None


class Repeats:
    """Which lines to write, and what to say of the others. Time goes in, lines come out.

    :ivar left_out: how many lines have been left out, since the start.
    """

    def __init__(self, first: int = FIRST, window: float = WINDOW, most: int = MOST_KINDS) -> None:
        self._first = first
        self._window = window
        self._most = most
        self._counts: OrderedDict[Kind, Count] = OrderedDict()
        self.left_out = 0

    def admit(self, event: LogEvent, now: float) -> bool:
        """Whether a line is to be written."""
        if event.get("event") in ALWAYS or event.get("always"):
            return True
        kind = _kind(event)
        count = self._counts.get(kind)
        if count is None or now >= count.until:
            if count is not None and count.example is not None:
                return self._add(count, event)  # its summary is due, and is written first
            self._counts.pop(kind, None)
            count = self._counts[kind] = Count(now + self._window)
            if len(self._counts) > self._most:
                self._counts.popitem(last=False)
        return self._add(count, event)

    def _add(self, count: Count, event: LogEvent) -> bool:
        count.lines += 1
        if count.lines <= self._first:
            return True
        count.example = event
        self.left_out += 1
        return False

    def next_due(self) -> float | None:
        """When :meth:`summaries` has something to say, None where nothing was left out."""
        return min((c.until for c in self._counts.values() if c.example is not None), default=None)

    def summaries(self, now: float, *, all_of_them: bool = False) -> list[LogEvent]:
        """The lines that say how many were left out, of each kind whose window has ended.

        :param all_of_them: whether to end the windows of all kinds now.
        """
        found = []
        for kind, count in list(self._counts.items()):
            if count.until > now and not all_of_them:
                continue
            del self._counts[kind]
            if count.example is not None:
                found.append(_summary(kind, count.example, count.lines - self._first, now))
        return found


def _kind(event: LogEvent) -> Kind:
    told = event.get("event")
    what = str(told) if told else f"{event.get('log_namespace')} {event.get('log_format')}"
    if not told and event.get("log_format") == "{text}":
        what = str(event.get("text"))[:200]
    source = event.get("address") or event.get("client_id") or event.get("port") or ""
    if told in OF_CLIENTS:
        source = f"{source} {event.get('client_id', '')}"
    level = event.get("log_level", LogLevel.info)
    return what, str(source), str(level.name)


def _summary(kind: Kind, example: LogEvent, count: int, now: float) -> LogEvent:
    what, source, _ = kind
    of = f"{what} from {source}" if source else what
    kept = ("log_level", "log_namespace", "log_source", "log_logger", "address", "client_id")
    return {
        **{name: example[name] for name in kept if name in example},
        "log_time": now, "log_format": "{text}", "event": "repeated",
        "text": f"{count} more line{'' if count == 1 else 's'} of {of} left out",
    }  # fmt: skip


@implementer(ILogObserver)
class Unrepeating:
    """Passes on to an observer what its renderer shows, without the repeated lines.

    :param reactor: an IReactorTime and IReactorThreads.
    :param render: tells which lines are shown at all; others do not count.
    :ivar repeats: what is left out.
    """

    def __init__(self, reactor: Any, observer: Any, render: Renderer) -> None:
        self._reactor = reactor
        self._observer = observer
        self._render = render
        self.repeats = Repeats()
        self._lock = threading.Lock()
        self._scheduled = False
        self._call: Any = None
        self._closed = False

    def __call__(self, event: LogEvent) -> None:
        """Take one log event, from any thread."""
        if not self._render.shows(event):
            return
        with self._lock:
            admitted = self.repeats.admit(event, self._reactor.seconds())
            wake = not admitted and not self._scheduled and not self._closed
            self._scheduled = self._scheduled or wake
        if admitted:
            self._observer(event)
        if wake:
            self._reactor.callFromThread(self._schedule)

    def close(self) -> None:
        """Say how many were left out so far, and wait for no more."""
        self._closed = True
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._tell(all_of_them=True)

    def _schedule(self) -> None:
        with self._lock:
            due = self.repeats.next_due()
            self._scheduled = due is not None and not self._closed
        if due is not None and not self._closed:
            wait = max(0.0, due - self._reactor.seconds())
            self._call = self._reactor.callLater(wait, self._due)

    def _due(self) -> None:
        self._call = None
        self._tell()
        self._schedule()

    def _tell(self, *, all_of_them: bool = False) -> None:
        now = self._reactor.seconds()
        with self._lock:
            lines = self.repeats.summaries(now, all_of_them=all_of_them)
        for line in lines:
            self._observer(line)
