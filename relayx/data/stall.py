"""Who kept whom waiting: the time for which a side of a session was not read.

A side is not read while the other takes nothing (it is pushed back on), or while a limit holds
it (it is throttled). The clock is looked at where that begins and where it ends, never for a
read or a write that goes through.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from relayx.data.carrier import Carrier


class Stopwatch:
    """Adds up the time for which something holds.

    :param clock: an IReactorTime.
    """

    __slots__ = ("_clock", "_seconds", "_since")

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._seconds = 0.0
        self._since: float | None = None

    def begin(self) -> None:
        """It holds from now on, if it did not before."""
        if self._since is None:
            self._since = self._clock.seconds()

    def end(self) -> None:
        """It holds no more, if it did before."""
        if self._since is not None:
            # A clock that was set back takes nothing away.
            self._seconds += max(0.0, self._clock.seconds() - self._since)
            self._since = None

    @property
    def seconds(self) -> float:
        """For how long it has held so far, altogether."""
        if self._since is None:
            return self._seconds
        now: float = self._clock.seconds()
        return self._seconds + max(0.0, now - self._since)


@implementer(IPushProducer)
class PushedBack:
    """A side of a session as the producer of the other, which pushes back by pausing it.

    :ivar stalled: runs while it is paused so.
    """

    __slots__ = ("source", "stalled")

    def __init__(self, source: Carrier, stalled: Stopwatch) -> None:
        self.source = source
        self.stalled = stalled

    def pauseProducing(self) -> None:
        """The consumer has enough."""
        self.stalled.begin()
        self.source.pauseProducing()

    def resumeProducing(self) -> None:
        """The consumer has room."""
        self.stalled.end()
        self.source.resumeProducing()

    def stopProducing(self) -> None:
        """The consumer is gone."""
        self.source.stopProducing()
