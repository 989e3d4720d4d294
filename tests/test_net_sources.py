"""Counting by source (contract section 1, ``limits``)."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relayx.net.newcomers import Newcomers
from relayx.net.sources import Failures, OpenCounts, Seldom, source_of


class Sources(SynchronousTestCase):
    """An IPv4 address is a source, and an IPv6 /64."""

    def test_source_of(self) -> None:
        for host, source in (
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("127.0.0.1", "127.0.0.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
            ("2001:DB8:1:3::1", "2001:db8:1:3::/64"),
            ("::1", "::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("no:address", "no:address"),
            ("", ""),
            ("/run/relayx.sock", "/run/relayx.sock"),
        ):
            self.assertEqual(source_of(host), source, host)

    def test_open_counts(self) -> None:
        counts = OpenCounts()
        self.assertEqual([counts.enter("a"), counts.enter("a"), counts.enter("b")], [1, 2, 1])
        counts.leave("a"), counts.leave("b")
        self.assertEqual((counts.enter("a"), len(counts)), (2, 1))


class FailedTooOften(SynchronousTestCase):
    """Three failures within a minute block a source for ten seconds."""

    def setUp(self) -> None:
        self.failures = Failures(3, 10.0, most_counted=4, most_blocked=4)

    def fail_at(self, source: str, *times: float) -> list[bool]:
        return [self.failures.failed(source, now) for now in times]

    def test_blocked(self) -> None:
        self.assertEqual(self.fail_at("a", 0, 1), [False, False])
        self.assertEqual(self.failures.blocked_for("a", 1), 0)
        self.assertEqual(self.fail_at("a", 2), [True])
        self.assertEqual(self.failures.blocked_for("a", 5), 7)
        self.assertEqual(self.failures.blocked_for("b", 5), 0)
        self.assertEqual(self.failures.blocked_for("a", 12), 0)

    def test_slow_failures_block_nobody(self) -> None:
        self.assertEqual(self.fail_at("a", 0, 30, 60, 90, 120, 150), [False] * 6)

    def test_blocked_again_afterwards(self) -> None:
        self.fail_at("a", 0, 0, 0)
        self.assertEqual(self.fail_at("a", 20, 20, 20), [False, False, True])

    def test_failures_under_way_while_it_is_blocked(self) -> None:
        """They are not news each, and do not end the block."""
        self.fail_at("a", 0, 0, 0)
        self.assertEqual(self.fail_at("a", 1, 1, 1, 1), [False] * 4)
        self.assertGreaterEqual(self.failures.blocked_for("a", 2), 8)

    def test_a_flood_of_sources_pushes_out_no_blocked_one(self) -> None:
        self.fail_at("a", 0, 0, 0)
        for number in range(1000):
            self.fail_at(f"source-{number}", 1)
        self.assertEqual(self.failures.blocked_for("a", 1), 9)
        self.assertLessEqual(len(self.failures), 5)

    def test_nor_does_a_flood_of_blocked_ones(self) -> None:
        self.fail_at("a", 0, 0, 0)
        for number in range(100):
            self.fail_at(f"source-{number}", 1, 1, 1)
        self.assertEqual(self.failures.blocked_for("a", 1), 9)
        self.assertLessEqual(len(self.failures), 8)

    def test_expires(self) -> None:
        for source in ("a", "b", "c"):
            self.fail_at(source, 0, 0, 0)
        self.fail_at("d", 1)
        self.fail_at("e", 500)
        self.assertEqual(len(self.failures), 1)


class SaidSeldom(SynchronousTestCase):
    """The same thing once a minute."""

    def test_once_a_minute_each(self) -> None:
        seldom = Seldom(60.0, most=2)
        said = [seldom.may(what, now) for what, now in (
            ("a", 0), ("a", 59.9), ("b", 59.9), ("a", 60), ("a", 61),
        )]  # fmt: skip
        self.assertEqual(said, [True, False, True, True, False])

    def test_memory_is_bounded(self) -> None:
        seldom = Seldom(60.0, most=2)
        self.assertTrue(all(seldom.may(what, 0) for what in "abc"))
        self.assertTrue(seldom.may("a", 1), "the oldest was forgotten")
        self.assertFalse(seldom.may("c", 1))


class NewcomersOfASource(SynchronousTestCase):
    """Two at most of one source, four altogether, five seconds each."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.gone: list[str] = []
        self.newcomers: Newcomers[str] = Newcomers(
            self.clock, 5.0, 4,
            timed_out=self.gone.append, crowded_out=self.gone.append, per_source=2,
        )  # fmt: skip

    def add(self, *names: str) -> None:
        for name in names:
            self.newcomers.add(name, name[0])

    def test_its_own_oldest_goes(self) -> None:
        self.add("b1", "a1", "a2", "a3")
        self.assertEqual(self.gone, ["a1"])
        self.add("a4")
        self.assertEqual(self.gone, ["a1", "a2"])

    def test_the_oldest_of_all_goes(self) -> None:
        self.add("a1", "b1", "c1", "d1", "e1")
        self.assertEqual(self.gone, ["a1"])

    def test_one_goes_for_one(self) -> None:
        self.add("a1", "a2", "b1", "b2", "b3")
        self.assertEqual(self.gone, ["b1"])
        self.assertEqual(len(self.newcomers), 4)

    def test_discarded_ones_do_not_count(self) -> None:
        self.add("a1", "a2")
        self.newcomers.discard("a1")
        self.add("a3")
        self.assertEqual(self.gone, [])

    def test_timed_out_ones_do_not_count(self) -> None:
        self.add("a1", "a2")
        self.clock.advance(5)
        self.add("a3", "a4")
        self.assertEqual(self.gone, ["a1", "a2"])

    def test_moved(self) -> None:
        """A proxy's connection turns out to be somebody's."""
        self.add("p1", "p2", "a1")
        self.newcomers.move("p1", "a")
        self.assertEqual(self.gone, [])
        self.newcomers.move("p2", "a")
        self.assertEqual(self.gone, ["a1"])
        self.add("p3", "p4")
        self.assertEqual(self.gone, ["a1"])
        self.newcomers.move("unknown", "a")
        self.newcomers.discard("p1")
        self.assertEqual(len(self.newcomers), 3)

    def test_closed(self) -> None:
        self.add("a1", "a2")
        self.newcomers.close()
        self.add("a3", "a4")
        self.assertEqual(self.gone, [])
