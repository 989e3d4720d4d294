"""PROXY headers, versions 1 and 2 (haproxy's proxy-protocol.txt)."""

from __future__ import annotations

import socket
import struct

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.protocols.haproxy import proxyEndpoint
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relayx.net.proxy import (
    SIGNATURE,
    Address,
    Header,
    ProxyError,
    ProxyReader,
    encode_v2,
)
from tests.common import check_cuts

V4 = Header(Address("198.51.100.7", 40312), Address("203.0.113.1", 5555))
V6 = Header(Address("2001:db8::7", 40312), Address("2001:db8::1", 5555))


def read(pieces: list[bytes]) -> tuple[Header | str | None, bytes]:
    """The header out of pieces, or what is wrong with it, and every byte that came after it."""
    reader, header, rest = ProxyReader(), None, b""
    for piece in pieces:
        if header is not None:
            rest += piece
            continue
        try:
            found = reader.feed(piece)
        except ProxyError as error:
            return str(error), b""
        if found is not None:
            header, rest = found
    return header, rest


def v2(command: int, family: int, body: bytes, length: int | None = None) -> bytes:
    """A header of version 2, right or wrong."""
    size = len(body) if length is None else length
    return SIGNATURE + struct.pack("!BBH", command, family, size) + body


INET = socket.inet_aton("198.51.100.7") + socket.inet_aton("203.0.113.1") + struct.pack(
    "!2H", 40312, 5555
)  # fmt: skip


class Reading(SynchronousTestCase):
    """Each sample whole, bytewise, in two pieces, and with bytes behind it."""

    def check(self, sample: bytes, header: Header) -> None:
        for rest in (b"", b"RLX1HELLO ", b"\r\nPROXY "):
            check_cuts(self, read, sample + rest, (header, rest))

    def test_version_1(self) -> None:
        self.check(b"PROXY TCP4 198.51.100.7 203.0.113.1 40312 5555\r\n", V4)
        self.check(b"PROXY TCP6 2001:db8::7 2001:DB8:0::1 40312 5555\r\n", V6)

    def test_version_1_of_unknown_origin(self) -> None:
        self.check(b"PROXY UNKNOWN\r\n", Header())
        self.check(b"PROXY UNKNOWN ffff::1 whatever it is 1 2\r\n", Header())

    def test_version_1_at_its_longest(self) -> None:
        longest = b"PROXY UNKNOWN " + b"f" * (107 - 14 - 2) + b"\r\n"
        self.check(longest, Header())

    def test_version_2(self) -> None:
        self.check(v2(0x21, 0x11, INET), V4)
        self.check(encode_v2(*V4), V4)
        self.check(encode_v2(*V6), V6)

    def test_version_2_with_more_behind_the_addresses(self) -> None:
        tlvs = b"\x01\x00\x02h2" + b"\x04\x00\x40" + bytes(64)
        self.check(v2(0x21, 0x11, INET + tlvs), V4)

    def test_version_2_without_an_address_to_go_by(self) -> None:
        self.check(v2(0x20, 0x00, b""), Header())  # LOCAL: the balancer's own health check
        self.check(v2(0x20, 0x11, INET), Header())
        self.check(v2(0x21, 0x00, b"tlv"), Header())
        self.check(v2(0x21, 0x31, bytes(216)), Header())  # a UNIX socket
        self.check(v2(0x21, 0x12, INET), Header())  # UDP


class Wrong(SynchronousTestCase):
    """What is refused, with the same words whatever way it is cut."""

    def check(self, sample: bytes, told: str) -> None:
        what, _ = read([sample])
        self.assertIsInstance(what, str)
        self.assertIn(told, str(what))
        check_cuts(self, read, sample, (what, b""))

    def test_no_header(self) -> None:
        for sample in (b"RLX1HELLO {}\n", b'{"type":"register"}', b"PROXX TCP4", b"\x16\x03",
                       b"\r\n\r\n\x01", b"proxy TCP4 "):  # fmt: skip
            self.check(sample, "no PROXY header")

    def test_version_1(self) -> None:
        for line in (
            "TCP4", "TCP4 1.2.3.4 5.6.7.8 1", "TCP4 1.2.3.4 5.6.7.8 1 2 3",
            "UDP4 1.2.3.4 5.6.7.8 1 2", " TCP4 1.2.3.4 5.6.7.8 1 2", "",
        ):  # fmt: skip
            self.check(b"PROXY " + line.encode() + b"\r\n", "not TCP4, TCP6 or UNKNOWN")
        for source in ("1.2.3", "::1", "1.2.3.4.5", "256.1.1.1", "a", "1.2.3.4\n"):
            self.check(f"PROXY TCP4 {source} 5.6.7.8 1 2\r\n".encode(), "address that is none")
        self.check(b"PROXY TCP4 1.2.3.\xff 5.6.7.8 1 2\r\n", "address that is none")
        self.check(b"PROXY TCP6 1.2.3.4 ::1 1 2\r\n", "address that is none")
        self.check(b"PROXY TCP6 fe80::1%\x1b[31mx ::1 1 2\r\n", "with a zone")
        for port in ("65536", "-1", "01", "x", "99999999999", "+1", "1_0"):
            self.check(f"PROXY TCP4 1.2.3.4 5.6.7.8 1 {port}\r\n".encode(), "port that is none")

    def test_version_1_too_long(self) -> None:
        self.check(b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n", "longer than 107")
        self.check(b"PROXY TCP4 " + b"1" * 5000, "longer than 107")

    def test_version_2(self) -> None:
        self.check(v2(0x11, 0x11, INET), "0x11")
        self.check(v2(0x31, 0x11, INET), "0x31")
        self.check(v2(0x22, 0x11, INET), "0x22")
        self.check(v2(0x21, 0x41, INET), "0x41")
        self.check(v2(0x21, 0x13, INET), "0x13")
        self.check(v2(0x21, 0x11, INET[:-1]), "11 bytes for its addresses")
        self.check(v2(0x21, 0x21, INET), "12 bytes for its addresses")
        self.check(v2(0x21, 0x11, INET, 2049), "2049 bytes")

    def test_incomplete(self) -> None:
        for whole in (b"PROXY TCP4 198.51.100.7 203.0.113.1 40312 5555\r\n", encode_v2(*V6)):
            self.assertEqual(read([whole[:-1]]), (None, b""))


@implementer(IStreamServerEndpoint)
class Listening:
    """An endpoint that keeps the factory it is given."""

    def listen(self, factory: Factory) -> None:
        self.factory = factory


class Writing(SynchronousTestCase):
    """What is told to a BE's service."""

    def test_families_that_differ(self) -> None:
        told = encode_v2(Address("198.51.100.7", 1), Address("2001:db8::1", 2))
        header, _ = read([told])
        self.assertEqual(
            header, Header(Address("::ffff:198.51.100.7", 1), Address("2001:db8::1", 2))
        )

    def test_a_zone_is_left_out(self) -> None:
        header, _ = read([encode_v2(Address("fe80::1%eth0", 1), Address("fe80::2", 2))])
        self.assertEqual(header, Header(Address("fe80::1", 1), Address("fe80::2", 2)))

    def test_twisted_reads_it(self) -> None:
        for header in (V4, V6):
            endpoint = Listening()
            proxyEndpoint(endpoint).listen(Factory.forProtocol(Protocol))
            protocol = endpoint.factory.buildProtocol(None)
            protocol.makeConnection(StringTransport())
            protocol.dataReceived(encode_v2(*header) + b"rest")
            peer, host = protocol.getPeer(), protocol.getHost()
            expanded = [socket.inet_pton(
                socket.AF_INET6 if ":" in a.host else socket.AF_INET, a.host
            ) for a in (peer, host)]  # fmt: skip
            ours = [socket.inet_pton(
                socket.AF_INET6 if ":" in a.host else socket.AF_INET, a.host
            ) for a in header if a]  # fmt: skip
            self.assertEqual(expanded, ours)
            self.assertEqual((peer.port, host.port), (40312, 5555))


class Fuzzing(SynchronousTestCase):
    """Whatever comes is a header or a ProxyError, the same in every cut."""

    @given(st.binary(max_size=200), st.data())
    @settings(deadline=None)
    def test_any_bytes(self, tail: bytes, data: st.DataObject) -> None:
        start = data.draw(
            st.sampled_from(
                [b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11\x00"]
            )
        )
        sample = start + tail
        whole = read([sample])
        self.assertEqual(read([sample[i : i + 1] for i in range(len(sample))]), whole)
        at = data.draw(st.integers(0, len(sample)))
        self.assertEqual(read([sample[:at], sample[at:]]), whole)

    @given(
        st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4))
        | st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
        st.tuples(st.integers(0, 65535), st.integers(0, 65535)),
        st.binary(max_size=30),
    )
    @settings(deadline=None)
    def test_what_is_written_is_read(self, hosts: tuple, ports: tuple, rest: bytes) -> None:
        source, destination = (
            Address(str(host), port) for host, port in zip(hosts, ports, strict=True)
        )
        header, left = read([encode_v2(source, destination) + rest])
        self.assertIsInstance(header, Header)
        for told, meant in zip(header, (source, destination), strict=True):
            family = socket.AF_INET6 if ":" in meant.host else socket.AF_INET
            self.assertEqual(
                (socket.inet_pton(family, told.host), told.port),
                (socket.inet_pton(family, meant.host), meant.port),
            )
        self.assertEqual(left, rest)
