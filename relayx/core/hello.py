"""HELLO and its answers, the first lines of a data connection (contract section 6)."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from relayx.core.codec import client_id_fault, id_fault, shown
from relayx.core.errors import Code, PeerError
from relayx.core.messages import Role, shown_fields

PREFIX = b"RLX1HELLO "
MAX_LINE = 4096
SERVICE = re.compile(r"[a-z0-9.-]{0,64}")
SERVICE_ALLOWED = "0 to 64 of a-z, 0-9, '-' and '.'"


class HelloError(PeerError):
    """A HELLO that the contract does not allow. `ack` tells whether it asked for an answer."""

    def __init__(self, text: str, *, ack: bool = False) -> None:
        super().__init__(Code.HELLO_INVALID, text)
        self.ack = ack


def _is(text: str) -> Meta:
    return Meta(description=text)


class Hello(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a data connection says of itself. "" is absent; `on_fe_close` and `proxy` are a BE's.

    `proxy` "v2" asks for a PROXY header with the FE's address before each session's bytes.
    """

    role: Annotated[Role, _is("FE or BE")]
    client_id: Annotated[str, _is("the id under which the client is registered")] = ""
    service: Annotated[str, _is("of a BE: the port's from now on; of an FE: the one it wants")] = ""
    session_id: Annotated[str, _is("of an FE: names the lease that it uses")] = ""
    ticket: Annotated[str, _is("of an FE: from port_grant")] = ""
    ack: Annotated[bool, _is("whether the gateway is to answer in lines")] = False
    on_fe_close: Annotated[
        str, _is('of a BE: what an FE\'s end means for its connection; "": as configured')
    ] = ""
    proxy: Annotated[
        str, _is("of a BE: v2 asks for a PROXY header with the FE's address before each session")
    ] = ""

    def __repr__(self) -> str:
        return f"Hello(role={self.role}, client_id={self.client_id!r}, service={self.service!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return shown_fields(self, "ticket", "session_id")


class _Ack(msgspec.Struct):
    ack: bool = False


# Numbers past a float's range are JSON too, in a field that nobody reads.
_HELLO = msgspec.json.Decoder(Hello, float_hook=str)
_ACK = msgspec.json.Decoder(_Ack, float_hook=str)


def encode_hello(hello: Hello) -> bytes:
    """The line that says `hello`, newline included."""
    return PREFIX + msgspec.json.encode(hello) + b"\n"


def decode_hello(line: bytes) -> Hello:
    """Parse one line without its newline.

    :raises HelloError: naming what is wrong and what is allowed.
    """
    if not line.startswith(PREFIX):
        raise HelloError(f"a data connection begins with {PREFIX.decode()!r} and a JSON object")
    body = line[len(PREFIX) :]
    try:
        body.decode("utf-8")
        hello = _HELLO.decode(body)
    except UnicodeDecodeError:
        raise HelloError("HELLO is not UTF-8") from None
    except msgspec.ValidationError as error:
        raise HelloError(f"HELLO: {error}; role is FE or BE", ack=_asks(body)) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise HelloError(f"HELLO is not JSON: {error}") from None
    fault = _fault(hello)
    if fault:
        raise HelloError(fault, ack=hello.ack)
    return hello


def _asks(body: bytes) -> bool:
    """Whether a HELLO that is wrong otherwise asks for an answer."""
    try:
        return _ACK.decode(body).ack
    except msgspec.DecodeError:
        return False


def _fault(hello: Hello) -> str:
    fault = client_id_fault("client_id", hello.client_id)
    for name, value in (("session_id", hello.session_id), ("ticket", hello.ticket)):
        fault = fault or id_fault(name, value)
    if fault:
        return fault
    if not SERVICE.fullmatch(hello.service):
        return f"service {shown(hello.service)} is not {SERVICE_ALLOWED}"
    if hello.on_fe_close not in ("", "close", "keep"):
        return f"on_fe_close is {shown(hello.on_fe_close)}; allowed: close, keep"
    if hello.proxy and (hello.proxy != "v2" or hello.role is not Role.BE):
        return f"proxy is {shown(hello.proxy)} of {hello.role}; allowed: v2, of a BE"
    if hello.role is Role.BE and hello.ack and hello.on_fe_close == "keep":
        return "ack and on_fe_close keep exclude each other: a kept BE has no place for answers"
    return ""


class HelloReader:
    """Takes HELLO out of a byte stream, whatever way it is cut into segments."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> tuple[Hello, bytes] | None:
        """Return HELLO and the session bytes that came after it, or None while it is incomplete.

        :raises HelloError: as soon as the bytes cannot become a HELLO.
        """
        held = self._held + data
        end = held.find(b"\n", 0, MAX_LINE)
        if end >= 0:
            self._held = b""
            return decode_hello(held[:end]), held[end + 1 :]
        if len(held) >= MAX_LINE:
            raise HelloError(f"HELLO is longer than {MAX_LINE} bytes")
        if not held.startswith(PREFIX[: len(held)]):
            raise HelloError(f"a data connection begins with {PREFIX.decode()!r}")
        self._held = held
        return None


class Waiting(msgspec.Struct, frozen=True):
    """Answer to a BE that waits on its port."""

    WORD: ClassVar[bytes] = b"RLX1OK"
    state: Annotated[str, _is("of the port")] = "ready"


class Paired(msgspec.Struct, frozen=True):
    """Answer to a side that is paired; `client_id` and `address` are the other side's."""

    WORD: ClassVar[bytes] = b"RLX1PAIRED"
    pairing_id: Annotated[str, _is("names the session")]
    session_id: Annotated[str, _is('names the lease; "": there is none')]
    client_id: Annotated[str, _is("the other side's")]
    address: Annotated[str, _is("the other side's")]
    trace_id: Annotated[str, _is("of the request that led to the lease")]


class Refused(msgspec.Struct, frozen=True):
    """Answer to a side that is turned away, before the connection closes."""

    WORD: ClassVar[bytes] = b"RLX1ERR"
    error_code: Annotated[str, _is("why")]
    error: Annotated[str, _is("the same as a sentence")]


Answer = Waiting | Paired | Refused


def encode_answer(answer: Answer) -> bytes:
    """The line of `answer`, newline included."""
    return answer.WORD + b" " + msgspec.json.encode(answer) + b"\n"


def decode_answer(line: bytes) -> Answer:
    """Parse one answer line without its newline.

    :raises HelloError: where it is none of the three.
    """
    word, _, body = line.partition(b" ")
    kinds: tuple[type[Answer], ...] = (Waiting, Paired, Refused)
    for kind in kinds:
        if word == kind.WORD:
            try:
                return msgspec.json.decode(body, type=kind)
            except msgspec.DecodeError as error:
                raise HelloError(f"{word.decode()}: {error}") from None
    raise HelloError("the gateway's answer is not one of RLX1OK, RLX1PAIRED, RLX1ERR")
