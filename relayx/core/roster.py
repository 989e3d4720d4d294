"""The registered clients: limits, takeover, addresses, and which BE owns which connection.

Contract sections 3 (takeover), 6 (admission by address, whose a connection is) and 8 (a BE
that is lost).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from relayx.core.messages import Role
from relayx.core.ports import Link

LEAST_GRACE = 2.0
"""Seconds for which an address counts after its last control connection ended, at least."""

TAKEOVERS_TOLD = 3
"""More takeovers of one id within a minute than this are a warning."""


class Client:
    """One registered client. `conn` is its control connection, the last one where it is lost.

    :ivar asked_id: the id that it asked for, or had before; "" where the gateway made it up.
    :ivar since: when it registered, in seconds since the epoch.
    """

    __slots__ = (
        "address", "asked_id", "client_id", "conn", "instance", "lost", "order", "public_key",
        "role", "since", "takeovers", "telemetry", "v11",
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
        self.takeovers: deque[float] = deque(maxlen=TAKEOVERS_TOLD + 1)

    def __repr__(self) -> str:
        return f"<{self.role} {self.client_id!r} at {self.address}>"


class Roster:
    """Who is registered, and which BEs are lost but not yet reaped.

    :param reaper_timeout: seconds that a lost BE's connections live on.
    """

    def __init__(self, reaper_timeout: float) -> None:
        self.reaper_timeout = reaper_timeout
        self._live: dict[int, Client] = {}
        self._counts = dict.fromkeys(Role, 0)
        self._by_id: dict[tuple[Role, str], list[Client]] = {}
        self._by_address: dict[tuple[Role, str], list[Client]] = {}
        self._grace: dict[tuple[Role, str], float] = {}
        self._order = 0

    def __iter__(self) -> Iterator[Client]:
        return iter(list(self._live.values()))

    def lost(self) -> list[Client]:
        """The BEs that are lost and not yet reaped."""
        return [c for clients in self._by_id.values() for c in clients if c.lost]

    @property
    def grace(self) -> float:
        """Seconds for which an address counts after its last control connection ended."""
        return max(self.reaper_timeout, LEAST_GRACE)

    def get(self, conn: int) -> Client | None:
        """The client that a control connection belongs to, None where it has not registered."""
        return self._live.get(conn)

    def count(self, role: Role) -> int:
        """How many clients of a role are registered; lost ones do not count."""
        return self._counts[role]

    def predecessors(self, role: Role, client_id: str, instance: str) -> list[Client]:
        """Whose place a registration with `instance` takes, live or lost (contract section 3)."""
        if not instance:
            return []
        if client_id:
            return list(self._by_id.get((role, client_id), ()))
        return [
            client
            for clients in self._by_id.values()
            for client in clients
            if client.role is role and client.instance == instance
        ]

    def add(self, client: Client) -> None:
        """Register a client; it is the newest now."""
        self._order += 1
        client.order = self._order
        self._live[client.conn] = client
        self._counts[client.role] += 1
        self._by_id.setdefault((client.role, client.client_id), []).append(client)
        self._by_address.setdefault((client.role, client.address), []).append(client)

    def lose(self, client: Client, now: float) -> None:
        """A client's control connection ended: an FE is gone, a BE stays until it is reaped."""
        del self._live[client.conn]
        self._counts[client.role] -= 1
        client.lost = True
        key = (client.role, client.address)
        if all(other.lost for other in self._by_address[key]):
            self._grace[key] = now + self.grace
        if client.role is Role.FE:
            self.forget(client)

    def forget(self, client: Client) -> None:
        """Nothing belongs to this lost client any more."""
        for index, key in (
            (self._by_id, (client.role, client.client_id)),
            (self._by_address, (client.role, client.address)),
        ):
            index[key].remove(client)
            if not index[key]:
                del index[key]

    def is_present(self, role: Role, address: str, now: float) -> bool:
        """Whether an address counts as a registered client's (admission ``peer``)."""
        if any(not client.lost for client in self._by_address.get((role, address), ())):
            return True
        until = self._grace.get((role, address))
        return until is not None and now < until

    def is_lost(self, client: Client) -> bool:
        """Whether a client is lost and not yet forgotten."""
        return client.lost and client in self._by_id.get((client.role, client.client_id), ())

    def drop_stale_addresses(self, now: float) -> None:
        """Forget the addresses that no longer count."""
        for key in [key for key, until in self._grace.items() if until <= now]:
            del self._grace[key]

    def named(self, role: Role, client_id: str, *, lost: bool = True) -> Client | None:
        """The newest client of that id: a live one, else (where `lost`) a lost one."""
        if not client_id:
            return None
        return _newest(self._by_id.get((role, client_id), ()), lost)

    def is_named_at(self, role: Role, client_id: str, address: str) -> bool:
        """Whether any registered client of that id is at that address."""
        named = self._by_id.get((role, client_id), ())
        return any(client.address == address and not client.lost for client in named)

    def owner(self, link: Link) -> Client | None:
        """Whose a data connection is, None where it is nobody's (contract section 6)."""
        if link.role is Role.BE:
            named = self.named(Role.BE, link.client_id)
            return named or _newest(self._by_address.get((Role.BE, link.address), ()), True)
        lease = link.lease
        if lease is not None and lease.role is Role.FE and not lease.owner.lost:
            return lease.owner
        at_address = [
            client
            for client in self._by_id.get((Role.FE, link.client_id), ())
            if client.address == link.address
        ]
        return _newest(at_address, False)

    def public_keys(self) -> Iterable[Client]:
        """Every BE, lost ones included, that has told its public key, in order of registering."""
        found = [
            client
            for (role, _), clients in self._by_id.items()
            if role is Role.BE
            for client in clients
            if client.public_key is not None
        ]
        return sorted(found, key=lambda client: client.order)


def _newest(clients: Iterable[Client], lost: bool) -> Client | None:
    best: Client | None = None
    for client in clients:
        if client.lost and not lost:
            continue
        if best is None or (not client.lost, client.order) > (not best.lost, best.order):
            best = client
    return best
