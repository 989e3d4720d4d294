"""How long REP takes to answer REQ: a copy of all that a broker passes, taken as it passes."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque

import zmq

from relayx.zmq.attendant import Socket
from relayx.zmq.counts import DurationCount, Durations
from relayx.zmq.settings import Role
from relayx.zmq.zap import SIDE

MOST = 65_536
"""Requests without an answer that are remembered; beyond, the oldest are forgotten."""
END = b""
"""The one message of one part on the capture socket, from the broker's own thread."""


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


class Timing:
    """A thread that reads a broker's capture socket.

    The proxy waits for it, rather than lose one half of a pair, so it does nothing else.
    """

    def __init__(self, context: zmq.Context[Socket], number: int) -> None:
        self._counted = DurationCount()
        self._pending = Pending(self._counted)
        self._context = context
        self._endpoint = f"inproc://relayx.capture.{number}"
        self._thread = threading.Thread(target=self._run, name="relayx-zmq-times", daemon=True)

    def start(self) -> Socket:
        """Begin.

        :return: the capture socket, for the calling thread.
        """
        capture = self._context.socket(zmq.PAIR)
        capture.bind(self._endpoint)
        self._thread.start()
        return capture

    def stop(self, capture: Socket) -> None:
        """End, after what has been captured; waits."""
        capture.send(END)
        self._thread.join()
        capture.close()

    def read(self) -> Durations:
        """All so far."""
        return self._counted.read()

    def _run(self) -> None:
        socket = self._context.socket(zmq.PAIR)
        socket.connect(self._endpoint)
        while True:
            try:
                frames = socket.recv_multipart(copy=False)
            except zmq.ZMQError:
                break  # the context is ending
            if len(frames) == 1:
                break
            self._passed(frames, time.monotonic())
        socket.close(linger=0)

    def _passed(self, frames: list[zmq.Frame], now: float) -> None:
        envelope = []
        for frame in frames:
            if not len(frame):
                break
            envelope.append(frame.bytes)
        else:
            return  # no REQ's, no REP's
        try:
            side = frames[0].get(SIDE)
        except zmq.ZMQError:
            return
        if side == Role.FRONTEND:
            self._pending.asked(tuple(envelope), now)
        else:
            self._pending.answered(tuple(envelope), now)
