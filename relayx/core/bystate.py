"""The role of a connection that does not say it: by what its port waits for.

SRT callers without a stream id and raw ZMTP peers come so. An empty port waits for a BE, any
other for an FE; who is refused then is refused in that role.
"""

from __future__ import annotations

from relayx.core.admission import PEER, TICKET, Sight
from relayx.core.messages import Role
from relayx.core.ports import Port, Status


def role_by_state(
    sight: Sight, port: Port, address: str, now: float, kind: str = "", *, shown: bool = False
) -> Role:
    """The role in which a connection from `address` comes to `port`.

    On an empty port it is a BE where one is registered at the address; else an FE where a lease
    lets one from there wait, or where data.admission is peer and an FE is registered there (it
    is told ``PORT_EMPTY``); else a BE.

    One that comes back to a place that is kept for it is a BE; a peer on the same host, which may
    come meanwhile, is told from it by its kind of socket where that is known.

    Who has shown credentials is an FE wherever data.admission is ticket, which asks FEs for them.

    :param now: seconds since the epoch.
    :param kind: of socket, of a raw ZMTP peer; "" where it is not known.
    :param shown: whether it has shown credentials, by ZMTP's PLAIN.
    """
    if shown and sight.rules.admission == TICKET:
        return Role.FE
    waiting = port.waiting_be
    if waiting is not None and waiting.is_place_of(address, kind):
        return Role.BE  # it was here a moment ago
    if port.status is not Status.EMPTY:
        return Role.FE
    if sight.roster.is_present(Role.BE, address, now):
        return Role.BE
    lease = port.lease
    if lease is not None and (lease.role is Role.BE or lease.owner.address == address):
        return Role.FE
    by_address = sight.rules.admission == PEER
    return Role.FE if by_address and sight.roster.is_present(Role.FE, address, now) else Role.BE
