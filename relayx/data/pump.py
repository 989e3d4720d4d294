"""Moves the bytes of one session: the road that a byte takes.

A :class:`Pump` joins two connections. It knows nothing of why a session ends: it carries
what comes from one side to the other, pushes back on a side whose other is slower, and can
be told to throw one side's bytes away. The rules of the end are in session.
"""

from __future__ import annotations

from typing import Any, Protocol

from relayx.data.carrier import Carrier
from relayx.data.stall import PushedBack, Stopwatch


class Pump(Protocol):
    """The byte path between two connections, seen from the session."""

    def hold(self, of_one: bytes, of_two: bytes) -> None:
        """Take what came from each side before the session, to be delivered first."""

    def start(self) -> None:
        """Deliver what is held, then move bytes both ways."""

    def received(self, source: Carrier, data: bytes) -> None:
        """Bytes have come from one side."""

    def discard(self, source: Carrier) -> None:
        """Throw away what comes from one side from now on, and never push back on it."""

    def end(self, source: Carrier) -> None:
        """Pass on one side's end of stream, after all its bytes."""

    def stop(self, kept: Carrier | None = None) -> None:
        """Let go of both connections, which are closed next, except a `kept` one."""

    def pushed_back(self, source: Carrier) -> bool:
        """Whether one side is not being read because the other is slower, or has to wait."""

    def throttled(self, source: Carrier) -> bool:
        """Whether one side has to wait because of a limit, though its bytes may be there."""

    def stalled(self, source: Carrier) -> float:
        """Seconds for which one side was not read because the other took nothing."""

    def held_back(self, source: Carrier) -> float:
        """Seconds for which one side was not read because of a limit."""


class BufferedPump:
    """Moves bytes through Python, with Twisted's producers and consumers pushing back.

    Each transport holds at most its 64 KiB mark plus one read, far below the least
    ``ring_buffer_size`` of 1 MiB.

    :param clock: an IReactorTime.
    :param stalled: what each side has been pushed back already, where another pump went before.
    """

    __slots__ = ("_discarding", "_held", "_one", "_stalled", "_two")

    def __init__(
        self,
        one: Carrier,
        two: Carrier,
        clock: Any,
        stalled: tuple[Stopwatch, Stopwatch] | None = None,
    ) -> None:
        self._one = one
        self._two = two
        self._stalled = stalled or (Stopwatch(clock), Stopwatch(clock))
        self._held = (b"", b"")
        self._discarding: set[Carrier] = set()

    def _other(self, side: Carrier) -> Carrier:
        return self._two if side is self._one else self._one

    def _stopwatch(self, source: Carrier) -> Stopwatch:
        """What runs while one side is pushed back on."""
        return self._stalled[source is not self._one]

    def _producer(self, source: Carrier) -> Any:
        """What one side's consumer pushes back on."""
        return PushedBack(source, self._stopwatch(source))

    def hold(self, of_one: bytes, of_two: bytes) -> None:
        """See :class:`Pump`."""
        self._held = (of_one, of_two)

    def start(self) -> None:
        """See :class:`Pump`."""
        self._one.registerProducer(self._producer(self._two), True)
        self._two.registerProducer(self._producer(self._one), True)
        for source, held in zip((self._one, self._two), self._held, strict=True):
            source.resumeProducing()
            if held:
                self._other(source).write(held)
        self._held = (b"", b"")

    def received(self, source: Carrier, data: bytes) -> None:
        """See :class:`Pump`."""
        if source not in self._discarding:
            self._other(source).write(data)

    def discard(self, source: Carrier) -> None:
        """See :class:`Pump`."""
        self._discarding.add(source)
        self._other(source).unregisterProducer()
        self._stopwatch(source).end()
        source.resumeProducing()

    def end(self, source: Carrier) -> None:
        """See :class:`Pump`."""
        other = self._other(source)
        other.unregisterProducer()
        self._stopwatch(source).end()
        if other.connected and other.failure is None:
            other.loseWriteConnection()

    def stop(self, kept: Carrier | None = None) -> None:
        """See :class:`Pump`."""
        self._one.unregisterProducer()
        self._two.unregisterProducer()
        for stopwatch in self._stalled:
            stopwatch.end()

    def pushed_back(self, source: Carrier) -> bool:
        """See :class:`Pump`."""
        return source.paused and not source.read_ended

    def throttled(self, source: Carrier) -> bool:
        """See :class:`Pump`."""
        return False

    def stalled(self, source: Carrier) -> float:
        """See :class:`Pump`."""
        return self._stopwatch(source).seconds

    def held_back(self, source: Carrier) -> float:
        """See :class:`Pump`."""
        return 0.0
