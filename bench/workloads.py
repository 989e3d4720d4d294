"""What is done to each peer, by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bench import measured as m
from bench.loader import Loader
from bench.measured import Figure, Measured
from bench.peers import Pair, Running
from bench.processes import memory_kib

GB = 1e9
MIB = 1024 * 1024


@dataclass(frozen=True)
class Workload(ABC):
    """A way to load a peer.

    :ivar name: for ``--only`` and the results.
    :ivar title: for tables.
    :ivar sessions: how many the peer must be ready for.
    """

    name: str
    title: str
    sessions: int

    @property
    @abstractmethod
    def figures(self) -> Sequence[Figure]:
        """What it measures, the figure that it is about first."""

    def seconds(self, loader: Loader) -> float:
        """About how long one measurement takes, set-up included."""
        return loader.seconds + loader.warmup + 1.2

    @abstractmethod
    def measure(self, running: Running, loader: Loader) -> Measured:
        """Do it once."""


@contextmanager
def pairs(running: Running, count: int, first: int = 0) -> Iterator[list[Pair]]:
    """Sessions set up one after the other, and closed in the end."""
    made: list[Pair] = []
    try:
        for index in range(first, first + count):
            made.append(running.pair(index))
        yield made
    finally:
        for pair in made:
            for end in pair:
                end.close()


@dataclass(frozen=True)
class Streams(Workload):
    """Floods and ping-pongs on sessions that stay.

    :ivar floods: sessions flooded from client to server.
    :ivar both: whether they are also flooded the other way.
    :ivar pings: sessions with a 64 byte ping-pong.
    """

    floods: int = 0
    both: bool = False
    pings: int = 0

    @property
    def figures(self) -> Sequence[Figure]:
        """Throughput for floods alone, else latency first."""
        if not self.pings:
            return (m.GBS, m.CPU_GB, m.MEMORY, m.LOAD)
        if self.floods:
            return (m.P99, m.P50, m.P999, m.TRIPS, m.GBS, m.CPU_GB, m.MEMORY, m.LOAD)
        if self.pings > 1:
            return (m.TRIPS, m.P50, m.P99, m.P999, m.CPU_TRIPS, m.MEMORY, m.LOAD)
        return (m.P50, m.TRIPS, m.P99, m.P999, m.CPU_TRIPS, m.MEMORY, m.LOAD)

    def measure(self, running: Running, loader: Loader) -> Measured:
        """Set up, load, and look whether everything arrived."""
        with pairs(running, self.sessions) as made:
            words = ["streams"]
            for number, (client, server) in enumerate(made):
                a, b = client.fileno(), server.fileno()
                if number >= self.floods:
                    words.append(f"ping:{a}:{b}")
                    continue
                words.append(f"flood:{a}:{b}")
                if self.both:
                    words.append(f"flood:{b}:{a}")
            watched = running.pids()
            told = loader.run(words, [end.fileno() for pair in made for end in pair], watched)
            resident = memory_kib(watched)
        result = Measured(raw=told, faults=stream_faults(told))
        result.values = common(told, resident)
        if self.floods:
            gigabytes = told["moved"] / GB
            result.values[m.GBS.key] = gigabytes / told["seconds"]
            if watched:
                result.values[m.CPU_GB.key] = told["cpu"] / max(gigabytes, 1e-9)
        if self.pings:
            trips = told["trips"]
            result.values |= {k: v for k, v in told["trip"].items() if k in m.FIGURES}
            result.values[m.TRIPS.key] = trips / told["seconds"]
            if watched and not self.floods:
                result.values[m.CPU_TRIPS.key] = told["cpu"] / max(trips / 1000, 1e-9)
        return result


def common(told: dict[str, float], resident_kib: int) -> dict[str, float]:
    """The figures that every load has: memory after it, and what the generator itself took."""
    values = {m.LOAD.key: told["load_cpu"] / told["seconds"]}
    if resident_kib:  # a direct connection has no process in between
        values[m.MEMORY.key] = resident_kib / 1024
    return values


def stream_faults(told: dict[str, int]) -> list[str]:
    """What did not arrive as it was sent."""
    faults = []
    if told["sent"] != told["got"]:
        faults.append(f"{told['sent']} bytes sent, {told['got']} received")
    for key, words in (
        ("wrong", "bytes that were not those sent"),
        ("lane_errors", "streams broken"),
        ("ping_errors", "ping-pongs broken"),
    ):
        if told[key]:
            faults.append(f"{told[key]} {words}")
    return faults


@dataclass(frozen=True)
class Churn(Workload):
    """Connect, pair, one byte each way, close, at most eight at a time."""

    @property
    def figures(self) -> Sequence[Figure]:
        """Pairs per second first."""
        return (m.PAIRS, m.P50, m.P99, m.CPU_TRIPS, m.MEMORY, m.LOAD)

    def measure(self, running: Running, loader: Loader) -> Measured:
        """All done by the load generator."""
        watched = running.pids()
        words = ["churn", *running.churn(), f"workers={self.sessions}"]
        told = loader.run(words, running.descriptors(), watched)
        values = common(told, memory_kib(watched))
        values |= {k: v for k, v in told["pair"].items() if k in m.FIGURES}
        values[m.PAIRS.key] = told["pairs"] / told["seconds"]
        if watched:
            values[m.CPU_TRIPS.key] = told["cpu"] / max(told["pairs"] / 1000, 1e-9)
        faults = [f"{count} x {name}" for name, count in told["errors"].items() if count]
        return Measured(values, faults, told)


@dataclass(frozen=True)
class Stall(Workload):
    """Readers that take nothing while their writers go on, and then take everything."""

    @property
    def figures(self) -> Sequence[Figure]:
        """Growth of memory first."""
        return (m.GROWTH, m.HELD, m.MEMORY)

    def seconds(self, loader: Loader) -> float:
        """What is held has to be carried and compared afterwards."""
        return super().seconds(loader) + 2

    def measure(self, running: Running, loader: Loader) -> Measured:
        """Every byte is compared with what was sent."""
        with pairs(running, self.sessions) as made:
            words = [f"flood:{client.fileno()}:{server.fileno()}" for client, server in made]
            watched = running.pids()
            told = loader.run(
                ["streams", *words],
                [end.fileno() for pair in made for end in pair],
                watched,
                ["--stall", "--verify", "--warmup", "0", "--drain", "45"],
            )
            peak = memory_kib(watched, "VmHWM")
        before, after = told["resident_kib"]
        values = {m.HELD.key: told["sent"] / MIB}
        if watched:
            values[m.GROWTH.key] = (max(peak, after) - before) / 1024
            values[m.MEMORY.key] = after / 1024
        return Measured(values, stream_faults(told), told)
