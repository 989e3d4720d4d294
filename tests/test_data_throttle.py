"""The bandwidth of clients, on a clock (contract section 1, ``clients``)."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relayx.data.stall import Stopwatch
from relayx.data.throttle import (
    LEAST_READ,
    MOST_READ,
    Allowance,
    Allowances,
    ThrottledPump,
    Valve,
)
from relayx.net.bucket import TokenBucket
from tests.test_data_bed import Base, End


class Buckets(SynchronousTestCase):
    """Tokens come with time, up to the burst, and may be owed."""

    def test_take(self) -> None:
        bucket = TokenBucket(rate=10, burst=20, now=0)
        self.assertTrue(bucket.take(20, now=0))
        self.assertFalse(bucket.take(1, now=0.05))
        self.assertTrue(bucket.take(1, now=0.1))
        self.assertFalse(bucket.take(1, now=0.1))
        self.assertTrue(bucket.take(20, now=60))
        self.assertFalse(bucket.take(1, now=60))

    def test_what_is_refused_is_not_taken(self) -> None:
        bucket = TokenBucket(rate=10, burst=10, now=0)
        self.assertFalse(bucket.take(11, now=0))
        self.assertTrue(bucket.take(10, now=0))

    def test_spend_on_credit(self) -> None:
        bucket = TokenBucket(rate=10, burst=20, now=0)
        self.assertEqual(bucket.spend(20, now=0), 0)
        self.assertEqual(bucket.spend(5, now=0), 0.5)
        self.assertEqual(bucket.spend(5, now=0), 1.0)
        self.assertEqual(bucket.spend(5, now=1), 0.5)
        self.assertFalse(bucket.is_full(now=3.4))
        self.assertTrue(bucket.is_full(now=3.5))

    def test_a_clock_that_goes_back(self) -> None:
        bucket = TokenBucket(rate=10, burst=20, now=100)
        self.assertEqual(bucket.spend(25, now=50), 0.5)
        self.assertEqual(bucket.spend(0, now=50.5), 0)

    def test_read_size(self) -> None:
        """A read is never more than 50 ms of the rate, but 1 KiB at least."""
        for rate, size in ((1, LEAST_READ), (200_000, 1250), (20_000_000, MOST_READ)):
            self.assertEqual(Allowance(rate, 0).read_size, size)


class Sharing(SynchronousTestCase):
    """One allowance a client, whoever uses it, and no memory of those that nobody uses."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.allowances = Allowances(self.clock)

    def test_one_for_all_sessions(self) -> None:
        first = self.allowances.use([("BE a", 8000), ("FE b", 1000)])
        second = self.allowances.use([("BE a", 8000)])
        self.assertIs(first[0], second[0])
        self.assertEqual(len(self.allowances), 2)

    def test_kept_until_nothing_is_owed(self) -> None:
        used = self.allowances.use([("BE a", 8000)])
        used[0].spend(8400, self.clock.seconds())
        self.allowances.leave(used)
        self.clock.advance(0.9)
        again = self.allowances.use([("BE a", 8000)])
        self.assertIs(again[0], used[0])
        self.allowances.leave(again)
        self.clock.advance(60)
        self.allowances.use([])
        self.assertEqual(len(self.allowances), 0)

    def test_another_rate_after_a_reload(self) -> None:
        (before,) = self.allowances.use([("BE a", 8000)])
        (after,) = self.allowances.use([("BE a", 16000)])
        self.assertIs(before, after)
        self.assertEqual((after.rate, after.burst), (16000, 800))


class Reasons(SynchronousTestCase):
    """Two reasons not to read a side, each undone by itself alone."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.source = End()
        self.valve = Valve(self.source, self.clock, Stopwatch(self.clock))

    def test_hold(self) -> None:
        self.valve.hold(1)
        self.assertTrue(self.source.paused)
        self.clock.advance(0.99)
        self.assertTrue(self.source.paused)
        self.clock.advance(0.01)
        self.assertFalse(self.source.paused)

    def test_resume_does_not_undo_a_hold(self) -> None:
        self.valve.hold(1)
        self.valve.pauseProducing()
        self.valve.resumeProducing()
        self.assertTrue(self.source.paused)
        self.clock.advance(1)
        self.assertFalse(self.source.paused)

    def test_end_of_a_hold_does_not_undo_pushing_back(self) -> None:
        self.valve.hold(1)
        self.valve.pauseProducing()
        self.clock.advance(1)
        self.assertTrue(self.source.paused)
        self.valve.resumeProducing()
        self.assertFalse(self.source.paused)

    def test_held_once(self) -> None:
        self.valve.hold(1)
        self.valve.hold(5)
        self.clock.advance(1)
        self.assertFalse(self.source.paused)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_release(self) -> None:
        self.valve.hold(1)
        self.valve.release()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertTrue(self.source.paused, "whoever releases it reads on, or not")


class Throttled(Base):
    """A session whose FE may take 8,000 bits/s: 1,000 bytes/s, 50 at once."""

    limits: Any = (("FE f", 8000),)

    def make_pump(self) -> ThrottledPump:
        self.allowances = Allowances(self.clock)
        return ThrottledPump(self.fe, self.be, self.allowances, self.limits, self.clock)

    def test_reads_are_small(self) -> None:
        self.assertEqual((self.fe.read_size, self.be.read_size), (1024, 1024))
        self.ends(self.fe), self.ends(self.be)
        self.passes(1)
        self.over("fe_closed", "closed", "closed")
        self.assertEqual((self.fe.read_size, self.be.read_size), (MOST_READ, MOST_READ))

    def test_both_directions_together(self) -> None:
        self.sends(self.fe, b"x" * 50)
        self.assertFalse(self.fe.paused)
        self.sends(self.fe, b"x" * 100)
        self.assertEqual((self.fe.paused, self.be.paused), (True, False))
        self.sends(self.be, b"y" * 100)
        self.assertTrue(self.be.paused)
        self.passes(0.11)
        self.assertEqual((self.fe.paused, self.be.paused), (False, True))
        self.passes(0.1)
        self.assertFalse(self.be.paused)
        self.assertEqual((len(self.be.wrote), len(self.fe.wrote)), (150, 100))

    def test_rate(self) -> None:
        """A greedy sender gets the rate and the burst, to within one read."""
        self.clock.advance(60)
        for _ in range(1000):
            if not self.fe.paused:
                self.sends(self.fe, b"x" * 40)
            self.clock.advance(0.01)
        self.assertGreaterEqual(len(self.be.wrote), 10_000)
        self.assertLessEqual(len(self.be.wrote), 10_000 + 50 + 40)

    def test_early_bytes_are_paid_for(self) -> None:
        self.pump.stop()
        self.begin()
        again = self.make_pump()
        again.hold(b"", b"z" * 1050)
        again.start()
        self.assertEqual((self.fe.wrote, self.be.paused), (b"z" * 1050, True))
        self.passes(0.99)
        self.assertTrue(self.be.paused)
        self.passes(0.02)
        self.assertFalse(self.be.paused)
        again.stop()

    def test_pushing_back(self) -> None:
        """The consumer's reasons and ours do not undo each other."""
        self.sends(self.fe, b"x" * 150)
        self.be.producer.pauseProducing()
        self.passes(0.2)
        self.assertTrue(self.fe.paused)
        self.assertTrue(self.pump.pushed_back(self.fe))
        self.be.producer.resumeProducing()
        self.assertFalse(self.fe.paused)

    def test_what_is_thrown_away_is_not_slowed(self) -> None:
        self.sends(self.be, b"x" * 1050)
        self.assertTrue(self.be.paused)
        self.fails(self.fe)
        self.assertFalse(self.be.paused)
        self.sends(self.be, b"x" * 100_000)
        self.assertFalse(self.be.paused)
        self.assertEqual(len(self.fe.wrote), 1050)

    def test_nothing_is_left_behind(self) -> None:
        self.sends(self.fe, b"x" * 1050)
        self.session.finish("admin", "over")
        self.over("admin", "reset", "reset")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(60)
        self.allowances.use([])
        self.assertEqual(len(self.allowances), 0)

    def test_not_idle_while_it_has_to_wait(self) -> None:
        self.pump.stop()
        self.begin(idle_timeout=1.0)
        self.sends(self.fe, b"x" * 5050)
        self.be.acknowledge()
        self.passes(4.9)
        self.running()
        self.passes(1.5)
        self.over("idle_timeout", "reset", "reset")

    def test_half_closed_while_it_has_to_wait(self) -> None:
        self.pump.stop()
        self.begin(half_close_timeout=1.0)
        self.ends(self.be)
        self.sends(self.fe, b"x" * 5050)
        self.be.acknowledge()
        self.passes(4.9)
        self.running()
        self.passes(1.5)
        self.over("half_close_timeout", "reset", "reset")


class TwoLimits(Throttled):
    """Both ends are limited: the slower one rules."""

    limits = (("FE f", 80_000), ("BE b", 8000))

    def test_rate_of_the_faster(self) -> None:
        self.sends(self.fe, b"x" * 1050)
        self.passes(0.9)
        self.assertTrue(self.fe.paused)
        self.passes(0.15)
        self.assertFalse(self.fe.paused)


class KeptThrottled(Base):
    """A kept BE that has to wait is not quiet (section 7, keep)."""

    keep = True

    def make_pump(self) -> ThrottledPump:
        limits = (("BE b", 8000),)
        return ThrottledPump(self.fe, self.be, Allowances(self.clock), limits, self.clock)

    def test_answer_that_takes_long(self) -> None:
        self.ends(self.fe)
        self.sends(self.be, b"x" * 1050)
        self.fe.acknowledge()
        self.passes(0.99)
        self.running()
        self.sends(self.be, b"last")
        self.fe.acknowledge()
        self.passes(0.5)
        self.over("fe_closed", "closed", "")
        self.assertEqual(len(self.fe.wrote), 1054)
        self.assertEqual(self.be.read_size, MOST_READ)
