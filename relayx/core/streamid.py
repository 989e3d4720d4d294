"""SRT stream ids and rejection codes: what HELLO and a refusal are on SRT.

The syntax and the codes are those of SRT's access control (libsrt, docs/features/
access-control.md; draft-sharabayko-srt, appendix B): ``#!::u=cam,m=publish,x-role=BE``. What
begins otherwise is a name of its owner's own, as ffmpeg's users write them, and says nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Any, TypeVar

import msgspec

from relayx.core.codec import fits, is_client_id, shown
from relayx.core.errors import Code, PeerError
from relayx.core.hello import SERVICE, SERVICE_ALLOWED
from relayx.core.messages import Role, shown_fields
from relayx.core.refusals import (
    BadModeError,
    ForbiddenError,
    RetiredError,
    UnknownLeaseError,
    WrongServiceError,
    WrongTransportError,
)

PREFIX = "#!:"
MAX_STREAM_ID = 512
"""Bytes of a stream id, which is SRT's own limit too."""

E = TypeVar("E", bound=StrEnum)

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Reject(IntEnum):
    """Why a connection is turned away, as SRT says it to the caller (``SRT_REJX_...``)."""

    BAD_REQUEST = 1400
    UNAUTHORIZED = 1401
    OVERLOAD = 1402
    FORBIDDEN = 1403
    NOT_FOUND = 1404
    BAD_MODE = 1405
    UNACCEPTABLE = 1406
    CONFLICT = 1409


REJECTS: Mapping[Code, Reject] = {
    Code.AUTH_FAILED: Reject.UNAUTHORIZED,
    Code.REGISTER_REQUIRED: Reject.UNAUTHORIZED,
    Code.CAPACITY: Reject.OVERLOAD,
    Code.TAKEN_OVER: Reject.CONFLICT,
    Code.INVALID_MESSAGE: Reject.BAD_REQUEST,
    Code.INVALID_REQUEST: Reject.BAD_REQUEST,
    Code.PORT_EXHAUSTED: Reject.OVERLOAD,
    Code.TTL_EXPIRED: Reject.NOT_FOUND,
    Code.BE_LOST: Reject.NOT_FOUND,
    Code.HELLO_INVALID: Reject.BAD_REQUEST,
    Code.PORT_BUSY: Reject.CONFLICT,
    Code.PORT_EMPTY: Reject.NOT_FOUND,
    Code.PORT_RESERVED: Reject.FORBIDDEN,
    Code.NOT_ADMITTED: Reject.UNAUTHORIZED,
    Code.SIGNATURE_INVALID: Reject.UNAUTHORIZED,
    Code.REPLAYED: Reject.UNAUTHORIZED,
    Code.RATE_LIMITED: Reject.OVERLOAD,
    Code.DRAINING: Reject.OVERLOAD,
}
"""The rejection of each code, where the refusal is none of those that SRT tells apart."""

_APART: tuple[tuple[type[PeerError], Reject], ...] = (
    (WrongTransportError, Reject.UNACCEPTABLE),
    (BadModeError, Reject.BAD_MODE),
    (UnknownLeaseError, Reject.NOT_FOUND),
    (WrongServiceError, Reject.NOT_FOUND),
    (ForbiddenError, Reject.FORBIDDEN),
    (RetiredError, Reject.NOT_FOUND),
)


def reject_of(error: PeerError) -> Reject:
    """How SRT says a refusal."""
    for kind, reject in _APART:
        if isinstance(error, kind):
            return reject
    return REJECTS[error.code]


class StreamIdError(PeerError):
    """A stream id that cannot be read, or not be written."""

    def __init__(self, text: str) -> None:
        super().__init__(Code.HELLO_INVALID, text)


class Mode(StrEnum):
    """What a caller wants to do with its stream, ``m``."""

    REQUEST = "request"
    PUBLISH = "publish"
    BIDIRECTIONAL = "bidirectional"


class Type(StrEnum):
    """What a caller's bytes are, ``t``: live messages, or bytes without boundaries."""

    STREAM = "stream"
    FILE = "file"


class StreamId(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream id says; "" and None are absent.

    :ivar on_fe_close: of a BE: close or keep, as in HELLO.
    :ivar plain: the stream id as a whole where it is a name of its owner's own.
    """

    client_id: str = ""
    session_id: str = ""
    mode: Mode | None = None
    type: Type | None = None
    role: Role | None = None
    service: str = ""
    ticket: str = ""
    on_fe_close: str = ""
    plain: str = ""

    def __repr__(self) -> str:
        return (
            f"StreamId(role={self.role}, mode={self.mode}, client_id={self.client_id!r}, "
            f"service={self.service!r})"
        )

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return shown_fields(self, "ticket", "session_id")


_FIELDS: Mapping[str, str] = {
    "u": "client_id",
    "s": "session_id",
    "m": "mode",
    "t": "type",
    "r": "service",
    "x-role": "role",
    "x-ticket": "ticket",
    "x-on-fe-close": "on_fe_close",
}
"""Which field a key is; others are ignored, ``h`` (host) among them."""


def parse_stream_id(raw: bytes) -> StreamId:
    """Read a stream id as the caller sent it.

    :raises StreamIdError: naming what is wrong and what is allowed.
    """
    if len(raw) > MAX_STREAM_ID:
        raise StreamIdError(f"the stream id is {len(raw)} bytes; allowed: {MAX_STREAM_ID}")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise StreamIdError("the stream id is not UTF-8") from None
    if _CONTROL.search(text):
        raise StreamIdError("the stream id has control characters")
    if not text.startswith(PREFIX):
        return StreamId(plain=text)
    body = text.removeprefix(PREFIX)
    if not body.startswith(":"):
        raise StreamIdError(
            f"the stream id is {shown(text)}; allowed: #!::key=value,key=value, or a name that "
            f"does not begin with {PREFIX}"
        )
    return _checked(_pairs(body[1:]))


def _pairs(body: str) -> dict[str, str]:
    """The values of the keys that mean something here, by field."""
    found: dict[str, str] = {}
    for pair in body.split(",") if body else ():
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise StreamIdError(f"{shown(pair)} in the stream id is not key=value")
        field = _FIELDS.get(key)
        if field is None:
            continue
        if field in found:
            raise StreamIdError(f"the stream id has {key} more than once")
        found[field] = value
    return found


def _checked(said: dict[str, str]) -> StreamId:
    mode, role, kind = said.pop("mode", ""), said.pop("role", ""), said.pop("type", "")
    try:
        wants = Mode(mode) if mode else None
    except ValueError:
        raise BadModeError(f"m is {shown(mode)}; allowed: {', '.join(Mode)}") from None
    found = StreamId(
        mode=wants,
        type=_one_of(Type, "t", kind) if kind else None,
        role=_one_of(Role, "x-role", role) if role else None,
        **said,
    )
    fault = ""
    if not is_client_id(found.client_id):
        fault = "u is not 0 to 128 printable characters"
    elif not SERVICE.fullmatch(found.service):
        fault = f"r is {shown(found.service)}, which is no service: {SERVICE_ALLOWED}"
    elif not fits(found.session_id) or not fits(found.ticket):
        fault = "s or x-ticket is longer than 256 bytes"
    elif found.on_fe_close not in ("", "close", "keep"):
        fault = f"x-on-fe-close is {shown(found.on_fe_close)}; allowed: close, keep"
    if fault:
        raise StreamIdError(fault)
    return found


def _one_of(kind: type[E], key: str, value: str) -> E:
    try:
        return kind(value)
    except ValueError:
        allowed = ", ".join(kind)
        raise StreamIdError(f"{key} is {shown(value)}; allowed: {allowed}") from None


def encode_stream_id(said: StreamId) -> bytes:
    """Write a stream id so that :func:`parse_stream_id` reads the same.

    :raises StreamIdError: where there is none that says this.
    """
    pairs = [f"{key}={value}" for key, field in _FIELDS.items() if (value := getattr(said, field))]
    text = f"{PREFIX}:{','.join(pairs)}" if pairs else said.plain
    raw = text.encode("utf-8", "replace")
    if parse_stream_id(raw) != said:
        raise StreamIdError("a value has a comma in it, or stands beside a plain stream id")
    return raw
