"""One direction of a ZMTP connection, from its greeting on (RFC 23, 24, 25 and 37).

The handshake, by mechanism; each line is one direction, and ERROR may stand instead of any::

    NULL           READY
    PLAIN, CURVE   HELLO  INITIATE      the client
                   WELCOME  READY       the server
"""

from __future__ import annotations

from enum import Enum

from relayx.zmtp.commands import name_of, read_error, read_hello, read_ready
from relayx.zmtp.errors import Fault, ZmtpError, malformed
from relayx.zmtp.events import Command, Event, Failed, Greeting, Ready
from relayx.zmtp.frames import (
    COMMAND,
    MAX_FRAME,
    Traffic,
    check_flags,
    header_bytes,
    size_in,
)
from relayx.zmtp.greeting import GREETING_BYTES, read_greeting

MAX_HANDSHAKE_COMMAND = 65536
"""Most bytes in a command of the handshake; libzmq's are under 1 KiB."""

_LIBZMQ_ERROR = b"^RROR"
"""ERROR as libzmq writes it with PLAIN, seen from 4.3.5: its "\\x05ERROR" is 0x5e and RROR in C."""


class Part(Enum):
    """Who a direction turns out to come from, where its mechanism has the two."""

    CLIENT = "client"
    SERVER = "server"


class _State(Enum):
    GREETED = "at the start of its handshake"
    SAID_HELLO = "behind HELLO"
    SAID_WELCOME = "behind WELCOME"
    READY = "behind its handshake"
    FAILED = "behind ERROR"


_SECURE = {
    (_State.GREETED, "HELLO"): _State.SAID_HELLO,
    (_State.GREETED, "WELCOME"): _State.SAID_WELCOME,
    (_State.SAID_HELLO, "INITIATE"): _State.READY,
    (_State.SAID_WELCOME, "READY"): _State.READY,
}
_NEXT: dict[str, dict[tuple[_State, str], _State]] = {
    "NULL": {(_State.GREETED, "READY"): _State.READY},
    "PLAIN": _SECURE,
    "CURVE": _SECURE,
}
_PARTS = {_State.SAID_HELLO: Part.CLIENT, _State.SAID_WELCOME: Part.SERVER}


class Reader:
    """Follows one direction while it goes through.

    What it tells is the same whatever way the stream is cut. It holds the greeting, a command of
    the handshake, or a frame's header, never content. After an error it raises the same again.

    :param max_message: the most bytes in a message behind the handshake, all its frames together.
    :param handshake_only: tell nothing, and take anything, behind the handshake.
    :ivar greeting: the greeting, once it is there.
    :ivar part: client or server, once its first command of PLAIN or CURVE is there.
    :ivar ready: the end of its handshake, once it is there.
    :ivar failed: its ERROR in the handshake; nothing behind that is looked at.
    :ivar stops: offsets in the stream behind the greeting and behind each command of the
        handshake; the last is where traffic begins, once `ready` is there.
    """

    def __init__(self, *, max_message: int | None = None, handshake_only: bool = False) -> None:
        self.greeting: Greeting | None = None
        self.part: Part | None = None
        self.ready: Ready | None = None
        self.failed: Failed | None = None
        self.stops: list[int] = []
        self._max_message = MAX_FRAME if max_message is None else max_message
        self._handshake_only = handshake_only
        self._state = _State.GREETED
        self._held = bytearray()
        self._wanted = GREETING_BYTES
        self._traffic: Traffic | None = None
        self._error: ZmtpError | None = None

    @property
    def messages(self) -> int:
        """Whole messages so far."""
        return self._traffic.messages if self._traffic else 0

    @property
    def message_bytes(self) -> int:
        """Content of all frames of messages so far, the one under way counted whole."""
        return self._traffic.message_bytes if self._traffic else 0

    def feed(self, data: bytes | memoryview) -> list[Event]:
        """Take the next bytes, of a memoryview of bytes or of bytes, and return what they complete.

        :raises ZmtpError: this is no ZMTP that is understood here; what was complete before is in
            its `events`.
        """
        events: list[Event] = []
        self._take(data, events)
        return events

    def count(self, data: bytes | memoryview) -> int:
        """Take the next bytes and return how many messages they complete; it makes no events.

        :raises ZmtpError: as in :meth:`feed`.
        """
        before = self.messages
        self._take(data, None)
        return self.messages - before

    def _take(self, data: bytes | memoryview, events: list[Event] | None) -> None:
        if self._error is not None:
            self._error.events = ()
            raise self._error
        try:
            if self._traffic is not None:
                self._traffic.read(data, 0, events)
            else:
                self._shake(data, events)
        except ZmtpError as error:
            error.events = events or ()
            self._error = error
            raise

    def _shake(self, data: bytes | memoryview, events: list[Event] | None) -> None:
        """Take bytes of the greeting and the handshake, and what is behind them."""
        pos, end, held = 0, len(data), self._held
        while pos < end and self._state not in (_State.READY, _State.FAILED):
            taken = data[pos : pos + self._wanted - len(held)]
            held += taken
            pos += len(taken)
            event = self._greet(held) if self.greeting is None else self._command(held)
            if event is not None and events is not None:
                events.append(event)
        if self._state is _State.READY and not self._handshake_only:
            opaque = self.greeting is not None and self.greeting.mechanism == "CURVE"
            self._traffic = Traffic(self._max_message, opaque)
            self._traffic.read(data, pos, events)

    def _greet(self, held: bytearray) -> Event | None:
        self.greeting = read_greeting(held)
        if self.greeting is not None:
            self.stops.append(GREETING_BYTES)
            held.clear()
            self._wanted = 1
        return self.greeting

    def _command(self, held: bytearray) -> Event | None:
        """Look at a frame of the handshake as far as it is there."""
        if len(held) < self._wanted:
            return None
        flags = held[0]
        check_flags(flags)
        if not flags & COMMAND:
            raise malformed(f"a message {self._state.value}; a command is allowed there alone")
        start = header_bytes(flags)
        self._wanted = start
        if len(held) < start:
            return None
        size = size_in(held[:start])
        if size > MAX_HANDSHAKE_COMMAND:
            text = f"a command of {size} bytes in the handshake; {MAX_HANDSHAKE_COMMAND} is most"
            raise ZmtpError(Fault.TOO_BIG, text)
        self._wanted = start + size
        if len(held) < self._wanted:
            return None
        body = bytes(held[start:])
        held.clear()
        self._wanted = 1
        self.stops.append(self.stops[-1] + start + size)
        return self._completed(body)

    def _completed(self, body: bytes) -> Event:
        assert self.greeting is not None
        mechanism = self.greeting.mechanism
        if mechanism == "PLAIN" and body.startswith(_LIBZMQ_ERROR):
            body = b"\x05E" + body[1:]
        name = name_of(body)
        rest = body[1 + len(name) :]
        if name == "ERROR":
            self._state = _State.FAILED
            self.failed = read_error(rest)
            return self.failed
        state = _NEXT[mechanism].get((self._state, name))
        if state is None:
            allowed = " or ".join(n for at, n in _NEXT[mechanism] if at is self._state)
            raise malformed(
                f"{name} {self._state.value} with {mechanism}; allowed there is {allowed} or ERROR"
            )
        self._state = state
        self.part = _PARTS.get(state, self.part)
        if state is _State.READY:
            self.ready = Ready("") if mechanism == "CURVE" else read_ready(name, rest)
            return self.ready
        if mechanism == "PLAIN" and name == "HELLO":
            return read_hello(rest)
        return Command(name)
