"""Several FEs that watch one BE by SRT: each with its own latency, and its own losses."""

from __future__ import annotations

import random
import threading
from concurrent.futures import Future

from relayx.core.effects import Effect
from relayx.core.pairing import Outcome
from tests.guide_peer import DEADLINE, Control
from tests.live import Gateway, live
from tests.srt_live import BE, FE, KEEP, MISSING, OPEN, SrtCase, number_of, numbered

if not MISSING:
    from tests.srt_peer import SrtPeer


class FanOutCase(SrtCase):
    """What the tests here share."""

    def publisher(self, gateway: Gateway, watcher: Control, streamid: str = BE) -> SrtPeer:
        """A BE on the first srt port, which is ready."""
        be = self.call(gateway, streamid)
        self.ready(watcher, gateway.srt[0])
        return be

    def outcomes(self, gateway: Gateway) -> list[Outcome]:
        """How sessions end from now on."""
        found: list[Outcome] = []
        rules = gateway.service.switchboard
        told = rules.session_over

        def over(now: float, pairing_id: str, outcome: Outcome) -> list[Effect]:
            found.append(outcome)
            return told(now, pairing_id, outcome)

        self.patch(rules, "session_over", over)
        return found


class Watching(FanOutCase):
    """Many at once."""

    @live(real_srt={"fan_out": 6}, data=OPEN)
    def test_latencies(self, gateway: Gateway) -> None:
        """Each has what it asked for, and all have all."""
        watcher = gateway.fe11()
        be = self.publisher(gateway, watcher)
        latencies = (120, 200, 350, 500)
        fes = [self.call(gateway, FE, latency=latency) for latency in latencies]
        self.watched(gateway, watcher, len(fes))
        self.assertEqual([fe.get("rcvlatency") for fe in fes], list(latencies))
        messages = numbered(0, 200)
        for message in messages:
            be.send(message)
        for fe in fes:
            self.assertEqual([fe.receive() for _ in messages], messages)

    @live(real_srt={"fan_out": 4}, data=OPEN)
    def test_the_end_of_the_be(self, gateway: Gateway) -> None:
        """Every watcher gets all that was sent, then the end; the port is empty."""
        watcher = gateway.fe11()
        be = self.publisher(gateway, watcher)
        fes = [self.call(gateway, FE, latency=latency) for latency in (20, 200, 400)]
        self.watched(gateway, watcher, len(fes))
        be.send(b"first")
        self.assertEqual([fe.receive() for fe in fes], [b"first"] * 3)
        messages = numbered(0, 100)
        for message in messages:
            be.send(message)
        be.drain()
        be.close()
        got = [gateway.background(fe.receive_all, DEADLINE, False) for fe in fes]
        self.assertEqual([one.result() for one in got], [messages] * 3)
        self.empty(watcher, gateway.srt[0])

    @live(real_srt={"fan_out": 3, "sndbuf": 150000, "fc": 128}, data=OPEN)
    def test_slow_one(self, gateway: Gateway) -> None:
        """It loses what it has no room for, which is counted; the other loses nothing."""
        watcher = gateway.fe11()
        be = self.publisher(gateway, watcher)
        outcomes = self.outcomes(gateway)
        fast = self.call(gateway, FE)
        slow = self.call(gateway, FE, latency=8000, rcvbuf=32 * 1456, fc=32)
        self.watched(gateway, watcher, 2)
        count = 800
        for first in range(0, count, 20):
            part = [n.to_bytes(4, "big") + bytes(1000) for n in range(first, first + 20)]
            for message in part:
                be.send(message)
            self.assertEqual([fast.receive() for _ in part], part)
        slow.close()
        watcher.state(lambda state: state["srt_busy"] == 1)
        be.send(b"goes on")
        self.assertEqual(fast.receive(), b"goes on")
        be.close()
        self.empty(watcher, gateway.srt[0])
        lost, whole = outcomes
        self.assertTrue(lost.messages_dropped > 0, lost)
        self.assertTrue(lost.be_to_fe_bytes < count * 1004, lost)
        self.assertEqual((whole.messages_dropped, whole.be_to_fe_bytes), (0, count * 1004 + 7))

    @live(real_srt={"fan_out": 2}, data=OPEN)
    def test_one_way(self, gateway: Gateway) -> None:
        """What a watcher sends is nobody's."""
        watcher = gateway.fe11()
        be = self.publisher(gateway, watcher)
        fes = [self.call(gateway, FE) for _ in range(2)]
        self.watched(gateway, watcher, len(fes))
        be.send(b"to all")
        for fe in fes:
            self.assertEqual(fe.receive(), b"to all")
            fe.send(b"to nobody")
            fe.drain()
        self.assertRaises(TimeoutError, be.receive, 0.1)

    @live(real_srt={"fan_out": 3}, data=KEEP)
    def test_all_leave(self, gateway: Gateway) -> None:
        """The BE waits for the next, who gets nothing of what was sent before."""
        watcher, port = gateway.fe11(), gateway.srt[0]
        be = self.publisher(gateway, watcher)
        for turn in range(2):
            fes = [self.call(gateway, FE) for _ in range(3)]
            self.watched(gateway, watcher, len(fes))
            be.send(b"turn %d" % turn)
            self.assertEqual([fe.receive() for fe in fes], [b"turn %d" % turn] * 3)
            for fe in fes:
                fe.close()
            self.ready(watcher, port)
            be.send(b"to nobody")
            self.assertRaises(TimeoutError, be.receive, 0.05)

    @live(real_srt={"fan_out": 2}, data=OPEN)
    def test_not_of_one_that_does_not_publish(self, gateway: Gateway) -> None:
        watcher = gateway.fe11()
        self.publisher(gateway, watcher, "#!::x-role=BE")
        self.call(gateway, FE)
        watcher.state(lambda state: state["srt_busy"] == 1)
        self.assertEqual(self.rejected(gateway, FE), 1409)

    @live(real_srt={"fan_out": 40}, data=OPEN)
    def test_coming_and_going(self, gateway: Gateway) -> None:
        """Whoever watches sees a run without a gap from its first message on."""
        watcher = gateway.fe11()
        be = self.publisher(gateway, watcher)
        stay = self.call(gateway, FE)
        self.watched(gateway, watcher, 1)
        over, sent = threading.Event(), [0]

        def publish() -> None:
            while not over.wait(0.002):
                be.send(sent[0].to_bytes(4, "big") + bytes(400))
                sent[0] += 1

        def watch(seed: int) -> int:
            dice, seen = random.Random(seed), 0
            for _ in range(6):
                fe = self.call(gateway, FE, latency=dice.choice((20, 60, 120)))
                got = [number_of(fe.receive()) for _ in range(dice.randint(1, 60))]
                fe.close()
                self.assertEqual(got, list(range(got[0], got[0] + len(got))))
                seen += 1
            return seen

        publishing = gateway.background(publish)
        watching: list[Future[int]] = [gateway.background(watch, seed) for seed in range(5)]
        try:
            self.assertEqual([one.result() for one in watching], [6] * 5)
        finally:
            over.set()
            publishing.result()
        got = [number_of(stay.receive()) for _ in range(sent[0])]
        self.assertEqual(got, list(range(got[0], got[0] + sent[0])))
        self.assertRaises(TimeoutError, stay.receive, 0.3)


class Bridged(FanOutCase):
    """A BE whose sessions are with TCP FEs and SRT ones in turn."""

    @live(real_srt={"bridge": True}, data=KEEP)
    def test_in_turn(self, gateway: Gateway) -> None:
        """It is kept over all of them, and none gets what is another's."""
        watcher, port = gateway.fe11(), gateway.srt[0]
        be = self.publisher(gateway, watcher)
        for turn in range(4):
            self.ready(watcher, port)
            said = b"turn %d" % turn
            if turn % 2:
                fe = self.call(gateway, FE)
                self.watched(gateway, watcher, 1)
                be.send(said)
                self.assertEqual(fe.receive(), said)
                fe.send(said)
                self.assertEqual(be.receive(), said)
                fe.close()
            else:
                link = gateway.entering(port, "eye")
                link.expect("RLX1PAIRED")
                self.obeyed(gateway)
                be.send(said)
                self.assertEqual(link.receive(len(said)), said)
                link.send(said)
                self.assertEqual(be.receive(), said)
                link.close()
            watcher.state(lambda state: state["srt_busy"] == 0)
            be.send(b"to nobody")
            self.assertRaises(TimeoutError, be.receive, 0.05)
