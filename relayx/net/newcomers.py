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
    ) -> None:
        self._reactor = reactor
        self._timeout = timeout
        self._limit = limit
        self._timed_out = timed_out
        self._crowded_out = crowded_out
        self._deadlines: OrderedDict[T, float] = OrderedDict()
        self._call: Any = None

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._deadlines))

    def __len__(self) -> int:
        return len(self._deadlines)

    def add(self, connection: T) -> None:
        """One more has come."""
        self._deadlines[connection] = self._reactor.seconds() + self._timeout
        if len(self._deadlines) > self._limit:
            oldest, _ = self._deadlines.popitem(last=False)
            self._crowded_out(oldest)
        if self._call is None and self._deadlines:
            self._call = self._reactor.callLater(self._timeout, self._look)

    def discard(self, connection: T) -> None:
        """One has said who it is, or is gone."""
        self._deadlines.pop(connection, None)

    def close(self) -> None:
        """Forget all of them."""
        self._deadlines.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self) -> None:
        self._call = None
        now = self._reactor.seconds()
        while self._deadlines:
            connection, deadline = next(iter(self._deadlines.items()))
            if deadline > now:
                self._call = self._reactor.callLater(deadline - now, self._look)
                return
            del self._deadlines[connection]
            self._timed_out(connection)
