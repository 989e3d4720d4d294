"""Data connections: admitted, waiting, paired, over (contract sections 6 and 7)."""

from __future__ import annotations

import msgspec

from relayx.core import effects as fx
from relayx.core.admission import TICKET, check, is_shared, may_pair, serves, with_credentials
from relayx.core.board import Board
from relayx.core.bystate import role_by_state
from relayx.core.codec import shown
from relayx.core.errors import Code, PeerError
from relayx.core.hello import Hello, Paired
from relayx.core.leasing import Leasing
from relayx.core.messages import Cause, Protocol, Role, SessionEnd
from relayx.core.ports import BY_TCP, Change, Link, Port, Session, Status, Way
from relayx.core.refusals import NotAdmittedError
from relayx.core.zmtpseen import ZmtpSeen


class Stalls(msgspec.Struct, frozen=True):
    """For how many seconds a session stood still, and whose doing it was.

    :ivar fe: the FE took nothing, and so the BE was not read; `be` the other way round.
    :ivar fe_throttled: the FE was not read because of a limit; `be_throttled` the BE.
    """

    fe: float = 0.0
    be: float = 0.0
    fe_throttled: float = 0.0
    be_throttled: float = 0.0

    def __add__(self, other: Stalls) -> Stalls:
        return Stalls(
            self.fe + other.fe, self.be + other.be,
            self.fe_throttled + other.fe_throttled, self.be_throttled + other.be_throttled,
        )  # fmt: skip

    def __str__(self) -> str:
        """For people: whatever lasted a millisecond."""
        if self == _NONE:  # as for most sessions, each of which is told of
            return ""
        told = (
            (self.fe, "the BE waited {:.3f} s for the FE to read"),
            (self.be, "the FE waited {:.3f} s for the BE to read"),
            (self.fe_throttled, "the FE waited {:.3f} s for its limit"),
            (self.be_throttled, "the BE waited {:.3f} s for its limit"),
        )
        return ", ".join(text.format(seconds) for seconds, text in told if seconds >= 0.001)


_NONE = Stalls()


class Outcome(msgspec.Struct, frozen=True):
    """How a session ended, as the data plane saw it.

    :ivar text: a sentence for people.
    :ivar fe_to_be_bytes: bytes delivered to the BE; `be_to_fe_bytes` those to the FE.
    :ivar be_kept: whether the BE's connection is still there, to wait again.
    :ivar stalls: how long it stood still.
    :ivar messages_dropped: of an SRT session, those that a side had no room for.
    :ivar zmtp: of a session of ZMTP whose handshake was followed, else None.
    """

    cause: Cause
    text: str
    fe_to_be_bytes: int
    be_to_fe_bytes: int
    seconds: float
    be_kept: bool = False
    stalls: Stalls = Stalls()
    messages_dropped: int = 0
    zmtp: ZmtpSeen | None = None


KEPT_FOR = 2.0
"""Seconds for which the place of a BE is kept that came by ZMTP alone; libzmq comes back after a
tenth of a second."""


BY_GATEWAY = {
    Cause.BE_LOST: "the BE's control connection ended and did not come back in time",
    Cause.DRAIN: "the gateway is stopping",
    Cause.ADMIN: "an administrator closed it",
}
"""What is said of sessions that the rules end."""


def nothing_moved(cause: Cause, text: str) -> Outcome:
    """The outcome of a session that came to nothing before it began."""
    return Outcome(cause=cause, text=text, fe_to_be_bytes=0, be_to_fe_bytes=0, seconds=0.0)


class Pairing:
    """The rules of data connections, over one board."""

    def __init__(self, board: Board, leasing: Leasing) -> None:
        self._board = board
        self._leasing = leasing

    def hello(
        self,
        now: float,
        link_id: int,
        number: int,
        address: str,
        hello: Hello,
        way: Way = BY_TCP,
    ) -> None:
        """A data connection has said who it is: pair it, let it wait, or refuse it."""
        board = self._board
        port = board.ports.get(number) or Port(number, Protocol.ZMQ, retired=True)
        link = Link(link_id, port, address, hello, self._keeps(hello), now, way)
        try:
            admitted = check(board, link, port, now)
        except PeerError as error:
            self._note_refusal(link, error)
            board.refuse(link, error.code, error.text)
            return
        board.links[link_id] = link
        if hello.role is Role.BE:
            self._admit_be(now, link, admitted.replaced)
        else:
            self._admit_fe(now, link, admitted.must_wait)

    def _keeps(self, hello: Hello) -> bool:
        if hello.ack:
            return False
        return hello.on_fe_close == "keep" or (not hello.on_fe_close and self._board.rules.keep)

    def _note_refusal(self, link: Link, error: PeerError) -> None:
        seen = error.seen if isinstance(error, NotAdmittedError) else ""
        self._board.note(
            "warn" if seen else "info", "refused",
            f"port {link.port.number} refuses {link.role} {shown(link.client_id)} "
            f"from {link.address}: {error}",
            port=link.port.number, role=str(link.role), client_id=link.client_id,
            address=link.address, error_code=str(error.code),
            trace_id=link.lease.trace_id if link.lease is not None else "",
        )  # fmt: skip

    def _admit_be(self, now: float, link: Link, replaced: Link | None) -> None:
        if replaced is not None:
            self._board.take_place(replaced, link)
            self._match(now, link.port)
            return
        self._be_waits(link, Change.BE_WAITS)
        self._match(now, link.port)

    def _be_waits(self, link: Link, change: Change) -> None:
        port = link.port
        port.waiting_be = port.last_be = link
        self._board.change(link, change)
        self._board.emit(fx.Wait(link.id))

    def _match(self, now: float, port: Port) -> None:
        """Pair the BE that has just come to a port with the FE that waits there, if one does."""
        fe, be = port.waiting_fe, port.waiting_be
        if fe is None or be is None or be.away:
            return
        if not serves(fe, port):
            text = f"the BE that came to port {port.number} is of another service"
            self._board.refuse(fe, Code.NOT_ADMITTED, text)
        elif not may_pair(self._board.rules, fe, be):  # the bridge was turned off meanwhile
            text = f"the BE that came to port {port.number} is connected by {be.transport.upper()}"
            self._board.refuse(fe, Code.NOT_ADMITTED, text)
        else:
            self._pair(now, fe, be)

    def _admit_fe(self, now: float, link: Link, must_wait: bool) -> None:
        board, port = self._board, link.port
        be = port.be
        if be is not None and not must_wait and not be.away:
            self._pair(now, link, be)
            return
        port.waiting_fe = link
        board.emit(fx.Wait(link.id))
        link.due = board.at(now + board.rules.hello_timeout, lambda _now: self._give_up(link))

    def _give_up(self, link: Link) -> None:
        if link.port.waiting_fe is link:
            error = PeerError(Code.PORT_EMPTY, f"no BE came to port {link.port.number} in time")
            self._note_refusal(link, error)
            self._board.refuse(link, error.code, error.text)

    def _pair(self, now: float, fe: Link, be: Link) -> None:
        board, port, lease = self._board, fe.port, fe.lease
        if port.status is Status.BUSY:
            board.ports.change(port, Change.JOINED)
        else:
            port.waiting_be = port.waiting_fe = None
            board.cancel(fe.due)
            board.change(be, Change.PAIRED)
        lease_waited = None
        if lease is not None and not lease.used:
            lease.used, lease_waited = True, now - lease.granted
        session = Session(
            board.names.pairing_id(), fe, be,
            lease.session_id if lease else "", lease.trace_id if lease else "",
            is_shared(board.rules, fe, be),
        )  # fmt: skip
        port.sessions[session.pairing_id] = session
        board.sessions[session.pairing_id] = session
        # A BE that was greeted by ZMTP is in mid-stream then, and can greet nobody else.
        keep = be.keep and not fe.way.raw
        board.emit(
            fx.Pair(
                session.pairing_id, port.number, port.protocol, fe.id, be.id, keep,
                to_fe=self._paired(session, be),
                to_be=self._paired(session, fe),
                limits=self._limits(fe, be) if board.policies.by_bandwidth else (),
                fe_waited=now - fe.since,
                lease_waited=lease_waited,
                transport_fe=fe.transport,
                transport_be=be.transport,
                shared=session.shared,
            )
        )  # fmt: skip

    def _limits(self, *links: Link) -> tuple[tuple[str, int], ...]:
        """Whose bandwidth limits a session has, and the bits/s of each."""
        board = self._board
        owners = [owner for link in links if (owner := board.roster.owner(link)) is not None]
        found = [
            (f"{owner.role} {owner.client_id}", board.policies.of(owner.asked_id).bandwidth)
            for owner in owners
        ]
        return tuple((key, rate) for key, rate in found if rate)

    def _paired(self, session: Session, other: Link) -> Paired:
        return Paired(
            session.pairing_id, session.session_id, other.client_id, other.address,
            session.trace_id,
        )  # fmt: skip

    def zmtp(
        self,
        now: float,
        link_id: int,
        number: int,
        address: str,
        credentials: tuple[str, str] | None = None,
        kind: str = "",
    ) -> None:
        """A connection has said who it is as far as ZMTP tells; see Switchboard.zmtp."""
        board = self._board
        before = board.links.get(link_id)
        if before is not None:
            if before.port.waiting_be is not before:
                return  # in a session since
            board.leave(before)
        port = board.ports.get(number)
        role = Role.FE
        if port is not None:
            shown = credentials is not None
            role = role_by_state(board, port, address, now, kind, shown=shown)
        hello = Hello(role, on_fe_close="close" if role is Role.BE else "")
        if board.rules.admission == TICKET and port is not None:
            hello = with_credentials(board, hello, port, address, credentials)
        self.hello(now, link_id, number, address, hello, Way(raw=True, kind=kind))

    def link_lost(self, now: float, link_id: int) -> None:
        """A connection that waits has ended."""
        board = self._board
        link = board.links.get(link_id)
        if link is None or link not in (link.port.waiting_be, link.port.waiting_fe):
            return  # in a session since, whose end will be told
        port = link.port
        if link.way.raw and port.waiting_be is link and not (board.draining or port.retired):
            link.away = True
            board.cancel(link.due)
            link.due = board.at(now + KEPT_FOR, lambda _now: self._stays_away(link))
        else:
            board.leave(link)

    def _stays_away(self, link: Link) -> None:
        if link.port.waiting_be is link:
            self._board.leave(link)

    def draining(self, pairing_id: str) -> None:
        """The FE of a kept BE has ended its stream: the port is being drained from now on."""
        session = self._board.sessions.get(pairing_id)
        if session is not None:
            session.draining = True

    def over(self, now: float, pairing_id: str, outcome: Outcome) -> None:
        """A session is over, and its port leaves ``busy`` where it was the last there.

        A BE that is gone is forgotten with the last of its sessions, each of which the data
        plane ends.
        """
        board = self._board
        session = board.sessions.pop(pairing_id, None)
        if session is None:  # asked to end while it was ending
            return
        fe, be = session.fe, session.be
        port = be.port
        del port.sessions[pairing_id]
        del board.links[fe.id]
        self._tell_ends(session, outcome)
        be.gone = be.gone or not outcome.be_kept
        if port.sessions:
            board.ports.change(port, Change.LEFT)
            return
        if not be.gone and not board.draining and not port.retired:
            self._be_waits(be, Change.BE_KEPT)
        else:
            del board.links[be.id]
            board.change(be, Change.ENDED)
            if not be.gone:
                board.emit(fx.CloseLink(be.id))
        if port.lease is not None:
            self._leasing.expire(now, port.lease)
        if port.retired:
            board.ports.remove(port)
        self._match(now, port)

    def _tell_ends(self, session: Session, outcome: Outcome) -> None:
        board, port, stalls, zmtp = self._board, session.be.port, outcome.stalls, outcome.zmtp
        stood_still = str(stalls)
        board.sessions_ended[outcome.cause] += 1
        message = SessionEnd(
            pairing_id=session.pairing_id,
            session_id=session.session_id,
            protocol=port.protocol,
            port=port.number,
            cause=outcome.cause,
            error=outcome.text,
            fe_to_be_bytes=outcome.fe_to_be_bytes,
            be_to_fe_bytes=outcome.be_to_fe_bytes,
            seconds=round(outcome.seconds, 6),
        )
        for link in (session.fe, session.be):
            owner = board.roster.owner(link)
            if owner is not None and owner.v11:
                board.send(owner, message, session.trace_id)
        board.note(
            "info", "session_end",
            f"session {session.pairing_id} on {port.protocol} port {port.number} ended after "
            f"{outcome.seconds:.3f} s: {outcome.cause}, {outcome.text}; "
            f"{outcome.fe_to_be_bytes} bytes FE to BE, {outcome.be_to_fe_bytes} BE to FE"
            + (f"; {stood_still}" if stood_still else "")
            + (f"; {zmtp}" if zmtp is not None else ""),
            port=port.number, protocol=str(port.protocol), cause=str(outcome.cause),
            pairing_id=session.pairing_id, session_id=session.session_id,
            trace_id=session.trace_id, fe=session.fe.client_id, be=session.be.client_id,
            fe_to_be_bytes=outcome.fe_to_be_bytes, be_to_fe_bytes=outcome.be_to_fe_bytes,
            seconds=outcome.seconds, messages_dropped=outcome.messages_dropped,
            fe_stall_seconds=stalls.fe, be_stall_seconds=stalls.be,
            fe_throttled_seconds=stalls.fe_throttled, be_throttled_seconds=stalls.be_throttled,
            **({} if zmtp is None else zmtp.fields()),
        )  # fmt: skip
