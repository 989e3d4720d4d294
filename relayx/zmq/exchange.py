"""Requests and their answers, moved and timed: what ``zmq.proxy_steerable`` is for the others.

A capture socket could not time them: libzmq takes off a message by whom it came before it
captures it, and a request and its answer look the same. To read a capture costs Python about
half of what moving costs, too, and the proxy would have to wait for it.
"""

from __future__ import annotations

import sys
import time
from collections import OrderedDict, deque
from collections.abc import Callable

import zmq

from relayx.zmq import words
from relayx.zmq.attendant import Socket
from relayx.zmq.counts import DurationCount

MOST = 65_536
"""Requests without an answer that are remembered; beyond, the oldest are forgotten."""
LONGEST = 8192
"""Bytes of an envelope that are remembered: each ROUTER on the way adds up to 255."""
_BURST = 100
"""Messages of one side before the other has its turn."""


class Pending:
    """Requests that wait for their answers.

    An answer carries the envelope of its request: everything up to the empty part. Where one
    client asks several times at once under one envelope, as a DEALER may, the first answer is
    taken for that to the first question.
    """

    def __init__(self, durations: DurationCount, most: int = MOST) -> None:
        self._durations = durations
        self._most = most
        self._asked: OrderedDict[tuple[bytes, ...], deque[float]] = OrderedDict()
        self._count = 0

    def any_since(self, when: float) -> bool:
        """Whether one waits that came at `when` or later; from any thread.

        One whose REP or REQ has gone waits for ever.
        """
        # One call each, in which no other thread has its turn.
        for times in reversed(list(self._asked.values())):
            if any(asked >= when for asked in tuple(times)):
                return True
        return False

    def asked(self, envelope: tuple[bytes, ...], now: float) -> None:
        """A request came at `now`, in seconds of any clock."""
        self._asked.setdefault(envelope, deque()).append(now)
        self._count += 1
        if self._count > self._most:
            _, forgotten = self._asked.popitem(last=False)
            self._count -= len(forgotten)

    def answered(self, envelope: tuple[bytes, ...], now: float) -> None:
        """An answer came; one to no question counts nothing."""
        times = self._asked.get(envelope)
        if times is None:
            return
        self._durations.add(now - times.popleft())
        self._count -= 1
        if not times:
            del self._asked[envelope]


class Way:
    """One direction between two sockets, with at most one message in hand.

    :param seen: called with the envelope and the time of each message that comes.
    """

    def __init__(
        self, source: Socket, target: Socket, seen: Callable[[tuple[bytes, ...], float], None]
    ) -> None:
        self._seen = seen
        self.source = source
        self.target = target
        self.blocked = False
        self._held: list[zmq.Frame] = []
        self.reset()

    def reset(self) -> None:
        """Count from 0."""
        self.parts = self.bytes = self.sent_parts = self.sent_bytes = 0

    def move(self) -> bool:
        """Move one message; False where there is none, or where it is `blocked`."""
        held = self._held
        if not held:
            try:
                held = self._held = self.source.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return False
            self._seen(envelope_of(held), time.monotonic())
            self.parts += len(held)
            self.bytes += sum(map(len, held))
        if not self._send(held):
            return not self.blocked
        self._held = []
        self.sent_parts += len(held)
        self.sent_bytes += sum(map(len, held))
        return True

    def _send(self, message: list[zmq.Frame]) -> bool:
        """Whether the target takes it; else it is `blocked`."""
        try:
            self.target.send_multipart(message, zmq.DONTWAIT, copy=False)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
            self.blocked = True
            return False
        self.blocked = False
        return True


class WayBack(Way):
    """The direction to a ROUTER that says whether it knows its peer (``ZMQ_ROUTER_MANDATORY``).

    It takes no message for one who has gone or does not read, and such a message is dropped:
    the others do not wait for that one. A ROUTER may take one for full that is not, though, since
    libzmq looks for what has been delivered at most once in a millisecond of sending.
    """

    def _send(self, message: list[zmq.Frame]) -> bool:
        if super()._send(message):
            return True
        self.target.getsockopt(zmq.EVENTS)  # looks for what has been delivered
        if super()._send(message):
            return True
        self.blocked = False
        self._held = []
        return False


class Exchange:
    """Moves between a ROUTER and a DEALER until it is told to terminate.

    It obeys the words of ``zmq_proxy_steerable(3)`` on its control socket, but RESUME.
    A request that no backend takes is kept from one run to the next.
    """

    def __init__(self, frontend: Socket, backend: Socket, pending: Pending) -> None:
        self._there = Way(frontend, backend, pending.asked)
        self._back = WayBack(backend, frontend, pending.answered)

    def run(self, control: Socket) -> None:
        """Move; returns once TERMINATE came. Its counts begin at 0."""
        there, back = self._there, self._back
        there.reset()
        back.reset()
        idle, blocked = zmq.Poller(), zmq.Poller()
        for poller in (idle, blocked):
            poller.register(control, zmq.POLLIN)
        idle.register(there.source, zmq.POLLIN)
        idle.register(back.source, zmq.POLLIN)
        blocked.register(back.source, zmq.POLLIN | zmq.POLLOUT)
        # For nothing to come, but what has been delivered is only told to a socket that is asked.
        blocked.register(there.source, zmq.POLLERR)
        while True:
            ready = dict((blocked if there.blocked else idle).poll())
            if control in ready and not self._obey(control):
                return
            for way in (back, there):
                for _ in range(_BURST):
                    if not way.move():
                        break

    def _obey(self, control: Socket) -> bool:
        """Do as a word says; False for TERMINATE. Paused, nothing but words is received."""
        paused = False
        while True:
            word = control.recv()
            if word == words.TERMINATE:
                return False
            if word == words.STATISTICS:
                control.send_multipart(self._statistics())
            paused = paused or word in words.PAUSES
            if not paused:
                return True

    def _statistics(self) -> list[bytes]:
        there, back = self._there, self._back
        numbers = (
            *(there.parts, there.bytes, back.sent_parts, back.sent_bytes),
            *(back.parts, back.bytes, there.sent_parts, there.sent_bytes),
        )
        return [number.to_bytes(8, sys.byteorder) for number in numbers]


def envelope_of(message: list[zmq.Frame]) -> tuple[bytes, ...]:
    """The parts before the empty one; the first alone where none is, or not within `LONGEST`.

    Whoever puts messages of any size before it does not have them kept here.
    """
    envelope: list[bytes] = []
    size = 0
    for part in message:
        if not len(part):
            return tuple(envelope)
        size += len(part)
        if size > LONGEST:
            break
        envelope.append(part.bytes)
    return tuple(envelope[:1])
