"""The control plane's messages, one frozen struct a wire type (contract section 3).

A field that is left out on the wire has its default here, and a field that equals its
default is left out when written. Times are unix milliseconds, except in ping and pong,
where they are unix nanoseconds. Ports are TCP port numbers; 0 stands for an absent one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

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


class Transport(StrEnum):
    """What carries a data connection; both kinds come to the same numbers of srt ports."""

    TCP = "tcp"
    SRT = "srt"

    @property
    def other(self) -> Transport:
        """The one that it is not."""
        return Transport.SRT if self is Transport.TCP else Transport.TCP


class Pattern(StrEnum):
    """What a broker does: who meets whom, frontend first (contract section 4)."""

    PUB_SUB = "pub_sub"
    PUSH_PULL = "push_pull"
    REQ_REP = "req_rep"


class Side(StrEnum):
    """One of a broker's two ports."""

    FRONTEND = "frontend"
    BACKEND = "backend"


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


def _is(text: str) -> Meta:
    """What a field is, for the schema and the reference; what is allowed is checked elsewhere."""
    return Meta(description=text)


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A payload of the control plane. ``TYPE`` is its name on the wire."""

    TYPE: ClassVar[str]


class Register(Message, frozen=True, kw_only=True, omit_defaults=True):
    """client -> gateway, first: who the client is."""

    TYPE: ClassVar[str] = "register"
    role: Annotated[str, _is("FE or BE")]
    secret: Annotated[
        str,
        _is("what the secret file calls auth_secret, or the secret that clients: has for this id"),
    ] = ""
    client_id: Annotated[str, _is('what to be called; "": the gateway chooses')] = ""
    protocol: Annotated[
        str, _is("1.1 for a client that knows version 1.1; any other is a v1 client")
    ] = ""
    instance: Annotated[
        str,
        _is("random, one a process; a registration with it takes the place of one under its id"),
    ] = ""
    link_telemetry: Annotated[
        bool,
        _is("as a 1.1 BE: have telemetry with a link once a second for each FE there by SRT"),
    ] = False

    def __repr__(self) -> str:
        return f"Register(role={self.role!r}, client_id={self.client_id!r}, secret=hidden)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return shown_fields(self, "secret")


class Auth(Message, frozen=True, kw_only=True, omit_defaults=True):
    """gateway -> client: the answer to ``register``; after an error the connection closes."""

    TYPE: ClassVar[str] = "auth"
    status: Annotated[str, _is("ok or error")]
    client_id: Annotated[str, _is("what the client is called from now on")] = ""
    server: Annotated[str, _is("the name and version of the gateway")] = ""
    protocol: Annotated[str, _is("the version that the gateway speaks")] = ""
    error_code: Annotated[str, _is("with status error: why")] = ""
    error: Annotated[str, _is("the same as a sentence")] = ""


class PortAlloc(Message, frozen=True, kw_only=True, omit_defaults=True):
    """gateway -> FE: the port ranges; BE -> gateway: asks for that and for telemetry."""

    TYPE: ClassVar[str] = "port_alloc"
    zmq_start_port: Annotated[int, _is("first zmq port")] = 0
    zmq_end_port: Annotated[int, _is("last zmq port")] = 0
    srt_start_port: Annotated[int, _is("first srt port")] = 0
    srt_end_port: Annotated[int, _is("last srt port")] = 0


class PortStateQuery(Message, frozen=True, kw_only=True, omit_defaults=True):
    """client -> gateway: asks for ``port_state``; with neither flag, for both protocols."""

    TYPE: ClassVar[str] = "port_state_q"
    need_zmq: Annotated[bool, _is("leave the srt lists empty, unless need_srt is set too")] = False
    need_srt: Annotated[bool, _is("leave the zmq lists empty, unless need_zmq is set too")] = False


class ServiceCount(msgspec.Struct, frozen=True, omit_defaults=True):
    """How many ports of one named service are ready."""

    zmq_ready: Annotated[int, _is("zmq ports on which one of its BEs waits")]
    srt_ready: Annotated[int, _is("srt ports on which one of its BEs waits by TCP")]
    srt_native_ready: Annotated[int, _is("srt ports on which one of its BEs waits by SRT")] = 0


class BrokerState(msgspec.Struct, frozen=True, kw_only=True):
    """One broker: two zmq ports on which many meet many, without HELLO."""

    pattern: Annotated[str, _is("pub_sub, push_pull or req_rep")]
    frontend: Annotated[int, _is("the zmq port for PUB, PUSH or REQ")]
    backend: Annotated[int, _is("the zmq port for SUB, PULL or REP")]
    clients_frontend: Annotated[int, _is("connections that are open there")]
    clients_backend: Annotated[int, _is("connections that are open there")]


class PortState(Message, frozen=True, kw_only=True, omit_defaults=True):
    """gateway -> client: counts and sorted port lists (contract section 4)."""

    TYPE: ClassVar[str] = "port_state"
    zmq_total: Annotated[int, _is("all zmq ports")]
    srt_total: Annotated[int, _is("all srt ports")]
    zmq_busy: Annotated[int, _is("zmq ports with a session that runs or is being drained")]
    srt_busy: Annotated[int, _is("srt ports with a session that runs or is being drained")]
    zmq_ready_ports: Annotated[
        tuple[int, ...], _is("zmq ports of no named service on which a BE waits, sorted")
    ]
    srt_ready_ports: Annotated[
        tuple[int, ...], _is("srt ports of no named service on which a BE waits by TCP, sorted")
    ]
    zmq_empty_ports: Annotated[tuple[int, ...], _is("zmq ports on which no BE waits, sorted")]
    srt_empty_ports: Annotated[tuple[int, ...], _is("srt ports on which no BE waits, sorted")]
    services: (
        Annotated[
            dict[str, ServiceCount],
            _is("ready ports of the named services, by name; for 1.1 clients"),
        ]
        | msgspec.UnsetType
    ) = msgspec.UNSET
    srt_native_ready_ports: (
        Annotated[
            tuple[int, ...],
            _is("like srt_ready_ports, where the BE waits by SRT; for 1.1 clients"),
        ]
        | msgspec.UnsetType
    ) = msgspec.UNSET
    brokers: (
        Annotated[
            tuple[BrokerState, ...],
            _is(
                "the brokers that run, whose ports are ready, for ZeroMQ alone, and in no list;"
                " for 1.1 clients, where there are any"
            ),
        ]
        | msgspec.UnsetType
    ) = msgspec.UNSET


class PortAcquire(Message, frozen=True, kw_only=True, omit_defaults=True):
    """client -> gateway: asks for a lease on one port of each protocol named."""

    TYPE: ClassVar[str] = "port_acquire"
    request_id: Annotated[str, _is("repeated in the answer")] = ""
    need_zmq: Annotated[bool, _is("ask for a zmq port")] = False
    need_srt: Annotated[bool, _is("ask for an srt port")] = False
    ttl_seconds: Annotated[int, _is("how long the lease holds; 0: 30")] = 0
    service: Annotated[str, _is("the service that the ports must be of")] = ""
    be: Annotated[str | None, _is("a BE's client_id, where it must be that one; absent: any")] = (
        None
    )
    transport: Annotated[
        str, _is("tcp, or srt to connect to the srt port by SRT; a zmq port is for TCP always")
    ] = Transport.TCP
    broker: Annotated[
        str,
        _is(
            "pub_sub, push_pull or req_rep: asks for a port of a broker of that pattern, which"
            " any number of leases share; for 1.1 clients"
        ),
    ] = ""
    side: Annotated[
        str,
        _is('with broker: frontend or backend; "": frontend for an FE, backend for a BE'),
    ] = ""


class PortGrant(Message, frozen=True, kw_only=True, omit_defaults=True):
    """gateway -> client: a lease, or (``session_id`` "") why there is none."""

    TYPE: ClassVar[str] = "port_grant"
    request_id: Annotated[str, _is("the request's")]
    session_id: Annotated[str, _is('names the lease; "": there is none')]
    expires_at: Annotated[int, _is("when the lease ends, unix ms; 0: there is none")]
    zmq_port: Annotated[int, _is("the zmq port, where one was asked for")] = 0
    srt_port: Annotated[int, _is("the srt port, where one was asked for")] = 0
    host: Annotated[str, _is("where to dial, if data.advertise_host is configured")] = ""
    ticket: Annotated[
        str,
        _is("what HELLO needs for the ports; for the requester, and of a BE's lease every FE"),
    ] = ""
    transport: Annotated[str, _is("what the requester connects to the srt port by")] = Transport.TCP
    broker: Annotated[str, _is("the pattern of the broker whose port zmq_port is")] = ""
    side: Annotated[str, _is("with broker: which of its sides it is")] = ""
    error_code: Annotated[str, _is("why there is no lease")] = ""
    error: Annotated[str, _is("the same as a sentence")] = ""

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
    session_id: Annotated[str, _is("names the lease")]
    zmq_port: Annotated[
        int,
        _is("the zmq port that it ends on; not needed from a client, whose release ends all of it"),
    ] = 0
    srt_port: Annotated[int, _is("the srt port that it ends on; likewise")] = 0
    error_code: Annotated[
        str,
        _is(
            "from the gateway: TTL_EXPIRED or BE_LOST, where that is why, or DRAINING, where the "
            "port is taken out of service"
        ),
    ] = ""


class KeyExchange(Message, frozen=True, kw_only=True, omit_defaults=True):
    """BE -> gateway -> FE: a BE's public key. A private one goes no further than the gateway."""

    TYPE: ClassVar[str] = "key_exchange"
    public_key: Annotated[str, _is("the BE's public key")]
    client_id: Annotated[str, _is("from the gateway: which BE it is of")] = ""
    private_key: Annotated[
        str | None, _is("never to be sent: the gateway drops it and logs a warning")
    ] = None

    def __repr__(self) -> str:
        return f"KeyExchange(client_id={self.client_id!r}, keys=hidden)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return shown_fields(self, "public_key", "private_key")


class Ping(Message, frozen=True, kw_only=True, omit_defaults=True):
    """client -> gateway: ``c_send`` in unix ns."""

    TYPE: ClassVar[str] = "ping"
    c_send: Annotated[int, _is("when the client sent it, unix ns")]


class Pong(Message, frozen=True, kw_only=True, omit_defaults=True):
    """gateway -> client: the ping's ``c_send``, and when the gateway read and answered it."""

    TYPE: ClassVar[str] = "pong"
    c_send: Annotated[int, _is("the ping's")]
    s_recv: Annotated[int, _is("when the gateway read the ping, unix ns")]
    s_send: Annotated[int, _is("when the gateway answered, unix ns")]


class FrontEndLink(msgspec.Struct, frozen=True, kw_only=True):
    """How an FE's SRT connection is, between it and the gateway, as libsrt measures it there."""

    pairing_id: Annotated[str, _is("names the session")]
    session_id: Annotated[str, _is('names the lease; "": there is none')]
    port: Annotated[int, _is("the data port")]
    rtt_ms: Annotated[float, _is("how long a packet and its answer take, smoothed")]
    loss_percent: Annotated[
        float, _is("of the packets sent to the FE in the last second, those it reported lost")
    ]
    retransmitted: Annotated[int, _is("packets sent to the FE again, since the last one")]
    dropped: Annotated[
        int,
        _is(
            "messages that the FE did not get, since the last one: its send buffer was full, or "
            "they would have come too late to be played"
        ),
    ]
    send_buffer_bytes: Annotated[int, _is("sent to the FE and not acknowledged by it yet")]
    send_buffer_ms: Annotated[
        int, _is("the time that these span; near latency_ms they are about to be dropped")
    ]
    send_rate_bps: Annotated[float, _is("bits a second sent to the FE, those sent again included")]
    latency_ms: Annotated[int, _is("by which the FE delays, as was agreed on in the handshake")]


class Telemetry(Message, frozen=True, kw_only=True, omit_defaults=True):
    """gateway -> client that asked: Mbps over both directions of every session.

    With a link, to a BE that asked for it in register, once a second for each of its sessions
    whose FE is there by SRT.
    """

    TYPE: ClassVar[str] = "telemetry"
    current_speed: Annotated[float, _is("Mbps, over the time since the last one")]
    link: (
        Annotated[FrontEndLink, _is("the FE's link, where this is about one")] | msgspec.UnsetType
    ) = msgspec.UNSET


class SessionEnd(Message, frozen=True, kw_only=True, omit_defaults=True):
    """gateway -> 1.1 clients at both ends: why a session ended and what it delivered."""

    TYPE: ClassVar[str] = "session_end"
    pairing_id: Annotated[str, _is("names the session")]
    session_id: Annotated[str, _is('names the lease; "": there was none')]
    protocol: Annotated[str, _is("zmq or srt")]
    port: Annotated[int, _is("the data port")]
    cause: Annotated[str, _is("why it ended")]
    error: Annotated[str, _is("the same as a sentence")]
    fe_to_be_bytes: Annotated[int, _is("bytes delivered to the BE")]
    be_to_fe_bytes: Annotated[int, _is("bytes delivered to the FE")]
    seconds: Annotated[float, _is("how long it lasted")]


class Error(Message, frozen=True, kw_only=True, omit_defaults=True):
    """gateway -> client: what was wrong with something it sent."""

    TYPE: ClassVar[str] = "error"
    error_code: Annotated[str, _is("what kind of mistake it was")]
    error: Annotated[str, _is("what was wrong, with which value, and what is allowed")]
    in_reply_to: Annotated[
        str, _is("the msg_id of the message that was wrong, where it had one")
    ] = ""


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
