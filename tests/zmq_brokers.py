"""Brokers on free ports of the loopback, and peers of pyzmq, for the tests of broker mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

try:
    import zmq

    from relayx.zmq import broker as zmq_broker
    from relayx.zmq.broker import Broker
    from relayx.zmq.brokers import Brokers
    from relayx.zmq.settings import BrokerSettings, Pattern, Role
except ImportError as error:
    if error.name != "zmq":
        raise
    NO_ZMQ: str | None = "pyzmq is not installed"
else:
    NO_ZMQ = None

HOST = "127.0.0.1"
LONGEST = 30_000
"""Milliseconds that a peer waits before its test fails."""


class Told:
    """What brokers tell."""

    def __init__(self) -> None:
        self.ended: list[Exception] = []
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def until(self, true: Callable[[], bool]) -> Deferred[None]:
        """Fires once `true` is, looked at with each change of the connections."""
        done: Deferred[None] = Deferred()
        self._waiting.append((true, done))
        self._look()
        return done

    def connectionsChanged(self, broker: Broker) -> None:
        self._look()

    def brokerEnded(self, broker: Broker, reason: Exception) -> None:
        self.ended.append(reason)

    def _look(self) -> None:
        for one in list(self._waiting):
            if one[0]():
                self._waiting.remove(one)
                one[1].callback(None)


class BrokersCase(TestCase):
    """Starts brokers, and ends them and all peers after the test."""

    skip = NO_ZMQ
    timeout = 120

    def setUp(self) -> None:
        self.patch(zmq_broker, "ANSWER_WITHIN", 30.0)  # a late answer gives old counts
        self.told = Told()
        self.context = zmq.Context()
        self.addCleanup(self.context.destroy, linger=0)

    async def start(self, *settings: BrokerSettings, **more: Any) -> Brokers:
        """Running ones."""
        brokers = Brokers(reactor, settings, self.told, **more)
        self.addCleanup(brokers.stop)
        brokers.listen()
        brokers.start()
        return brokers

    async def broker(
        self, pattern: str, *, check: Any = None, allow: Any = None, **of: Any
    ) -> Broker:
        """One on free ports."""
        settings = BrokerSettings(Pattern(pattern), 0, 0, HOST, **of)
        brokers = await self.start(settings, check=check, allow=allow)
        return brokers.brokers[0]

    def peer(self, broker: Broker, kind: int, **options: Any) -> Any:
        """A socket that connects to the side where its kind belongs, with these options."""
        socket = self.context.socket(kind)
        socket.linger = 0
        socket.rcvtimeo = socket.sndtimeo = LONGEST
        for name, value in options.items():
            setattr(socket, name, value)
        front = kind in (zmq.PUB, zmq.PUSH, zmq.REQ, zmq.DEALER)
        port = broker.port(Role.FRONTEND if front else Role.BACKEND)
        socket.connect(f"tcp://{HOST}:{port}")
        return socket

    def live(self, broker: Broker, frontend: int, backend: int) -> Deferred[None]:
        """Fires once as many are connected."""
        counts = broker.connections
        return self.told.until(
            lambda: (
                (counts[Role.FRONTEND].live, counts[Role.BACKEND].live) == (frontend, backend)
                and counts[Role.FRONTEND].accepted >= frontend
                and counts[Role.BACKEND].accepted >= backend
            )
        )

    async def alone(self, broker: Broker, kind: int) -> None:
        """Waits until one is at the frontend, and nobody at the backend is given messages.

        libzmq tells of an end before it does that; its threads have turned twice here.

        :param kind: of the one.
        """
        await self.live(broker, 1, 0)
        others = []
        for count in (2, 3):
            others.append(self.peer(broker, kind))
            await self.live(broker, count, 0)
            await broker.statistics()


in_thread = deferToThread
