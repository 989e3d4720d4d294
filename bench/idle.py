"""Many sessions on which nothing happens."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench import measured as m
from bench.loader import Loader
from bench.measured import Figure, Measured
from bench.peers import Running
from bench.processes import cpu_seconds, memory_kib
from bench.workloads import Workload, pairs

WANTED = 5000
LONGEST_WAIT = 15.0
"""Seconds of idling: as long as the gateway's keepalive, so that work it does once in that time
is in the figure."""
SETTLE = 1.0


def affordable(wanted: int = WANTED, descriptors_each: int = 2) -> int:
    """How many sessions the descriptor limit allows a process that needs so many for each.

    The bench itself needs two; the gateway keeps some two thousand for what its configuration
    allows besides.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if limit == resource.RLIM_INFINITY:
        return wanted
    return max(10, min(wanted, (limit - 2500) // descriptors_each))


def raise_descriptor_limit() -> None:
    """As far as it goes; children inherit it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@dataclass(frozen=True)
class Idle(Workload):
    """Memory of each session, and CPU time of all together."""

    @property
    def figures(self) -> Sequence[Figure]:
        """Memory of a session first."""
        return (m.PER_SESSION, m.IDLE_CPU, m.SESSIONS, m.MEMORY)

    def seconds(self, loader: Loader) -> float:
        """Setting up takes most of it."""
        return idle_seconds(loader) + 2 * SETTLE + self.sessions / 800

    def measure(self, running: Running, loader: Loader) -> Measured:
        """Set up, wait, and then send one byte each way through every session."""
        watched = running.pids()
        time.sleep(SETTLE)
        before = memory_kib(watched)
        sessions = running.sessions
        with pairs(running, sessions) as made:
            time.sleep(SETTLE)
            watched = running.pids()
            used, begun = cpu_seconds(watched), time.monotonic()
            time.sleep(idle_seconds(loader) if watched else 0)
            seconds = max(time.monotonic() - begun, 1e-9)
            used = cpu_seconds(watched) - used
            resident = memory_kib(watched)
            dead = sum(not alive(*pair) for pair in made)
        values = {m.SESSIONS.key: float(sessions)}
        if watched:
            values[m.PER_SESSION.key] = (resident - before) / sessions
            values[m.IDLE_CPU.key] = 100 * used / seconds
            values[m.MEMORY.key] = resident / 1024
        raw = {"before_kib": before, "after_kib": resident, "seconds": seconds, "cpu": used}
        faults = [f"{dead} of {sessions} sessions do not carry a byte"] if dead else []
        return Measured(values, faults, raw)


def idle_seconds(loader: Loader) -> float:
    """How long nothing happens."""
    return max(loader.seconds, min(LONGEST_WAIT, 5 * loader.seconds))


def alive(client: socket.socket, server: socket.socket) -> bool:
    """Whether a byte gets through, both ways."""
    try:
        for here, there in ((client, server), (server, client)):
            there.settimeout(5)
            here.sendall(b"?")
            if there.recv(2) != b"?":
                return False
    except OSError:
        return False
    return True
