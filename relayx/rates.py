"""How fast counters grow, for those who look at them now and then.

Nobody keeps a timer for it: each look is compared with the one before, unless that was only just.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

LEAST_SPAN = 1.0
"""Seconds over which a rate is taken, at least."""

MOST_KEPT = 4096
"""Counters that are remembered; those looked at longest ago are forgotten."""


class Rates:
    """What each name's counters were when they were looked at."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, _Seen] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def of(self, name: str, now: float, counts: tuple[int, ...], since: float) -> tuple[float, ...]:
        """Growth a second of each counter since the look before; at the first, since it was 0.

        :param now: seconds, as `since`, when the counters were 0.
        """
        seen = self._seen.get(name)
        if seen is None:
            seen = self._seen[name] = _Seen(since, (0,) * len(counts))
            if len(self._seen) > MOST_KEPT:
                self._seen.popitem(last=False)
        self._seen.move_to_end(name)
        span = now - seen.when
        if span >= LEAST_SPAN * 0.9:
            seen.rates = tuple(
                round(max(0, count - before) / span, 1)
                for count, before in zip(counts, seen.counts, strict=True)
            )
            seen.when, seen.counts = now, counts
        return seen.rates


class _Seen:
    __slots__ = ("counts", "rates", "when")

    def __init__(self, when: float, counts: tuple[int, ...]) -> None:
        self.when = when
        self.counts = counts
        self.rates = (0.0,) * len(counts)


class Trail:
    """How fast one counter grew in the last minutes; one look every `interval` seconds.

    :param clock: an IReactorTime.
    :param count: gives the counter.
    :ivar points: the end of each interval and its growth a second, the oldest first.
    """

    def __init__(self, clock: Any, count: Callable[[], int], interval: float, most: int) -> None:
        self.interval = interval
        self.points: deque[tuple[float, float]] = deque(maxlen=most)
        self._clock = clock
        self._count = count
        self._before = (0.0, 0)
        self._call: Any = None

    def start(self) -> None:
        """Begin to look."""
        self._before = (self._clock.seconds(), self._count())
        self._call = self._clock.callLater(self.interval, self._look)

    def _look(self) -> None:
        self._call = self._clock.callLater(self.interval, self._look)
        now, count = self._clock.seconds(), self._count()
        before, counted = self._before
        self._before = (now, count)
        if now > before:
            self.points.append((now, round(max(0, count - counted) / (now - before), 1)))

    def stop(self) -> None:
        """Look no more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
