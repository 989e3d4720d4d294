"""The engine's thread by itself: orders, sockets that wait, its end; and carriers."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from relayx.net.proxy import Address
from relayx.net.tcp import Failure
from relayx.srt.binding import Peer, load
from relayx.srt.carrier import HIGH_WATER, LOW_WATER, SrtCarrier, Wires
from relayx.srt.engine import EARLY_LIMIT, Engine, Waiting
from relayx.srt.pump import Event
from tests.srt_live import MISSING, logged, numbered

if not MISSING:
    from tests.srt_peer import Ended, SrtPeer

LIMIT = 60.0
"""Seconds for what comes at once but on a busy machine."""
ROUTE = Address("127.0.0.1", 1), Address("127.0.0.1", 2)


class EngineCase(SynchronousTestCase):
    """An engine that runs, and what it tells the reactor's thread, which is the test's."""

    skip = MISSING or None
    compiled = True

    def setUp(self) -> None:
        """Start it."""
        self.told: queue.Queue[tuple[Callable[..., None], tuple[Any, ...]]] = queue.Queue()
        self.engine = Engine(
            load(), lambda what, *args: self.told.put((what, args)), compiled=self.compiled
        )
        self.stopped = False
        self.engine.start()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        """Stop it, once."""
        if not self.stopped:
            self.stopped = True
            self.engine.stop()

    def done(self, what: Callable[[], Any]) -> Any:
        """Have something done in the engine's thread; its result."""
        answer: queue.Queue[Any] = queue.Queue()
        self.engine.order(lambda: answer.put(what()))
        return answer.get(timeout=LIMIT)

    def tell_next(self) -> Any:
        """Do the next that it tells."""
        what, args = self.told.get(timeout=LIMIT)
        return what(*args)

    def until(self, there: Callable[[], object]) -> None:
        """Do what it tells until something is so."""
        deadline = time.monotonic() + LIMIT
        while not there():
            try:
                what, args = self.told.get(timeout=0.05)
            except queue.Empty:
                self.assertTrue(time.monotonic() < deadline, "it did not come to be")
                continue
            what(*args)

    def listener(self, **options: Any) -> tuple[int, queue.Queue[tuple[int, Peer]]]:
        """The port of one, and who comes."""
        library, came = self.engine.library, queue.Queue[tuple[int, Peer]]()
        sock = library.create()
        told = {"sndsyn": False, "rcvsyn": False, "rcvlatency": 20, "peerlatency": 20, **options}
        for name, value in told.items():
            library.set(sock, name, value)
        library.bind(sock, "127.0.0.1", 0)
        library.listen(sock, 5)

        def accepted(number: int, peer: Peer) -> None:
            self.engine.add(number)
            came.put((number, peer))

        self.engine.order(self.engine.add_listener, sock, accepted)
        return library.bound_to(sock).port, came

    def pair(self, **options: Any) -> tuple[int, SrtPeer]:
        """A socket in the engine, and who is at its other end."""
        port, came = self.listener(**options)
        live = options.get("transtype", 0) == 0
        peer = SrtPeer.connect("127.0.0.1", port, latency=20, live=live)
        self.addCleanup(peer.close)
        sock = came.get(timeout=LIMIT)[0]
        peer.send(b"it is there")  # libsrt loses what it is sent before it knows that itself
        deadline = time.monotonic() + LIMIT
        while self.done(lambda: self.engine.receive(sock))[0] != [b"it is there"]:
            self.assertTrue(time.monotonic() < deadline)
        return sock, peer


class Orders(EngineCase):
    """What is done in the engine's thread."""

    def test_in_order(self) -> None:
        done: list[int] = []
        for number in range(200):
            self.engine.order(done.append, number)
        name = self.done(lambda: threading.current_thread().name)
        self.assertEqual((done, name), (list(range(200)), "srt"))

    def test_failing(self) -> None:
        """It is logged, and the thread goes on."""
        with logged() as lines:
            self.engine.order(lambda: 1 / 0)
            self.assertEqual(self.done(lambda: "goes on"), "goes on")
            lines.wait_for("an order to the SRT thread failed")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_failing_event(self) -> None:
        """As is one of a socket."""
        sock, peer = self.pair()

        def broken(event: Event) -> None:
            self.engine.read_by(sock, None)
            raise ValueError("of this socket")

        self.engine.order(self.engine.read_by, sock, broken)
        with logged() as lines:
            self.engine.order(self.engine.pump.read, sock, True)
            peer.send(b"x")
            lines.wait_for("an SRT socket's event failed")
        self.assertEqual(self.done(lambda: "goes on"), "goes on")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_stop(self) -> None:
        """Whatever is open is closed, and orders that come later are nobody's."""
        waiting, one = self.pair()
        self.done(lambda: self.engine.wait(waiting, Waiting(True), lambda: None, reads=True))
        read, two = self.pair()
        self.done(lambda: self.engine.read_by(read, lambda event: None))
        self.stop()
        for peer in (one, two):
            self.assertRaises(Ended, peer.receive)
        self.engine.order(self.fail, "after its end")
        self.assertFalse(self.engine._thread.is_alive())

    def test_never_started(self) -> None:
        engine = Engine(load(), lambda *told: None)
        engine.stop()


class Waits(EngineCase):
    """Sockets in no session."""

    def wait(self, sock: int, waiting: Waiting, *, reads: bool) -> queue.Queue[str]:
        """Have one wait; told when it has ended."""
        gone: queue.Queue[str] = queue.Queue()
        self.engine.order(
            lambda: self.engine.wait(sock, waiting, lambda: gone.put("gone"), reads=reads)
        )
        return gone

    def test_early(self) -> None:
        """The latest of what a BE sends before its first session is kept."""
        sock, peer = self.pair()
        waiting = Waiting(keeps=True)
        self.wait(sock, waiting, reads=True)
        messages = numbered(0, 400)
        for message in messages:
            peer.send(message)
        deadline = time.monotonic() + LIMIT
        while not (waiting.early and waiting.early[-1] == messages[-1]):
            self.assertTrue(time.monotonic() < deadline)
        kept = list(waiting.early)
        self.assertEqual(kept, messages[-len(kept) :])
        size = sum(map(len, kept))
        self.assertTrue(EARLY_LIMIT - 1000 < size <= EARLY_LIMIT, size)
        self.assertEqual(waiting.clean_at(5.0), 0.0)

    def test_ends(self) -> None:
        for reads in (True, False):
            sock, peer = self.pair()
            gone = self.wait(sock, Waiting(keeps=reads), reads=reads)
            peer.close()
            self.assertEqual(gone.get(timeout=LIMIT), "gone")

    def test_had_ended(self) -> None:
        """Before it was told to wait: libsrt says nothing of it any more."""
        sock, peer = self.pair()
        peer.close()
        deadline = time.monotonic() + LIMIT
        while self.engine.is_connected(sock):
            self.assertTrue(time.monotonic() < deadline)
        self.assertTrue(self.engine.is_over(sock))
        gone = self.wait(sock, Waiting(keeps=True), reads=True)
        self.assertEqual(gone.get(timeout=LIMIT), "gone")

    def turned_away(self, came: float) -> tuple[int, SrtPeer]:
        """One that waits, and is turned away; its socket, and its peer."""
        sock, peer = self.pair()
        self.wait(sock, Waiting(keeps=True), reads=True)
        self.done(lambda: self.engine.turn_away(sock, came))
        return sock, peer

    def test_turned_away(self) -> None:
        sock, peer = self.turned_away(0.0)
        self.assertFalse(self.done(lambda: self.engine.has(sock)))
        self.assertRaises(Ended, peer.receive)

    def test_turned_away_later(self) -> None:
        """Not before the peer knows that it is connected."""
        sock, peer = self.turned_away(time.monotonic())
        self.assertRaises(Ended, peer.receive)
        self.assertFalse(self.done(lambda: self.engine.has(sock)))

    def test_turned_away_at_the_end(self) -> None:
        """Or as soon as the engine stops."""
        sock, peer = self.turned_away(time.monotonic() + LIMIT)
        self.assertTrue(self.done(lambda: self.engine.has(sock)))
        self.assertTrue(peer.connected)
        self.stop()
        self.assertRaises(Ended, peer.receive)

    def test_buffered(self) -> None:
        """Its bytes stay with libsrt."""
        sock, peer = self.pair(transtype=1)
        self.assertTrue(self.engine.is_buffered(sock))
        waiting = Waiting(keeps=True, buffered=True)
        self.wait(sock, waiting, reads=True)
        peer.send(b"first bytes")
        peer.drain()
        taken = self.done(lambda: self.engine.take(sock, Wires(self.engine)))
        self.assertIs(taken, waiting)
        self.assertEqual(list(waiting.early or ()), [])
        self.assertEqual(self.done(lambda: self.engine.receive(sock)), ([b"first bytes"], False))

    def test_discarded(self) -> None:
        """Of a kept one; what it had sent is due up to a latency later."""
        sock, _peer = self.pair()
        waiting = Waiting(keeps=False)
        self.wait(sock, waiting, reads=True)
        self.done(lambda: None)
        self.assertEqual(waiting.clean_at(0.0), waiting.since + 0.02)
        self.assertEqual(waiting.clean_at(waiting.since + 5), waiting.since + 5.02)


class Ends:
    """Who is told what happens to a carrier."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.lost = 0

    def dataReceived(self, data: bytes) -> None:
        """See carrier.Ends."""
        self.got.append(data)

    def connectionLost(self, reason: object) -> None:
        """See carrier.Ends."""
        self.lost += 1


class Producer:
    """Somebody who sends."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def pauseProducing(self) -> None:
        """See IPushProducer."""
        self.said.append("pause")

    def resumeProducing(self) -> None:
        """See IPushProducer."""
        self.said.append("resume")


class Carried(EngineCase):
    """A real connection in the reactor's hands."""

    def carrier(self, **options: Any) -> tuple[SrtCarrier, Ends, SrtPeer, Wires, int]:
        """One that is read."""
        sock, peer = self.pair(**options)
        wires, ends = Wires(self.engine), Ends()
        carrier = SrtCarrier(self.engine, wires, sock, ends, ROUTE, 1000)
        self.done(lambda: self.engine.wait(sock, Waiting(False), lambda: None, reads=False))
        self.done(lambda: wires.begin(sock, carrier, time.monotonic(), 0.0))
        return carrier, ends, peer, wires, sock

    def test_both_ways(self) -> None:
        """Messages become bytes, and bytes messages."""
        carrier, ends, peer, *_ = self.carrier()
        messages = numbered(0, 20)
        for message in messages:
            peer.send(message)
        self.until(lambda: len(ends.got) == 20)
        self.assertEqual(ends.got, messages)
        self.assertEqual(carrier.received, sum(map(len, messages)))
        carrier.write(b"a" * 2500)
        carrier.write(b"")
        self.assertEqual([len(peer.receive()) for _ in range(3)], [1000, 1000, 500])
        self.until(lambda: carrier.all_delivered)
        self.assertEqual((carrier.sent, carrier.delivered, carrier.unsent), (2500, 2500, 0))

    def test_paused(self) -> None:
        carrier, ends, peer, *_ = self.carrier()
        carrier.pauseProducing()
        self.assertTrue(carrier.paused)
        self.done(lambda: None)
        peer.send(b"waits")
        peer.drain()
        self.assertEqual(ends.got, [])
        carrier.resumeProducing()
        self.until(lambda: ends.got == [b"waits"])

    def test_pushed_back(self) -> None:
        """Who sends is paused while much waits for libsrt."""
        carrier, _ends, peer, *_ = self.carrier(transtype=1, sndbuf=60000, fc=64)
        producer = Producer()
        carrier.registerProducer(producer, True)
        carrier.write(bytes(HIGH_WATER * 4))
        self.assertEqual(producer.said, ["pause"])
        self.assertTrue(carrier.unsent > HIGH_WATER)
        left = HIGH_WATER * 4
        while left:
            left -= len(peer.receive())
        self.until(lambda: producer.said == ["pause", "resume"])
        self.assertTrue(carrier.unsent <= LOW_WATER)
        carrier.unregisterProducer()

    def test_peer_ends(self) -> None:
        """All that it had sent comes first."""
        carrier, ends, peer, *_ = self.carrier(rcvlatency=200)
        messages = numbered(0, 20)
        for message in messages:
            peer.send(message)
        peer.drain()
        peer.close()
        self.until(lambda: ends.lost)
        self.assertEqual((ends.got, ends.lost), (messages, 1))
        self.assertFalse(carrier.connected)
        self.assertTrue(carrier.read_ended and carrier.all_delivered)
        carrier.write(b"nobody's")
        carrier.loseConnection()
        carrier.abortConnection()

    def test_peer_ends_while_the_engine_is_away(self) -> None:
        """For longer than the latency: more is due than is read in a turn."""
        _carrier, ends, peer, wires, sock = self.carrier(rcvlatency=200)
        messages = numbered(0, 200)
        for message in messages:
            peer.send(message)
        peer.drain()
        peer.close()
        self.until(lambda: wires._wires[sock].broken_until is not None)
        self.done(lambda: time.sleep(0.25))
        self.until(lambda: ends.lost)
        self.assertEqual(ends.got, messages)

    def test_end_of_ours(self) -> None:
        """Behind what was written, and when the peer has had the time to play it."""
        carrier, ends, peer, *_ = self.carrier(peerlatency=150)
        carrier.write(b"the last")
        carrier.stopProducing()
        carrier.close_ended()
        carrier.write(b"too late")
        self.assertFalse(carrier.all_delivered)
        self.assertEqual(peer.receive_all(late=False), [b"the last"])
        self.until(lambda: ends.lost)

    def test_at_once(self) -> None:
        carrier, ends, peer, *_ = self.carrier()
        carrier.fail(Failure.RESET)
        self.until(lambda: ends.lost)
        self.assertIs(carrier.failure, Failure.RESET)
        self.assertRaises(Ended, peer.receive)

    def test_released(self) -> None:
        """It goes on, and the reactor hears no more of it; one that has ended does not."""
        _carrier, ends, peer, wires, sock = self.carrier()
        self.assertTrue(self.done(lambda: wires.release(sock)))
        self.assertFalse(self.done(lambda: wires.release(sock)))
        self.assertTrue(peer.connected)
        _carrier, ends, peer, wires, sock = self.carrier(rcvlatency=500)
        peer.close()
        self.until(lambda: wires._wires[sock].broken_until is not None)
        self.assertFalse(self.done(lambda: wires.release(sock)))
        self.assertEqual(ends.lost, 0)

    def test_gone_before_it_began(self) -> None:
        sock, _peer = self.pair()
        wires, ends = Wires(self.engine), Ends()
        carrier = SrtCarrier(self.engine, wires, sock, ends, ROUTE, 1000)
        self.done(lambda: self.engine.close(sock))
        self.engine.order(wires.begin, sock, carrier, time.monotonic(), 0.0)
        self.until(lambda: ends.lost)
        for order in (wires.finish, wires.close):
            self.done(lambda order=order: order(sock))  # type: ignore[misc]
        self.done(lambda: wires.send(sock, [b"x"]))
        self.done(lambda: wires.read(sock, True))
        self.assertEqual(ends.lost, 1)

    def test_unsettled(self) -> None:
        """A peer that has just come is sent to a moment later, and all of it."""
        sock, peer = self.pair()
        wires, ends = Wires(self.engine), Ends()
        carrier = SrtCarrier(self.engine, wires, sock, ends, ROUTE, 1000)
        self.done(lambda: self.engine.wait(sock, Waiting(False), lambda: None, reads=False))
        now = time.monotonic()
        self.done(lambda: wires.begin(sock, carrier, now, now + 3600))
        carrier.write(b"held")
        self.assertRaises(TimeoutError, peer.receive, 0.05)
        self.done(lambda: setattr(wires._wires[sock], "settled_at", time.monotonic()))
        self.assertEqual(peer.receive(), b"held")
        self.until(lambda: carrier.unsent == 0)

    def test_what_tcp_has(self) -> None:
        """And SRT has no use for."""
        carrier, *_ = self.carrier()
        carrier.limit_reads(5)
        carrier.start_watching()
        carrier.discard_unread()
        self.assertEqual((carrier.is_dead(0.0), carrier.has_unread()), (False, False))


class InPython(Carried):
    """The same with the pump in Python."""

    compiled = False
