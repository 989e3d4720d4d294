"""Connections that have yet to say who they are (contract section 1, the two limits)."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relayx.net.newcomers import Newcomers


class Limits(SynchronousTestCase):
    """Three at most, for two seconds each."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.late: list[str] = []
        self.crowded: list[str] = []
        self.newcomers: Newcomers[str] = Newcomers(
            self.clock, 2.0, 3, timed_out=self.late.append, crowded_out=self.crowded.append
        )

    def test_timed_out(self) -> None:
        self.newcomers.add("a")
        self.clock.advance(1.999)
        self.assertEqual(self.late, [])
        self.clock.advance(0.001)
        self.assertEqual((self.late, len(self.newcomers)), (["a"], 0))
        self.clock.advance(10)
        self.assertEqual(self.late, ["a"])

    def test_each_at_its_own_time(self) -> None:
        seen = []
        self.newcomers.add("a")
        self.clock.advance(0.5)
        self.newcomers.add("b")
        for _ in range(8):
            self.clock.advance(0.25)
            seen.append("".join(self.late))
        self.assertEqual(seen, ["", "", "", "", "", "a", "a", "ab"])

    def test_two_at_once(self) -> None:
        self.newcomers.add("a")
        self.newcomers.add("b")
        self.clock.advance(2)
        self.assertEqual(self.late, ["a", "b"])

    def test_discarded(self) -> None:
        self.newcomers.add("a")
        self.newcomers.add("b")
        self.newcomers.discard("a")
        self.newcomers.discard("a")
        self.newcomers.discard("unknown")
        self.assertEqual(len(self.newcomers), 1)
        self.clock.advance(2)
        self.assertEqual(self.late, ["b"])

    def test_one_that_comes_after_all_have_gone(self) -> None:
        self.newcomers.add("a")
        self.newcomers.discard("a")
        self.clock.advance(1)
        self.newcomers.add("b")
        self.clock.advance(1.5)
        self.assertEqual(self.late, [])
        self.clock.advance(0.5)
        self.assertEqual(self.late, ["b"])

    def test_crowded_out(self) -> None:
        for name in "abcde":
            self.newcomers.add(name)
        self.assertEqual((self.crowded, len(self.newcomers)), (["a", "b"], 3))
        self.clock.advance(2)
        self.assertEqual(self.late, ["c", "d", "e"])

    def test_discarding_makes_room(self) -> None:
        for name in "abc":
            self.newcomers.add(name)
        self.newcomers.discard("b")
        self.newcomers.add("d")
        self.assertEqual(self.crowded, [])

    def test_one_timer(self) -> None:
        for name in "abc":
            self.newcomers.add(name)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_one_that_is_late_may_let_another_in(self) -> None:
        def late(name: str) -> None:
            self.late.append(name)
            if len(name) < 3:
                newcomers.add(name + "a")

        newcomers: Newcomers[str] = Newcomers(
            self.clock, 2.0, 3, timed_out=late, crowded_out=self.crowded.append
        )
        newcomers.add("a")
        self.clock.pump([1.0] * 10)
        self.assertEqual((self.late, len(newcomers)), (["a", "aa", "aaa"], 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_none_at_all(self) -> None:
        newcomers: Newcomers[str] = Newcomers(
            self.clock, 2.0, 0, timed_out=self.late.append, crowded_out=self.crowded.append
        )
        newcomers.add("a")
        self.assertEqual((self.crowded, self.clock.getDelayedCalls()), (["a"], []))

    def test_other_timeout(self) -> None:
        """It holds for those who wait, too, and all of them keep their order."""
        for timeout, late_at in ((1.0, 1.0), (5.0, 5.0)):
            self.newcomers.add("a")
            self.newcomers.add("b")
            self.newcomers.change(timeout, 3)
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
            self.clock.advance(late_at - 0.1)
            self.assertEqual(self.late, [])
            self.clock.advance(0.1)
            self.assertEqual(self.late, ["a", "b"])
            self.late.clear()

    def test_shorter_than_one_has_waited(self) -> None:
        self.newcomers.add("a")
        self.clock.advance(1.5)
        self.newcomers.add("b")
        self.newcomers.change(1.0, 3)
        self.assertEqual(self.late, ["a"])
        self.clock.advance(1.0)
        self.assertEqual(self.late, ["a", "b"])

    def test_other_limit(self) -> None:
        """Past it the oldest go at once."""
        for name in "abc":
            self.newcomers.add(name)
        self.newcomers.change(2.0, 1)
        self.assertEqual((self.crowded, list(self.newcomers)), (["a", "b"], ["c"]))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_other_limit_by_source(self) -> None:
        newcomers: Newcomers[str] = Newcomers(
            self.clock, 2.0, 9, timed_out=self.late.append, crowded_out=self.crowded.append,
            per_source=3,
        )  # fmt: skip
        for name, source in (("a", "x"), ("b", "x"), ("c", "y"), ("d", "x")):
            newcomers.add(name, source)
        newcomers.change(2.0, 9, 1)
        self.assertEqual((self.crowded, list(newcomers)), (["a", "b"], ["c", "d"]))

    def test_changed_while_nobody_waits(self) -> None:
        self.newcomers.change(1.0, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.newcomers.add("a")
        self.clock.advance(1.0)
        self.assertEqual(self.late, ["a"])

    def test_closed(self) -> None:
        self.newcomers.add("a")
        self.newcomers.close()
        self.newcomers.close()
        self.assertEqual((len(self.newcomers), self.clock.getDelayedCalls()), (0, []))
        self.clock.advance(5)
        self.assertEqual((self.late, self.crowded), ([], []))
