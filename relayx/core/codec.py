"""Bytes to messages and back, for the control plane (contract section 2).

:class:`ObjectStream` cuts a byte stream into JSON objects, each byte looked at once however
the stream is cut into segments. :func:`decode_envelope` and :func:`decode_payload` turn one
object into typed values; :func:`encode` writes one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from relayx.core.errors import Code, FramingError, PeerError
from relayx.core.messages import Message, shown_fields

MAX_DEPTH = 32
MAX_ID_BYTES = 256
MAX_CLIENT_ID = 128

_NOT_SPACE = re.compile(rb"[^ \t\r\n]")
_STRUCTURE = re.compile(rb'["{}\[\]]')
_STRING_END = re.compile(rb'["\\]')
_OPEN = frozenset(b"{[")
_QUOTE = ord('"')
_BACKSLASH = ord("\\")


class ObjectStream:
    """Cuts a stream of JSON objects into single ones, as soon as each is complete.

    Objects may end in a newline, span lines, or follow each other with nothing between.

    :param max_bytes: most bytes of one object.
    :param max_depth: most levels of objects and lists within each other.
    """

    def __init__(self, max_bytes: int, max_depth: int = MAX_DEPTH) -> None:
        self.max_bytes = max_bytes
        self.max_depth = max_depth
        self._held = bytearray()
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield each object that `data` completes; the rest is kept for the next call.

        :raises FramingError: at the first byte that cannot belong to a stream of objects,
            after every object before it has been yielded. The stream is unusable then.
        """
        start = pos = 0
        size = len(data)
        while pos < size:
            if self._depth == 0:
                found = _NOT_SPACE.search(data, pos)
                if found is None:
                    return
                start = found.start()
                if data[start] != ord("{"):
                    raise FramingError(
                        f"expected a JSON object, got {data[start : start + 1]!r}; every message "
                        "is one JSON object"
                    )
                self._depth = 1
                pos = start + 1
                continue
            pos = self._scan(data, pos)
            self._check_size(len(self._held) + pos - start)
            if self._depth == 0:
                self._held += data[start:pos]
                whole = bytes(self._held)
                self._held.clear()
                yield whole
        if self._depth:
            self._held += data[start:]

    def _scan(self, data: bytes, pos: int) -> int:
        """Advance over one structural step and return the next position to look at."""
        if self._escaped:
            self._escaped = False
            return pos + 1
        found = (_STRING_END if self._in_string else _STRUCTURE).search(data, pos)
        if found is None:
            return len(data)
        byte = data[found.start()]
        if self._in_string:
            if byte == _BACKSLASH:
                self._escaped = True
            else:
                self._in_string = False
        elif byte == _QUOTE:
            self._in_string = True
        elif byte in _OPEN:
            self._depth += 1
            if self._depth > self.max_depth:
                raise FramingError(f"message nests deeper than {self.max_depth} levels")
        else:
            self._depth -= 1
        return found.end()

    def _check_size(self, size: int) -> None:
        if size > self.max_bytes:
            raise FramingError(f"message is longer than {self.max_bytes} bytes")


class Envelope(msgspec.Struct, frozen=True):
    """One control message with its payload still as it was received."""

    type: Annotated[str, Meta(description="which message it is")]
    payload: Annotated[msgspec.Raw, Meta(description="what it says")] = msgspec.Raw(b"null")
    msg_id: Annotated[str, Meta(description="names the message: <uuid4>-<unix ms>")] = ""
    ts_ms: Annotated[int, Meta(description="when it was sent, unix ms")] = 0
    trace_id: Annotated[
        str, Meta(description="of a request; repeated in all that the request causes")
    ] = ""
    sign: Annotated[str, Meta(description="signature in base64, of the fields above")] = ""
    kid: Annotated[str, Meta(description="names the key that it was signed with")] = ""

    def __repr__(self) -> str:
        return f"Envelope(type={shown(self.type)}, payload=hidden, msg_id={shown(self.msg_id)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return shown_fields(self, "payload", "sign")


class _Ids(msgspec.Struct):
    """What an answer needs of an envelope that is wrong otherwise."""

    msg_id: msgspec.Raw = msgspec.Raw(b"null")
    trace_id: msgspec.Raw = msgspec.Raw(b"null")


# A number of any size is JSON too; whether a field takes it is the struct's to say.
_ANYTHING = msgspec.json.Decoder(msgspec.Raw)
_IDS = msgspec.json.Decoder(_Ids)
_ENVELOPE = msgspec.json.Decoder(Envelope)
_DECODERS: dict[type[Message], msgspec.json.Decoder[Message]] = {}


def decode_envelope(raw: bytes) -> Envelope:
    """Check one JSON object as a whole and return its envelope.

    :raises FramingError: where it is not UTF-8 or not JSON.
    :raises PeerError: where the envelope's fields have the wrong types (``INVALID_MESSAGE``)
        or are too long (``INVALID_REQUEST``).
    """
    try:
        raw.decode("utf-8")
        _ANYTHING.decode(raw)
    except UnicodeDecodeError as error:
        raise FramingError(f"message is not UTF-8: {error.reason}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise FramingError(f"message is not JSON: {error}") from None
    try:
        envelope = _ENVELOPE.decode(raw)
    except msgspec.DecodeError as error:
        raise _faulty(raw, Code.INVALID_MESSAGE, f"envelope: {error}") from None
    for name, value in (("msg_id", envelope.msg_id), ("trace_id", envelope.trace_id)):
        if fault := id_fault(name, value):
            raise _faulty(raw, Code.INVALID_REQUEST, fault)
    return envelope


def _faulty(raw: bytes, code: Code, text: str) -> PeerError:
    ids = _IDS.decode(raw)
    return PeerError(code, text, msg_id=_usable(ids.msg_id), trace_id=_usable(ids.trace_id))


def _usable(raw: msgspec.Raw) -> str:
    try:
        value = msgspec.json.decode(raw, type=str)
    except msgspec.DecodeError:
        return ""
    return value if fits(value) else ""


def decode_payload(envelope: Envelope, kinds: dict[str, type[Message]]) -> Message:
    """Return the typed payload of an envelope.

    :param kinds: the messages that may come in this direction, by wire type.
    :raises PeerError: ``INVALID_MESSAGE`` for an unknown type or a payload of wrong types.
    """
    kind = kinds.get(envelope.type)
    if kind is None:
        allowed = ", ".join(sorted(kinds))
        raise _invalid(envelope, f"unknown type {shown(envelope.type)}; allowed: {allowed}")
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS[kind] = msgspec.json.Decoder(kind)
    raw: bytes | memoryview = envelope.payload
    if bytes(raw) == b"null":
        raw = b"{}"
    try:
        return decoder.decode(raw)
    except msgspec.DecodeError as error:
        raise _invalid(envelope, f"{envelope.type}: {error}") from None


def _invalid(envelope: Envelope, text: str) -> PeerError:
    return PeerError(Code.INVALID_MESSAGE, text, msg_id=envelope.msg_id, trace_id=envelope.trace_id)


class _Outgoing(msgspec.Struct, omit_defaults=True):
    type: str
    payload: Message | str
    msg_id: str = ""
    ts_ms: int = 0
    trace_id: str = ""


_ENCODER = msgspec.json.Encoder()


def encode(
    message: Message | str, *, msg_id: str = "", ts_ms: int = 0, trace_id: str = ""
) -> bytes:
    """Return one compact line, newline included. A bare string becomes a ``log`` message."""
    kind = "log" if isinstance(message, str) else message.TYPE
    return _ENCODER.encode(_Outgoing(kind, message, msg_id, ts_ms, trace_id)) + b"\n"


def fits(value: str) -> bool:
    """Whether an id (``msg_id``, ``trace_id``, ``request_id``) is within its limit."""
    return len(value) <= MAX_ID_BYTES and len(value.encode("utf-8", "replace")) <= MAX_ID_BYTES


def is_client_id(value: str) -> bool:
    """Whether `value` may name a client: 0 to 128 printable characters."""
    return len(value) <= MAX_CLIENT_ID and value.isprintable()


def id_fault(name: str, value: str) -> str:
    """What is wrong with an id, "" where nothing is; the id itself is not told."""
    if fits(value):
        return ""
    count = len(value.encode("utf-8", "replace"))
    return f"{name} has {count} bytes; allowed: at most {MAX_ID_BYTES}"


def client_id_fault(name: str, value: str) -> str:
    """What is wrong with a client's id, "" where nothing is."""
    if is_client_id(value):
        return ""
    return (
        f"{name} is {shown(value)}, {len(value)} characters; "
        f"allowed: 0 to {MAX_CLIENT_ID} printable characters"
    )


def shown(value: str, limit: int = 64) -> str:
    """A peer's string as it may stand in a log line or an error: quoted, cut, no controls."""
    cut = value if len(value) <= limit else value[:limit] + "…"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in f'"{cut}"')
