"""SRT on the srt ports, in the reactor's thread: what the rules want done there, and what happens.

The same as :mod:`relayx.data.plane` for TCP: connections, what the rules want of them, sessions.
Who may come is decided twice: in the handshake, by :mod:`relayx.srt.handshakes`, and by the rules
themselves once the connection is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from relayx.core import effects as fx
from relayx.core.glance import DIALLED, Snapshot
from relayx.core.hello import Hello
from relayx.core.messages import Cause, Role
from relayx.core.pairing import BY_GATEWAY, Outcome, nothing_moved
from relayx.srt.binding import Library, Peer
from relayx.srt.carrier import Wires
from relayx.srt.connection import SrtConnection
from relayx.srt.dialing import Caller, Callers
from relayx.srt.dropping import Dropped
from relayx.srt.engine import MESSAGE_ROOM, Engine, Waiting
from relayx.srt.handshakes import Handshakes
from relayx.srt.lent import LentConnection
from relayx.srt.ports import Ports
from relayx.srt.running import Running, RunningSessions
from relayx.srt.session import Paired, Report, Sessions
from relayx.srt.settings import SrtSettings
from relayx.srt.statistics import LinkState
from relayx.srt.totals import Totals

_BY_FE = frozenset({Cause.FE_CLOSED, Cause.FE_RESET, Cause.FE_DEAD})


class Events(Protocol):
    """Who is told what happens on the SRT plane."""

    def connected_by_srt(self, connection: SrtConnection) -> None:
        """A connection is there, and who it is."""

    def refused_by_srt(self, port: int, address: str, code: str, reject: int, text: str) -> None:
        """A caller was turned away in its handshake; `reject`: 0 where libsrt did that itself."""

    def link_lost(self, link: int) -> None:
        """A connection that waited has ended."""

    def session_over(self, pairing_id: str, outcome: Outcome) -> None:
        """A session's port leaves ``busy``."""

    def links_measured(self) -> None:
        """The links of running sessions have been measured, once a second."""


class SrtPlane:
    """Carries out what the rules want of SRT connections, and tells them what happens.

    :param reactor: an IReactorTime and IReactorFromThreads.
    :param links: numbers of data connections, of which no other plane takes the same.
    :param look: copies the rules' state.
    :ivar ports: those that take callers.
    :ivar handshakes: of those callers.
    :ivar callers: those of the gateway itself, who call the peers of ``srt.dial``.
    :ivar running: the sessions that run here.
    :ivar totals: what the links of each port have come to.
    """

    def __init__(
        self,
        reactor: Any,
        library: Library,
        settings: SrtSettings,
        events: Events,
        links: Iterator[int],
        look: Callable[[], Snapshot],
        *,
        compiled: bool = True,
    ) -> None:
        self._reactor = reactor
        self._library = library
        self._settings = settings
        self._events = events
        self._links = links
        self.totals = Totals()
        self.running = RunningSessions(self.totals)
        self._engine = Engine(library, reactor.callFromThread, compiled=compiled)
        self._sessions = Sessions(
            self._engine, self._over, self._reported, self._kept_in_engine, self.running.note,
            settings.idle_timeout,
        )  # fmt: skip
        self.handshakes = Handshakes(
            reactor, library, look, lambda: self.callers.consider(),
            lambda *came: self.ports.set_new_options(*came), events.refused_by_srt,
        )  # fmt: skip
        self.ports = Ports(
            reactor, self._engine, library, settings, self.handshakes.decide, self._accepted
        )
        self.callers = Callers(
            reactor, self._engine, library, self.ports.set_options_of_call,
            lambda: self.handshakes.snapshot, self._reached,
        )  # fmt: skip
        self._wires = Wires(self._engine)
        self._wires.measured = events.links_measured
        self._connections: dict[int, SrtConnection] = {}
        self._by_sock: dict[int, int] = {}
        self._engine.start()

    def change(self, settings: SrtSettings) -> None:
        """Go by other settings from now on; connections that are there keep theirs."""
        self._settings = settings
        self.ports.change(settings)
        self._engine.order(self._sessions.change, settings.idle_timeout)

    def dial(self) -> None:
        """Call the peers of ``srt.dial`` from now on."""
        self.callers.begin(self._settings)

    # what the engine tells, in its own thread

    def _accepted(self, number: int, sock: int, peer: Peer) -> None:
        let_in = self.handshakes.done(sock)
        if let_in is None:
            self._library.close(sock)
            return
        decision = let_in.decision
        self._engine.add(sock)
        came = SrtConnection(
            0, sock, number, peer, self._here, decision.hello, let_in.when, decision.way
        )
        self._engine.tell(self._arrived, came)
        self._wait_in_engine(sock, decision.hello.role, decision.way.buffered)

    def _wait_in_engine(self, sock: int, role: Role, buffered: bool) -> None:
        is_be = role is Role.BE
        waiting = Waiting(keeps=is_be, buffered=buffered)
        self._engine.wait(sock, waiting, lambda: self._tell_lost(sock), reads=is_be)

    def _reached(self, caller: Caller, sock: int, peer: Peer) -> None:
        """A peer that was called is there."""
        dial = caller.dial
        came = SrtConnection(
            0,
            sock,
            dial.port,
            peer,
            self._here,
            Hello(dial.role),
            time.monotonic(),
            DIALLED,
            caller,
        )
        self._engine.tell(self._arrived, came)
        self._wait_in_engine(sock, dial.role, False)

    @property
    def _here(self) -> str:
        return self._settings.interface or "0.0.0.0"

    def _tell_lost(self, sock: int) -> None:
        self._engine.tell(self._lost, sock)

    def _kept_in_engine(self, sock: int) -> None:
        waiting = Waiting(keeps=False, buffered=self._engine.is_buffered(sock))
        self._engine.wait(sock, waiting, lambda: self._tell_lost(sock), reads=True)

    # connections

    def _arrived(self, connection: SrtConnection) -> None:
        connection.link = next(self._links)
        self._connections[connection.link] = connection
        self._by_sock[connection.sock] = connection.link
        self._events.connected_by_srt(connection)

    def _lost(self, sock: int) -> None:
        """A connection that waits has ended.

        An FE's may have sent what its BE is to have, so it goes on waiting, as one does by TCP
        that has ended its stream; and so does one that is paired already, in the session.
        """
        link = self._by_sock.get(sock)
        connection = None if link is None else self._connections.get(link)
        if connection is not None and connection.waiting and connection.hello.role is Role.BE:
            self._close(connection.link, by_peer=True)
            self._events.link_lost(connection.link)

    def _forget(self, connection: SrtConnection, *, by_peer: bool = False) -> None:
        connection.waiting = False
        self._by_sock.pop(connection.sock, None)
        self.totals.ended(connection.link)
        self.totals.session_over(f"link {connection.link}")
        found = self._connections.pop(connection.link, None)
        if found is not None and found.caller is not None:
            found.caller.ended(served=found.served, by_peer=by_peer)

    def has(self, link: int) -> bool:
        """Whether a connection is one of this plane's."""
        return link in self._connections

    def open_connections(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    # effects

    def wait(self, effect: fx.Wait) -> None:
        """Keep a connection until it is paired."""
        self._connections[effect.link].waiting = True

    def refuse(self, effect: fx.Refuse) -> None:
        """Turn a connection away that was let in, or has waited."""
        self._close(effect.link)

    def close_link(self, effect: fx.CloseLink) -> None:
        """Close a connection that waits."""
        self._close(effect.link)

    def _close(self, link: int, *, by_peer: bool = False) -> None:
        connection = self._connections.get(link)
        if connection is not None:
            self._forget(connection, by_peer=by_peer)
            self._engine.order(self._engine.turn_away, connection.sock, connection.came)

    def pair(self, effect: fx.Pair) -> None:
        """Make a session of two connections."""
        fe, be = self._connections.get(effect.fe), self._connections.get(effect.be)
        if fe is None or be is None:
            cause = Cause.FE_CLOSED if fe is None else Cause.BE_CLOSED
            for left in (fe, be):
                if left is not None and left.waiting:
                    self._close(left.link)
            nothing = nothing_moved(cause, "one side was gone before the session began")
            self._events.session_over(effect.pairing_id, nothing)
            return
        fe.waiting = be.waiting = False
        fe.served = be.served = True
        keep = effect.keep or effect.shared
        self.running.begin(Running(effect.pairing_id, fe, be, keep, self._reactor.seconds()))
        paired = Paired(
            effect.pairing_id, fe.sock, be.sock, fe.came, be.came, keep=effect.keep,
            shared=effect.shared,
        )  # fmt: skip
        self._engine.order(self._sessions.begin, paired)

    def lend(
        self, link: int, lost: Callable[[LentConnection], None], *, whole: bool
    ) -> LentConnection | None:
        """A connection for a session in the reactor, None where it has ended.

        :param whole: whether what it gets comes in messages, which go on as they are.
        """
        connection = self._connections.get(link)
        if connection is None:
            return None
        connection.waiting = False
        connection.served = True

        def ended(lent: LentConnection) -> None:
            self._forget(connection, by_peer=not lent.transport.ended_here)
            lost(lent)

        message = MESSAGE_ROOM if whole else self._settings.payloadsize
        lent = LentConnection(
            connection, self._engine, self._wires, message, ended, self._take_back
        )  # fmt: skip
        lent.transport.measured_by = lambda *state: self._measured(connection, *state)
        return lent

    def _measured(self, connection: SrtConnection, state: LinkState, dropped: Dropped) -> None:
        link, port, role = connection.link, connection.port, connection.hello.role
        if self.has(link):
            self.totals.measured(link, port, role, state)
            self.totals.dropped(f"link {link}", port, {role: dropped.messages})

    def _take_back(self, connection: SrtConnection) -> None:
        """A kept BE's session with a TCP connection is over."""
        connection.waiting = True

        def release() -> None:
            self._engine.tell(self._rests, connection.link)
            sock = connection.sock
            if self._wires.release(sock):
                self._engine.pump.discard(sock)
                self._kept_in_engine(sock)
            else:
                self._tell_lost(sock)

        self._engine.order(release)

    def _rests(self, link: int) -> None:
        self.totals.rests(link)
        self.totals.session_over(f"link {link}")

    def end_session(self, effect: fx.EndSession) -> None:
        """Close both sides of a session at once."""
        text = BY_GATEWAY.get(effect.cause, str(effect.cause))
        self._engine.order(self._sessions.finish, effect.pairing_id, effect.cause, text)

    # sessions

    def _over(self, pairing_id: str, outcome: Outcome) -> None:
        over = self.running.over(pairing_id)
        if over is None:
            return
        self._forget(over.fe, by_peer=outcome.cause in _BY_FE)
        watched = any(other.be is over.be for other in self.running)
        if not watched and outcome.be_kept:
            over.be.waiting = True
            self.totals.rests(over.be.link)
        elif not watched:
            self._forget(over.be)
        self._events.session_over(pairing_id, outcome)

    def _reported(self, reports: list[Report]) -> None:
        if self.running.reported(reports):
            self._events.links_measured()

    # the end

    def close(self) -> None:
        """Close every connection that is left."""
        self.handshakes.close()
        self.ports.stop_listening()
        self.callers.close()
        for link in list(self._connections):
            self._close(link)

    def release(self) -> None:
        """Every connection is gone: end the thread, and libsrt's."""
        self._engine.stop()
