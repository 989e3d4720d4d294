"""Data ports that come and go (contract section 4), beside the random events of the machine."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from relayx.core import effects as fx
from relayx.core.errors import Code, StateError
from relayx.core.messages import PortAlloc, PortRelease, Role, SessionEnd
from tests.common import (
    RANGES,
    SRT,
    ZMQ,
    Room,
    closed,
    notes,
    of,
    pairing,
    refusals,
    sent,
    told,
)

FEWER = PortAlloc(
    zmq_start_port=ZMQ[1], zmq_end_port=ZMQ[-1], srt_start_port=SRT[0], srt_end_port=SRT[-1]
)
MORE = PortAlloc(
    zmq_start_port=ZMQ[0], zmq_end_port=ZMQ[-1] + 2, srt_start_port=SRT[0], srt_end_port=SRT[-1]
)
SWAPPED = PortAlloc(srt_start_port=ZMQ[0], srt_end_port=ZMQ[-1])
GONE = ZMQ[0]


class RangesCase(SynchronousTestCase):
    """A room with an FE and a BE."""

    def setUp(self) -> None:
        self.room = Room(max_fe=2)
        self.fe, self.be = self.room.fe11("fe"), self.room.be11("be")


class Added(RangesCase):
    """Ports that are added."""

    def test_are_empty(self) -> None:
        effects = self.room.change_rules(ports=MORE)
        state = self.room.state()
        self.assertEqual(state.zmq_total, 5)
        self.assertEqual(state.zmq_empty_ports, (*ZMQ, ZMQ[-1] + 1, ZMQ[-1] + 2))
        self.assertEqual(told(effects, Role.FE), [MORE])
        self.assertEqual(len(of(effects, fx.StateChanged)), 1)

    def test_can_be_used(self) -> None:
        self.room.change_rules(ports=MORE)
        self.room.offer(ZMQ[-1] + 2)
        self.room.dial(ZMQ[-1] + 2)
        self.assertTrue(pairing(self.room.effects))

    def test_who_registers_later_is_told(self) -> None:
        self.room.change_rules(ports=MORE)
        fe = self.room.fe("later")
        self.assertIn(MORE, sent(self.room.effects, fe))

    def test_below_in_order(self) -> None:
        """A BE's lease takes ports in port order, whenever they came."""
        self.room.change_rules(ports=FEWER)
        self.room.change_rules(ports=RANGES)
        self.assertEqual(self.room.acquire(self.be).zmq_port, GONE)


class Removed(RangesCase):
    """Ports that are removed."""

    def test_empty(self) -> None:
        effects = self.room.change_rules(ports=FEWER)
        self.assertEqual(self.room.state().zmq_empty_ports, ZMQ[1:])
        self.assertEqual(self.room.state().zmq_total, 2)
        self.assertEqual(told(effects, Role.FE), [FEWER])

    def test_waiting_be_is_closed(self) -> None:
        link = self.room.offer(GONE)
        effects = self.room.change_rules(ports=FEWER)
        self.assertEqual(closed(effects), [link])
        self.assertEqual(self.room.state().zmq_ready_ports, ())

    def test_lease_ends(self) -> None:
        """Its owner and the other role are told with the code; the other port stays leased."""
        self.room.offer(GONE)
        self.room.offer(SRT[0])
        grant = self.room.acquire(self.fe, need_zmq=True, need_srt=True)
        effects = self.room.change_rules(ports=FEWER)
        message = PortRelease(session_id=grant.session_id, zmq_port=GONE, error_code="DRAINING")
        self.assertEqual(sent(effects, self.fe), [message])
        self.assertEqual(told(effects, Role.BE), [message])
        self.assertEqual(self.room.leases(self.fe), {grant.session_id})
        self.room.release(self.fe, grant.session_id)
        self.assertEqual(self.room.leases(self.fe), set())

    def test_waiting_fe_is_told(self) -> None:
        """Its lease has ended: it may ask for another."""
        be = self.room.offer(GONE)
        grant = self.room.acquire(self.fe)
        self.room.hang_up(be)
        link = self.room.dial(GONE, session_id=grant.session_id)
        effects = self.room.change_rules(ports=FEWER)
        self.assertEqual(refusals(effects), [(link, Code.TTL_EXPIRED)])
        self.assertIsNone(self.room.switchboard.next_due())

    def test_late_comers(self) -> None:
        """Who says HELLO on a port that is gone: with a lease's name, and without."""
        self.room.change_rules(ports=FEWER)
        for said, code in (
            ({}, Code.DRAINING),
            ({"session_id": "sess-1"}, Code.TTL_EXPIRED),
            ({"ticket": "TICKET-1"}, Code.TTL_EXPIRED),
        ):
            link = self.room.dial(GONE, **said)
            self.assertEqual(refusals(self.room.effects), [(link, code)])
        link = self.room.offer(GONE)
        self.assertEqual(refusals(self.room.effects), [(link, Code.DRAINING)])
        self.assertEqual(len(notes(self.room.effects, "refused")), 1)


class UnderASession(RangesCase):
    """A port whose session runs when it is removed."""

    def setUp(self) -> None:
        super().setUp()
        self.offered = self.room.offer(GONE, "be")
        self.grant = self.room.acquire(self.fe, ttl_seconds=600)
        self.room.dial(GONE, session_id=self.grant.session_id)
        self.pairing_id = pairing(self.room.effects)

    def test_goes_on_to_its_end(self) -> None:
        effects = self.room.change_rules(ports=FEWER)
        self.assertEqual(of(effects, fx.EndSession), [])
        state = self.room.state()
        self.assertEqual((state.zmq_total, state.zmq_busy), (3, 1))
        self.assertEqual(self.room.leases(self.fe), set())
        effects = self.room.over(self.pairing_id)
        state = self.room.state()
        self.assertEqual((state.zmq_total, state.zmq_busy), (2, 0))
        self.assertEqual(len(of(effects, fx.StateChanged)), 1)
        for conn in (self.fe, self.be):
            (end,) = [m for m in sent(effects, conn) if isinstance(m, SessionEnd)]
            self.assertEqual(end.port, GONE)

    def test_kept_be_is_closed_in_the_end(self) -> None:
        self.room.change_rules(ports=FEWER)
        self.assertEqual(closed(self.room.over(self.pairing_id, kept=True)), [self.offered])
        self.assertNotIn(GONE, self.room.state().zmq_ready_ports)

    def test_nobody_new(self) -> None:
        self.room.change_rules(ports=FEWER)
        link = self.room.dial(GONE)
        self.assertEqual(refusals(self.room.effects), [(link, Code.DRAINING)])

    def test_back_again(self) -> None:
        """It is as it was where it is added again before its session has ended."""
        self.room.change_rules(ports=FEWER)
        self.room.change_rules(ports=RANGES)
        self.room.over(self.pairing_id, kept=True)
        self.assertIn(GONE, self.room.state().zmq_ready_ports)

    def test_twice(self) -> None:
        self.room.change_rules(ports=FEWER)
        effects = self.room.change_rules(ports=PortAlloc(zmq_start_port=3002, zmq_end_port=3003))
        self.assertEqual([m for m in told(effects, Role.BE) if isinstance(m, PortRelease)], [])
        self.assertEqual(self.room.state().zmq_busy, 1)

    def test_other_protocol_is_refused(self) -> None:
        touched = self.room.switchboard.touched_by(SWAPPED)
        self.assertEqual(touched.blocked, (GONE,))
        self.assertRaises(StateError, self.room.change_rules, ports=SWAPPED)
        self.assertEqual(self.room.state().zmq_busy, 1)
        self.room.rules = self.room.board.rules
        self.room.over(self.pairing_id)
        self.room.change_rules(ports=SWAPPED)
        self.assertEqual(self.room.state().srt_empty_ports, ZMQ)

    def test_reaped(self) -> None:
        """The BE is lost while its port is retired: its session ends as ever."""
        self.room.change_rules(ports=FEWER)
        self.room.lose(self.be)
        effects = self.room.later(10)
        self.assertEqual([e.pairing_id for e in of(effects, fx.EndSession)], [self.pairing_id])

    def test_touched(self) -> None:
        """What is told before is what happens."""
        self.room.offer(ZMQ[1], "other")
        touched = self.room.switchboard.touched_by(
            PortAlloc(zmq_start_port=ZMQ[2], zmq_end_port=ZMQ[2] + 1)
        )
        self.assertEqual(touched.added, (ZMQ[2] + 1,))
        self.assertEqual(touched.removed, (*ZMQ[:2], *SRT))
        self.assertEqual(touched.kept, ZMQ[2:])
        self.assertEqual(touched.sessions, (self.pairing_id,))
        self.assertEqual(touched.leases, (self.grant.session_id,))
        self.assertEqual((touched.clients, touched.waiting), (("be", "fe"), 1))
        self.assertEqual(self.room.state().zmq_total, 3)


class OtherRules(RangesCase):
    """Rules beside the ports."""

    def test_lowered_limit_drops_nobody(self) -> None:
        again = self.room.fe11("fe2", instance="i")
        self.assertEqual(self.room.change_rules(max_fe=1), [])
        self.room.fe("third")
        self.assertEqual(len(notes(self.room.effects, "register_failed")), 1)
        self.room.fe11("fe2", instance="i")
        self.assertEqual(len(notes(self.room.effects, "registered")), 1)
        self.assertIsNone(self.room.switchboard.client(again))
        self.assertEqual(len(self.room.switchboard.clients(Role.FE)), 2)

    def test_reaper_timeout(self) -> None:
        """It is that of BEs that are lost later; who is lost has what it was promised."""
        other = self.room.be11("other")
        self.room.lose(self.be)
        self.room.change_rules(reaper_timeout=1.0)
        self.room.lose(other)
        self.assertEqual(
            [n.fields["client_id"] for n in notes(self.room.later(1), "reaped")], ["other"]
        )
        self.assertEqual(notes(self.room.later(8.9), "reaped"), [])
        self.assertEqual(len(notes(self.room.later(0.1), "reaped")), 1)

    def test_unchanged_ports_are_not_told(self) -> None:
        self.assertEqual(self.room.change_rules(max_be=9, advertise_host="h"), [])
