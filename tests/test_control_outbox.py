"""Sending to one client without letting it hold memory (contract sections 1, 3 and 4)."""

from __future__ import annotations

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from relayx.control.outbox import LOG_LINES, Outbox


class Pausing(StringTransport):
    """Pauses its producer as soon as one write has filled it."""

    full_after = 10**9

    def write(self, data: bytes) -> None:
        super().write(data)
        if len(self.value()) >= self.full_after and self.producer is not None:
            self.producer.pauseProducing()


class Base(SynchronousTestCase):
    """An outbox of 100 bytes."""

    def setUp(self) -> None:
        self.transport = Pausing()
        self.overflows = 0
        self.outbox = Outbox(self.transport, 100, self.overflowed)

    def overflowed(self) -> None:
        self.overflows += 1

    def written(self) -> bytes:
        value = self.transport.value()
        self.transport.clear()
        return value


class Order(Base):
    """Messages arrive, and in order."""

    def test_at_once_while_it_reads(self) -> None:
        self.outbox.send(b"a")
        self.outbox.send_newest("k", b"b")
        self.outbox.send_logs([b"c"])
        self.assertEqual(self.written(), b"abc")

    def test_kept_while_it_does_not(self) -> None:
        self.outbox.pauseProducing()
        for data in (b"a", b"b", b"c"):
            self.outbox.send(data)
        self.assertEqual(self.written(), b"")
        self.outbox.resumeProducing()
        self.assertEqual(self.written(), b"abc")

    def test_kept_ones_go_before_later_ones(self) -> None:
        self.outbox.pauseProducing()
        self.outbox.send(b"a")
        self.outbox.resumeProducing()
        self.outbox.send(b"b")
        self.assertEqual(self.written(), b"ab")

    def test_messages_before_state_before_log(self) -> None:
        self.outbox.pauseProducing()
        self.outbox.send_logs([b"3"])
        self.outbox.send_newest("k", b"2")
        self.outbox.send(b"1")
        self.outbox.resumeProducing()
        self.assertEqual(self.written(), b"123")

    def test_paused_again_in_the_middle(self) -> None:
        self.outbox.pauseProducing()
        for data in (b"aa", b"bb", b"cc"):
            self.outbox.send(data)
        self.outbox.send_newest("k", b"dd")
        self.outbox.send_newest("l", b"ee")
        self.outbox.send_logs([b"ff"])
        self.outbox.send_logs([b"gg"])
        self.transport.full_after = 2
        for expected in (b"aa", b"bb", b"cc", b"dd", b"ee", b"ff", b"gg", b""):
            self.outbox.resumeProducing()
            self.assertEqual(self.written(), expected)

    def test_message_while_half_resumed_goes_last(self) -> None:
        self.outbox.pauseProducing()
        self.outbox.send(b"aa")
        self.outbox.send(b"bb")
        self.transport.full_after = 2
        self.outbox.resumeProducing()
        self.outbox.send(b"cc")
        self.transport.full_after = 100
        self.outbox.resumeProducing()
        self.assertEqual(self.written(), b"aabbcc")


class Newest(Base):
    """A client that has an unsent one gets only the newest (section 4)."""

    def test_replaced(self) -> None:
        self.outbox.pauseProducing()
        for data in (b"1", b"2", b"3"):
            self.outbox.send_newest("port_state", data)
        self.outbox.resumeProducing()
        self.assertEqual(self.written(), b"3")

    def test_each_kind_apart(self) -> None:
        self.outbox.pauseProducing()
        self.outbox.send_newest("port_state", b"s")
        self.outbox.send_newest("telemetry", b"1")
        self.outbox.send_newest("telemetry", b"2")
        self.outbox.resumeProducing()
        self.assertEqual(self.written(), b"s2")

    def test_does_not_count_towards_the_limit(self) -> None:
        self.outbox.pauseProducing()
        self.outbox.send_newest("port_state", b"x" * 1000)
        self.assertEqual(self.overflows, 0)


class Logs(Base):
    """A client that lags loses the oldest lines, never anything else (section 3)."""

    def test_oldest_are_lost(self) -> None:
        self.outbox.pauseProducing()
        self.outbox.send(b"kept\n")
        for n in range(LOG_LINES + 5):
            self.outbox.send_logs([b"%d\n" % n])
        self.assertEqual(self.outbox.log_lines_dropped, 5)
        self.outbox.resumeProducing()
        lines = self.written().split()
        self.assertEqual(lines, [b"kept"] + [b"%d" % n for n in range(5, LOG_LINES + 5)])
        self.assertEqual(self.overflows, 0)


class Overflow(Base):
    """A client that reads too slowly is dropped (section 1, max_outbox_bytes)."""

    def test_at_the_limit(self) -> None:
        self.outbox.pauseProducing()
        self.outbox.send(b"x" * 60)
        self.outbox.send(b"x" * 40)
        self.assertEqual(self.overflows, 0)

    def test_past_the_limit(self) -> None:
        self.outbox.pauseProducing()
        self.outbox.send(b"x" * 60)
        self.outbox.send(b"x" * 41)
        self.assertEqual(self.overflows, 1)
        self.outbox.send(b"x" * 200)
        self.assertEqual(self.overflows, 1)

    def test_nothing_is_sent_after_it(self) -> None:
        self.outbox.pauseProducing()
        self.outbox.send(b"x" * 101)
        self.outbox.resumeProducing()
        for send in (self.outbox.send, lambda line: self.outbox.send_logs([line])):
            send(b"y")
        self.outbox.send_newest("k", b"y")
        self.assertEqual(self.written(), b"")

    def test_what_was_sent_does_not_count(self) -> None:
        for _ in range(5):
            self.outbox.pauseProducing()
            self.outbox.send(b"x" * 100)
            self.outbox.resumeProducing()
        self.assertEqual(self.overflows, 0)
        self.assertEqual(len(self.written()), 500)


class Ends(Base):
    """Closing and flushing."""

    def test_close(self) -> None:
        self.outbox.pauseProducing()
        self.outbox.send(b"a")
        self.outbox.close()
        self.outbox.close()
        self.outbox.resumeProducing()
        self.assertEqual(self.written(), b"")
        self.assertIsNone(self.transport.producer)

    def test_flush(self) -> None:
        self.outbox.pauseProducing()
        self.outbox.send(b"a")
        self.outbox.send(b"b")
        self.outbox.flush()
        self.assertEqual(self.written(), b"ab")
        self.outbox.resumeProducing()
        self.assertEqual(self.written(), b"")

    def test_connection_gone(self) -> None:
        self.outbox.stopProducing()
        self.outbox.send(b"a")
        self.assertEqual(self.written(), b"")
        self.assertIsNone(self.transport.producer)
