"""Both pumps do the same, on real pairs of libsrt's sockets."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from relayx.srt import pump
from relayx.srt.binding import CONNECTED, load
from relayx.srt.pump import Counts, CPump, Event, Pump, What, new_pump
from relayx.srt.pythonpump import PythonPump
from tests.srt_live import MISSING, numbered

if not MISSING:
    from tests.srt_peer import SrtPeer

SMALL = {"sndbuf": 60000, "fc": 32, "rcvbuf": 32 * 1456}
"""So that little is in the way until a sender has to wait."""
LIMIT = 60.0
"""Seconds for what comes at once but on a busy machine."""


def waiting(peer: SrtPeer, got: list[bytes]) -> list[bytes]:
    """What has come already, behind what has been got."""
    while True:
        try:
            got.append(peer.receive(0.0))
        except TimeoutError:
            return got


class PumpCase(SynchronousTestCase):
    """A pump with accepted sockets, and who is at their other ends."""

    skip = MISSING or None
    kind: type[PythonPump] | type[CPump] = PythonPump

    def setUp(self) -> None:
        """Make it."""
        self.library = load()
        self.library.start()
        self.addCleanup(self.library.stop)
        self.wake = os.eventfd(0, os.EFD_NONBLOCK)
        self.addCleanup(os.close, self.wake)
        self.pump: Pump = self.kind(self.library, self.wake)
        self.addCleanup(self.pump.close)
        self.events: list[Event] = []

    def pair(self, *, live: bool = True, latency: int = 20, **options: Any) -> tuple[int, SrtPeer]:
        """An accepted socket, in the pump, and the caller."""
        listener = self.library.create()
        for name, value in {
            "sndsyn": False, "rcvsyn": False, "transtype": 0 if live else 1, **options,
            **({"rcvlatency": latency, "peerlatency": latency} if live else {}),
        }.items():  # fmt: skip
            self.library.set(listener, name, value)
        self.library.bind(listener, "127.0.0.1", 0)
        self.library.listen(listener, 1)
        told = {name: options[name] for name in ("fc", "rcvbuf") if name in options}
        port = self.library.bound_to(listener).port
        peer = SrtPeer.connect("127.0.0.1", port, live=live, latency=latency, **told)
        self.addCleanup(peer.close)
        found = None
        deadline = time.monotonic() + LIMIT
        while found is None and time.monotonic() < deadline:
            found = self.library.accept(listener)
        assert found is not None
        self.library.close(listener)
        sock = found[0]
        self.addCleanup(self.library.close, sock)
        self.pump.add(sock, reads=False, latency=latency if live else 0)
        return sock, peer

    def until(self, there: Callable[[], object]) -> None:
        """Run the pump until something is so."""
        deadline = time.monotonic() + LIMIT
        while not there():
            if time.monotonic() > deadline:
                self.fail(f"it did not come to be; events: {self.events}")
            self.events += self.pump.run(0.005)

    def received(self, peer: SrtPeer, count: int) -> list[bytes]:
        """The next messages of a peer, while the pump runs."""
        got: list[bytes] = []
        self.until(lambda: len(waiting(peer, got)) >= count)
        self.assertEqual(len(got), count)
        return got

    def received_bytes(self, peer: SrtPeer, size: int) -> bytes:
        """The next bytes of a peer in buffer mode."""
        got: list[bytes] = []
        self.until(lambda: sum(map(len, waiting(peer, got))) >= size)
        return b"".join(got)

    def happened(self, sock: int, what: What) -> bool:
        """Whether this was told."""
        return Event(sock, what) in self.events


class Behaviour(PumpCase):
    """What :class:`relayx.srt.pump.Pump` says."""

    def test_joined(self) -> None:
        """Messages go on as they are, in order, and are counted."""
        (one, left), (two, right) = self.pair(), self.pair()
        self.pump.join(one, two, holds=True)
        self.pump.join(two, one, holds=True)
        messages = numbered(0, 100)
        for message in messages:
            left.send(message)
        self.assertEqual(self.received(right, 100), messages)
        right.send(b"back")
        self.assertEqual(self.received(left, 1), [b"back"])
        self.assertEqual(
            self.pump.counted(one, two)[:4], (100, sum(map(len, messages)), 0, 0)
        )  # fmt: skip
        self.assertEqual(self.pump.counted(two, one)[:2], (1, 4))
        self.assertEqual(self.events, [])

    def test_not_joined(self) -> None:
        """Told of again and again, until it is read no more; its end is told of all the same."""
        sock, peer = self.pair()
        self.pump.read(sock, True)
        peer.send(b"x")
        self.until(lambda: self.happened(sock, What.READABLE))
        self.pump.read(sock, False)
        self.pump.run(0.0)
        self.events.clear()
        for _ in range(5):
            self.events += self.pump.run(0.01)
        self.assertEqual(self.events, [])
        peer.close()
        self.until(lambda: self.happened(sock, What.READABLE))
        self.assertNotEqual(self.library.state(sock), CONNECTED)

    def test_wake(self) -> None:
        os.eventfd_write(self.wake, 3)
        self.assertEqual(self.pump.run(None), [Event(-1, What.WOKEN)])
        self.assertEqual(self.pump.run(0.0), [])

    def test_room(self) -> None:
        """Told while it is wanted, and not longer."""
        sock, _peer = self.pair()
        self.pump.room(sock, True)
        self.until(lambda: self.happened(sock, What.ROOM))
        self.pump.room(sock, False)
        self.events.clear()
        self.events += self.pump.run(0.02)
        self.assertEqual(self.events, [])

    def test_timeout(self) -> None:
        began = time.monotonic()
        self.assertEqual(self.pump.run(0.05), [])
        self.assertTrue(0.045 <= time.monotonic() - began < LIMIT)

    def test_holds(self) -> None:
        """A target without room has its source wait, which is counted; nothing is lost."""
        (one, left), (two, right) = self.pair(live=False), self.pair(live=False, **SMALL)
        self.pump.join(one, two, holds=True)
        whole = bytes(range(256)) * 2000
        sent = left.send(whole)
        self.assertEqual(sent, len(whole))
        self.until(lambda: self.pump.holds(one, two))
        self.pump.run(0.05)
        stalled = self.pump.counted(one, two).stalled
        self.assertTrue(0 < stalled < LIMIT, stalled)
        self.assertEqual(self.received_bytes(right, len(whole)), whole)
        counts = self.pump.counted(one, two)
        self.assertEqual((counts.bytes, counts.dropped), (len(whole), 0))
        self.assertFalse(self.pump.holds(one, two))
        self.assertTrue(counts.stalled >= stalled)

    def test_holds_until_what_waits_is_too_late(self) -> None:
        """In live mode libsrt drops that in the end, where somebody still tries to send."""
        (one, left), (two, _right) = self.pair(), self.pair(**SMALL)
        self.pump.join(one, two, holds=True)

        def held() -> bool:
            left.send(bytes(1000))
            return self.pump.holds(one, two)

        self.until(held)
        moved = self.pump.counted(one, two).messages
        self.until(lambda: self.pump.counted(one, two).messages > moved)
        counts = self.pump.counted(one, two)
        self.assertEqual(counts.dropped, 0, "by the pump")
        self.assertGreater(counts.stalled, 0.0)
        statistics = self.library.statistics(two)
        assert statistics is not None
        self.assertGreater(statistics.pktSndDropTotal, 0)

    def test_drops(self) -> None:
        """A target without room that nobody waits for: dropped and counted, the others have all."""
        (one, left), (two, fast) = self.pair(live=False), self.pair(live=False)
        three, _slow = self.pair(live=False, **SMALL)
        for target in (two, three):
            self.pump.join(one, target, holds=False)
        size = 400_000
        left.send(bytes(size))
        self.assertEqual(len(self.received_bytes(fast, size)), size)
        slow = self.pump.counted(one, three)
        self.assertTrue(slow.dropped > 0 and slow.dropped_bytes > 0, slow)
        self.assertEqual(slow.stalled, 0.0)
        self.assertEqual(self.pump.counted(one, two)[1:], (size, 0, 0, 0.0, 0))

    def test_longer_than_a_packet(self) -> None:
        """Such a message is dropped and counted, one by one, and what follows it goes on."""
        for holds in (True, False):
            (one, left), (two, right) = self.pair(payloadsize=1456), self.pair(payloadsize=1200)
            self.pump.join(one, two, holds=holds)
            messages = [bytes([n]) * size for n, size in enumerate((1200, 1201, 1, 1316, 1200))]
            for message in messages:
                left.send(message)
            expected = [message for message in messages if len(message) <= 1200]
            self.assertEqual(self.received(right, 3), expected)
            self.assertEqual(self.pump.counted(one, two), Counts(3, 2401, 2, 2517, 0.0, 2))
            self.assertFalse(self.pump.holds(one, two))

    def test_discard(self) -> None:
        sock, peer = self.pair()
        self.pump.discard(sock)
        for message in numbered(0, 20):
            peer.send(message)
        peer.drain()
        peer.close()
        self.until(lambda: self.happened(sock, What.ENDED))
        self.assertEqual(self.events, [Event(sock, What.ENDED)])

    def test_skip(self) -> None:
        """What is due before a moment is nobody's, what is due later is somebody's."""
        (one, left), (two, right) = self.pair(latency=150), self.pair()
        self.pump.read(one, True)
        left.send(b"old")
        self.until(lambda: self.happened(one, What.READABLE))  # so it is due
        self.pump.skip(one, time.monotonic())
        left.send(b"new")
        self.pump.join(one, two, holds=True)
        self.assertEqual(self.received(right, 1), [b"new"])
        left.send(b"newer")
        self.assertEqual(self.received(right, 1), [b"newer"])
        self.assertEqual(self.pump.counted(one, two).messages, 2)

    def check_all_comes_behind_the_end(
        self, one: int, left: SrtPeer, two: int, right: SrtPeer
    ) -> None:
        """What a peer sends right before it closes is moved before its end is told of."""
        messages = numbered(0, 50)
        for message in messages:
            left.send(message)
        left.drain()
        left.close()
        self.until(lambda: self.happened(one, What.ENDED))
        self.assertEqual(self.pump.counted(one, two).messages, 50)
        self.assertEqual(self.received(right, 50), messages)

    def test_end_with_what_is_still_due(self) -> None:
        """All that a socket had sent is moved before its end is told of."""
        (one, left), (two, right) = self.pair(latency=300), self.pair()
        self.pump.join(one, two, holds=True)
        self.check_all_comes_behind_the_end(one, left, two, right)
        self.pump.remove(one)
        self.assertEqual(self.pump.run(0.01), [])

    def test_end_with_what_is_due_later_than_its_latency(self) -> None:
        """As it is after a slow handshake, from which libsrt counts."""
        (one, left), (two, right) = self.pair(latency=400), self.pair()
        self.pump.remove(one)
        self.pump.add(one, reads=False, latency=0)
        self.pump.join(one, two, holds=True)
        self.check_all_comes_behind_the_end(one, left, two, right)

    def test_ended_before_it_was_joined(self) -> None:
        (one, left), (two, right) = self.pair(latency=200), self.pair()
        left.send(b"left behind")
        left.drain()
        left.close()
        self.until(lambda: self.library.state(one) != CONNECTED)
        self.pump.join(one, two, holds=True)
        self.pump.end(one)
        self.assertEqual(self.received(right, 1), [b"left behind"])
        self.until(lambda: self.happened(one, What.ENDED))

    def test_end_when_much_is_due_at_once(self) -> None:
        """More than is moved in a turn, where the pump comes back after the latency."""
        (one, left), (two, right) = self.pair(latency=200), self.pair()
        messages = numbered(0, 600)
        for message in messages:
            left.send(message)
        left.drain()
        left.close()
        self.until(lambda: self.library.state(one) != CONNECTED)
        self.pump.join(one, two, holds=True)
        self.pump.end(one)
        time.sleep(0.25)  # in which the pump is away
        self.until(lambda: self.happened(one, What.ENDED))
        self.assertEqual(self.pump.counted(one, two).messages, 600)
        self.assertEqual(self.received(right, 600), messages)

    def test_target_is_gone(self) -> None:
        """It misses nothing: what is for it is not counted, as dropped for it neither."""
        (one, left), (two, _right), (three, other) = self.pair(), self.pair(), self.pair()
        for target in (two, three):
            self.pump.join(one, target, holds=False)
        self.pump.remove(two)
        self.library.close(two)
        messages = numbered(0, 5)
        for message in messages:
            left.send(message)
        self.assertEqual(self.received(other, 5), messages)
        self.until(lambda: self.pump.counted(one, three).messages == 5)
        self.assertEqual(self.pump.counted(one, two), Counts())

    def test_target_goes_while_it_is_waited_for(self) -> None:
        """Its source is read on, and what it held is dropped."""
        (one, left), (two, _right) = self.pair(live=False), self.pair(live=False, **SMALL)
        three, other = self.pair(live=False)
        self.pump.join(one, two, holds=True)
        left.send(bytes(200_000))
        self.until(lambda: self.pump.holds(one, two))
        self.pump.remove(two)
        self.library.close(two)
        self.assertFalse(self.pump.holds(one, two))
        self.assertTrue(self.pump.counted(one, two).dropped >= 1)
        self.pump.part(one, two)
        self.pump.join(one, three, holds=True)
        left.send(b"goes on")
        got: list[bytes] = []
        self.until(lambda: b"".join(waiting(other, got)).endswith(b"goes on"))

    def test_source_goes_while_it_waits(self) -> None:
        """The target's event is of nobody any more."""
        (one, left), (two, right) = self.pair(live=False), self.pair(live=False, **SMALL)
        self.pump.join(one, two, holds=True)
        left.send(bytes(200_000))
        self.until(lambda: self.pump.holds(one, two))
        self.pump.remove(one)
        right.receive()
        self.events += self.pump.run(0.05)
        self.assertEqual(self.events, [])
        self.assertEqual(self.pump.counted(one, two), Counts())

    def test_parted(self) -> None:
        (one, left), (two, right) = self.pair(), self.pair()
        self.pump.join(one, two, holds=True)
        left.send(b"1")
        self.assertEqual(self.received(right, 1), [b"1"])
        self.pump.part(one, two)
        left.send(b"2")
        left.drain()
        left.close()
        self.until(lambda: self.happened(one, What.ENDED))
        self.assertRaises(TimeoutError, right.receive, 0.05)

    def test_read_again_after_it_was_discarded(self) -> None:
        sock, peer = self.pair()
        self.pump.discard(sock)
        self.pump.read(sock, True)
        peer.send(b"for Python")
        self.until(lambda: self.happened(sock, What.READABLE))

    def test_unknown(self) -> None:
        """A socket that is not there is nobody's."""
        for ask in (
            lambda: self.pump.read(77, True),
            lambda: self.pump.room(77, True),
            lambda: self.pump.join(77, 78, holds=True),
            lambda: self.pump.part(77, 78),
            lambda: self.pump.discard(77),
            lambda: self.pump.skip(77, 1.0),
            lambda: self.pump.end(77),
            lambda: self.pump.remove(77),
        ):
            ask()
        self.assertFalse(self.pump.holds(77, 78))
        self.assertEqual(self.pump.counted(77, 78), Counts())
        self.assertEqual(self.pump.run(0.0), [])

    def test_close_with_all_kinds(self) -> None:
        """Nothing is in the way of it."""
        (one, left), (two, _right) = self.pair(live=False), self.pair(live=False, **SMALL)
        self.pump.join(one, two, holds=True)
        self.pump.join(two, one, holds=True)
        left.send(bytes(200_000))
        self.until(lambda: self.pump.holds(one, two))


class Compiled(Behaviour):
    """The same in C."""

    kind = CPump
    skip = MISSING or (None if pump.is_compiled() else "there is no pump in C here")

    def test_choice(self) -> None:
        """It is taken where it is wanted and there."""
        for compiled, there, kind in (
            (True, True, CPump), (False, True, PythonPump), (True, False, PythonPump),
        ):  # fmt: skip
            if not there:
                self.patch(pump, "_compiled", None)
            made = new_pump(self.library, self.wake, compiled=compiled)
            self.assertIsInstance(made, kind)
            made.close()
