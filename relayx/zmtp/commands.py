"""The bodies of commands (RFC 37: READY, ERROR; RFC 24: HELLO of PLAIN)."""

from __future__ import annotations

import re

from relayx.zmtp.errors import malformed
from relayx.zmtp.events import Credentials, Failed, Ready, property_of

MAX_REASON = 255
MAX_IDENTITY = 255

_COMMAND_NAME = re.compile(rb"[A-Za-z]+")
_PROPERTY_NAME = re.compile(rb"[A-Za-z0-9._+-]+")
_SOCKET_TYPE = re.compile(rb"[A-Z]{1,32}")
_NOT_VISIBLE = re.compile(r"[^!-~]")


def error_command(reason: str) -> bytes:
    """An ERROR command to send, a whole frame.

    It is legal in a handshake alone, behind a whole greeting. A reason of three digits is taken
    for a status of ZAP by libzmq.

    :param reason: a sentence; the RFC allows visible ASCII, up to 255, so that spaces become
        underscores and everything else question marks, and what is too long is cut.
    """
    visible = _NOT_VISIBLE.sub("?", reason.replace(" ", "_"))[:MAX_REASON].encode("ascii")
    body = b"\x05ERROR" + bytes([len(visible)]) + visible
    if len(body) > 255:
        return b"\x06" + len(body).to_bytes(8, "big") + body
    return bytes([4, len(body)]) + body


def name_of(body: bytes | bytearray) -> str:
    """A command's name.

    :param body: the command's body, or its first 256 bytes.
    :raises ZmtpError: there is none of 1 to 255 letters.
    """
    size = body[0] if body else 0
    name = bytes(body[1 : 1 + size])
    if not name or len(name) < size or not _COMMAND_NAME.fullmatch(name):
        raise malformed("a command without a name; one has a name of 1 to 255 letters")
    return name.decode("ascii")


def read_ready(name: str, metadata: bytes) -> Ready:
    """READY, or INITIATE of PLAIN, from what stands behind its name.

    :raises ZmtpError: it is not a list of properties, or one is not as it has to be.
    """
    found: list[tuple[str, bytes]] = []
    names: set[str] = set()
    pos, end = 0, len(metadata)
    while pos < end:
        value_at = pos + 1 + metadata[pos] + 4
        key = metadata[pos + 1 : value_at - 4]
        size = int.from_bytes(metadata[value_at - 4 : value_at], "big")
        pos = value_at + size
        if pos > end or not _PROPERTY_NAME.fullmatch(key):
            raise malformed(f"{name} has a property that is cut short or has no proper name")
        text = key.decode("ascii")
        if text.lower() in names:
            raise malformed(f"{name} has the property {text} twice")
        names.add(text.lower())
        found.append((text, metadata[value_at:pos]))
    properties = tuple(found)
    socket_type = property_of(properties, "Socket-Type")
    if socket_type and not _SOCKET_TYPE.fullmatch(socket_type):
        raise malformed(f"{name} has a Socket-Type that is not up to 32 capital letters")
    identity = property_of(properties, "Identity")
    if len(identity) > MAX_IDENTITY:
        raise malformed(f"{name} has an Identity of {len(identity)} bytes; {MAX_IDENTITY} is most")
    return Ready(socket_type.decode("ascii"), identity, properties)


def read_error(rest: bytes) -> Failed:
    """ERROR, from what stands behind its name.

    :raises ZmtpError: its reason is cut short.
    """
    if not rest or len(rest) < 1 + rest[0]:
        raise malformed("ERROR has a reason that is cut short")
    reason = rest[1 : 1 + rest[0]].decode("latin-1")
    return Failed(reason.encode("unicode_escape").decode("ascii"))


def read_hello(rest: bytes) -> Credentials:
    """HELLO of PLAIN, from what stands behind its name.

    :raises ZmtpError: it is not a username and a password and nothing else.
    """
    values = []
    pos, end = 0, len(rest)
    while pos < end:
        start, pos = pos + 1, pos + 1 + rest[pos]
        values.append(rest[start:pos].decode("utf-8", "surrogateescape"))
    if len(values) != 2 or pos != end:
        raise malformed("HELLO of PLAIN is not a username and a password, each after its length")
    return Credentials(*values)
