"""What libzmq's monitors tell of a broker's two sockets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import zmq

from relayx.zmq import sockets
from relayx.zmq.attendant import Attendant, Socket
from relayx.zmq.counts import AUTH, FULL, REASONS, UNFIT, Connections
from relayx.zmq.handshakes import Handshakes
from relayx.zmq.settings import Role


class _Side:
    """What is known of one socket.

    :ivar reader: of its monitor.
    :ivar open: descriptors of its connections, but for the refused ones.
    :ivar refused: of those that are shut down, and not closed by libzmq yet.
    :ivar failed: the reason of the handshake whose connection is the next to be closed.
    """

    def __init__(self) -> None:
        self.reader: Socket | None = None
        self.open: set[int] = set()
        self.refused: set[int] = set()
        self.handshakes = Handshakes()
        self.failed = ""


class Watch:
    """Counts connections and failed handshakes, and bounds how many there are.

    libzmq has no limit of connections, and to unbind ends those that are there. So whoever
    comes beyond is accepted by libzmq, and shut down here before its handshake is through.
    Everything but :meth:`begin` is called in the attendant's thread.

    :param most: connections of each side.
    :param changed: called in that thread after each event.
    :ivar closed: set where a side listens no more.
    """

    def __init__(self, attendant: Attendant, most: int, changed: Callable[[], None]) -> None:
        self.connections = {role: Connections() for role in Role}
        self.failures = dict.fromkeys(REASONS, 0)
        self.closed = {role: threading.Event() for role in Role}
        self._attendant = attendant
        self._most = most
        self._changed = changed
        self._sides = {role: _Side() for role in Role}

    @property
    def unsettled(self) -> bool:
        """Whether :meth:`settle` may find something; from any thread."""
        return any(side.handshakes.unsettled for side in self._sides.values())

    def begin(self, socket: Socket, role: Role, endpoint: str) -> None:
        """Watch a socket until it is told to disable its monitor; in the socket's thread."""
        socket.monitor(endpoint, sockets.WATCHED)
        # A monitor waits for who reads it, and libzmq with it: so it is read from its start.
        reader = self._attendant.context.socket(zmq.PAIR)
        reader.rcvhwm = 0
        reader.connect(endpoint)
        self._sides[role].reader = reader
        self._attendant.call(
            self._attendant.adopt, reader, lambda frames: self._received(role, frames)
        )

    def catch_up(self) -> None:
        """Hear all that has happened, before a peer is let in that came with it."""
        for side in self._sides.values():
            if side.reader is not None:
                self._attendant.receive_all(side.reader)

    def settle(self) -> None:
        """Count handshakes whose failure can only be told by now."""
        for side in self._sides.values():
            side.handshakes.settle(time.monotonic())
        if self._count_unfit():
            self._changed()

    def _received(self, role: Role, frames: list[zmq.Frame]) -> None:
        side, now = self._sides[role], time.monotonic()
        event = sockets.event_of(frames)
        if side.failed and event.kind != zmq.EVENT_DISCONNECTED:
            self._count_failed(side)
        if event.kind == zmq.EVENT_ACCEPTED:
            self._accepted(side, event.value, sockets.port_of(event.endpoint), now)
        elif event.kind == zmq.EVENT_DISCONNECTED:
            self._disconnected(side, event.value, now)
        elif event.kind == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self.connections[role].accepted += 1
            side.handshakes.outcome(now)
        elif event.kind in sockets.FAILURES:
            side.failed = sockets.FAILURES[event.kind]
            if side.failed == AUTH:  # its connection lives on for a while
                self._count_failed(side)
                side.handshakes.outcome(now)
        else:
            self.closed[role].set()
            if event.kind == zmq.EVENT_MONITOR_STOPPED:
                side.open.clear()
                assert side.reader is not None
                self._attendant.release(side.reader)
                side.reader = None
        self.connections[role].live = len(side.open)
        self._count_unfit()
        self._changed()

    def _accepted(self, side: _Side, descriptor: int, port: int, now: float) -> None:
        for known in (side.open, side.refused):
            known.discard(descriptor)
        side.handshakes.accepted(descriptor, now)
        if len(side.open) >= self._most and self._attendant.hangup.end(descriptor, port):
            side.refused.add(descriptor)
            self.failures[FULL] += 1
        else:
            side.open.add(descriptor)

    def _disconnected(self, side: _Side, descriptor: int, now: float) -> None:
        refused = descriptor in side.refused
        told = refused or bool(side.failed)
        if refused:
            side.failed = ""  # that was us
        elif side.failed:
            self._count_failed(side)
        side.open.discard(descriptor)
        side.refused.discard(descriptor)
        side.handshakes.ended(descriptor, told, now)

    def _count_failed(self, side: _Side) -> None:
        self.failures[side.failed] += 1
        side.failed = ""

    def _count_unfit(self) -> bool:
        """Whether there are more than before."""
        before = self.failures[UNFIT]
        self.failures[UNFIT] = sum(side.handshakes.unfit for side in self._sides.values())
        return self.failures[UNFIT] != before
