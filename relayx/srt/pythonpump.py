"""Moves messages between SRT sockets in Python, where the pump in C was not built."""

from __future__ import annotations

import os
import time

from relayx.srt.binding import EPOLL_ERR, EPOLL_IN, EPOLL_OUT, Library
from relayx.srt.pump import PACE_US, Counts, Event, What, is_done, new_epoll, receive_timed

_EVENTS = 256
_ROOM = 65536
_TURN = 512
_HELD_LOOK_MS = 20
"""libsrt gives up what is too late only where something is sent."""
_TAIL_LOOK_MS = 2
_AGAIN = 6
_OVERSIZE = 5009  # libsrt's error code: a message is longer than a packet of this socket


class _Lane:
    __slots__ = (
        "bytes", "dropped", "dropped_bytes", "failed", "held", "held_since", "holds", "messages",
        "oversize", "source", "stalled", "target",
    )  # fmt: skip

    def __init__(self, source: _Spot, target: int, holds: bool) -> None:
        self.source = source
        self.target = target
        self.holds = holds
        self.failed = False
        self.held = b""
        self.held_since = 0.0
        self.messages = self.bytes = self.dropped = self.dropped_bytes = self.oversize = 0
        self.stalled = 0.0


class _Spot:
    __slots__ = (
        "blocked_by", "broken_until", "events", "joined", "lanes", "latency", "skip_until", "sock",
        "stuck", "wants_room",
    )  # fmt: skip

    def __init__(self, sock: int, events: int, latency: int) -> None:
        self.sock = sock
        self.events = events
        self.latency = latency / 1000
        self.skip_until = 0.0
        self.joined = False
        self.stuck = False
        self.wants_room = False
        self.broken_until: float | None = None
        self.lanes: dict[int, _Lane] = {}
        self.blocked_by: _Lane | None = None


class PythonPump:
    """The pump in Python."""

    def __init__(self, library: Library, wake: int) -> None:
        self._library = library
        self._lib, self._ffi = library.lib, library.ffi
        self._eid = new_epoll(library, wake)
        self._wake = wake
        self._spots: dict[int, _Spot] = {}
        self._tails: dict[int, _Spot] = {}
        self._held: set[_Lane] = set()
        self._retry_at = 0.0
        new = self._ffi.new
        self._buffer = new(f"char[{_ROOM}]")
        self._view = self._ffi.buffer(self._buffer, _ROOM)
        self._readable, self._writable = new(f"int[{_EVENTS}]"), new(f"int[{_EVENTS}]")
        self._local = new("int[1]")
        self._reads, self._writes, self._wakes = new("int *"), new("int *"), new("int *")
        self._wanted = new("int *")

    def add(self, sock: int, *, reads: bool, latency: int) -> None:
        """See :class:`Pump`."""
        spot = self._spots[sock] = _Spot(sock, EPOLL_IN if reads else 0, latency)
        self._wanted[0] = spot.events | EPOLL_ERR
        self._lib.srt_epoll_add_usock(self._eid, sock, self._wanted)

    def read(self, sock: int, reads: bool) -> None:
        """See :class:`Pump`."""
        spot = self._spots.get(sock)
        if spot is not None:
            spot.joined = False
            spot.events = EPOLL_IN if reads else 0
            self._watch(spot)

    def room(self, sock: int, wanted: bool) -> None:
        """See :class:`Pump`."""
        spot = self._spots.get(sock)
        if spot is not None:
            spot.wants_room = wanted
            self._watch(spot)

    def join(self, source: int, target: int, *, holds: bool) -> None:
        """See :class:`Pump`."""
        spot = self._spots.get(source)
        if spot is not None:
            spot.lanes[target] = _Lane(spot, target, holds)
            self._take(spot)

    def part(self, source: int, target: int) -> None:
        """See :class:`Pump`."""
        spot = self._spots.get(source)
        lane = None if spot is None else spot.lanes.pop(target, None)
        if lane is not None and lane.held:
            self._unblock(lane)

    def discard(self, sock: int) -> None:
        """See :class:`Pump`."""
        spot = self._spots.get(sock)
        if spot is not None:
            self._take(spot)

    def skip(self, sock: int, until: float) -> None:
        """See :class:`Pump`."""
        spot = self._spots.get(sock)
        if spot is not None:
            spot.skip_until = until

    def end(self, sock: int) -> None:
        """See :class:`Pump`."""
        spot = self._spots.get(sock)
        if spot is not None:
            spot.joined = True
            self._break(spot)

    def counted(self, source: int, target: int) -> Counts:
        """See :class:`Pump`."""
        spot = self._spots.get(source)
        lane = None if spot is None else spot.lanes.get(target)
        if lane is None:
            return Counts()
        now = time.monotonic() - lane.held_since if lane.held else 0.0
        return Counts(
            lane.messages, lane.bytes, lane.dropped, lane.dropped_bytes, lane.stalled + now,
            lane.oversize,
        )  # fmt: skip

    def holds(self, source: int, target: int) -> bool:
        """See :class:`Pump`."""
        spot = self._spots.get(source)
        lane = None if spot is None else spot.lanes.get(target)
        return lane is not None and bool(lane.held)

    def remove(self, sock: int) -> None:
        """See :class:`Pump`."""
        spot = self._spots.get(sock)
        if spot is None:
            return
        for target in list(spot.lanes):
            self.part(sock, target)
        if spot.blocked_by is not None:
            self._give_up(spot.blocked_by)
        self._tails.pop(sock, None)
        if spot.broken_until is None:
            self._lib.srt_epoll_remove_usock(self._eid, sock)
        del self._spots[sock]

    def close(self) -> None:
        """See :class:`Pump`."""
        for sock in list(self._spots):
            self.remove(sock)
        self._lib.srt_epoll_release(self._eid)

    def run(self, timeout: float | None) -> list[Event]:
        """See :class:`Pump`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            found, moved = self._turn(deadline)
            if found or (deadline is not None and time.monotonic() >= deadline):
                return found
            if moved:
                time.sleep(PACE_US / 1e6)

    def _turn(self, deadline: float | None) -> tuple[list[Event], int]:
        found: list[Event] = []
        moved = 0
        readable = self._ready(deadline, found)
        if self._held and time.monotonic() >= self._retry_at:
            self._retry_at = time.monotonic() + _HELD_LOOK_MS / 1000
            for lane in list(self._held):
                self._retry(lane)
        for sock in readable:
            spot = self._spots.get(sock)
            if spot is None or not (spot.joined or spot.broken_until is not None):
                found.append(Event(sock, What.READABLE))
            elif spot.stuck:  # not read, so this is its end
                self._break(spot)
            else:
                moved += self._move(spot)
        for spot in list(self._tails.values()):
            if not spot.stuck:
                now, count = time.monotonic(), self._move(spot)
                moved += count
                if not count and is_done(self._library, spot.sock, spot.broken_until or 0.0, now):
                    del self._tails[spot.sock]
                    found.append(Event(spot.sock, What.ENDED))
        return found, moved

    def _ready(self, deadline: float | None, found: list[Event]) -> list[int]:
        """Wait; try again what was held; return the sockets that have something."""
        left = -1 if deadline is None else max(0, int((deadline - time.monotonic()) * 1000 + 1))
        if self._tails and (left < 0 or left > _TAIL_LOOK_MS):
            left = _TAIL_LOOK_MS
        if self._held and (left < 0 or left > _HELD_LOOK_MS):
            left = _HELD_LOOK_MS
        reads, writes, wakes = self._reads, self._writes, self._wakes
        reads[0] = writes[0] = _EVENTS
        wakes[0] = 1
        ready = self._lib.srt_epoll_wait(
            self._eid, self._readable, reads, self._writable, writes, left, self._local, wakes,
            self._ffi.NULL, self._ffi.NULL,
        )  # fmt: skip
        if ready < 0:
            if self._lib.srt_getlasterror(self._ffi.NULL) // 1000 != _AGAIN:
                raise self._library.error("waiting for SRT sockets")
            return []
        if wakes[0]:
            try:
                os.read(self._wake, 8)
            except BlockingIOError:
                pass
            found.append(Event(-1, What.WOKEN))
        for i in range(min(writes[0], _EVENTS)):
            spot = self._spots.get(self._writable[i])
            if spot is not None and spot.blocked_by is not None:
                self._retry(spot.blocked_by)
            elif spot is not None and spot.wants_room:
                found.append(Event(spot.sock, What.ROOM))
        return [self._readable[i] for i in range(min(reads[0], _EVENTS))]

    def _watch(self, spot: _Spot) -> None:
        if spot.broken_until is not None:
            self._lib.srt_epoll_remove_usock(self._eid, spot.sock)
            return
        events = EPOLL_ERR | (0 if spot.stuck else spot.events)
        room = spot.wants_room or spot.blocked_by is not None
        self._wanted[0] = events | (EPOLL_OUT if room else 0)
        self._lib.srt_epoll_update_usock(self._eid, spot.sock, self._wanted)

    def _take(self, spot: _Spot) -> None:
        spot.joined = True
        spot.events = EPOLL_IN
        self._watch(spot)

    def _break(self, spot: _Spot) -> None:
        """It has ended; what has come already is due up to a latency later."""
        if spot.broken_until is not None:
            return
        spot.broken_until = time.monotonic() + spot.latency
        self._tails[spot.sock] = spot
        self._watch(spot)

    def _move(self, spot: _Spot) -> int:
        receive, error = self._lib.srt_recvmsg, self._lib.srt_getlasterror
        moved = 0
        while moved < _TURN and not spot.stuck:
            if spot.skip_until:
                size, due = receive_timed(self._library, spot.sock, self._buffer, _ROOM)
                if size > 0 and due < spot.skip_until:
                    moved += 1
                    continue
                if size > 0:
                    spot.skip_until = 0.0  # they come in order
            else:
                size = receive(spot.sock, self._buffer, _ROOM)
            if size > 0:
                moved += 1
                for lane in list(spot.lanes.values()):
                    self._give(lane, size)
                continue
            if size == 0 or error(self._ffi.NULL) // 1000 != _AGAIN:
                self._break(spot)
            break
        return moved

    def _give(self, lane: _Lane, size: int) -> None:
        if lane.failed:  # it is gone, and has not missed anything
            return
        sent = self._lib.srt_sendmsg(lane.target, self._buffer, size, -1, 1)
        if sent == size:
            lane.messages += 1
            lane.bytes += size
            return
        code = self._lib.srt_getlasterror(self._ffi.NULL) if sent < 0 else 0
        is_oversize = code == _OVERSIZE
        lane.oversize += is_oversize
        lane.failed = bool(code) and code // 1000 != _AGAIN and not is_oversize
        if lane.failed:
            return
        target = self._spots.get(lane.target)
        if lane.holds and not is_oversize and target is not None:
            lane.held = bytes(self._view[max(0, sent) : size])
            lane.bytes += max(0, sent)
            lane.held_since = time.monotonic()
            self._held.add(lane)
            lane.source.stuck = True
            target.blocked_by = lane
            self._watch(target)
            self._watch(lane.source)
            return
        lane.dropped += 1
        lane.dropped_bytes += size

    def _retry(self, lane: _Lane) -> None:
        left = len(lane.held)
        sent = -1 if lane.failed else self._lib.srt_sendmsg(lane.target, lane.held, left, -1, 1)
        if sent < 0:
            if not lane.failed and self._lib.srt_getlasterror(self._ffi.NULL) // 1000 == _AGAIN:
                return
            self._give_up(lane)
            return
        lane.bytes += sent
        if sent < left:
            lane.held = lane.held[sent:]
            return
        lane.messages += 1
        self._unblock(lane)

    def _give_up(self, lane: _Lane) -> None:
        """What it holds can go nowhere any more."""
        lane.failed = True
        lane.dropped += 1
        lane.dropped_bytes += len(lane.held)
        self._unblock(lane)

    def _unblock(self, lane: _Lane) -> None:
        lane.stalled += time.monotonic() - lane.held_since
        lane.held = b""
        self._held.discard(lane)
        target = self._spots.get(lane.target)
        if target is not None and target.blocked_by is lane:
            target.blocked_by = None
            self._watch(target)
        if lane.source.stuck:
            lane.source.stuck = False
            self._watch(lane.source)
