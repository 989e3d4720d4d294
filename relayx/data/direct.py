"""Direct mode of ZeroMQ: connections that say no HELLO, from their first byte to their session.

What each says is read by ``raw``, and two that were paired are seen through their handshake by
``negotiation``; here is who they are, where they may come, and what becomes of their mistakes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
from twisted.logger import Logger

from relayx.core import effects as fx
from relayx.core.hello import Hello
from relayx.core.messages import Cause, Role
from relayx.core.pairing import nothing_moved
from relayx.data.connection import DataConnection
from relayx.data.events import Events
from relayx.data.inspected import Inspection
from relayx.data.negotiation import Failure, Negotiation
from relayx.data.raw import Raw
from relayx.data.sessions import Sessions
from relayx.data.settings import Settings
from relayx.net.newcomers import Newcomers
from relayx.zmtp import Fault, ZmtpError
from relayx.zmtp.greeting import GREETING_BYTES

_log = Logger(namespace="relayx.data")
SILENT_FOR = 0.5
"""Seconds behind its greeting in which a client of PLAIN shows its credentials. It does so as soon
as it has the gateway's greeting, and a server says nothing: who is silent is taken for one."""
ENDED = "ended"
"""The reason in `faults` of a handshake that one side has left, or that took too long."""


class Direct:
    """Takes such connections on the ports of ZeroMQ.

    :param clock: an IReactorTime.
    :param sessions: where two that fit go on.
    :param newcomers: the connections that have yet to say who they are.
    :param connections: all that are open, by their numbers.
    :ivar faults: their mistakes, by what :class:`~relayx.zmtp.Fault` and :data:`ENDED` call them.
    """

    def __init__(
        self,
        clock: Any,
        settings: Settings,
        events: Events,
        sessions: Sessions,
        newcomers: Newcomers[DataConnection],
        connections: Mapping[int, DataConnection],
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._events = events
        self._sessions = sessions
        self._newcomers = newcomers
        self._connections = connections
        self._last_waiting: dict[int, DataConnection] = {}  # that came to wait, by port
        self._undecided: dict[DataConnection, Any] = {}  # and when they are looked at again
        self._negotiations: dict[str, Negotiation] = {}
        self.faults: Counter[str] = Counter({str(fault): 0 for fault in Fault} | {ENDED: 0})

    def change(self, settings: Settings) -> None:
        """Go by other settings; a handshake that has begun goes on by those it began with."""
        self._settings = settings

    # before they are paired

    def take(self, number: int) -> Raw | None:
        """What a connection without HELLO is on a port, None where none may come."""
        if not self._events.takes_zmtp(number):
            return None
        return Raw(
            inspect=self._settings.inspect != "off",
            waiting_minor=lambda: self._waiting_minor(number),
        )

    def _waiting_minor(self, number: int) -> int | None:
        """The minor version of ZMTP of who waits on a port."""
        found = self._last_waiting.get(number)
        if found is None or found.raw is None or not found.waiting:
            return None
        return found.raw.minor

    def said(self, connection: DataConnection, raw: Raw, *, silent: bool = False) -> None:
        """A connection has said something; it may be known by now who it is.

        :param silent: whether it has said nothing for long behind its greeting.
        """
        if raw.refusal:
            self.failed(connection, f"it refused the handshake: {raw.refusal}")
            return
        if connection.hello is not None:
            self._said_more(connection, raw)
            return
        role = self._role(connection, raw)
        has_none = role is Role.BE and (silent or raw.is_server)
        if raw.is_known(credentials=self._settings.zmtp_credentials and not has_none):
            self._decide(connection, raw, role)
        elif raw.owes_credentials:
            self._look_later(connection, raw)

    def _look_later(self, connection: DataConnection, raw: Raw) -> None:
        """Look again at one of PLAIN; by then it has shown credentials, or is a server."""
        if connection in self._undecided:
            return

        def look() -> None:
            del self._undecided[connection]
            self.said(connection, raw, silent=len(connection.held) == GREETING_BYTES)

        after = min(SILENT_FOR, self._settings.hello_timeout / 2)
        self._undecided[connection] = self._clock.callLater(after, look)

    def _decided(self, connection: DataConnection) -> None:
        timer = self._undecided.pop(connection, None)
        if timer is not None:
            timer.cancel()

    def _said_more(self, connection: DataConnection, raw: Raw) -> None:
        """One that waits as a BE and shows credentials after all was none, but is late."""
        hello = connection.hello
        if (
            self._settings.zmtp_credentials
            and connection.waiting
            and raw.credentials is not None
            and hello is not None
            and hello.role is Role.BE
        ):
            connection.waiting = False
            self._decide(connection, raw, self._role(connection, raw))

    def _role(self, connection: DataConnection, raw: Raw) -> Role:
        shown = raw.credentials is not None
        return self._events.role_by_state(connection.port, connection.address, raw.kind, shown)

    def _decide(self, connection: DataConnection, raw: Raw, role: Role) -> None:
        self._newcomers.discard(connection)
        self._decided(connection)
        told = raw.credentials
        connection.hello = Hello(role)
        self._events.said_zmtp(
            connection.link, connection.port, connection.address,
            None if told is None else (told.username, told.password), raw.kind,
        )  # fmt: skip

    def waits(self, connection: DataConnection) -> None:
        """A connection waits to be paired."""
        if connection.raw is not None:
            self._last_waiting[connection.port] = connection

    def failed(self, connection: DataConnection, why: ZmtpError | str) -> None:
        """A connection does not speak ZMTP as it should, before it is paired."""
        self._newcomers.discard(connection)
        self._decided(connection)
        self._fault(connection, why)
        if connection.waiting:
            connection.waiting = False
            self._events.link_lost(connection.link)
        connection.leave()

    def _fault(self, connection: DataConnection, why: ZmtpError | str) -> None:
        fault = str(why.fault) if isinstance(why, ZmtpError) else ENDED
        self.faults[fault] += 1
        _log.info(
            "{text}",
            text=f"port {connection.port}: ZMTP with {connection.address}: {why}",
            event="zmtp_failed", port=connection.port, address=connection.address, fault=fault,
        )  # fmt: skip

    def lost(self, connection: DataConnection) -> None:
        """A connection, of whatever kind, is closed."""
        self._decided(connection)
        if self._last_waiting.get(connection.port) is connection:
            del self._last_waiting[connection.port]
        negotiation, connection.negotiation = connection.negotiation, None
        if negotiation is not None:
            negotiation.ended(connection)

    # the handshake of two

    def negotiate(self, effect: fx.Pair, fe: DataConnection, be: DataConnection) -> None:
        """Let two sides find each other fit; make a session of them, or tell that it is over.

        A BE that has been told nothing yet waits on.
        """

        def done(of_fe: bytes, of_be: bytes) -> None:
            del self._negotiations[effect.pairing_id]
            fe.held, be.held = of_fe, of_be
            inspection = Inspection(negotiation.handshake, counts=counts)
            self._sessions.start(effect, fe, be, inspection, self._fault)

        def failed(failure: Failure) -> None:
            del self._negotiations[effect.pairing_id]
            why, side, said_by_be = failure
            self._fault(side, why)
            fe.negotiation = be.negotiation = None
            fe.leave()
            kept = said_by_be is not None and be.link in self._connections
            if said_by_be is not None and kept:
                be.wait_again(said_by_be)
            else:
                be.leave()
            outcome = nothing_moved(Cause.FE_CLOSED if side is fe else Cause.BE_CLOSED, str(why))
            self._events.session_over(
                effect.pairing_id, msgspec.structs.replace(outcome, be_kept=kept)
            )

        counts = self._settings.inspect == "messages"
        negotiation = Negotiation(
            fe, be, self._clock, done, failed,
            messages=counts, max_message=self._settings.max_message_bytes or None,
            be_shows_none=self._settings.zmtp_credentials and be.raw is not None,
        )  # fmt: skip
        self._negotiations[effect.pairing_id] = negotiation
        of_fe, of_be = fe.negotiate(negotiation), be.negotiate(negotiation)
        for connection in (fe, be):
            connection.transport.resumeProducing()
        negotiation.begin(of_fe, of_be)

    def end(self, pairing_id: str) -> None:
        """Close both sides of a handshake, where it is not over yet."""
        negotiation = self._negotiations.pop(pairing_id, None)
        if negotiation is not None:
            negotiation.close()
            for side in (negotiation.fe, negotiation.be):
                side.negotiation = None
                side.close()
