"""The buffered byte path on its own (contract section 7)."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relayx.data.pump import BufferedPump
from relayx.net.tcp import Failure
from tests.test_data_bed import End


class Moving(SynchronousTestCase):
    """Bytes in order, what was held first, and pushing back."""

    def setUp(self) -> None:
        self.one, self.two, self.clock = End(), End(), Clock()
        self.pump = BufferedPump(self.one, self.two, self.clock)

    def test_what_was_held_goes_first(self) -> None:
        self.pump.hold(b"early one", b"early two")
        self.assertEqual((self.one.wrote, self.two.wrote), (b"", b""))
        self.pump.start()
        self.pump.received(self.one, b"+")
        self.assertEqual((self.one.wrote, self.two.wrote), (b"early two", b"early one+"))

    def test_both_are_read_from_the_start(self) -> None:
        """A waiting FE was not read until now."""
        self.one.pauseProducing()
        self.two.pauseProducing()
        self.pump.start()
        self.assertEqual((self.one.paused, self.two.paused), (False, False))

    def test_each_is_the_others_producer(self) -> None:
        self.pump.start()
        self.two.producer.pauseProducing()
        self.assertEqual((self.one.paused, self.two.paused), (True, False))
        self.assertEqual(
            (self.pump.pushed_back(self.one), self.pump.pushed_back(self.two)), (True, False)
        )

    def test_ended_side_is_not_pushed_back(self) -> None:
        self.pump.start()
        self.one.pauseProducing()
        self.one.read_ended = True
        self.assertFalse(self.pump.pushed_back(self.one))

    def test_discard(self) -> None:
        self.pump.start()
        self.one.pauseProducing()
        self.pump.discard(self.one)
        self.assertEqual((self.one.paused, self.two.producer), (False, None))
        self.pump.received(self.one, b"thrown away")
        self.pump.received(self.two, b"kept")
        self.assertEqual((self.one.wrote, self.two.wrote), (b"kept", b""))

    def test_end(self) -> None:
        """The producer goes first: Twisted puts a half-close off while there is one."""
        self.pump.start()
        self.pump.end(self.one)
        self.assertEqual((self.two.shut, self.two.producer, self.one.shut), (True, None, False))

    def test_end_for_one_that_is_gone(self) -> None:
        self.two.connected = False
        self.pump.end(self.one)
        self.one.failure = Failure.RESET
        self.pump.end(self.two)
        self.assertEqual((self.one.shut, self.two.shut), (False, False))

    def test_stop(self) -> None:
        self.pump.start()
        self.pump.stop()
        self.assertEqual((self.one.producer, self.two.producer), (None, None))
