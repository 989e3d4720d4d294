"""What libsrt's callback thread decides from: a copy of the board that nobody changes.

SRT refuses a caller before its handshake ends, in a thread of libsrt's, which cannot ask the
board and must not wait for it. :func:`decide` looks at the newest :class:`Snapshot` instead,
with the same checks that the board makes when the connection is there (see
:mod:`relayx.core.admission`); what changed in between, the board still refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from relayx.core.admission import check
from relayx.core.bystate import role_by_state
from relayx.core.directory import Client, Directory
from relayx.core.errors import PeerError
from relayx.core.hello import Hello
from relayx.core.leases import Lease
from relayx.core.messages import Protocol, Role, Transport
from relayx.core.policy import Policies
from relayx.core.ports import Link, Port, Session, Status, Way
from relayx.core.streamid import Mode, StreamId, Type, reject_of

if TYPE_CHECKING:
    from relayx.core.board import Board, Rules

_NOWHERE = Port(0, Protocol.SRT, retired=True)
"""The port of copied connections: no check asks for it, and the true one would be a cycle."""

DIALLED = Way(transport=Transport.SRT, dialled=True)
"""How those come that the gateway calls itself."""


class Snapshot(msgspec.Struct, frozen=True):
    """The board at one moment, as far as an SRT connection is decided on (an admission.Sight).

    Everything in it is a copy, or never changes.

    :ivar taken: when, in seconds since the epoch.
    :ivar ports: the srt ports by number, retired ones included.
    """

    taken: float
    rules: Rules
    policies: Policies
    roster: Directory
    draining: bool
    ports: Mapping[int, Port]


class Decision(msgspec.Struct, frozen=True):
    """What becomes of a caller.

    :ivar hello: what it says by its stream id. To be handed to ``Switchboard.hello`` with `way`
        once the connection is there.
    :ivar refusal: why it is turned away, None where it is not.
    :ivar reject: the code that SRT says it by (a ``streamid.Reject``), 0 where it is not.
    """

    hello: Hello
    way: Way
    refusal: PeerError | None = None
    reject: int = 0


def glance(board: Board, now: float) -> Snapshot:
    """Copy what decisions need; to be called in the thread of the board, after each change.

    :param now: seconds since the epoch.
    """
    roster, clients = board.roster.copied()
    return Snapshot(
        now,
        board.rules,
        board.policies,
        roster,
        board.draining,
        {
            port.number: _port(port, clients)
            for port in board.ports
            if port.protocol is Protocol.SRT
        },
    )


def _port(port: Port, clients: Mapping[Client, Client]) -> Port:
    copy = Port(port.number, port.protocol, retired=port.retired)
    copy.status = port.status
    if port.ended:
        copy.ended = port.ended.copy()
    if port.lease is not None:
        copy.lease = _lease(port.lease, clients)
    if port.waiting_be is not None:
        copy.waiting_be = _link(port.waiting_be)
    if port.waiting_fe is not None:
        copy.waiting_fe = _link(port.waiting_fe)
    if port.sessions:
        be = _link(next(iter(port.sessions.values())).be)
        copy.sessions = {name: _session(session, be) for name, session in port.sessions.items()}
    return copy


def _lease(lease: Lease, clients: Mapping[Client, Client]) -> Lease:
    owner = clients.get(lease.owner) or lease.owner.copy()
    return Lease(
        lease.session_id, lease.ticket, owner, lease.expires, (), lease.service,
        lease.trace_id, lease.granted, lease.transport,
    )  # fmt: skip


def _link(link: Link) -> Link:
    copy = Link(link.id, _NOWHERE, link.address, link.hello, link.keep, link.since, link.way)
    copy.gone = link.gone
    return copy


def _session(session: Session, be: Link) -> Session:
    """A copy with a BE and no FE of its own, which nobody who comes is decided by."""
    copy = Session(
        session.pairing_id, be, be, session.session_id, session.trace_id, session.shared
    )  # fmt: skip
    copy.draining, copy.ending = session.draining, session.ending
    return copy


def decide(snapshot: Snapshot, now: float, port: int, address: str, asked: StreamId) -> Decision:
    """Whether an SRT caller may come to a port, and as what; never raises for what it sent.

    :param now: seconds since the epoch.
    :param address: the caller's, as data connections have it (``net.address``).
    :param asked: what its stream id says.
    """
    found = snapshot.ports.get(port) or _no_srt_port(snapshot, port)
    hello = _hello(_role(snapshot, now, found, address, asked), asked)
    way = Way(
        transport=Transport.SRT,
        publishes=asked.mode is Mode.PUBLISH,
        buffered=asked.type is Type.FILE,
    )
    link = Link(0, found, address, hello, False, now, way)
    try:
        check(snapshot, link, found, now)
    except PeerError as error:
        return Decision(hello, way, error, reject_of(error))
    return Decision(hello, way)


def wants_dialled(snapshot: Snapshot, now: float, port: int, address: str, role: Role) -> bool:
    """Whether a port has a use for a peer that the gateway calls itself.

    :param now: seconds since the epoch.
    :param address: the peer's; "" where it is not known yet, and the rules are not asked then.
    :raises PeerError: it has, but the rules would refuse the peer's connection.
    """
    found = snapshot.ports.get(port)
    if found is None or found.retired or snapshot.draining:
        return False
    if found.status is not (Status.EMPTY if role is Role.BE else Status.READY):
        return False
    if address:
        check(snapshot, Link(0, found, address, Hello(role), False, now, DIALLED), found, now)
    return True


def _no_srt_port(snapshot: Snapshot, number: int) -> Port:
    """A zmq port, or one that there is no more."""
    ranges = snapshot.rules.ports
    is_zmq = 0 < ranges.zmq_start_port <= number <= ranges.zmq_end_port
    return Port(number, Protocol.ZMQ, retired=not is_zmq)


def _role(snapshot: Snapshot, now: float, port: Port, address: str, asked: StreamId) -> Role:
    """Who a caller is: as it says, by what it wants to do, or by what its port waits for."""
    if asked.role is not None:
        return asked.role
    if asked.mode is Mode.PUBLISH:
        return Role.BE
    if asked.mode is Mode.REQUEST:
        return Role.FE
    if asked.session_id or asked.ticket:  # which only an FE has a use for
        return Role.FE
    return role_by_state(snapshot, port, address, now)


def _hello(role: Role, asked: StreamId) -> Hello:
    if role is Role.BE:
        return Hello(
            role, asked.client_id, asked.service, on_fe_close=asked.on_fe_close
        )  # fmt: skip
    return Hello(role, asked.client_id, asked.service, asked.session_id, asked.ticket)
