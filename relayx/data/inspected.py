"""ZMTP in a session whose handshake is over: what it is, and its messages where they are counted.

With ``zmq.inspect`` off and ``handshake`` nobody looks at a session's bytes, which go by splice
where that works. With ``messages`` they go through Python, and each segment is counted before it
is passed on. A message over ``zmq.max_message_bytes``, and bytes that are no frames, end the
session (cause ``limit``): the segment that shows it is not passed on, nor anything behind it.
A stream that cannot be followed would neither be counted nor held to the limit any more, and its
receiver would close for the same mistake.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from relayx.core.zmtpseen import ZmtpSeen
from relayx.data.carrier import Carrier
from relayx.data.pump import Pump
from relayx.zmtp import Exchange, Handshake, ZmtpError, pattern_of

Replied = Callable[[str, list[float]], None]
"""Takes a pattern, and the seconds that each of some replies took."""


class Inspection:
    """What is known of one session.

    :param handshake: of the two, which is over; goes on with their messages where they count.
    :param counts: whether they do.
    :ivar pattern: one of :data:`relayx.zmtp.PATTERNS`.
    :ivar counts: as told.
    """

    __slots__ = ("_types", "be", "counts", "fe", "pattern")

    def __init__(self, handshake: Handshake, *, counts: bool) -> None:
        self.counts = counts
        self.fe, self.be = handshake.fe, handshake.be
        self._types = handshake.socket_types
        self.pattern = pattern_of(*self._types)

    @property
    def exchange(self) -> Exchange | None:
        """A new one to time its replies with, None where there are none or in no order."""
        return Exchange.between(*self._types)

    @property
    def seen(self) -> ZmtpSeen:
        """All of it."""
        greeting = self.fe.greeting
        counted = (self.fe.messages, self.be.messages) if self.counts else (None, None)
        return ZmtpSeen(greeting.mechanism if greeting else "", *self._types, *counted)


class InspectedPump:
    """Another byte path, each segment of which is counted first.

    :param pump: the path.
    :param fe: which of its two sides is the FE.
    :param clock: an IReactorTime.
    :param replied: told of replies.
    :param broken: told of the side whose stream can be followed no further, and why, once.
    """

    __slots__ = (
        "_broken", "_clock", "_discarding", "_exchange", "_fe", "_inspection", "_is_broken",
        "_pump", "_replied",
    )  # fmt: skip

    def __init__(
        self,
        pump: Pump,
        inspection: Inspection,
        fe: Carrier,
        clock: Any,
        replied: Replied,
        broken: Callable[[Carrier, ZmtpError], None],
    ) -> None:
        self._pump = pump
        self._inspection = inspection
        self._fe = fe
        self._clock = clock
        self._replied = replied
        self._broken = broken
        self._is_broken = False
        self._discarding: set[Carrier] = set()
        self._exchange = inspection.exchange

    def hold(self, of_one: bytes, of_two: bytes) -> None:
        """See :class:`~relayx.data.pump.Pump`; the handshake has counted these."""
        self._pump.hold(of_one, of_two)

    def start(self) -> None:
        """See :class:`~relayx.data.pump.Pump`."""
        self._time(True, self._inspection.fe.messages)
        self._time(False, self._inspection.be.messages)
        self._pump.start()

    def received(self, source: Carrier, data: bytes) -> None:
        """See :class:`~relayx.data.pump.Pump`."""
        if self._is_broken:
            return
        if source not in self._discarding:
            from_fe = source is self._fe
            reader = self._inspection.fe if from_fe else self._inspection.be
            try:
                messages = reader.count(data)
            except ZmtpError as error:
                self._is_broken = True
                self._broken(source, error)
                return
            if messages:
                self._time(from_fe, messages)
        self._pump.received(source, data)

    def _time(self, from_fe: bool, messages: int) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        now = self._clock.seconds()
        seconds = (exchange.from_fe if from_fe else exchange.from_be)(messages, now)
        if seconds:
            self._replied(self._inspection.pattern, seconds)

    def discard(self, source: Carrier) -> None:
        """See :class:`~relayx.data.pump.Pump`; what is thrown away is not counted."""
        self._discarding.add(source)
        self._pump.discard(source)

    def end(self, source: Carrier) -> None:
        """See :class:`~relayx.data.pump.Pump`."""
        self._pump.end(source)

    def stop(self, kept: Carrier | None = None) -> None:
        """See :class:`~relayx.data.pump.Pump`."""
        self._pump.stop(kept)

    def pushed_back(self, source: Carrier) -> bool:
        """See :class:`~relayx.data.pump.Pump`."""
        return self._pump.pushed_back(source)

    def throttled(self) -> bool:
        """See :class:`~relayx.data.pump.Pump`."""
        return self._pump.throttled()

    def stalled(self, source: Carrier) -> float:
        """See :class:`~relayx.data.pump.Pump`."""
        return self._pump.stalled(source)

    def held_back(self, source: Carrier) -> float:
        """See :class:`~relayx.data.pump.Pump`."""
        return self._pump.held_back(source)
