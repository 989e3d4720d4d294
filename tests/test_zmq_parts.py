"""Broker mode: the parts that need no socket."""

from __future__ import annotations

import sys

from twisted.trial.unittest import SynchronousTestCase

from relayx.zmq.counts import BOUNDS, DurationCount, Moved, Statistics
from relayx.zmq.settings import BrokerSettings, Pattern, Role, Side
from tests.zmq_brokers import NO_ZMQ

if NO_ZMQ is None:
    import zmq

    from relayx.zmq.exchange import LONGEST, Pending, envelope_of


class CountTests(SynchronousTestCase):
    """Numbers"""

    def test_durations(self) -> None:
        """Each is in its bucket and all above; an upper end belongs to its own."""
        count = DurationCount()
        for seconds in (0.0001, 0.0005, 0.3, 99.0):
            count.add(seconds)
        read = count.read()
        self.assertEqual((read.count, read.sum), (4, 0.0001 + 0.0005 + 0.3 + 99.0))
        buckets = dict(read.buckets)
        self.assertEqual([buckets[at] for at in (0.0005, 0.25, 0.5, 10.0)], [2, 2, 3, 3])
        self.assertEqual(tuple(buckets), BOUNDS)

    def test_statistics(self) -> None:
        """Eight numbers in libzmq's order, added up one by one."""
        parts = [number.to_bytes(8, sys.byteorder) for number in range(1, 9)]
        read = Statistics.read(parts)
        self.assertEqual(read, Statistics(Moved(1, 2), Moved(3, 4), Moved(5, 6), Moved(7, 8)))
        self.assertEqual((read + read).backend_sent, Moved(14, 16))


class SettingsTests(SynchronousTestCase):
    """What a broker is to be"""

    def test_hidden(self) -> None:
        """No text shows the secret key."""
        settings = BrokerSettings(Pattern.REQ_REP, 1, 2, curve_server_secret="S" * 40)
        self.assertNotIn("SSSS", repr(settings))
        self.assertNotIn("SSSS", str(settings.__rich_repr__()))
        self.assertIn("curve_server_secret='hidden'", repr(settings))
        self.assertEqual(settings.side(Role.BACKEND), Side(Pattern.REQ_REP, Role.BACKEND, 2))


class PendingTests(SynchronousTestCase):
    """From requests to answers"""

    skip = NO_ZMQ

    def setUp(self) -> None:
        self.count = DurationCount()

    def test_interleaved(self) -> None:
        """Each answer is its own question's; a second one, or one to nothing, counts nothing."""
        pending = Pending(self.count)
        pending.asked((b"a",), 1.0)
        pending.asked((b"b",), 2.0)
        pending.answered((b"a",), 5.0)
        pending.answered((b"a",), 50.0)
        pending.answered((b"c",), 50.0)
        pending.answered((b"b",), 2.5)
        self.assertEqual((self.count.read().count, self.count.read().sum), (2, 4.5))

    def test_bounded(self) -> None:
        """Beyond the most, the oldest are forgotten."""
        pending = Pending(self.count, most=2)
        for number, envelope in enumerate((b"a", b"b", b"c")):
            pending.asked((envelope,), float(number))
        for envelope in (b"a", b"b", b"c"):
            pending.answered((envelope,), 10.0)
        self.assertEqual((self.count.read().count, self.count.read().sum), (2, 17.0))

    def test_recent(self) -> None:
        """Whether one waits that came late enough, the last of its asker's included."""
        pending = Pending(self.count)
        self.assertFalse(pending.any_since(0.0))
        for envelope, now in ((b"a", 1.0), (b"b", 2.0), (b"a", 3.0)):
            pending.asked((envelope,), now)
        found = [pending.any_since(when) for when in (1.0, 3.0, 3.1)]
        self.assertEqual(found, [True, True, False])
        pending.answered((b"a",), 4.0)
        pending.answered((b"a",), 4.0)
        self.assertEqual([pending.any_since(when) for when in (2.0, 2.1)], [True, False])


class EnvelopeTests(SynchronousTestCase):
    """By what a request and its answer know each other"""

    skip = NO_ZMQ

    def envelope(self, *parts: bytes) -> tuple[bytes, ...]:
        """Of a message of these parts."""
        return envelope_of([zmq.Frame(part) for part in parts])

    def test_parts(self) -> None:
        """Everything before the empty part; where none is, by whom it came."""
        self.assertEqual(self.envelope(b"id", b"hop", b"", b"body", b""), (b"id", b"hop"))
        self.assertEqual(self.envelope(b"id", b"body"), (b"id",))
        self.assertEqual(self.envelope(b"", b"body"), ())

    def test_bounded(self) -> None:
        """What stands before the empty part is kept up to a size, of one part or of many."""
        rest = LONGEST - len(b"id")
        self.assertEqual(self.envelope(b"id", bytes(rest), b"", b"body"), (b"id", bytes(rest)))
        for long in ([bytes(rest + 1)], [b"x"] * (rest + 1)):
            self.assertEqual(self.envelope(b"id", *long, b"", b"body"), (b"id",))
        self.assertEqual(self.envelope(bytes(LONGEST + 1), b"", b"body"), ())
