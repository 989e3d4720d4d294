"""The socket options of libsrt that the gateway sets or reads: number, type, unit, meaning.

Names are libsrt's own, in small letters and without SRTO_ (libsrt, API-socket-options.md).
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Kind(Enum):
    """The C type of an option's value."""

    INT32 = "int32"
    INT64 = "int64"
    BOOL = "bool"
    TEXT = "text"
    LINGER = "linger"


class Option(NamedTuple):
    """One socket option.

    :ivar number: its value in libsrt's enumeration.
    :ivar unit: of its value, "" where it has none.
    :ivar late: whether it may be set on a connected socket.
    """

    number: int
    kind: Kind
    unit: str
    late: bool = False


OPTIONS: dict[str, Option] = {
    "mss": Option(0, Kind.INT32, "bytes"),
    "sndsyn": Option(1, Kind.BOOL, "", late=True),
    "rcvsyn": Option(2, Kind.BOOL, "", late=True),
    "fc": Option(4, Kind.INT32, "packets"),
    "sndbuf": Option(5, Kind.INT32, "bytes"),
    "rcvbuf": Option(6, Kind.INT32, "bytes"),
    "linger": Option(7, Kind.LINGER, "seconds", late=True),
    "rendezvous": Option(12, Kind.BOOL, ""),
    "reuseaddr": Option(15, Kind.BOOL, ""),
    "maxbw": Option(16, Kind.INT64, "bytes/s", late=True),
    "snddata": Option(19, Kind.INT32, "packets"),
    "rcvdata": Option(20, Kind.INT32, "packets"),
    "inputbw": Option(24, Kind.INT64, "bytes/s", late=True),
    "oheadbw": Option(25, Kind.INT32, "percent", late=True),
    "passphrase": Option(26, Kind.TEXT, ""),
    "pbkeylen": Option(27, Kind.INT32, "bytes"),
    "tlpktdrop": Option(31, Kind.BOOL, ""),
    "snddropdelay": Option(32, Kind.INT32, "ms", late=True),
    "conntimeo": Option(36, Kind.INT32, "ms"),
    "lossmaxttl": Option(42, Kind.INT32, "packets", late=True),
    "rcvlatency": Option(43, Kind.INT32, "ms"),
    "peerlatency": Option(44, Kind.INT32, "ms"),
    "streamid": Option(46, Kind.TEXT, ""),
    "messageapi": Option(48, Kind.BOOL, ""),
    "payloadsize": Option(49, Kind.INT32, "bytes"),
    "transtype": Option(50, Kind.INT32, ""),
    "ipv6only": Option(54, Kind.INT32, ""),
    "peeridletimeo": Option(55, Kind.INT32, "ms"),
    "packetfilter": Option(60, Kind.TEXT, ""),
}

LIVE, FILE = 0, 1
"""Values of ``transtype``."""
