"""Connections that wait, and their pairing (contract sections 5 and 6)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from relayx.core import effects as fx
from relayx.core.errors import Code
from relayx.core.hello import Paired
from relayx.core.messages import Protocol
from tests.common import (
    BE_AT,
    ELSEWHERE,
    FE_AT,
    SRT,
    ZMQ,
    Room,
    closed,
    notes,
    of,
    pairing,
    pairs,
    refusals,
)


class Be(TestCase):
    """A BE waits on its port (sections 4 and 6)."""

    def setUp(self) -> None:
        self.room = Room()

    def test_waits(self) -> None:
        link = self.room.offer(ZMQ[0])
        self.assertEqual(self.room.effects, [fx.Wait(link), fx.StateChanged()])

    def test_gone(self) -> None:
        """Its port is empty."""
        link = self.room.offer(ZMQ[0])
        self.assertEqual(self.room.hang_up(link), [fx.StateChanged()])
        self.assertEqual(self.room.state().zmq_empty_ports, ZMQ)
        self.assertEqual(self.room.board.links, {})

    def test_gone_twice(self) -> None:
        link = self.room.offer(ZMQ[0])
        self.room.hang_up(link)
        self.assertEqual(self.room.hang_up(link), [])

    def test_any_number_of_ports(self) -> None:
        self.room.be("b")
        for port in (*ZMQ, *SRT):
            self.room.offer(port, "b")
        state = self.room.state()
        self.assertEqual((state.zmq_ready_ports, state.srt_ready_ports), (ZMQ, SRT))

    def test_waits_without_limit(self) -> None:
        self.room.offer(ZMQ[0])
        self.assertEqual(self.room.later(10**6), [])


class Pairs(TestCase):
    """One FE and one BE become a session (sections 6 and 7)."""

    def setUp(self) -> None:
        self.room = Room()

    def test_what_each_side_is_told(self) -> None:
        conn = self.room.fe("f")
        be = self.room.offer(ZMQ[0], "bee", at=ELSEWHERE)
        lease = self.room.acquire(conn, trace_id="t").session_id
        fe = self.room.dial(ZMQ[0], "eff", session_id=lease)
        (pair,) = of(self.room.effects, fx.Pair)
        self.assertEqual(
            pair,
            fx.Pair(
                "pair-1", ZMQ[0], Protocol.ZMQ, fe, be, True,
                to_fe=Paired("pair-1", lease, "bee", ELSEWHERE, "t"),
                to_be=Paired("pair-1", lease, "eff", FE_AT, "t"),
                lease_waited=0.0,
            ),
        )  # fmt: skip

    def test_how_long_it_took(self) -> None:
        """From HELLO for the FE; from the grant for the first session under a lease alone."""
        conn = self.room.fe("f")
        self.room.offer(ZMQ[0])
        lease = self.room.acquire(conn).session_id
        self.room.later(1.5)
        for waited in (1.5, None):
            self.room.dial(ZMQ[0], "f", session_id=lease)
            (pair,) = of(self.room.effects, fx.Pair)
            self.assertEqual((pair.fe_waited, pair.lease_waited), (0, waited))
            self.room.over(pair.pairing_id)
            self.room.dial(ZMQ[0], "f", session_id=lease)
            self.room.later(0.25)
            self.room.offer(ZMQ[0])
            (pair,) = of(self.room.effects, fx.Pair)
            self.assertEqual((pair.fe_waited, pair.lease_waited), (0.25, None))
            self.room.over(pair.pairing_id, kept=True)

    def test_without_a_lease(self) -> None:
        """An FE may never send port_acquire and take a ready port."""
        be = self.room.offer(SRT[0])
        fe = self.room.dial(SRT[0])
        (pair,) = of(self.room.effects, fx.Pair)
        self.assertEqual((pair.fe, pair.be, pair.protocol), (fe, be, Protocol.SRT))
        self.assertEqual((pair.to_fe.session_id, pair.to_fe.trace_id), ("", ""))

    def test_both_stay_known(self) -> None:
        be, fe = self.room.offer(ZMQ[0]), self.room.dial(ZMQ[0])
        self.assertEqual(set(self.room.board.links), {be, fe})
        self.assertEqual(set(self.room.board.sessions), {"pair-1"})

    def keeps(self, room: Room, **said: object) -> bool:
        room.offer(ZMQ[0], **said)
        room.dial(ZMQ[0])
        return of(room.effects, fx.Pair)[0].keep

    def test_keep_as_configured(self) -> None:
        self.assertTrue(self.keeps(Room(keep=True)))
        self.assertFalse(self.keeps(Room(keep=False)))

    def test_keep_as_asked(self) -> None:
        self.assertTrue(self.keeps(Room(keep=False), on_fe_close="keep"))
        self.assertFalse(self.keeps(Room(keep=True), on_fe_close="close"))

    def test_ack_implies_close(self) -> None:
        self.assertFalse(self.keeps(Room(keep=True), ack=True))

    def test_an_fes_wish_does_not_count(self) -> None:
        room = Room(keep=True)
        room.offer(ZMQ[0])
        room.dial(ZMQ[0], ack=True, on_fe_close="close")
        self.assertTrue(of(room.effects, fx.Pair)[0].keep)


class Services(TestCase):
    """A port of a named service: a lease on it, or that service in HELLO (section 6)."""

    def setUp(self) -> None:
        self.room = Room()
        self.be = self.room.offer(ZMQ[0], service="web")

    def test_the_same_service(self) -> None:
        fe = self.room.dial(ZMQ[0], service="web")
        self.assertEqual(pairs(self.room.effects), [(fe, self.be)])

    def test_a_lease_without_the_service(self) -> None:
        grant = self.room.acquire(self.room.fe("f"), service="web")
        fe = self.room.dial(ZMQ[0], ticket=grant.ticket, at=ELSEWHERE)
        self.assertEqual(pairs(self.room.effects), [(fe, self.be)])

    def test_the_owners_address_without_the_service(self) -> None:
        self.room.acquire(self.room.fe("f"), service="web")
        fe = self.room.dial(ZMQ[0])
        self.assertEqual(pairs(self.room.effects), [(fe, self.be)])

    def test_a_lease_with_another_service_in_hello(self) -> None:
        grant = self.room.acquire(self.room.fe("f"), service="web")
        fe = self.room.dial(ZMQ[0], session_id=grant.session_id, service="ssh")
        self.assertEqual(pairs(self.room.effects), [(fe, self.be)])

    def test_a_bes_lease_and_its_session_id(self) -> None:
        room = Room()
        grant = room.acquire(room.be("b"))
        be = room.offer(ZMQ[0], "b", service="web")
        fe = room.dial(ZMQ[0], session_id=grant.session_id)
        self.assertEqual(pairs(room.effects), [(fe, be)])

    def test_a_bes_lease_is_none_of_an_fes(self) -> None:
        """Without a credential and without the service, it has no lease on it."""
        room = Room()
        room.acquire(room.be("b"))
        room.offer(ZMQ[0], "b", service="web")
        link = room.dial(ZMQ[0])
        self.assertEqual(refusals(room.effects), [(link, Code.NOT_ADMITTED)])


class Fe(TestCase):
    """An FE that may use a lease is kept waiting for a BE (section 5)."""

    def setUp(self) -> None:
        self.room = Room(hello_timeout=2.0)
        self.fe = self.room.fe("f")
        be = self.room.offer(ZMQ[0])
        self.lease = self.room.acquire(self.fe, ttl_seconds=60).session_id
        self.room.hang_up(be)

    def test_waits(self) -> None:
        link = self.room.dial(ZMQ[0], session_id=self.lease)
        self.assertEqual(self.room.effects, [fx.Wait(link)])

    def test_waits_by_its_address(self) -> None:
        link = self.room.dial(ZMQ[0])
        self.assertEqual(self.room.effects, [fx.Wait(link)])

    def test_is_paired_with_the_be_that_comes(self) -> None:
        fe = self.room.dial(ZMQ[0], session_id=self.lease)
        self.room.later(1.9)
        be = self.room.offer(ZMQ[0])
        self.assertEqual(pairs(self.room.effects), [(fe, be)])
        kinds = [type(effect) for effect in self.room.effects]
        self.assertTrue(kinds.index(fx.Wait) < kinds.index(fx.Pair))

    def test_waits_by_its_address_for_a_named_service(self) -> None:
        """Its lease is for that service, so its HELLO need not name it (section 6)."""
        be = self.room.offer(ZMQ[1], service="web")
        self.room.acquire(self.fe, service="web", ttl_seconds=60)
        self.room.hang_up(be)
        fe = self.room.dial(ZMQ[1])
        be = self.room.offer(ZMQ[1], service="web")
        self.assertEqual(pairs(self.room.effects), [(fe, be)])

    def test_its_timer_ends_with_the_pairing(self) -> None:
        self.room.dial(ZMQ[0], session_id=self.lease)
        self.room.offer(ZMQ[0])
        self.assertEqual(self.room.switchboard.next_due(), self.room.now + 60)
        self.assertEqual(self.room.later(3), [])

    def test_gives_up(self) -> None:
        link = self.room.dial(ZMQ[0], session_id=self.lease)
        self.assertEqual(self.room.later(1.999), [])
        self.room.later(0.001)
        self.assertEqual(refusals(self.room.effects), [(link, Code.PORT_EMPTY)])
        self.assertEqual(notes(self.room.effects, "refused")[0].fields["error_code"], "PORT_EMPTY")
        self.assertEqual(self.room.board.links, {})
        self.assertEqual(of(self.room.effects, fx.StateChanged), [])

    def test_another_may_wait_after_that(self) -> None:
        self.room.dial(ZMQ[0], session_id=self.lease)
        self.room.later(2)
        link = self.room.dial(ZMQ[0], session_id=self.lease)
        self.assertEqual(self.room.effects, [fx.Wait(link)])

    def test_its_reset_ends_the_waiting(self) -> None:
        link = self.room.dial(ZMQ[0], session_id=self.lease)
        self.assertEqual(self.room.hang_up(link), [])
        self.assertEqual(self.room.later(3), [])
        self.room.offer(ZMQ[0])
        self.assertEqual(pairs(self.room.effects), [])

    def test_under_a_bes_lease(self) -> None:
        """A BE that answers a grant is often a little later than the FE."""
        grant = self.room.acquire(self.room.be("b"))
        fe = self.room.dial(grant.zmq_port, session_id=grant.session_id)
        self.assertEqual(self.room.effects, [fx.Wait(fe)])
        be = self.room.offer(grant.zmq_port, "b")
        self.assertEqual(pairs(self.room.effects), [(fe, be)])

    def test_under_a_bes_lease_without_a_session_id(self) -> None:
        grant = self.room.acquire(self.room.be("b"))
        fe = self.room.dial(grant.zmq_port)
        self.assertEqual(self.room.effects, [fx.Wait(fe)])
        be = self.room.offer(grant.zmq_port, "b")
        self.assertEqual(pairs(self.room.effects), [(fe, be)])

    def test_the_be_that_comes_is_of_another_service(self) -> None:
        grant = self.room.acquire(self.room.be("b"))
        fe = self.room.dial(grant.zmq_port)
        self.room.offer(grant.zmq_port, "b", service="web")
        self.assertEqual(refusals(self.room.effects), [(fe, Code.NOT_ADMITTED)])
        self.assertEqual(pairs(self.room.effects), [])

    def test_the_be_that_comes_is_of_the_same_service(self) -> None:
        grant = self.room.acquire(self.room.be("b"))
        fe = self.room.dial(grant.zmq_port, service="web")
        be = self.room.offer(grant.zmq_port, "b", service="web")
        self.assertEqual(pairs(self.room.effects), [(fe, be)])

    def test_its_session_id_outweighs_the_service(self) -> None:
        grant = self.room.acquire(self.room.be("b"))
        fe = self.room.dial(grant.zmq_port, session_id=grant.session_id)
        be = self.room.offer(grant.zmq_port, "b", service="web")
        self.assertEqual(pairs(self.room.effects), [(fe, be)])

    def test_lease_released(self) -> None:
        link = self.room.dial(ZMQ[0], session_id=self.lease)
        self.room.release(self.fe, self.lease)
        self.assertEqual(refusals(self.room.effects), [(link, Code.TTL_EXPIRED)])

    def test_owner_gone(self) -> None:
        link = self.room.dial(ZMQ[0], session_id=self.lease)
        self.room.lose(self.fe)
        self.assertEqual(refusals(self.room.effects), [(link, Code.TTL_EXPIRED)])

    def test_gateway_stops(self) -> None:
        link = self.room.dial(ZMQ[0], session_id=self.lease)
        self.room.stop()
        self.assertEqual(refusals(self.room.effects), [(link, Code.DRAINING)])
        self.assertEqual(self.room.later(3), [])


class DrainedPort(TestCase):
    """A port whose kept BE is still being drained (sections 5 and 7)."""

    def setUp(self) -> None:
        self.room = Room(hello_timeout=2.0)
        self.fe = self.room.fe("f")
        self.be = self.room.offer(ZMQ[0], at=BE_AT)
        self.lease = self.room.acquire(self.fe, ttl_seconds=60).session_id
        self.room.dial(ZMQ[0], session_id=self.lease)
        self.session = pairing(self.room.effects)
        self.room.drains(self.session)

    def test_draining_itself_does_nothing(self) -> None:
        self.assertEqual(self.room.effects, [])
        self.assertEqual(self.room.drains("pair-99"), [])

    def test_an_fe_with_the_lease_waits(self) -> None:
        link = self.room.dial(ZMQ[0], session_id=self.lease)
        self.assertEqual(self.room.effects, [fx.Wait(link)])
        self.room.over(self.session, kept=True)
        self.assertEqual(pairs(self.room.effects), [(link, self.be)])

    def test_an_fe_without_a_lease_does_not(self) -> None:
        link = self.room.dial(ZMQ[0], at=ELSEWHERE)
        self.assertEqual(refusals(self.room.effects), [(link, Code.PORT_BUSY)])

    def test_the_be_ends_instead(self) -> None:
        """The FE goes on waiting for a BE, up to its time."""
        link = self.room.dial(ZMQ[0], session_id=self.lease)
        self.room.over(self.session)
        self.assertEqual(pairs(self.room.effects) + refusals(self.room.effects), [])
        be = self.room.offer(ZMQ[0])
        self.assertEqual(pairs(self.room.effects), [(link, be)])

    def test_it_gives_up(self) -> None:
        link = self.room.dial(ZMQ[0], session_id=self.lease)
        self.room.later(2)
        self.assertEqual(refusals(self.room.effects), [(link, Code.PORT_EMPTY)])

    def test_lease_expired_by_the_end_of_the_session(self) -> None:
        self.room.later(59)
        link = self.room.dial(ZMQ[0], session_id=self.lease)
        self.room.later(1)
        self.assertEqual(self.room.effects, [])
        self.room.over(self.session, kept=True)
        self.assertEqual(refusals(self.room.effects), [(link, Code.TTL_EXPIRED)])
        self.assertEqual(pairs(self.room.effects), [])
        self.assertEqual(self.room.state().zmq_ready_ports, (ZMQ[0],))


class Stopping(TestCase):
    """SIGTERM (section 9)."""

    def setUp(self) -> None:
        self.room = Room()

    def test_waiting_connections_are_closed(self) -> None:
        links = [self.room.offer(ZMQ[0]), self.room.offer(SRT[0])]
        self.room.stop()
        self.assertEqual(sorted(closed(self.room.effects)), links)
        self.assertEqual(self.room.board.links, {})

    def test_sessions_go_on(self) -> None:
        self.room.offer(ZMQ[0])
        self.room.dial(ZMQ[0])
        self.assertEqual(self.room.stop(), [])
        self.assertEqual(self.room.switchboard.sessions_running(), 1)

    def test_a_kept_be_waits_no_more(self) -> None:
        """Waiting connections are closed: also one that is kept after its session."""
        be = self.room.offer(ZMQ[0])
        self.room.dial(ZMQ[0])
        session = pairing(self.room.effects)
        self.room.stop()
        self.room.over(session, kept=True)
        self.assertEqual(closed(self.room.effects), [be])
        self.assertEqual(self.room.state().zmq_ready_ports, ())

    def test_the_rest_is_ended(self) -> None:
        for port in ZMQ[:2]:
            self.room.offer(port)
            self.room.dial(port)
        self.room.stop()
        self.room.did(self.room.switchboard.end_sessions("drain"))
        self.assertEqual(
            self.room.effects, [fx.EndSession("pair-1", "drain"), fx.EndSession("pair-2", "drain")]
        )
