"""All workloads, in the order in which they run and are shown."""

from __future__ import annotations

from bench.idle import WANTED, Idle
from bench.workloads import Churn, Stall, Streams, Workload


def workloads(idle_sessions: int = WANTED) -> list[Workload]:
    """Every workload, in one of them with so many sessions that idle."""
    return [
        Streams("bulk1", "bulk, 1 stream one way", 1, floods=1),
        Streams("bulk4", "bulk, 4 streams one way", 4, floods=4),
        Streams("bulk16", "bulk, 16 streams one way", 16, floods=16),
        Streams("both4", "bulk, 4 streams both ways", 4, floods=4, both=True),
        Streams("ping1", "64 B ping-pong, 1 pair", 1, pings=1),
        Streams("ping32", "64 B ping-pong, 32 pairs", 32, pings=32),
        Churn("churn", "connect, pair, a byte each way, close", 8),
        Streams("mixed", "1 flood beside 1 ping-pong", 2, floods=1, pings=1),
        Idle("idle", f"{idle_sessions:,} idle sessions", idle_sessions),
        Stall("stall", "stalled reader, 100 sessions", 100),
    ]
