"""The port table: what state each data port is in (contract section 4).

Every transition is a row of :data:`TRANSITIONS`; a pair that is not there is an error of
ours, never of a peer's.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import TYPE_CHECKING

import msgspec

from relayx.core.brokered import Broker, BrokerPorts
from relayx.core.errors import StateError
from relayx.core.hello import Hello
from relayx.core.messages import PortState, Protocol, Role, ServiceCount, Side, Transport

if TYPE_CHECKING:
    from relayx.core.board import Due
    from relayx.core.leases import Lease

REMEMBERED_LEASES = 16


class Status(Enum):
    """The state of one port."""

    EMPTY = "empty"
    READY = "ready"
    BUSY = "busy"


class Change(Enum):
    """What can happen to a port."""

    BE_WAITS = "a BE waits"
    BE_GONE = "the waiting BE is gone"
    PAIRED = "the waiting BE was paired with an FE"
    BE_KEPT = "the session is over and its BE waits again"
    ENDED = "the session is over and its BE is gone"
    JOINED = "another FE watches the BE of the session"
    LEFT = "one of several sessions is over"


TRANSITIONS: dict[tuple[Status, Change], Status] = {
    (Status.EMPTY, Change.BE_WAITS): Status.READY,
    (Status.READY, Change.BE_GONE): Status.EMPTY,
    (Status.READY, Change.PAIRED): Status.BUSY,
    (Status.BUSY, Change.BE_KEPT): Status.READY,
    (Status.BUSY, Change.ENDED): Status.EMPTY,
    (Status.BUSY, Change.JOINED): Status.BUSY,
    (Status.BUSY, Change.LEFT): Status.BUSY,
}


class Way(msgspec.Struct, frozen=True, kw_only=True):
    """How a data connection came, besides who it says that it is.

    :ivar publishes: by SRT to send alone (``m=publish``), and more than one may watch.
    :ivar buffered: by SRT in buffer mode: what it sends has no boundaries.
    :ivar dialled: the gateway called it, as configured, and does not ask who it is.
    :ivar raw: without HELLO, by ZMTP. Libraries of ZeroMQ give a handshake up that takes long, and
        connect again: a BE's place is kept for that.
    :ivar kind: its kind of socket then, such as ``REP``; "" where it is not known.
    """

    transport: Transport = Transport.TCP
    publishes: bool = False
    buffered: bool = False
    dialled: bool = False
    raw: bool = False
    kind: str = ""


BY_TCP = Way()
"""With HELLO, as most do."""


class Link:
    """A data connection that waits or is in a session, as the rules see it.

    :ivar since: when it said HELLO, in seconds since the epoch.
    :ivar way: how it came.
    :ivar away: it is a BE that came by ZMTP alone, and has yet to come back.
    :ivar gone: a BE's: it has ended, and some of its sessions are still to end.
    """

    __slots__ = (
        "address", "away", "due", "gone", "hello", "id", "keep", "lease", "port", "since", "way",
    )  # fmt: skip

    def __init__(
        self,
        id: int,
        port: Port,
        address: str,
        hello: Hello,
        keep: bool,
        since: float,
        way: Way = BY_TCP,
    ) -> None:
        self.id = id
        self.port = port
        self.address = address
        self.hello = hello
        self.keep = keep
        self.since = since
        self.way = way
        self.away = False
        self.gone = False
        self.lease: Lease | None = None
        self.due: Due | None = None

    def is_place_of(self, address: str, kind: str) -> bool:
        """Whether it is away, and somebody who comes may be it again."""
        return self.away and (self.address, self.way.kind) == (address, kind)

    @property
    def transport(self) -> Transport:
        """What carries it."""
        return self.way.transport

    @property
    def role(self) -> Role:
        """FE or BE, as its HELLO said."""
        return self.hello.role

    @property
    def client_id(self) -> str:
        """The id that its HELLO carried."""
        return self.hello.client_id


class Session:
    """One FE and one BE that are paired on a port.

    :ivar draining: the FE of a kept BE has ended its stream.
    :ivar ending: it has been asked to end.
    :ivar shared: other FEs may be paired with its BE while it runs.
    """

    __slots__ = (
        "be", "draining", "ending", "fe", "pairing_id", "session_id", "shared", "trace_id",
    )  # fmt: skip

    def __init__(
        self,
        pairing_id: str,
        fe: Link,
        be: Link,
        session_id: str,
        trace_id: str,
        shared: bool = False,
    ) -> None:
        self.pairing_id = pairing_id
        self.fe = fe
        self.be = be
        self.session_id = session_id
        self.trace_id = trace_id
        self.shared = shared
        self.draining = False
        self.ending = False


class Port:
    """One data port.

    :ivar last_be: the connection that waits, or was the last to wait under the port's lease.
    :ivar ended: session ids and tickets of the port's last leases.
    :ivar retired: it is no longer configured, and gone when its session has ended.
    :ivar broker: what it is a port of; such a port is ready for good, and no BE waits there.
    :ivar sessions: those that run, by pairing id; more than one where FEs share a BE.
    """

    __slots__ = (
        "broker", "ended", "last_be", "lease", "number", "protocol", "retired", "sessions",
        "status", "waiting_be", "waiting_fe",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        protocol: Protocol,
        *,
        retired: bool = False,
        broker: Broker | None = None,
    ) -> None:
        self.number = number
        self.protocol = protocol
        self.retired = retired
        self.broker = broker
        self.status = Status.EMPTY if broker is None else Status.READY
        self.waiting_be: Link | None = None
        self.waiting_fe: Link | None = None
        self.last_be: Link | None = None
        self.lease: Lease | None = None
        self.sessions: dict[str, Session] = {}
        self.ended: deque[tuple[str, str]] = deque(maxlen=REMEMBERED_LEASES)

    @property
    def session(self) -> Session | None:
        """The session that runs, the first of them where several do, None where none does."""
        return next(iter(self.sessions.values()), None)

    @property
    def be(self) -> Link | None:
        """The BE that waits on the port or is in its session."""
        session = self.session
        return session.be if session is not None else self.waiting_be

    @property
    def service(self) -> str | None:
        """The service of the BE that is there, None where there is none."""
        be = self.be
        return None if be is None else be.hello.service

    @property
    def native(self) -> bool:
        """Whether the BE that is there came by SRT."""
        be = self.be
        return be is not None and be.transport is Transport.SRT

    @property
    def reserved(self) -> bool:
        """Whether a lease hides the port from everybody but its owner.

        A broker's port is under none; where the broker has ended, it hides the port from all.
        """
        if self.broker is not None:
            return not self.broker.running
        if self.lease is None or self.status is Status.BUSY:
            return False
        held_by_fe = self.lease.role is Role.FE
        return held_by_fe if self.status is Status.READY else not held_by_fe


class PortTable:
    """All data ports, and which of them are ready, longest first.

    :ivar get: the port of a number, None where there is none.
    :ivar brokers: in the order in which they are configured.
    """

    def __init__(
        self, ports: Iterable[tuple[int, Protocol]], brokers: Iterable[BrokerPorts] = ()
    ) -> None:
        """:param ports: number and protocol of each port."""
        self.brokers = tuple(map(Broker, brokers))
        of = {broker.port(side): broker for broker in self.brokers for side in Side}
        self._ports = {
            number: Port(number, protocol, broker=of.get(number))
            for number, protocol in sorted(ports)
        }
        self._by_protocol = {
            protocol: [p for p in self._ports.values() if p.protocol is protocol]
            for protocol in Protocol
        }
        self._ready: dict[Protocol, dict[int, Port]] = {protocol: {} for protocol in Protocol}
        self.get = self._ports.get

    def __getitem__(self, number: int) -> Port:
        return self._ports[number]

    def __iter__(self) -> Iterator[Port]:
        return iter(self._ports.values())

    def __len__(self) -> int:
        return len(self._ports)

    def add(self, number: int, protocol: Protocol) -> None:
        """One port more, empty.

        :raises StateError: where there is one of that number.
        """
        if number in self._ports:
            raise StateError(f"port {number} is there already")
        port = Port(number, protocol)
        self._ports[number] = port
        insort(self._by_protocol[protocol], port, key=lambda port: port.number)

    def remove(self, port: Port) -> None:
        """One port less.

        :raises StateError: where it is not empty.
        """
        if port.status is not Status.EMPTY:
            raise StateError(f"port {port.number} is {port.status.value} and cannot go")
        del self._ports[port.number]
        self._by_protocol[port.protocol].remove(port)

    def of(self, protocol: Protocol) -> list[Port]:
        """The ports of one protocol, in port order."""
        return self._by_protocol[protocol]

    def ready(self, protocol: Protocol) -> Iterable[Port]:
        """The ports of one protocol where a BE waits, the longest waiting first."""
        return self._ready[protocol].values()

    def change(self, port: Port, change: Change) -> None:
        """Take a port through one transition.

        :raises StateError: where :data:`TRANSITIONS` has no such row.
        """
        after = TRANSITIONS.get((port.status, change))
        if after is None:
            raise StateError(f"port {port.number} is {port.status.value}: {change.value}")
        if port.status is Status.READY:
            del self._ready[port.protocol][port.number]
        if after is Status.READY:
            self._ready[port.protocol][port.number] = port
        port.status = after

    def state(self, *, v11: bool, zmq: bool = True, srt: bool = True) -> PortState:
        """Counts and lists as ``port_state`` carries them.

        :param v11: whether to count the ports of named services, which only 1.1 clients know.
        :param zmq: whether to fill the lists of the zmq ports.
        :param srt: the same for the srt ports.
        """
        services: dict[str, list[int]] = {}
        brokers = tuple(broker.state() for broker in self.brokers if broker.running)
        zmq_ready, _, zmq_empty, zmq_busy = self._lists(Protocol.ZMQ, services)
        srt_ready, native, srt_empty, srt_busy = self._lists(Protocol.SRT, services)
        return PortState(
            zmq_total=len(self.of(Protocol.ZMQ)),
            srt_total=len(self.of(Protocol.SRT)),
            zmq_busy=zmq_busy,
            srt_busy=srt_busy,
            zmq_ready_ports=tuple(zmq_ready) if zmq else (),
            srt_ready_ports=tuple(srt_ready) if srt else (),
            zmq_empty_ports=tuple(zmq_empty) if zmq else (),
            srt_empty_ports=tuple(srt_empty) if srt else (),
            services={name: ServiceCount(*counts) for name, counts in sorted(services.items())}
            if v11
            else msgspec.UNSET,
            srt_native_ready_ports=(tuple(native) if srt else ()) if v11 else msgspec.UNSET,
            brokers=brokers if v11 and brokers and zmq else msgspec.UNSET,
        )

    def _lists(
        self, protocol: Protocol, services: dict[str, list[int]]
    ) -> tuple[list[int], list[int], list[int], int]:
        """Ready ones with a TCP BE and with an SRT BE, empty ones, and how many are busy."""
        ready: list[int] = []
        native: list[int] = []
        empty: list[int] = []
        busy = 0
        for port in self._by_protocol[protocol]:
            if port.status is Status.BUSY:
                busy += 1
            elif port.reserved or port.broker is not None:
                continue
            elif port.status is Status.EMPTY:
                empty.append(port.number)
            elif port.service:
                counts = services.setdefault(port.service, [0, 0, 0])
                counts[(protocol is Protocol.SRT) + port.native] += 1
            else:
                (native if port.native else ready).append(port.number)
        return ready, native, empty, busy
