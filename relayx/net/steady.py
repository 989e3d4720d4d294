"""Time that goes on when the system's clock is set back.

A timer of Twisted's is due at a time of day. Where the clock is set back by an hour, each one
comes an hour late: pushes of ``port_state``, time-outs of HELLO, all of them (contract sections
4 and 6).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class Steady:
    """Seconds since the epoch by the system's clock, which never go back and never stop.

    Where that clock is set back, they go on at half its speed until it has caught up, so that what
    is due comes, in twice the time at most. Set forward, it is followed at once.

    :param wall: the system's clock.
    :param ticks: seconds that nobody sets.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        self.wall = wall
        self._ticks = ticks
        self._last = (wall(), ticks())

    def seconds(self) -> float:
        """The time now."""
        before, ticks_before = self._last
        ticks = self._ticks()
        now = max(self.wall(), before + (ticks - ticks_before) / 2)
        self._last = now, ticks
        return now


def time_of_day(clock: Any) -> float:
    """What the system's clock says, whatever `clock` goes by: for what others compare with theirs.

    :param clock: an IReactorTime, with `steady` where it goes by a :class:`Steady`.
    """
    steady: Steady | None = getattr(clock, "steady", None)
    now: float = clock.seconds() if steady is None else steady.wall()
    return now
