"""How long replies take, by the messages of both directions."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from relayx.zmtp import Exchange
from relayx.zmtp.exchange import MAX_WAITING
from relayx.zmtp.sockettypes import PEERS


def between(fe_type: str, be_type: str) -> Exchange:
    exchange = Exchange.between(fe_type, be_type)
    assert exchange is not None
    return exchange


class Who(SynchronousTestCase):
    def test_which_pairs(self) -> None:
        """Those whose replies come in order, whichever side the asking one is."""
        timed = {
            (fe, be) for fe in PEERS for be in PEERS[fe] if Exchange.between(fe, be) is not None
        }
        asked = {("REQ", "REP"), ("REQ", "ROUTER"), ("DEALER", "REP")}
        self.assertEqual(timed, asked | {(be, fe) for fe, be in asked})
        for fe, be in asked:
            self.assertTrue(between(fe, be).fe_asks)
            self.assertFalse(between(be, fe).fe_asks)
        self.assertIsNone(Exchange.between("", ""))


class Timing(SynchronousTestCase):
    def test_strict_alternation(self) -> None:
        exchange, seconds = between("REQ", "REP"), []
        for turn in range(3):
            self.assertEqual(exchange.from_fe(1, 10.0 * turn), [])
            self.assertEqual(exchange.waiting, 1)
            seconds += exchange.from_be(1, 10.0 * turn + turn + 0.5)
        self.assertEqual(seconds, [0.5, 1.5, 2.5])
        self.assertEqual(exchange.waiting, 0)

    def test_a_be_that_asks(self) -> None:
        exchange = between("REP", "REQ")
        self.assertEqual(exchange.from_be(1, 1.0), [])
        self.assertEqual(exchange.from_fe(1, 1.25), [0.25])

    def test_many_at_once(self) -> None:
        exchange = between("DEALER", "REP")
        exchange.from_fe(3, 1.0)
        exchange.from_fe(2, 2.0)
        self.assertEqual(exchange.from_be(1, 4.0), [3.0])
        self.assertEqual(exchange.from_be(3, 5.0), [4.0, 4.0, 3.0])
        self.assertEqual(exchange.waiting, 1)
        self.assertEqual(exchange.from_be(1, 6.0), [4.0])

    def test_nothing_and_nobody_asked(self) -> None:
        exchange = between("REQ", "REP")
        self.assertEqual(exchange.from_fe(0, 1.0), [])
        self.assertEqual(exchange.from_be(0, 1.0), [])
        self.assertEqual(exchange.from_be(2, 1.0), [])
        exchange.from_fe(1, 2.0)
        self.assertEqual(exchange.from_be(1, 3.0), [1.0])

    def test_what_is_kept_is_bounded(self) -> None:
        """Requests past the bound are passed over, and those behind them are timed right again."""
        exchange = between("DEALER", "REP")
        for moment in range(MAX_WAITING):
            exchange.from_fe(2, float(moment))
        for moment in range(5000):
            exchange.from_fe(1, 10_000.0 + moment)
        self.assertEqual(exchange.waiting, 2 * MAX_WAITING + 5000)
        now = 100_000.0
        first = exchange.from_be(2 * MAX_WAITING, now)
        self.assertEqual(first, [now - moment for moment in range(MAX_WAITING) for _ in (0, 1)])
        exchange.from_fe(1, now)
        self.assertEqual(exchange.from_be(4999, now), [])
        self.assertEqual(exchange.from_be(2, now + 1.0), [1.0])
        self.assertEqual(exchange.waiting, 0)
