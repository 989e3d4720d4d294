"""The thread that has all SRT sockets: it accepts, moves messages and sees ends.

Whatever it decides by itself is about bytes. Who may come and who is paired with whom is decided in
the reactor's thread, which orders by :meth:`Engine.order`; what happens is told there by
``callFromThread``. Sockets are libsrt's numbers.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from twisted.logger import Logger

from relayx.srt.binding import BROKEN, CONNECTED, Library, Peer, SrtError
from relayx.srt.pump import Event, Pump, What, new_pump, receive_timed

COUNT_EVERY = 0.1
"""Seconds from one look at what was moved to the next."""

MEASURE_EVERY = 1.0
"""Seconds from one look at the state of links to the next (srt_bstats)."""

SETTLE = 0.02
"""Seconds after a handshake in which nobody is sent to: libsrt (seen with 1.5.1) loses what comes
to a caller before it knows that it is connected, and sends it again only when more comes behind
it, or after seconds."""

KNOWN = 0.1
"""Seconds after a handshake before which nobody is turned away: a caller that is closed before it
knows that it is connected takes no notice (seen with libsrt 1.5.1), and finds out by itself after
five seconds."""

LOOK_EVERY = 0.01
EARLY_LIMIT = 65536
"""Bytes that are kept of what a BE sends before its first session (contract section 6)."""

MESSAGE_ROOM = 65536
"""Bytes of a message at most, or of what is read at once in buffer mode."""

_MESSAGES_A_TURN = 64
_log = Logger(namespace="relayx.srt")


_ONE = (1).to_bytes(8, sys.byteorder)


def _wake_pair() -> tuple[int, int]:
    """A descriptor that becomes readable when something is written to the other."""
    if sys.platform == "linux":
        both = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return both, both
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    return reading, writing


class Party(Protocol):
    """Who has sockets in the engine and is told about them, in the engine's thread."""

    def ended(self, sock: int) -> None:
        """A joined socket has ended, and all that it sent was moved."""

    def count(self, now: float) -> None:
        """It is time to tell what was moved."""

    def look(self, now: float) -> bool:
        """Look at what is being waited for; whether something still is."""


class Waiting:
    """A socket that is in no session: what it sends is kept for its first one, or thrown away.

    :ivar buffered: it sends bytes and not messages (SRT's buffer mode): they are left to libsrt,
        which has the sender wait.
    :ivar discards: what it sends is thrown away.
    :ivar latency: milliseconds after its end in which what it has sent may still come due.
    :ivar ended: it has ended, and may have sent what is still to be read.
    """

    __slots__ = ("buffered", "discards", "early", "ended", "latency", "since", "size")

    def __init__(self, keeps: bool, buffered: bool = False) -> None:
        self.early: deque[bytes] | None = deque() if keeps else None
        self.buffered = buffered
        self.discards = False
        self.ended = False
        self.latency = 0
        self.since = time.monotonic()
        self.size = 0

    def take(self, message: bytes) -> None:
        """Keep what has come.

        A live stream goes on coming, and the latest EARLY_LIMIT bytes are kept: who comes to it
        sees it as it is.
        """
        if self.early is None:
            return
        self.early.append(message)
        self.size += len(message)
        while self.size > EARLY_LIMIT:
            self.size -= len(self.early.popleft())

    def clean_at(self, begins: float) -> float:
        """When all is due that a kept BE had sent before a session, which is none of the session's.

        :param begins: when the session's FE came; the BE may have waited only later.
        """
        return max(self.since, begins) + self.latency / 1000 if self.discards else 0.0


class Engine:
    """All SRT sockets of one gateway.

    :param library: libsrt, which is started and stopped with the engine.
    :param from_thread: has a function called in the reactor's thread, with arguments.
    :param compiled: whether the pump in C is wanted.
    :ivar pump: moves messages; for the engine's thread alone.
    """

    def __init__(
        self, library: Library, from_thread: Callable[..., None], *, compiled: bool = True
    ) -> None:
        self.library = library
        self.tell = from_thread
        self.parties: list[Party] = []
        self._wake, self._waker = _wake_pair()
        library.start()
        self.pump: Pump = new_pump(library, self._wake, compiled=compiled)
        self._orders: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._thread = threading.Thread(target=self._run, name="srt", daemon=True)
        self._stopping = False
        self._listeners: dict[int, Callable[[int, Peer], None]] = {}
        self._waiting: dict[int, tuple[Waiting, Callable[[], None]]] = {}
        self._readers: dict[int, Callable[[Event], None]] = {}
        self._owners: dict[int, Party] = {}
        self._leaving: dict[int, float] = {}  # when they are to be closed, by time.monotonic()
        self._buffer = library.ffi.new(f"char[{MESSAGE_ROOM}]")
        self._view = library.ffi.buffer(self._buffer, MESSAGE_ROOM)

    # for the reactor's thread

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def order(self, what: Callable[..., object], *args: object) -> None:
        """Have something done in the engine's thread, in the order of the calls."""
        if not self._stopping:
            self._orders.append((what, args))
            self._wake_up()

    def stop(self) -> None:
        """Close every socket, end the thread and libsrt's; returns when that is done."""
        self._stopping = True
        self._wake_up()
        if self._thread.ident is not None:
            self._thread.join()
        self.pump.close()
        self.library.stop()
        for descriptor in {self._wake, self._waker}:
            os.close(descriptor)

    def _wake_up(self) -> None:
        try:
            os.write(self._waker, _ONE)
        except BlockingIOError:  # a pipe that is full wakes as well
            pass

    # for the engine's thread

    def add_listener(self, sock: int, accepted: Callable[[int, Peer], None]) -> None:
        """Accept connections of a socket that listens."""
        self._listeners[sock] = accepted
        self.pump.add(sock, reads=True, latency=0)
        self._accept(sock)  # who came before it was in the set is not told of

    def remove_listener(self, sock: int) -> None:
        """Accept no more of it, and close it."""
        self._listeners.pop(sock, None)
        self.close(sock)

    def add(self, sock: int) -> None:
        """Take a connected socket in; it is not read."""
        self.pump.add(sock, reads=False, latency=self.latency(sock))

    def renew(self, sock: int) -> None:
        """Take a connected socket in anew: by what was agreed on, joined with nobody, not read."""
        self.pump.remove(sock)
        self.add(sock)

    def wait(self, sock: int, waiting: Waiting, gone: Callable[[], None], *, reads: bool) -> None:
        """Have a socket wait for a session.

        :param reads: whether what a live one sends is kept or thrown away; otherwise it stays with
            libsrt until the session.
        :param gone: called once when it ends; it stays until it is closed or taken.
        """
        self._owners.pop(sock, None)
        self._waiting[sock] = waiting, gone
        waiting.latency = self.latency(sock)
        if reads and waiting.early is None and not waiting.buffered:
            waiting.discards = True
            self.pump.discard(sock)
        else:
            self.pump.read(sock, reads and not waiting.buffered)
        if self.is_over(sock):
            self._ended_waiting(sock)

    def hold(self, sock: int) -> None:
        """Throw away no more of what a socket sends that waits; it stays with libsrt."""
        found = self._waiting.get(sock)
        if found is not None and found[0].discards and not found[0].ended:
            self.pump.read(sock, False)

    def take(self, sock: int, owner: Party) -> Waiting | None:
        """A socket that waits is its owner's from now on; None where it does not wait."""
        found = self._waiting.pop(sock, None)
        if found is None:
            return None
        self._owners[sock] = owner
        waiting = found[0]
        if waiting.ended:
            self.pump.add(sock, reads=False, latency=waiting.latency)
        return waiting

    def has(self, sock: int) -> bool:
        """Whether a socket waits or is taken."""
        return sock in self._waiting or sock in self._owners

    def read_by(self, sock: int, reader: Callable[[Event], None] | None) -> None:
        """Have a socket's events told to somebody who reads it with :meth:`receive`, or to none."""
        if reader is None:
            self._readers.pop(sock, None)
        else:
            self._readers[sock] = reader

    def receive(self, sock: int, skip_until: float = 0.0) -> tuple[list[bytes], bool]:
        """Messages that have come, and whether the socket has ended.

        :param skip_until: leave out those that are due before (time.monotonic()).
        """
        view = self._view
        messages: list[bytes] = []
        for _ in range(_MESSAGES_A_TURN):
            size, due = receive_timed(self.library, sock, self._buffer, MESSAGE_ROOM)
            if size <= 0:
                error = self.library.lib.srt_getlasterror(self.library.ffi.NULL)
                return messages, size == 0 or error // 1000 != 6
            if due >= skip_until:
                messages.append(view[:size])
        return messages, False

    def turn_away(self, sock: int, came: float) -> None:
        """Close a socket that waits, but not before its peer knows that it is connected.

        :param came: when its handshake was, by time.monotonic().
        """
        known = came + KNOWN
        if time.monotonic() < known and self.is_connected(sock):
            self._leaving[sock] = known
        else:
            self.close(sock)

    def _close_known(self, now: float) -> bool:
        """Close those that leave and know by now; whether others do not."""
        for sock in [sock for sock, known in self._leaving.items() if now >= known]:
            self.close(sock)
        return bool(self._leaving)

    def close(self, sock: int) -> None:
        """Close a socket; what it has not sent is lost."""
        self._leaving.pop(sock, None)
        self._owners.pop(sock, None)
        self._waiting.pop(sock, None)
        self._readers.pop(sock, None)
        self.pump.remove(sock)
        self.library.close(sock)

    def is_connected(self, sock: int) -> bool:
        """Whether a socket is connected."""
        return self.library.state(sock) == CONNECTED

    def is_over(self, sock: int) -> bool:
        """Whether a socket has ended; libsrt does not tell it of one that had as it was added."""
        return self.library.state(sock) >= BROKEN

    def is_buffered(self, sock: int) -> bool:
        """Whether a peer sends bytes and not messages."""
        try:
            return not self.library.get(sock, "messageapi")
        except SrtError:  # it has ended meanwhile
            return False

    def latency(self, sock: int) -> int:
        """Milliseconds after its end in which what a peer has sent may still come due."""
        try:
            return self.library.get(sock, "rcvlatency")
        except SrtError:  # it has ended meanwhile
            return 0

    def _run(self) -> None:
        next_count = time.monotonic() + COUNT_EVERY
        while not self._stopping:
            now = time.monotonic()
            busy = self._close_known(now)
            for party in self.parties:
                busy = party.look(now) or busy
            if now >= next_count:
                next_count = now + COUNT_EVERY
                for party in self.parties:
                    party.count(now)
            timeout = LOOK_EVERY if busy else next_count - now if self._owners else None
            try:
                events = self.pump.run(timeout)
            except SrtError as error:
                _log.error("{text}", text=f"the SRT thread cannot wait: {error}")
                time.sleep(LOOK_EVERY)
                continue
            for event in events:
                try:
                    self._happened(event)
                except Exception:  # one socket's fault must not stop all others
                    _log.failure("an SRT socket's event failed")
            self._obey()
        for sock in [*self._listeners, *self._waiting, *self._owners, *self._readers]:
            self.close(sock)

    def _obey(self) -> None:
        while self._orders:
            what, args = self._orders.popleft()
            try:
                what(*args)
            except Exception:
                _log.failure("an order to the SRT thread failed")

    def _happened(self, event: Event) -> None:
        sock = event.sock
        if event.what is What.WOKEN:
            return
        if sock in self._listeners:
            self._accept(sock)
        elif sock in self._readers:
            self._readers[sock](event)
        elif sock in self._owners:
            self._owners[sock].ended(sock)
        elif sock in self._waiting:
            self._read_waiting(sock, event)
        else:
            self.pump.remove(sock)

    def _accept(self, listener: int) -> None:
        while (accepted := self.library.accept(listener)) is not None:
            self._listeners[listener](*accepted)

    def _read_waiting(self, sock: int, event: Event) -> None:
        waiting = self._waiting[sock][0]
        ended = event.what is What.ENDED
        if not ended:
            if waiting.early is None or waiting.buffered:  # not read, so it has ended
                ended = not self.is_connected(sock)
            else:
                messages, ended = self.receive(sock)
                for message in messages:
                    waiting.take(message)
        if ended:
            self._ended_waiting(sock)

    def _ended_waiting(self, sock: int) -> None:
        waiting, gone = self._waiting[sock]
        waiting.ended = True
        self.pump.remove(sock)
        gone()
