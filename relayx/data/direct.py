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
from relayx.zmtp import Credentials, Fault, ZmtpError

_log = Logger(namespace="relayx.data")
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

    def said(self, connection: DataConnection, raw: Raw) -> None:
        """A connection has said something; it may be known by now who it is."""
        port, address = connection.port, connection.address
        role = self._events.role_by_state(port, address, raw.kind)
        wanted = self._settings.zmtp_credentials and role is Role.FE
        if not raw.is_known(credentials=wanted):
            return
        self._newcomers.discard(connection)
        told = raw.credentials or Credentials("", "")
        connection.hello = Hello(role)
        self._events.said_zmtp(
            connection.link, port, address, told.username, told.password, raw.kind
        )

    def waits(self, connection: DataConnection) -> None:
        """A connection waits to be paired."""
        if connection.raw is not None:
            self._last_waiting[connection.port] = connection

    def failed(self, connection: DataConnection, why: ZmtpError | str) -> None:
        """A connection does not speak ZMTP as it should, before it is paired."""
        self._newcomers.discard(connection)
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
