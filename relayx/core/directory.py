"""Who is registered under which id and at which address, and whose a data connection is.

Contract section 6: admission by address, and to whom a connection belongs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from relayx.core.messages import Role
from relayx.core.ports import Link

TAKEOVERS_TOLD = 3
"""More takeovers of one id within a minute than this are a warning."""


class Client:
    """One registered client. `conn` is its control connection, the last one where it is lost.

    :ivar asked_id: the id that it asked for, or had before; "" where the gateway made it up.
    :ivar since: when it registered, in seconds since the epoch.
    :ivar link_telemetry: whether it is told how the SRT links of its sessions' FEs are.
    """

    __slots__ = (
        "address", "asked_id", "client_id", "conn", "instance", "link_telemetry", "lost", "order",
        "public_key", "role", "since", "takeovers", "telemetry", "v11",
    )  # fmt: skip

    def __init__(
        self,
        conn: int,
        role: Role,
        client_id: str,
        address: str,
        *,
        v11: bool = False,
        instance: str = "",
        asked_id: str | None = None,
        since: float = 0.0,
    ) -> None:
        self.conn = conn
        self.role = role
        self.client_id = client_id
        self.asked_id = client_id if asked_id is None else asked_id
        self.address = address
        self.v11 = v11
        self.instance = instance
        self.lost = False
        self.order = 0
        self.since = since
        self.public_key: str | None = None
        self.telemetry = False
        self.link_telemetry = False
        self.takeovers: deque[float] = deque(maxlen=TAKEOVERS_TOLD + 1)

    def copy(self) -> Client:
        """The same client as it is now, without what it told and what happened to it."""
        same = Client(
            self.conn, self.role, self.client_id, self.address, v11=self.v11,
            instance=self.instance, asked_id=self.asked_id, since=self.since,
        )  # fmt: skip
        same.order, same.lost = self.order, self.lost
        return same

    def __repr__(self) -> str:
        return f"<{self.role} {self.client_id!r} at {self.address}>"


Key = tuple[Role, str]


class Directory:
    """The registered clients and the lost BEs, to be looked up; see :class:`~.roster.Roster`."""

    def __init__(
        self,
        by_id: Mapping[Key, Sequence[Client]],
        by_address: Mapping[Key, Sequence[Client]],
        grace: Mapping[Key, float],
    ) -> None:
        """:param grace: until when an address counts that has no control connection any more."""
        self._named = by_id
        self._placed = by_address
        self._until = grace

    def is_present(self, role: Role, address: str, now: float) -> bool:
        """Whether an address counts as a registered client's (admission ``peer``)."""
        if any(not client.lost for client in self._placed.get((role, address), ())):
            return True
        until = self._until.get((role, address))
        return until is not None and now < until

    def named(self, role: Role, client_id: str, *, lost: bool = True) -> Client | None:
        """The newest client of that id: a live one, else (where `lost`) a lost one."""
        if not client_id:
            return None
        return _newest(self._named.get((role, client_id), ()), lost)

    def is_named_at(self, role: Role, client_id: str, address: str) -> bool:
        """Whether any registered client of that id is at that address."""
        named = self._named.get((role, client_id), ())
        return any(client.address == address and not client.lost for client in named)

    def owner(self, link: Link) -> Client | None:
        """Whose a data connection is, None where it is nobody's (contract section 6)."""
        if link.role is Role.BE:
            named = self.named(Role.BE, link.client_id)
            return named or _newest(self._placed.get((Role.BE, link.address), ()), True)
        lease = link.lease
        if lease is not None and lease.role is Role.FE and not lease.owner.lost:
            return lease.owner
        at_address = [
            client
            for client in self._named.get((Role.FE, link.client_id), ())
            if client.address == link.address
        ]
        return _newest(at_address, False)


def _newest(clients: Iterable[Client], lost: bool) -> Client | None:
    best: Client | None = None
    for client in clients:
        if client.lost and not lost:
            continue
        if best is None or (not client.lost, client.order) > (not best.lost, best.order):
            best = client
    return best
