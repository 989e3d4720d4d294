"""Storms of requests to reload, by a clock that is turned by hand."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relayx.watching import GAP, Requests


class Storms(SynchronousTestCase):
    """Many requests are few reloads, and what they ask for is done after the last."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.reloads: list[float] = []
        self.requests = Requests(self.clock, self.reload)

    def reload(self) -> None:
        self.reloads.append(self.clock.seconds())

    def test_one(self) -> None:
        self.requests.ask()
        self.assertEqual(self.reloads, [])
        self.clock.advance(0)
        self.assertEqual(self.reloads, [0.0])
        self.clock.advance(10)
        self.assertEqual(self.reloads, [0.0])

    def test_a_hundred_in_a_second(self) -> None:
        for _ in range(100):
            self.requests.ask()
            self.clock.advance(0.01)
        last = self.clock.seconds()
        self.clock.advance(GAP)
        self.assertLessEqual(len(self.reloads), 2 + 1 / GAP)
        self.assertGreaterEqual(self.reloads[-1], last - 0.01)

    def test_asked_for_while_it_reloads(self) -> None:
        """What it has read by then may be what was there before."""
        again = [True, False]

        def reload() -> None:
            self.reload()
            if again.pop(0):
                self.requests.ask()

        self.requests = Requests(self.clock, reload)
        self.requests.ask()
        self.clock.pump([0, GAP])
        self.assertEqual(self.reloads, [0.0, GAP])

    def test_one_that_fails(self) -> None:
        def fail() -> None:
            self.reload()
            raise ValueError

        self.requests = Requests(self.clock, fail)
        self.requests.ask()
        self.assertRaises(ValueError, self.clock.advance, 0)
        self.requests.ask()
        self.assertRaises(ValueError, self.clock.advance, GAP)

    def test_stopped(self) -> None:
        self.requests.ask()
        self.requests.stop()
        self.assertEqual((self.clock.getDelayedCalls(), self.reloads), ([], []))
