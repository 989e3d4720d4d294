"""What a broker counts. One thread adds, any reads: each is one number of Python's."""

from __future__ import annotations

import sys
from bisect import bisect_left
from itertools import accumulate

import msgspec

NO_DETAIL, PROTOCOL, AUTH, UNFIT, FULL = "no_detail", "protocol", "auth", "unfit", "full"
REASONS = (NO_DETAIL, PROTOCOL, AUTH, UNFIT, FULL)
"""Of a handshake that failed: the connection was lost, ZMTP was broken, it was refused, the peer
is not for this side (its socket type, or a ZMTP before 3.0), or the side had all connections that
it may have."""

BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper ends of the buckets of durations, in seconds."""


class Moved(msgspec.Struct, frozen=True):
    """What passed one side in one direction.

    :ivar parts: of messages; a message of one part is one. Of REQ and REP, an identity and an
        empty part go with each message.
    :ivar bytes: of these parts, without ZMTP's framing.
    """

    parts: int = 0
    bytes: int = 0

    def __add__(self, other: Moved) -> Moved:
        return Moved(self.parts + other.parts, self.bytes + other.bytes)


class Statistics(msgspec.Struct, frozen=True):
    """What a broker has moved since its start.

    :ivar frontend_received: from those who connect to the frontend.
    :ivar frontend_sent: to them; replies, and the subscriptions that PUBs are told.
    :ivar backend_received: from those who connect to the backend.
    :ivar backend_sent: handed to the backend; what its peers lose by their HWM is in it.
    :ivar stalled: the broker did not answer since the backend takes nothing; these are the
        numbers that were last read.
    """

    frontend_received: Moved = Moved()
    frontend_sent: Moved = Moved()
    backend_received: Moved = Moved()
    backend_sent: Moved = Moved()
    stalled: bool = False

    @classmethod
    def read(cls, parts: list[bytes]) -> Statistics:
        """What ``zmq_proxy_steerable(3)`` answers: eight integers of 64 bits, native order."""
        n = [int.from_bytes(part, sys.byteorder) for part in parts]
        return cls(Moved(*n[0:2]), Moved(*n[2:4]), Moved(*n[4:6]), Moved(*n[6:8]))

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(
            self.frontend_received + other.frontend_received,
            self.frontend_sent + other.frontend_sent,
            self.backend_received + other.backend_received,
            self.backend_sent + other.backend_sent,
        )


class Connections:
    """The connections of one side.

    :ivar accepted: all whose handshake succeeded.
    :ivar live: open now, with those whose handshake goes on.
    """

    def __init__(self) -> None:
        self.accepted = 0
        self.live = 0


class Durations(msgspec.Struct, frozen=True):
    """A histogram.

    :ivar sum: seconds.
    :ivar buckets: upper end in seconds and how many took no longer, for each of `BOUNDS`.
    """

    count: int
    sum: float
    buckets: tuple[tuple[float, int], ...]


class DurationCount:
    """Counts durations."""

    def __init__(self) -> None:
        self._buckets = [0] * (len(BOUNDS) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self._sum += seconds
        self._buckets[bisect_left(BOUNDS, seconds)] += 1

    def read(self) -> Durations:
        """All so far."""
        upto = tuple(accumulate(self._buckets))
        return Durations(upto[-1], self._sum, tuple(zip(BOUNDS, upto, strict=False)))


class BrokerReport(msgspec.Struct, frozen=True, kw_only=True):
    """One broker as those who look on see it.

    :ivar security: the mechanism that is asked for.
    :ivar running: False once it has ended by itself.
    :ivar stalled: its backend takes nothing, and `moved` is what was last read.
    :ivar live: open connections by side, frontend first; `accepted` all so far, likewise.
    :ivar failures: handshakes that failed, by reason.
    :ivar durations: from requests to their answers, None where the pattern is another.
    """

    pattern: str
    frontend: int
    backend: int
    security: str
    running: bool = True
    stalled: bool = False
    live: tuple[int, int] = (0, 0)
    accepted: tuple[int, int] = (0, 0)
    failures: dict[str, int] = {}
    moved: Statistics = Statistics()
    durations: Durations | None = None
