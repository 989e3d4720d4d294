"""Limits of the admin HTTP in time and number, by a clock that is turned by hand."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relayx.admin.answers import SCRAPES
from relayx.admin.api import AdminSite
from relayx.admin.gateway import Metrics, Settings
from relayx.admin.server import (
    MOST_CONNECTIONS,
    MOST_WAITING_PER_SOURCE,
    PATIENCE,
    AdminFactory,
    AdminRequest,
)

ASKED = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Limits(SynchronousTestCase):
    """Connections that do not get on."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked: list[AdminRequest] = []
        self.factory = AdminFactory(self.clock, self.asked.append)

    def connect(self, host: str = "10.0.0.1") -> tuple[Any, StringTransport]:
        """A connection of a source."""
        address = IPv4Address("TCP", host, 1024)
        channel = self.factory.buildProtocol(address)
        transport = StringTransport(peerAddress=address)
        if channel is not None:
            channel.makeConnection(transport)
        return channel, transport

    def test_slowly(self) -> None:
        """A byte now and then gives no more time; nor does silence."""
        for data in (ASKED, b""):
            channel, transport = self.connect()
            for byte in data[: int(PATIENCE) - 1]:
                self.clock.advance(1)
                channel.dataReceived(bytes([byte]))
                self.assertFalse(transport.disconnecting)
            self.clock.advance(PATIENCE)
            self.assertTrue(transport.disconnecting)
        self.assertEqual(self.asked, [])

    def test_waiting_for_an_answer(self) -> None:
        """The gateway's own time is not the client's; after the answer it begins anew."""
        channel, transport = self.connect()
        channel.dataReceived(ASKED)
        self.clock.advance(100 * PATIENCE)
        self.assertFalse(transport.disconnecting)
        self.asked[0].finish()
        self.clock.advance(PATIENCE - 1)
        self.assertFalse(transport.disconnecting)
        channel.dataReceived(ASKED)
        self.assertEqual(len(self.asked), 2)
        self.asked[1].finish()
        self.clock.advance(PATIENCE)
        self.assertTrue(transport.disconnecting)

    def test_many_on_one_connection(self) -> None:
        """Each request that came before the answer to the one before has a turn of its own."""
        channel, _ = self.connect()
        channel.dataReceived(3 * ASKED)
        for number in (1, 2):
            self.assertEqual(len(self.asked), number)
            self.asked[-1].finish()
            self.assertEqual(len(self.asked), number)
            self.clock.advance(0)
        self.asked[-1].finish()
        channel.dataReceived(ASKED)
        channel.connectionLost(Failure(ConnectionDone()))
        self.clock.advance(0)
        self.assertEqual(len(self.asked), 3)

    def test_scrapes(self) -> None:
        """So many a second are made anew; the others get the last one."""
        made: list[bytes] = []

        def render() -> bytes:
            made.append(b"scrape %d\n" % len(made))
            return made[-1]

        nobody: Any = None  # nothing else is asked for
        settings = Settings(token=lambda: "", hosts=lambda: ())
        site = AdminSite(self.clock, nobody, settings, Metrics("text/plain", render))
        self.factory = site.factory
        channel, transport = self.connect()
        channel.dataReceived(50 * ASKED.replace(b"/", b"/metrics", 1))
        for _ in range(50):
            self.clock.advance(0)
        self.assertEqual(transport.value().count(b"scrape "), 50)
        self.assertTrue(len(made) <= 2 * SCRAPES + 1)
        self.assertTrue(transport.value().endswith(made[-1]))
        before = len(made)
        self.clock.advance(1 / SCRAPES)
        channel.dataReceived(ASKED.replace(b"/", b"/metrics", 1))
        self.assertEqual(len(made), before + 1)

    def test_many_of_one_source(self) -> None:
        """Crowd out their own, and nobody else."""
        _, other = self.connect("10.0.0.2")
        mine = [self.connect()[1] for _ in range(MOST_WAITING_PER_SOURCE + 3)]
        self.assertEqual([t.disconnecting for t in mine[:4]], [True, True, True, False])
        self.assertFalse(other.disconnecting)

    def test_many_that_are_served(self) -> None:
        """So many and no more, until one goes."""
        channels = []
        for number in range(MOST_CONNECTIONS):
            channel, _ = self.connect(f"10.0.1.{number % 200}")
            channel.dataReceived(ASKED)
            channels.append(channel)
        self.assertIsNone(self.connect()[0])
        channels[0].connectionLost(None)
        self.assertIsNotNone(self.connect()[0])
        self.assertEqual(self.factory.open_connections(), MOST_CONNECTIONS)
