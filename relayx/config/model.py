"""Every configuration key with its type, default, range and meaning (contract section 1).

This is the one place for each of these facts: the loader checks against it, and the texts of
the files in ``configs/`` and of ``relayx init`` are made from it. Durations are seconds.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

COUNT_MOST = 2**31 - 1
KIB = 1024
MIB = 1024 * KIB
LONGEST = 168 * 3600
"""Seconds: a week; the reactor's poll cannot wait for more than 24 days."""

DURATION = "duration"
"""Mark of a key whose text is a Go style duration."""


def _count(text: str) -> Meta:
    return Meta(ge=1, le=COUNT_MOST, description=text)


def _port(text: str) -> Meta:
    return Meta(ge=1, le=65535, description=text)


def _duration(text: str, least: int = 0, most: int = LONGEST) -> Meta:
    return Meta(ge=least, le=most, description=text, extra={"kind": DURATION})


def _text(text: str) -> Meta:
    return Meta(description=text)


class Admission(StrEnum):
    """Who may use a data port (contract section 6)."""

    OPEN = "open"
    PEER = "peer"
    TICKET = "ticket"


class OnFeClose(StrEnum):
    """What an FE's end means for a BE that did not say so in HELLO (contract section 7)."""

    KEEP = "keep"
    CLOSE = "close"


class Splice(StrEnum):
    """How the bytes of a session are moved."""

    AUTO = "auto"
    OFF = "off"


class Level(StrEnum):
    """The least severe line that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a log line is written."""

    TEXT = "text"
    JSON = "json"


class LogStream(StrEnum):
    """Who gets `log` messages over the control plane (contract section 3)."""

    OFF = "off"
    BE = "be"
    ALL = "all"


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of the sections of the file."""


class Relay(Section, frozen=True):
    """Section ``relay``: how many clients, which ports. `ring_buffer_size` is in bytes."""

    max_fe: Annotated[int, _count("registered FEs at once")] = 50
    max_be: Annotated[int, _count("registered BEs at once")] = 50
    ring_buffer_size: Annotated[
        int,
        Meta(
            ge=MIB,
            le=2**40,
            description="most bytes the gateway itself holds per direction of a session",
        ),
    ] = 32 * MIB
    reaper_timeout: Annotated[
        float, _duration("how long a lost BE may take to come back; at least 1s in prod")
    ] = 10.0
    control_port: Annotated[int, _port("where clients register, unless control.endpoints says")] = (
        5555
    )
    srt_start_port: Annotated[int, _port("first srt port; no key, no port")] | None = None
    srt_end_port: Annotated[int, _port("last srt port")] | None = None
    zmq_start_port: Annotated[int, _port("first zmq port; no key, no port")] | None = None
    zmq_end_port: Annotated[int, _port("last zmq port")] | None = None

    def ports(self, protocol: str) -> range:
        """The ports of ``"srt"`` or ``"zmq"``, none where its two keys are absent."""
        first, last = {
            "srt": (self.srt_start_port, self.srt_end_port),
            "zmq": (self.zmq_start_port, self.zmq_end_port),
        }[protocol]
        return range(0) if first is None or last is None else range(first, last + 1)


class Control(Section, frozen=True):
    """Section ``control``: the connections over which clients register and ask."""

    endpoints: Annotated[
        tuple[str, ...], _text("Twisted strports to listen on; empty: tcp:<relay.control_port>")
    ] = ()
    register_timeout: Annotated[float, _duration("how long a client may take to register")] = 5.0
    idle_timeout: Annotated[
        float, _duration("a client silent for this long is dropped; 0s: never")
    ] = 0.0
    max_message_bytes: Annotated[
        int, Meta(ge=KIB, le=64 * MIB, description="longest message that a client may send")
    ] = 64 * KIB
    max_outbox_bytes: Annotated[
        int,
        Meta(
            ge=4 * KIB,
            le=2**30,
            description="a client that reads too slowly to stay under this is dropped",
        ),
    ] = MIB
    max_unregistered: Annotated[
        int, _count("connections that have not registered yet; past it the oldest is closed")
    ] = 256


class Data(Section, frozen=True):
    """Section ``data``: the ports that carry sessions (contract sections 6 and 7)."""

    interface: Annotated[
        str, _text('address to listen on; "": every IPv4 address, "::": dual stack')
    ] = ""
    advertise_host: Annotated[str, _text('host that a grant carries; "": none')] = ""
    hello_timeout: Annotated[float, _duration("how long a data connection may take for HELLO")] = (
        2.0
    )
    max_waiting_hello: Annotated[
        int, _count("data connections that have not said HELLO; past it the oldest is closed")
    ] = 1024
    admission: Annotated[Admission, _text("who may use a data port")] = Admission.PEER
    be_on_fe_close: Annotated[
        OnFeClose, _text("what becomes of a BE's connection when its FE ends")
    ] = OnFeClose.KEEP
    drain_quiet: Annotated[
        float, _duration("a kept BE silent for this long has no more to say to a gone FE")
    ] = 0.2
    drain_limit: Annotated[
        float, _duration("a kept BE still sending to a gone FE after this is closed")
    ] = 30.0
    session_idle_timeout: Annotated[
        float, _duration("a session without progress for this long is ended; 0s: never")
    ] = 0.0
    half_close_timeout: Annotated[
        float, _duration("the same for a session with one direction ended; 0s: never")
    ] = 600.0
    keepalive: Annotated[
        # The kernel counts it in whole seconds and takes at most 32767 of them.
        float, _duration("TCP keepalive of control and data connections", least=1, most=32767)
    ] = 15.0
    splice: Annotated[
        Splice,
        _text("auto: without copying where the system can; off: always by the buffered path"),
    ] = Splice.AUTO
    drain_timeout: Annotated[
        float, _duration("how long running sessions get when the gateway stops")
    ] = 5.0


class Http(Section, frozen=True):
    """Section ``http``: the operator's pages."""

    endpoint: Annotated[str, _text('a Twisted strports; "": off')] = "tcp:8080:interface=127.0.0.1"


class Log(Section, frozen=True):
    """Section ``log``."""

    level: Annotated[Level, _text("the least severe line that is logged")] = Level.INFO
    format: Annotated[LogFormat, _text("how a line is written")] = LogFormat.TEXT
    stream: Annotated[LogStream, _text("who gets `log` messages")] = LogStream.OFF


class Config(msgspec.Struct, frozen=True):
    """The whole of a configuration file."""

    relay: Relay = Relay()
    control: Control = Control()
    data: Data = Data()
    http: Http = Http()
    log: Log = Log()


class Secrets(msgspec.Struct, frozen=True):
    """The secret file. Nothing that prints one shows a secret; "" is none.

    :ivar relay_public_key: the gateway's public key, PEM.
    :ivar auth_secret: what clients register with.
    :ivar auth_secret_previous: also accepted while the secret is rotated.
    """

    auth_secret: str
    auth_secret_previous: str = ""
    relay_public_key: str = ""

    def __repr__(self) -> str:
        return f"Secrets(<hidden>, relay_public_key={'<set>' if self.relay_public_key else ''!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # msgspec gives its own, which rich prefers to __repr__ and which shows every field.
        return [("relay_public_key", "<set>" if self.relay_public_key else "")]
