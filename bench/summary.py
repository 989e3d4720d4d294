"""Medians and spreads over the rounds, and ratios inside each round."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from bench.rounds import Measurement


@dataclass(frozen=True)
class Spread:
    """A figure over several rounds."""

    median: float
    least: float
    most: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(median(values), min(values), max(values), len(values))


class Summary:
    """All measurements of a run, by workload, peer and figure."""

    def __init__(self, measurements: Iterable[Measurement]) -> None:
        self._values: dict[tuple[str, str, str], dict[int, float]] = {}
        self._faults: dict[tuple[str, str], list[str]] = {}
        for one in measurements:
            place = (one.workload, one.peer)
            told = [f"round {one.round}: {fault}" for fault in one.measured.faults]
            self._faults.setdefault(place, []).extend(told)
            for key, value in one.measured.values.items():
                self._values.setdefault((*place, key), {})[one.round] = value

    def spread(self, workload: str, peer: str, key: str) -> Spread | None:
        """Over the rounds in which it was measured."""
        values = self._values.get((workload, peer, key))
        return Spread.of(list(values.values())) if values else None

    def ratio(self, workload: str, peer: str, other: str, key: str) -> Spread | None:
        """`peer` divided by `other`, round by round: what slows a round down slows both."""
        mine = self._values.get((workload, peer, key), {})
        theirs = self._values.get((workload, other, key), {})
        ratios = [value / theirs[number] for number, value in mine.items() if theirs.get(number)]
        return Spread.of(ratios) if ratios else None

    def measured(self, workload: str, peer: str) -> bool:
        """Whether there is anything of it at all."""
        return (workload, peer) in self._faults

    def faults(self, workload: str, peer: str) -> list[str]:
        """Everything that went wrong, with its round."""
        return self._faults.get((workload, peer), [])

    def as_json(self) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
        """By workload, peer and figure."""
        told: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
        for (workload, peer, key), values in self._values.items():
            spread = Spread.of(list(values.values()))
            told.setdefault(workload, {}).setdefault(peer, {})[key] = {
                "median": spread.median,
                "min": spread.least,
                "max": spread.most,
                "rounds": spread.rounds,
            }
        return told
