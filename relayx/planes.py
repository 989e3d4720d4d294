"""The planes that carry sessions as one: TCP (``relayx.data``) and SRT (``relayx.srt``).

An effect goes to the plane that has the connection. A session of one of each, or one of two SRT
connections with a bandwidth limit, runs on the data plane, which is lent the SRT connections.
"""

from __future__ import annotations

import errno
import itertools
import socket
import typing
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from OpenSSL.SSL import Context
from twisted.internet.error import CannotListenError

from relayx.core import effects as fx
from relayx.core.errors import RelayError
from relayx.core.glance import Snapshot
from relayx.core.messages import Cause, Protocol, Transport
from relayx.core.pairing import Outcome, Stalls
from relayx.core.zmtpseen import ZmtpSeen
from relayx.data.carrier import Carrier
from relayx.data.events import Events as DataEvents
from relayx.data.ledger import Ledger, Moved
from relayx.data.messageledger import MessagesMoved
from relayx.data.plane import DataPlane, Held
from relayx.data.pump import Pump
from relayx.data.session import Session
from relayx.data.settings import Settings as DataSettings
from relayx.srt.binding import Library, LibraryMissingError, SrtError, load
from relayx.srt.carrier import SrtCarrier
from relayx.srt.dropping import Dropped
from relayx.srt.lent import LentConnection
from relayx.srt.plane import Events as SrtEvents
from relayx.srt.plane import SrtPlane
from relayx.srt.settings import SrtSettings
from relayx.srt.statistics import LinkState
from relayx.srt.totals import Key, PortLinks


class SrtUnusableError(RelayError):
    """SRT cannot be had as it is configured; the text says why."""


class Events(DataEvents, SrtEvents, typing.Protocol):
    """Who is told what happens on any plane."""


class Side(NamedTuple):
    """One end of a session.

    :ivar pushed_back: whether it is not read because of the other, or because of a limit.
    :ivar held_back: whether that is a limit.
    :ivar link: the state of its connection where that is SRT, None where it is TCP.
    :ivar dropped: what it did not get.
    """

    pushed_back: bool = False
    held_back: bool = False
    link: LinkState | None = None
    dropped: Dropped = Dropped()


class Look(NamedTuple):
    """One session that runs, for those who look on.

    :ivar to_be: bytes delivered to the BE; `to_fe` those to the FE.
    :ivar started: in the reactor's seconds.
    :ivar cause: why it is ending, None while it is not.
    :ivar fe: how the FE's connection is; `be` the BE's.
    :ivar zmtp: what is known of its ZMTP, None where that is nothing.
    """

    to_be: int
    to_fe: int
    started: float
    cause: Cause | None
    keep: bool
    stalls: Stalls
    fe: Side
    be: Side
    zmtp: ZmtpSeen | None = None


class Planes:
    """All data connections and sessions of a gateway.

    :param reactor: an IReactorTime, IReactorFDSet and IReactorFromThreads.
    :param look: copies the rules' state, for SRT.
    :ivar data: the TCP plane.
    :ivar srt: the SRT plane, None where it is off or libsrt is missing.
    :ivar srt_begun: whether :meth:`begin_srt` was called, which a gateway without srt ports has
        no use for.
    """

    def __init__(
        self, reactor: Any, settings: DataSettings, events: Events, look: Callable[[], Snapshot]
    ) -> None:
        self._reactor = reactor
        self._events = events
        self._look = look
        self._links = itertools.count(1)
        self._ledger = Ledger()  # of sessions of the SRT plane that are over
        self._srt_settings = SrtSettings()
        self._calls: set[int] = set()  # ports of SRT that are not listened on, since they call
        self.data = DataPlane(reactor, settings, events, self._links)
        self.srt: SrtPlane | None = None
        self.srt_begun = False

    def begin_srt(self, settings: SrtSettings, path: str = "") -> str:
        """Have SRT from now on, as far as it is wanted and there; what to tell, "" for nothing.

        :param path: a file of libsrt, "" for the system's.
        :raises SrtUnusableError: where it is demanded and not there, or an option is wrong.
        """
        self.srt_begun = True
        self._srt_settings = settings
        self._calls = {dial.port for dial in settings.dial if dial.rendezvous}
        if settings.enabled == "no":
            return "SRT is off: srt.enabled is no"
        try:
            library: Library = load(path)
        except LibraryMissingError as missing:
            if settings.enabled == "yes":
                raise SrtUnusableError(f"srt.enabled is yes: {missing}") from None
            return f"the srt ports take TCP alone: {missing}"
        self.srt = SrtPlane(
            self._reactor, library, settings, _Counting(self._events, self._ledger), self._links,
            self._look,
        )  # fmt: skip
        try:
            self.srt.ports.check_options()
        except SrtError as error:
            raise SrtUnusableError(
                f"srt: libsrt {library.version} does not take it: {error}"
            ) from None
        return f"SRT by libsrt {library.version}"

    # ports

    def listen(self, number: int, protocol: Protocol, adopted: socket.socket | None = None) -> None:
        """Listen on one data port, an srt port by both transports; by each where it is not yet.

        :param adopted: a TCP socket that listens there already.
        :raises twisted.internet.error.CannotListenError: where it cannot be bound.
        """
        is_new = number not in self.data.listening
        if is_new:
            self.data.listen(number, adopted)
        if self.srt is None or not self._takes_srt(number, protocol):
            return
        try:
            self.srt.ports.listen(number)
        except OSError as error:
            if is_new:
                self.data.stop_listening_on(number)
            problem = OSError(error.errno or errno.EADDRINUSE, f"{error.strerror} (UDP, for SRT)")
            raise CannotListenError(self._srt_settings.interface, number, problem) from None

    def try_listening(self, number: int, protocol: Protocol) -> None:
        """Find out whether :meth:`listen` would work, and listen on nothing.

        :raises OSError: where it would not.
        """
        self.data.try_listening(number)
        if self._takes_srt(number, protocol) and self.srt is not None:
            self.srt.ports.try_listening(number)

    def _takes_srt(self, number: int, protocol: Protocol) -> bool:
        return self.srt is not None and protocol is Protocol.SRT and number not in self._calls

    def keep_listening(self, ports: Mapping[int, Protocol]) -> None:
        """Accept no more but on these, by SRT on srt ports alone; connections stay."""
        for number in self.data.listening - ports.keys():
            self.data.stop_listening_on(number)
        if self.srt is not None:
            taken = {number for number, kind in ports.items() if self._takes_srt(number, kind)}
            for number in self.srt.ports.listening - taken:
                self.srt.ports.stop_listening_on(number)

    def stop_listening(self) -> None:
        """Accept no more."""
        self.data.stop_listening()
        if self.srt is not None:
            self.srt.ports.stop_listening()

    def leave_adopted(self) -> None:
        """Accept no more on sockets that were adopted: the next process will."""
        self.data.leave_adopted()

    def listens(self, number: int, protocol: Protocol) -> bool:
        """Whether a port is listened on, as one of its protocol is."""
        if self.srt is not None and self._takes_srt(number, protocol):
            return number in self.data.listening and number in self.srt.ports.listening
        return number in self.data.listening

    def set_tls(self, context: Context | None) -> None:
        """Take TLS with this certificate from now on; of TCP."""
        self.data.set_tls(context)

    def change(self, settings: DataSettings, srt: SrtSettings) -> None:
        """Go by other settings from now on."""
        self.data.change(settings)
        self._srt_settings = srt
        if self.srt is not None:
            self.srt.change(srt)

    def dial(self) -> None:
        """Call the peers of ``srt.dial`` from now on."""
        if self.srt is not None:
            self.srt.dial()

    def refresh(self) -> None:
        """Whoever comes from now on is decided on by the rules' state as it is."""
        if self.srt is not None:
            self.srt.handshakes.refresh()

    def changed(self) -> None:
        """The rules' state may have changed."""
        if self.srt is not None:
            self.srt.handshakes.changed()

    # effects

    def wait(self, effect: fx.Wait) -> None:
        """Keep a connection until it is paired."""
        if self.srt is not None and self.srt.has(effect.link):
            self.srt.wait(effect)
        else:
            self.data.wait(effect)

    def refuse(self, effect: fx.Refuse) -> None:
        """Turn a connection away."""
        if self.srt is not None and self.srt.has(effect.link):
            self.srt.refuse(effect)
        else:
            self.data.refuse(effect)

    def close_link(self, effect: fx.CloseLink) -> None:
        """Close a connection that waits."""
        if self.srt is not None and self.srt.has(effect.link):
            self.srt.close_link(effect)
        else:
            self.data.close_link(effect)

    def pair(self, effect: fx.Pair) -> None:
        """Make a session of two connections."""
        srt = self.srt
        ends = {effect.transport_fe, effect.transport_be}
        if srt is None or ends == {Transport.TCP}:
            self.data.pair(effect)
        elif ends == {Transport.SRT} and not effect.limits:
            srt.pair(effect)
        else:
            for link, transport in (
                (effect.fe, effect.transport_fe), (effect.be, effect.transport_be)
            ):  # fmt: skip
                if transport is Transport.SRT:
                    whole = ends == {Transport.SRT}
                    if (lent := srt.lend(link, self._lent_lost, whole=whole)) is not None:
                        self.data.adopt(lent)
            self.data.pair(effect)

    def _lent_lost(self, lent: LentConnection) -> None:
        self.data.adopted_lost(lent.link)

    def end_session(self, effect: fx.EndSession) -> None:
        """Close both sides of a session at once."""
        if self.srt is not None and self.srt.running.session(effect.pairing_id) is not None:
            self.srt.end_session(effect)
        else:
            self.data.end_session(effect)

    # for those who look on

    def look(self, pairing_id: str) -> Look | None:
        """A session that runs, None where there is none of that id."""
        session = self.data.sessions.get(pairing_id)
        if session is not None:
            return _look(session, self.data.sessions.zmtp_seen(pairing_id))
        found = None if self.srt is None else self.srt.running.session(pairing_id)
        if found is None:
            return None
        running, report = found
        return Look(
            report.to_be.bytes, report.to_fe.bytes, running.started, None, running.keep,
            Stalls(fe=report.to_fe.stalled, be=report.to_be.stalled),
            Side(link=report.fe, dropped=report.fe_dropped),
            Side(link=report.be, dropped=report.be_dropped),
        )  # fmt: skip

    def sessions_by_protocol(self) -> Counter[Protocol]:
        """How many sessions run."""
        counts = Counter(one.protocol for one in self.data.sessions.running())
        if self.srt is not None:
            counts[Protocol.SRT] += len(self.srt.running)
        return counts

    def bytes_moved(self) -> int:
        """Bytes delivered over both directions of every session, since the start."""
        of_srt = self._ledger.bytes + sum(
            to_be + to_fe for _, to_be, to_fe, _ in self._running_srt()
        )  # fmt: skip
        return self.data.sessions.bytes_moved() + of_srt

    def moved(self) -> dict[Protocol, Moved]:
        """The same by protocol and direction, and how long sessions stood still."""
        totals = self.data.sessions.moved()
        for protocol, more in self._ledger.with_running(self._running_srt()).items():
            totals[protocol].add(more.fe_to_be_bytes, more.be_to_fe_bytes, more.stalls)
        return totals

    def _running_srt(self) -> Iterator[tuple[Protocol, int, int, Stalls]]:
        if self.srt is not None:
            yield from self.srt.running.moved()

    def held(self) -> Held:
        """How many bytes the gateway holds for all TCP connections."""
        return self.data.held()

    def srt_links(self) -> Mapping[Key, PortLinks]:
        """What the SRT links of each port and role have come to, since the start."""
        return {} if self.srt is None else self.srt.totals.by_port()

    def srt_rejected(self) -> dict[int, int]:
        """How many SRT callers were turned away in their handshakes, by the code they read."""
        return {} if self.srt is None else dict(self.srt.handshakes.refusals)

    def open_connections(self) -> int:
        """How many data connections are open, of whatever kind."""
        # Those that are lent are on both planes.
        srt = 0 if self.srt is None else self.srt.open_connections()
        return self.data.open_connections() + srt

    def messages_moved(self) -> dict[str, MessagesMoved]:
        """Messages of ZMTP and their bytes by pattern, where they are counted."""
        return self.data.sessions.messages_moved()

    @property
    def zmtp_faults(self) -> Mapping[str, int]:
        """Mistakes in ZMTP of connections without HELLO, by kind."""
        return self.data.direct.faults

    @property
    def tls_failures(self) -> int:
        """Connections whose TLS was wrong or broke off."""
        return self.data.tls_failures

    # the end

    def close(self) -> None:
        """Close every connection that is left."""
        self.data.close()
        if self.srt is not None:
            self.srt.close()

    def release(self) -> None:
        """Every connection is gone: give the rest back to the system."""
        self.data.release()
        if self.srt is not None:
            self.srt.release()
            self.srt = None


class _Counting:
    """Counts what sessions of the SRT plane have moved, as they end."""

    def __init__(self, events: Events, ledger: Ledger) -> None:
        self._ledger = ledger
        self._over = events.session_over
        self.link_lost = events.link_lost
        self.connected_by_srt = events.connected_by_srt
        self.refused_by_srt = events.refused_by_srt
        self.links_measured = events.links_measured

    def session_over(self, pairing_id: str, outcome: Outcome) -> None:
        """A session's port leaves ``busy``."""
        self._ledger.over(Protocol.SRT, outcome)
        self._over(pairing_id, outcome)


def _look(session: Session, zmtp: ZmtpSeen | None) -> Look:
    fe, be = session.fe, session.be
    return Look(
        be.delivered, fe.delivered, session.started, session.cause, session.keep, session.stalls,
        _side(fe.transport, session.pump), _side(be.transport, session.pump), zmtp,
    )  # fmt: skip


def _side(carrier: Carrier, pump: Pump) -> Side:
    pushed_back, held_back = pump.pushed_back(carrier), pump.throttled(carrier)
    if isinstance(carrier, SrtCarrier):
        return Side(pushed_back, held_back, carrier.link, carrier.dropped)
    return Side(pushed_back, held_back)
