"""How a lease ends, and who is told (contract sections 3 and 5)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from relayx.core import effects as fx
from relayx.core.errors import Code
from relayx.core.messages import Error, PortRelease, Role
from tests.common import SRT, ZMQ, Room, notes, of, pairing, pairs, refusals, sent, told


class Releasing(TestCase):
    """port_release by a client (sections 3 and 5)."""

    def setUp(self) -> None:
        self.room = Room()
        self.fe, self.be = self.room.fe("f"), self.room.be("b")
        self.room.offer(ZMQ[0])
        self.room.offer(SRT[0])
        self.lease = self.room.acquire(self.fe, need_zmq=True, need_srt=True).session_id

    def test_ends_the_whole_lease(self) -> None:
        self.room.release(self.fe, self.lease)
        self.assertEqual(len(self.room.board.leases), 0)
        state = self.room.state()
        self.assertEqual((state.zmq_ready_ports, state.srt_ready_ports), ((ZMQ[0],), (SRT[0],)))

    def test_even_where_one_port_is_named(self) -> None:
        self.room.ask(self.fe, PortRelease(session_id=self.lease, zmq_port=ZMQ[0]))
        self.assertEqual(len(self.room.board.leases), 0)

    def test_the_other_role_is_told(self) -> None:
        self.room.release(self.fe, self.lease, trace_id="t")
        self.assertEqual(
            told(self.room.effects, Role.BE),
            [PortRelease(session_id=self.lease, zmq_port=ZMQ[0], srt_port=SRT[0])],
        )
        self.assertEqual(of(self.room.effects, fx.Broadcast)[0].trace_id, "t")
        self.assertEqual(of(self.room.effects, fx.StateChanged), [fx.StateChanged("t")])

    def test_the_owner_is_not_told_of_its_own(self) -> None:
        self.room.release(self.fe, self.lease)
        self.assertEqual(sent(self.room.effects, self.fe), [])
        self.assertEqual(told(self.room.effects, Role.FE), [])

    def test_a_bes_is_told_to_fes(self) -> None:
        lease = self.room.acquire(self.be).session_id
        self.room.release(self.be, lease)
        self.assertEqual(
            told(self.room.effects, Role.FE), [PortRelease(session_id=lease, zmq_port=ZMQ[1])]
        )

    def refused(self, conn: int, session_id: str) -> None:
        self.room.release(conn, session_id, msg_id="m", trace_id="t")
        (send,) = of(self.room.effects, fx.Send)
        (note,) = notes(self.room.effects, "message_refused")
        self.assertEqual(len(self.room.effects), 2)
        self.assertEqual(note.fields["trace_id"], "t")
        self.assertEqual((send.conn, send.trace_id), (conn, "t"))
        self.assertIsInstance(send.message, Error)
        self.assertEqual(
            (send.message.error_code, send.message.in_reply_to), (Code.INVALID_REQUEST, "m")
        )

    def test_unknown(self) -> None:
        self.refused(self.fe, "sess-99")

    def test_another_clients(self) -> None:
        self.refused(self.room.fe("g"), self.lease)
        self.refused(self.be, self.lease)
        self.assertEqual(self.room.leases(self.fe), {self.lease})

    def test_twice(self) -> None:
        self.room.release(self.fe, self.lease)
        self.refused(self.fe, self.lease)

    def test_a_running_session_goes_on(self) -> None:
        self.room.dial(ZMQ[0], session_id=self.lease)
        self.room.release(self.fe, self.lease)
        self.assertEqual(of(self.room.effects, fx.EndSession), [])
        self.assertEqual(self.room.state().zmq_busy, 1)

    def test_the_port_is_free_after_the_session(self) -> None:
        self.room.dial(ZMQ[0], session_id=self.lease)
        session = pairing(self.room.effects)
        self.room.release(self.fe, self.lease)
        self.room.over(session, kept=True)
        self.assertEqual(self.room.state().zmq_ready_ports, (ZMQ[0],))

    def test_release_during_a_session_changes_no_list(self) -> None:
        """Section 4: port_state is pushed on change."""
        room = Room()
        conn = room.fe("f")
        room.offer(ZMQ[0])
        lease = room.acquire(conn).session_id
        room.dial(ZMQ[0], session_id=lease)
        before = room.state()
        room.release(conn, lease)
        self.assertEqual(room.state(), before)
        self.assertEqual(of(room.effects, fx.StateChanged), [])

    def test_a_waiting_fe_is_refused(self) -> None:
        """Section 5: when its lease ends it gets TTL_EXPIRED, at once."""
        lease = self.room.acquire(self.be).session_id
        waiting = self.room.dial(ZMQ[1], session_id=lease)
        self.room.release(self.be, lease)
        self.assertEqual(refusals(self.room.effects), [(waiting, Code.TTL_EXPIRED)])

    def test_its_timer_is_cancelled(self) -> None:
        self.room.release(self.fe, self.lease)
        self.assertIsNone(self.room.switchboard.next_due())


class Expiring(TestCase):
    """expires_at has passed (section 5)."""

    def setUp(self) -> None:
        self.room = Room()
        self.fe, self.be = self.room.fe("f"), self.room.be("b")
        self.links = [self.room.offer(ZMQ[0]), self.room.offer(SRT[0])]
        self.lease = self.room.acquire(
            self.fe, need_zmq=True, need_srt=True, ttl_seconds=10
        ).session_id

    def test_not_before(self) -> None:
        self.room.later(9.999)
        self.assertEqual(self.room.effects, [])
        self.assertEqual(self.room.leases(self.fe), {self.lease})

    def test_at_its_time(self) -> None:
        self.room.later(10)
        self.assertEqual(len(self.room.board.leases), 0)
        self.assertEqual(self.room.state().zmq_ready_ports, (ZMQ[0],))
        self.assertEqual(len(of(self.room.effects, fx.StateChanged)), 1)

    def test_the_other_role_and_the_owner_are_told(self) -> None:
        self.room.later(10)
        message = PortRelease(
            session_id=self.lease, zmq_port=ZMQ[0], srt_port=SRT[0], error_code="TTL_EXPIRED"
        )
        self.assertEqual(told(self.room.effects, Role.BE), [message])
        self.assertEqual(sent(self.room.effects, self.fe), [message])
        self.assertEqual(told(self.room.effects, Role.FE), [])

    def test_a_bes(self) -> None:
        lease = self.room.acquire(self.be, ttl_seconds=5).session_id
        self.room.later(5)
        message = PortRelease(session_id=lease, zmq_port=ZMQ[1], error_code="TTL_EXPIRED")
        self.assertEqual(told(self.room.effects, Role.FE), [message])
        self.assertEqual(sent(self.room.effects, self.be), [message])

    def test_not_on_a_port_where_a_session_runs(self) -> None:
        self.room.dial(SRT[0], session_id=self.lease)
        session = pairing(self.room.effects)
        self.room.later(10)
        self.assertEqual(
            told(self.room.effects, Role.BE),
            [PortRelease(session_id=self.lease, zmq_port=ZMQ[0], error_code="TTL_EXPIRED")],
        )
        self.assertEqual(of(self.room.effects, fx.EndSession), [])
        self.assertEqual(self.room.leases(self.fe), {self.lease})
        self.room.now += 100
        self.room.over(session, kept=True)
        self.assertEqual(
            told(self.room.effects, Role.BE),
            [PortRelease(session_id=self.lease, srt_port=SRT[0], error_code="TTL_EXPIRED")],
        )
        self.assertEqual(self.room.leases(self.fe), set())
        self.assertEqual(self.room.state().srt_ready_ports, (SRT[0],))

    def test_session_over_in_time_leaves_the_lease(self) -> None:
        """Inside expires_at the owner may connect again under the same lease."""
        self.room.dial(ZMQ[0], session_id=self.lease)
        self.room.now += 9
        self.room.over(pairing(self.room.effects), kept=True)
        self.assertEqual(self.room.leases(self.fe), {self.lease})
        self.assertEqual(self.room.state().zmq_ready_ports, ())
        again = self.room.dial(ZMQ[0], session_id=self.lease)
        self.assertEqual(pairs(self.room.effects), [(again, self.links[0])])

    def test_expiry_with_sessions_on_both_ports_changes_nothing(self) -> None:
        self.room.dial(ZMQ[0], session_id=self.lease)
        self.room.dial(SRT[0], session_id=self.lease)
        self.assertEqual(self.room.later(10), [])

    def test_a_waiting_fe_is_refused(self) -> None:
        self.room.hang_up(self.links[0])
        self.room.later(9)
        waiting = self.room.dial(ZMQ[0], session_id=self.lease)
        self.assertEqual(of(self.room.effects, fx.Wait), [fx.Wait(waiting)])
        self.room.later(1)
        self.assertEqual(refusals(self.room.effects), [(waiting, Code.TTL_EXPIRED)])

    def test_a_released_lease_does_not_expire_later(self) -> None:
        self.room.release(self.fe, self.lease)
        again = self.room.acquire(self.fe, ttl_seconds=100).session_id
        self.assertEqual(self.room.later(11), [])
        self.assertEqual(self.room.leases(self.fe), {again})


class OwnerGone(TestCase):
    """An FE's control connection has ended (section 5)."""

    def setUp(self) -> None:
        self.room = Room()
        self.fe, self.be = self.room.fe("f"), self.room.be("b")
        self.room.offer(ZMQ[0])
        self.lease = self.room.acquire(self.fe).session_id

    def test_its_leases_end_at_once(self) -> None:
        self.room.lose(self.fe)
        self.assertEqual(len(self.room.board.leases), 0)
        self.assertEqual(
            told(self.room.effects, Role.BE), [PortRelease(session_id=self.lease, zmq_port=ZMQ[0])]
        )
        self.assertEqual(sent(self.room.effects, self.fe), [])

    def test_a_running_session_goes_on(self) -> None:
        self.room.dial(ZMQ[0], session_id=self.lease)
        self.room.lose(self.fe)
        self.assertEqual(of(self.room.effects, fx.EndSession), [])
        self.assertEqual(self.room.state().zmq_busy, 1)

    def test_anothers_stay(self) -> None:
        other = self.room.fe("g")
        self.room.offer(ZMQ[1])
        lease = self.room.acquire(other).session_id
        self.room.lose(self.fe)
        self.assertEqual(self.room.leases(other), {lease})

    def test_a_bes_stay_until_it_is_reaped(self) -> None:
        lease = self.room.acquire(self.be, ttl_seconds=60).session_id
        self.room.lose(self.be)
        self.assertIsNotNone(self.room.board.leases.get(lease))
        self.room.later(10)
        self.assertIsNone(self.room.board.leases.get(lease))

    def test_lost_without_a_registration(self) -> None:
        self.assertEqual(self.room.lose(99), [])
