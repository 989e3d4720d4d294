"""Runs every workload with every peer, round after round, one measurement at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.idle import affordable
from bench.loader import Loader
from bench.machine import load_average
from bench.measured import Measured
from bench.peers import Peer
from bench.processes import PeerError
from bench.workloads import Workload


@dataclass
class Measurement:
    """One workload with one peer in one round."""

    round: int
    workload: str
    peer: str
    load_average: list[float]
    measured: Measured

    def as_json(self) -> dict[str, Any]:
        """As it stands in the results."""
        flat = asdict(self)
        measured: dict[str, Any] = flat.pop("measured")
        return flat | measured


def measure(peer: Peer, workload: Workload, loader: Loader) -> Measured:
    """A fresh instance of `peer` under `workload`; what goes wrong becomes a fault."""
    try:
        sessions = affordable(workload.sessions, peer.descriptors_each)
        with peer.running(sessions) as running:
            return workload.measure(running, loader)
    except (PeerError, OSError) as error:
        return Measured(faults=[" ".join(f"{type(error).__name__}: {error}".split())])


def run(
    peers: Sequence[Peer],
    workloads: Sequence[Workload],
    rounds: int,
    loader: Loader,
    say: Callable[[str], None],
) -> Iterator[Measurement]:
    """Yield each measurement as it is done.

    Peers follow each other on every workload, so that whatever else the machine does falls on
    all of them, and another one begins in each round.
    """
    for number in range(1, rounds + 1):
        shift = (number - 1) % max(len(peers), 1)
        order = [*peers[shift:], *peers[:shift]]
        say(f"round {number} of {rounds}, load average {load_average()}")
        for workload in workloads:
            for peer in order:
                before = load_average()
                result = measure(peer, workload, loader)
                first = workload.figures[:2]
                told = ", ".join(
                    f"{result.values[figure.key]:,.{figure.digits}f} {figure.title}"
                    for figure in first
                    if figure.key in result.values
                )
                fault = "  FAULT: " + "; ".join(result.faults) if result.faults else ""
                say(f"  {workload.name:8} {peer.name:16} {told}{fault}")
                yield Measurement(number, workload.name, peer.name, before, result)


def expected_seconds(
    peers: Sequence[Peer], workloads: Sequence[Workload], rounds: int, loader: Loader
) -> float:
    """About how long :func:`run` takes."""
    return rounds * len(peers) * sum(workload.seconds(loader) for workload in workloads)
