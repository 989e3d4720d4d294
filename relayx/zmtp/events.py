"""What a reader tells of a stream."""

from __future__ import annotations

from typing import Any

import msgspec


class Event(msgspec.Struct, frozen=True):
    """Base of all events."""


class Greeting(Event, frozen=True):
    """The 64 bytes that a connection begins with (RFC 37, Version Negotiation).

    :ivar version: major and minor, such as (3, 1).
    :ivar mechanism: ``NULL``, ``PLAIN`` or ``CURVE``.
    :ivar as_server: whether it says that it is the server of its mechanism; libzmq never does.
    """

    version: tuple[int, int]
    mechanism: str
    as_server: bool


class Credentials(Event, frozen=True):
    """HELLO of PLAIN (RFC 24). Bytes that are not UTF-8 are there as lone surrogates."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r}, password=...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("username", self.username), ("password", "...")]


class Ready(Event, frozen=True):
    """A side's part of the handshake is over: READY, or INITIATE of PLAIN and CURVE.

    :ivar socket_type: such as ``PUSH``; "" where it was not told, or is encrypted (CURVE).
    :ivar identity: 0 to 255 bytes, of REQ, DEALER and ROUTER.
    :ivar properties: all metadata by name as sent; none where it is encrypted.
    """

    socket_type: str
    identity: bytes = b""
    properties: tuple[tuple[str, bytes], ...] = ()

    @property
    def resource(self) -> bytes:
        """The property Resource of ZMTP 3.1, b"" where there is none."""
        return property_of(self.properties, "Resource")


class Failed(Event, frozen=True):
    """An ERROR command: the peer gives up and closes.

    :ivar reason: printable ASCII, everything else escaped; libzmq sends a status of ZAP.
    """

    reason: str


class Message(Event, frozen=True, gc=False):
    """A whole message has gone through.

    :ivar parts: its frames; with CURVE each frame is a message, since MORE is encrypted.
    :ivar bytes: of its frames' content, of the ciphertext with CURVE.
    """

    parts: int
    bytes: int


class Command(Event, frozen=True):
    """Any other command: HELLO and WELCOME of CURVE, PING, PONG, SUBSCRIBE, CANCEL, and so on."""

    name: str


def property_of(properties: tuple[tuple[str, bytes], ...], name: str) -> bytes:
    """A property's value, b"" where it is absent; case does not count (RFC 37)."""
    wanted = name.lower()
    return next((value for key, value in properties if key.lower() == wanted), b"")
