"""The PROXY protocol, versions 1 and 2: who a connection through a load balancer comes from.

haproxy.org's ``doc/proxy-protocol.txt`` is the specification. A header stands before the first
byte of a connection. Version 1 is a line of text, version 2 is binary::

    PROXY TCP4 198.51.100.7 203.0.113.1 40312 5555 CRLF
    \\r\\n\\r\\n\\0\\r\\nQUIT\\n | version, command | family | length | addresses | TLVs
"""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
from typing import NamedTuple

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
"""The first bytes of version 2."""

WORD = b"PROXY "
"""The first bytes of version 1."""

V1_LONGEST = 107
V2_LONGEST = 2048
"""Most bytes of version 2 behind its first 16."""

_V2_START = struct.Struct("!12sBBH")
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")
_LOCAL, _PROXY = 0, 1
_FAMILIES = {0x11: (socket.AF_INET, 4), 0x21: (socket.AF_INET6, 16)}
# Unspecified, datagrams and UNIX sockets: allowed, and no address that anything here goes by.
_WITHOUT_ADDRESS = {0x00, 0x01, 0x02, 0x10, 0x12, 0x20, 0x22, 0x30, 0x31, 0x32}


class ProxyError(ValueError):
    """What came is no PROXY header, or a wrong one; the text says what is wrong."""


class Address(NamedTuple):
    """An IP address and a TCP port."""

    host: str
    port: int


class Header(NamedTuple):
    """What a header tells; None where it leaves the connection's own address as it is.

    :ivar source: the client.
    :ivar destination: where the client connected to.
    """

    source: Address | None = None
    destination: Address | None = None


class ProxyReader:
    """Takes a header out of a byte stream, whatever way it is cut into segments."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> tuple[Header, bytes] | None:
        """Return the header and what came after it, or None while it is incomplete.

        :raises ProxyError: as soon as the bytes cannot become a header.
        """
        held = self._held = self._held + data
        if held[:1] == SIGNATURE[:1]:
            return self._version_2(held)
        if not held.startswith(WORD[: len(held)]):
            raise ProxyError("there is no PROXY header")
        end = held.find(b"\r\n", 0, V1_LONGEST)
        if end >= 0:
            return _read_line(held[:end]), held[end + 2 :]
        if len(held) >= V1_LONGEST:
            raise ProxyError(f"a PROXY header of version 1 is longer than {V1_LONGEST} bytes")
        return None

    def _version_2(self, held: bytes) -> tuple[Header, bytes] | None:
        if not held.startswith(SIGNATURE[: len(held)]):
            raise ProxyError("there is no PROXY header")
        if len(held) > 12 and (held[12] >> 4 != 2 or held[12] & 15 not in (_LOCAL, _PROXY)):
            raise ProxyError(f"a PROXY header of version and command 0x{held[12]:02x}")
        if len(held) > 13 and held[13] not in _FAMILIES and held[13] not in _WITHOUT_ADDRESS:
            raise ProxyError(f"a PROXY header of family 0x{held[13]:02x}")
        if len(held) < _V2_START.size:
            return None
        _, command, family, length = _V2_START.unpack_from(held)
        if length > V2_LONGEST:
            raise ProxyError(f"a PROXY header with {length} bytes behind its first 16")
        has_address = command & 15 == _PROXY and family in _FAMILIES
        if has_address and length < 2 * _FAMILIES[family][1] + 4:
            raise ProxyError(f"a PROXY header with {length} bytes for its addresses")
        end = _V2_START.size + length
        if len(held) < end:
            return None
        header = _read_addresses(family, held) if has_address else Header()
        return header, held[end:]


def _read_line(line: bytes) -> Header:
    """A header of version 1 without its CRLF."""
    words = line.split(b" ")
    if words[1:2] == [b"UNKNOWN"]:
        return Header()
    kinds = {b"TCP4": ipaddress.IPv4Address, b"TCP6": ipaddress.IPv6Address}
    kind = kinds.get(words[1]) if len(words) == 6 else None
    if kind is None:
        raise ProxyError("a PROXY header of version 1 is not TCP4, TCP6 or UNKNOWN with its fields")
    try:
        source, destination = (str(kind(word.decode("ascii"))) for word in words[2:4])
    except ValueError:
        raise ProxyError("a PROXY header of version 1 has an address that is none") from None
    if b"%" in line:  # Python takes any text for the zone of an address
        raise ProxyError("a PROXY header of version 1 has an address with a zone")
    ports = [int(word) if _PORT.fullmatch(word) else 65536 for word in words[4:6]]
    if max(ports) > 65535:
        raise ProxyError("a PROXY header of version 1 has a port that is none")
    return Header(Address(source, ports[0]), Address(destination, ports[1]))


def _read_addresses(family: int, held: bytes) -> Header:
    kind, size = _FAMILIES[family]
    start = _V2_START.size
    source, destination, *ports = struct.unpack_from(f"!{size}s{size}s2H", held, start)
    return Header(
        Address(socket.inet_ntop(kind, source), ports[0]),
        Address(socket.inet_ntop(kind, destination), ports[1]),
    )


def encode_v2(source: Address, destination: Address) -> bytes:
    """A header of version 2 for a TCP connection.

    Where only one of the two is IPv4, that one is written as an IPv4-mapped IPv6 address.
    """
    hosts = [ipaddress.ip_address(a.host.partition("%")[0]) for a in (source, destination)]
    if all(host.version == 4 for host in hosts):
        family, packed = 0x11, [host.packed for host in hosts]
    else:
        mapped = bytes(10) + b"\xff\xff"
        family = 0x21
        packed = [host.packed if host.version == 6 else mapped + host.packed for host in hosts]
    body = b"".join(packed) + struct.pack("!2H", source.port, destination.port)
    return _V2_START.pack(SIGNATURE, 0x20 | _PROXY, family, len(body)) + body
