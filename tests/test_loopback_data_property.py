"""Random sessions over both byte paths: what arrives is what was sent (contract section 7).

Each side of a session follows a plan: how much it sends and in what pieces, how much it reads
at a time and when it does not read at all, and whether it ends its stream or resets. The
gateway runs in this process, so that its descriptors can be counted.
"""

from __future__ import annotations

import gc
import os
import select
import socket
import struct
import time
from typing import Any, ClassVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure
from twisted.trial.unittest import TestCase

from tests.guide_peer import Data
from tests.live import Gateway, live

DEADLINE = 60.0
"""Seconds that one session may take: TCP itself needs some where the system drops its packets."""
_BLOCK = bytes(range(256)) * 4096


class Plan:
    """What one side does: `pieces` it sends, `reads` at most so much a turn, 0 for a pause.

    A `lazy` one reads only while the other cannot send, so that all buffers fill up.
    """

    def __init__(self, pieces: list[int], reads: list[int], reset: bool, lazy: bool) -> None:
        self.pieces = pieces
        self.reads = reads
        self.reset = reset
        self.lazy = lazy

    def __repr__(self) -> str:
        return f"Plan({self.pieces}, {self.reads}, reset={self.reset}, lazy={self.lazy})"


class Side:
    """One end of a session that follows its plan."""

    def __init__(self, link: Data, plan: Plan, offset: int) -> None:
        self.socket = link.socket
        self.socket.setblocking(False)
        self.plan = plan
        total = sum(plan.pieces)
        self.data = memoryview((_BLOCK * (total // len(_BLOCK) + 2))[offset : offset + total])
        self.pieces = list(plan.pieces)
        self.sent = 0
        self.got = bytearray(link.held)
        self.turn = 0
        self.ended: str | None = None
        self.done_sending = False
        self.closed = False

    def step(self, readable: bool, writable: bool) -> None:
        """Do what the plan says next."""
        if readable and self.ended is None:
            self._read()
        if writable and not self.done_sending and not self.closed:
            self._write()

    def _read(self) -> None:
        limit = self.plan.reads[self.turn % len(self.plan.reads)]
        self.turn += 1
        if not limit:
            return
        try:
            data = self.socket.recv(limit)
        except BlockingIOError:
            return
        except OSError:
            self.ended = "reset"
            return
        self.got += data
        if not data:
            self.ended = "end"

    def _write(self) -> None:
        if not self.pieces:
            self.done_sending = True
            if self.plan.reset:
                linger = struct.pack("ii", 1, 0)
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close()
            else:
                self.shut()
            return
        try:
            count = self.socket.send(self.data[self.sent : self.sent + self.pieces[0]])
        except BlockingIOError:
            return
        except OSError:
            self.done_sending = True
            return
        self.sent += count
        self.pieces[0] -= count
        if not self.pieces[0]:
            self.pieces.pop(0)

    def shut(self) -> None:
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.ended = self.ended or "reset"

    def close(self) -> None:
        self.closed = True
        self.ended = self.ended or "closed"
        self.socket.close()

    @property
    def state(self) -> dict[str, Any]:
        """What it has done so far."""
        done = {name: getattr(self, name) for name in ("sent", "done_sending", "ended", "closed")}
        return {**done, "got": len(self.got)}

    @property
    def over(self) -> bool:
        return self.closed or (self.ended is not None and self.done_sending)


def drive(one: Side, two: Side) -> None:
    """Let both sides follow their plans until both are over."""
    deadline = time.monotonic() + DEADLINE
    while not (one.over and two.over):
        if time.monotonic() > deadline:
            raise AssertionError(f"the session does not end: FE {one.state}, BE {two.state}")
        open_ones = [side for side in (one, two) if not side.closed]
        readers = [side.socket for side in open_ones if side.ended is None]
        writers = [side.socket for side in open_ones if not side.done_sending]
        can_read, can_write, _ = select.select(readers, writers, [], 0.5)
        for side, other in ((one, two), (two, one)):
            if side in open_ones:
                waits = side.plan.lazy and other.socket in can_write
                side.step(side.socket in can_read and not waits, side.socket in can_write)
    one.close()
    two.close()


PLANS = st.builds(
    Plan,
    pieces=st.lists(st.one_of(st.integers(1, 5000), st.integers(1, 9_000_000)), max_size=6),
    reads=st.lists(st.sampled_from([0, 0, 1, 100, 4096, 65536, 1 << 20]), min_size=1, max_size=6)
    .filter(any)
    .map(lambda reads: reads if max(reads) > 1000 else [*reads, 65536]),
    reset=st.sampled_from([False, False, False, True]),
    lazy=st.booleans(),
)


def descriptors() -> int:
    """How many descriptors this process has open."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


class Sessions:
    """The property, over the byte path that the subclasses choose.

    :ivar hello: what the FE says in HELLO.
    """

    hello: ClassVar[dict[str, str]] = {}

    def run_session(self, gateway: Gateway, fe_plan: Plan, be_plan: Plan) -> None:
        port = gateway.zmq[0]
        witness = gateway.fe11("witness")
        fe_link, be_link = gateway.pair(port, **self.hello)
        fe, be = Side(fe_link, fe_plan, 0), Side(be_link, be_plan, 77)
        drive(fe, be)
        case: Any = self
        for sender, receiver in ((fe, be), (be, fe)):
            sent = bytes(sender.data[: sender.sent])
            if fe_plan.reset or be_plan.reset:
                case.assertEqual(bytes(receiver.got), sent[: len(receiver.got)])
            else:
                case.assertEqual((receiver.ended, len(receiver.got)), ("end", len(sender.data)))
                case.assertTrue(bytes(receiver.got) == sent)
        witness.state(lambda state: port in state["zmq_empty_ports"])
        witness.close()

    def property(self, gateway: Gateway) -> None:
        case: Any = self
        self.run_session(gateway, Plan([1], [1024], False, False), Plan([1], [1024], False, False))
        before = descriptors()

        @settings(
            max_examples=40,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(fe_plan=PLANS, be_plan=PLANS)
        def check(fe_plan: Plan, be_plan: Plan) -> None:
            try:
                self.run_session(gateway, fe_plan, be_plan)
            except Exception as failed:
                raise AssertionError(f"{failed!r} with FE {fe_plan}, BE {be_plan}") from failed

        try:
            check()
        except FlakyFailure as flaky:  # which does not say what failed, and on what
            raise flaky.exceptions[0] from flaky
        case.assertLessEqual(descriptors(), before + 4)


class BySplice(Sessions, TestCase):
    """Without copying."""

    @live(zmq=1, srt=0, data={"admission": "open"})
    def test_random_sessions(self, gateway: Gateway) -> None:
        """Section 7, by splice."""
        self.property(gateway)


class Buffered(Sessions, TestCase):
    """Through Python."""

    @live(zmq=1, srt=0, data={"admission": "open", "splice": "off"})
    def test_random_sessions(self, gateway: Gateway) -> None:
        """Section 7, by the buffered path."""
        self.property(gateway)
