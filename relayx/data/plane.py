"""The data plane: every data port, connection and session, and the effects on them."""

from __future__ import annotations

import itertools
import os
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import msgspec
from OpenSSL.SSL import Context
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger

from relayx.core import effects as fx
from relayx.core.hello import Hello, HelloError, Waiting
from relayx.core.messages import Cause, Role
from relayx.core.messages import Protocol as PortProtocol
from relayx.core.pairing import Outcome
from relayx.core.zmtpseen import ZmtpSeen
from relayx.data.connection import DataConnection
from relayx.data.inspected import InspectedPump, Inspection
from relayx.data.ledger import Ledger, Moved
from relayx.data.listener import DataPort
from relayx.data.messageledger import MessageLedger, MessagesMoved
from relayx.data.negotiation import Failure as NegotiationFailure
from relayx.data.negotiation import Negotiation
from relayx.data.opening import Opening
from relayx.data.pump import BufferedPump, Pump
from relayx.data.raw import Raw
from relayx.data.session import Limits, Session
from relayx.data.splice import Splicer
from relayx.data.splicepump import SplicePump
from relayx.data.throttle import Allowances, ThrottledPump
from relayx.data.transport import DataTransport
from relayx.net.address import Networks
from relayx.net.endwatch import EndWatch
from relayx.net.newcomers import LINGER, Newcomers
from relayx.net.proxy import encode_v2
from relayx.net.sources import source_of
from relayx.net.tcp import Failure
from relayx.zmtp import Credentials, Fault, ZmtpError

_log = Logger(namespace="relayx.data")
ENDED = "ended"
"""The reason in `zmtp_faults` of a handshake that one side has left, or that took too long."""
_END_TEXT = {
    Cause.BE_LOST: "the BE's control connection ended and did not come back in time",
    Cause.DRAIN: "the gateway is stopping",
    Cause.ADMIN: "an administrator closed it",
}


class Events(Protocol):
    """Who is told what happens on the data plane."""

    def said_hello(self, link: int, port: int, address: str, hello: Hello) -> None:
        """A connection has said who it is."""

    def role_by_state(self, port: int, address: str, kind: str) -> Role:
        """Which role somebody has who comes without HELLO; `kind` of socket, "" if not known."""

    def said_zmtp(
        self, link: int, port: int, address: str, username: str, password: str, kind: str
    ) -> None:
        """A connection has come without HELLO, and what it says of itself by PLAIN."""

    def hello_failed(self, port: int, address: str, text: str) -> None:
        """A connection was closed because of its HELLO, or for want of one."""

    def link_lost(self, link: int) -> None:
        """A connection that waited has ended."""

    def session_draining(self, pairing_id: str) -> None:
        """The FE of a kept BE has ended its stream."""

    def session_over(self, pairing_id: str, outcome: Outcome) -> None:
        """A session's port leaves ``busy``."""

    def zmq_replied(self, pattern: str, seconds: list[float]) -> None:
        """Replies of ZeroMQ have gone through, so long after their requests."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the data plane goes by (contract section 1, ``data``); seconds.

    :ivar inspect: how much of ZMTP is read: off, handshake, messages.
    :ivar max_message_bytes: with messages, the most bytes in one of ZMTP; 0 for no limit.
    :ivar zmtp_credentials: whether those of PLAIN are asked of FEs without HELLO.
    """

    interface: str = ""
    hello_timeout: float = 2.0
    max_waiting_hello: int = 1024
    waiting_hello_per_source: int = 512
    keepalive: float = 15.0
    ring_buffer_size: int = 33554432
    splice: bool = True
    tls_required: bool = False
    trusted: tuple[str, ...] = ()
    limits: Limits = Limits()
    inspect: str = "handshake"
    max_message_bytes: int = 0
    zmtp_credentials: bool = False


class Running(NamedTuple):
    """A session that runs; `inspection` where it is one of ZMTP whose handshake was followed."""

    protocol: PortProtocol
    session: Session
    fe: DataConnection
    be: DataConnection
    inspection: Inspection | None


class Held(NamedTuple):
    """Bytes that the gateway holds for somebody.

    :ivar early: what waiting BEs have sent before their first session.
    :ivar unsent: what sockets have not taken yet, in memory; `pipes`: in pipes of the kernel.
    """

    early: int
    unsent: int
    pipes: int


class PortFactory(ServerFactory):
    """Accepts the connections of one data port."""

    noisy = False

    def __init__(self, plane: DataPlane, number: int) -> None:
        self._plane = plane
        self.number = number
        self.watch = plane.watch

    def build(self, host: str) -> DataConnection:
        """The protocol of a connection, not yet known to be anybody's."""
        return self._plane.build(self.number, host)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """The same for Twisted's own accept."""
        return self.build(getattr(addr, "host", ""))


class DataPlane:
    """Carries out what the rules want of data connections, and tells them what happens."""

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        events: Events,
        links: Iterator[int] | None = None,
    ) -> None:
        """:param reactor: an IReactorTime and IReactorFDSet.

        :param links: numbers of connections, of which no other plane takes the same.
        """
        self.reactor = reactor
        self.watch = EndWatch(reactor)
        self._settings = settings
        self._events = events
        self._splicer = (
            Splicer(reactor, settings.ring_buffer_size)
            if settings.splice and hasattr(os, "splice")
            else None
        )
        self.tls: Context | None = None
        self._trusted = Networks(settings.trusted) if settings.trusted else None
        self._allowances = Allowances(reactor)
        self._links = links or itertools.count(1)
        self._ports: dict[int, DataPort] = {}
        self._shut: dict[int, DataPort] = {}  # adopted ones, which nothing but we can close
        self._connections: dict[int, DataConnection] = {}
        self._newcomers: Newcomers[DataConnection] = Newcomers(
            reactor,
            settings.hello_timeout,
            settings.max_waiting_hello,
            timed_out=self._no_hello,
            crowded_out=DataConnection.close,
            per_source=settings.waiting_hello_per_source,
        )
        self.leaving: Newcomers[DataConnection] = Newcomers(
            reactor,
            LINGER,
            settings.max_waiting_hello,
            timed_out=DataConnection.stop_lingering,
            crowded_out=DataConnection.stop_lingering,
        )
        self._sessions: dict[str, Running] = {}
        self._ledger = Ledger()
        self.tls_failures = 0
        self._sweep: Any = None
        self._zmtp: set[int] = set()  # ports where connections may come without HELLO
        self._negotiations: dict[str, Negotiation] = {}
        self._last_raw: dict[int, DataConnection] = {}  # that came to wait, by port
        self._messages = MessageLedger()
        self.zmtp_faults: Counter[str] = Counter({str(fault): 0 for fault in Fault} | {ENDED: 0})

    # ports

    def listen(
        self, number: int, adopted: socket.socket | None = None, *, zmtp: bool = False
    ) -> None:
        """Listen on one data port.

        :param adopted: a socket that listens there already.
        :param zmtp: whether connections of ZMTP may come without HELLO.
        :raises twisted.internet.error.CannotListenError: where it cannot be bound.
        """
        settings = self._settings
        if zmtp:
            self._zmtp.add(number)
        shut = self._shut.pop(number, None)
        if shut is not None:
            shut.open_again(settings.keepalive)
            self._ports[number] = shut
            return
        port = DataPort(
            number,
            PortFactory(self, number),
            settings.interface,
            self.reactor,
            settings.keepalive,
            adopted,
        )
        port.startListening()
        self._ports[number] = port
        if self._sweep is None:
            self._sweep = self.reactor.callLater(self._settings.keepalive, self._find_dead)

    def leave_adopted(self) -> None:
        """Accept no more on sockets that were adopted: the next process will."""
        for number, port in [*self._ports.items(), *self._shut.items()]:
            if port.is_adopted:
                self._ports.pop(number, None)
                port.stopListening()
        self._shut.clear()

    def stop_listening(self) -> list[Any]:
        """Accept no more; return the Deferreds of ports that are not closed yet."""
        ports = [*self._ports.values(), *self._shut.values()]
        self._ports, self._shut = {}, {}
        return [port.stopListening() for port in ports]

    def stop_listening_on(self, number: int) -> None:
        """Accept no more on one port; its connections stay.

        One that was adopted still listens wherever it came from, whose backlog would keep who
        dials it waiting for ever: those are turned away, and it can be listened on again.
        """
        port = self._ports.pop(number)
        if port.is_adopted:
            port.shut()
            self._shut[number] = port
        else:
            port.close()

    @property
    def listening(self) -> set[int]:
        """The ports that are listened on."""
        return set(self._ports)

    def change(self, settings: Settings) -> None:
        """Go by other settings from now on; ``interface`` and ``splice`` stay as they were.

        TCP keepalive is that of new connections; ``ring_buffer_size``, `inspect` and
        `max_message_bytes` are those of new sessions.
        """
        before, self._settings = self._settings, settings
        self._trusted = Networks(settings.trusted) if settings.trusted else None
        self._newcomers.change(
            settings.hello_timeout, settings.max_waiting_hello, settings.waiting_hello_per_source
        )
        self.leaving.change(LINGER, settings.max_waiting_hello)
        for running in list(self._sessions.values()):
            running.session.change(settings.limits)
        if self._splicer is not None and before.ring_buffer_size != settings.ring_buffer_size:
            self._splicer.change(settings.ring_buffer_size)
        if before.keepalive != settings.keepalive:
            for port in self._ports.values():
                port.change_keepalive(settings.keepalive)
            if self._sweep is not None:
                self._sweep.reset(settings.keepalive / 2)

    def close(self) -> None:
        """Close every connection that is left."""
        for connection in list(self._connections.values()):
            connection.close()
        self._newcomers.close()
        if self._sweep is not None and self._sweep.active():
            self._sweep.cancel()
        self._sweep = None

    def release(self) -> None:
        """Every connection is gone: give the rest back to the system."""
        self.leaving.close()
        self.watch.close()
        if self._splicer is not None:
            self._splicer.close()

    def open_connections(self) -> int:
        """How many data connections are open, of whatever kind."""
        return len(self._connections)

    def adopt(self, connection: Any) -> None:
        """Take a connection of another kind for a session; it is as a DataConnection to it."""
        self._connections[connection.link] = connection

    def adopted_lost(self, link: int) -> None:
        """A connection that was adopted has ended."""
        self._connections.pop(link, None)

    def set_tls(self, context: Context | None) -> None:
        """Take TLS with this certificate from now on; running connections keep theirs."""
        self.tls = context

    # connections

    def build(self, number: int, host: str) -> DataConnection:
        """Make the protocol of an accepted connection."""
        proxied = self._trusted is not None and host in self._trusted
        opening = None
        if proxied or self.tls is not None:
            opening = Opening(
                proxied=proxied,
                tls=self.tls is not None,
                tls_required=self._settings.tls_required,
            )
        return DataConnection(self, next(self._links), number, host, opening)

    def connected(self, connection: DataConnection) -> None:
        """A connection is there; it has ``hello_timeout`` to say HELLO."""
        self._connections[connection.link] = connection
        self._newcomers.add(connection, source_of(connection.address))

    def address_told(self, connection: DataConnection) -> None:
        """A trusted proxy has told whose a connection is, which was the proxy's until now."""
        self._newcomers.move(connection, source_of(connection.address))

    def tls_broke(self, connection: DataConnection, reason: str) -> None:
        """A connection that has said HELLO sends what is no TLS."""
        _log.info(
            "{text}", text=f"port {connection.port}: TLS with {connection.address} broke: {reason}",
            event="tls_failed", port=connection.port, address=connection.address,
        )  # fmt: skip

    def _no_hello(self, connection: DataConnection) -> None:
        timeout = self._settings.hello_timeout
        if connection.raw is not None:
            text = f"it did not say what it is within {timeout:g} s"
            self.zmtp_failed(connection, text)
            return
        self.hello_failed(connection, HelloError(f"no HELLO within {timeout:g} s"))

    def hello_failed(self, connection: DataConnection, error: HelloError) -> None:
        """A connection's HELLO is wrong or missing."""
        self._newcomers.discard(connection)
        self._events.hello_failed(connection.port, connection.address, error.text)
        connection.refuse(error.code, error.text, ack=error.ack)

    def said_hello(self, connection: DataConnection, hello: Hello) -> None:
        """A connection has said who it is."""
        self._newcomers.discard(connection)
        self._events.said_hello(connection.link, connection.port, connection.address, hello)

    def take_raw(self, number: int) -> Raw | None:
        """What a connection without HELLO is on a port, None where none may come."""
        if number not in self._zmtp:
            return None
        return Raw(
            inspect=self._settings.inspect != "off",
            waiting_minor=lambda: self._waiting_minor(number),
        )

    def _waiting_minor(self, number: int) -> int | None:
        """The minor version of ZMTP of who waits on a port."""
        found = self._last_raw.get(number)
        if found is None or found.raw is None or not found.waiting:
            return None
        return found.raw.minor

    def said_zmtp(self, connection: DataConnection, raw: Raw) -> None:
        """A connection without HELLO has said something; it may be known by now who it is."""
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

    def zmtp_failed(self, connection: DataConnection, why: ZmtpError | str) -> None:
        """A connection without HELLO does not speak ZMTP as it should, before it is paired."""
        self._newcomers.discard(connection)
        self._zmtp_fault(connection, why)
        if connection.waiting:
            connection.waiting = False
            self._events.link_lost(connection.link)
        connection.leave()

    def _zmtp_fault(self, connection: DataConnection, why: ZmtpError | str) -> None:
        fault = str(why.fault) if isinstance(why, ZmtpError) else ENDED
        self.zmtp_faults[fault] += 1
        _log.info(
            "{text}",
            text=f"port {connection.port}: ZMTP with {connection.address}: {why}",
            event="zmtp_failed", port=connection.port, address=connection.address, fault=fault,
        )  # fmt: skip

    def lost(self, connection: DataConnection) -> None:
        """A connection is closed, or as good as closed."""
        self._newcomers.discard(connection)
        self.leaving.discard(connection)
        self._connections.pop(connection.link, None)
        if self._last_raw.get(connection.port) is connection:
            del self._last_raw[connection.port]
        negotiation, connection.negotiation = connection.negotiation, None
        if negotiation is not None:
            negotiation.ended(connection)
        if connection.waiting:
            connection.waiting = False
            self._events.link_lost(connection.link)

    # effects

    def wait(self, effect: fx.Wait) -> None:
        """Keep a connection until it is paired."""
        connection = self._connections.get(effect.link)
        if connection is None:
            self._events.link_lost(effect.link)
            return
        connection.wait()
        if connection.raw is not None:
            self._last_raw[connection.port] = connection
        if connection.hello is not None and connection.hello.role is Role.BE:
            connection.answer(Waiting())

    def refuse(self, effect: fx.Refuse) -> None:
        """Turn a connection away."""
        connection = self._connections.get(effect.link)
        if connection is not None:
            connection.refuse(effect.code, effect.text)

    def close_link(self, effect: fx.CloseLink) -> None:
        """Close a connection that waits."""
        connection = self._connections.get(effect.link)
        if connection is not None:
            connection.leave()

    def pair(self, effect: fx.Pair) -> None:
        """Make a session of two connections."""
        fe, be = self._connections.get(effect.fe), self._connections.get(effect.be)
        if fe is None or be is None:
            cause = Cause.FE_CLOSED if fe is None else Cause.BE_CLOSED
            nothing = _nothing(cause, "one side was gone before the session began")
            for left in (fe, be):
                if left is not None:
                    left.waiting = False
                    left.close()
            self._events.session_over(effect.pairing_id, nothing)
            return
        fe.answer(effect.to_fe)
        be.answer(effect.to_be)
        if be.hello is not None and be.hello.proxy:
            be.transport.write(encode_v2(*fe.route))
        if fe.greeted or be.greeted:
            self._negotiate(effect, fe, be)
        else:
            self._start(effect, fe, be)

    def _start(
        self,
        effect: fx.Pair,
        fe: DataConnection,
        be: DataConnection,
        inspection: Inspection | None = None,
    ) -> None:
        session = self._build_session(effect, fe, be, inspection)
        self._sessions[effect.pairing_id] = Running(effect.protocol, session, fe, be, inspection)
        session.start()

    def _negotiate(self, effect: fx.Pair, fe: DataConnection, be: DataConnection) -> None:
        """Let two sides of ZMTP find each other fit first."""

        def done(of_fe: bytes, of_be: bytes) -> None:
            del self._negotiations[effect.pairing_id]
            fe.held, be.held = of_fe, of_be
            inspection = Inspection(negotiation.handshake, counts=counts)
            self._start(effect, fe, be, inspection)

        def failed(failure: NegotiationFailure) -> None:
            del self._negotiations[effect.pairing_id]
            why, side, said_by_be = failure
            self._zmtp_fault(side, why)
            fe.negotiation = be.negotiation = None
            fe.leave()
            kept = said_by_be is not None and be.link in self._connections
            if said_by_be is not None and kept:
                be.wait_again(said_by_be)
            else:
                be.leave()
            outcome = _nothing(Cause.FE_CLOSED if side is fe else Cause.BE_CLOSED, str(why))
            self._events.session_over(
                effect.pairing_id, msgspec.structs.replace(outcome, be_kept=kept)
            )

        counts = self._settings.inspect == "messages"
        negotiation = Negotiation(
            fe, be, self.reactor, done, failed,
            messages=counts, max_message=self._settings.max_message_bytes or None,
        )  # fmt: skip
        self._negotiations[effect.pairing_id] = negotiation
        of_fe, of_be = fe.negotiate(negotiation), be.negotiate(negotiation)
        for connection in (fe, be):
            connection.transport.resumeProducing()
        negotiation.begin(of_fe, of_be)

    def _build_session(
        self,
        effect: fx.Pair,
        fe: DataConnection,
        be: DataConnection,
        inspection: Inspection | None,
    ) -> Session:
        one, two, splicer = fe.transport, be.transport, self._splicer
        counted = inspection is not None and inspection.counts
        pump: Pump
        if effect.limits:
            pump = ThrottledPump(one, two, self._allowances, effect.limits, self.reactor)
        elif (
            splicer is not None
            and splicer.works
            and not counted
            and isinstance(one, DataTransport)
            and isinstance(two, DataTransport)
        ):
            pump = SplicePump(one, two, splicer)
        else:
            pump = BufferedPump(one, two, self.reactor)
        if inspection is not None and counted:
            pump = self._inspected(effect.pairing_id, pump, inspection, fe, be)
        return self._join(effect, fe, be, pump)

    def _inspected(
        self,
        pairing_id: str,
        pump: Pump,
        inspection: Inspection,
        fe: DataConnection,
        be: DataConnection,
    ) -> Pump:
        def broken(source: Any, error: ZmtpError) -> None:
            side, who = (fe, "the FE") if source is fe.transport else (be, "the BE")
            self._zmtp_fault(side, error)
            session = self.session(pairing_id)
            if session is not None:
                session.finish(Cause.LIMIT, f"{who} broke ZMTP: {error}")

        return InspectedPump(
            pump, inspection, fe.transport, self.reactor, self._events.zmq_replied, broken
        )

    def _join(self, effect: fx.Pair, fe: DataConnection, be: DataConnection, pump: Pump) -> Session:
        session = Session(
            effect.pairing_id, fe.transport, be.transport, pump, effect.keep,
            self._settings.limits, self, self.reactor,
        )  # fmt: skip
        pump.hold(fe.pair(session), be.pair(session))
        return session

    def end_session(self, effect: fx.EndSession) -> None:
        """Close both sides of a session at once."""
        found = self._sessions.get(effect.pairing_id)
        text = _END_TEXT.get(effect.cause, str(effect.cause))
        negotiation = self._negotiations.pop(effect.pairing_id, None)
        if negotiation is not None:
            negotiation.close()
            for side in (negotiation.fe, negotiation.be):
                side.negotiation = None
                side.close()
        if found is not None:
            found.session.finish(effect.cause, text)
        else:  # something went wrong with it before; the rules must not wait for it
            self._events.session_over(effect.pairing_id, _nothing(effect.cause, text))

    # sessions

    def session_draining(self, session: Session) -> None:
        """The FE of a kept BE has ended its stream or is gone."""
        self._events.session_draining(session.pairing_id)

    def session_over(self, session: Session, outcome: Outcome) -> None:
        """A session is over."""
        protocol, _, fe, be, inspection = self._sessions.pop(session.pairing_id)
        self._ledger.over(protocol, outcome)
        if inspection is not None:
            self._messages.over(inspection)
            outcome = msgspec.structs.replace(outcome, zmtp=inspection.seen)
        fe.session = be.session = None
        if outcome.be_kept:
            if not isinstance(be, DataConnection):
                del self._connections[be.link]  # it waits where it was adopted from
            be.keep()
        self._events.session_over(session.pairing_id, outcome)

    def session(self, pairing_id: str) -> Session | None:
        """The session of that id that runs, None where there is none."""
        found = self._sessions.get(pairing_id)
        return None if found is None else found.session

    def bytes_moved(self) -> int:
        """Bytes delivered over both directions of every session, since the start."""
        running = sum(_moved(running.session) for running in self._sessions.values())
        return self._ledger.bytes + running

    def moved(self) -> dict[PortProtocol, Moved]:
        """The same by protocol and direction, and how long sessions stood still."""
        return self._ledger.with_running(
            (protocol, session.be.delivered, session.fe.delivered, session.stalls)
            for protocol, session, *_ in self._sessions.values()
        )

    def messages_moved(self) -> dict[str, MessagesMoved]:
        """Messages of ZMTP and their bytes by pattern, of sessions where they are counted."""
        return self._messages.with_running(
            running.inspection
            for running in self._sessions.values()
            if running.inspection is not None
        )

    def zmtp_seen(self, pairing_id: str) -> ZmtpSeen | None:
        """What is known of the ZMTP of a session that runs, None where that is nothing."""
        found = self._sessions.get(pairing_id)
        return None if found is None or found.inspection is None else found.inspection.seen

    def running(self) -> Iterable[Running]:
        """The sessions that run."""
        return list(self._sessions.values())

    def held(self) -> Held:
        """How many bytes the gateway holds for all connections."""
        early = unsent = pipes = 0
        for connection in self._connections.values():
            transport = connection.transport
            early += len(connection.held)
            unsent += transport.unsent
            pipes += transport.in_pipe
        return Held(early, unsent - pipes, pipes)

    # dead peers

    def _find_dead(self) -> None:
        """Look at every connection for a peer that no longer answers (contract section 7)."""
        keepalive = self._settings.keepalive
        self._sweep = self.reactor.callLater(keepalive / 2, self._find_dead)
        for connection in list(self._connections.values()):
            transport = connection.transport
            # Most have nothing in flight; asking each of thousands would cost an idle gateway.
            if transport.sent != transport.settled and transport.is_dead(4 * keepalive):
                transport.fail(Failure.DEAD)


def _nothing(cause: Cause, text: str) -> Outcome:
    return Outcome(cause=cause, text=text, fe_to_be_bytes=0, be_to_fe_bytes=0, seconds=0.0)


def _moved(session: Session) -> int:
    return session.fe.delivered + session.be.delivered
