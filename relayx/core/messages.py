"""The control plane's messages, one frozen struct a wire type (contract section 3).

A field that is left out on the wire has its default here, and a field that equals its
default is left out when written. Times are unix milliseconds, except in ping and pong,
where they are unix nanoseconds. Ports are TCP port numbers; 0 stands for an absent one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

import msgspec

PROTOCOL_VERSION = "1.1"


class Role(StrEnum):
    """Who a client is: it asks for sessions (FE) or waits for them (BE)."""

    FE = "FE"
    BE = "BE"

    @property
    def other(self) -> Role:
        """The role at the other end of a session."""
        return Role.BE if self is Role.FE else Role.FE


class Protocol(StrEnum):
    """The label of a data port."""

    ZMQ = "zmq"
    SRT = "srt"


class Cause(StrEnum):
    """Why a session ended (contract section 7)."""

    FE_CLOSED = "fe_closed"
    BE_CLOSED = "be_closed"
    FE_RESET = "fe_reset"
    BE_RESET = "be_reset"
    FE_DEAD = "fe_dead"
    BE_DEAD = "be_dead"
    IDLE_TIMEOUT = "idle_timeout"
    HALF_CLOSE_TIMEOUT = "half_close_timeout"
    BE_LOST = "be_lost"
    DRAIN = "drain"
    ADMIN = "admin"
    LIMIT = "limit"


def shown_fields(struct: msgspec.Struct, *hidden: str) -> list[tuple[str, Any]]:
    """The fields of a struct with its secrets hidden, for rich and other pretty printers."""
    return [
        (name, "hidden" if name in hidden else getattr(struct, name))
        for name in struct.__struct_fields__
    ]


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A payload of the control plane. ``TYPE`` is its name on the wire."""

    TYPE: ClassVar[str]


class Register(Message, frozen=True, kw_only=True, omit_defaults=True):
    """client -> gateway, first: who the client is."""

    TYPE: ClassVar[str] = "register"
    role: str
    secret: str = ""
    client_id: str = ""
    protocol: str = ""
    instance: str = ""

    def __repr__(self) -> str:
        return f"Register(role={self.role!r}, client_id={self.client_id!r}, secret=hidden)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return shown_fields(self, "secret")


class Auth(Message, frozen=True, kw_only=True, omit_defaults=True):
    """gateway -> client: the answer to ``register``; after an error the connection closes."""

    TYPE: ClassVar[str] = "auth"
    status: str
    client_id: str = ""
    server: str = ""
    protocol: str = ""
    error_code: str = ""
    error: str = ""


class PortAlloc(Message, frozen=True, kw_only=True, omit_defaults=True):
    """gateway -> FE: the port ranges; BE -> gateway: asks for that and for telemetry."""

    TYPE: ClassVar[str] = "port_alloc"
    zmq_start_port: int = 0
    zmq_end_port: int = 0
    srt_start_port: int = 0
    srt_end_port: int = 0


class PortStateQuery(Message, frozen=True, kw_only=True, omit_defaults=True):
    """client -> gateway: asks for ``port_state``; with neither flag, for both protocols."""

    TYPE: ClassVar[str] = "port_state_q"
    need_zmq: bool = False
    need_srt: bool = False


class ServiceCount(msgspec.Struct, frozen=True):
    """How many ports of one named service are ready."""

    zmq_ready: int
    srt_ready: int


class PortState(Message, frozen=True, kw_only=True, omit_defaults=True):
    """gateway -> client: counts and sorted port lists (contract section 4)."""

    TYPE: ClassVar[str] = "port_state"
    zmq_total: int
    srt_total: int
    zmq_busy: int
    srt_busy: int
    zmq_ready_ports: tuple[int, ...]
    srt_ready_ports: tuple[int, ...]
    zmq_empty_ports: tuple[int, ...]
    srt_empty_ports: tuple[int, ...]
    services: dict[str, ServiceCount] | msgspec.UnsetType = msgspec.UNSET


class PortAcquire(Message, frozen=True, kw_only=True, omit_defaults=True):
    """client -> gateway: asks for a lease on one port of each protocol named."""

    TYPE: ClassVar[str] = "port_acquire"
    request_id: str = ""
    need_zmq: bool = False
    need_srt: bool = False
    ttl_seconds: int = 0
    service: str = ""
    be: str | None = None


class PortGrant(Message, frozen=True, kw_only=True, omit_defaults=True):
    """gateway -> client: a lease, or (``session_id`` "") why there is none."""

    TYPE: ClassVar[str] = "port_grant"
    request_id: str
    session_id: str
    expires_at: int
    zmq_port: int = 0
    srt_port: int = 0
    host: str = ""
    ticket: str = ""
    error_code: str = ""
    error: str = ""

    def __repr__(self) -> str:
        return (
            f"PortGrant(session_id={self.session_id!r}, zmq_port={self.zmq_port}, "
            f"srt_port={self.srt_port}, error_code={self.error_code!r}, ticket=hidden)"
        )

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return shown_fields(self, "ticket")


class PortRelease(Message, frozen=True, kw_only=True, omit_defaults=True):
    """Both ways: a lease ends on the ports named."""

    TYPE: ClassVar[str] = "port_release"
    session_id: str
    zmq_port: int = 0
    srt_port: int = 0
    error_code: str = ""


class KeyExchange(Message, frozen=True, kw_only=True, omit_defaults=True):
    """BE -> gateway -> FE: a BE's public key. A private key never gets past the codec's caller."""

    TYPE: ClassVar[str] = "key_exchange"
    public_key: str
    client_id: str = ""
    private_key: str | None = None

    def __repr__(self) -> str:
        return f"KeyExchange(client_id={self.client_id!r}, keys=hidden)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return shown_fields(self, "public_key", "private_key")


class Ping(Message, frozen=True, kw_only=True, omit_defaults=True):
    """client -> gateway: ``c_send`` in unix ns."""

    TYPE: ClassVar[str] = "ping"
    c_send: int


class Pong(Message, frozen=True, kw_only=True, omit_defaults=True):
    """gateway -> client: the ping's ``c_send``, and when the gateway read and answered it."""

    TYPE: ClassVar[str] = "pong"
    c_send: int
    s_recv: int
    s_send: int


class Telemetry(Message, frozen=True, kw_only=True, omit_defaults=True):
    """gateway -> subscribed client: Mbps over both directions of every session."""

    TYPE: ClassVar[str] = "telemetry"
    current_speed: float


class SessionEnd(Message, frozen=True, kw_only=True, omit_defaults=True):
    """gateway -> 1.1 clients at both ends: why a session ended and what it delivered."""

    TYPE: ClassVar[str] = "session_end"
    pairing_id: str
    session_id: str
    protocol: str
    port: int
    cause: str
    error: str
    fe_to_be_bytes: int
    be_to_fe_bytes: int
    seconds: float


class Error(Message, frozen=True, kw_only=True, omit_defaults=True):
    """gateway -> client: what was wrong with something it sent."""

    TYPE: ClassVar[str] = "error"
    error_code: str
    error: str
    in_reply_to: str = ""


Request = Register | PortAlloc | PortStateQuery | PortAcquire | PortRelease | KeyExchange | Ping

REQUESTS: dict[str, type[Message]] = {
    kind.TYPE: kind
    for kind in (
        Register, PortAlloc, PortStateQuery, PortAcquire, PortRelease, KeyExchange, Ping,
    )
}  # fmt: skip
"""What a client may send, by wire type."""

REPLIES: dict[str, type[Message]] = {
    kind.TYPE: kind
    for kind in (
        Auth, PortAlloc, PortState, PortGrant, PortRelease, KeyExchange, Pong, Telemetry,
        SessionEnd, Error,
    )
}  # fmt: skip
"""What the gateway may send, by wire type; ``log`` is not here, its payload is a string."""
