"""As many series, and as much memory, after 100,000 sessions as after a few."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from twisted.trial.unittest import TestCase

from relayx.core import effects as fx
from relayx.core.messages import Cause, PortAcquire, Role
from relayx.core.messages import Protocol as PortProtocol
from relayx.metrics import Metrics
from tests.common import BE_AT, FE_AT, ZMQ, Room, pairing
from tests.scrapes import Scrape, scrape, unstarted
from tests.test_metrics_text import check_labels

IDS = 10_000
SESSIONS_EACH = 10
CAUSES = tuple(Cause)


@contextmanager
def untraced() -> Iterator[None]:
    """Without what measures coverage: more of the same is not covered better, in 3 x the time."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)


class Bounded(TestCase):
    """The rules and the metrics as the service joins them, without sockets."""

    def setUp(self) -> None:
        self.room = Room()
        self.metrics: Metrics = unstarted(self).metrics
        self.sessions = 0

    def did(self, effects: Iterable[fx.Effect]) -> None:
        for effect in effects:
            if isinstance(effect, fx.Note):
                self.metrics.noted(effect.event, effect.fields)
            elif isinstance(effect, fx.Pair):
                self.metrics.paired(effect)

    def visit(self, number: int) -> None:
        """A client comes, has a few sessions, one under a lease, and goes."""
        room, name = self.room, f"client-{number}-{'x' * 40}"
        room.now += 0.1
        conn = room.fe(name, at=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        self.did(room.effects)
        self.did(room.ask(conn, PortAcquire(request_id=name, need_zmq=True)))
        for _ in range(SESSIONS_EACH):
            self.metrics.said_hello(PortProtocol.ZMQ, Role.FE)
            room.dial(ZMQ[0], name, at=room.switchboard.client(conn).address)  # type: ignore[union-attr]
            self.did(room.effects)
            cause = CAUSES[self.sessions % len(CAUSES)]
            room.over(pairing(room.effects), kept=True, cause=cause, seconds=self.sessions / 10)
            self.did(room.effects)
            self.sessions += 1
        room.dial(ZMQ[1], name)  # refused
        self.did(room.effects)
        self.did(room.lose(conn))
        self.did(room.later(0))

    def state(self) -> tuple[int, Scrape]:
        found = scrape(self.metrics)
        gc.collect()
        return sys.getallocatedblocks(), found

    def test_100_000_sessions(self) -> None:
        self.room.offer(ZMQ[0], at=BE_AT)
        for number in range(IDS // 10):
            self.visit(number)
        blocks, before = self.state()
        with untraced():
            for number in range(IDS // 10, IDS):
                self.visit(number)
        blocks_after, after = self.state()
        self.assertEqual(self.sessions, IDS * SESSIONS_EACH)
        self.assertEqual(after.series(), before.series())
        self.assertLess(blocks_after - blocks, 5000, "blocks of memory that came to stay")
        check_labels(self, after)
        ended = sum(
            value
            for (name, _), value in after.values.items()
            if name == "relayx_sessions_ended_total"
        )
        self.assertEqual(ended, IDS * SESSIONS_EACH)
        self.assertEqual(after.of("relayx_registrations_total", role="FE"), IDS)
        self.assertEqual(after["relayx_lease_wait_seconds_count"], IDS)
        self.assertEqual(after.of("relayx_refusals_total", stage="data", code="PORT_EMPTY"), IDS)
        self.assertNotIn(FE_AT, str(after.series()))
