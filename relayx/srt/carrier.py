"""An SRT connection as one side of a session in the reactor: where the other side is TCP.

Bytes of a TCP peer become messages of at most ``payloadsize`` bytes, and a message's bytes go to a
TCP peer as they are. Sessions with a bandwidth limit go the same way. Each connection has two
halves: a :class:`Wire` in the engine's thread and a :class:`SrtCarrier` in the reactor's.

SRT ends both directions at once. What it had sent is delivered, then its end is passed on as an end
of stream; what the other side still sends is thrown away. The other side's end of stream closes the
SRT connection, behind what was written and after the peer has had the time to play it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from twisted.logger import Logger

from relayx.net.proxy import Address
from relayx.net.tcp import Failure
from relayx.srt.dropping import Dropped, Dropping
from relayx.srt.engine import MEASURE_EVERY, SETTLE, Engine
from relayx.srt.pump import Event, What, is_done
from relayx.srt.session import DELIVERY_LIMIT, play_time
from relayx.srt.statistics import Gauge, LinkState

_log = Logger(namespace="relayx.srt")

HIGH_WATER = 65536
LOW_WATER = 16384
"""Bytes that may wait for libsrt: above, whoever sends them is paused; below, it goes on."""


class Ends(Protocol):
    """Who is told what happens to a carrier; a data connection is one."""

    def dataReceived(self, data: bytes) -> None:
        """A message has come."""

    def connectionLost(self, reason: object) -> None:
        """The connection is closed, and all that it sent was handed on."""


class Wire:
    """The half in the engine's thread."""

    def __init__(self, sock: int, carrier: SrtCarrier, latency: int, gauge: Gauge) -> None:
        self.sock = sock
        self.gauge = gauge
        self.dropping = Dropping(gauge.heard, gauge.state.send_dropped)
        self.carrier = carrier
        self.out: deque[bytes] = deque()
        self.latency = latency / 1000
        self.skip_until = 0.0
        self.settled_at = 0.0  # 0.0: the peer may be sent to
        self.broken_until: float | None = None
        self.closing = False
        self.settled: float | None = None
        self.close_by = 0.0
        self.oversize = 0


class Wires:
    """All connections that are read in the reactor. For the engine's thread.

    :ivar measured: called in the reactor's thread when the state of their links is new.
    """

    def __init__(self, engine: Engine) -> None:
        self.measured: Callable[[], None] = lambda: None
        self._engine = engine
        self._measured = 0.0
        self._wires: dict[int, Wire] = {}
        engine.parties.append(self)

    def begin(self, sock: int, carrier: SrtCarrier, now: float, came: float) -> None:
        """Read a socket that has waited, and tell what it sends and has sent.

        :param now: when the session began, by time.monotonic().
        :param came: when the peer came.
        """
        engine = self._engine
        if not engine.has(sock):
            engine.tell(carrier.gone)
            return
        waiting = engine.take(sock, self)
        gauge = Gauge(time.monotonic(), engine.library.statistics(sock))
        wire = self._wires[sock] = Wire(sock, carrier, engine.latency(sock), gauge)
        engine.tell(carrier.measured, gauge.state, Dropped())
        wire.settled_at = came + SETTLE
        engine.read_by(sock, lambda event: self._happened(wire, event))
        if waiting is not None:
            wire.skip_until = waiting.clean_at(now)
        if waiting is not None and waiting.early:
            engine.tell(carrier.came, list(waiting.early))
        if waiting is not None and waiting.ended:
            wire.latency = waiting.latency / 1000
            self._end(wire)
        else:
            engine.pump.read(sock, True)

    def read(self, sock: int, reads: bool) -> None:
        """Read on, or no more for now; its end is still seen."""
        wire = self._wires.get(sock)
        if wire is not None and wire.broken_until is None:
            self._engine.pump.read(sock, reads)

    def send(self, sock: int, messages: list[bytes]) -> None:
        """Send behind what waits."""
        wire = self._wires.get(sock)
        if wire is not None:
            wire.out.extend(messages)
            self._flush(wire)

    def finish(self, sock: int) -> None:
        """Close behind what was sent, once the peer has had the time to play it."""
        wire = self._wires.get(sock)
        if wire is not None:
            wire.closing = True
            wire.close_by = time.monotonic() + DELIVERY_LIMIT

    def close(self, sock: int) -> None:
        """Close at once."""
        wire = self._wires.pop(sock, None)
        if wire is not None:
            self._measure(wire, time.monotonic())
            self._engine.close(sock)
            self._engine.tell(wire.carrier.gone)

    def release(self, sock: int) -> bool:
        """Tell the reactor no more of a socket, which goes on; whether it is still there."""
        wire = self._wires.pop(sock, None)
        if wire is None:
            return False
        self._engine.read_by(sock, None)
        if wire.broken_until is not None:
            self._engine.close(sock)
            return False
        return True

    def ended(self, sock: int) -> None:
        """See :class:`~relayx.srt.engine.Party`."""

    def count(self, now: float) -> None:
        """See :class:`~relayx.srt.engine.Party`."""
        if not self._wires or now - self._measured < MEASURE_EVERY:
            return
        self._measured = now
        for wire in self._wires.values():
            self._measure(wire, now)
        self._engine.tell(self.measured)

    def _measure(self, wire: Wire, now: float) -> None:
        stats = self._engine.library.statistics(wire.sock)
        if stats is not None:
            wire.gauge.measure(now, stats)
            state = wire.gauge.state
            wire.dropping.measured(now, state.send_dropped)
            self._engine.tell(
                wire.carrier.measured, state, wire.dropping.dropped(now, wire.oversize)
            )

    def look(self, now: float) -> bool:
        """See :class:`~relayx.srt.engine.Party`."""
        busy = False
        for wire in list(self._wires.values()):
            if wire.broken_until is not None:
                if not self._read(wire) and is_done(
                    self._engine.library, wire.sock, wire.broken_until, now
                ):
                    self.close(wire.sock)
                    continue
            elif wire.closing and self._is_played(wire, now):
                self.close(wire.sock)
                continue
            if wire.settled_at and wire.out:
                self._flush(wire)
            busy = (
                busy
                or bool(wire.settled_at and wire.out)
                or wire.closing
                or wire.broken_until is not None
            )
        return busy

    def _is_played(self, wire: Wire, now: float) -> bool:
        library = self._engine.library
        if now >= wire.close_by:
            return True
        if wire.out or library.unsent(wire.sock):
            wire.settled = None
            return False
        if wire.settled is None:
            wire.settled = now
        return now - wire.settled >= play_time(library, wire.sock)

    def _happened(self, wire: Wire, event: Event) -> None:
        if event.what is What.ROOM:
            self._flush(wire)
        else:
            self._read(wire)

    def _read(self, wire: Wire) -> bool:
        """Hand on what is due; whether there may be more of it."""
        messages, ended = self._engine.receive(wire.sock, wire.skip_until)
        if messages:
            self._engine.tell(wire.carrier.came, messages)
        if ended:
            self._end(wire)
        return bool(messages) and not ended

    def _end(self, wire: Wire) -> None:
        """It has ended; what has come already is due up to a latency later."""
        if wire.broken_until is None:
            wire.broken_until = time.monotonic() + wire.latency
            self._engine.pump.remove(wire.sock)

    def _flush(self, wire: Wire) -> None:
        if time.monotonic() < wire.settled_at:
            return
        wire.settled_at = 0.0
        library, sent = self._engine.library, 0
        while wire.out:
            message = wire.out[0]
            if library.lib.srt_sendmsg(wire.sock, message, len(message), -1, 1) < 0:
                code = library.lib.srt_getlasterror(library.ffi.NULL)
                if not self._engine.is_connected(wire.sock):
                    sent += sum(map(len, wire.out))
                    wire.out.clear()
                    break
                if code // 1000 == 6:  # no room
                    break
                if not wire.oversize:
                    text = f"a message of {len(message)} bytes is longer than an SRT packet there"
                    _log.warn("{text}", text=f"{wire.carrier.route[0].host}: {text}; dropped")
                wire.oversize += 1
            sent += len(wire.out.popleft())
        self._engine.pump.room(wire.sock, bool(wire.out))
        if sent:
            self._engine.tell(wire.carrier.went, sent)


class SrtCarrier:
    """The half in the reactor's thread: a :class:`relayx.data.carrier.Carrier`.

    :param message: the most bytes of one message.
    :ivar link: the state of the connection, measured once a second.
    :ivar dropped: what libsrt has given up since the session began, as too late for the peer.
    :ivar measured_by: told both when they are new.
    :ivar ended_here: whether the gateway has ended the connection, and not the peer.
    """

    whole = True
    failure: Failure | None = None
    in_pipe = 0
    settled = 0

    def __init__(
        self, engine: Engine, wires: Wires, sock: int, ends: Ends, route: tuple[Address, Address],
        message: int,
    ) -> None:  # fmt: skip
        self._engine = engine
        self._wires = wires
        self._sock = sock
        self._ends = ends
        self._message = message
        self._producer: Any = None
        self._pushed_back = False
        self._waiting = 0
        self._finishing = False
        self.route = route
        self.connected = True
        self.paused = False
        self.read_ended = False
        self.ended_here = False
        self.received = 0
        self.sent = 0
        self.link = LinkState()
        self.dropped = Dropped()
        self.measured_by: Callable[[LinkState, Dropped], None] = lambda state, dropped: None

    # from the engine

    def measured(self, state: LinkState, dropped: Dropped) -> None:
        """The state of the connection is new."""
        self.link, self.dropped = state, dropped
        if self.connected:
            self.measured_by(state, dropped)

    def came(self, messages: list[bytes]) -> None:
        """Messages have come."""
        for message in messages:
            self.received += len(message)
            self._ends.dataReceived(message)

    def went(self, size: int) -> None:
        """libsrt has taken bytes."""
        self._waiting -= size
        if self._pushed_back and self._waiting <= LOW_WATER:
            self._pushed_back = False
            if self._producer is not None:
                self._producer.resumeProducing()

    def gone(self) -> None:
        """The connection is closed, and all that came was handed on."""
        if self.connected:
            self.connected = False
            self.read_ended = True
            self._waiting = 0
            self._ends.connectionLost(None)

    # Carrier

    @property
    def unsent(self) -> int:
        """See :class:`relayx.data.carrier.Carrier`."""
        return self._waiting

    @property
    def delivered(self) -> int:
        """See :class:`relayx.data.carrier.Carrier`."""
        return max(0, self.sent - self._waiting - self._in_flight())

    @property
    def all_delivered(self) -> bool:
        """See :class:`relayx.data.carrier.Carrier`."""
        if not self.connected:
            return True
        return not (self._finishing or self._waiting or self._in_flight())

    def _in_flight(self) -> int:
        return self._engine.library.unsent(self._sock) if self.connected else 0

    def is_dead(self, seconds: float) -> bool:
        """See :class:`relayx.data.carrier.Carrier`; libsrt sees to that by itself."""
        return False

    def has_unread(self) -> bool:
        """See :class:`relayx.data.carrier.Carrier`."""
        return False

    def discard_unread(self) -> None:
        """See :class:`relayx.data.carrier.Carrier`."""

    def limit_reads(self, size: int) -> None:
        """See :class:`relayx.data.carrier.Carrier`; a message is small."""

    def start_watching(self) -> None:
        """See :class:`relayx.data.carrier.Carrier`; its end is always seen."""

    def fail(self, failure: Failure) -> None:
        """See :class:`relayx.data.carrier.Carrier`."""
        self.failure = failure
        self.abortConnection()

    def write(self, data: bytes) -> None:
        """See :class:`relayx.data.carrier.Carrier`; in messages."""
        if not self.connected or self._finishing or not data:
            return
        self.sent += len(data)
        self._waiting += len(data)
        size = self._message
        messages = [bytes(data[at : at + size]) for at in range(0, len(data), size)]
        self._engine.order(self._wires.send, self._sock, messages)
        if self._waiting > HIGH_WATER and self._producer is not None and not self._pushed_back:
            self._pushed_back = True
            self._producer.pauseProducing()

    def pauseProducing(self) -> None:
        """See :class:`relayx.data.carrier.Carrier`."""
        if not self.paused:
            self.paused = True
            self._engine.order(self._wires.read, self._sock, False)

    def resumeProducing(self) -> None:
        """See :class:`relayx.data.carrier.Carrier`."""
        if self.paused:
            self.paused = False
            self._engine.order(self._wires.read, self._sock, True)

    def stopProducing(self) -> None:
        """See :class:`relayx.data.carrier.Carrier`."""
        self.loseConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See :class:`relayx.data.carrier.Carrier`."""
        self._producer = producer
        if self._waiting > HIGH_WATER:
            self._pushed_back = True
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """See :class:`relayx.data.carrier.Carrier`."""
        self._producer = None
        self._pushed_back = False

    def loseWriteConnection(self) -> None:
        """See :class:`relayx.data.carrier.Carrier`; of SRT, this is the end of both directions."""
        if self.connected and not self._finishing:
            self._finishing = self.ended_here = True
            self._engine.order(self._wires.finish, self._sock)

    def loseConnection(self) -> None:
        """See :class:`relayx.data.carrier.Carrier`."""
        self.loseWriteConnection()

    def abortConnection(self) -> None:
        """See :class:`relayx.data.carrier.Carrier`."""
        if self.connected:
            self.ended_here = True
            self._engine.order(self._wires.close, self._sock)

    def close_ended(self) -> None:
        """See :class:`relayx.data.carrier.Carrier`."""
        self.loseWriteConnection()
