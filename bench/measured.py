"""One measurement, and what its figures mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A figure of a workload: its key, how a table calls it, and which way is better.

    :ivar compared: whether its ratio to another peer's says anything; not where zero is usual.
    """

    key: str
    title: str
    higher_is_better: bool = False
    digits: int = 2
    compared: bool = True


GBS = Figure("gb_per_s", "GB/s", higher_is_better=True)
CPU_GB = Figure("cpu_s_per_gb", "CPU s/GB", digits=3)
P50 = Figure("p50_us", "p50 µs", digits=1)
P99 = Figure("p99_us", "p99 µs", digits=1)
P999 = Figure("p999_us", "p99.9 µs", digits=1)
TRIPS = Figure("trips_per_s", "trips/s", higher_is_better=True, digits=0)
CPU_TRIPS = Figure("cpu_s_per_1000", "CPU s/1000", digits=4)
PAIRS = Figure("pairs_per_s", "pairs/s", higher_is_better=True, digits=0)
MEMORY = Figure("resident_mib", "RSS MiB", digits=1)
LOAD = Figure("load_cores", "load cores", digits=2)
SESSIONS = Figure("sessions", "sessions", higher_is_better=True, digits=0)
PER_SESSION = Figure("kib_per_session", "KiB/session", digits=1)
IDLE_CPU = Figure("idle_cpu_percent", "idle CPU %", digits=3, compared=False)
GROWTH = Figure("growth_mib", "growth MiB", digits=1, compared=False)
HELD = Figure("held_mib", "under way MiB", digits=0)
FIGURES = {
    figure.key: figure
    for figure in (
        *(GBS, CPU_GB, P50, P99, P999, TRIPS, CPU_TRIPS, PAIRS),
        *(MEMORY, LOAD, SESSIONS, PER_SESSION, IDLE_CPU, GROWTH, HELD),
    )
}


@dataclass
class Measured:
    """What one workload gave with one peer in one round.

    :ivar values: by :attr:`Figure.key`.
    :ivar faults: what was lost, wrong or refused, in words; empty where all is well.
    :ivar raw: what the load generator printed.
    """

    values: dict[str, float] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)
