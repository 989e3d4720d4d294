"""What a broker is to be; read without pyzmq."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class Pattern(StrEnum):
    """Who meets whom, frontend first: PUB and SUB, PUSH and PULL, REQ and REP."""

    PUB_SUB = "pub_sub"
    PUSH_PULL = "push_pull"
    REQ_REP = "req_rep"


class Role(StrEnum):
    """The two sides of a broker: PUB, PUSH and REQ connect to the frontend, the rest to the
    backend."""

    FRONTEND = "frontend"
    BACKEND = "backend"


class Security(StrEnum):
    """libzmq's mechanisms: none, name and password (RFC 24), keys (RFC 26)."""

    NULL = "null"
    PLAIN = "plain"
    CURVE = "curve"


class Side(msgspec.Struct, frozen=True):
    """One side of one broker, as it is named to those who decide who may connect.

    :ivar port: of the settings; 0 where any free one was asked for.
    """

    pattern: Pattern
    role: Role
    port: int


class BrokerSettings(msgspec.Struct, frozen=True):
    """One broker. Names, units and defaults are libzmq's (``zmq_setsockopt(3)``), but for
    `max_connections`, which it has not.

    :ivar frontend: port that PUB, PUSH or REQ connect to; 0: any free one.
    :ivar backend: port that SUB, PULL or REP connect to; 0: any free one.
    :ivar interface: address to listen on, "" for all.
    :ivar sndhwm: messages that wait for one peer, 0: no limit. Past it a SUB loses messages, and
        PUSH and REQ wait.
    :ivar rcvhwm: messages from one peer that wait for the broker, 0: no limit.
    :ivar linger: milliseconds that a stop waits for what is not sent yet; -1 is as 0 there.
    :ivar reconnect_ivl: milliseconds.
    :ivar reconnect_ivl_max: milliseconds, 0: as `reconnect_ivl`.
    :ivar max_msg_size: bytes of one part; who sends a longer one is disconnected. -1: no limit.
    :ivar immediate: queue for connections that are established only.
    :ivar heartbeat_ivl: milliseconds between ZMTP PINGs, 0: none.
    :ivar backlog: connections that wait to be accepted.
    :ivar max_connections: of each side; whoever comes beyond is closed.
    :ivar ipv6: listen on IPv6 addresses too.
    :ivar curve_server_secret: Z85, 40 characters; CURVE only, as the next two.
    :ivar curve_server_public: likewise.
    :ivar curve_clients: public keys in Z85 of those who may connect, None: any key.
    """

    pattern: Pattern
    frontend: int
    backend: int
    interface: str = ""
    sndhwm: int = 1000
    rcvhwm: int = 1000
    linger: int = -1
    reconnect_ivl: int = 100
    reconnect_ivl_max: int = 0
    max_msg_size: int = -1
    immediate: bool = False
    heartbeat_ivl: int = 0
    backlog: int = 100
    max_connections: int = 1024
    ipv6: bool = False
    security: Security = Security.NULL
    curve_server_secret: str = ""
    curve_server_public: str = ""
    curve_clients: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"BrokerSettings({shown})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # msgspec gives its own, which rich prefers to __repr__ and which shows every field.
        return [
            (name, "hidden" if name == "curve_server_secret" else getattr(self, name))
            for name in self.__struct_fields__
        ]

    def side(self, role: Role) -> Side:
        """One side of it."""
        port = self.frontend if role is Role.FRONTEND else self.backend
        return Side(self.pattern, role, port)
