"""Connections of ZMTP without HELLO in the rules: roles, places that are kept, credentials."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from relayx.core import effects as fx
from relayx.core.errors import Code
from relayx.core.messages import Cause, PortGrant, Role
from relayx.core.zmtpseen import ZmtpSeen
from tests.common import BE_AT, ELSEWHERE, FE_AT, ZMQ, Room, closed, notes, of, refusals

PORT = ZMQ[0]


class RawRoom(Room):
    """A room to which connections of ZMTP come."""

    def raw(
        self,
        at: str,
        kind: str = "",
        credentials: tuple[str, str] | None = None,
        port: int = PORT,
        again: int = 0,
    ) -> int:
        """A connection without HELLO; return its number, which it has already where it is `again`.

        :param credentials: user name and password, None where it shows none.
        """
        link = again or self.number()
        self.did(self.switchboard.zmtp(self.now, link, port, at, credentials, kind))
        return link

    def role(self, at: str, kind: str = "", *, shown: bool = False) -> Role:
        return self.switchboard.role_by_state(self.now, PORT, at, kind, shown=shown)


def paired(effects: list[fx.Effect]) -> fx.Pair:
    """The one session that begins."""
    (pair,) = of(effects, fx.Pair)
    return pair


class Roles(SynchronousTestCase):
    """By what the port waits for (issue: direct mode)."""

    def test_be_then_fe(self) -> None:
        room = RawRoom()
        be = room.raw(BE_AT)
        self.assertEqual(of(room.effects, fx.Wait), [fx.Wait(be)])
        fe = room.raw(FE_AT)
        pair = paired(room.effects)
        self.assertEqual((pair.fe, pair.be, pair.keep), (fe, be, False))

    def test_never_kept(self) -> None:
        """ZeroMQ's own end of stream has to reach the BE, whatever is configured for others."""
        room = RawRoom(keep=True)
        room.raw(BE_AT)
        room.raw(FE_AT)
        self.assertFalse(paired(room.effects).keep)

    def test_nor_is_one_of_hello(self) -> None:
        """Its program is in the middle of ZMTP, and would not greet the next FE."""
        room = RawRoom(keep=True)
        for said in ({}, {"on_fe_close": "keep"}):
            be = room.offer(PORT, **said)
            room.raw(FE_AT)
            pair = paired(room.effects)
            self.assertEqual((pair.be, pair.keep), (be, False))
            room.over(pair.pairing_id)
        room.offer(PORT)
        room.dial(PORT)
        self.assertTrue(paired(room.effects).keep)

    def test_a_third_is_refused(self) -> None:
        room = RawRoom()
        room.raw(BE_AT)
        room.raw(FE_AT)
        room.raw(ELSEWHERE)
        self.assertEqual([one.code for one in of(room.effects, fx.Refuse)], [Code.PORT_BUSY])

    def test_by_address(self) -> None:
        """In peer admission, an FE on an empty port is told so and stays an FE."""
        room = RawRoom(admission="peer")
        room.fe11("f")
        room.be11("b")
        room.raw(FE_AT)
        self.assertEqual([one.code for one in of(room.effects, fx.Refuse)], [Code.PORT_EMPTY])
        room.raw(ELSEWHERE)
        self.assertEqual([one.code for one in of(room.effects, fx.Refuse)], [Code.NOT_ADMITTED])
        be = room.raw(BE_AT)
        fe = room.raw(FE_AT)
        pair = paired(room.effects)
        self.assertEqual((pair.fe, pair.be), (fe, be))

    def test_a_port_that_is_none(self) -> None:
        room = RawRoom()
        self.assertIs(room.switchboard.role_by_state(room.now, 9, BE_AT), Role.FE)
        room.raw(BE_AT, port=9)
        self.assertEqual([one.code for one in of(room.effects, fx.Refuse)], [Code.DRAINING])


class Kept(SynchronousTestCase):
    """The place of a BE that has given a handshake up, for 2 s."""

    def setUp(self) -> None:
        self.room = RawRoom()
        self.be = self.room.raw(BE_AT, "REP")

    def ports(self) -> tuple[int, ...]:
        return self.room.state().zmq_ready_ports

    def test_comes_back(self) -> None:
        for _ in range(3):
            self.assertEqual(self.room.hang_up(self.be), [])
            self.assertEqual(self.room.later(1.99), [])
            self.be = self.room.raw(BE_AT, "REP")
            self.assertEqual(of(self.room.effects, fx.StateChanged), [])
            self.assertEqual(self.room.later(5), [])
        fe = self.room.raw(FE_AT, "REQ")
        pair = paired(self.room.effects)
        self.assertEqual((pair.fe, pair.be), (fe, self.be))

    def test_stays_away(self) -> None:
        self.room.hang_up(self.be)
        self.room.later(2.0)
        self.assertEqual(len(of(self.room.effects, fx.StateChanged)), 1)
        self.assertEqual(self.ports(), ())
        self.assertIs(self.room.role(BE_AT, "REP"), Role.BE)

    def test_an_fe_waits_for_it(self) -> None:
        self.room.hang_up(self.be)
        fe = self.room.raw(FE_AT, "REQ")
        self.assertEqual(of(self.room.effects, fx.Wait), [fx.Wait(fe)])
        be = self.room.raw(BE_AT, "REP")
        pair = paired(self.room.effects)
        self.assertEqual((pair.fe, pair.be), (fe, be))

    def test_an_fe_waits_in_vain(self) -> None:
        self.room.hang_up(self.be)
        self.room.raw(FE_AT, "REQ")
        self.room.later(2.0)
        self.assertEqual([one.code for one in of(self.room.effects, fx.Refuse)], [Code.PORT_EMPTY])

    def test_whose_it_is(self) -> None:
        """One at its address, of its kind; an FE on the same host is told apart by that."""
        self.assertIs(self.room.role(BE_AT, "REP"), Role.FE)
        self.room.hang_up(self.be)
        for at, kind, role in (
            (BE_AT, "REP", Role.BE), (BE_AT, "REQ", Role.FE), (BE_AT, "", Role.FE),
            (ELSEWHERE, "REP", Role.FE),
        ):  # fmt: skip
            self.assertIs(self.room.role(at, kind), role, (at, kind))

    def test_another_be_does_not_take_it(self) -> None:
        self.room.hang_up(self.be)
        self.room.offer(PORT, at=ELSEWHERE)
        self.assertEqual([one.code for one in of(self.room.effects, fx.Refuse)], [Code.PORT_BUSY])
        self.assertEqual(self.ports(), (PORT,))

    def test_one_of_hello_has_none(self) -> None:
        link = self.room.offer(ZMQ[1])
        self.room.hang_up(link)
        self.assertEqual(self.ports(), (PORT,))

    def test_lost_while_it_is_being_paired(self) -> None:
        """The session is what ends then, and the place is not kept beside it."""
        fe = self.room.raw(FE_AT, "REQ")
        found = paired(self.room.effects)
        for link in (self.be, fe):
            self.assertEqual(self.room.hang_up(link), [])
        self.room.over(found.pairing_id)
        self.assertEqual((self.ports(), self.room.board.links), ((), {}))

    def test_not_while_stopping(self) -> None:
        self.room.hang_up(self.be)
        self.room.stop()
        self.assertEqual(self.ports(), ())
        other = RawRoom()
        be = other.raw(BE_AT)
        other.stop()
        self.assertEqual(closed(other.effects), [be])
        self.assertEqual(other.hang_up(be), [])

    def test_over_is_told(self) -> None:
        """What was seen of ZMTP is in the line of its end, and only there."""
        self.room.raw(FE_AT, "REQ")
        found = paired(self.room.effects)
        seen = ZmtpSeen("NULL", "REQ", "REP", 5, 4)
        self.room.over(found.pairing_id, zmtp=seen, cause=Cause.FE_CLOSED)
        (note,) = notes(self.room.effects, "session_end")
        self.assertIn("ZMTP of NULL, REQ to REP, 5 messages FE to BE, 4 BE to FE", note.text)
        self.assertEqual(
            (note.fields["zmtp_fe_type"], note.fields["be_to_fe_messages"]), ("REQ", 4)
        )


class Credentials(SynchronousTestCase):
    """``ticket`` admission by PLAIN."""

    def setUp(self) -> None:
        self.room = RawRoom(admission="ticket")
        self.fe, self.be = self.room.fe11("f"), self.room.be11("b")
        self.waiting = self.room.raw(BE_AT)
        self.grant: PortGrant = self.room.acquire(self.fe)

    def refused(self, told: tuple[str, str] | None, at: str = FE_AT) -> None:
        self.room.raw(at, "", told)
        self.assertEqual(
            [one.code for one in of(self.room.effects, fx.Refuse)], [Code.NOT_ADMITTED]
        )

    def admitted(self, told: tuple[str, str], at: str = FE_AT) -> None:
        fe = self.room.raw(at, "", told)
        pair = paired(self.room.effects)
        self.assertEqual((pair.fe, pair.be), (fe, self.waiting))
        self.assertEqual(pair.to_be.client_id, "f")
        self.assertEqual(pair.to_fe.session_id, self.grant.session_id)

    def test_session_id(self) -> None:
        self.admitted(("f", self.grant.session_id))

    def test_ticket(self) -> None:
        self.admitted(("f", self.grant.ticket))

    def test_ticket_from_elsewhere(self) -> None:
        """A lease is its owner's, wherever its data connection comes from."""
        self.admitted(("f", self.grant.ticket), at=ELSEWHERE)

    def test_wrong(self) -> None:
        session_id, ticket = self.grant.session_id, self.grant.ticket
        for told in (
            None, ("f", ""), ("f", "wrong"), ("g", session_id), ("", session_id),
            ("f", session_id + "x"), ("f\n", ticket), ("f" * 300, ticket), ("f", "x" * 5000),
        ):  # fmt: skip
            self.refused(told)
        self.admitted(("f", session_id))

    def test_a_ticket_says_enough(self) -> None:
        """As in HELLO, whose client_id may be left out."""
        self.room.raw(FE_AT, "", ("", self.grant.ticket))
        self.assertEqual(paired(self.room.effects).to_fe.session_id, self.grant.session_id)

    def test_of_a_lease_that_has_ended(self) -> None:
        self.room.release(self.fe, self.grant.session_id)
        self.refused(("f", self.grant.session_id))

    def test_a_be_that_is_not_registered(self) -> None:
        """It tells nothing, so that it is known by its address alone."""
        room = RawRoom(admission="ticket")
        room.raw(BE_AT)
        self.assertEqual([one.code for one in of(room.effects, fx.Refuse)], [Code.NOT_ADMITTED])
        room.be11("b")
        room.raw(BE_AT)
        self.assertEqual(room.state().zmq_ready_ports, (PORT,))

    def test_who_shows_credentials_is_no_be(self) -> None:
        """Wherever it comes from and whatever it shows; without a lease an empty port stays so."""
        room = RawRoom(admission="ticket")
        room.be11("b")
        for told in (("nobody", "x"), ("", ""), ("b", "")):
            room.raw(BE_AT, "", told)
            self.assertEqual([one.code for one in of(room.effects, fx.Refuse)], [Code.NOT_ADMITTED])
            self.assertEqual(of(room.effects, fx.StateChanged), [])
        self.assertIs(room.role(BE_AT, shown=True), Role.FE)
        self.assertIs(room.role(BE_AT), Role.BE)

    def test_nor_in_a_place_that_is_kept(self) -> None:
        self.room.hang_up(self.waiting)
        fe = self.room.raw(BE_AT, "", ("f", self.grant.ticket))
        self.assertEqual(of(self.room.effects, fx.Wait), [fx.Wait(fe)])
        self.waiting = self.room.raw(BE_AT)
        self.assertEqual(paired(self.room.effects).be, self.waiting)

    def test_other_admission_asks_for_none(self) -> None:
        """There a client of PLAIN may be the BE, as with NULL."""
        for admission in ("open", "peer"):
            room = RawRoom(admission=admission)
            room.be11("b")
            room.raw(BE_AT, "", ("u", "p"))
            self.assertEqual(room.state().zmq_ready_ports, (PORT,))

    def test_credentials_that_come_late(self) -> None:
        """Who waits as a BE leaves that place at once, and comes as an FE."""
        owner, ticket = self.waiting, self.grant.ticket
        self.room.raw(BE_AT, "", ("f", "wrong"), again=owner)
        self.assertEqual(len(of(self.room.effects, fx.StateChanged)), 1)
        self.assertEqual([one.link for one in of(self.room.effects, fx.Refuse)], [owner])
        self.assertEqual(
            (self.room.board.links, self.room.board.ports[PORT].waiting_be), ({}, None)
        )
        late = self.room.raw(BE_AT)
        self.room.raw(BE_AT, "", ("f", ticket), again=late)
        self.assertEqual(of(self.room.effects, fx.Wait), [fx.Wait(late)])
        self.waiting = self.room.raw(BE_AT)
        pair = paired(self.room.effects)
        self.assertEqual((pair.fe, pair.be), (late, self.waiting))
        self.assertEqual(self.room.did(self.room.switchboard.zmtp(
            self.room.now, self.waiting, PORT, BE_AT, ("f", ticket)
        )), [])  # its session goes on  # fmt: skip

    def test_no_secret_is_logged(self) -> None:
        self.refused(("f", "a-ticket-that-is-wrong"))
        self.assertNotIn("a-ticket-that-is-wrong", repr(of(self.room.effects, fx.Note)))
        self.admitted(("f", self.grant.ticket))
        self.assertNotIn(self.grant.ticket, repr(of(self.room.effects, fx.Note)))
        self.assertEqual(refusals(self.room.effects), [])
