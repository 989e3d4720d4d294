"""What libzmq's monitors tell of a broker's two sockets."""

from __future__ import annotations

import threading
from collections.abc import Callable

import zmq

from relayx.zmq import sockets
from relayx.zmq.attendant import Attendant, Socket
from relayx.zmq.counts import REASONS, Connections
from relayx.zmq.settings import Role


class Watch:
    """Counts connections and failed handshakes, in the attendant's thread.

    :param changed: called in that thread after each event.
    :ivar closed: set where a side listens no more.
    """

    def __init__(self, attendant: Attendant, changed: Callable[[], None]) -> None:
        self.connections = {role: Connections() for role in Role}
        self.failures = dict.fromkeys(REASONS, 0)
        self.closed = {role: threading.Event() for role in Role}
        self._attendant = attendant
        self._changed = changed

    def begin(self, socket: Socket, role: Role, endpoint: str) -> None:
        """Watch a socket until it is told to disable its monitor; in the socket's thread."""
        socket.monitor(endpoint, sockets.WATCHED)
        # A monitor waits for who reads it, and libzmq with it: so it is read from its start.
        reader = self._attendant.context.socket(zmq.PAIR)
        reader.rcvhwm = 0
        reader.connect(endpoint)
        self._attendant.call(
            self._attendant.adopt, reader, lambda frames: self._received(role, reader, frames)
        )

    def _received(self, role: Role, reader: Socket, frames: list[zmq.Frame]) -> None:
        counts = self.connections[role]
        event = sockets.event_of(frames)
        if event == zmq.EVENT_ACCEPTED:
            counts.live += 1
        elif event == zmq.EVENT_DISCONNECTED:
            counts.live -= 1
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            counts.accepted += 1
        elif event in sockets.FAILURES:
            self.failures[sockets.FAILURES[event]] += 1
        else:
            self.closed[role].set()
            if event == zmq.EVENT_MONITOR_STOPPED:
                counts.live = 0
                self._attendant.release(reader)
        self._changed()
