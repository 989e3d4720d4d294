"""Raw ZMTP peers on made-up transports, with the real rules and data plane between them."""

from __future__ import annotations

import socket
from collections import deque
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from relayx.core import effects as fx
from relayx.core.hello import Hello
from relayx.core.messages import Protocol, Role
from relayx.core.pairing import Outcome
from relayx.data.connection import DataConnection
from relayx.data.plane import DataPlane
from relayx.data.settings import Settings
from relayx.zmtp import greeting_bytes
from tests.common import BE_AT, FE_AT, ZMQ, Room, notes
from tests.test_data_bed import End
from tests.test_zmtp_reader import command, ready_command

PORT = ZMQ[0]


def ready(kind: str) -> bytes:
    """READY of a socket of this kind."""
    return ready_command((b"Socket-Type", kind.encode()))


def opening(kind: str, mechanism: str = "NULL", minor: int = 1) -> bytes:
    """All that a socket with NULL says before its peer's READY."""
    return greeting_bytes(mechanism, minor=minor) + ready(kind)


def message(content: bytes, *, more: bool = False) -> bytes:
    """A frame of a message."""
    if len(content) > 255:
        return bytes([2 | more]) + len(content).to_bytes(8, "big") + content
    return bytes([int(more), len(content)]) + content


def credentials(username: str, password: str) -> bytes:
    """HELLO of PLAIN."""
    told = [bytes([len(text)]) + text.encode() for text in (username, password)]
    return command(b"\x05HELLO" + b"".join(told))


class Wire(End):
    """A transport whose peer's bytes wait while nobody reads them."""

    in_pipe = 0
    settled = 0

    def __init__(self) -> None:
        super().__init__()
        self.pending: deque[bytes] = deque()
        self.connection: DataConnection

    def begin(self) -> None:
        """It is read from now on."""

    def discard_unread(self) -> None:
        self.pending.clear()

    def is_dead(self, seconds: float) -> bool:
        return False

    def deliver(self) -> bool:
        """Hand on a segment, where there is one and somebody reads."""
        if self.paused or not self.pending or not self.connected:
            return False
        data = self.pending.popleft()
        self.received += len(data)
        self.connection.dataReceived(data)
        return True

    def drop(self) -> None:
        """The connection is closed, whoever did it."""
        if self.connected:
            self.connected = False
            self.connection.connectionLost(None)  # type: ignore[arg-type]


class Raws(SynchronousTestCase):
    """A gateway's data plane and rules; the peers say what the test has them say."""

    settings: dict[str, Any] = {}
    rules: dict[str, Any] = {}

    def setUp(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A new gateway."""
        self.room = Room(**self.rules)
        self.clock = MemoryReactorClock()
        self.wires: list[Wire] = []
        self.noted: list[fx.Note] = []
        self.states = 0
        self.outcomes: list[Outcome] = []
        self.replies: list[tuple[str, list[float]]] = []
        self.roles: list[Role] = []
        self._effects: deque[fx.Effect] = deque()
        self._busy = False
        self.plane = DataPlane(self.clock, Settings(**{"splice": False} | self.settings), self)
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        self.plane.listen(PORT, listener)
        self.addCleanup(self.plane.release)
        self.addCleanup(self.plane.close)

    def change(self, **settings: Any) -> None:
        """The configuration is another."""
        self.plane.change(Settings(**{"splice": False} | self.settings | settings))

    # steps

    def dial(self, at: str = FE_AT) -> Wire:
        """A connection that has said nothing."""
        wire = Wire()
        wire.connection = self.plane.build(PORT, at)
        wire.connection.makeConnection(wire)
        self.wires.append(wire)
        return wire

    def says(self, wire: Wire, data: bytes) -> None:
        """A peer says something; what can be read is."""
        wire.pending.append(data)
        self.turn()

    def turn(self) -> None:
        """Whatever can happen happens."""
        while any(wire.deliver() for wire in self.wires):
            pass

    def come(self, data: bytes, at: str = FE_AT) -> Wire:
        """A connection that says this first."""
        wire = self.dial(at)
        self.says(wire, data)
        return wire

    def pair(self, be: bytes, fe: bytes) -> tuple[Wire, Wire]:
        """Two that have said this; FE and BE."""
        waiting = self.come(be, BE_AT)
        return self.come(fe, FE_AT), waiting

    def passes(self, seconds: float) -> None:
        """Time goes by."""
        self.clock.advance(seconds)
        self.perform(self.room.later(seconds))

    def perform(self, effects: list[fx.Effect]) -> None:
        self._effects.extend(effects)
        if self._busy:
            return
        self._busy = True
        while self._effects:
            effect = self._effects.popleft()
            does: Any = {
                fx.Wait: self.plane.wait, fx.Refuse: self.plane.refuse,
                fx.CloseLink: self.plane.close_link, fx.Pair: self.plane.pair,
                fx.EndSession: self.plane.end_session, fx.Note: self.noted.append,
                fx.StateChanged: self._changed,
            }.get(type(effect))  # fmt: skip
            if does is not None:
                does(effect)
        self._busy = False

    def _changed(self, effect: fx.Effect) -> None:
        self.states += 1

    # data.events.Events

    def said_hello(self, link: int, port: int, address: str, hello: Hello) -> None:
        self.perform(self.room.switchboard.hello(self.room.now, link, port, address, hello))

    def takes_zmtp(self, port: int) -> bool:
        return self.room.board.ports[port].protocol is Protocol.ZMQ

    def role_by_state(self, port: int, address: str, kind: str, shown: bool) -> Role:
        rules = self.room.switchboard
        return rules.role_by_state(self.room.now, port, address, kind, shown=shown)

    def said_zmtp(
        self, link: int, port: int, address: str, credentials: tuple[str, str] | None, kind: str
    ) -> None:
        self.roles.append(self.role_by_state(port, address, kind, credentials is not None))
        rules = self.room.switchboard
        self.perform(rules.zmtp(self.room.now, link, port, address, credentials, kind))

    def hello_failed(self, port: int, address: str, text: str) -> None:
        self.failed = text

    def link_lost(self, link: int) -> None:
        self.perform(self.room.switchboard.link_lost(self.room.now, link))

    def session_draining(self, pairing_id: str) -> None:
        self.perform(self.room.drains(pairing_id))

    def session_over(self, pairing_id: str, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.perform(self.room.switchboard.session_over(self.room.now, pairing_id, outcome))

    def zmq_replied(self, pattern: str, seconds: list[float]) -> None:
        self.replies.append((pattern, seconds))

    # what is seen

    def faults(self) -> dict[str, int]:
        """The faults that there have been."""
        return {name: count for name, count in self.plane.direct.faults.items() if count}

    def ready_ports(self) -> tuple[int, ...]:
        return self.room.state().zmq_ready_ports

    def running(self) -> bool:
        """Whether a session runs, past its handshake."""
        return bool(list(self.plane.sessions.running()))

    def end_line(self) -> fx.Note:
        """What the log says of the session that ended."""
        (note,) = notes(self.noted, "session_end") or [None]
        assert note is not None
        return note
