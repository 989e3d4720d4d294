"""Moves messages between SRT sockets: in C where that was built, else in Python.

A pump has one set of sockets (an SRT epoll). Those that were joined are moved by it; what happens
to others is told to its caller, who is always the same thread. :class:`CPump` keeps Python and its
lock out of the way of messages; :class:`~relayx.srt.pythonpump.PythonPump` is the same for where
there was no compiler.
"""

from __future__ import annotations

from enum import IntEnum
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from relayx.srt.binding import EPOLL_IN, Library, SrtError

try:
    _compiled: ModuleType | None = import_module("relayx.srt._pump")
except ImportError:
    _compiled = None

PACE_US = 2000
"""Microseconds after a turn in which messages moved: several at once cost less than one each."""

SPARE = 5.0
"""Seconds behind the latency in which what a side had sent before its end may still come due:
libsrt counts from its handshake, and has all that follows a slow one due that much later."""

_CALLS = (
    "srt_recvmsg", "srt_sendmsg", "srt_getlasterror", "srt_epoll_wait", "srt_epoll_add_usock",
    "srt_epoll_update_usock", "srt_epoll_remove_usock", "srt_recvmsg2", "srt_getsockflag",
)  # fmt: skip
_EVENTS = 256


class What(IntEnum):
    """What happened."""

    READABLE = 1
    """A socket that is not joined has something, or has ended; for a listener, a connection."""

    ENDED = 2
    """A socket that was joined has ended, and all that it sent was moved."""

    WOKEN = 3
    """Somebody wrote to the wake descriptor."""

    ROOM = 4
    """A socket has room for messages, or is connected, or has ended; see :meth:`Pump.room`."""


class Event(NamedTuple):
    """Something for the pump's caller; `sock` is -1 where it is about none."""

    sock: int
    what: What


class Counts(NamedTuple):
    """What went one way between two sockets.

    :ivar dropped: messages that the receiving side had no room for, or that are longer than a
        packet to it. What comes for one that is gone is nobody's, and not counted.
    :ivar stalled: seconds for which the sending side was not read because of the other.
    :ivar oversize: the messages of `dropped` that are longer than a packet.
    """

    messages: int = 0
    bytes: int = 0
    dropped: int = 0
    dropped_bytes: int = 0
    stalled: float = 0.0
    oversize: int = 0


class Pump(Protocol):
    """What both pumps do."""

    def add(self, sock: int, *, reads: bool, latency: int) -> None:
        """Take a socket in; `latency`: ms for which what it sent may come due after its end."""

    def read(self, sock: int, reads: bool) -> None:
        """Have a socket that is not joined told of when it has something, or only of its end."""

    def room(self, sock: int, wanted: bool) -> None:
        """Have a socket that nobody is joined to told of when it has room."""

    def join(self, source: int, target: int, *, holds: bool) -> None:
        """Move a socket's messages to another; `holds`: wait for room, otherwise drop."""

    def part(self, source: int, target: int) -> None:
        """Move no more from one to the other."""

    def discard(self, sock: int) -> None:
        """Throw away what a socket sends that is joined with nobody."""

    def skip(self, sock: int, until: float) -> None:
        """Throw away what a socket sends that is due before `until` (time.monotonic())."""

    def end(self, sock: int) -> None:
        """Take a socket for ended: move what it had sent, then tell of it."""

    def counted(self, source: int, target: int) -> Counts:
        """What was moved from one to the other."""

    def holds(self, source: int, target: int) -> bool:
        """Whether a message waits for room."""

    def remove(self, sock: int) -> None:
        """Forget a socket and its lanes; others may still lead to it, and drop what they have."""

    def run(self, timeout: float | None) -> list[Event]:
        """Wait and move; return when something is for the caller, or `timeout` seconds passed."""

    def close(self) -> None:
        """Forget everything."""


def new_pump(library: Library, wake: int, *, compiled: bool = True) -> Pump:
    """A pump.

    :param wake: a descriptor that becomes readable to interrupt :meth:`Pump.run`.
    :param compiled: whether the one in C is wanted, if there is one.
    """
    if compiled and _compiled is not None:
        return CPump(library, wake)
    from relayx.srt.pythonpump import PythonPump  # which is made of what stands here

    return PythonPump(library, wake)


def is_compiled() -> bool:
    """Whether there is a pump in C."""
    return _compiled is not None


def new_epoll(library: Library, wake: int) -> int:
    """An SRT epoll that waits for the wake descriptor too."""
    eid = int(library.lib.srt_epoll_create())
    library.lib.srt_epoll_add_ssock(eid, wake, library.ffi.new("int *", EPOLL_IN))
    return eid


def receive_timed(library: Library, sock: int, room: Any, size: int) -> tuple[int, float]:
    """srt_recvmsg: what it returns, and when the message is due, in seconds of time.monotonic()."""
    control = library.ffi.new("SRT_MSGCTRL *")
    return library.lib.srt_recvmsg2(sock, room, size, control), control.srctime / 1e6


def is_done(library: Library, sock: int, until: float, now: float) -> bool:
    """Whether nothing more can come due of a socket that has ended.

    :param until: its latency after its end.
    """
    if now < until:
        return False
    try:
        return now >= until + SPARE or not library.get(sock, "rcvdata")
    except SrtError:  # it is closed
        return True


class CPump:
    """The pump in C."""

    def __init__(self, library: Library, wake: int) -> None:
        self._library = library
        self._eid = new_epoll(library, wake)
        code: Any = _compiled
        self._lib, ffi = code.lib, code.ffi
        calls = ffi.new("uintptr_t[]", [library.address_of(name) for name in _CALLS])
        self._pump = self._lib.relayx_new(calls, self._eid, wake, PACE_US)
        self._events = ffi.new("relayx_event[]", _EVENTS)
        self._ffi = ffi

    def add(self, sock: int, *, reads: bool, latency: int) -> None:
        """See :class:`Pump`."""
        self._lib.relayx_add(self._pump, sock, reads, latency)

    def read(self, sock: int, reads: bool) -> None:
        """See :class:`Pump`."""
        self._lib.relayx_read(self._pump, sock, reads)

    def room(self, sock: int, wanted: bool) -> None:
        """See :class:`Pump`."""
        self._lib.relayx_room(self._pump, sock, wanted)

    def join(self, source: int, target: int, *, holds: bool) -> None:
        """See :class:`Pump`."""
        self._lib.relayx_join(self._pump, source, target, holds)

    def part(self, source: int, target: int) -> None:
        """See :class:`Pump`."""
        self._lib.relayx_part(self._pump, source, target)

    def discard(self, sock: int) -> None:
        """See :class:`Pump`."""
        self._lib.relayx_discard(self._pump, sock)

    def skip(self, sock: int, until: float) -> None:
        """See :class:`Pump`."""
        self._lib.relayx_skip(self._pump, sock, int(until * 1e6))

    def end(self, sock: int) -> None:
        """See :class:`Pump`."""
        self._lib.relayx_end(self._pump, sock)

    def counted(self, source: int, target: int) -> Counts:
        """See :class:`Pump`."""
        counts = self._ffi.new("relayx_counts *")
        if self._lib.relayx_counted(self._pump, source, target, counts) < 0:
            return Counts()
        return Counts(
            counts.messages, counts.bytes, counts.dropped, counts.dropped_bytes,
            counts.stalled_ns / 1e9, counts.oversize,
        )  # fmt: skip

    def holds(self, source: int, target: int) -> bool:
        """See :class:`Pump`."""
        return bool(self._lib.relayx_holds(self._pump, source, target))

    def remove(self, sock: int) -> None:
        """See :class:`Pump`."""
        self._lib.relayx_remove(self._pump, sock)

    def run(self, timeout: float | None) -> list[Event]:
        """See :class:`Pump`."""
        wait = -1 if timeout is None else int(timeout * 1000)
        found = self._lib.relayx_run(self._pump, wait, self._events, _EVENTS)
        if found < 0:
            raise self._library.error("waiting for SRT sockets")
        return [Event(e.sock, What(e.what)) for e in self._events[0:found]]

    def close(self) -> None:
        """See :class:`Pump`."""
        self._lib.relayx_free(self._pump)
        self._library.lib.srt_epoll_release(self._eid)
