"""The registered clients as they come and go: limits, takeover, and BEs that are lost.

Contract sections 3 (takeover) and 8 (a BE that is lost).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from relayx.core.directory import Client, Directory, Key
from relayx.core.messages import Role

LEAST_GRACE = 2.0
"""Seconds for which an address counts after its last control connection ended, at least."""


class Roster(Directory):
    """Who is registered, and which BEs are lost but not yet reaped.

    :param reaper_timeout: seconds that a lost BE's connections live on.
    """

    def __init__(self, reaper_timeout: float) -> None:
        self.reaper_timeout = reaper_timeout
        self._live: dict[int, Client] = {}
        self._counts = dict.fromkeys(Role, 0)
        self._by_id: dict[Key, list[Client]] = {}
        self._by_address: dict[Key, list[Client]] = {}
        self._grace: dict[Key, float] = {}
        self._order = 0
        self._copy: tuple[Directory, Mapping[Client, Client]] | None = None
        super().__init__(self._by_id, self._by_address, self._grace)

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
        self._copy = None
        self._order += 1
        client.order = self._order
        self._live[client.conn] = client
        self._counts[client.role] += 1
        self._by_id.setdefault((client.role, client.client_id), []).append(client)
        self._by_address.setdefault((client.role, client.address), []).append(client)

    def lose(self, client: Client, now: float) -> None:
        """A client's control connection ended: an FE is gone, a BE stays until it is reaped."""
        self._copy = None
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
        self._copy = None
        for index, key in (
            (self._by_id, (client.role, client.client_id)),
            (self._by_address, (client.role, client.address)),
        ):
            index[key].remove(client)
            if not index[key]:
                del index[key]

    def copied(self) -> tuple[Directory, Mapping[Client, Client]]:
        """A copy that nobody changes, and of each client the one in it; made once a change."""
        if self._copy is None:
            copies = {c: c.copy() for clients in self._by_id.values() for c in clients}
            by_id, by_address = (
                {key: tuple(copies[client] for client in clients) for key, clients in index.items()}
                for index in (self._by_id, self._by_address)
            )
            self._copy = Directory(by_id, by_address, dict(self._grace)), copies
        return self._copy

    def is_lost(self, client: Client) -> bool:
        """Whether a client is lost and not yet forgotten."""
        return client.lost and client in self._by_id.get((client.role, client.client_id), ())

    def drop_stale_addresses(self, now: float) -> None:
        """Forget the addresses that no longer count."""
        for key in [key for key, until in self._grace.items() if until <= now]:
            del self._grace[key]

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
