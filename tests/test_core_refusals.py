"""The refusals of HELLO and their order of precedence (contract section 6).

HELLO_INVALID comes first because the rules never see such a HELLO; see test_core_hello. Each
test of a pair makes a connection that both refusals fit, and sees the first one.
"""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from relayx.core import effects as fx
from relayx.core.errors import Code
from tests.common import BE_AT, ELSEWHERE, FE_AT, ZMQ, Room, closed, of, pairing, pairs, refusals


class Refusing(TestCase):
    """Looks at the one refusal of the last HELLO."""

    def refused(self, room: Room, link: int, code: Code) -> None:
        self.assertEqual(refusals(room.effects), [(link, code)])
        self.assertTrue(of(room.effects, fx.Refuse)[0].text)
        self.assertEqual(of(room.effects, fx.Wait) + of(room.effects, fx.Pair), [])
        self.assertEqual(of(room.effects, fx.StateChanged), [])


class OfAnFe(Refusing):
    """Each refusal of an FE."""

    def setUp(self) -> None:
        self.room = Room()

    def test_empty(self) -> None:
        self.refused(self.room, self.room.dial(ZMQ[0]), Code.PORT_EMPTY)

    def test_busy(self) -> None:
        self.room.offer(ZMQ[0])
        self.room.dial(ZMQ[0])
        self.refused(self.room, self.room.dial(ZMQ[0]), Code.PORT_BUSY)

    def test_busy_under_its_own_lease(self) -> None:
        self.room.offer(ZMQ[0])
        lease = self.room.acquire(self.room.fe("f")).session_id
        self.room.dial(ZMQ[0], session_id=lease)
        self.refused(self.room, self.room.dial(ZMQ[0], session_id=lease), Code.PORT_BUSY)

    def test_busy_with_a_waiting_fe(self) -> None:
        be = self.room.offer(ZMQ[0])
        lease = self.room.acquire(self.room.fe("f")).session_id
        self.room.hang_up(be)
        self.room.dial(ZMQ[0], session_id=lease)
        self.refused(self.room, self.room.dial(ZMQ[0], session_id=lease), Code.PORT_BUSY)

    def test_reserved(self) -> None:
        self.room.offer(ZMQ[0])
        self.room.acquire(self.room.fe("f"))
        self.refused(self.room, self.room.dial(ZMQ[0], at=ELSEWHERE), Code.PORT_RESERVED)

    def test_reserved_though_empty(self) -> None:
        be = self.room.offer(ZMQ[0])
        self.room.acquire(self.room.fe("f"))
        self.room.hang_up(be)
        self.refused(self.room, self.room.dial(ZMQ[0], at=ELSEWHERE), Code.PORT_RESERVED)

    def test_another_service(self) -> None:
        self.room.offer(ZMQ[0], service="web")
        self.refused(self.room, self.room.dial(ZMQ[0]), Code.NOT_ADMITTED)
        self.refused(self.room, self.room.dial(ZMQ[0], service="ssh"), Code.NOT_ADMITTED)

    def test_a_service_where_none_is(self) -> None:
        self.room.offer(ZMQ[0])
        self.refused(self.room, self.room.dial(ZMQ[0], service="web"), Code.NOT_ADMITTED)

    def test_stopping(self) -> None:
        self.room.offer(ZMQ[0])
        self.room.stop()
        self.refused(self.room, self.room.dial(ZMQ[0]), Code.DRAINING)


class FePrecedence(Refusing):
    """DRAINING, NOT_ADMITTED, TTL_EXPIRED, PORT_BUSY, PORT_RESERVED, PORT_EMPTY."""

    def setUp(self) -> None:
        self.room = Room(admission="peer")
        self.fe, self.be = self.room.fe("f"), self.room.be("b")
        self.room.fe("g", at=ELSEWHERE)

    def ended_lease(self) -> str:
        """The session id of a lease on the first port that has ended."""
        self.room.offer(ZMQ[0])
        lease = self.room.acquire(self.fe).session_id
        self.room.release(self.fe, lease)
        return lease

    def test_draining_before_not_admitted(self) -> None:
        self.room.stop()
        self.refused(self.room, self.room.dial(ZMQ[0], at="203.0.113.9"), Code.DRAINING)

    def test_draining_before_expired(self) -> None:
        lease = self.ended_lease()
        self.room.stop()
        self.refused(self.room, self.room.dial(ZMQ[0], session_id=lease), Code.DRAINING)

    def test_draining_before_empty(self) -> None:
        self.room.stop()
        self.refused(self.room, self.room.dial(ZMQ[0]), Code.DRAINING)

    def test_not_admitted_before_expired(self) -> None:
        lease = self.ended_lease()
        link = self.room.dial(ZMQ[0], session_id=lease, at="203.0.113.9")
        self.refused(self.room, link, Code.NOT_ADMITTED)

    def test_another_service_before_expired(self) -> None:
        lease = self.ended_lease()
        link = self.room.dial(ZMQ[0], session_id=lease, service="web")
        self.refused(self.room, link, Code.NOT_ADMITTED)

    def test_not_admitted_before_busy(self) -> None:
        self.room.offer(ZMQ[0], service="web")
        self.room.dial(ZMQ[0], service="web")
        self.refused(self.room, self.room.dial(ZMQ[0]), Code.NOT_ADMITTED)
        self.refused(self.room, self.room.dial(ZMQ[0], session_id="x"), Code.NOT_ADMITTED)

    def test_not_admitted_before_reserved(self) -> None:
        self.room.offer(ZMQ[0])
        self.room.acquire(self.fe)
        link = self.room.dial(ZMQ[0], session_id="unknown", at=ELSEWHERE)
        self.refused(self.room, link, Code.NOT_ADMITTED)
        link = self.room.dial(ZMQ[0], service="web", at=ELSEWHERE)
        self.refused(self.room, link, Code.NOT_ADMITTED)

    def test_not_admitted_before_empty(self) -> None:
        self.refused(self.room, self.room.dial(ZMQ[0], ticket="unknown"), Code.NOT_ADMITTED)

    def test_expired_before_busy(self) -> None:
        lease = self.ended_lease()
        self.room.dial(ZMQ[0])
        self.assertEqual(len(pairs(self.room.effects)), 1)
        self.refused(self.room, self.room.dial(ZMQ[0], session_id=lease), Code.TTL_EXPIRED)

    def test_expired_before_reserved(self) -> None:
        lease = self.ended_lease()
        self.room.acquire(self.fe)
        link = self.room.dial(ZMQ[0], session_id=lease, at=ELSEWHERE)
        self.refused(self.room, link, Code.TTL_EXPIRED)

    def test_expired_before_empty(self) -> None:
        lease = self.ended_lease()
        self.room.hang_up(self.room.board.ports[ZMQ[0]].waiting_be.id)
        self.refused(self.room, self.room.dial(ZMQ[0], session_id=lease), Code.TTL_EXPIRED)

    def test_busy_before_reserved(self) -> None:
        self.room.offer(ZMQ[0])
        lease = self.room.acquire(self.fe).session_id
        self.room.dial(ZMQ[0], session_id=lease)
        self.refused(self.room, self.room.dial(ZMQ[0], at=ELSEWHERE), Code.PORT_BUSY)

    def test_busy_waiting_before_reserved(self) -> None:
        be = self.room.offer(ZMQ[0])
        lease = self.room.acquire(self.fe).session_id
        self.room.hang_up(be)
        self.room.dial(ZMQ[0], session_id=lease)
        self.refused(self.room, self.room.dial(ZMQ[0], at=ELSEWHERE), Code.PORT_BUSY)

    def test_reserved_before_empty(self) -> None:
        be = self.room.offer(ZMQ[0])
        self.room.acquire(self.fe)
        self.room.hang_up(be)
        self.refused(self.room, self.room.dial(ZMQ[0], at=ELSEWHERE), Code.PORT_RESERVED)


class OfABe(Refusing):
    """Each refusal of a BE, and their order."""

    def setUp(self) -> None:
        self.room = Room(admission="peer")
        self.fe, self.be = self.room.fe("f"), self.room.be("b")
        self.room.be("c", at=ELSEWHERE)

    def test_a_second_one(self) -> None:
        self.room.offer(ZMQ[0])
        self.refused(self.room, self.room.offer(ZMQ[0]), Code.PORT_BUSY)

    def test_during_a_session(self) -> None:
        self.room.offer(ZMQ[0])
        self.room.dial(ZMQ[0])
        self.refused(self.room, self.room.offer(ZMQ[0]), Code.PORT_BUSY)

    def test_while_draining_a_session(self) -> None:
        self.room.offer(ZMQ[0])
        self.room.dial(ZMQ[0])
        self.room.drains(pairing(self.room.effects))
        self.refused(self.room, self.room.offer(ZMQ[0]), Code.PORT_BUSY)

    def test_under_another_bes_lease(self) -> None:
        self.room.acquire(self.be)
        link = self.room.offer(ZMQ[0], "c", at=ELSEWHERE)
        self.refused(self.room, link, Code.PORT_RESERVED)

    def test_nobodys_under_a_bes_lease(self) -> None:
        room = Room()
        room.acquire(room.be("b"))
        self.refused(room, room.offer(ZMQ[0], at=ELSEWHERE), Code.PORT_RESERVED)

    def test_busy_before_reserved(self) -> None:
        self.room.acquire(self.be)
        self.room.offer(ZMQ[0], "b")
        link = self.room.offer(ZMQ[0], "c", at=ELSEWHERE)
        self.refused(self.room, link, Code.PORT_BUSY)

    def test_stopping(self) -> None:
        self.room.stop()
        self.refused(self.room, self.room.offer(ZMQ[0]), Code.DRAINING)

    def test_draining_before_not_admitted(self) -> None:
        self.room.stop()
        self.refused(self.room, self.room.offer(ZMQ[0], at="203.0.113.9"), Code.DRAINING)

    def test_not_admitted_before_busy(self) -> None:
        self.room.offer(ZMQ[0])
        link = self.room.offer(ZMQ[0], at="203.0.113.9")
        self.refused(self.room, link, Code.NOT_ADMITTED)

    def test_not_admitted_before_reserved(self) -> None:
        self.room.acquire(self.be)
        link = self.room.offer(ZMQ[0], at="203.0.113.9")
        self.refused(self.room, link, Code.NOT_ADMITTED)

    def test_refill_of_another_service(self) -> None:
        """Only a BE of the same service may refill a port under an FE's lease (section 5)."""
        link = self.room.offer(ZMQ[0], service="web")
        self.room.acquire(self.fe, service="web")
        self.room.hang_up(link)
        self.refused(self.room, self.room.offer(ZMQ[0]), Code.NOT_ADMITTED)
        self.refused(self.room, self.room.offer(ZMQ[0], service="ssh"), Code.NOT_ADMITTED)
        link = self.room.offer(ZMQ[0], service="web")
        self.assertEqual(of(self.room.effects, fx.Wait), [fx.Wait(link)])

    def test_another_service_before_busy(self) -> None:
        self.room.offer(ZMQ[0], service="web")
        lease = self.room.acquire(self.fe, service="web").session_id
        self.refused(self.room, self.room.offer(ZMQ[0]), Code.NOT_ADMITTED)
        self.room.dial(ZMQ[0], session_id=lease)
        self.refused(self.room, self.room.offer(ZMQ[0]), Code.NOT_ADMITTED)
        self.refused(self.room, self.room.offer(ZMQ[0], service="web"), Code.PORT_BUSY)


class Filling(TestCase):
    """A BE's lease: only that BE may fill its port (section 5)."""

    def setUp(self) -> None:
        self.room = Room()
        self.be = self.room.be("b")
        self.room.acquire(self.be)

    def fills(self, link: int) -> None:
        self.assertEqual(of(self.room.effects, fx.Wait), [fx.Wait(link)])

    def test_by_its_id(self) -> None:
        self.fills(self.room.offer(ZMQ[0], "b", at=ELSEWHERE))

    def test_by_its_address(self) -> None:
        self.fills(self.room.offer(ZMQ[0]))

    def test_of_any_service(self) -> None:
        self.fills(self.room.offer(ZMQ[0], "b", service="web"))

    def test_by_another_connection_of_its_id(self) -> None:
        """BEs that live side by side under one id count as that BE."""
        self.room.be("b", at=ELSEWHERE)
        self.fills(self.room.offer(ZMQ[0], "b"))

    def test_while_it_is_lost(self) -> None:
        self.room.lose(self.be)
        self.fills(self.room.offer(ZMQ[0], "b"))


class Replacing(Refusing):
    """A registered 1.1 BE comes again to a port where its own connection waits (section 6)."""

    def setUp(self) -> None:
        self.room = Room()
        self.room.be11("b")
        self.old = self.room.offer(ZMQ[0], "b")

    def replaced(self, room: Room, old: int, new: int) -> None:
        self.assertEqual(closed(room.effects), [old])
        self.assertEqual(of(room.effects, fx.Wait), [fx.Wait(new)])
        self.assertTrue(room.effects.index(fx.CloseLink(old)) < room.effects.index(fx.Wait(new)))
        self.assertEqual(room.board.ports[ZMQ[0]].waiting_be.id, new)
        self.assertEqual(set(room.board.links), {new})

    def test_its_own(self) -> None:
        self.replaced(self.room, self.old, self.room.offer(ZMQ[0], "b"))

    def test_port_state_is_the_same(self) -> None:
        """Section 4: pushed on change, and nothing has changed."""
        self.room.offer(ZMQ[0], "b")
        self.assertEqual(of(self.room.effects, fx.StateChanged), [])
        self.assertEqual(self.room.state().zmq_ready_ports, (ZMQ[0],))

    def test_with_another_service(self) -> None:
        new = self.room.offer(ZMQ[0], "b", service="web")
        self.replaced(self.room, self.old, new)
        self.assertEqual(len(of(self.room.effects, fx.StateChanged)), 1)
        self.assertEqual(self.room.state().zmq_ready_ports, ())

    def test_the_old_ones_end_is_void(self) -> None:
        new = self.room.offer(ZMQ[0], "b")
        self.assertEqual(self.room.hang_up(self.old), [])
        self.assertEqual(self.room.board.ports[ZMQ[0]].waiting_be.id, new)

    def test_it_is_the_last_that_waited(self) -> None:
        """For section 8: the lease on its port ends with its BE."""
        self.room.acquire(self.room.fe("f"), ttl_seconds=60)
        self.room.hang_up(self.room.offer(ZMQ[0], "b"))
        self.room.lose(1)
        self.room.later(10)
        self.assertEqual(len(self.room.board.leases), 0)

    def test_its_own_by_address(self) -> None:
        """The waiting one belongs to it by its address alone."""
        room = Room()
        room.be11("b")
        old = room.offer(ZMQ[0])
        self.replaced(room, old, room.offer(ZMQ[0], "b"))

    def test_without_its_id(self) -> None:
        self.refused(self.room, self.room.offer(ZMQ[0]), Code.PORT_BUSY)

    def test_from_elsewhere(self) -> None:
        self.refused(self.room, self.room.offer(ZMQ[0], "b", at=ELSEWHERE), Code.PORT_BUSY)

    def test_of_a_v1_be(self) -> None:
        room = Room()
        room.be("b")
        room.offer(ZMQ[0], "b")
        self.refused(room, room.offer(ZMQ[0], "b"), Code.PORT_BUSY)

    def test_anothers(self) -> None:
        self.room.be11("c")
        self.refused(self.room, self.room.offer(ZMQ[0], "c"), Code.PORT_BUSY)

    def test_nobodys(self) -> None:
        room = Room()
        room.be11("b")
        room.offer(ZMQ[0], at=ELSEWHERE)
        self.refused(room, room.offer(ZMQ[0], "b"), Code.PORT_BUSY)

    def test_not_in_a_session(self) -> None:
        self.room.dial(ZMQ[0])
        self.refused(self.room, self.room.offer(ZMQ[0], "b"), Code.PORT_BUSY)

    def test_under_an_fes_lease(self) -> None:
        fe = self.room.fe("f", at=FE_AT)
        lease = self.room.acquire(fe).session_id
        new = self.room.offer(ZMQ[0], "b", at=BE_AT)
        self.replaced(self.room, self.old, new)
        self.assertEqual(self.room.leases(fe), {lease})

    def test_under_an_fes_lease_of_another_service(self) -> None:
        self.room.acquire(self.room.fe("f"))
        self.refused(self.room, self.room.offer(ZMQ[0], "b", service="web"), Code.NOT_ADMITTED)
