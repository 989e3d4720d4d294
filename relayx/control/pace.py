"""How fast a client may send control messages (contract section 1, ``messages_per_second``)."""

from __future__ import annotations

from relayx.net.bucket import TokenBucket

BURST = 2
"""Seconds' worth of messages that may come at once."""

FAR_OVER = 10
"""A client that sends so many times what is allowed within a second has gone wrong."""


class Pace:
    """The messages of one connection.

    :param limit: messages a second.
    :ivar sent: how many came within the current second.
    """

    __slots__ = ("_bucket", "_limit", "_second", "sent")

    def __init__(self, limit: int, now: float) -> None:
        self._limit = limit
        self._bucket = TokenBucket(limit, BURST * limit, now)
        self._second = now
        self.sent = 0

    def change(self, limit: int) -> None:
        """Go by another limit from now on."""
        self._limit = limit
        self._bucket.rate, self._bucket.burst = limit, BURST * limit

    def allows(self, now: float) -> bool:
        """Count one message; whether it may be acted upon."""
        if now - self._second >= 1.0:
            self._second = now
            self.sent = 0
        self.sent += 1
        return self._bucket.take(1, now)

    @property
    def far_over(self) -> bool:
        """Whether the client sends far more than is allowed."""
        return self.sent > FAR_OVER * self._limit
