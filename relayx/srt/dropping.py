"""What one side of a session did not get, and for how long that went on.

Two things are dropped on the way to a peer that takes too little: what its send buffer has no room
for, which the pump counts, and what libsrt gives up in that buffer since it would come too late
(``SRTO_TLPKTDROP``). The first is looked at ten times a second and the second once.
"""

from __future__ import annotations

from typing import NamedTuple

RECENTLY = 2.0
"""Seconds after the last drop for which a side still counts as one that drops."""


class Dropped(NamedTuple):
    """What one side did not get since its session began.

    :ivar messages: how many; in live mode a message is a packet.
    :ivar seconds: the time in which that was, to a tenth of a second.
    :ivar now: whether it goes on.
    """

    messages: int = 0
    seconds: float = 0.0
    now: bool = False


class Dropping:
    """Adds up the time in which messages to one side were dropped.

    :param now: seconds.
    :param late: what libsrt had given up on the link before.
    """

    __slots__ = ("_began_late", "_counted_at", "_full", "_last", "_late", "_measured_at",
                 "_since_measured", "seconds")  # fmt: skip

    def __init__(self, now: float, late: int = 0) -> None:
        self.seconds = 0.0
        self._counted_at = self._measured_at = now
        self._began_late = self._late = late
        self._full = 0
        self._since_measured = 0.0
        self._last: float | None = None

    def counted(self, now: float, full: int) -> None:
        """So many messages in all found no room so far."""
        if full > self._full:
            self._add(now, now - self._counted_at)
            self._since_measured += now - self._counted_at
        self._full, self._counted_at = full, now

    def measured(self, now: float, late: int) -> None:
        """libsrt has given up so many in all on the link so far; to be told after `counted`."""
        if late > self._late:
            self._add(now, max(0.0, now - self._measured_at - self._since_measured))
        self._late, self._measured_at, self._since_measured = max(late, self._late), now, 0.0

    def _add(self, now: float, seconds: float) -> None:
        self.seconds += seconds
        self._last = now

    @property
    def late(self) -> int:
        """How many messages libsrt gave up in this session."""
        return self._late - self._began_late

    def dropped(self, now: float, full: int) -> Dropped:
        """All of it.

        :param full: how many messages found no room.
        """
        recently = self._last is not None and now - self._last < RECENTLY
        return Dropped(full + self.late, round(self.seconds, 1), recently)
