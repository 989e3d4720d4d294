"""Who may use a data port: the refusals of HELLO, in their order (contract section 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from relayx.core.codec import fits, is_client_id, shown
from relayx.core.directory import Client, Directory
from relayx.core.errors import Code, PeerError
from relayx.core.hello import Hello
from relayx.core.leases import Lease
from relayx.core.messages import Protocol as PortProtocol
from relayx.core.messages import Role, Transport
from relayx.core.policy import Policies
from relayx.core.ports import Link, Port, Status
from relayx.core.refusals import (
    BadModeError,
    ForbiddenError,
    NotAdmittedError,
    RetiredError,
    UnknownLeaseError,
    WrongServiceError,
    WrongTransportError,
)

if TYPE_CHECKING:
    from relayx.core.board import Rules

OPEN = "open"
PEER = "peer"
TICKET = "ticket"


class Sight(Protocol):
    """What refusals are decided from: the board, or a glance at it."""

    @property
    def rules(self) -> Rules:
        """The settings."""

    @property
    def policies(self) -> Policies:
        """What clients may do by their ids."""

    @property
    def roster(self) -> Directory:
        """Who is registered."""

    @property
    def draining(self) -> bool:
        """Whether the gateway is stopping."""


class Admitted(NamedTuple):
    """A connection that may come.

    :ivar replaced: a BE's: the waiting connection whose place it takes, if any.
    :ivar must_wait: an FE's: whether no BE is there for it yet.
    """

    replaced: Link | None = None
    must_wait: bool = False


def check(sight: Sight, link: Link, port: Port, now: float) -> Admitted:
    """Decide on a connection that has said HELLO; an FE's `lease` is set to the one it uses.

    :raises PeerError: the refusal.
    """
    if sight.draining:
        raise PeerError(Code.DRAINING, "the gateway is stopping and takes no new session")
    if port.retired:
        raise RetiredError(port.number, _has_credential(link))
    if port.broker is not None:
        raise PeerError(
            Code.NOT_ADMITTED, f"port {port.number} is a broker's, for ZeroMQ without HELLO"
        )
    if not link.way.dialled:
        check_source(sight.rules.admission, link, sight.roster, now)
    if link.role is Role.BE:
        return Admitted(replaced=check_be(sight, link, port))
    return Admitted(must_wait=check_fe(sight, link, port, now))


def check_source(mode: str, link: Link, roster: Directory, now: float) -> None:
    """Admit a connection by where it comes from.

    :param mode: ``data.admission``.
    :raises NotAdmittedError: with the address that was seen.
    """
    if mode == PEER and not roster.is_present(link.role, link.address, now):
        raise NotAdmittedError(
            f"no {link.role} is registered from {link.address}; data.admission is peer, which "
            "admits the addresses of registered clients of the same role",
            link.address,
        )
    if mode != TICKET or link.role is not Role.BE:
        return
    if not roster.is_named_at(Role.BE, link.client_id, link.address):
        raise NotAdmittedError(
            f"no BE of client_id {shown(link.client_id)} is registered from {link.address}; "
            "data.admission is ticket, where a BE's HELLO carries its client_id",
            link.address,
        )


def check_be(sight: Sight, link: Link, port: Port) -> Link | None:
    """Decide on a BE; return the waiting connection whose place it takes, if any.

    :raises PeerError: the refusal.
    """
    roster = sight.roster
    _check_carried(link, port)
    check_protocol(link, sight.policies, roster)
    lease = port.lease
    if lease is not None and lease.role is Role.FE and link.hello.service != lease.service:
        raise WrongServiceError(
            f"port {port.number} is under a lease of service {shown(lease.service)}, "
            f"not {shown(link.hello.service)}"
        )
    if lease is not None and (lease.role is Role.BE or not sight.rules.srt_bridge):
        # A BE's lease told every FE by what to connect, whatever the bridge could do.
        _check_lease_transport(link, port, lease)
    if port.status is Status.BUSY:
        raise PeerError(Code.PORT_BUSY, f"a session runs on port {port.number}")
    if port.waiting_be is not None:
        if _comes_back(link, port.waiting_be) or _takes_place(link, port.waiting_be, roster):
            return port.waiting_be
        raise PeerError(Code.PORT_BUSY, f"another BE waits on port {port.number}")
    if lease is not None and lease.role is Role.BE and not _may_fill(link, lease.owner, roster):
        raise PeerError(
            Code.PORT_RESERVED,
            f"port {port.number} is kept for BE {shown(lease.owner.client_id)} by a lease",
        )
    return None


def check_fe(sight: Sight, link: Link, port: Port, now: float) -> bool:
    """Decide on an FE, and set its lease to the one that it uses; return whether it must wait.

    :raises PeerError: the refusal.
    """
    rules = sight.rules
    if rules.admission == TICKET and not link.hello.ticket and not link.way.dialled:
        raise NotAdmittedError(
            f"no ticket of a lease on port {port.number} in HELLO; data.admission is ticket"
        )
    _check_carried(link, port)
    be = port.be
    if be is not None and not may_pair(rules, link, be):
        raise _cannot_pair(port, link, be)
    if be is not None and be.way.publishes and link.way.publishes:
        raise BadModeError(
            f"the BE of port {port.number} publishes, and so does the FE, by m=publish; allowed: "
            "m=request, or m=bidirectional"
        )
    try:
        lease = _lease_named(link, port)
    except PeerError as error:
        if error.code is Code.TTL_EXPIRED:  # comes behind every NOT_ADMITTED
            check_protocol(link, sight.policies, sight.roster)
        raise
    by_name = lease is not None
    if lease is None and port.lease is not None:
        held = port.lease
        if held.role is Role.BE or held.owner.address == link.address:
            lease = held
    _check_service(link, port, by_name or (lease is not None and lease.role is Role.FE))
    link.lease = lease
    if lease is not None and not rules.srt_bridge:
        _check_lease_transport(link, port, lease)
    check_protocol(link, sight.policies, sight.roster)
    if port.waiting_fe is not None:
        raise PeerError(Code.PORT_BUSY, f"another FE waits on port {port.number}")
    watches = bool(port.sessions) and _may_watch(rules, link, port)
    if port.sessions and not watches:
        drained = all(session.draining for session in port.sessions.values())
        if lease is None or not drained:
            raise PeerError(Code.PORT_BUSY, f"a session runs on port {port.number}")
    if port.lease is not None and lease is None:
        raise PeerError(Code.PORT_RESERVED, f"port {port.number} is kept for another FE by a lease")
    if watches and lease is not None and lease.expires <= now:
        # It lies over the port until the sessions are over, but nobody new may come under it.
        if by_name or lease.role is Role.FE:
            raise PeerError(
                Code.TTL_EXPIRED, f"the lease {lease.session_id} on {port.number} has ended"
            )
        link.lease = None
    if watches or port.status is Status.READY:
        return False
    if lease is None:
        raise PeerError(Code.PORT_EMPTY, f"no BE waits on port {port.number}")
    return True


def may_pair(rules: Rules, fe: Link, be: Link) -> bool:
    """Whether what carries the two may be joined: SRT's messages only with messages."""
    if fe.transport is be.transport:
        return fe.way.buffered == be.way.buffered
    return rules.srt_bridge


def _cannot_pair(port: Port, fe: Link, be: Link) -> WrongTransportError:
    if fe.transport is be.transport:
        modes = {True: "buffer", False: "live"}
        return WrongTransportError(
            f"the BE of port {port.number} is connected in SRT's {modes[be.way.buffered]} mode, "
            f"the FE in {modes[fe.way.buffered]} mode"
        )
    return WrongTransportError(
        f"the BE of port {port.number} is connected by {be.transport.upper()}, the FE by "
        f"{fe.transport.upper()}; srt.bridge is off"
    )


def is_shared(rules: Rules, fe: Link, be: Link) -> bool:
    """Whether others may watch what a BE publishes to an FE; a bridge feeds that one alone."""
    both_srt = fe.transport is be.transport is Transport.SRT
    return both_srt and be.way.publishes and rules.srt_fan_out > 1


def _may_watch(rules: Rules, link: Link, port: Port) -> bool:
    """Whether one more FE may join the sessions that run on a port."""
    sessions = port.sessions.values()
    return (
        link.transport is Transport.SRT
        and len(sessions) < rules.srt_fan_out
        and all(
            session.shared and not (session.draining or session.ending or session.be.gone)
            for session in sessions
        )
    )


def _check_carried(link: Link, port: Port) -> None:
    if link.transport is Transport.SRT and port.protocol is not PortProtocol.SRT:
        raise WrongTransportError(
            f"port {port.number} is a {port.protocol} port, which is connected to by TCP"
        )


def _check_lease_transport(link: Link, port: Port, lease: Lease) -> None:
    wanted = lease.transport_on(port.protocol)
    if link.transport is not wanted:
        raise WrongTransportError(
            f"the lease on port {port.number} is for a connection by {wanted.upper()}, not by "
            f"{link.transport.upper()}"
        )


def check_protocol(link: Link, policies: Policies, roster: Directory) -> None:
    """Refuse a connection whose owner may not use the protocol of its port.

    :raises ForbiddenError: ``NOT_ADMITTED``, naming what is allowed.
    """
    owner = roster.owner(link) if policies.by_protocol else None
    if owner is not None:
        policy = policies.of(owner.asked_id)
        try:
            policy.check_protocol(link.port.protocol, Code.NOT_ADMITTED)
        except PeerError as error:
            raise ForbiddenError(error) from None


def serves(link: Link, port: Port) -> bool:
    """Whether a waiting FE may be paired with the BE that has just come to its port."""
    lease = link.lease
    if lease is not None and (lease.role is Role.FE or _has_credential(link)):
        return True
    return link.hello.service == port.service


def _has_credential(link: Link) -> bool:
    return bool(link.hello.ticket or link.hello.session_id)


def _lease_named(link: Link, port: Port) -> Lease | None:
    """The live lease of `port` that the ticket or session id in HELLO names."""
    hello = link.hello
    if not _has_credential(link):
        return None
    lease = port.lease
    by_ticket = not hello.ticket or (lease is not None and lease.matches_ticket(hello.ticket))
    by_id = not hello.session_id or (lease is not None and lease.session_id == hello.session_id)
    if lease is not None and by_ticket and by_id:
        return lease
    for session_id, ticket in port.ended:
        if hello.ticket in ("", ticket) and hello.session_id in ("", session_id):
            _check_service(link, port, False)
            raise PeerError(Code.TTL_EXPIRED, f"the lease {session_id} on {port.number} has ended")
    which = "ticket" if not by_ticket else "session_id"
    raise UnknownLeaseError(f"port {port.number} knows no lease of that {which}")


def _check_service(link: Link, port: Port, has_lease: bool) -> None:
    if has_lease or port.service is None or link.hello.service == port.service:
        return
    raise WrongServiceError(
        f"port {port.number} serves {shown(port.service)}, not {shown(link.hello.service)}"
    )


def _takes_place(link: Link, waiting: Link, roster: Directory) -> bool:
    """Whether a registered 1.1 BE comes again to a port where its own connection waits."""
    client = roster.named(Role.BE, link.client_id, lost=False)
    return (
        client is not None
        and client.v11
        and client.address == link.address
        and roster.owner(waiting) is client
    )


def _comes_back(link: Link, waiting: Link) -> bool:
    """Whether it may be the library of a BE that has given a handshake up, connecting again."""
    return waiting.is_place_of(link.address, link.way.kind)


def with_credentials(
    sight: Sight, hello: Hello, port: Port, address: str, credentials: tuple[str, str] | None
) -> Hello:
    """What a connection without HELLO says of itself in ``ticket`` admission.

    A BE is the newest that is registered at its address, since a server of PLAIN tells nothing. An
    FE has its client_id for a user name, and for a password the ticket of a lease on the port, or
    the session_id of one of its own.

    :param credentials: user name and password, None where it has shown none.
    """
    if hello.role is Role.BE:
        be = sight.roster.owner(Link(0, port, address, hello, False, 0.0))
        return hello if be is None else msgspec.structs.replace(hello, client_id=be.client_id)
    if credentials is None:
        return hello
    username, password = credentials
    lease = port.lease
    ticket = password
    if lease is not None and password == lease.session_id and _owns(lease, username):
        ticket = lease.ticket
    if not (is_client_id(username) and fits(ticket)):
        return hello
    return msgspec.structs.replace(hello, client_id=username, ticket=ticket)


def _owns(lease: Lease, client_id: str) -> bool:
    return lease.role is Role.BE or lease.owner.client_id == client_id


def _may_fill(link: Link, owner: Client, roster: Directory) -> bool:
    filler = roster.owner(link)
    return filler is not None and (filler is owner or filler.client_id == owner.client_id)
