"""Many clients, and ports that change all the time: one thread with one epoll set.

Of what the gateway sends each piece is looked at as little as the tests need, so that the crowd
is seldom what is waited for.
"""

from __future__ import annotations

import json
import re
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from tests.guide_peer import hello_line, message
from tests.live import SECRET, Peers

_STATE = b'{"type":"port_state"'
_ID = b'"msg_id":"'
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
CHANGES = 3
"""Of a port in one session: a BE waits, it is paired, it is gone."""


class Wire:
    """One connection; it says something as it comes, and is told each line."""

    def __init__(self, crowd: Crowd, port: int, first: bytes) -> None:
        self.crowd = crowd
        self.held = b""
        self.socket = socket.create_connection((crowd.peers.host, port))
        self.socket.send(first)
        crowd.add(self)

    def ready(self) -> None:
        """Something has come."""
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionResetError:
            data = b""
        *lines, self.held = (self.held + data).split(b"\n")
        for line in lines:
            self.line(line)
        if not data:
            self.close()
            self.ended()

    def line(self, line: bytes) -> None:
        """A line has come, here without its newline."""

    def ended(self) -> None:
        """The connection is over."""

    def close(self) -> None:
        """Close it."""
        self.crowd.forget(self)
        self.socket.close()


class Client(Wire):
    """A registered client; `states` are the messages' ids of its ``port_state``."""

    def __init__(self, crowd: Crowd, role: str, **asked: str) -> None:
        told = message("register", {"role": role, "secret": SECRET, **asked})
        super().__init__(crowd, crowd.peers.control_port, told + b"\n")
        self.states: list[bytes] = []

    def line(self, line: bytes) -> None:
        """Note a state's id; each message is parsed once however many get it."""
        if line.startswith(_STATE):
            start = line.rindex(_ID) + len(_ID)
            msg_id = line[start : line.index(b'"', start)]
            if msg_id not in self.crowd.states:
                self.crowd.states[msg_id] = json.loads(line)["payload"]
            self.states.append(msg_id)

    def ended(self) -> None:
        """Clients are there to stay."""
        self.crowd.lost += 1

    @property
    def newest(self) -> dict[str, Any]:
        """The state that it was told last."""
        return self.crowd.states[self.states[-1]] if self.states else {}


class Visitor(Client):
    """Leaves as soon as it is registered and knows the ports' state, and has another come."""

    def ready(self) -> None:
        """The next one, unless it is enough."""
        super().ready()
        if self.states and self.socket.fileno() >= 0:
            self.close()
            self.crowd.visits += 1
            if not self.crowd.enough_visits():
                Visitor(self.crowd, "FE")


class Scraper(Wire):
    """Reads ``/metrics`` on one connection, again as soon as it has been answered.

    :ivar took: when each was asked for and when its answer was there (``time.monotonic()``).
    """

    def __init__(self, crowd: Crowd, port: int) -> None:
        self._asks = f"GET /metrics HTTP/1.1\r\nHost: {crowd.peers.host}:{port}\r\n\r\n".encode()
        self._since = time.monotonic()
        self.took: list[tuple[float, float]] = []
        self.last = b""
        super().__init__(crowd, port, self._asks)

    def ready(self) -> None:
        """Ask again once a whole answer is there."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise AssertionError(f"the scraper's connection is closed after {self.held!r}")
        self.held += data
        head, _, body = self.held.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if length is None or len(body) < int(length[1]):
            return
        if not head.startswith(b"HTTP/1.1 200 "):
            raise AssertionError(head)
        now = time.monotonic()
        self.took.append((self._since, now))
        self.held, self.last, self._since = b"", body, now
        self.socket.send(self._asks)


class BackEnd(Wire):
    """Waits on a port, ends its session as soon as there is one, and has another come."""

    def __init__(self, crowd: Crowd, port: int) -> None:
        super().__init__(crowd, port, hello_line("BE", ack=True))
        self.port = port
        self.paired = False

    def line(self, line: bytes) -> None:
        """An answer; a refusal means that the session before is not quite over."""
        if line.startswith(b"RLX1OK"):
            FrontEnd(self.crowd, self.port)
        elif line.startswith(b"RLX1PAIRED"):
            self.paired = True
            self.socket.shutdown(socket.SHUT_WR)

    def ended(self) -> None:
        """The next one, unless it is enough."""
        self.crowd.sessions += self.paired
        if self.crowd.sessions < self.crowd.enough:
            BackEnd(self.crowd, self.port)


class FrontEnd(Wire):
    """Enters a port and stays until the BE ends."""

    def __init__(self, crowd: Crowd, port: int) -> None:
        super().__init__(crowd, port, hello_line("FE", ack=True))


class Crowd:
    """All connections of it.

    :ivar states: every ``port_state`` that somebody got, by its id.
    :ivar lost: how many clients have lost their control connection.
    :ivar sessions: how many sessions were had.
    :ivar visits: how many visitors have come and gone again.
    :ivar enough_visits: tells when no more are to come.
    """

    def __init__(self, peers: Peers) -> None:
        self.peers = peers
        self.clients: list[Client] = []
        self.states: dict[bytes, dict[str, Any]] = {}
        self.lost = self.sessions = self.enough = 0
        self.visits = 0
        self.enough_visits: Callable[[], bool] = lambda: True
        self._epoll = select.epoll()
        self._wires: dict[int, Wire] = {}

    def add(self, wire: Wire) -> None:
        """Have a wire told what comes."""
        self._wires[wire.socket.fileno()] = wire
        self._epoll.register(wire.socket, select.EPOLLIN)

    def forget(self, wire: Wire) -> None:
        """A wire is closed next."""
        del self._wires[wire.socket.fileno()]

    def register(self, count: int, role: str, **asked: str) -> list[Client]:
        """Have that many clients more, all at once; done when they know the ports' state."""
        came = [Client(self, role, **asked) for _ in range(count)]
        self.clients += came
        self._until(lambda: self.lost or all(client.states for client in came))
        return came

    def churn(self, sessions: int) -> None:
        """Have that many sessions, on all ports; done when every client knows that they ended."""
        self.enough = self.sessions + sessions
        for port in self.peers.zmq + self.peers.srt:
            BackEnd(self, port)
        self._until(lambda: self.lost or len(self._wires) == len(self.clients))
        empty = {"zmq_empty_ports": self.peers.zmq, "srt_empty_ports": self.peers.srt}
        self._until(
            lambda: (
                self.lost or all(client.newest.items() >= empty.items() for client in self.clients)
            )
        )

    def flap(self, at_once: int, enough: Callable[[], bool], within: float) -> None:
        """Have clients come and go, so many of them at once; done when it is enough."""
        self.enough_visits = enough
        for _ in range(at_once):
            Visitor(self, "FE")
        self._until(lambda: self.lost or enough(), within)

    def _until(self, done: Callable[[], Any], within: float = 30.0) -> None:
        deadline = time.monotonic() + within
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"the crowd waits; {self.sessions} sessions so far")
            for descriptor, _ in self._epoll.poll(left):
                wire = self._wires.get(descriptor)
                if wire is not None:
                    wire.ready()

    def close(self) -> None:
        """Close all connections."""
        for wire in list(self._wires.values()):
            wire.close()
        self._epoll.close()
