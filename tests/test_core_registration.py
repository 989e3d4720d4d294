"""Registering, and what a registered client may ask (contract section 3)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from relayx.core import effects as fx
from relayx.core.codec import shown
from relayx.core.errors import Code, PeerError
from relayx.core.messages import (
    Auth,
    Error,
    KeyExchange,
    PortAlloc,
    PortState,
    PortStateQuery,
    Register,
    Role,
)
from tests.common import BE_AT, FE_AT, RANGES, SRT, ZMQ, Room, notes, of, sent, told


class Accepted(TestCase):
    """What follows a good register (section 3)."""

    def setUp(self) -> None:
        self.room = Room(server="relayx/9")

    def test_auth(self) -> None:
        conn = self.room.fe("me")
        self.assertEqual(
            sent(self.room.effects, conn)[0],
            Auth(status="ok", client_id="me", server="relayx/9", protocol="1.1"),
        )
        self.assertEqual(
            of(self.room.effects, fx.Registered), [fx.Registered(conn, Role.FE, "me", False)]
        )

    def test_fe_hears_in_order(self) -> None:
        be = self.room.be("b")
        self.room.ask(be, KeyExchange(public_key="PUB"))
        conn = self.room.fe()
        kinds = [type(message) for message in sent(self.room.effects, conn)]
        self.assertEqual(kinds, [Auth, PortAlloc, PortState, KeyExchange])
        self.assertEqual(sent(self.room.effects, conn)[1], RANGES)

    def test_be_hears_in_order(self) -> None:
        conn = self.room.be()
        kinds = [type(message) for message in sent(self.room.effects, conn)]
        self.assertEqual(kinds, [Auth, PortState])

    def test_name_for_one_that_gave_none(self) -> None:
        for name in ("fe-1", "fe-2"):
            conn = self.room.fe()
            self.assertEqual(sent(self.room.effects, conn)[0].client_id, name)

    def test_trace_id_in_each_reply(self) -> None:
        self.room.fe(trace_id="t")
        self.assertEqual({send.trace_id for send in of(self.room.effects, fx.Send)}, {"t"})

    def test_v1_state(self) -> None:
        """Only a 1.1 client hears of services (section 4)."""
        for protocol in ("", "1.0", "2"):
            conn = self.room.be(protocol=protocol)
            (state,) = [m for m in sent(self.room.effects, conn) if isinstance(m, PortState)]
            self.assertEqual(state, self.room.state(v11=False))
            self.assertFalse(of(self.room.effects, fx.Registered)[0].v11)

    def test_v11_state(self) -> None:
        conn = self.room.be11()
        (state,) = [m for m in sent(self.room.effects, conn) if isinstance(m, PortState)]
        self.assertEqual(state, self.room.state(v11=True))
        self.assertTrue(of(self.room.effects, fx.Registered)[0].v11)

    def test_registering_changes_no_port(self) -> None:
        self.room.fe()
        self.assertEqual(of(self.room.effects, fx.StateChanged), [])

    def test_longest_client_id(self) -> None:
        self.room.fe("x" * 128)
        self.assertEqual(len(of(self.room.effects, fx.Registered)), 1)

    def test_side_by_side_without_instance(self) -> None:
        """Registrations without instance live side by side under one id, as v1 had it."""
        one, two = self.room.be("b"), self.room.be("b")
        self.assertEqual(of(self.room.effects, fx.CloseControl), [])
        self.assertEqual([c.conn for c in self.room.switchboard.clients()], [one, two])

    def test_note(self) -> None:
        self.room.fe("me", trace_id="t")
        (note,) = notes(self.room.effects, "registered")
        self.assertEqual(
            note.fields, {"role": "FE", "client_id": "me", "address": FE_AT, "trace_id": "t"}
        )


class Refusing(TestCase):
    """A look at a registration that is refused."""

    def refused(self, room: Room, conn: int, code: Code) -> Auth:
        """Check that a registration was refused and changed nothing."""
        sends, closes = of(room.effects, fx.Send), of(room.effects, fx.CloseControl)
        self.assertEqual([s.conn for s in sends], [conn])
        self.assertEqual(closes, [fx.CloseControl(conn)])
        self.assertTrue(room.effects.index(sends[0]) < room.effects.index(closes[0]))
        auth = sends[0].message
        self.assertEqual((auth.status, auth.error_code, auth.client_id), ("error", code, ""))
        self.assertTrue(auth.error)
        self.assertIsNone(room.switchboard.client(conn))
        self.assertEqual(of(room.effects, fx.Registered), [])
        return auth


class Refused(Refusing):
    """auth with an error, then close (section 3)."""

    def test_wrong_secret(self) -> None:
        room = Room()
        self.refused(room, room.fe(authentic=False), Code.AUTH_FAILED)
        self.assertNotIn("SECRET", repr(room.effects))

    def test_wrong_secret_tells_nothing_else(self) -> None:
        room = Room()
        conn = room.register("XX", "a\n", authentic=False)
        self.refused(room, conn, Code.AUTH_FAILED)

    def test_role(self) -> None:
        room = Room()
        for role in ("", "fe", "XX", "A\nB"):
            auth = self.refused(room, room.register(role), Code.INVALID_REQUEST)
            self.assertIn("FE and BE", auth.error)
            self.assertTrue(auth.error.isprintable())

    def test_client_id(self) -> None:
        room = Room()
        for bad in ("x" * 129, "a\x1b", "a\n"):
            auth = self.refused(room, room.fe(bad), Code.INVALID_REQUEST)
            self.assertIn("128 printable", auth.error)
            self.assertIn(f"client_id is {shown(bad)}, {len(bad)} characters", auth.error)

    def test_instance(self) -> None:
        """Its length is told; itself, with which a client's place is taken, is not."""
        room = Room()
        auth = self.refused(room, room.fe("a", instance="x" * 257), Code.INVALID_REQUEST)
        self.assertEqual(auth.error, "instance has 257 bytes; allowed: at most 256")

    def test_while_stopping(self) -> None:
        """Section 9."""
        room = Room()
        room.stop()
        self.refused(room, room.fe(), Code.DRAINING)

    def test_trace_id(self) -> None:
        room = Room()
        room.fe(authentic=False, trace_id="t")
        self.assertEqual(of(room.effects, fx.Send)[0].trace_id, "t")

    def test_note(self) -> None:
        room = Room()
        room.fe(authentic=False)
        (note,) = notes(room.effects, "register_failed")
        self.assertEqual(
            (note.level, note.fields["error_code"], note.fields["address"]),
            ("warn", "AUTH_FAILED", FE_AT),
        )

    def test_not_register(self) -> None:
        """Also the answer to a first message that is not register."""
        room = Room()
        error = PeerError(Code.REGISTER_REQUIRED, "first", trace_id="t")
        room.did(room.switchboard.rejected(5, FE_AT, error))
        auth = self.refused(room, 5, Code.REGISTER_REQUIRED)
        self.assertEqual(auth.error, "first")
        self.assertEqual(of(room.effects, fx.Send)[0].trace_id, "t")


class Capacity(Refusing):
    """max_fe and max_be (sections 1, 3 and 8)."""

    def test_full_of_fes(self) -> None:
        room = Room(max_fe=2, max_be=1)
        room.fe(), room.fe()
        auth = self.refused(room, room.fe(), Code.CAPACITY)
        self.assertIn("relay.max_fe", auth.error)
        self.assertIsNotNone(room.switchboard.client(room.be()))

    def test_full_of_bes(self) -> None:
        room = Room(max_fe=1, max_be=1)
        room.be()
        self.assertIn("relay.max_be", self.refused(room, room.be(), Code.CAPACITY).error)

    def test_a_lost_be_does_not_count(self) -> None:
        room = Room(max_be=1)
        room.lose(room.be("b1"))
        self.assertIsNotNone(room.switchboard.client(room.be("b2")))
        self.refused(room, room.be("b3"), Code.CAPACITY)

    def test_a_lost_fe_does_not_count(self) -> None:
        room = Room(max_fe=1)
        room.lose(room.fe())
        self.assertIsNotNone(room.switchboard.client(room.fe()))

    def test_taking_over_needs_no_room(self) -> None:
        room = Room(max_be=1)
        room.be("b", instance="i1")
        self.assertIsNotNone(room.switchboard.client(room.be("b", instance="i2")))

    def test_taking_over_a_lost_one_needs_room(self) -> None:
        room = Room(max_be=1)
        room.lose(room.be("b1", instance="i1"))
        room.be("b2")
        self.refused(room, room.be("b1", instance="i2"), Code.CAPACITY)

    def test_a_refused_takeover_leaves_the_other(self) -> None:
        room = Room(max_be=1)
        lost = room.be("b1", instance="i1")
        room.offer(ZMQ[0], "b1")
        room.lose(lost)
        room.be("b2")
        room.be("b1", instance="i2")
        self.assertEqual(of(room.effects, fx.CloseLink), [])
        self.assertEqual(room.state().zmq_ready_ports, (ZMQ[0],))


class Asking(TestCase):
    """Messages of registered clients (section 3)."""

    def setUp(self) -> None:
        self.room = Room()
        self.fe, self.be = self.room.fe("f"), self.room.be("b")

    def test_state_of_both(self) -> None:
        self.room.offer(ZMQ[0])
        for query in (PortStateQuery(), PortStateQuery(need_zmq=True, need_srt=True)):
            self.room.ask(self.fe, query, trace_id="t")
            self.assertEqual(self.room.effects, [fx.Send(self.fe, self.room.state(v11=False), "t")])

    def test_state_of_one_protocol(self) -> None:
        self.room.ask(self.fe, PortStateQuery(need_zmq=True))
        (state,) = sent(self.room.effects, self.fe)
        self.assertEqual((state.zmq_empty_ports, state.srt_empty_ports), (ZMQ, ()))
        self.assertEqual((state.zmq_total, state.srt_total), (3, 2))
        self.room.ask(self.fe, PortStateQuery(need_srt=True))
        (state,) = sent(self.room.effects, self.fe)
        self.assertEqual((state.zmq_empty_ports, state.srt_empty_ports), ((), SRT))

    def test_state_for_a_11_client(self) -> None:
        conn = self.room.be11()
        self.room.ask(conn, PortStateQuery())
        self.assertEqual(sent(self.room.effects, conn), [self.room.state(v11=True)])

    def test_a_bes_port_alloc(self) -> None:
        """Its own numbers are not used; every FE hears the ranges, and it gets telemetry."""
        self.room.ask(self.be, PortAlloc(zmq_start_port=1, zmq_end_port=9), trace_id="t")
        self.assertEqual(
            self.room.effects,
            [fx.Subscribe(self.be), fx.Broadcast(Role.FE, RANGES, "t")],
        )

    def test_an_fes_port_alloc(self) -> None:
        self.error(self.fe, PortAlloc())

    def test_an_fes_key(self) -> None:
        self.error(self.fe, KeyExchange(public_key="PUB"))

    def test_register_again(self) -> None:
        self.error(self.fe, Register(role="FE", secret="SECRET"))

    def error(self, conn: int, message: object) -> None:
        self.room.ask(conn, message, msg_id="m", trace_id="t")
        (send,) = of(self.room.effects, fx.Send)
        (note,) = notes(self.room.effects, "message_refused")
        self.assertEqual(len(self.room.effects), 2)
        self.assertEqual((send.conn, send.trace_id), (conn, "t"))
        self.assertEqual(note.fields["trace_id"], "t")
        self.assertIsInstance(send.message, Error)
        self.assertEqual(
            (send.message.error_code, send.message.in_reply_to), (Code.INVALID_REQUEST, "m")
        )
        self.assertNotIn("SECRET", send.message.error)


class Keys(TestCase):
    """key_exchange (section 3)."""

    def setUp(self) -> None:
        self.room = Room()
        self.be = self.room.be("b")

    def heard(self) -> list[KeyExchange]:
        """What an FE that registers now hears."""
        conn = self.room.fe()
        return [m for m in sent(self.room.effects, conn) if isinstance(m, KeyExchange)]

    def test_every_fe_hears_it(self) -> None:
        self.room.ask(self.be, KeyExchange(public_key="PUB"), trace_id="t")
        self.assertEqual(
            self.room.effects,
            [fx.Broadcast(Role.FE, KeyExchange(public_key="PUB", client_id="b"), "t")],
        )

    def test_client_id_is_the_bes(self) -> None:
        self.room.ask(self.be, KeyExchange(public_key="PUB", client_id="somebody"))
        self.assertEqual(told(self.room.effects, Role.FE)[0].client_id, "b")

    def test_the_latest_of_each_be_for_later_ones(self) -> None:
        other = self.room.be("a")
        self.room.ask(other, KeyExchange(public_key="A"))
        for key in ("OLD", "NEW"):
            self.room.ask(self.be, KeyExchange(public_key=key))
        self.assertEqual(
            self.heard(),
            [
                KeyExchange(public_key="NEW", client_id="b"),
                KeyExchange(public_key="A", client_id="a"),
            ],
        )

    def test_until_it_is_reaped(self) -> None:
        self.room.ask(self.be, KeyExchange(public_key="PUB"))
        self.room.lose(self.be)
        self.assertEqual(len(self.heard()), 1)
        self.room.later(10)
        self.assertEqual(self.heard(), [])

    def test_private_key_is_dropped_and_counted(self) -> None:
        self.room.ask(self.be, KeyExchange(public_key="PUB", private_key="PRIVATE"), trace_id="t")
        self.assertNotIn("PRIVATE", repr(told(self.room.effects, Role.FE)))
        self.assertEqual(
            told(self.room.effects, Role.FE), [KeyExchange(public_key="PUB", client_id="b")]
        )
        self.assertEqual(self.room.board.private_keys_dropped, 1)
        (note,) = notes(self.room.effects, "private_key")
        self.assertEqual(note.level, "warn")
        self.assertNotIn("PRIVATE", repr(note))
        self.assertNotIn("PRIVATE", repr(self.heard()))

    def test_no_private_key_is_no_warning(self) -> None:
        self.room.ask(self.be, KeyExchange(public_key="PUB"))
        self.assertEqual(notes(self.room.effects, "private_key"), [])
        self.assertEqual(self.room.board.private_keys_dropped, 0)

    def test_after_a_takeover(self) -> None:
        self.room.ask(self.be, KeyExchange(public_key="PUB"))
        self.room.be("b", instance="i")
        self.assertEqual(self.heard(), [KeyExchange(public_key="PUB", client_id="b")])

    def test_address_is_not_told(self) -> None:
        self.room.ask(self.be, KeyExchange(public_key="PUB"))
        self.assertNotIn(BE_AT, repr(told(self.room.effects, Role.FE)))
