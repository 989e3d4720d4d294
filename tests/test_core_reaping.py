"""Losing a BE, and whose a connection is (contract sections 6 and 8)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from relayx.core import effects as fx
from relayx.core.messages import Cause, PortRelease, Role
from tests.common import (
    BE_AT,
    ELSEWHERE,
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


class Reaping(TestCase):
    """What is reaped, and when (section 8)."""

    def setUp(self) -> None:
        self.room = Room(reaper_timeout=10.0)
        self.be = self.room.be11("b")

    def test_everything_lives_on_for_the_timeout(self) -> None:
        self.room.offer(ZMQ[0], "b")
        self.room.offer(ZMQ[1], "b")
        self.room.dial(ZMQ[1])
        lease = self.room.acquire(self.be, need_srt=True, ttl_seconds=60).session_id
        self.room.lose(self.be)
        self.assertEqual([type(e) for e in self.room.effects], [fx.Note])
        self.assertEqual(self.room.later(9.999), [])
        state = self.room.state()
        self.assertEqual((state.zmq_ready_ports, state.zmq_busy), ((ZMQ[0],), 1))
        self.assertIsNotNone(self.room.board.leases.get(lease))

    def test_waiting_connections_are_closed(self) -> None:
        links = [self.room.offer(ZMQ[0], "b"), self.room.offer(SRT[1])]
        self.room.lose(self.be)
        self.room.later(10)
        self.assertEqual(sorted(closed(self.room.effects)), links)
        self.assertEqual(refusals(self.room.effects), [])
        state = self.room.state()
        self.assertEqual((state.zmq_empty_ports, state.srt_empty_ports), (ZMQ, SRT))
        self.assertEqual(len(of(self.room.effects, fx.StateChanged)), 1)

    def test_sessions_are_ended_at_once(self) -> None:
        self.room.offer(ZMQ[0], "b")
        self.room.dial(ZMQ[0])
        session = pairing(self.room.effects)
        self.room.lose(self.be)
        self.room.later(10)
        ended = of(self.room.effects, fx.EndSession)
        self.assertEqual(ended, [fx.EndSession(session, Cause.BE_LOST)])
        self.room.over(session, cause=Cause.BE_LOST)
        self.assertEqual(self.room.state().zmq_empty_ports, ZMQ)

    def test_reaped_at_once(self) -> None:
        """reaper_timeout: 0s."""
        room = Room(reaper_timeout=0.0)
        be = room.be("b")
        link = room.offer(ZMQ[0], "b")
        room.lose(be)
        self.assertEqual(closed(room.effects), [link])
        self.assertEqual(room.state().zmq_empty_ports, ZMQ)

    def test_once(self) -> None:
        self.room.offer(ZMQ[0], "b")
        self.room.lose(self.be)
        self.assertEqual(len(notes(self.room.later(10), "reaped")), 1)
        self.assertEqual(self.room.later(10), [])

    def test_a_session_is_ended_once(self) -> None:
        """Two BEs of one id are reaped in the same moment: the session is theirs in turn."""
        twin = self.room.be11("b")
        self.room.offer(ZMQ[0], "b")
        self.room.dial(ZMQ[0])
        self.room.lose(twin)
        self.room.lose(self.be)
        self.room.later(10)
        self.assertEqual(len(of(self.room.effects, fx.EndSession)), 1)

    def test_a_connection_that_is_nobodys_is_never_reaped(self) -> None:
        room = Room()
        link = room.offer(ZMQ[0], at=ELSEWHERE)
        room.lose(room.be("b"))
        room.later(10)
        self.assertEqual(closed(room.effects), [])
        self.assertEqual(room.board.ports[ZMQ[0]].waiting_be.id, link)

    def test_another_bes_connections_stay(self) -> None:
        self.room.be("other", at=ELSEWHERE)
        self.room.offer(ZMQ[0], "other", at=ELSEWHERE)
        self.room.offer(ZMQ[1], at=ELSEWHERE)
        self.room.lose(self.be)
        self.room.later(10)
        self.assertEqual(self.room.state().zmq_ready_ports, ZMQ[:2])


class LeasesOfTheReaped(TestCase):
    """BE_LOST (sections 5 and 8)."""

    def setUp(self) -> None:
        self.room = Room(reaper_timeout=10.0)
        self.be, self.fe = self.room.be11("b"), self.room.fe11("f")

    def reap(self) -> list[fx.Effect]:
        self.room.lose(self.be)
        return self.room.later(10)

    def test_its_own_end(self) -> None:
        lease = self.room.acquire(self.be, ttl_seconds=60).session_id
        message = PortRelease(session_id=lease, zmq_port=ZMQ[0], error_code="BE_LOST")
        self.assertEqual(told(self.reap(), Role.FE), [message])
        self.assertEqual(self.room.state().zmq_empty_ports, ZMQ)

    def test_on_ports_where_its_connection_waits(self) -> None:
        self.room.offer(ZMQ[0], "b")
        lease = self.room.acquire(self.fe, ttl_seconds=60).session_id
        self.reap()
        message = PortRelease(session_id=lease, zmq_port=ZMQ[0], error_code="BE_LOST")
        self.assertEqual(told(self.room.effects, Role.BE), [message])
        self.assertEqual(sent(self.room.effects, self.fe), [message])
        self.assertEqual(len(self.room.board.leases), 0)

    def test_on_ports_where_its_connection_was_the_last_to_wait(self) -> None:
        link = self.room.offer(ZMQ[0], "b")
        lease = self.room.acquire(self.fe, ttl_seconds=60).session_id
        self.room.hang_up(link)
        self.reap()
        self.assertEqual(told(self.room.effects, Role.BE)[0].session_id, lease)
        self.assertEqual(len(self.room.board.leases), 0)

    def test_on_ports_where_it_is_in_a_session(self) -> None:
        self.room.offer(ZMQ[0], "b")
        lease = self.room.acquire(self.fe, ttl_seconds=60).session_id
        self.room.dial(ZMQ[0], session_id=lease)
        self.reap()
        self.assertEqual(len(self.room.board.leases), 0)
        self.assertEqual(len(of(self.room.effects, fx.EndSession)), 1)

    def test_not_where_another_has_waited_since(self) -> None:
        link = self.room.offer(ZMQ[0], "b")
        lease = self.room.acquire(self.fe, ttl_seconds=60).session_id
        self.room.hang_up(link)
        self.room.be("c", at=ELSEWHERE)
        self.room.offer(ZMQ[0], "c", at=ELSEWHERE)
        self.reap()
        self.assertEqual(self.room.leases(self.fe), {lease})

    def test_not_where_it_waited_before_the_lease(self) -> None:
        self.room.hang_up(self.room.offer(ZMQ[0], "b"))
        other = self.room.be("c", at=ELSEWHERE)
        lease = self.room.acquire(other, ttl_seconds=60).session_id
        self.reap()
        self.assertEqual(self.room.leases(other), {lease})

    def test_the_other_port_of_the_lease_stays(self) -> None:
        self.room.be("c", at=ELSEWHERE)
        self.room.offer(ZMQ[0], "b")
        self.room.offer(SRT[0], "c", at=ELSEWHERE)
        lease = self.room.acquire(self.fe, need_zmq=True, need_srt=True, ttl_seconds=60).session_id
        self.reap()
        message = PortRelease(session_id=lease, zmq_port=ZMQ[0], error_code="BE_LOST")
        self.assertEqual(told(self.room.effects, Role.BE), [message])
        self.assertEqual(self.room.leases(self.fe), {lease})

    def test_a_waiting_fe_is_refused(self) -> None:
        link = self.room.offer(ZMQ[0], "b")
        lease = self.room.acquire(self.fe, ttl_seconds=60).session_id
        self.room.hang_up(link)
        self.room.lose(self.be)
        self.room.later(9)
        waiting = self.room.dial(ZMQ[0], session_id=lease)
        self.room.later(1)
        self.assertEqual(refusals(self.room.effects), [(waiting, "TTL_EXPIRED")])


class Passing(TestCase):
    """What was its passes to a BE that is registered then (section 8)."""

    def setUp(self) -> None:
        self.room = Room(reaper_timeout=10.0)

    def test_named_connections_to_one_of_the_same_id(self) -> None:
        old = self.room.be("b")
        self.room.offer(ZMQ[0], "b")
        lease = self.room.acquire(old, need_srt=True, ttl_seconds=60).session_id
        self.room.lose(old)
        self.room.later(5)
        new = self.room.be("b", at=ELSEWHERE)
        self.room.later(5)
        self.assertEqual(closed(self.room.effects), [])
        self.assertEqual(self.room.state().zmq_ready_ports, (ZMQ[0],))
        self.assertEqual(self.room.leases(new), {lease})
        self.room.release(new, lease)
        self.assertEqual(len(self.room.board.leases), 0)

    def test_however_early_that_one_registered(self) -> None:
        twin = self.room.be("b")
        old = self.room.be("b")
        self.room.offer(ZMQ[0], "b")
        lease = self.room.acquire(old, need_srt=True, ttl_seconds=60).session_id
        self.room.lose(old)
        self.room.later(10)
        self.assertEqual(closed(self.room.effects), [])
        self.assertEqual(self.room.leases(twin), {lease})

    def test_named_ones_to_no_other_at_that_address(self) -> None:
        old = self.room.be("b")
        link = self.room.offer(ZMQ[0], "b")
        self.room.be("c")
        self.room.lose(old)
        self.room.later(10)
        self.assertEqual(closed(self.room.effects), [link])

    def test_by_address_to_any_at_that_address(self) -> None:
        self.room.be("c")
        old = self.room.be("b")
        self.room.offer(ZMQ[0])
        self.room.offer(ZMQ[1], "unknown")
        self.room.lose(old)
        self.room.later(10)
        self.assertEqual(closed(self.room.effects), [])
        self.assertEqual(self.room.state().zmq_ready_ports, ZMQ[:2])

    def test_by_address_to_none_at_another_address(self) -> None:
        self.room.be("c", at=ELSEWHERE)
        old = self.room.be("b")
        link = self.room.offer(ZMQ[0])
        self.room.lose(old)
        self.room.later(10)
        self.assertEqual(closed(self.room.effects), [link])

    def test_leases_to_none_of_another_id(self) -> None:
        self.room.be("c")
        old = self.room.be("b")
        lease = self.room.acquire(old, ttl_seconds=60).session_id
        self.room.lose(old)
        self.room.later(10)
        self.assertIsNone(self.room.board.leases.get(lease))

    def test_an_heir_that_is_lost_too_is_none(self) -> None:
        old, twin = self.room.be("b"), self.room.be("b")
        self.room.offer(ZMQ[0], "b")
        lease = self.room.acquire(old, need_srt=True, ttl_seconds=60).session_id
        self.room.lose(old)
        self.room.lose(twin)
        self.room.later(10)
        self.assertEqual(self.room.state().zmq_empty_ports, ZMQ)
        self.assertIsNone(self.room.board.leases.get(lease))

    def test_session_goes_on_under_the_heir(self) -> None:
        old = self.room.be11("b")
        self.room.offer(ZMQ[0], "b")
        self.room.dial(ZMQ[0])
        session = pairing(self.room.effects)
        self.room.lose(old)
        heir = self.room.be11("b")
        self.room.later(10)
        self.assertEqual(of(self.room.effects, fx.EndSession), [])
        self.room.over(session)
        self.assertEqual(len(sent(self.room.effects, heir)), 1)


class Owners(TestCase):
    """Whose a data connection is, looked up anew each time (section 6)."""

    def setUp(self) -> None:
        self.room = Room()

    def owner(self, port: int = ZMQ[0]) -> int | None:
        """The control connection of the owner of the BE that waits on a port."""
        client = self.room.board.roster.owner(self.room.board.ports[port].waiting_be)
        return None if client is None else client.conn

    def test_the_one_that_it_names(self) -> None:
        named, _ = self.room.be("b", at=ELSEWHERE), self.room.be("c")
        self.room.offer(ZMQ[0], "b")
        self.assertEqual(self.owner(), named)

    def test_the_newest_of_several_of_that_name(self) -> None:
        self.room.be("b")
        newest = self.room.be("b", at=ELSEWHERE)
        self.room.offer(ZMQ[0], "b")
        self.assertEqual(self.owner(), newest)

    def test_a_live_one_before_a_newer_lost_one(self) -> None:
        live, newer = self.room.be("b"), self.room.be("b")
        self.room.offer(ZMQ[0], "b")
        self.room.lose(newer)
        self.assertEqual(self.owner(), live)

    def test_else_the_newest_at_its_address(self) -> None:
        self.room.be("a")
        newest = self.room.be("b")
        self.room.be("c", at=ELSEWHERE)
        self.room.offer(ZMQ[0], "unknown")
        self.room.offer(ZMQ[1])
        self.assertEqual((self.owner(ZMQ[0]), self.owner(ZMQ[1])), (newest, newest))

    def test_else_nobodys(self) -> None:
        self.room.be("b")
        self.room.offer(ZMQ[0], at=ELSEWHERE)
        self.assertIsNone(self.owner())

    def test_not_an_fes(self) -> None:
        self.room.fe("b", at=BE_AT)
        self.room.offer(ZMQ[0], "b")
        self.assertIsNone(self.owner())

    def test_looked_up_anew(self) -> None:
        self.room.offer(ZMQ[0], "b")
        self.assertIsNone(self.owner())
        later = self.room.be("b")
        self.assertEqual(self.owner(), later)


class Addresses(TestCase):
    """How long an address counts after its last control connection ended (section 6)."""

    def counts(self, room: Room, role: Role, seconds: float) -> bool:
        return room.board.roster.is_present(role, BE_AT, room.now + seconds)

    def lost_be(self, reaper_timeout: float) -> Room:
        room = Room(reaper_timeout=reaper_timeout)
        room.lose(room.be("b"))
        return room

    def test_for_the_reaper_timeout(self) -> None:
        room = self.lost_be(10.0)
        self.assertTrue(self.counts(room, Role.BE, 9.999))
        self.assertFalse(self.counts(room, Role.BE, 10.001))

    def test_for_two_seconds_at_least(self) -> None:
        for timeout in (0.0, 1.0):
            room = self.lost_be(timeout)
            self.assertTrue(self.counts(room, Role.BE, 1.999))
            self.assertFalse(self.counts(room, Role.BE, 2.001))

    def test_of_an_fe(self) -> None:
        room = Room(reaper_timeout=10.0)
        room.lose(room.fe("f", at=BE_AT))
        self.assertTrue(self.counts(room, Role.FE, 9.999))
        self.assertFalse(self.counts(room, Role.FE, 10.001))
        self.assertFalse(self.counts(room, Role.BE, 0))

    def test_from_its_last_one(self) -> None:
        room = Room(reaper_timeout=10.0)
        one, two = room.be("b"), room.be("c")
        room.lose(one)
        room.later(100)
        self.assertTrue(self.counts(room, Role.BE, 0))
        room.lose(two)
        self.assertTrue(self.counts(room, Role.BE, 9))
        self.assertFalse(self.counts(room, Role.BE, 11))

    def test_after_a_takeover_from_elsewhere(self) -> None:
        room = Room(reaper_timeout=10.0)
        room.be("b", instance="i1")
        room.be("b", instance="i2", at=ELSEWHERE)
        self.assertTrue(self.counts(room, Role.BE, 9))
        self.assertFalse(self.counts(room, Role.BE, 11))

    def test_never_seen(self) -> None:
        self.assertFalse(self.counts(Room(), Role.BE, 0))

    def test_forgotten_and_back_again(self) -> None:
        room = self.lost_be(10.0)
        room.later(20)
        self.assertFalse(self.counts(room, Role.BE, 0))
        room.be("b")
        self.assertTrue(self.counts(room, Role.BE, 1000))
