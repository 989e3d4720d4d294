"""Who kept whom waiting, and for how long: every pump counts the same (data.stall)."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relayx.core.messages import Cause, Protocol
from relayx.core.pairing import Outcome, Stalls
from relayx.data.ledger import Ledger
from relayx.data.stall import Stopwatch
from relayx.data.throttle import Allowances, ThrottledPump
from relayx.net.tcp import Failure
from tests.data_certificates import data_tls
from tests.data_tls_peer import TlsData
from tests.guide_peer import Data
from tests.live import Data11, Gateway, live
from tests.test_data_bed import Base
from tests.test_loopback_data_regressions import OPEN, ask, until


class Watch(SynchronousTestCase):
    """The stopwatch alone."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.watch = Stopwatch(self.clock)

    def test_adds_up(self) -> None:
        for seconds in (1, 2):
            self.watch.begin()
            self.clock.advance(seconds)
            self.watch.end()
            self.clock.advance(10)
        self.assertEqual(self.watch.seconds, 3)

    def test_begun_twice(self) -> None:
        self.watch.begin()
        self.clock.advance(1)
        self.watch.begin()
        self.clock.advance(1)
        self.assertEqual(self.watch.seconds, 2)
        self.watch.end()
        self.watch.end()
        self.assertEqual(self.watch.seconds, 2)

    def test_a_clock_that_is_set_back(self) -> None:
        self.clock.advance(100)
        self.watch.begin()
        self.clock.rightNow -= 50
        self.assertEqual(self.watch.seconds, 0)
        self.watch.end()
        self.assertEqual(self.watch.seconds, 0)


class Buffered(Base):
    """The buffered pump in a session."""

    def stalls(self, seconds: float) -> None:
        """The BE takes nothing for so long."""
        self.be.producer.pauseProducing()
        self.clock.advance(seconds)
        self.be.producer.resumeProducing()

    def test_nothing(self) -> None:
        self.sends(self.fe, b"x")
        self.clock.advance(10)
        self.assertEqual(self.session.stalls, Stalls())

    def test_blames_who_does_not_read(self) -> None:
        self.stalls(1.5)
        self.clock.advance(10)
        self.assertEqual(self.session.stalls, Stalls(be=1.5))
        self.fe.producer.pauseProducing()
        self.clock.advance(2)
        self.assertEqual(self.session.stalls, Stalls(fe=2, be=1.5))

    def test_in_the_outcome(self) -> None:
        self.stalls(1.5)
        self.be.producer.pauseProducing()
        self.clock.advance(1)
        self.session.finish(Cause.ADMIN, "enough")
        self.assertEqual(self.outcomes[0].stalls, Stalls(be=2.5))
        self.clock.advance(10)
        self.assertEqual(self.session.stalls, Stalls(be=2.5))

    def test_a_side_that_fails_keeps_nobody_waiting(self) -> None:
        self.be.producer.pauseProducing()
        self.clock.advance(1)
        self.fails(self.be, Failure.RESET)
        self.clock.advance(10)
        self.assertEqual(self.session.stalls, Stalls(be=1))

    def test_a_stream_that_has_ended_does_not_wait(self) -> None:
        self.be.producer.pauseProducing()
        self.clock.advance(1)
        self.ends(self.fe)
        self.clock.advance(10)
        self.assertEqual(self.session.stalls, Stalls(be=1))


class Throttled(Base):
    """A limit is another reason than a slow side."""

    def make_pump(self) -> ThrottledPump:
        return ThrottledPump(self.fe, self.be, Allowances(self.clock), [("FE f", 8000)], self.clock)

    def test_a_limit(self) -> None:
        self.sends(self.fe, b"x" * 1050)  # 50 bytes are the burst; the rest takes a second
        self.passes(3)
        self.assertApproximates(self.session.stalls.fe_throttled, 1.0, 0.02)
        self.assertEqual(self.session.stalls.be, 0)

    def test_both_reasons(self) -> None:
        self.sends(self.fe, b"x" * 1050)
        self.be.producer.pauseProducing()
        self.passes(3)
        self.be.producer.resumeProducing()
        self.passes(1)
        self.assertApproximates(self.session.stalls.fe_throttled, 1.0, 0.02)
        self.assertApproximates(self.session.stalls.be, 3.0, 0.02)

    def test_given_up(self) -> None:
        self.sends(self.fe, b"x" * 1050)
        self.passes(0.5)
        self.session.finish(Cause.ADMIN, "enough")
        self.assertApproximates(self.outcomes[0].stalls.fe_throttled, 0.5, 0.02)


class Adding(SynchronousTestCase):
    """Sessions that are over, and those that run."""

    def test_by_protocol(self) -> None:
        ledger = Ledger()
        outcome = Outcome(Cause.DRAIN, "", 10, 20, 1.0, stalls=Stalls(fe=1, be_throttled=2))
        ledger.over(Protocol.ZMQ, outcome)
        ledger.over(Protocol.ZMQ, outcome)
        for _ in range(2):  # what runs is added to what is told, not to what is kept
            moved = ledger.with_running([(Protocol.SRT, 1, 2, Stalls(be=3))])
        zmq, srt = moved[Protocol.ZMQ], moved[Protocol.SRT]
        self.assertEqual((zmq.fe_to_be_bytes, zmq.be_to_fe_bytes), (20, 40))
        self.assertEqual(zmq.stalls, Stalls(fe=2, be_throttled=4))
        self.assertEqual((srt.fe_to_be_bytes, srt.be_to_fe_bytes), (1, 2))
        self.assertEqual(srt.stalls, Stalls(be=3))
        self.assertEqual(ledger.bytes, 60)

    def test_for_people(self) -> None:
        self.assertEqual(str(Stalls()), "")
        self.assertEqual(str(Stalls(fe=0.0004)), "")
        self.assertEqual(
            str(Stalls(be=1.5, fe_throttled=2)),
            "the FE waited 1.500 s for the BE to read, the FE waited 2.000 s for its limit",
        )


class OnSockets(TestCase):
    """The same on every byte path, with a peer that does not read for a while."""

    def setUp(self) -> None:
        self.lines: list[dict[str, Any]] = []

        def observe(event: dict[str, Any]) -> None:
            if event.get("event") == "session_end":
                self.lines.append(event)

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def stand_still(self, gateway: Gateway, be_kind: type[Data11] = Data11) -> None:
        port, sessions = gateway.zmq[0], gateway.service.data.data.sessions
        be = gateway.open(be_kind, port, receive_buffer=8192)
        be.hello("BE")
        be.expect("RLX1OK")
        fe = gateway.entering(port)
        fe.expect("RLX1PAIRED")
        be.expect("RLX1PAIRED")
        sending = gateway.background(self.send_all, fe)
        began = time.time()
        until(lambda: [one for one in sessions.running() if one.session.stalls.be >= 0.2])
        held = ask(gateway.service.data.held)
        self.assertGreater(held.unsent + held.pipes, 0)
        received, how = be.rest()
        self.assertEqual((len(received), how), (sending.result(), "end"))
        be.shutdown()
        self.assertEqual(fe.rest(), (b"", "end"))
        until(lambda: not sessions.running())
        took = time.time() - began
        moved = ask(sessions.moved)[Protocol.ZMQ]
        self.assertEqual(moved.fe_to_be_bytes, sending.result())
        self.assertTrue(0.2 <= moved.stalls.be <= took, (moved.stalls, took))
        self.assertEqual(moved.stalls, Stalls(be=moved.stalls.be))
        (line,) = self.lines
        self.assertEqual(line["be_stall_seconds"], moved.stalls.be)
        self.assertEqual(line["fe_stall_seconds"], 0)
        self.assertIn("for the BE to read", line["text"])

    def send_all(self, link: Data) -> int:
        size = 16 << 20
        link.send(bytes(size))
        link.shutdown()
        return size

    @live(zmq=1, srt=0, data=OPEN)
    def test_spliced(self, gateway: Gateway) -> None:
        self.stand_still(gateway)

    @live(zmq=1, srt=0, data={**OPEN, "splice": "off"})
    def test_buffered(self, gateway: Gateway) -> None:
        self.stand_still(gateway)

    @live(zmq=1, srt=0, data={**OPEN, "tls": data_tls()})
    def test_tls(self, gateway: Gateway) -> None:
        self.stand_still(gateway, TlsData)
