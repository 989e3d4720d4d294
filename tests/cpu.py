"""How fast the CPU is, for tests that limit what something costs."""

from __future__ import annotations

import json
import statistics
import time

_USUAL = 0.02
"""CPU seconds of :func:`_work` where those limits are wide."""


def _work() -> float:
    """CPU seconds of something that is always the same."""
    began = time.thread_time()
    for _ in range(200):
        json.loads(json.dumps([{"a": number, "b": str(number)} for number in range(100)]))
    return time.thread_time() - began


def slowness() -> float:
    """How many times as much CPU time as usual the same work takes now: 1 to 4.

    What the rest of the machine does is in CPU time, too, where two threads share a core.
    """
    return min(max(1.0, statistics.median(_work() for _ in range(5)) / _USUAL), 4.0)
