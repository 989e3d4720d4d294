"""How a gateway stops: sessions end by themselves or in time, then all else (section 9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from relayx.authentication import Say
from relayx.brokering import Brokering
from relayx.core.messages import Cause
from relayx.core.switchboard import Switchboard
from relayx.listening import Listening
from relayx.net.newcomers import LINGER
from relayx.performing import Performing

GONE_WITHIN = LINGER + 0.5
"""Seconds that closed connections get to be gone."""
_GONE_LOOK = 0.01
_LAST_LIMIT = 1.0


class Draining(msgspec.Struct, frozen=True):
    """How far a stop is (contract section 9).

    :ivar draining: whether it has begun.
    :ivar sessions: how many still run.
    :ivar until: when they are ended, in seconds since the epoch; 0.0 where that is not set.
    """

    draining: bool
    sessions: int
    until: float


class Stopping:
    """One stop, which begins once.

    :param reactor: an IReactorTime.
    :param say: writes a line in the log.
    :param closing: called once no session is left, before connections are closed.
    :param gone: called once no connection is left, before the last line of the log; `done` behind
        that.
    """

    def __init__(
        self,
        reactor: Any,
        switchboard: Switchboard,
        perform: Performing,
        brokering: Brokering,
        listening: Listening,
        say: Say,
        closing: Callable[[], None],
        gone: Callable[[], None],
        done: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._switchboard = switchboard
        self._perform = perform
        self._brokering = brokering
        self._listening = listening
        self._say = say
        self._closing = closing
        self._gone = gone
        self._done = done
        self._ended: Deferred[None] | None = None
        self._late: Any = None
        self._brokers_move = False

    @property
    def begun(self) -> bool:
        """Whether the gateway is stopping, or has stopped."""
        return self._ended is not None

    @property
    def over(self) -> bool:
        """Whether it has stopped."""
        return self._ended is not None and bool(self._ended.called)

    @property
    def progress(self) -> Draining:
        """How far it is."""
        late = self._late
        until = late.getTime() if late is not None and late.active() else 0.0
        return Draining(self.begun, self._switchboard.sessions_running(), until)

    def begin(self, timeout: float) -> Deferred[None]:
        """Admit nobody new; fires when nothing is left. Once begun, the same Deferred again.

        :param timeout: seconds that sessions and brokers get, ``data.drain_timeout``.
        """
        if self._ended is not None:
            return self._ended
        ended = self._ended = Deferred()
        running = self._switchboard.sessions_running()
        self._say("info", "stopping", f"stopping: {running} sessions run")
        self._listening.leave_adopted()
        self._perform(self._switchboard.drain())
        self._brokers_move = bool(self._brokering)
        if self._keeps_up():
            self._late = self._reactor.callLater(timeout, self._end_late)
            self._brokering.drain().addCallback(lambda _: self._give_up_brokers())
        else:
            self._wind_up()
        return ended

    def _keeps_up(self) -> bool:
        """Whether it has to wait for what runs."""
        return self._brokers_move or bool(self._switchboard.sessions_running())

    def performed(self) -> None:
        """Effects have been carried out: the last session may be over."""
        if self._late is not None and not self._keeps_up():
            self._wind_up()

    def _give_up_brokers(self) -> None:
        """Wait for brokers no longer."""
        self._brokers_move = False
        self.performed()

    def _end_late(self) -> None:
        """The time for sessions to end has passed; whatever is in the way, the stop goes on."""
        self._late = self._reactor.callLater(_LAST_LIMIT, self._wind_up)
        self.end_sessions()

    def end_sessions(self) -> None:
        """End every session at once, with the cause ``drain``; wait for no broker either."""
        self._brokers_move = False
        self._perform(self._switchboard.end_sessions(Cause.DRAIN))

    def _wind_up(self) -> None:
        """No session is left: close everything, and wait for it to be gone."""
        if self._late is not None and self._late.active():
            self._late.cancel()
        self._late = None
        self._listening.end()
        self._closing()
        self._listening.close_connections()
        self._brokering.stop().addCallback(
            lambda _: self._await_gone(self._reactor.seconds() + GONE_WITHIN)
        )

    def _await_gone(self, deadline: float) -> None:
        left = self._listening.open_connections()
        if left and self._reactor.seconds() < deadline:
            self._reactor.callLater(_GONE_LOOK, self._await_gone, deadline)
            return
        self._gone()
        self._listening.release()
        counts = self._switchboard.sessions_ended()
        ended = ", ".join(f"{count} {cause}" for cause, count in sorted(counts.items()))
        self._say("info", "stopped", f"stopped; sessions ended: {ended or 'none'}")
        self._done()
        if self._ended is not None:
            self._ended.callback(None)
