"""The bandwidth of clients: so many bits a second over all their sessions, both directions.

Contract section 1, ``clients``. What a client's sessions read is paid for from one
:class:`Allowance`, on credit where need be, and who owes is not read until that is paid off:
the source's own TCP slows down then, as with a slow reader.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from relayx.data.carrier import Carrier
from relayx.data.pump import BufferedPump
from relayx.data.stall import PushedBack, Stopwatch
from relayx.net.bucket import TokenBucket

SPAN = 0.05
"""Seconds: the burst, and what one read takes at most."""

LEAST_READ = 1024
MOST_READ = 65536
"""Bytes."""

LEAST_PAUSE = 0.002
"""Seconds; a shorter one costs more than it is worth, and what it leaves is not lost."""


class Allowance(TokenBucket):
    """What one client may move; a token is a bit.

    :ivar users: sessions that it pays for.
    """

    __slots__ = ("users",)

    def __init__(self, rate: int, now: float) -> None:
        """:param rate: bits/s."""
        super().__init__(rate, rate * SPAN, now)
        self.users = 0

    @property
    def read_size(self) -> int:
        """Most bytes to read at once."""
        return max(LEAST_READ, min(MOST_READ, int(self.rate * SPAN / 8)))


class Allowances:
    """Those of all clients with a limit, by name.

    One that nobody uses is kept until it is full again: what is owed must not be forgotten.

    :param clock: an IReactorTime.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._by_name: dict[str, Allowance] = {}

    def __len__(self) -> int:
        return len(self._by_name)

    def use(self, limits: Iterable[tuple[str, int]]) -> tuple[Allowance, ...]:
        """Those that a session is paid from, until :meth:`leave`.

        :param limits: names and bits/s.
        """
        now = self._clock.seconds()
        for name in [n for n, a in self._by_name.items() if not a.users and a.is_full(now)]:
            del self._by_name[name]
        used = []
        for name, rate in limits:
            allowance = self._by_name.get(name)
            if allowance is None:
                allowance = self._by_name[name] = Allowance(rate, now)
            elif allowance.rate != rate:
                allowance.rate, allowance.burst = rate, rate * SPAN
            allowance.users += 1
            used.append(allowance)
        return tuple(used)

    def leave(self, used: Iterable[Allowance]) -> None:
        """A session is over."""
        for allowance in used:
            allowance.users -= 1


class Valve(PushedBack):
    """A side of a session as a producer: it is read only while nothing is against it.

    Its consumer pushes back by pausing it, as every producer; :meth:`hold` is the other reason,
    and neither undoes the other.

    :param clock: an IReactorTime.
    :param stalled: runs while it is pushed back on.
    :ivar held: whether it is held.
    :ivar waited: runs while it is held.
    """

    __slots__ = ("_call", "_clock", "_pushed_back", "held", "waited")

    def __init__(self, source: Carrier, clock: Any, stalled: Stopwatch) -> None:
        super().__init__(source, stalled)
        self.held = False
        self.waited = Stopwatch(clock)
        self._clock = clock
        self._pushed_back = False
        self._call: Any = None

    def pauseProducing(self) -> None:
        """The consumer has enough."""
        self._pushed_back = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """The consumer has room."""
        self._pushed_back = False
        self.stalled.end()
        if not self.held:
            self.source.resumeProducing()

    def hold(self, seconds: float) -> None:
        """Do not read for so long."""
        if not self.held:
            self.held = True
            self.waited.begin()
            self.source.pauseProducing()
            self._call = self._clock.callLater(seconds, self._let_go)

    def _let_go(self) -> None:
        self.held = False
        self.waited.end()
        self._call = None
        if not self._pushed_back:
            self.source.resumeProducing()

    def open(self) -> None:
        """Read on, with nothing against it any more."""
        self.release()
        self.resumeProducing()

    def release(self) -> None:
        """Hold it no more, without reading on."""
        self.held = False
        self.waited.end()
        if self._call is not None:
            self._call.cancel()
            self._call = None


class ThrottledPump(BufferedPump):
    """The buffered path, with a valve on each side.

    :param allowances: what it is paid from; the slowest rules.
    :param clock: an IReactorTime.
    """

    __slots__ = ("_allowances", "_allowed", "_clock", "_valves")

    def __init__(
        self, one: Carrier, two: Carrier, allowances: Allowances,
        limits: Iterable[tuple[str, int]], clock: Any,
    ) -> None:  # fmt: skip
        super().__init__(one, two, clock)
        self._clock = clock
        self._allowances = allowances
        self._allowed = allowances.use(limits)
        self._valves = {side: Valve(side, clock, self._stopwatch(side)) for side in (one, two)}

    def start(self) -> None:
        """See :class:`~relayx.data.pump.Pump`."""
        size = min(allowance.read_size for allowance in self._allowed)
        held = [len(data) for data in self._held]
        for side in self._valves:
            side.limit_reads(size)
        super().start()
        for side, count in zip(self._valves, held, strict=True):
            if count:
                self._pay(side, count)

    def _producer(self, source: Carrier) -> Valve:
        return self._valves[source]

    def received(self, source: Carrier, data: bytes) -> None:
        """See :class:`~relayx.data.pump.Pump`."""
        if source not in self._discarding:
            self._pay(source, len(data))
        super().received(source, data)

    def _pay(self, source: Carrier, size: int) -> None:
        now = self._clock.seconds()
        owed = max(allowance.spend(8 * size, now) for allowance in self._allowed)
        if owed > 0:
            self._valves[source].hold(max(owed, LEAST_PAUSE))

    def discard(self, source: Carrier) -> None:
        """See :class:`~relayx.data.pump.Pump`."""
        self._valves[source].release()
        super().discard(source)

    def stop(self, kept: Carrier | None = None) -> None:
        """See :class:`~relayx.data.pump.Pump`."""
        for side, valve in self._valves.items():
            valve.release()
            side.limit_reads(MOST_READ)
        self._allowances.leave(self._allowed)
        self._allowed = ()
        super().stop(kept)

    def throttled(self, source: Carrier) -> bool:
        """See :class:`~relayx.data.pump.Pump`."""
        return self._valves[source].held

    def held_back(self, source: Carrier) -> float:
        """See :class:`~relayx.data.pump.Pump`."""
        return self._valves[source].waited.seconds
