"""How fast counters grow."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relayx.rates import MOST_KEPT, Rates, Trail


class Counting(SynchronousTestCase):
    """For those who look now and then."""

    def test_rates(self) -> None:
        """Since it was 0, then between looks, and not anew within a second."""
        rates = Rates()
        self.assertEqual(rates.of("a", 10.0, (50, 0), 5.0), (10.0, 0.0))
        self.assertEqual(rates.of("a", 10.1, (900, 900), 5.0), (10.0, 0.0))
        self.assertEqual(rates.of("a", 12.0, (70, 8), 5.0), (10.0, 4.0))
        self.assertEqual(rates.of("b", 12.0, (70,), 12.0), (0.0,))

    def test_few_are_kept(self) -> None:
        """Whatever is looked at."""
        rates = Rates()
        for number in range(2 * MOST_KEPT):
            rates.of(str(number), 1.0, (1,), 0.0)
        self.assertEqual(len(rates), MOST_KEPT)

    def test_trail(self) -> None:
        """A point an interval, the last few of them."""
        clock, counts = Clock(), iter([0, 10, 10, 40, 100])
        trail = Trail(clock, lambda: next(counts), 2.0, 3)
        trail.start()
        for _ in range(4):
            clock.advance(2)
        self.assertEqual(list(trail.points), [(4.0, 0.0), (6.0, 15.0), (8.0, 30.0)])
        trail.stop()
        self.assertEqual(clock.getDelayedCalls(), [])
