"""Says who reads an SRT stream too slowly: when that begins, goes on, and is over."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from relayx.core.messages import Role, Transport
from relayx.core.switchboard import Switchboard
from relayx.planes import Planes
from relayx.srt.dropping import Dropped
from relayx.srt.statistics import LinkState, described

APART = 10.0
"""Seconds from one line about a session to the next, at least."""

QUIET = 3.0
"""Seconds without a drop after which a side counts as one that keeps up again."""

Say = Callable[..., None]
"""Takes a level, an event, a text and fields, for the log."""


class Watched(NamedTuple):
    """One SRT side of a session.

    :ivar client_id: as it is known, "" where it is not.
    """

    pairing_id: str
    port: int
    role: Role
    client_id: str
    address: str
    trace_id: str
    link: LinkState
    dropped: Dropped


def watched(switchboard: Switchboard, planes: Planes) -> Iterator[Watched]:
    """The SRT sides of all sessions that run."""
    for session in switchboard.board.sessions.values():
        if Transport.SRT not in (session.fe.transport, session.be.transport):
            continue
        look = planes.look(session.pairing_id)
        if look is None:
            continue
        for link, side in ((session.fe, look.fe), (session.be, look.be)):
            if side.link is not None:
                yield Watched(
                    session.pairing_id, link.port.number, link.role, link.client_id,
                    link.address, session.trace_id, side.link, side.dropped,
                )  # fmt: skip


class SlowLinks:
    """Follows the drops of all sessions that run.

    :param clock: an IReactorTime.
    """

    def __init__(self, clock: Any, say: Say) -> None:
        self._clock = clock
        self._say = say
        self._sides: dict[tuple[str, Role], _Slow] = {}
        self._said: dict[str, float] = {}

    def look(self, sides: Iterable[Watched]) -> None:
        """Look at every SRT side of the sessions that run."""
        now = self._clock.seconds()
        before, self._sides = self._sides, {}
        said, self._said = self._said, {}
        for side in sides:
            key = side.pairing_id, side.role
            slow = self._sides[key] = before.get(key) or _Slow()
            if side.pairing_id in said:
                self._said[side.pairing_id] = said[side.pairing_id]
            self._follow(now, slow, side)

    def _follow(self, now: float, slow: _Slow, side: Watched) -> None:
        if side.dropped.messages > slow.messages:
            slow.messages, slow.dropped_at = side.dropped.messages, now
        if slow.dropped_at is None:
            return
        over = now - slow.dropped_at >= QUIET
        if over and not slow.told:  # too short for a line of its own; the session's end tells
            slow.dropped_at = None
        elif now - self._said.get(side.pairing_id, -APART) >= APART:
            text = _OVER if over else _GOES_ON if slow.told else _BEGINS
            self._tell(side, text)
            self._said[side.pairing_id] = now
            slow.told = not over
            if over:
                slow.dropped_at = None

    def _tell(self, side: Watched, text: str) -> None:
        count, seconds, link = side.dropped.messages, side.dropped.seconds, side.link
        who = f"{side.role} {side.client_id or '(no id)'} at {side.address}"
        self._say(
            "warn", "slow",
            f"session {side.pairing_id} on srt port {side.port}: {who} {text}; {count} messages "
            f"dropped in {seconds:.1f} s so far: {described(link)}",
            port=side.port, protocol="srt", role=str(side.role), client_id=side.client_id,
            address=side.address, pairing_id=side.pairing_id, trace_id=side.trace_id,
            messages_dropped=count, dropping_seconds=seconds, rtt_ms=round(link.rtt_ms, 3),
            loss_percent=round(link.send_loss_percent, 3), latency_ms=link.send_latency_ms,
        )  # fmt: skip


_BEGINS = "reads too slowly"
_GOES_ON = "still reads too slowly"
_OVER = "keeps up again"


class _Slow:
    """What was seen of one side.

    :ivar dropped_at: when it last dropped something, None where that is over.
    :ivar told: whether that it began was told.
    """

    __slots__ = ("dropped_at", "messages", "told")

    def __init__(self) -> None:
        self.messages = 0
        self.dropped_at: float | None = None
        self.told = False
