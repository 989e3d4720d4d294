"""The end of a session: who is told, and what becomes of the port (contract sections 3 and 7)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from relayx.core import effects as fx
from relayx.core.messages import Cause, SessionEnd
from relayx.core.pairing import Stalls
from relayx.logs import FIELDS
from tests.common import (
    BE_AT,
    ELSEWHERE,
    FE_AT,
    SRT,
    ZMQ,
    Room,
    notes,
    of,
    pairing,
    sent,
)


class Port(TestCase):
    """What becomes of the port (sections 4 and 7)."""

    def setUp(self) -> None:
        self.room = Room()
        self.be, self.fe = self.room.offer(ZMQ[0]), self.room.dial(ZMQ[0])
        self.session = pairing(self.room.effects)

    def test_empty(self) -> None:
        self.room.over(self.session)
        self.assertEqual(of(self.room.effects, fx.Wait), [])
        self.assertEqual(self.room.board.links, {})
        self.assertEqual(self.room.board.sessions, {})
        self.assertEqual(len(of(self.room.effects, fx.StateChanged)), 1)

    def test_kept(self) -> None:
        self.room.over(self.session, kept=True)
        self.assertEqual(of(self.room.effects, fx.Wait), [fx.Wait(self.be)])
        self.assertEqual(set(self.room.board.links), {self.be})

    def test_kept_be_serves_many_in_turn(self) -> None:
        for n in range(2, 5):
            self.room.over(self.session, kept=True)
            fe = self.room.dial(ZMQ[0])
            (pair,) = of(self.room.effects, fx.Pair)
            self.assertEqual((pair.fe, pair.be, pair.pairing_id), (fe, self.be, f"pair-{n}"))
            self.session = pair.pairing_id

    def test_kept_be_that_hangs_up_between_sessions(self) -> None:
        self.room.over(self.session, kept=True)
        self.room.hang_up(self.be)
        self.assertEqual(self.room.state().zmq_empty_ports, ZMQ)


class Recipients(TestCase):
    """session_end goes to the 1.1 clients at both ends (section 3)."""

    def setUp(self) -> None:
        self.room = Room()

    def end(self, port: int = ZMQ[0], **said: str) -> list[int]:
        """Who is told of the end of a session with such an FE."""
        self.room.dial(port, **said)
        self.room.over(pairing(self.room.effects))
        sends = of(self.room.effects, fx.Send)
        self.assertTrue(all(isinstance(send.message, SessionEnd) for send in sends))
        return [send.conn for send in sends]

    def test_message(self) -> None:
        fe, be = self.room.fe11("f"), self.room.be11("b")
        self.room.offer(SRT[1], "b")
        lease = self.room.acquire(fe, need_srt=True, trace_id="t").session_id
        self.room.dial(SRT[1], session_id=lease)
        self.room.over(
            pairing(self.room.effects), cause=Cause.FE_RESET, text="the FE reset",
            fe_to_be_bytes=10, be_to_fe_bytes=20, seconds=1.23456789,
        )  # fmt: skip
        expected = SessionEnd(
            pairing_id="pair-1", session_id=lease, protocol="srt", port=SRT[1], cause="fe_reset",
            error="the FE reset", fe_to_be_bytes=10, be_to_fe_bytes=20, seconds=1.234568,
        )  # fmt: skip
        self.assertEqual(sent(self.room.effects, fe), [expected])
        self.assertEqual(sent(self.room.effects, be), [expected])
        self.assertEqual({send.trace_id for send in of(self.room.effects, fx.Send)}, {"t"})

    def test_note(self) -> None:
        self.room.offer(ZMQ[0], "b")
        self.end(client_id="f")
        (note,) = notes(self.room.effects, "session_end")
        self.assertEqual(note.level, "info")
        self.assertEqual(
            note.fields,
            {"port": ZMQ[0], "protocol": "zmq", "cause": "fe_closed", "pairing_id": "pair-1",
             "session_id": "", "trace_id": "", "fe": "f", "be": "b", "fe_to_be_bytes": 3,
             "be_to_fe_bytes": 4, "seconds": 1.5, "messages_dropped": 0,
             "fe_stall_seconds": 0.0, "be_stall_seconds": 0.0,
             "fe_throttled_seconds": 0.0, "be_throttled_seconds": 0.0},
        )  # fmt: skip

    def test_note_of_a_slow_session(self) -> None:
        """Who kept whom waiting, in words and in fields that the log shows."""
        self.room.offer(ZMQ[0])
        self.room.dial(ZMQ[0])
        self.room.over(pairing(self.room.effects), stalls=Stalls(fe=2.5, be_throttled=1.0))
        (note,) = notes(self.room.effects, "session_end")
        self.assertIn("; the BE waited 2.500 s for the FE to read, ", note.text)
        self.assertEqual(
            (note.fields["fe_stall_seconds"], note.fields["be_throttled_seconds"]), (2.5, 1.0)
        )
        self.assertLessEqual(set(note.fields), FIELDS)

    def test_v1_clients_are_not_told(self) -> None:
        self.room.fe("f"), self.room.be("b")
        self.room.offer(ZMQ[0], "b")
        self.assertEqual(self.end(client_id="f"), [])

    def test_bystanders_are_not_told(self) -> None:
        self.room.fe11("f"), self.room.be11("b")
        self.room.offer(ZMQ[0], at="203.0.113.1")
        self.assertEqual(self.end(at="203.0.113.2"), [])

    def test_the_be_by_its_id(self) -> None:
        be = self.room.be11("b", at=ELSEWHERE)
        self.room.be11("c")
        self.room.offer(ZMQ[0], "b")
        self.assertEqual(self.end(), [be])

    def test_the_be_by_its_address(self) -> None:
        be = self.room.be11("b")
        self.room.offer(ZMQ[0], at=BE_AT)
        self.assertEqual(self.end(), [be])

    def test_the_fe_by_its_lease(self) -> None:
        """The owner of the lease, whatever its HELLO says."""
        fe = self.room.fe11("f", at=ELSEWHERE)
        self.room.fe11("g")
        self.room.offer(ZMQ[0])
        lease = self.room.acquire(fe).session_id
        self.assertEqual(self.end(client_id="g", session_id=lease), [fe])

    def test_the_fe_by_its_id_at_its_address(self) -> None:
        fe = self.room.fe11("f")
        self.room.offer(ZMQ[0])
        self.assertEqual(self.end(client_id="f"), [fe])

    def test_the_fe_by_its_id_at_another_address(self) -> None:
        self.room.fe11("f", at=ELSEWHERE)
        self.room.offer(ZMQ[0])
        self.assertEqual(self.end(client_id="f"), [])

    def test_not_the_fe_by_its_address_alone(self) -> None:
        self.room.fe11("f")
        self.room.offer(ZMQ[0])
        self.assertEqual(self.end(at=FE_AT), [])

    def test_a_bes_lease_does_not_make_it_the_fe(self) -> None:
        be, fe = self.room.be11("b"), self.room.fe11("f")
        lease = self.room.acquire(be).session_id
        self.room.offer(ZMQ[0], "b")
        self.assertEqual(self.end(session_id=lease, client_id="f"), [fe, be])

    def test_the_newest_of_several_fes(self) -> None:
        self.room.fe11("f")
        newest = self.room.fe11("f")
        self.room.offer(ZMQ[0])
        self.assertEqual(self.end(client_id="f"), [newest])

    def test_lost_ones_are_not_told(self) -> None:
        fe, be = self.room.fe11("f"), self.room.be11("b")
        self.room.offer(ZMQ[0], "b")
        lease = self.room.acquire(fe).session_id
        self.room.dial(ZMQ[0], session_id=lease)
        session = pairing(self.room.effects)
        self.room.lose(fe)
        self.room.lose(be)
        self.room.over(session)
        self.assertEqual(of(self.room.effects, fx.Send), [])

    def test_the_fe_by_its_id_where_the_owner_of_its_lease_is_gone(self) -> None:
        """A client that comes back without an instance under its id while the session runs."""
        old = self.room.fe11("f")
        self.room.offer(ZMQ[0])
        lease = self.room.acquire(old).session_id
        self.room.dial(ZMQ[0], "f", session_id=lease)
        session = pairing(self.room.effects)
        self.room.lose(old)
        back = self.room.fe11("f")
        self.room.over(session)
        self.assertEqual(len(sent(self.room.effects, back)), 1)

    def test_an_owner_whose_lease_has_ended(self) -> None:
        fe = self.room.fe11("f")
        self.room.offer(ZMQ[0])
        lease = self.room.acquire(fe).session_id
        self.room.dial(ZMQ[0], session_id=lease)
        session = pairing(self.room.effects)
        self.room.release(fe, lease)
        self.room.over(session)
        self.assertEqual(len(sent(self.room.effects, fe)), 1)

    def test_before_the_port_is_pushed(self) -> None:
        """session_end is sent when the port leaves busy: in the same event."""
        self.room.fe11("f")
        self.room.offer(ZMQ[0])
        self.end(client_id="f")
        kinds = [type(effect) for effect in self.room.effects]
        self.assertTrue(kinds.index(fx.Send) < kinds.index(fx.StateChanged))
