"""The token bucket: so much in every second, and a little more at once."""

from __future__ import annotations


class TokenBucket:
    """A bucket that is full at first.

    :param rate: tokens a second, more than 0.
    :param burst: tokens that it holds at most.
    :param now: the time in seconds, as in every call.
    """

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._at = now

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now

    def take(self, amount: float, now: float) -> bool:
        """Take tokens, or none where there are not enough."""
        self._fill(now)
        if self._tokens < amount:
            return False
        self._tokens -= amount
        return True

    def spend(self, amount: float, now: float) -> float:
        """Take tokens, on credit where need be; seconds until nothing is owed any more."""
        self._fill(now)
        self._tokens -= amount
        return max(0.0, -self._tokens / self.rate)

    def is_full(self, now: float) -> bool:
        """Whether it is as a new one."""
        self._fill(now)
        return self._tokens >= self.burst
