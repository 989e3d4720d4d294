"""The pump that splices: two lanes, and the buffered path where splice does not work."""

from __future__ import annotations

from relayx.data.carrier import Carrier
from relayx.data.pump import BufferedPump
from relayx.data.splice import SpliceLane, Splicer
from relayx.data.transport import DataTransport


class SplicePump:
    """The byte path between two connections, by splice (see :class:`~relayx.data.pump.Pump`)."""

    __slots__ = ("_fallback", "_held", "_one", "_splicer", "_two")

    def __init__(self, one: DataTransport, two: DataTransport, splicer: Splicer) -> None:
        self._splicer = splicer
        self._one = SpliceLane(one, splicer, self)
        self._two = SpliceLane(two, splicer, self)
        self._one.other, self._two.other = self._two, self._one
        self._held = (b"", b"")
        self._fallback: BufferedPump | None = None

    def _lane(self, side: Carrier) -> SpliceLane:
        return self._one if side is self._one.transport else self._two

    def hold(self, of_one: bytes, of_two: bytes) -> None:
        """See :class:`~relayx.data.pump.Pump`."""
        self._held = (of_one, of_two)

    def start(self) -> None:
        """Deliver what Python already has, and splice what comes after it."""
        lanes = (self._one, self._two)
        for lane, held in zip(lanes, self._held, strict=True):
            lane.transport.stopReading()
            lane.transport.lane = lane
            if held:
                lane.other.transport.write(held)
        self._held = (b"", b"")
        for lane in lanes:
            if lane.other.transport.unsent:
                lane.push_back()
            else:
                lane.transport.resumeProducing()

    def received(self, source: Carrier, data: bytes) -> None:
        """Bytes came through Python, which they do after falling back only."""
        if self._fallback is not None:
            self._fallback.received(source, data)

    def discard(self, source: Carrier) -> None:
        """See :class:`~relayx.data.pump.Pump`."""
        if self._fallback is not None:
            self._fallback.discard(source)
        else:
            self._lane(source).discard()

    def end(self, source: Carrier) -> None:
        """See :class:`~relayx.data.pump.Pump`."""
        if self._fallback is not None:
            self._fallback.end(source)
        else:
            self._lane(source).end()

    def pushed_back(self, source: Carrier) -> bool:
        """See :class:`~relayx.data.pump.Pump`."""
        return source.paused and not source.read_ended

    def throttled(self, source: Carrier) -> bool:
        """See :class:`~relayx.data.pump.Pump`."""
        return False

    def stalled(self, source: Carrier) -> float:
        """See :class:`~relayx.data.pump.Pump`."""
        return self._lane(source).stalled.seconds

    def held_back(self, source: Carrier) -> float:
        """See :class:`~relayx.data.pump.Pump`."""
        return 0.0

    def stop(self, kept: Carrier | None = None) -> None:
        """See :class:`~relayx.data.pump.Pump`."""
        if self._fallback is not None:
            self._fallback.stop()
            return
        for lane in (self._one, self._two):
            lane.leave(lane.transport is not kept)
            lane.transport.lane = None
            lane.transport.drained = None

    def fall_back(self) -> None:
        """Splice does not work for these sockets: take the buffered path, with nothing lost."""
        stuck = [lane.take_stuck() for lane in (self._one, self._two)]
        ended = [lane.ending for lane in (self._one, self._two)]
        for lane in (self._one, self._two):
            lane.leave(closing=False)
            lane.transport.lane = lane.transport.drained = None
        self._fallback = BufferedPump(
            self._one.transport,
            self._two.transport,
            self._splicer.clock,
            (self._one.stalled, self._two.stalled),
        )
        self._fallback.hold(*stuck)
        self._fallback.start()
        for lane, discarding in (
            (self._one, self._one.discarding),
            (self._two, self._two.discarding),
        ):
            if discarding:
                self._fallback.discard(lane.transport)
        for lane, ending in zip((self._one, self._two), ended, strict=True):
            if ending:
                self._fallback.end(lane.transport)
