"""What may stand behind the question mark, a frozen struct a kind."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from relayx.admin.model import MOST_ITEMS, ClientState, PortStatus, SessionState
from relayx.core.messages import Protocol, Role


class Paging(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of a list is asked for."""

    limit: Annotated[int, Meta(ge=1, le=MOST_ITEMS, description="most items of the page")] = 100
    offset: Annotated[int, Meta(ge=0, description="items to leave out before it")] = 0


class ClientQuery(Paging, frozen=True, kw_only=True):
    """Which clients are asked for."""

    role: Role | None = None
    state: ClientState | None = None
    client_id: str | None = None
    address: str | None = None


class PortQuery(Paging, frozen=True, kw_only=True):
    """Which ports are asked for."""

    protocol: Protocol | None = None
    state: PortStatus | None = None
    service: str | None = None
    client_id: str | None = None


class LeaseQuery(Paging, frozen=True, kw_only=True):
    """Which leases are asked for; `protocol`: those that keep a port of it."""

    role: Role | None = None
    client_id: str | None = None
    service: str | None = None
    protocol: Protocol | None = None


class SessionQuery(Paging, frozen=True, kw_only=True):
    """Which sessions are asked for; `client_id` is that of either end."""

    protocol: Protocol | None = None
    state: SessionState | None = None
    service: str | None = None
    client_id: str | None = None
    session_id: str | None = None
    port: int | None = None


class NoQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing may be asked for."""


class DropQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which client is meant, where one of each role has the id."""

    role: Role | None = None


class ReloadQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to reload."""

    dry_run: Annotated[bool, Meta(description="say what would change, and change nothing")] = False


class ProfileFormat(StrEnum):
    """speedscope: sampled, JSON for speedscope.app; pstats: counted, for Python's pstats."""

    SPEEDSCOPE = "speedscope"
    PSTATS = "pstats"


class ProfileQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What profile to take."""

    seconds: Annotated[float, Meta(ge=1, le=60, description="how long to look")] = 10.0
    format: ProfileFormat = ProfileFormat.SPEEDSCOPE


class HeapFormat(StrEnum):
    """speedscope: bytes by where they were allocated; text: the largest places, a line each."""

    SPEEDSCOPE = "speedscope"
    TEXT = "text"


class HeapQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to write the heap."""

    format: HeapFormat = HeapFormat.SPEEDSCOPE
