"""Messages of ZMTP that are counted, timed and held to a limit while they go through."""

from __future__ import annotations

from relayx.core.messages import Cause
from relayx.core.policy import Policies, Policy
from relayx.core.zmtpseen import ZmtpSeen
from relayx.data.inspected import InspectedPump
from relayx.data.messageledger import MessagesMoved
from relayx.data.session import Session
from relayx.zmtp import PATTERNS, greeting_bytes
from tests.common import BE_AT
from tests.fuzzing import clean_log
from tests.test_zmtp_reader import command
from tests.zmtp_bed import Raws, Wire, message, opening

REQUEST = message(b"", more=True) + message(b"what?")
REPLY = message(b"", more=True) + message(b"that!" * 100)


class Counted(Raws):
    """``zmq.inspect: messages``."""

    settings = {"inspect": "messages"}

    def session(self) -> Session:
        found = self.plane.sessions.get("pair-1")
        assert found is not None
        return found

    def pushes(self, early: bytes = b"") -> tuple[Wire, Wire]:
        """A PUSH, the FE, and a PULL."""
        return self.pair(opening("PULL"), opening("PUSH") + early)

    def moved(self, pattern: str) -> MessagesMoved:
        totals = self.plane.sessions.messages_moved()
        self.assertEqual(tuple(totals), PATTERNS)
        others = {name for name, one in totals.items() if one != MessagesMoved()}
        self.assertTrue(others <= {pattern}, others)
        return totals[pattern]

    def test_both_ways(self) -> None:
        fe, be = self.pair(opening("ROUTER"), opening("DEALER") + message(b"early"))
        self.says(fe, message(b"a", more=True) + message(b"bc") + message(b"")[:1])
        self.assertEqual(self.moved("dealer_router"), MessagesMoved(2, 8, 0, 0))
        self.says(fe, message(b"")[1:] + command(b"\x04PING\0\0"))
        self.says(be, message(bytes(100000)))
        self.assertEqual(self.moved("dealer_router"), MessagesMoved(3, 8, 1, 100000))
        self.assertEqual(
            be.wrote,
            opening("DEALER") + message(b"early") + message(b"a", more=True) + message(b"bc")
            + message(b"") + command(b"\x04PING\0\0"),
        )  # fmt: skip
        self.assertTrue(fe.wrote.endswith(message(bytes(100000))))

    def test_what_is_over_counts_too(self) -> None:
        fe, _ = self.pushes(message(b"1"))
        self.says(fe, message(b"22"))
        self.perform(self.room.switchboard.end_session("pair-1", Cause.ADMIN))
        self.assertIsNone(self.plane.sessions.zmtp_seen("pair-1"))
        self.assertEqual(self.moved("push_pull"), MessagesMoved(2, 3, 0, 0))
        self.pushes(message(b"333"))
        self.assertEqual(self.moved("push_pull"), MessagesMoved(3, 6, 0, 0))
        self.assertEqual(self.outcomes[0].zmtp, ZmtpSeen("NULL", "PUSH", "PULL", 2, 0))

    def test_the_log_says_it(self) -> None:
        fe, be = self.pushes(message(b"1"))
        fe.connection.readConnectionLost()
        be.connection.readConnectionLost()
        for wire in (fe, be):
            wire.acknowledge()
        self.passes(1.0)
        note = self.end_line()
        self.assertTrue(
            note.text.endswith("; ZMTP of NULL, PUSH to PULL, 1 messages FE to BE, 0 BE to FE"),
            note.text,
        )
        found = {k: v for k, v in note.fields.items() if "_messages" in k or "zmtp" in k}
        self.assertEqual(found, {
            "zmtp_mechanism": "NULL", "zmtp_fe_type": "PUSH", "zmtp_be_type": "PULL",
            "fe_to_be_messages": 1, "be_to_fe_messages": 0,
        })  # fmt: skip

    def test_replies_are_timed(self) -> None:
        fe, be = self.pair(opening("REP"), opening("REQ"))
        for seconds in (0.25, 0.5):
            self.says(fe, REQUEST)
            self.clock.advance(seconds)
            self.says(be, REPLY[:40])
            self.assertEqual(self.replies, [])
            self.says(be, REPLY[40:])
            self.assertEqual(self.replies, [("req_rep", [seconds])])
            self.replies.clear()

    def test_a_request_that_came_with_the_handshake(self) -> None:
        """And a BE that asks."""
        fe, _ = self.pair(opening("REQ") + REQUEST, opening("REP"))
        self.clock.advance(2.0)
        self.says(fe, REPLY)
        self.assertEqual(self.replies, [("req_rep", [2.0])])

    def test_no_replies_to_time(self) -> None:
        fe, be = self.pair(opening("DEALER"), opening("ROUTER"))
        self.says(fe, REQUEST)
        self.says(be, REPLY)
        self.assertEqual(self.replies, [])

    def test_through_python(self) -> None:
        self.pushes()
        self.assertIsInstance(self.session().pump, InspectedPump)

    def test_thrown_away_is_not_counted(self) -> None:
        """A PULL that is gone gets nothing, nor does the PUSH count."""
        fe, _ = self.pushes()
        pump = self.session().pump
        pump.discard(fe)
        self.says(fe, message(b"x"))
        self.assertEqual(self.moved("push_pull"), MessagesMoved())

    def test_pushing_back(self) -> None:
        """As the path below has it."""
        fe, be = self.pushes()
        pump = self.session().pump
        be.producer.pauseProducing()
        self.assertEqual((pump.pushed_back(fe), pump.pushed_back(be)), (True, False))
        self.clock.advance(3.0)
        be.producer.resumeProducing()
        self.assertEqual((pump.stalled(fe), pump.stalled(be)), (3.0, 0.0))
        self.assertEqual((pump.throttled(fe), pump.held_back(fe)), (False, 0.0))

    def broke(self, fe: Wire, be: Wire, text: str, fault: str, lines: list[str]) -> None:
        """Both are closed at once, the log says why, and it is counted."""
        (outcome,) = self.outcomes
        self.assertEqual((outcome.cause, outcome.text), (Cause.LIMIT, text))
        self.assertEqual((fe.closed, be.closed), ("reset", "reset"))
        self.assertEqual(self.faults(), {fault: 1})
        self.assertEqual(len([line for line in lines if ": ZMTP with" in line]), 1)

    def test_garbage_in_traffic(self) -> None:
        fe, be = self.pushes()
        before = be.wrote
        with clean_log(self) as lines:
            self.says(fe, message(b"fine"))
            self.says(fe, b"garbage")
        self.broke(
            fe, be, "the FE broke ZMTP: a frame with flags 0x67; allowed are 0 to 3, 4 and 6",
            "malformed", lines,
        )  # fmt: skip
        self.assertEqual(be.wrote, before + message(b"fine"))

    def test_garbage_of_a_be(self) -> None:
        fe, be = self.pair(opening("REP"), opening("REQ") + REQUEST)
        with clean_log(self) as lines:
            self.says(be, b"\x08")
            self.says(be, b"and more")
        self.broke(
            fe, be, "the BE broke ZMTP: a frame with flags 0x08; allowed are 0 to 3, 4 and 6",
            "malformed", lines,
        )  # fmt: skip
        self.assertTrue(any(BE_AT in line for line in lines), lines)

    def test_garbage_where_nobody_looks(self) -> None:
        self.change(inspect="handshake")
        fe, be = self.pushes()
        self.says(fe, b"garbage")
        self.assertTrue(be.wrote.endswith(b"garbage"))
        self.assertEqual((self.faults(), self.moved("other")), ({}, MessagesMoved()))
        seen = self.plane.sessions.zmtp_seen("pair-1")
        assert seen is not None
        self.assertEqual((seen.fe_type, seen.fe_to_be_messages), ("PUSH", None))
        self.assertNotIn("fe_to_be_messages", seen.fields())

    def test_curve(self) -> None:
        """Its messages are commands, and nobody knows of which pattern."""
        fe, be = self.pair(greeting_bytes("CURVE"), greeting_bytes("CURVE"))
        for wire, said in (
            (fe, command(b"\x05HELLO" + bytes(194))), (be, command(b"\x07WELCOME" + bytes(160))),
            (fe, command(b"\x08INITIATE" + bytes(200))), (be, command(b"\x05READY" + bytes(40))),
            (fe, command(b"\x07MESSAGE" + bytes(33))),
        ):  # fmt: skip
            self.says(wire, said)
        self.assertEqual(self.moved("other"), MessagesMoved(1, 41, 0, 0))

    def test_reload(self) -> None:
        """For sessions that begin from then on."""
        fe, _ = self.pushes()
        self.change(inspect="handshake")
        self.says(fe, message(b"still counted"))
        self.assertEqual(self.moved("push_pull"), MessagesMoved(1, 13, 0, 0))
        self.perform(self.room.switchboard.end_session("pair-1", Cause.ADMIN))
        fe, be = self.pushes()
        self.says(fe, message(b"not counted"))
        self.assertTrue(be.wrote.endswith(message(b"not counted")))
        self.assertEqual(self.moved("push_pull"), MessagesMoved(1, 13, 0, 0))
        self.perform(self.room.switchboard.end_session("pair-2", Cause.ADMIN))
        self.assertEqual(self.moved("push_pull"), MessagesMoved(1, 13, 0, 0))


class Throttled(Raws):
    """With a bandwidth limit, whose pump is below."""

    settings = {"inspect": "messages"}

    def begin(self) -> None:
        """The BE is held to 80 kbit/s."""
        super().begin()
        policies = Policies([Policy(match="b", bandwidth=80_000)])
        self.room.switchboard.replace_policies(policies)
        self.room.be11("b")

    def test_counted_and_held(self) -> None:
        fe, be = self.pair(opening("PULL"), opening("PUSH"))
        self.says(fe, message(bytes(50_000)))
        session = self.plane.sessions.get("pair-1")
        assert session is not None
        self.assertTrue(session.pump.throttled(session.fe.transport))
        self.assertTrue(fe.paused)
        self.clock.advance(1.0)
        self.assertEqual(session.pump.held_back(fe), 1.0)
        self.assertEqual(
            self.plane.sessions.messages_moved()["push_pull"], MessagesMoved(1, 50_000, 0, 0)
        )
        self.assertTrue(be.wrote.endswith(message(bytes(50_000))))


class Limited(Raws):
    """``zmq.max_message_bytes``."""

    settings = {"inspect": "messages", "max_message_bytes": 1000}

    def test_at_the_limit(self) -> None:
        fe, _ = self.pair(opening("PULL"), opening("PUSH"))
        self.says(fe, message(bytes(500), more=True) + message(bytes(500)))
        self.assertTrue(self.running())

    def over(self, *said: bytes) -> None:
        """The last of these is not passed on; the rest is."""
        self.doCleanups()
        self.begin()
        fe, be = self.pair(opening("PULL"), opening("PUSH"))
        for data in said:
            self.says(fe, data)
        (outcome,) = self.outcomes
        self.assertEqual(outcome.cause, Cause.LIMIT)
        self.assertRegex(
            outcome.text, r"the FE broke ZMTP: a message of 1001 bytes( or more)?; 1000 is most"
        )
        self.assertEqual(self.faults(), {"too_big": 1})
        self.assertEqual(be.wrote, opening("PUSH") + b"".join(said[:-1]))
        self.assertEqual((fe.closed, be.closed), ("reset", "reset"))

    def test_over_it(self) -> None:
        whole = message(bytes(1001))
        self.over(whole[:9])
        self.over(whole)
        self.over(message(b"fits"), whole[:5], whole[5:9])
        self.over(message(bytes(600), more=True), message(bytes(401)))
        self.over(message(bytes(1000)), message(bytes(1001), more=True)[:9])

    def test_over_it_before_the_session(self) -> None:
        """A BE that waits has said it: it is the one that goes, and no FE is blamed for good."""
        fe, be = self.pair(opening("PULL") + message(bytes(1001)), opening("PUSH"))
        self.assertEqual(fe.wrote, greeting_bytes())
        self.assertEqual((fe.shut, be.shut, self.ready_ports()), (True, True, ()))
        (outcome,) = self.outcomes
        self.assertEqual(outcome.cause, Cause.BE_CLOSED)
        self.assertIn("1000 is most", outcome.text)

    def test_reload(self) -> None:
        self.change(max_message_bytes=0)
        fe, _ = self.pair(opening("PULL"), opening("PUSH"))
        self.says(fe, message(bytes(100_000)))
        self.assertTrue(self.running())
