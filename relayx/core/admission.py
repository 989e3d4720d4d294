"""Who may use a data port: the refusals of HELLO, in their order (contract section 6)."""

from __future__ import annotations

from relayx.core.codec import shown
from relayx.core.errors import Code, PeerError
from relayx.core.leases import Lease
from relayx.core.messages import Role
from relayx.core.policy import Policies
from relayx.core.ports import Link, Port, Status
from relayx.core.roster import Client, Roster

OPEN = "open"
PEER = "peer"
TICKET = "ticket"


class NotAdmittedError(PeerError):
    """The source of a connection is not one that may come (`seen` is its address)."""

    def __init__(self, text: str, seen: str = "") -> None:
        super().__init__(Code.NOT_ADMITTED, text)
        self.seen = seen


def check_source(mode: str, link: Link, roster: Roster, now: float) -> None:
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


def check_be(link: Link, port: Port, roster: Roster, policies: Policies) -> Link | None:
    """Decide on a BE; return the waiting connection whose place it takes, if any.

    :raises PeerError: the refusal.
    """
    check_protocol(link, policies, roster)
    lease = port.lease
    if lease is not None and lease.role is Role.FE and link.hello.service != lease.service:
        raise NotAdmittedError(
            f"port {port.number} is under a lease of service {shown(lease.service)}, "
            f"not {shown(link.hello.service)}"
        )
    if port.status is Status.BUSY:
        raise PeerError(Code.PORT_BUSY, f"a session runs on port {port.number}")
    if port.waiting_be is not None:
        if _takes_place(link, port.waiting_be, roster):
            return port.waiting_be
        raise PeerError(Code.PORT_BUSY, f"another BE waits on port {port.number}")
    if lease is not None and lease.role is Role.BE and not _may_fill(link, lease.owner, roster):
        raise PeerError(
            Code.PORT_RESERVED,
            f"port {port.number} is kept for BE {shown(lease.owner.client_id)} by a lease",
        )
    return None


def check_fe(
    mode: str, link: Link, port: Port, roster: Roster, policies: Policies
) -> tuple[Lease | None, bool]:
    """Decide on an FE; return the lease that it uses, and whether it must wait for a BE.

    :raises PeerError: the refusal.
    """
    if mode == TICKET and not link.hello.ticket:
        raise NotAdmittedError(
            f"no ticket of a lease on port {port.number} in HELLO; data.admission is ticket"
        )
    try:
        lease = _lease_named(link, port)
    except PeerError as error:
        if error.code is Code.TTL_EXPIRED:  # comes behind every NOT_ADMITTED
            check_protocol(link, policies, roster)
        raise
    by_name = lease is not None
    if lease is None and port.lease is not None:
        held = port.lease
        if held.role is Role.BE or held.owner.address == link.address:
            lease = held
    _check_service(link, port, by_name or (lease is not None and lease.role is Role.FE))
    link.lease = lease
    check_protocol(link, policies, roster)
    session = port.session
    if port.waiting_fe is not None:
        raise PeerError(Code.PORT_BUSY, f"another FE waits on port {port.number}")
    if session is not None and not (session.draining and lease is not None):
        raise PeerError(Code.PORT_BUSY, f"a session runs on port {port.number}")
    if port.lease is not None and lease is None:
        raise PeerError(Code.PORT_RESERVED, f"port {port.number} is kept for another FE by a lease")
    if port.status is Status.READY:
        return lease, False
    if lease is None:
        raise PeerError(Code.PORT_EMPTY, f"no BE waits on port {port.number}")
    return lease, True


def check_protocol(link: Link, policies: Policies, roster: Roster) -> None:
    """Refuse a connection whose owner may not use the protocol of its port.

    :raises PeerError: ``NOT_ADMITTED``, naming what is allowed.
    """
    owner = roster.owner(link) if policies.by_protocol else None
    if owner is not None:
        policy = policies.of(owner.asked_id)
        policy.check_protocol(link.port.protocol, Code.NOT_ADMITTED)


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
    raise NotAdmittedError(f"port {port.number} knows no lease of that {which}")


def _check_service(link: Link, port: Port, has_lease: bool) -> None:
    if has_lease or port.service is None or link.hello.service == port.service:
        return
    raise NotAdmittedError(
        f"port {port.number} serves {shown(port.service)}, not {shown(link.hello.service)}"
    )


def _takes_place(link: Link, waiting: Link, roster: Roster) -> bool:
    """Whether a registered 1.1 BE comes again to a port where its own connection waits."""
    client = roster.named(Role.BE, link.client_id, lost=False)
    return (
        client is not None
        and client.v11
        and client.address == link.address
        and roster.owner(waiting) is client
    )


def _may_fill(link: Link, owner: Client, roster: Roster) -> bool:
    filler = roster.owner(link)
    return filler is not None and (filler is owner or filler.client_id == owner.client_id)
