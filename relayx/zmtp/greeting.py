"""The first 64 bytes of each direction (RFC 23 and 37)::

0xff, 8 bytes, 0x7f | major | minor | mechanism, 20 bytes | as-server | 31 zeros
"""

from __future__ import annotations

import re

from relayx.zmtp.errors import Fault, OldVersion, ZmtpError, malformed
from relayx.zmtp.events import Greeting

GREETING_BYTES = 64
MECHANISMS = ("NULL", "PLAIN", "CURVE")

_FIRST, _TENTH = 0xFF, 0x7F
_OLD = {0: "1.0", 1: "2.0", 2: "2.x"}
_MECHANISM = re.compile(rb"([A-Z0-9._+-]{1,20})\0*")


def greeting_bytes(mechanism: str = "NULL", *, minor: int = 1, as_server: bool = False) -> bytes:
    """A greeting to send. Its first 11 bytes are those of any ZMTP 3, and make libzmq send the
    rest of its own.

    :param minor: of version 3; libzmq sends no SUBSCRIBE to a peer of 3.0, but messages instead.
    """
    return (
        bytes([_FIRST, *bytes(7), 1, _TENTH, 3, minor])
        + mechanism.encode("ascii").ljust(20, b"\0")
        + bytes([as_server])
        + bytes(31)
    )


def read_greeting(held: bytes | bytearray) -> Greeting | None:
    """The greeting out of a stream's first 64 bytes, or None where `held` has fewer.

    :raises ZmtpError: as soon as those there are cannot become one that is understood here.
    """
    size = len(held)
    if size and held[0] != _FIRST:
        raise malformed(f"the first byte is 0x{held[0]:02x}; a ZMTP greeting begins with 0xff")
    if size > 9 and held[9] != _TENTH:
        # ZMTP 1.0 with an identity of 254 bytes or more: its flags, whose lowest bit is clear.
        if not held[9] & 1:
            raise OldVersion("1.0")
        raise malformed(f"byte 10 of the greeting is 0x{held[9]:02x}; it is 0x7f in ZMTP")
    if size > 10 and held[10] in _OLD:
        raise OldVersion(_OLD[held[10]])
    if size < 32:
        return None
    named = _MECHANISM.fullmatch(held[12:32])
    if named is None:
        raise malformed("the mechanism in the greeting is not a name padded with zeros")
    mechanism = named[1].decode("ascii")
    if mechanism not in MECHANISMS:
        known = ", ".join(MECHANISMS)
        raise ZmtpError(Fault.MECHANISM, f"the mechanism is {mechanism}; known are {known}")
    if size < GREETING_BYTES:
        return None
    return Greeting((held[10], held[11]), mechanism, held[32] == 1)
