"""The lease table: who keeps which ports, and until when (contract section 5)."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from relayx.core.directory import Client
from relayx.core.errors import StateError
from relayx.core.messages import Protocol, Role, Side, Transport
from relayx.core.ports import Port

if TYPE_CHECKING:
    from relayx.core.board import Due


class Lease:
    """One or two ports kept for their owner.

    :ivar granted: when it was granted, in seconds since the epoch; `expires` when it expires.
    :ivar used: whether there has been a session under it.
    :ivar ports: the ports that it still holds.
    :ivar due: what will end it when it expires.
    :ivar transport: by which its owner connects to its srt port.
    :ivar side: of the broker whose port it is for, which others have leases on too; None where
        it keeps ports for its owner alone.
    """

    __slots__ = (
        "due", "expires", "granted", "owner", "ports", "service", "session_id", "side", "ticket",
        "trace_id", "transport", "used",
    )  # fmt: skip

    def __init__(
        self,
        session_id: str,
        ticket: str,
        owner: Client,
        expires: float,
        ports: Iterable[Port],
        service: str = "",
        trace_id: str = "",
        granted: float = 0.0,
        transport: Transport = Transport.TCP,
        side: Side | None = None,
    ) -> None:
        self.side = side
        self.granted = granted
        self.used = False
        self.session_id = session_id
        self.ticket = ticket
        self.owner = owner
        self.expires = expires
        self.ports = list(ports)
        self.service = service
        self.trace_id = trace_id
        self.transport = transport
        self.due: Due | None = None

    @property
    def role(self) -> Role:
        """The role of its owner."""
        return self.owner.role

    def transport_on(self, protocol: Protocol) -> Transport:
        """By which its owner connects to its port of a protocol."""
        return self.transport if protocol is Protocol.SRT else Transport.TCP

    def matches_ticket(self, ticket: str) -> bool:
        """Whether `ticket` is this lease's, compared in constant time."""
        return hmac.compare_digest(self.ticket.encode(), ticket.encode("utf-8", "replace"))


class LeaseTable:
    """All live leases, by session id."""

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}

    def __iter__(self) -> Iterator[Lease]:
        return iter(list(self._leases.values()))

    def __len__(self) -> int:
        return len(self._leases)

    def get(self, session_id: str) -> Lease | None:
        """The live lease of that name, if any."""
        return self._leases.get(session_id)

    def of(self, owner: Client) -> list[Lease]:
        """The live leases of one client."""
        return [lease for lease in self._leases.values() if lease.owner is owner]

    def held_by(self, client: Client) -> int:
        """How many leases all the clients of this role and id have, who count as one."""
        return sum(
            lease.owner.client_id == client.client_id and lease.role is client.role
            for lease in self._leases.values()
        )

    def add(self, lease: Lease) -> None:
        """Put a lease over its ports.

        :raises StateError: where a port is under another.
        """
        for port in lease.ports:
            if port.lease is not None:
                raise StateError(f"port {port.number} is under a lease already")
        for port in lease.ports:
            if lease.side is None:
                port.lease = lease
        self._leases[lease.session_id] = lease

    def end(self, lease: Lease, ports: Iterable[Port]) -> None:
        """End a lease on some of its ports; they remember it among their last ones."""
        for port in ports:
            lease.ports.remove(port)
            if lease.side is not None:
                continue
            port.lease = None
            port.ended.append((lease.session_id, lease.ticket))
        if not lease.ports:
            del self._leases[lease.session_id]
