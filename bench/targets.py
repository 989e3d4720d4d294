"""What the byte path is to reach, and whether a run shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench import measured as m
from bench.measured import FIGURES
from bench.summary import Spread, Summary

AT_LEAST, AT_MOST, UNDER = ">=", "<=", "<"


@dataclass(frozen=True)
class Target:
    """A bound on a figure, or on its ratio to another peer's where one is named."""

    workload: str
    key: str
    sign: str
    bound: float
    other: str = ""

    def holds(self, value: float) -> bool:
        """Whether `value` is inside the bound."""
        if self.sign == AT_LEAST:
            return value >= self.bound
        return value < self.bound if self.sign == UNDER else value <= self.bound

    def text(self) -> str:
        """As a table shows it."""
        what = f" x {self.other}" if self.other else ""
        return f"{self.sign} {self.bound:g}{what}"


def _targets() -> Iterator[Target]:
    gbs, cpu = m.GBS.key, m.CPU_GB.key
    yield Target("bulk1", gbs, AT_LEAST, 1.35, "haproxy")
    yield Target("bulk1", gbs, AT_LEAST, 1.25, "nginx")
    yield Target("bulk1", gbs, AT_LEAST, 1.0, "go")
    yield Target("bulk16", gbs, AT_LEAST, 1.5, "haproxy")
    yield Target("bulk16", gbs, AT_LEAST, 1.4, "nginx")
    for bulk in ("bulk1", "bulk4", "bulk16", "both4"):
        yield Target(bulk, cpu, AT_MOST, 0.35, "twisted")
        yield Target(bulk, cpu, AT_MOST, 0.5, "haproxy")
        yield Target(bulk, cpu, AT_MOST, 1.0, "go")
    yield Target("ping1", m.P50.key, AT_MOST, 1.2, "haproxy")
    yield Target("ping1", m.P50.key, AT_MOST, 0.9, "twisted")
    yield Target("ping32", m.TRIPS.key, AT_LEAST, 0.8, "haproxy")
    yield Target("ping32", m.TRIPS.key, AT_LEAST, 1.4, "twisted")
    yield Target("churn", m.PAIRS.key, AT_LEAST, 0.45, "haproxy")
    yield Target("mixed", m.P99.key, AT_MOST, 1.0, "haproxy")
    yield Target("idle", m.PER_SESSION.key, AT_MOST, 16.0)
    yield Target("idle", m.IDLE_CPU.key, UNDER, 0.5)
    yield Target("stall", m.GROWTH.key, UNDER, 20.0)


TARGETS = tuple(_targets())


@dataclass(frozen=True)
class Judged:
    """A target and what a run says of it."""

    peer: str
    target: Target
    reached: Spread | None
    faults: int

    @property
    def verdict(self) -> str:
        """``met``, ``not met``, or ``not measured``. With a fault nothing is met."""
        if self.reached is None:
            return "not met (faults)" if self.faults else "not measured"
        if not self.target.holds(self.reached.median):
            return "not met"
        return "not met (faults)" if self.faults else "met"

    def as_json(self) -> dict[str, object]:
        """For the results."""
        reached = self.reached
        return {
            "peer": self.peer,
            "workload": self.target.workload,
            "figure": self.target.key,
            "target": self.target.text(),
            "median": reached and reached.median,
            "min": reached and reached.least,
            "max": reached and reached.most,
            "verdict": self.verdict,
        }

    def row(self) -> list[str]:
        """For a table."""
        figure = FIGURES[self.target.key]
        if self.reached is None:
            told = "-"
        else:
            spread = self.reached
            told = f"{spread.median:.2f} ({spread.least:.2f}..{spread.most:.2f})"
        return [self.target.workload, figure.title, self.target.text(), told, self.verdict]


def judge(summary: Summary, peer: str) -> list[Judged]:
    """Every target for the gateway called `peer`."""
    judged = []
    for target in TARGETS:
        if target.other:
            reached = summary.ratio(target.workload, peer, target.other, target.key)
        else:
            reached = summary.spread(target.workload, peer, target.key)
        judged.append(Judged(peer, target, reached, len(summary.faults(target.workload, peer))))
    return judged
