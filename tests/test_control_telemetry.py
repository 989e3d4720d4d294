"""telemetry: one timer for all who subscribed (contract section 3)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from relayx.control.telemetry import TelemetryTimer
from tests.test_control_bed import ControlBed, Wire


class Telemetry(SynchronousTestCase):
    """Mbps over both directions of every session since the last one, every 100 ms."""

    def setUp(self) -> None:
        self.bed = ControlBed(self)
        self.moved = 5_000_000
        self.timer = TelemetryTimer(self.bed.clock, self.bed.factory, lambda: self.moved)
        (self.one, self.wire), (self.two, self.other) = self.bed.registered(), self.bed.registered()

    def tearDown(self) -> None:
        self.timer.close()

    def speeds(self, wire: Wire | None = None) -> list[float]:
        messages = (self.wire if wire is None else wire).said()
        self.assertTrue(all(message["type"] == "telemetry" for message in messages))
        return [message["payload"]["current_speed"] for message in messages]

    def timers(self) -> int:
        return sum(call.getTime() < 1001.0 for call in self.bed.clock.getDelayedCalls())

    def test_nobody_subscribed(self) -> None:
        self.assertEqual(self.timers(), 0)

    def test_every_100_ms(self) -> None:
        self.timer.subscribe(self.one.conn)
        self.bed.clock.advance(0.099)
        self.assertEqual(self.speeds(), [])
        self.bed.clock.pump([0.001] + [0.1] * 9)
        self.assertEqual(self.speeds(), [0.0] * 10)
        self.assertEqual(self.speeds(self.other), [])

    def test_speed(self) -> None:
        """1 MB in 100 ms is 80 Mbps; what moved before the subscription does not count."""
        self.timer.subscribe(self.one.conn)
        self.moved += 1_000_000
        self.bed.clock.advance(0.1)
        self.bed.clock.advance(0.1)
        self.moved += 500_000
        self.bed.clock.advance(0.1)
        self.assertEqual(self.speeds(), [80.0, 0.0, 40.0])

    def test_over_the_time_that_passed(self) -> None:
        """The timer may be late: the speed is over the true time."""
        self.timer.subscribe(self.one.conn)
        self.moved += 1_000_000
        self.bed.clock.advance(0.2)
        self.assertEqual(self.speeds()[0], 40.0)

    def test_never_negative(self) -> None:
        self.timer.subscribe(self.one.conn)
        self.moved -= 1
        self.bed.clock.advance(0.1)
        self.assertEqual(self.speeds(), [0.0])

    def test_one_timer_for_all(self) -> None:
        self.timer.subscribe(self.one.conn)
        self.bed.clock.advance(0.05)
        self.timer.subscribe(self.two.conn)
        self.timer.subscribe(self.two.conn)
        self.assertEqual(self.timers(), 1)
        before = self.bed.names.given["msg"]
        self.bed.clock.advance(0.0501)
        self.assertEqual((self.speeds(), self.speeds(self.other)), ([0.0], [0.0]))
        self.assertEqual(self.bed.names.given["msg"] - before, 1)

    def test_unsubscribed(self) -> None:
        self.timer.subscribe(self.one.conn)
        self.timer.subscribe(self.two.conn)
        self.timer.unsubscribe(self.one.conn)
        self.bed.clock.advance(0.1)
        self.assertEqual((self.speeds(), self.speeds(self.other)), ([], [0.0]))
        self.timer.unsubscribe(self.two.conn)
        self.assertEqual(self.timers(), 0)
        self.timer.unsubscribe(self.two.conn)

    def test_subscribed_again(self) -> None:
        self.timer.subscribe(self.one.conn)
        self.timer.unsubscribe(self.one.conn)
        self.moved += 10**9
        self.bed.clock.advance(5)
        self.timer.subscribe(self.one.conn)
        self.bed.clock.advance(0.1)
        self.assertEqual(self.speeds(), [0.0])

    def test_a_client_that_is_gone(self) -> None:
        self.timer.subscribe(self.one.conn)
        self.timer.subscribe(self.two.conn)
        self.one.connectionLost()
        self.bed.clock.advance(0.1)
        self.assertEqual((self.speeds(), self.speeds(self.other)), ([], [0.0]))

    def test_only_the_newest_to_one_that_lags(self) -> None:
        self.timer.subscribe(self.one.conn)
        self.wire.fill()
        self.bed.clock.advance(0.1)
        self.moved += 1_000_000
        self.bed.clock.advance(0.1)
        self.wire.empty()
        self.assertEqual(self.speeds(), [80.0])
