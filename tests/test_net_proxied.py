"""PROXY headers below any protocol: the factory that takes them off."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from relayx.net.address import Networks
from relayx.net.proxied import ProxiedFactory
from relayx.net.proxy import Address, encode_v2

PROXY, CLIENT, OTHER = "10.0.0.1", "198.51.100.7", "192.0.2.9"
HEADER = encode_v2(Address(CLIENT, 40312), Address("203.0.113.1", 5555))


class Inner(Protocol):
    """What was built for which address, and what it got."""

    def __init__(self, address: Any) -> None:
        self.address = address
        self.got = b""
        self.ended = False

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: object = None) -> None:
        self.ended = True


class InnerFactory(ServerFactory):
    """Builds :class:`Inner`, unless it is told to build nothing."""

    full = False
    noisy = False

    def __init__(self) -> None:
        self.built: list[Inner] = []
        self.listening = 0

    def startFactory(self) -> None:
        self.listening += 1

    def stopFactory(self) -> None:
        self.listening -= 1

    def buildProtocol(self, addr: Any) -> Any:
        if self.full:
            return None
        self.built.append(Inner(addr))
        return self.built[-1]


class Bed(SynchronousTestCase):
    """A factory that trusts PROXY, on a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.inner = InnerFactory()
        self.factory = ProxiedFactory(self.clock, self.inner, Networks([PROXY]), 5.0, 3)

    def connect(self, host: str = PROXY) -> StringTransport:
        """A connection from there, with its protocol."""
        peer = IPv4Address("TCP", host, 1234)
        transport = StringTransport(peerAddress=peer)
        transport.protocol = self.factory.buildProtocol(peer)
        transport.protocol.makeConnection(transport)
        return transport


class Headers(Bed):
    """What the wrapped protocol sees."""

    def test_the_told_address(self) -> None:
        transport = self.connect()
        self.assertEqual(self.inner.built, [])
        transport.protocol.dataReceived(HEADER[:20])
        transport.protocol.dataReceived(HEADER[20:] + b"first")
        (inner,) = self.inner.built
        self.assertEqual(inner.address, IPv4Address("TCP", CLIENT, 40312))
        self.assertEqual(inner.transport.getPeer(), inner.address)
        self.assertEqual(inner.transport.getHost(), IPv4Address("TCP", "203.0.113.1", 5555))
        self.assertEqual(inner.got, b"first")
        self.assertIs(transport.protocol, inner)
        inner.transport.write(b"answer")
        self.assertEqual(transport.value(), b"answer")

    def test_ipv6(self) -> None:
        transport = self.connect()
        transport.protocol.dataReceived(b"PROXY TCP6 2001:db8::7 2001:db8::1 40312 5555\r\n")
        (inner,) = self.inner.built
        self.assertEqual(inner.address, IPv6Address("TCP", "2001:db8::7", 40312))

    def test_local_keeps_the_address(self) -> None:
        transport = self.connect()
        transport.protocol.dataReceived(b"PROXY UNKNOWN\r\nhello")
        (inner,) = self.inner.built
        self.assertEqual(inner.address, transport.getPeer())
        self.assertEqual(inner.transport.getHost(), transport.getHost())

    def test_from_anybody_else(self) -> None:
        transport = self.connect(OTHER)
        transport.protocol.dataReceived(HEADER)
        (inner,) = self.inner.built
        self.assertEqual((inner.address.host, inner.got), (OTHER, HEADER))

    def test_nobody_to_talk_to(self) -> None:
        self.inner.full = True
        transport = self.connect()
        transport.protocol.dataReceived(HEADER)
        self.assertTrue(transport.disconnected)

    def test_starting_and_stopping(self) -> None:
        self.factory.doStart()
        self.assertEqual(self.inner.listening, 1)
        self.factory.doStop()
        self.assertEqual(self.inner.listening, 0)


class Closing(Bed):
    """Connections that do not begin as they should."""

    def test_no_header(self) -> None:
        transport = self.connect()
        transport.protocol.dataReceived(b'{"type":"register"}')
        self.assertTrue(transport.disconnecting)
        transport.protocol.dataReceived(HEADER)
        self.assertEqual(self.inner.built, [])

    def test_silence(self) -> None:
        early, late = self.connect(), self.connect()
        early.protocol.dataReceived(HEADER)
        self.clock.advance(4.9)
        self.assertFalse(late.disconnecting)
        self.clock.advance(0.2)
        self.assertEqual((early.disconnecting, late.disconnecting), (False, True))

    def test_too_many(self) -> None:
        first, *others = [self.connect() for _ in range(4)]
        self.assertTrue(first.disconnected)
        self.assertFalse(any(other.disconnected for other in others))

    def test_one_that_ends(self) -> None:
        transport = self.connect()
        transport.protocol.connectionLost()
        self.clock.advance(10)
        self.assertFalse(transport.disconnecting)

    def test_all(self) -> None:
        transports = [self.connect() for _ in range(2)]
        self.factory.close()
        self.assertTrue(all(transport.disconnected for transport in transports))
        self.assertEqual(self.clock.getDelayedCalls(), [])
