"""An SRT connection in the hands of the data plane, for a session with a TCP connection."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from relayx.core.hello import Answer
from relayx.net.proxy import Address
from relayx.srt.carrier import SrtCarrier, Wires
from relayx.srt.connection import SrtConnection
from relayx.srt.engine import Engine


class LentConnection:
    """What the data plane needs of a connection in a session (``relayx.data.connection``).

    :param lost: told once when the connection has ended, in a session or out of it.
    :param kept: told when the session is over and the BE's connection waits again.
    """

    held = b""
    greeted = False  # with ZMTP, which no SRT peer speaks

    def __init__(
        self,
        connection: SrtConnection,
        engine: Engine,
        wires: Wires,
        message: int,
        lost: Callable[[LentConnection], None],
        kept: Callable[[SrtConnection], None],
    ) -> None:
        self.connection = connection
        self.link = connection.link
        self.port = connection.port
        self.address = connection.address
        self.hello = connection.hello
        self.waiting = True
        self.session: Any = None
        self._chosen_at = time.monotonic()
        self.transport = SrtCarrier(
            engine, wires, connection.sock, self, connection.route, message
        )  # fmt: skip
        self._engine = engine
        self._wires = wires
        self._lost = lost
        self._kept = kept

    @property
    def route(self) -> tuple[Address, Address]:
        """Where the peer is and where it connected to."""
        return self.connection.route

    def chosen(self) -> None:
        """What a kept BE sent before now is none of the session's; nobody is told of it yet."""
        self._chosen_at = time.monotonic()

    def pair(self, session: Any) -> bytes:
        """Become one side of a session; what came early follows as any other message."""
        self.waiting = False
        self.session = session
        self._engine.order(
            self._wires.begin, self.connection.sock, self.transport, self._chosen_at,
            self.connection.came,
        )  # fmt: skip
        return b""

    def keep(self) -> None:
        """The session is over and this BE waits for the next one."""
        self.session = None
        self._kept(self.connection)

    def answer(self, answer: Answer) -> None:
        """Nothing is said on SRT but what the other side says."""

    def close(self) -> None:
        """Close behind what was sent."""
        self.transport.loseConnection()

    # Ends, see carrier

    def dataReceived(self, data: bytes) -> None:
        """A message has come."""
        if self.session is not None:
            self.session.pump.received(self.transport, data)

    def connectionLost(self, reason: object) -> None:
        """The connection has ended."""
        if self.session is not None:
            self.session.lost(self.transport)
        self._lost(self)
