"""What the admin HTTP needs of the gateway behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from relayx.admin.model import (
    Broker,
    Client,
    Happened,
    History,
    Lease,
    Page,
    Port,
    Reload,
    Session,
    Snapshot,
    Status,
)
from relayx.admin.queries import ClientQuery, LeaseQuery, Paging, PortQuery, SessionQuery
from relayx.core.messages import Role

Who = str
"""Where a request comes from, for the record of who did what."""


class NotDone(Exception):
    """What was asked for cannot be done.

    :ivar code: what a program goes by.
    :ivar text: what a person reads.
    :ivar problems: what is wrong, one by one.
    """

    def __init__(self, code: str, text: str, problems: tuple[str, ...] = ()) -> None:
        super().__init__(code, text)
        self.code, self.text, self.problems = code, text, problems


class Gateway(Protocol):
    """The gateway as an operator sees it."""

    def status(self) -> Status:
        """The gateway as a whole."""

    def not_ready(self) -> tuple[str, ...]:
        """Why clients should not come now; empty where they may."""

    def clients(self, query: ClientQuery) -> Page[Client]:
        """Who is there."""

    def ports(self, query: PortQuery) -> Page[Port]:
        """The data ports."""

    def brokers(self, query: Paging) -> Page[Broker]:
        """The brokers, in the order of the configuration."""

    def leases(self, query: LeaseQuery) -> Page[Lease]:
        """What is kept for whom."""

    def sessions(self, query: SessionQuery) -> Page[Session]:
        """What runs."""

    def snapshot(self) -> Snapshot:
        """Everything at once."""

    def history(self) -> History:
        """Throughput of the last minutes."""

    def end_session(self, pairing_id: str, who: Who) -> bool:
        """Close a session with the cause ``admin``; False where there is none of that id."""

    def drop_client(self, client_id: str, role: Role | None, who: Who) -> int:
        """Close the control connections of that id; how many there were."""

    def drain(self, who: Who) -> int:
        """Take nobody new from now on; how many sessions still run."""

    def plan_reload(self) -> Reload:
        """What a reload would change.

        :raises NotDone: where the files cannot be used.
        """

    def reload(self, who: Who) -> Reload:
        """Read the files again, and take what they say, all of it or none.

        :raises NotDone: where they cannot be used; everything stays as it was.
        """

    def recent_events(self) -> tuple[Happened, ...]:
        """What was logged of late, the oldest first."""

    def watch_events(self, told: Callable[[Happened], None]) -> None:
        """Have each event told from now on, to this one alone."""

    def unwatch_events(self, told: Callable[[Happened], None]) -> None:
        """Have no more told."""

    def denied(self, who: Who, what: str) -> None:
        """Somebody asked for what is not theirs to ask."""


class Metrics(msgspec.Struct, frozen=True):
    """What ``/metrics`` answers.

    :ivar render: gives every metric, as it is now.
    """

    content_type: str
    render: Callable[[], bytes]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the admin HTTP goes by.

    :ivar token: gives the token that is asked for, "" for none.
    :ivar hosts: gives the names by which it is reached, besides ``localhost`` and addresses.
    """

    token: Callable[[], str]
    hosts: Callable[[], tuple[str, ...]] = tuple
