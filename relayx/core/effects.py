"""What the rules want done: the only things that come out of the core.

A control connection is named by the number that the service gave it (`conn`), a data
connection likewise (`link`). Effects are carried out in the order in which they are listed.
"""

from __future__ import annotations

from typing import Any

import msgspec

from relayx.core.errors import Code
from relayx.core.hello import Paired
from relayx.core.messages import Cause, Message, Protocol, Role, Transport


class Effect(msgspec.Struct, frozen=True):
    """Base of all effects."""


class Send(Effect, frozen=True):
    """Send a message to one client."""

    conn: int
    message: Message
    trace_id: str = ""


class Broadcast(Effect, frozen=True):
    """Send a message to every registered client of a role."""

    role: Role
    message: Message
    trace_id: str = ""


class StateChanged(Effect, frozen=True):
    """``port_state`` is no longer what the clients know; a push is due."""

    trace_id: str = ""


class Registered(Effect, frozen=True):
    """A control connection is a client's from now on."""

    conn: int
    role: Role
    client_id: str
    v11: bool


class CloseControl(Effect, frozen=True):
    """Close a control connection after what was sent to it."""

    conn: int


class Subscribe(Effect, frozen=True):
    """Send ``telemetry`` to a client from now on."""

    conn: int


class Wait(Effect, frozen=True):
    """A data connection is kept: a BE's on its port, an FE's unread until a BE is there."""

    link: int


class Refuse(Effect, frozen=True):
    """Turn a data connection away and close it."""

    link: int
    code: Code
    text: str


class CloseLink(Effect, frozen=True):
    """Close a data connection that waits."""

    link: int


class Pair(Effect, frozen=True):
    """Make a session of two data connections.

    :ivar keep: whether the BE's connection is to outlive the session.
    :ivar limits: bits/s for both directions together, by whose limit that is; a limit is one
        for all sessions that carry it.
    :ivar fe_waited: seconds from the FE's HELLO until now.
    :ivar lease_waited: seconds from the lease's grant until now, where this is the first session
        under it.
    :ivar shared: whether further FEs may be paired with the same BE while this session runs.
    """

    pairing_id: str
    port: int
    protocol: Protocol
    fe: int
    be: int
    keep: bool
    to_fe: Paired
    to_be: Paired
    limits: tuple[tuple[str, int], ...] = ()
    fe_waited: float = 0.0
    lease_waited: float | None = None
    transport_fe: Transport = Transport.TCP
    transport_be: Transport = Transport.TCP
    shared: bool = False


class EndSession(Effect, frozen=True):
    """Close both sides of a session at once."""

    pairing_id: str
    cause: Cause


class Note(Effect, frozen=True):
    """A line for the log. `fields` never hold a secret, a ticket or a key."""

    level: str
    event: str
    text: str
    fields: dict[str, Any]
