"""One FE and one BE that are paired: how their session ends (contract section 7).

The pump moves the bytes; here stands when an end of stream is passed on, when a session is
over, and whether the BE is kept. Two sets of rules, chosen by what the BE asked for:

close
    each side's end of stream is passed on behind its bytes; over when both ends are
    acknowledged. A side that fails has its bytes delivered first, then the other is reset.

keep
    an FE's end is not passed on. The session is over when the FE takes no more, or when all
    is delivered both ways and the BE has been quiet for ``drain_quiet``. The BE stays.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from relayx.core.messages import Cause
from relayx.core.pairing import Outcome, Stalls
from relayx.data.carrier import Carrier
from relayx.data.pump import Pump
from relayx.net.tcp import Failure

_FIRST_LOOK = 0.001
_LONGEST_LOOK = 0.25


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a session's end; seconds, 0 for no time-out (contract section 1)."""

    drain_quiet: float = 0.2
    drain_limit: float = 30.0
    idle_timeout: float = 0.0
    half_close_timeout: float = 600.0


class Watcher(Protocol):
    """Who wants to know what becomes of a session."""

    def session_draining(self, session: Session) -> None:
        """The FE of a kept BE has ended its stream or is gone."""

    def session_over(self, session: Session, outcome: Outcome) -> None:
        """The session is over; a kept BE's connection is the watcher's again."""


class Side:
    """One end of a session."""

    __slots__ = (
        "accepted_before",
        "ended",
        "failed",
        "gone",
        "last_byte",
        "received",
        "shut",
        "transport",
    )

    def __init__(self, transport: Carrier) -> None:
        self.transport = transport
        self.accepted_before = 0  # bytes that it got before the session
        self.ended = False  # its stream has been read to its end
        self.failed = False  # it takes no more, which has been looked at
        self.gone = False  # its connection is closed, all it sent has been read
        self.shut = False  # the other side's end of stream was passed on to it
        self.last_byte = 0.0
        self.received = 0

    @property
    def failure(self) -> Failure | None:
        """Why it takes no more bytes, None while it takes them."""
        return self.transport.failure

    @property
    def delivered(self) -> int:
        """Bytes of this session that its TCP has acknowledged."""
        return max(0, self.transport.delivered - self.accepted_before)


class Session:
    """One pairing, from the moment both sides are there until its port leaves ``busy``."""

    __slots__ = (
        "_clock", "_delivered_at", "_draining", "_last_progress", "_limits", "_look",
        "_look_after", "_over", "_progress", "_started", "_watcher", "be", "cause", "fe",
        "keep", "pairing_id", "pump", "text",
    )  # fmt: skip

    def __init__(
        self,
        pairing_id: str,
        fe: Carrier,
        be: Carrier,
        pump: Pump,
        keep: bool,
        limits: Limits,
        watcher: Watcher,
        clock: Any,
    ) -> None:
        """:param clock: an IReactorTime."""
        self.pairing_id = pairing_id
        self.fe = Side(fe)
        self.be = Side(be)
        self.pump = pump
        self.keep = keep
        self.cause: Cause | None = None
        self.text = ""
        self._limits = limits
        self._watcher = watcher
        self._clock = clock
        self._started = self._last_progress = clock.seconds()
        self._delivered_at: float | None = None
        self._draining = False
        self._over = False
        self._progress = (0, 0, 0, 0)
        self._look: Any = None
        self._look_after = _FIRST_LOOK

    @property
    def started(self) -> float:
        """When it began, in the clock's seconds."""
        started: float = self._started
        return started

    def change(self, limits: Limits) -> None:
        """Go by other limits from now on."""
        self._limits = limits
        if not self._over:
            self._look_again()

    def start(self) -> None:
        """Begin to move bytes, unless one side has failed already."""
        if self._over:
            return
        for side in (self.fe, self.be):
            side.accepted_before = side.transport.sent + side.transport.unsent
        self.pump.start()
        if self._limits.idle_timeout > 0:
            self._look_again()

    # what the connections tell

    def stream_ended(self, transport: Carrier) -> None:
        """One side's stream has been read to its end."""
        side, other = self._sides(transport)
        if side.ended or self._over:
            return
        side.ended = True
        self._last_progress = self._clock.seconds()  # an end is progress, however old the session
        kept = self.keep and side is self.fe
        self._blame(
            Cause.FE_CLOSED if side is self.fe else Cause.BE_CLOSED, "ended its stream", side
        )
        if kept:
            self._drain()
        else:
            self._pass_end(side, other)
            if side is self.be and self.keep:
                self._stop_keeping()
        self._review()

    def failed(self, transport: Carrier) -> None:
        """One side takes no more bytes; what it sent may still come."""
        side, other = self._sides(transport)
        if self._over:
            return
        if not side.failed:
            side.failed = True
            self._last_progress = self._clock.seconds()
        self._blame_failure(side)
        self.pump.discard(other.transport)
        if self.keep and side is self.fe:
            self._drain()
        elif self.keep:
            self._stop_keeping()
        self._review()

    def lost(self, transport: Carrier) -> None:
        """One side's connection is closed; all that it sent has been handed on."""
        side, _ = self._sides(transport)
        if self._over or side.gone:
            return
        side.gone = True
        if side.failure is not None:
            self.failed(transport)
        else:
            self.stream_ended(transport)

    def seen(self) -> None:
        """Something changed at the end of one of the connections; look at once."""
        if not self._over and self._look is not None:
            self._look_after = _FIRST_LOOK
            if self._made_progress():
                self._last_progress = self._clock.seconds()
            self._review()

    def finish(self, cause: Cause, text: str) -> None:
        """End the session at once: both sides are reset, since neither has ended in order."""
        if not self._over:
            self.cause, self.text = cause, text
            self._end(reset=(self.fe, self.be))

    @property
    def stalls(self) -> Stalls:
        """How long it has stood still so far."""
        pump, fe, be = self.pump, self.fe.transport, self.be.transport
        return Stalls(
            fe=pump.stalled(be),
            be=pump.stalled(fe),
            fe_throttled=pump.held_back(fe),
            be_throttled=pump.held_back(be),
        )

    # the rules

    def _sides(self, transport: Carrier) -> tuple[Side, Side]:
        if transport is self.fe.transport:
            return self.fe, self.be
        return self.be, self.fe

    def _name(self, side: Side) -> str:
        return "the FE" if side is self.fe else "the BE"

    def _blame(self, cause: Cause, what: str, side: Side) -> None:
        if self.cause is None:
            self.cause, self.text = cause, f"{self._name(side)} {what}"

    def _blame_failure(self, side: Side) -> None:
        """A failure outweighs an end in order, except for the FE of a kept BE."""
        if self.keep and side is self.fe and side.failure is Failure.RESET:
            self._blame(Cause.FE_CLOSED, "closed its connection", side)
            return
        if self.cause not in (None, Cause.FE_CLOSED, Cause.BE_CLOSED):
            return
        what = "reset its connection" if side.failure is Failure.RESET else "does not answer"
        kind = "reset" if side.failure is Failure.RESET else "dead"
        who = "fe" if side is self.fe else "be"
        self.cause, self.text = Cause(f"{who}_{kind}"), f"{self._name(side)} {what}"

    def _pass_end(self, source: Side, other: Side) -> None:
        if not other.shut and other.failure is None:
            other.shut = True
            self.pump.end(source.transport)

    def _stop_keeping(self) -> None:
        """The kept BE itself ended: from here on as in close."""
        self.keep = False
        if self.fe.ended:
            self._pass_end(self.fe, self.be)

    def _drain(self) -> None:
        if not self._draining:
            self._draining = True
            self.be.last_byte = self._clock.seconds()
            self._watcher.session_draining(self)

    def _look_due(self) -> None:
        """It is time to look: nothing may have happened since, or nothing that was told."""
        self.fe.transport.start_watching()
        self.be.transport.start_watching()
        if self._made_progress():
            self._last_progress = self._clock.seconds()
        self._review()

    def _review(self) -> None:
        """See whether the session is over by now; otherwise look again later."""
        if self._over:
            return
        now = self._clock.seconds()
        if self.keep:
            self._review_kept(now)
        else:
            self._review_closing()
        if not self._over:
            self._check_timeouts(now)
        if not self._over:
            self._look_again()

    def _review_closing(self) -> None:
        fe, be = self.fe, self.be
        for side, other in ((fe, be), (be, fe)):
            if side.failure is None:
                continue
            if other.failure is not None:
                self._end(reset=(fe, be))
            elif side.gone and other.transport.all_delivered:
                # The FE of a kept BE that ended by itself since: nothing is cut off.
                in_order = self.cause is Cause.FE_CLOSED and other.ended
                self._end(reset=() if in_order else (other,))
            return
        if fe.ended and be.ended and fe.transport.all_delivered and be.transport.all_delivered:
            self._end()
            return
        for side, other in ((fe, be), (be, fe)):
            # One that closes by SRT takes no more either, and by TCP both streams had ended.
            if side.gone and other.transport.all_delivered:
                self._end()
                return

    def _review_kept(self, now: float) -> None:
        fe, be = self.fe, self.be
        if not self._draining:
            return
        all_read = fe.ended or fe.gone
        if self._delivered_at is None and all_read and be.transport.all_delivered:
            self._delivered_at = now
        if self._delivered_at is None:
            return
        if be.received != be.transport.received or self.pump.pushed_back(be.transport):
            be.received = be.transport.received
            be.last_byte = now
        quiet_since = max(be.last_byte, self._delivered_at)
        quiet = now - quiet_since >= self._limits.drain_quiet
        if be.transport.whole:
            quiet = True
        elif quiet and be.transport.has_unread():
            be.last_byte = now
            quiet = False
        if quiet and (fe.failure is not None or fe.transport.all_delivered):
            self._end(kept=True)
        elif (
            not quiet
            and be.last_byte > self._delivered_at
            and now - self._delivered_at >= self._limits.drain_limit
        ):
            limit = self._limits.drain_limit
            self.cause = Cause.LIMIT
            self.text = f"the BE was still sending {limit:g} s after the FE's last byte"
            self._end(reset=(fe, be))

    def _made_progress(self) -> bool:
        """Whether bytes moved since the last look, or would have but for a limit.

        While a kept BE has yet to take a gone FE's last bytes, only that it takes some counts:
        one that talks and never reads would hold its port for ever.
        """
        fe, be = self.fe.transport, self.be.transport
        if self.keep and self._draining and self._delivered_at is None:
            progress = (0, 0, 0, be.delivered)
            waits = False
        else:
            progress = (fe.received, be.received, fe.delivered, be.delivered)
            waits = self.pump.throttled(fe) or self.pump.throttled(be)
        changed = waits or progress != self._progress
        self._progress = progress
        return changed

    def _check_timeouts(self, now: float) -> None:
        still = now - self._last_progress
        limits = self._limits
        closing = self._draining or any(
            side.ended or side.failure is not None for side in (self.fe, self.be)
        )
        if closing and 0 < limits.half_close_timeout <= still:
            if self.cause in (None, Cause.FE_CLOSED, Cause.BE_CLOSED):
                self.cause = Cause.HALF_CLOSE_TIMEOUT
            self.text += f", then nothing moved for {limits.half_close_timeout:g} s"
            self._end(reset=(self.fe, self.be))
        elif limits.idle_timeout > 0 and still >= limits.idle_timeout:
            self.cause = Cause.IDLE_TIMEOUT
            self.text = f"nothing moved for {limits.idle_timeout:g} s"
            self._end(reset=(self.fe, self.be))

    def _look_again(self) -> None:
        """Have :meth:`_review` called again, ever later while nothing happens."""
        limits = self._limits
        pending = [limits.idle_timeout / 4] if limits.idle_timeout > 0 else []
        if self._draining:
            pending.append(limits.drain_quiet / 4)
        if self.cause is not None:
            pending.append(self._look_after)
            self._look_after = min(self._look_after * 2, _LONGEST_LOOK)
        if pending:
            delay = max(_FIRST_LOOK, min(pending))
            look = self._look
            if look is None or not look.active():
                self._look = self._clock.callLater(delay, self._look_due)
            elif look.getTime() > self._clock.seconds() + delay:
                look.reset(delay)

    # the end

    def _end(self, *, reset: tuple[Side, ...] = (), kept: bool = False) -> None:
        self._over = True
        if self._look is not None and self._look.active():
            self._look.cancel()
        fe, be = self.fe, self.be
        outcome = Outcome(
            cause=self.cause or Cause.FE_CLOSED,
            text=self.text,
            fe_to_be_bytes=be.delivered,
            be_to_fe_bytes=fe.delivered,
            seconds=self._clock.seconds() - self._started,
            be_kept=kept,
            stalls=self.stalls,
        )
        self.pump.stop(be.transport if kept else None)
        for side in (fe, be):
            if side in reset:
                side.transport.abortConnection()
            elif side is fe or not kept:
                side.transport.close_ended()
        self._watcher.session_over(self, outcome)
