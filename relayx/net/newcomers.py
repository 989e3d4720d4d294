"""Connections that are nobody's, yet or any more: limited in number and in time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

LINGER = 1.0
"""Seconds for which a connection that is turned away is still read and dropped, so that what it
was told last is not lost to a reset (contract sections 2 and 6)."""


class Newcomers(Generic[T]):
    """At most `limit` of them; past it the oldest goes. Each has `timeout` seconds.

    All wait equally long, so that one timer, for the oldest, serves any number.

    :param reactor: an IReactorTime.
    :param per_source: most of one source, whose own oldest goes past it; 0 for no such limit.
    :param timed_out: called with one whose time is up; it is forgotten by then.
    :param crowded_out: called with the oldest where there are too many; likewise.
    """

    def __init__(
        self,
        reactor: Any,
        timeout: float,
        limit: int,
        *,
        timed_out: Callable[[T], None],
        crowded_out: Callable[[T], None],
        per_source: int = 0,
    ) -> None:
        self._reactor = reactor
        self._timeout = timeout
        self._limit = limit
        self._timed_out = timed_out
        self._crowded_out = crowded_out
        self._per_source = per_source
        self._deadlines: OrderedDict[T, float] = OrderedDict()
        self._sources: dict[T, str] = {}
        self._of_source: dict[str, dict[T, None]] = {}
        self._call: Any = None

    def change(self, timeout: float, limit: int, per_source: int = 0) -> None:
        """Go by other limits from now on, also for those that wait.

        :param per_source: 0 only where there was none before.
        """
        for connection in self._deadlines:
            self._deadlines[connection] += timeout - self._timeout
        self._timeout, self._limit, self._per_source = timeout, limit, per_source
        crowded = list(self._deadlines)[: max(0, len(self._deadlines) - limit)]
        for fellows in self._of_source.values():
            crowded += list(fellows)[: max(0, len(fellows) - per_source)]
        for connection in crowded:
            if connection in self._deadlines:
                self.discard(connection)
                self._crowded_out(connection)
        if self._call is not None:
            self._call.cancel()
        self._look()

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._deadlines))

    def __len__(self) -> int:
        return len(self._deadlines)

    def add(self, connection: T, source: str = "") -> None:
        """One more has come; where sources are limited, with its own."""
        self._deadlines[connection] = self._reactor.seconds() + self._timeout
        crowded = self._count(connection, source) if self._per_source else None
        if crowded is None and len(self._deadlines) > self._limit:
            crowded = next(iter(self._deadlines))
        if crowded is not None:
            self.discard(crowded)
            self._crowded_out(crowded)
        if self._call is None and self._deadlines:
            self._call = self._reactor.callLater(self._timeout, self._look)

    def _count(self, connection: T, source: str) -> T | None:
        """Count one for its source; the oldest of that source where they are too many."""
        self._sources[connection] = source
        fellows = self._of_source.setdefault(source, {})
        fellows[connection] = None
        return next(iter(fellows)) if len(fellows) > self._per_source else None

    def move(self, connection: T, source: str) -> None:
        """One turns out to be of another source, such as that a proxy told."""
        deadline = self._deadlines.get(connection)
        if deadline is None or not self._per_source:
            return
        self._uncount(connection)
        crowded = self._count(connection, source)
        if crowded is not None:
            self.discard(crowded)
            self._crowded_out(crowded)

    def discard(self, connection: T) -> None:
        """One has said who it is, or is gone."""
        if self._deadlines.pop(connection, None) is not None and self._per_source:
            self._uncount(connection)

    def _uncount(self, connection: T) -> None:
        source = self._sources.pop(connection)
        fellows = self._of_source[source]
        del fellows[connection]
        if not fellows:
            del self._of_source[source]

    def close(self) -> None:
        """Forget all of them."""
        self._deadlines.clear()
        self._sources.clear()
        self._of_source.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self) -> None:
        """Have those go whose time is up, and come back for the next."""
        self._call = None
        now = self._reactor.seconds()
        while self._deadlines:
            connection, deadline = next(iter(self._deadlines.items()))
            if deadline > now:
                self._call = self._reactor.callLater(deadline - now, self._look)
                return
            self.discard(connection)
            self._timed_out(connection)
