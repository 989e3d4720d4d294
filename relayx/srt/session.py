"""Sessions of two SRT connections, in the engine's thread: how they begin and end.

SRT has no end of one direction: a side closes, and that is the end of the session once what it had
sent is delivered. With a kept BE (contract section 7) the port is ready again at once then, since
messages have boundaries: what the BE still sends is thrown away until the next session, which
begins with a whole message. Sessions of a publisher that many watch are one-way; each
has its own account of what it dropped, and none waits for another.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from relayx.core.messages import Cause, Role
from relayx.core.pairing import Outcome, Stalls
from relayx.srt.binding import Library
from relayx.srt.dropping import Dropped, Dropping
from relayx.srt.engine import MEASURE_EVERY, SETTLE, Engine
from relayx.srt.pump import Counts
from relayx.srt.statistics import Gauge, LinkState, described

DELIVERY_LIMIT = 10.0
"""Seconds without progress for what is still on its way when a side has ended; in live mode, libsrt
drops what is too late long before, unless it is told not to."""

_MARGIN = 0.05

SILENT = 4.0
"""Seconds: a peer that ended after it left this much unanswered is taken for dead."""


def play_time(library: Library, sock: int) -> float:
    """Seconds that a peer may keep back what it has acknowledged, as was agreed with it."""
    state = library.statistics(sock)
    return 0.0 if state is None else max(0, state.msSndTsbPdDelay) / 1000 + _MARGIN


class Report(NamedTuple):
    """What a session has moved so far, with the state of both links.

    :ivar fe: the FE's link; `be` the BE's.
    :ivar fe_dropped: what the FE did not get as it took too little; `be_dropped` the BE.
    """

    pairing_id: str
    to_be: Counts
    to_fe: Counts
    fe: LinkState
    be: LinkState
    fe_dropped: Dropped = Dropped()
    be_dropped: Dropped = Dropped()

    @property
    def dropped(self) -> dict[Role, int]:
        """How many messages each side did not get, for whatever reason."""
        return {
            Role.FE: self.fe_dropped.messages + self.to_fe.oversize,
            Role.BE: self.be_dropped.messages + self.to_be.oversize,
        }


class Paired:
    """One session.

    :param fe_came: when the FE came, by time.monotonic(); `be_came` likewise.
    :param keep: whether the BE stays when the FE ends; one whose stream is shared always does.
    """

    __slots__ = (
        "be", "be_dropping", "began", "cause", "closing", "deliver_by", "early", "fe", "fe_came",
        "fe_dropping", "keep", "moved_at", "pairing_id", "progress", "settled", "settled_at",
        "shared", "text", "to_be", "to_fe", "undelivered",
    )  # fmt: skip

    def __init__(
        self,
        pairing_id: str,
        fe: int,
        be: int,
        fe_came: float,
        be_came: float,
        *,
        keep: bool,
        shared: bool,
    ) -> None:
        self.pairing_id = pairing_id
        self.fe = fe
        self.be = be
        self.keep = keep or shared
        self.shared = shared
        self.began = self.moved_at = time.monotonic()
        self.progress: tuple[int, ...] = ()  # when it was looked at last
        self.fe_came = fe_came
        self.settled_at = max(fe_came, be_came) + SETTLE
        self.cause: Cause | None = None
        self.text = ""
        self.early = Counts()
        self.fe_dropping = self.be_dropping = Dropping(self.began)
        self.to_be = self.to_fe = Counts()
        self.closing: int | None = None  # the socket that is yet to get all that the other sent
        self.settled: float | None = None  # since when it has
        self.deliver_by = 0.0
        self.undelivered = 0  # bytes, at the latest look


class Sessions:
    """All sessions between SRT connections.

    :param over: told in the reactor's thread that a session is over, with its outcome.
    :param report: told there ten times a second what each has moved.
    :param kept: called in the engine's thread with a BE's socket that waits again.
    :param last_report: told in the reactor's thread, before `over`, what it all came to.
    :param idle_timeout: seconds without progress after which a session is ended; 0: never.
    """

    def __init__(
        self,
        engine: Engine,
        over: Callable[[str, Outcome], None],
        report: Callable[[list[Report]], None],
        kept: Callable[[int], None],
        last_report: Callable[[Report], None] = lambda report: None,
        idle_timeout: float = 0.0,
    ) -> None:
        self._engine = engine
        self._over = over
        self._report = report
        self._kept = kept
        self._last_report = last_report
        self._idle_timeout = idle_timeout
        self._sessions: dict[str, Paired] = {}
        self._unsettled: dict[str, Paired] = {}
        self._of_sock: dict[int, dict[str, Paired]] = {}
        self._gauges: dict[int, Gauge] = {}
        self._measured = 0.0
        engine.parties.append(self)

    def change(self, idle_timeout: float) -> None:
        """Go by another time-out from now on, in sessions that run too."""
        self._idle_timeout = idle_timeout
        for session in self._sessions.values():
            session.moved_at = time.monotonic()

    def begin(self, session: Paired) -> None:
        """Move messages between two sockets that have waited, as soon as both may be sent to."""
        if time.monotonic() < session.settled_at:
            self._unsettled[session.pairing_id] = session
            self._engine.hold(session.be)
        else:
            self._begin(session)

    def _begin(self, session: Paired) -> None:
        engine, pump, fe, be = self._engine, self._engine.pump, session.fe, session.be
        gone = [sock for sock in (fe, be) if not engine.has(sock)]
        self._sessions[session.pairing_id] = session
        waited = {sock: engine.take(sock, self) for sock in (fe, be)}
        of_be = waited[be]
        for sock in (fe, be):
            self._of_sock.setdefault(sock, {})[session.pairing_id] = session
            if sock not in self._gauges:
                self._gauges[sock] = Gauge(session.began, engine.library.statistics(sock))
        session.fe_dropping = Dropping(session.began, self._gauges[fe].state.send_dropped)
        session.be_dropping = Dropping(session.began, self._gauges[be].state.send_dropped)
        early = (of_be.early or ()) if of_be is not None and fe not in gone else ()
        send = engine.library.lib.srt_sendmsg
        sent = [send(fe, message, len(message), -1, 1) for message in early]
        session.early = Counts(
            messages=sum(size > 0 for size in sent),
            bytes=sum(size for size in sent if size > 0),
            dropped=sum(size <= 0 for size in sent),
        )
        if of_be is not None:
            pump.skip(be, of_be.clean_at(session.fe_came))
        pump.join(be, fe, holds=not session.shared)
        if session.shared:
            pump.discard(fe)
        else:
            pump.join(fe, be, holds=True)
        for sock, waiting in waited.items():
            if waiting is not None and waiting.ended:
                pump.end(sock)
        if gone:
            session.cause, session.text = _why(fe in gone, dead=False)
            self._end(session, kept=gone == [fe])

    def finish(self, pairing_id: str, cause: Cause, text: str) -> None:
        """End a session at once; its BE goes with it, unless others have its stream too."""
        unsettled = self._unsettled.pop(pairing_id, None)
        if unsettled is not None:
            self._begin(unsettled)
        session = self._sessions.get(pairing_id)
        if session is not None:
            session.cause, session.text = cause, text
            self._end(session, kept=len(self._of_sock[session.be]) > 1)

    def ended(self, sock: int) -> None:
        """See :class:`~relayx.srt.engine.Party`."""
        sessions = list(self._of_sock.get(sock, {}).values())
        dead = bool(sessions) and time.monotonic() - self._gauges[sock].heard >= SILENT
        for session in sessions:
            of_fe = sock == session.fe
            if session.closing is not None:
                session.closing = None
                self._end(session, kept=False)
                continue
            session.cause, session.text = _why(of_fe, dead)
            if of_fe and session.keep:
                self._end(session, kept=True)
            else:
                session.closing = session.be if of_fe else session.fe
                session.deliver_by = time.monotonic() + DELIVERY_LIMIT

    def look(self, now: float) -> bool:
        """See :class:`~relayx.srt.engine.Party`."""
        for session in list(self._unsettled.values()):
            if now >= session.settled_at:
                del self._unsettled[session.pairing_id]
                self._begin(session)
        busy = bool(self._unsettled)
        for session in list(self._sessions.values()):
            if session.closing is None:
                continue
            if self._is_delivered(session, session.closing, now):
                self._end(session, kept=False)
            else:
                busy = True
        return busy

    def _is_delivered(self, session: Paired, sock: int, now: float) -> bool:
        """Whether a peer has acknowledged all, and has had the time to play it.

        A receiver of SRT keeps packets back for the latency that was agreed on, and most lose
        those that it has not given away yet when the connection is closed.
        """
        engine = self._engine
        if not engine.is_connected(sock):
            return True
        left = engine.library.unsent(sock)
        if left != session.undelivered:  # it goes on, however slowly
            session.undelivered = left
            session.deliver_by = now + DELIVERY_LIMIT
        if now >= session.deliver_by:
            return True
        if left:
            session.settled = None
            return False
        if session.settled is None:
            session.settled = now
        return now - session.settled >= play_time(engine.library, sock)

    def _counts(self, session: Paired) -> tuple[Counts, Counts]:
        counted, early = self._engine.pump.counted, session.early
        to_fe = counted(session.be, session.fe)
        return counted(session.fe, session.be), Counts(
            to_fe.messages + early.messages, to_fe.bytes + early.bytes,
            to_fe.dropped + early.dropped, to_fe.dropped_bytes, to_fe.stalled, to_fe.oversize,
        )  # fmt: skip

    def _end(self, session: Paired, *, kept: bool) -> None:
        """A session is over: its FE is closed, and its BE waits again or is closed too."""
        engine, fe, be = self._engine, session.fe, session.be
        now = time.monotonic()
        for sock in (fe, be):
            self._measure(now, sock)
        session.to_be, session.to_fe = self._counts(session)
        report = self._reported(session, session.to_be, session.to_fe, now)
        engine.tell(self._last_report, report)
        del self._sessions[session.pairing_id]
        engine.pump.part(be, fe)
        engine.pump.part(fe, be)
        self._leave(fe, session)
        engine.close(fe)
        watched = self._leave(be, session) > 0
        outcome = Outcome(
            cause=session.cause or Cause.FE_CLOSED,
            text=session.text + _slowness(session.cause, report, now - session.began),
            fe_to_be_bytes=session.to_be.bytes,
            be_to_fe_bytes=session.to_fe.bytes,
            seconds=now - session.began,
            be_kept=kept,
            stalls=Stalls(fe=session.to_fe.stalled, be=session.to_be.stalled),
            messages_dropped=sum(report.dropped.values()),
        )
        engine.tell(self._over, session.pairing_id, outcome)
        if watched:
            return
        if kept:  # told of its own end, if it has come, after that of the session
            engine.pump.discard(be)
            self._kept(be)
        else:
            engine.close(be)

    def _leave(self, sock: int, session: Paired) -> int:
        """A socket is no longer in a session; how many it is still in."""
        of_sock = self._of_sock[sock]
        del of_sock[session.pairing_id]
        if not of_sock:
            del self._of_sock[sock]
            self._gauges.pop(sock, None)
        return len(of_sock)

    def count(self, now: float) -> None:
        """See :class:`~relayx.srt.engine.Party`."""
        if not self._sessions:
            return
        moved = []
        for session in self._sessions.values():
            to_be, to_fe = self._counts(session)
            moved.append((session, to_be, to_fe))
            if session.cause is None:  # what one that ends does not take any more is not slow
                session.fe_dropping.counted(now, to_fe.dropped - to_fe.oversize)
                session.be_dropping.counted(now, to_be.dropped - to_be.oversize)
        if now - self._measured >= MEASURE_EVERY:
            self._measured = now
            for sock in self._gauges:
                self._measure(now, sock)
        self._engine.tell(self._report, [self._reported(*one, now) for one in moved])
        if self._idle_timeout > 0:
            for one in moved:
                self._end_if_idle(*one, now)

    def _end_if_idle(self, session: Paired, to_be: Counts, to_fe: Counts, now: float) -> None:
        """End a session in which nothing has come, and nobody has taken any of what had.

        One that is ending has a limit of its own.
        """
        unsent = self._engine.library.unsent
        progress = (
            *(to_be.bytes, to_be.dropped_bytes, to_fe.bytes, to_fe.dropped_bytes),
            *(unsent(session.fe), unsent(session.be)),
        )
        if progress != session.progress:
            session.progress, session.moved_at = progress, now
        elif session.cause is None and now - session.moved_at >= self._idle_timeout:
            text = f"nothing moved for {self._idle_timeout:g} s"
            self.finish(session.pairing_id, Cause.IDLE_TIMEOUT, text)

    def _measure(self, now: float, sock: int) -> None:
        gauge, stats = self._gauges[sock], self._engine.library.statistics(sock)
        if stats is None:
            return
        gauge.measure(now, stats)
        for session in self._of_sock[sock].values():
            dropping = session.fe_dropping if sock == session.fe else session.be_dropping
            dropping.measured(now, gauge.state.send_dropped)

    def _reported(self, session: Paired, to_be: Counts, to_fe: Counts, now: float) -> Report:
        return Report(
            session.pairing_id, to_be, to_fe,
            self._gauges[session.fe].state, self._gauges[session.be].state,
            session.fe_dropping.dropped(now, to_fe.dropped - to_fe.oversize),
            session.be_dropping.dropped(now, to_be.dropped - to_be.oversize),
        )  # fmt: skip


def _why(of_fe: bool, dead: bool) -> tuple[Cause, str]:
    """Cause and text of the end of a session, of which one side ended."""
    who = "the FE" if of_fe else "the BE"
    if dead:
        return Cause.FE_DEAD if of_fe else Cause.BE_DEAD, f"{who} does not answer"
    return Cause.FE_CLOSED if of_fe else Cause.BE_CLOSED, f"{who} closed its connection"


def _slowness(cause: Cause | None, report: Report, seconds: float) -> str:
    """What to add to the text of a session's end about what was dropped, and to whom."""
    told = ""
    for who, dead, dropped, link, oversize in (
        ("FE", Cause.FE_DEAD, report.fe_dropped, report.fe, report.to_fe.oversize),
        ("BE", Cause.BE_DEAD, report.be_dropped, report.be, report.to_be.oversize),
    ):
        if oversize:
            told += f"; dropped {oversize} messages longer than a packet to the {who}"
        if dropped.seconds:
            why = "before the {} was gone" if cause is dead else "since the {} read too slowly"
            lasted = f"{dropped.seconds:.1f} s of {seconds:.0f} s"
            told += (
                f"; dropped {dropped.messages} messages ({lasted}) {why.format(who)}: "
                f"{described(link)}"
            )
    return told
