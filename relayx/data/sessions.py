"""The sessions of the data plane: two connections, the byte path between them, what it moves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from relayx.core import effects as fx
from relayx.core.messages import Cause
from relayx.core.messages import Protocol as PortProtocol
from relayx.core.pairing import Outcome
from relayx.core.zmtpseen import ZmtpSeen
from relayx.data.carrier import Carrier
from relayx.data.connection import DataConnection
from relayx.data.events import Events
from relayx.data.inspected import InspectedPump, Inspection
from relayx.data.ledger import Ledger, Moved
from relayx.data.messageledger import MessageLedger, MessagesMoved
from relayx.data.pump import BufferedPump, Pump
from relayx.data.session import Session
from relayx.data.settings import Settings
from relayx.data.splice import Splicer
from relayx.data.splicepump import SplicePump
from relayx.data.throttle import Allowances, ThrottledPump
from relayx.data.transport import DataTransport
from relayx.zmtp import ZmtpError

Broke = Callable[[DataConnection, ZmtpError], None]
"""Told of the side of a session that has made a mistake in ZMTP, and which."""


class Running(NamedTuple):
    """A session that runs; `inspection` where it is one of ZMTP whose handshake was followed."""

    protocol: PortProtocol
    session: Session
    fe: DataConnection
    be: DataConnection
    inspection: Inspection | None


class Sessions:
    """Begins and ends them, and adds up what they move.

    :param reactor: an IReactorTime and IReactorFDSet.
    :param returned: told the number of a connection of another kind that is kept after its
        session, and waits where it came from.
    """

    def __init__(
        self, reactor: Any, settings: Settings, events: Events, returned: Callable[[int], None]
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._events = events
        self._returned = returned
        self._splicer = (
            Splicer(reactor, settings.ring_buffer_size)
            if settings.splice and hasattr(os, "splice")
            else None
        )
        self._allowances = Allowances(reactor)
        self._running: dict[str, Running] = {}
        self._ledger = Ledger()
        self._messages = MessageLedger()

    def change(self, settings: Settings) -> None:
        """Go by other settings; limits are those of running sessions too."""
        before, self._settings = self._settings, settings
        for running in list(self._running.values()):
            running.session.change(settings.limits)
        if self._splicer is not None and before.ring_buffer_size != settings.ring_buffer_size:
            self._splicer.change(settings.ring_buffer_size)

    def release(self) -> None:
        """No session is left, and none will begin: give what they shared back to the system."""
        if self._splicer is not None:
            self._splicer.close()

    # begin

    def start(
        self,
        effect: fx.Pair,
        fe: DataConnection,
        be: DataConnection,
        inspection: Inspection | None = None,
        broke: Broke | None = None,
    ) -> None:
        """Begin one.

        :param inspection: of its ZMTP, where the handshake was followed.
        :param broke: told of a mistake in its messages, where those are counted.
        """
        pump = self._pump(effect, fe.transport, be.transport, inspection)
        if inspection is not None and inspection.counts:
            pump = self._inspected(effect.pairing_id, pump, inspection, fe, be, broke)
        session = Session(
            effect.pairing_id, fe.transport, be.transport, pump, effect.keep,
            self._settings.limits, self, self._reactor,
        )  # fmt: skip
        pump.hold(fe.pair(session), be.pair(session))
        self._running[effect.pairing_id] = Running(effect.protocol, session, fe, be, inspection)
        session.start()

    def _pump(
        self, effect: fx.Pair, one: Carrier, two: Carrier, inspection: Inspection | None
    ) -> Pump:
        """The byte path: spliced where the kernel can, and nobody limits or counts."""
        splicer = self._splicer
        if effect.limits:
            return ThrottledPump(one, two, self._allowances, effect.limits, self._reactor)
        if (
            splicer is not None
            and splicer.works
            and not (inspection is not None and inspection.counts)
            and isinstance(one, DataTransport)
            and isinstance(two, DataTransport)
        ):
            return SplicePump(one, two, splicer)
        return BufferedPump(one, two, self._reactor)

    def _inspected(
        self,
        pairing_id: str,
        pump: Pump,
        inspection: Inspection,
        fe: DataConnection,
        be: DataConnection,
        broke: Broke | None,
    ) -> Pump:
        def broken(source: Carrier, error: ZmtpError) -> None:
            side, who = (fe, "the FE") if source is fe.transport else (be, "the BE")
            if broke is not None:
                broke(side, error)
            session = self.get(pairing_id)
            if session is not None:
                session.finish(Cause.LIMIT, f"{who} broke ZMTP: {error}")

        return InspectedPump(
            pump, inspection, fe.transport, self._reactor, self._events.zmq_replied, broken
        )

    # end

    def session_draining(self, session: Session) -> None:
        """The FE of a kept BE has ended its stream or is gone."""
        self._events.session_draining(session.pairing_id)

    def session_over(self, session: Session, outcome: Outcome) -> None:
        """A session is over."""
        protocol, _, fe, be, inspection = self._running.pop(session.pairing_id)
        self._ledger.over(protocol, outcome)
        if inspection is not None:
            self._messages.over(inspection)
            outcome = msgspec.structs.replace(outcome, zmtp=inspection.seen)
        fe.session = be.session = None
        if outcome.be_kept:
            if not isinstance(be, DataConnection):
                self._returned(be.link)
            be.keep()
        self._events.session_over(session.pairing_id, outcome)

    # for those who look on

    def get(self, pairing_id: str) -> Session | None:
        """The session of that id that runs, None where there is none."""
        found = self._running.get(pairing_id)
        return None if found is None else found.session

    def running(self) -> Iterable[Running]:
        """Those that run."""
        return list(self._running.values())

    def bytes_moved(self) -> int:
        """Bytes delivered over both directions of every session, since the start."""
        running = sum(_moved(running.session) for running in self._running.values())
        return self._ledger.bytes + running

    def moved(self) -> dict[PortProtocol, Moved]:
        """The same by protocol and direction, and how long sessions stood still."""
        return self._ledger.with_running(
            (protocol, session.be.delivered, session.fe.delivered, session.stalls)
            for protocol, session, *_ in self._running.values()
        )

    def messages_moved(self) -> dict[str, MessagesMoved]:
        """Messages of ZMTP and their bytes by pattern, of sessions where they are counted."""
        return self._messages.with_running(
            running.inspection
            for running in self._running.values()
            if running.inspection is not None
        )

    def zmtp_seen(self, pairing_id: str) -> ZmtpSeen | None:
        """What is known of the ZMTP of a session that runs, None where that is nothing."""
        found = self._running.get(pairing_id)
        return None if found is None or found.inspection is None else found.inspection.seen


def _moved(session: Session) -> int:
    return session.fe.delivered + session.be.delivered
