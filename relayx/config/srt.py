"""Section ``srt`` of the configuration.

Keys that are options of libsrt have its names and units, and its limits (``API-socket-options.md``
and ``socketconfig.cpp`` of https://github.com/Haivision/srt). Where libsrt would quietly take
another value than it was given, the value is refused instead.
"""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from relayx.config import keys
from relayx.config.keys import INT64_MOST, Section

UDP_HEADER = 28
"""Bytes of the IPv4 and UDP headers, which `mss` counts."""

DATA_HEADER = UDP_HEADER + 16
"""Bytes of all headers in front of a message."""

PAYLOAD_MOST = 1500 - DATA_HEADER
FEC_EXTRA = 4
"""Bytes that the filter ``fec`` takes of each packet."""

LEAST_PACKETS = 32
"""What libsrt's buffers and its flow window hold at least."""

LONGEST_LEASE_MS = 600_000
"""The longest time that a lease may hold (contract section 3.4)."""

RENDEZVOUS_FACTOR = 10
"""libsrt waits for a rendezvous that many times ``conntimeo``."""

LATENCY_MOST = 65535
"""The handshake has 16 bits for it, and libsrt cuts off the rest."""

STREAM_ID_MOST = 512
FILTER_MOST = 64
"""Bytes; libsrt's documentation says 512, its code keeps no longer one."""

_BUFFER = 8192 * (1500 - UDP_HEADER)
_ADDRESS = re.compile(
    r"(?:\[(?P<inside>[^\[\]]+)\]|(?P<name>[A-Za-z0-9._-]{1,253})):(?P<port>[0-9]{1,5})"
)


class Enabled(StrEnum):
    """Whether there is real SRT on the srt ports."""

    AUTO = "auto"
    YES = "yes"
    NO = "no"


class DialRole(StrEnum):
    """What the peer is that the gateway dials."""

    FE = "FE"
    BE = "BE"


class DialMode(StrEnum):
    """How a connection that the gateway makes comes about."""

    CALLER = "caller"
    RENDEZVOUS = "rendezvous"


class SrtDial(Section, frozen=True):
    """An entry of ``srt.dial``: a fixed source or sink, which the gateway calls for a port."""

    port: Annotated[int, keys.port("the srt port that the peer is on")]
    address: Annotated[str, keys.text("host:port of the peer, an IPv6 address in brackets")]
    role: Annotated[DialRole, keys.text("what the peer is")]
    streamid: Annotated[str, keys.credential('what the peer is told; "": nothing')] = ""
    mode: Annotated[DialMode, keys.text("rendezvous: both sides call")] = DialMode.CALLER

    def __repr__(self) -> str:
        told = "<hidden>" if self.streamid else ""
        return (
            f"SrtDial(port={self.port}, address={self.address!r}, role={self.role!s},"
            f" streamid={told!r}, mode={self.mode!s})"
        )

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # msgspec gives its own, which rich prefers to __repr__ and which shows every field.
        told = "<hidden>" if self.streamid else ""
        shown_as_is = ("port", "address", "role", "mode")
        return [("streamid", told), *((name, getattr(self, name)) for name in shown_as_is)]

    @property
    def host(self) -> str:
        """The host of the address, without brackets; "" where the address is none."""
        return _split(self.address)[0]

    @property
    def peer_port(self) -> int:
        """The port of the address; 0 where the address is none."""
        return _split(self.address)[1]


class Srt(Section, frozen=True):
    """Section ``srt``: real SRT on the srt ports; options have libsrt's names and units."""

    enabled: Annotated[
        Enabled, keys.text("auto: where libsrt is installed; yes: without it there is no start")
    ] = Enabled.AUTO
    bridge: Annotated[bool, keys.text("let TCP and SRT meet on a port")] = False
    fan_out: Annotated[
        int, keys.number("FEs at once that may watch one BE which publishes", 1, 1000)
    ] = 1
    latency: Annotated[
        int,
        keys.number("ms for which packets are held, so that lost ones can be sent again, each way"
                    ", where the peer asks for no more", 0, LATENCY_MOST),
    ] = 120  # fmt: skip
    peerlatency: Annotated[
        int,
        keys.number(
            "ms, the same for what the gateway sends alone; 0: as latency", 0, LATENCY_MOST
        ),
    ] = 0
    maxbw: Annotated[
        int,
        keys.number("bytes/s to send at most; -1: no limit; 0: by inputbw", -1, INT64_MOST),
    ] = -1
    inputbw: Annotated[
        int,
        keys.number("bytes/s that come in, with maxbw 0; 0: as measured", most=INT64_MOST),
    ] = 0
    oheadbw: Annotated[
        int, keys.number("percent above inputbw for what is sent again, with maxbw 0", 5, 100)
    ] = 25
    pbkeylen: Annotated[
        Literal[0, 16, 24, 32],
        keys.text("bytes of the encryption key, with srt_passphrase; 0: as the caller says, or 16"),
    ] = 0
    rcvbuf: Annotated[
        int, keys.number("bytes of the receive buffer, at most fc x (mss - 28)", 1)
    ] = _BUFFER
    sndbuf: Annotated[int, keys.number("bytes of the send buffer", 1)] = _BUFFER
    mss: Annotated[
        int, keys.number("bytes of a packet, with the headers of IP and UDP", 76, 65536)
    ] = 1500
    fc: Annotated[int, keys.number("packets in flight at most", LEAST_PACKETS)] = 25600
    snddropdelay: Annotated[
        int, keys.number("ms more before the sender drops what is late; -1: it drops nothing", -1)
    ] = 0
    tlpktdrop: Annotated[bool, keys.text("drop what comes too late")] = True
    lossmaxttl: Annotated[
        int, keys.number("packets that may come out of order before one counts as lost")
    ] = 0
    conntimeo: Annotated[
        int,
        keys.number("ms for a connection that the gateway makes; rendezvous waits 10 times as long",
                    most=LONGEST_LEASE_MS),
    ] = 3000  # fmt: skip
    payloadsize: Annotated[
        int,
        keys.number(
            "bytes of a message made of TCP's at most; 0: as many as mss lets", 0, PAYLOAD_MOST
        ),
    ] = 1316
    packetfilter: Annotated[
        str,
        keys.text('forward error correction, such as fec,cols:10,rows:5,arq:onreq; "": none'),
    ] = ""
    dial: Annotated[
        tuple[SrtDial, ...],
        keys.text(
            "peers that the gateway calls: port, address (host:port), role (FE or BE) of each,"
            " and where wanted streamid and mode (caller or rendezvous)"
        ),
    ] = ()


def _split(address: str) -> tuple[str, int]:
    found = _ADDRESS.fullmatch(address)
    if found is None or not 1 <= int(found["port"]) <= 65535:
        return "", 0
    if inside := found["inside"]:
        try:
            ipaddress.IPv6Address(inside)
        except ValueError:
            return "", 0
    return inside or found["name"], int(found["port"])
