"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Callable

SHORTEST = 0.05
LONGEST = 5.0


class Backoff:
    """Exponential delays in seconds, from 50 ms to 5 s, each with jitter.

    The n-th delay lies between half and all of ``50 ms x 2^n``, and never outside the two
    limits, so that many clients that lost one gateway do not all come back at once.

    :param jitter: returns a random number from 0 up to 1.
    """

    __slots__ = ("_jitter", "attempts")

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self.attempts = 0

    def delay(self, attempt: int) -> float:
        """Seconds to wait after the `attempt`-th failure in a row, counted from 1."""
        ceiling: float = min(LONGEST, SHORTEST * 2.0 ** min(max(attempt, 1), 16))
        floor = max(SHORTEST, ceiling / 2)
        return floor + (ceiling - floor) * self._jitter()

    def next(self) -> float:
        """Count one more failure in a row and return the delay after it."""
        self.attempts += 1
        return self.delay(self.attempts)

    def reset(self) -> None:
        """Begin at the shortest delay again."""
        self.attempts = 0
