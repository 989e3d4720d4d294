"""Who may come at all: open, peer and ticket (contract section 6, Admission)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from relayx.core import effects as fx
from relayx.core.errors import Code
from tests.common import (
    BE_AT,
    ELSEWHERE,
    FE_AT,
    ZMQ,
    Room,
    notes,
    of,
    pairs,
    refusals,
)


class Open(TestCase):
    """Anyone."""

    def test_anyone(self) -> None:
        room = Room(admission="open")
        be = room.offer(ZMQ[0], at=ELSEWHERE)
        self.assertEqual(of(room.effects, fx.Wait), [fx.Wait(be)])
        fe = room.dial(ZMQ[0], at="203.0.113.5")
        self.assertEqual(pairs(room.effects), [(fe, be)])


class Peer(TestCase):
    """The address of a registered client of the same role."""

    def setUp(self) -> None:
        self.room = Room(admission="peer", reaper_timeout=10.0)

    def refused(self, link: int) -> fx.Refuse:
        self.assertEqual(refusals(self.room.effects), [(link, Code.NOT_ADMITTED)])
        return of(self.room.effects, fx.Refuse)[0]

    def test_be_at_its_address(self) -> None:
        self.room.be("b")
        link = self.room.offer(ZMQ[0], "whoever")
        self.assertEqual(of(self.room.effects, fx.Wait), [fx.Wait(link)])

    def test_fe_at_its_address(self) -> None:
        self.room.be("b")
        self.room.fe("f")
        be = self.room.offer(ZMQ[0])
        fe = self.room.dial(ZMQ[0])
        self.assertEqual(pairs(self.room.effects), [(fe, be)])

    def test_nobody_registered(self) -> None:
        self.refused(self.room.offer(ZMQ[0]))
        self.refused(self.room.dial(ZMQ[0]))

    def test_another_address(self) -> None:
        self.room.be("b")
        self.refused(self.room.offer(ZMQ[0], "b", at=ELSEWHERE))

    def test_another_role(self) -> None:
        self.room.fe("b", at=BE_AT)
        self.refused(self.room.offer(ZMQ[0], "b"))
        self.room.be("f", at=FE_AT)
        self.refused(self.room.dial(ZMQ[0], "f"))

    def test_an_address_counts_for_a_while(self) -> None:
        self.room.lose(self.room.be("b"))
        self.room.later(9.999)
        link = self.room.offer(ZMQ[0])
        self.assertEqual(of(self.room.effects, fx.Wait), [fx.Wait(link)])

    def test_and_then_no_longer(self) -> None:
        self.room.lose(self.room.be("b"))
        self.room.later(10.001)
        self.refused(self.room.offer(ZMQ[0]))

    def test_an_fe_address_counts_for_a_while(self) -> None:
        self.room.be("b")
        self.room.offer(ZMQ[0])
        self.room.lose(self.room.fe("f"))
        self.room.later(9.999)
        self.room.dial(ZMQ[0])
        self.assertEqual(len(pairs(self.room.effects)), 1)

    def test_refusal_is_a_warning_with_address_and_key(self) -> None:
        refusal = self.refused(self.room.offer(ZMQ[0], "b", at=ELSEWHERE))
        (note,) = notes(self.room.effects, "refused")
        self.assertEqual(note.level, "warn")
        self.assertEqual(note.fields["port"], ZMQ[0])
        for text in (note.text, refusal.text):
            self.assertIn(ELSEWHERE, text)
            self.assertIn("data.admission", text)

    def test_other_refusals_are_no_warnings(self) -> None:
        self.room.fe("f")
        self.room.dial(ZMQ[0])
        (note,) = notes(self.room.effects, "refused")
        self.assertEqual((note.level, note.fields["error_code"]), ("info", "PORT_EMPTY"))

    def test_a_lease_is_no_way_past_the_address(self) -> None:
        self.room.be("b")
        self.room.offer(ZMQ[0])
        grant = self.room.acquire(self.room.fe("f"))
        self.refused(self.room.dial(ZMQ[0], ticket=grant.ticket, at=ELSEWHERE))


class Ticket(TestCase):
    """An FE with the ticket of a live lease, a BE by its client_id and address."""

    def setUp(self) -> None:
        self.room = Room(admission="ticket")
        self.be, self.fe = self.room.be("b"), self.room.fe("f")

    def refused(self, link: int, code: Code = Code.NOT_ADMITTED) -> None:
        self.assertEqual(refusals(self.room.effects), [(link, code)])

    def test_be_by_its_id(self) -> None:
        link = self.room.offer(ZMQ[0], "b")
        self.assertEqual(of(self.room.effects, fx.Wait), [fx.Wait(link)])

    def test_be_without_its_id(self) -> None:
        self.refused(self.room.offer(ZMQ[0]))
        self.refused(self.room.offer(ZMQ[0], "unknown"))

    def test_be_from_elsewhere(self) -> None:
        self.refused(self.room.offer(ZMQ[0], "b", at=ELSEWHERE))
        self.assertIn(ELSEWHERE, notes(self.room.effects, "refused")[0].text)
        self.assertEqual(notes(self.room.effects, "refused")[0].level, "warn")

    def test_be_that_is_lost(self) -> None:
        """Not registered any more, though not yet reaped."""
        self.room.lose(self.be)
        self.refused(self.room.offer(ZMQ[0], "b"))

    def test_be_by_the_id_of_an_fe(self) -> None:
        self.refused(self.room.offer(ZMQ[0], "f", at=FE_AT))

    def test_be_that_is_one_of_several_of_that_id(self) -> None:
        """The client_id of a registered BE at the same address; a newer one is elsewhere."""
        self.room.be("b", at=ELSEWHERE)
        here = self.room.offer(ZMQ[0], "b")
        self.assertEqual(of(self.room.effects, fx.Wait), [fx.Wait(here)])
        there = self.room.offer(ZMQ[1], "b", at=ELSEWHERE)
        self.assertEqual(of(self.room.effects, fx.Wait), [fx.Wait(there)])

    def test_fe_with_the_ticket(self) -> None:
        be = self.room.offer(ZMQ[0], "b")
        grant = self.room.acquire(self.fe)
        fe = self.room.dial(ZMQ[0], ticket=grant.ticket, at=ELSEWHERE)
        self.assertEqual(pairs(self.room.effects), [(fe, be)])

    def test_fe_with_the_ticket_of_a_bes_lease(self) -> None:
        grant = self.room.acquire(self.be)
        be = self.room.offer(ZMQ[0], "b")
        fe = self.room.dial(ZMQ[0], ticket=grant.ticket)
        self.assertEqual(pairs(self.room.effects), [(fe, be)])

    def test_fe_without_a_ticket(self) -> None:
        self.room.offer(ZMQ[0], "b")
        self.refused(self.room.dial(ZMQ[0]))

    def test_fe_with_the_session_id_alone(self) -> None:
        self.room.offer(ZMQ[0], "b")
        grant = self.room.acquire(self.fe)
        self.refused(self.room.dial(ZMQ[0], session_id=grant.session_id))

    def test_fe_without_a_ticket_on_an_unleased_port(self) -> None:
        self.room.offer(ZMQ[0], "b")
        self.refused(self.room.dial(ZMQ[0], "f"))

    def test_ticket_of_another_port(self) -> None:
        self.room.offer(ZMQ[0], "b")
        self.room.offer(ZMQ[1], "b")
        grants = [self.room.acquire(self.fe) for _ in range(2)]
        self.refused(self.room.dial(ZMQ[0], ticket=grants[1].ticket))

    def test_ticket_of_an_ended_lease(self) -> None:
        self.room.offer(ZMQ[0], "b")
        grant = self.room.acquire(self.fe)
        self.room.release(self.fe, grant.session_id)
        self.refused(self.room.dial(ZMQ[0], ticket=grant.ticket), Code.TTL_EXPIRED)

    def test_made_up_ticket(self) -> None:
        self.room.offer(ZMQ[0], "b")
        self.room.acquire(self.fe)
        self.refused(self.room.dial(ZMQ[0], ticket="guess"))
        self.assertNotIn("guess", repr(self.room.effects))


class Credentials(TestCase):
    """On a port under an FE's lease: its ticket, its session_id, or its owner's address."""

    def setUp(self) -> None:
        self.room = Room()
        self.fe = self.room.fe("f")
        self.be = self.room.offer(ZMQ[0])
        self.grant = self.room.acquire(self.fe)

    def code(self, **said: str) -> Code | str:
        """Why an FE is refused, "" where it is paired."""
        link = self.room.dial(ZMQ[0], **said)
        if pairs(self.room.effects):
            self.assertEqual(pairs(self.room.effects), [(link, self.be)])
            return ""
        ((refused, code),) = refusals(self.room.effects)
        self.assertEqual(refused, link)
        return code

    def test_ticket(self) -> None:
        self.assertEqual(self.code(ticket=self.grant.ticket, at=ELSEWHERE), "")

    def test_session_id(self) -> None:
        self.assertEqual(self.code(session_id=self.grant.session_id, at=ELSEWHERE), "")

    def test_both(self) -> None:
        said = {"ticket": self.grant.ticket, "session_id": self.grant.session_id}
        self.assertEqual(self.code(**said, at=ELSEWHERE), "")

    def test_address_of_the_owner(self) -> None:
        self.assertEqual(self.code(), "")

    def test_another_address(self) -> None:
        self.assertEqual(self.code(at=ELSEWHERE), Code.PORT_RESERVED)

    def test_wrong_ticket(self) -> None:
        """Even from the owner's address."""
        self.assertEqual(self.code(ticket="wrong"), Code.NOT_ADMITTED)

    def test_wrong_session_id(self) -> None:
        self.assertEqual(self.code(session_id="wrong"), Code.NOT_ADMITTED)

    def test_one_of_both_is_wrong(self) -> None:
        self.assertEqual(
            self.code(ticket="wrong", session_id=self.grant.session_id), Code.NOT_ADMITTED
        )
        self.assertEqual(self.code(ticket=self.grant.ticket, session_id="wrong"), Code.NOT_ADMITTED)

    def test_session_id_of_another_port(self) -> None:
        self.room.offer(ZMQ[1])
        other = self.room.acquire(self.fe).session_id
        self.assertEqual(self.code(session_id=other), Code.NOT_ADMITTED)

    def test_session_id_on_a_port_without_lease(self) -> None:
        self.room.offer(ZMQ[1])
        self.room.dial(ZMQ[1], session_id=self.grant.session_id)
        self.assertEqual(refusals(self.room.effects)[0][1], Code.NOT_ADMITTED)

    def test_refusal_names_no_credential(self) -> None:
        self.code(ticket="GUESS-T", session_id="GUESS-S")
        self.assertNotIn("GUESS-T", repr(self.room.effects))
        self.assertNotIn(self.grant.ticket, repr(self.room.effects))

    def test_pair_carries_the_session_id(self) -> None:
        self.code()
        (pair,) = of(self.room.effects, fx.Pair)
        self.assertEqual(
            (pair.to_fe.session_id, pair.to_be.session_id), (self.grant.session_id,) * 2
        )


class LastLeases(TestCase):
    """TTL_EXPIRED for one of the port's last 16 leases (section 6)."""

    def setUp(self) -> None:
        self.room = Room()
        self.fe = self.room.fe("f")
        self.room.offer(ZMQ[0])
        self.grants = []
        for _ in range(17):
            grant = self.room.acquire(self.fe)
            self.grants.append(grant)
            self.room.release(self.fe, grant.session_id)

    def code(self, **said: str) -> Code:
        self.room.dial(ZMQ[0], **said)
        ((_, code),) = refusals(self.room.effects)
        return code

    def test_by_session_id(self) -> None:
        codes = {self.code(session_id=grant.session_id) for grant in self.grants[1:]}
        self.assertEqual(codes, {Code.TTL_EXPIRED})

    def test_by_ticket(self) -> None:
        codes = {self.code(ticket=grant.ticket) for grant in self.grants[1:]}
        self.assertEqual(codes, {Code.TTL_EXPIRED})

    def test_the_seventeenth_before(self) -> None:
        self.assertEqual(self.code(session_id=self.grants[0].session_id), Code.NOT_ADMITTED)
        self.assertEqual(self.code(ticket=self.grants[0].ticket), Code.NOT_ADMITTED)

    def test_ticket_and_session_id_of_different_ones(self) -> None:
        one, two = self.grants[5], self.grants[6]
        self.assertEqual(self.code(session_id=one.session_id, ticket=two.ticket), Code.NOT_ADMITTED)

    def test_on_another_port(self) -> None:
        self.room.offer(ZMQ[1])
        self.room.dial(ZMQ[1], session_id=self.grants[-1].session_id)
        self.assertEqual(refusals(self.room.effects)[0][1], Code.NOT_ADMITTED)

    def test_expired_by_time(self) -> None:
        grant = self.room.acquire(self.fe, ttl_seconds=1)
        self.room.later(1)
        self.assertEqual(self.code(session_id=grant.session_id), Code.TTL_EXPIRED)
        self.assertNotIn(grant.ticket, repr(self.room.effects))
