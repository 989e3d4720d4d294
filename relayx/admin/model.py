"""What the admin API answers with, a frozen struct a kind. Never a secret, a ticket or a key.

Times are RFC 3339 in UTC; durations are seconds, sizes bytes, rates bytes a second.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta

from relayx.core.messages import Protocol, Role

MOST_ITEMS = 1000
"""Of one page."""

T = TypeVar("T")


class GatewayState(StrEnum):
    """What a gateway is doing."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


class PortStatus(StrEnum):
    """What a port is doing; reserved: a lease keeps it for its owner (contract section 4)."""

    EMPTY = "empty"
    READY = "ready"
    BUSY = "busy"
    RESERVED = "reserved"


class ClientState(StrEnum):
    """Whether a client's control connection is open; lost: a BE that may still come back."""

    LIVE = "live"
    LOST = "lost"


class SessionState(StrEnum):
    """How far a session is.

    draining: the FE of a kept BE has ended its stream; ending: one side has ended or failed.
    """

    RUNNING = "running"
    DRAINING = "draining"
    ENDING = "ending"


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what is answered."""


class Failed(Shown, frozen=True, kw_only=True):
    """Why a request was not done."""

    error_code: Annotated[str, Meta(description="what a program goes by")]
    error: Annotated[str, Meta(description="what a person reads")]
    problems: Annotated[tuple[str, ...], Meta(description="what is wrong, one by one")] = ()


class Health(Shown, frozen=True, kw_only=True):
    """The process answers."""

    status: str = "ok"


class Readiness(Shown, frozen=True, kw_only=True):
    """Whether clients are taken, and why not."""

    ready: bool
    reasons: tuple[str, ...] = ()


class ClientCount(Shown, frozen=True, kw_only=True):
    """How many clients of one role there are."""

    registered: int
    lost: int
    most: int


class PortCount(Shown, frozen=True, kw_only=True):
    """How many ports of one protocol there are."""

    total: int
    ready: int
    busy: int
    empty: int
    reserved: int


class SessionCount(Shown, frozen=True, kw_only=True):
    """How many sessions run, and how many have ended by their cause."""

    running: int
    ended: dict[str, int]


class LastReload(Shown, frozen=True, kw_only=True):
    """How the configuration was read again last."""

    at: datetime
    successful: bool
    problems: tuple[str, ...] = ()


class BrokerState(StrEnum):
    """What a broker does; stalled: its backend takes nothing, ended: by itself."""

    RUNNING = "running"
    STALLED = "stalled"
    ENDED = "ended"


class Moved(Shown, frozen=True, kw_only=True):
    """What passed one side of a broker in one direction."""

    parts: Annotated[int, Meta(description="of messages; a message of one part is one")]
    bytes: int


class BrokerSide(Shown, frozen=True, kw_only=True):
    """One of the two ports of a broker."""

    port: int
    connections: Annotated[int, Meta(description="open now, with those whose handshake goes on")]
    accepted: Annotated[int, Meta(description="whose handshake succeeded, since the start")]
    received: Moved
    sent: Moved


class Broker(Shown, frozen=True, kw_only=True):
    """A pair of zmq ports on which many meet many; numbers are up to a second old."""

    pattern: Annotated[str, Meta(description="pub_sub, push_pull or req_rep")]
    state: BrokerState
    security: Annotated[str, Meta(description="null, plain or curve")]
    frontend: BrokerSide
    backend: BrokerSide
    handshake_failures: Annotated[
        dict[str, int], Meta(description="by reason: auth, protocol, no_detail, unfit, full")
    ]
    answers: Annotated[int, Meta(description="to requests, since the start; of req_rep")]
    answer_seconds: Annotated[
        float, Meta(description="from requests to answers, all together; of req_rep")
    ]


class Status(Shown, frozen=True, kw_only=True):
    """The gateway as a whole."""

    version: str
    state: GatewayState
    reasons: Annotated[tuple[str, ...], Meta(description="why it is not ready")] = ()
    pid: int
    started_at: datetime | None
    uptime: float
    revision: Annotated[int, Meta(description="of the configuration; one more each reload")]
    last_reload: LastReload | None
    clients: dict[Role, ClientCount]
    ports: dict[Protocol, PortCount]
    leases: int
    sessions: SessionCount
    brokers: tuple[Broker, ...] = ()
    bytes_moved: Annotated[int, Meta(description="delivered in all sessions, since the start")]
    throughput: Annotated[float, Meta(description="bytes a second in all sessions, of late")]


class Client(Shown, frozen=True, kw_only=True):
    """A client that is registered, or a BE that is lost and may come back."""

    client_id: str
    role: Role
    state: ClientState
    address: str
    protocol: Annotated[str, Meta(description="version of the control protocol, 1.0 or 1.1")]
    registered_at: datetime
    telemetry: Annotated[bool, Meta(description="whether it gets telemetry")]
    leases: int
    sessions: int


class Port(Shown, frozen=True, kw_only=True):
    """A data port."""

    port: int
    protocol: Protocol
    state: PortStatus
    service: Annotated[str, Meta(description='of the BE that is there; "" for none')]
    client_id: Annotated[str, Meta(description="of the BE that is there, as its HELLO said")]
    address: Annotated[str, Meta(description="of the BE that is there")]
    session_id: Annotated[str, Meta(description="of the lease that keeps the port")]
    transport: Annotated[
        str, Meta(description='tcp or srt, by which the BE is connected; "" for none')
    ]
    pairing_id: Annotated[
        str, Meta(description="of the session that runs; of the first, where several do")
    ]
    sessions: Annotated[
        int, Meta(description="how many run there; more than 1 where FEs share an SRT stream")
    ]


class Lease(Shown, frozen=True, kw_only=True):
    """Ports that are kept for a client."""

    session_id: str
    client_id: str
    role: Role
    service: str
    ports: tuple[int, ...]
    expires_at: datetime
    trace_id: str


class SrtLink(Shown, frozen=True, kw_only=True):
    """An SRT connection as the gateway's libsrt measures it, at most once a second.

    "Sent" is from the gateway to the peer. Counts are of the connection, those of messages of the
    session.
    """

    rtt_ms: float
    send_rate_bps: Annotated[float, Meta(description="bits a second, packets sent again included")]
    recv_rate_bps: float
    send_loss_percent: Annotated[
        float, Meta(description="of the packets sent in the last second, those reported lost")
    ]
    recv_loss_percent: Annotated[
        float, Meta(description="of the packets that were to come, those that did not at first")
    ]
    retransmitted: Annotated[int, Meta(description="packets sent again")]
    sent_late: Annotated[int, Meta(description="packets given up: too late to be sent")]
    received_late: Annotated[int, Meta(description="packets that did not come in time")]
    send_buffer_bytes: Annotated[int, Meta(description="sent and not acknowledged yet")]
    send_buffer_ms: Annotated[int, Meta(description="the time that these span")]
    send_latency_ms: Annotated[int, Meta(description="by which the peer delays, as agreed on")]
    receive_latency_ms: Annotated[int, Meta(description="by which the gateway does")]
    messages_dropped: Annotated[
        int, Meta(description="that it did not get: no room, or given up as too late")
    ]
    dropping_seconds: Annotated[float, Meta(description="in which that was")]
    dropping: Annotated[bool, Meta(description="whether it goes on")]


class End(Shown, frozen=True, kw_only=True):
    """One end of a session.

    :ivar client_id: of the registered client that it belongs to, else as its HELLO said.
    """

    client_id: str
    address: str
    transport: Annotated[str, Meta(description="tcp or srt, by which it is connected")]
    link: Annotated[SrtLink | None, Meta(description="null for TCP")]
    pushed_back: Annotated[
        bool, Meta(description="whether it is not read now, since the other side is slower")
    ]
    held_back: Annotated[
        bool, Meta(description="whether it is not read now because of a bandwidth limit")
    ]
    stalled: Annotated[
        float, Meta(description="seconds for which it took nothing, and so the other was not read")
    ]
    throttled: Annotated[
        float, Meta(description="seconds for which it was not read because of a bandwidth limit")
    ]


class Zmtp(Shown, frozen=True, kw_only=True):
    """What the gateway knows of the ZeroMQ of a session without HELLO."""

    mechanism: Annotated[str, Meta(description="NULL, PLAIN or CURVE")]
    fe_type: Annotated[str, Meta(description='the FE\'s kind of socket; "" where encrypted')]
    be_type: Annotated[str, Meta(description='the BE\'s kind of socket; "" where encrypted')]
    fe_to_be_messages: Annotated[
        int | None, Meta(description="whole messages; null unless zmq.inspect is messages")
    ]
    be_to_fe_messages: int | None


class Session(Shown, frozen=True, kw_only=True):
    """One FE and one BE that are paired."""

    pairing_id: str
    session_id: Annotated[str, Meta(description='of the lease; "" without one')]
    trace_id: str
    protocol: Protocol
    port: int
    service: str
    state: SessionState
    cause: Annotated[str, Meta(description='why it is ending, as far as is known; "" before')]
    keep: Annotated[bool, Meta(description="whether the BE stays when the session is over")]
    fe: End
    be: End
    started_at: datetime
    seconds: float
    fe_to_be_bytes: int
    be_to_fe_bytes: int
    fe_to_be_rate: float
    be_to_fe_rate: float
    zmtp: Annotated[
        Zmtp | None, Meta(description="of a session of ZeroMQ whose handshake was followed")
    ]


class Page(Shown, Generic[T], frozen=True, kw_only=True):
    """A part of a list. `total` counts what matches, on every page."""

    items: tuple[T, ...]
    total: int
    limit: int
    offset: int


class Ended(Shown, frozen=True, kw_only=True):
    """A session that was closed."""

    pairing_id: str


class Dropped(Shown, frozen=True, kw_only=True):
    """Clients whose control connection was closed."""

    client_id: str
    dropped: int


class Draining(Shown, frozen=True, kw_only=True):
    """The gateway takes nobody new from now on."""

    sessions: Annotated[int, Meta(description="that still run")]


class Changed(Shown, frozen=True, kw_only=True):
    """A key of the configuration that is another; secrets are hidden."""

    key: str
    old: str
    new: str
    applies: Annotated[
        str, Meta(description="now, new connections, new sessions, or restart: not while it runs")
    ]


class Reload(Shown, frozen=True, kw_only=True):
    """What a reload changes, or would change."""

    applied: bool
    revision: Annotated[int, Meta(description="of the configuration that it makes")]
    changes: tuple[Changed, ...]
    ports_added: tuple[int, ...]
    ports_removed: Annotated[
        tuple[int, ...], Meta(description="listen no more; each ends when its session does")
    ]
    ports_kept: tuple[int, ...]
    sessions: Annotated[tuple[str, ...], Meta(description="on ports that are removed; they go on")]
    leases: Annotated[tuple[str, ...], Meta(description="on ports that are removed; they end")]
    clients: Annotated[tuple[str, ...], Meta(description="who is touched by it")]
    waiting: Annotated[int, Meta(description="connections on ports that are removed, closed")]
    problems: Annotated[tuple[str, ...], Meta(description="why it would be refused")]


class Happened(Shown, frozen=True, kw_only=True):
    """Something that was logged."""

    at: datetime
    level: str
    event: str
    text: str
    fields: dict[str, Any]


class Point(Shown, frozen=True, kw_only=True):
    """How much was moved of late, at a time."""

    at: datetime
    throughput: Annotated[float, Meta(description="bytes a second in all sessions")]


class History(Shown, frozen=True, kw_only=True):
    """Throughput of the last minutes, the oldest first."""

    interval: Annotated[float, Meta(description="seconds that each point stands for")]
    points: tuple[Point, ...]


class Snapshot(Shown, frozen=True, kw_only=True):
    """Everything at a time, for the dashboard; long lists are cut, the totals are not."""

    at: datetime
    status: Status
    ports: Page[Port]
    clients: Page[Client]
    sessions: Page[Session]
