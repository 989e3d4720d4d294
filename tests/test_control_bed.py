"""What the tests of the control plane's bytes share, and that it works."""

from __future__ import annotations

import json
import socket
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from relayx.control.factory import ControlFactory
from relayx.control.protocol import ControlProtocol, Settings
from relayx.core.errors import PeerError
from relayx.core.messages import Auth, Message, Register
from tests.common import CountingNames


class Wire(StringTransport):
    """StringTransport with what a TCP transport has beyond it."""

    half_closed = False
    aborted = False

    def __init__(self, handle: socket.socket) -> None:
        super().__init__()
        self.handle = handle

    def getHandle(self) -> socket.socket:
        return self.handle

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()

    def fill(self) -> None:
        """The peer does not read: the transport pauses its producer."""
        self.producer.pauseProducing()

    def empty(self) -> None:
        """The peer has read everything."""
        self.producer.resumeProducing()

    def said(self) -> list[dict[str, Any]]:
        """The messages written since the last look."""
        lines = self.value().splitlines()
        self.clear()
        return [json.loads(line) for line in lines]


class Heard:
    """Writes down what the control plane tells; registers whoever asks, where told to."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.factory: ControlFactory | None = None

    def asked_to_register(
        self, conn: int, address: str, asked: Register, trace_id: str, identity: str | None
    ) -> None:
        self.events.append(("register", conn, address, asked, trace_id))
        if self.factory is not None:
            connection = self.factory.get(conn)
            connection.registered = True
            connection.send(Auth(status="ok"), trace_id)

    def failed_to_register(self, conn: int, address: str, error: PeerError) -> None:
        self.events.append(("failed", conn, address, error.code, error.trace_id))

    def distrusted(self, conn: int, address: str, error: PeerError) -> None:
        self.events.append(("distrusted", conn, address, error.code, error.trace_id))

    def requested(self, conn: int, message: Message, msg_id: str, trace_id: str) -> None:
        self.events.append(("requested", conn, message, msg_id, trace_id))

    def control_lost(self, conn: int) -> None:
        self.events.append(("lost", conn))

    def dropped(self, conn: int, address: str, why: str) -> None:
        self.events.append(("dropped", conn, address, why))

    def take(self) -> list[tuple[Any, ...]]:
        taken, self.events = self.events, []
        return taken


class ControlBed:
    """A factory on a clock, and connections on string transports."""

    def __init__(
        self, case: SynchronousTestCase, *, clock: Clock | None = None, **settings: Any
    ) -> None:
        self._case = case
        self.clock = clock or Clock()
        self.clock.advance(1000.0)
        self.names = CountingNames()
        self.heard = Heard()
        self.factory = ControlFactory(self.clock, Settings(**settings), self.heard, self.names)

    def connect(self, host: str = "192.0.2.1") -> tuple[ControlProtocol, Wire]:
        handle = socket.socket()
        self._case.addCleanup(handle.close)
        protocol = self.factory.buildProtocol(IPv4Address("TCP", host, 40000))
        wire = Wire(handle)
        protocol.makeConnection(wire)
        return protocol, wire

    def registered(self) -> tuple[ControlProtocol, Wire]:
        """A connection that has registered."""
        self.heard.factory = self.factory
        protocol, wire = self.connect()
        protocol.dataReceived(b'{"type":"register","payload":{"role":"FE"}}')
        wire.clear()
        self.heard.take()
        return protocol, wire


class Bed(SynchronousTestCase):
    """The bed itself."""

    def test_registers(self) -> None:
        bed = ControlBed(self)
        protocol, wire = bed.registered()
        self.assertTrue(protocol.registered)
        self.assertEqual(wire.said(), [])
        protocol.send(Auth(status="ok"), "t")
        self.assertEqual(
            wire.said(),
            [{"type": "auth", "payload": {"status": "ok"}, "msg_id": "msg-2-1000000",
              "ts_ms": 1000000, "trace_id": "t"}],
        )  # fmt: skip
