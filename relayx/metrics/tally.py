"""Counters and histograms that are moved in the reactor's thread alone, and so without locks.

prometheus-client's own take a lock and a few calls for each number that moves, of which a short
session moves seven. What is read out of these is the same.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Generic, TypeVar

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]


class Count:
    """One series of a counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self) -> None:
        """One more."""
        self.value += 1


class Spread:
    """One series of a histogram.

    :param bounds: the upper ones of the buckets, in their order.
    """

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """One value more."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value


Kind = TypeVar("Kind", Count, Spread)


class By(Collector, Generic[Kind]):
    """The series of a metric by their labels; one without labels is there from the start.

    :ivar labels: their names.
    """

    def __init__(self, name: str, text: str, labels: Labels, make: Callable[[], Kind]) -> None:
        self.name = name
        self.text = text
        self.labels = labels
        self._make: Callable[[], Kind] = make
        self._found: dict[Labels, Kind] = {}
        if not labels:
            self()

    def __call__(self, *labels: str) -> Kind:
        """The series with these labels."""
        found = self._found.get(labels)
        if found is None:
            found = self._found[labels] = self._make()
        return found

    def series(self) -> list[tuple[Labels, Kind]]:
        """All of them."""
        return list(self._found.items())


class CounterBy(By[Count]):
    """A counter; its name without ``_total``."""

    def __init__(self, name: str, text: str, *labels: str) -> None:
        super().__init__(name, text, labels, Count)

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client.registry.Collector."""
        family = CounterMetricFamily(self.name, self.text, labels=self.labels)
        for labels, count in self.series():
            family.add_metric(labels, count.value)
        yield family


class HistogramBy(By[Spread]):
    """A histogram with these buckets.

    :ivar elsewhere: gives what is counted elsewhere, by the same buckets: labels, count of each
        bucket, sum.
    """

    elsewhere: Callable[[], Iterable[tuple[Labels, list[int], float]]] = tuple

    def __init__(self, name: str, text: str, bounds: tuple[float, ...], *labels: str) -> None:
        super().__init__(name, text, labels, lambda: Spread(bounds))
        self._ends = [floatToGoString(bound) for bound in (*bounds, float("inf"))]

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client.registry.Collector."""
        family = HistogramMetricFamily(self.name, self.text, labels=self.labels)
        found = {labels: (spread.counts, spread.sum) for labels, spread in self.series()}
        for labels, counts, total in self.elsewhere():
            before, summed = found.get(labels, ([0] * len(counts), 0.0))
            added = [one + other for one, other in zip(before, counts, strict=True)]
            found[labels] = added, summed + total
        for labels, (counts, total) in found.items():
            family.add_metric(labels, list(zip(self._ends, accumulate(counts), strict=True)), total)
        yield family
