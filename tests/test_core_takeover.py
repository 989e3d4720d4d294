"""Takeover (contract section 3, the paragraph of that name)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from relayx.core import effects as fx
from relayx.core.errors import Code
from relayx.core.messages import Error, KeyExchange, PortAlloc, Role, SessionEnd
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


class Taking(TestCase):
    """Another instance takes the place of a live registration."""

    def setUp(self) -> None:
        self.room = Room()

    def live(self) -> list[int]:
        return [client.conn for client in self.room.switchboard.clients()]

    def test_the_old_one_is_told_and_closed(self) -> None:
        old = self.room.be11("b", instance="i1")
        new = self.room.be11("b", instance="i2")
        (error,) = sent(self.room.effects, old)
        self.assertIsInstance(error, Error)
        self.assertEqual(error.error_code, Code.TAKEN_OVER)
        self.assertIn(BE_AT, error.error)
        self.assertEqual(of(self.room.effects, fx.CloseControl), [fx.CloseControl(old)])
        position = self.room.effects.index(fx.CloseControl(old))
        self.assertTrue(self.room.effects.index(fx.Send(old, error)) < position)
        self.assertEqual(self.live(), [new])

    def test_the_old_one_says_nothing_any_more(self) -> None:
        old = self.room.be("b", instance="i1")
        self.room.be("b", instance="i2")
        self.assertEqual(self.room.ask(old, PortAlloc()), [])

    def test_the_end_of_the_old_connection_changes_nothing(self) -> None:
        old = self.room.be("b", instance="i1")
        new = self.room.be("b", instance="i2")
        self.room.offer(ZMQ[0], "b")
        self.assertEqual(self.room.lose(old), [])
        self.assertEqual(self.room.later(100), [])
        self.assertEqual((self.live(), self.room.state().zmq_ready_ports), ([new], (ZMQ[0],)))

    def test_of_one_without_instance(self) -> None:
        old = self.room.fe("f")
        new = self.room.fe("f", instance="i")
        self.assertEqual(sent(self.room.effects, old)[0].error_code, Code.TAKEN_OVER)
        self.assertEqual(self.live(), [new])

    def test_not_by_one_without_instance(self) -> None:
        old = self.room.fe("f", instance="i")
        new = self.room.fe("f")
        self.assertEqual(of(self.room.effects, fx.CloseControl), [])
        self.assertEqual(self.live(), [old, new])

    def test_not_of_another_role(self) -> None:
        old = self.room.fe("x", instance="i1")
        new = self.room.be("x", instance="i2")
        self.assertEqual(self.live(), [old, new])

    def test_not_of_another_id(self) -> None:
        old = self.room.be("b1", instance="i1")
        new = self.room.be("b2", instance="i2")
        self.assertEqual(self.live(), [old, new])

    def test_not_by_an_empty_id(self) -> None:
        old = self.room.be("", instance="i1")
        new = self.room.be("", instance="i2")
        self.assertEqual(self.live(), [old, new])

    def test_of_every_one_of_that_id(self) -> None:
        """Several registrations without instance live under one id: all of them go."""
        old = [self.room.be("b"), self.room.be("b"), self.room.be("b")]
        links = [self.room.offer(port, "b") for port in ZMQ]
        new = self.room.be("b", instance="i")
        closes = [effect.conn for effect in of(self.room.effects, fx.CloseControl)]
        self.assertEqual(closes, old)
        self.assertEqual(sorted(closed(self.room.effects)), links)
        self.assertEqual(self.live(), [new])

    def test_not_of_an_fe_that_is_lost(self) -> None:
        """Unlike a BE, an FE leaves nothing that could be taken over."""
        self.room.lose(self.room.fe("f", instance="i1"))
        self.room.fe("f", instance="i2")
        self.assertEqual(notes(self.room.effects, "taken_over"), [])

    def test_from_another_address(self) -> None:
        self.room.be("b", instance="i1")
        new = self.room.be("b", instance="i2", at=ELSEWHERE)
        self.assertEqual(self.live(), [new])

    def test_note(self) -> None:
        self.room.be("b", instance="i1")
        self.room.be("b", instance="i2")
        (note,) = notes(self.room.effects, "taken_over")
        self.assertEqual(note.fields["client_id"], "b")


class Inheriting(TestCase):
    """Leases and sessions go with it; waiting connections are closed."""

    def setUp(self) -> None:
        self.room = Room()

    def test_an_fes_lease(self) -> None:
        old = self.room.fe11("f", instance="i1")
        self.room.offer(ZMQ[0])
        lease = self.room.acquire(old).session_id
        new = self.room.fe11("f", instance="i2")
        self.assertEqual(told(self.room.effects, Role.BE), [])
        self.assertEqual(self.room.leases(new), {lease})
        self.room.release(new, lease)
        self.assertEqual(len(self.room.board.leases), 0)

    def test_a_bes_lease(self) -> None:
        lease = self.room.acquire(self.room.be11("b", instance="i1")).session_id
        new = self.room.be11("b", instance="i2")
        self.assertEqual(self.room.leases(new), {lease})
        self.room.offer(ZMQ[0], "b")
        self.assertEqual(self.room.state().zmq_ready_ports, (ZMQ[0],))

    def test_waiting_connections_of_a_be_are_closed(self) -> None:
        self.room.be11("b", instance="i1")
        mine = [self.room.offer(ZMQ[0], "b"), self.room.offer(SRT[0])]
        self.room.be11("other", at=ELSEWHERE)
        self.room.offer(ZMQ[1], "other", at=ELSEWHERE)
        self.room.be11("b", instance="i2")
        self.assertEqual(sorted(closed(self.room.effects)), sorted(mine))
        self.assertEqual(self.room.state().zmq_ready_ports, (ZMQ[1],))
        self.assertEqual(len(of(self.room.effects, fx.StateChanged)), 1)

    def test_the_state_that_it_hears_is_after_that(self) -> None:
        self.room.be11("b", instance="i1")
        self.room.offer(ZMQ[0], "b")
        new = self.room.be11("b", instance="i2")
        self.assertEqual(sent(self.room.effects, new)[1], self.room.state())

    def test_waiting_connections_of_an_fe_are_closed(self) -> None:
        old = self.room.fe11("f", instance="i1")
        be = self.room.offer(ZMQ[0])
        lease = self.room.acquire(old).session_id
        self.room.hang_up(be)
        waiting = self.room.dial(ZMQ[0], session_id=lease)
        new = self.room.fe11("f", instance="i2")
        self.assertEqual(closed(self.room.effects), [waiting])
        self.assertEqual(refusals(self.room.effects), [])
        self.assertEqual(self.room.leases(new), {lease})
        self.assertEqual(self.room.later(3), [])

    def test_a_session_goes_on_and_its_end_is_told_to_the_new_ones(self) -> None:
        old_fe, _ = self.room.fe11("f", instance="i1"), self.room.be11("b", instance="i1")
        self.room.offer(ZMQ[0], "b")
        lease = self.room.acquire(old_fe).session_id
        self.room.dial(ZMQ[0], session_id=lease)
        session = pairing(self.room.effects)
        fe = self.room.fe11("f", instance="i2")
        self.assertEqual(of(self.room.effects, fx.EndSession), [])
        be = self.room.be11("b", instance="i2")
        self.assertEqual(of(self.room.effects, fx.EndSession), [])
        self.room.over(session)
        for conn in (fe, be):
            self.assertIsInstance(sent(self.room.effects, conn)[0], SessionEnd)

    def test_a_session_under_an_ended_lease(self) -> None:
        """The lease of a running session has ended: it is still the FE's."""
        old = self.room.fe11("f", instance="i1")
        self.room.offer(ZMQ[0])
        lease = self.room.acquire(old).session_id
        self.room.dial(ZMQ[0], session_id=lease)
        session = pairing(self.room.effects)
        self.room.release(old, lease)
        new = self.room.fe11("f", instance="i2", at=ELSEWHERE)
        self.room.over(session)
        self.assertEqual(len(sent(self.room.effects, new)), 1)

    def test_telemetry_does_not_go_to_another_process(self) -> None:
        self.room.ask(self.room.be("b", instance="i1"), PortAlloc())
        self.room.be("b", instance="i2")
        self.assertEqual(of(self.room.effects, fx.Subscribe), [])


class LostBe(TestCase):
    """The same holds for a BE that is lost but not yet reaped."""

    def setUp(self) -> None:
        self.room = Room()
        self.old = self.room.be11("b", instance="i1")
        self.link = self.room.offer(ZMQ[0], "b")
        self.lease = self.room.acquire(self.old, need_srt=True, ttl_seconds=60).session_id
        self.room.lose(self.old)
        self.room.later(5)

    def test_lease_and_key_go_with_it(self) -> None:
        new = self.room.be11("b", instance="i2")
        self.assertEqual(self.room.leases(new), {self.lease})

    def test_its_waiting_connections_are_closed(self) -> None:
        self.room.be11("b", instance="i2")
        self.assertEqual(closed(self.room.effects), [self.link])

    def test_nothing_is_sent_to_its_dead_connection(self) -> None:
        self.room.be11("b", instance="i2")
        self.assertEqual(sent(self.room.effects, self.old), [])
        self.assertEqual(of(self.room.effects, fx.CloseControl), [])

    def test_it_is_never_reaped(self) -> None:
        new = self.room.be11("b", instance="i2")
        self.room.offer(ZMQ[0], "b")
        self.assertEqual(self.room.later(20), [])
        self.assertEqual(self.room.leases(new), {self.lease})

    def test_the_same_instance_keeps_the_waiting_connections(self) -> None:
        new = self.room.be11("b", instance="i1")
        self.assertEqual(closed(self.room.effects), [])
        self.assertEqual(self.room.leases(new), {self.lease})
        self.assertEqual(self.room.state().zmq_ready_ports, (ZMQ[0],))
        self.assertEqual(self.room.later(20), [])


class SameInstance(TestCase):
    """The same process coming back: nothing else changes."""

    def setUp(self) -> None:
        self.room = Room()

    def test_closed_without_taken_over(self) -> None:
        old = self.room.be11("b", instance="i")
        new = self.room.be11("b", instance="i")
        self.assertEqual(sent(self.room.effects, old), [])
        self.assertEqual(of(self.room.effects, fx.CloseControl), [fx.CloseControl(old)])
        self.assertEqual([c.conn for c in self.room.switchboard.clients()], [new])
        self.assertEqual(notes(self.room.effects, "taken_over"), [])

    def test_matched_without_a_client_id(self) -> None:
        self.room.be11("", instance="i")
        new = self.room.be11("", instance="i")
        self.assertEqual(self.room.names.given["be"], 1)
        self.assertEqual(sent(self.room.effects, new)[0].client_id, "be-1")
        self.assertEqual([c.conn for c in self.room.switchboard.clients()], [new])

    def test_matched_by_the_name_that_it_was_given(self) -> None:
        self.room.be11("", instance="i")
        new = self.room.be11("be-1", instance="i")
        self.assertEqual([c.conn for c in self.room.switchboard.clients()], [new])
        self.assertEqual(notes(self.room.effects, "taken_over"), [])

    def test_not_of_another_role(self) -> None:
        self.room.be11("", instance="i")
        self.room.fe11("", instance="i")
        self.assertEqual(len(self.room.switchboard.clients()), 2)

    def test_waiting_connections_stay(self) -> None:
        self.room.be11("b", instance="i")
        self.room.offer(ZMQ[0], "b")
        self.room.be11("b", instance="i")
        self.assertEqual(closed(self.room.effects), [])
        self.assertEqual(of(self.room.effects, fx.StateChanged), [])
        self.assertEqual(self.room.state().zmq_ready_ports, (ZMQ[0],))

    def test_a_waiting_fe_stays(self) -> None:
        old = self.room.fe11("f", instance="i")
        be = self.room.offer(ZMQ[0])
        lease = self.room.acquire(old).session_id
        self.room.hang_up(be)
        waiting = self.room.dial(ZMQ[0], session_id=lease)
        self.room.fe11("f", instance="i")
        self.assertEqual(closed(self.room.effects), [])
        be = self.room.offer(ZMQ[0])
        (pair,) = of(self.room.effects, fx.Pair)
        self.assertEqual((pair.fe, pair.be), (waiting, be))

    def test_leases_stay(self) -> None:
        lease = self.room.acquire(self.room.be11("b", instance="i")).session_id
        new = self.room.be11("b", instance="i")
        self.assertEqual(self.room.leases(new), {lease})

    def test_telemetry_goes_on(self) -> None:
        self.room.ask(self.room.be("b", instance="i"), PortAlloc())
        new = self.room.be("b", instance="i")
        self.assertEqual(of(self.room.effects, fx.Subscribe), [fx.Subscribe(new)])

    def test_telemetry_does_not_begin(self) -> None:
        self.room.be("b", instance="i")
        self.room.be("b", instance="i")
        self.assertEqual(of(self.room.effects, fx.Subscribe), [])

    def test_link_telemetry(self) -> None:
        """It is each registration's own to ask for, and a 1.1 BE's alone."""
        asked = [
            self.room.be11("b", instance="i", link_telemetry=True),
            self.room.be11("b", instance="i"),
            self.room.be("v1", link_telemetry=True),
            self.room.fe11("f", link_telemetry=True),
        ]
        clients = [self.room.switchboard.client(conn) for conn in asked]
        found = [client and client.link_telemetry for client in clients]
        self.assertEqual(found, [None, False, False, False])
        again = self.room.switchboard.client(self.room.be11("b", instance="i", link_telemetry=True))
        assert again is not None
        self.assertTrue(again.link_telemetry)

    def test_key_stays(self) -> None:
        self.room.ask(self.room.be("b", instance="i"), KeyExchange(public_key="PUB"))
        self.room.be("b", instance="i")
        fe = self.room.fe()
        self.assertIn(KeyExchange(public_key="PUB", client_id="b"), sent(self.room.effects, fe))


class Warnings(TestCase):
    """More than 3 takeovers of one id a minute are a warning."""

    def setUp(self) -> None:
        self.room = Room()
        self.room.be("b", instance="i0")

    def warned(self, seconds: float, instance: str) -> bool:
        self.room.now += seconds
        self.room.be("b", instance=instance)
        return any(note.level == "warn" for note in notes(self.room.effects, "takeovers"))

    def test_the_fourth(self) -> None:
        self.assertEqual([self.warned(1, f"i{n}") for n in (1, 2, 3, 4)], [False] * 3 + [True])

    def test_within_a_minute(self) -> None:
        self.assertEqual([self.warned(21, f"i{n}") for n in (1, 2, 3, 4, 5, 6)], [False] * 6)

    def test_the_same_process_coming_back_is_none(self) -> None:
        self.assertEqual([self.warned(1, "i0") for _ in range(6)], [False] * 6)

    def test_counted_over_a_return_of_the_same_process(self) -> None:
        """Nothing else changes when one comes back: the count does not begin anew."""
        told = [self.warned(1, name) for name in ("i1", "i2", "i2", "i3", "i4")]
        self.assertEqual(told, [False] * 4 + [True])
