"""port_acquire and its answer (contract sections 3 and 5)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from relayx.core import effects as fx
from relayx.core.errors import Code, StateError
from relayx.core.leases import Lease, LeaseTable
from relayx.core.messages import PortAcquire, PortGrant, Role
from tests.common import ELSEWHERE, SRT, START, ZMQ, Room, notes, of, sent, told


class Granting(TestCase):
    """What a grant says, and to whom (section 3, port_grant)."""

    def setUp(self) -> None:
        self.room = Room(advertise_host="relay.example")
        self.fe, self.other_fe, self.be = self.room.fe("f"), self.room.fe("g"), self.room.be("b")

    def test_to_an_fe(self) -> None:
        self.room.offer(ZMQ[0])
        grant = self.room.acquire(self.fe, request_id="r-1", ttl_seconds=60)
        self.assertEqual(
            grant,
            PortGrant(
                request_id="r-1", session_id="sess-1", zmq_port=ZMQ[0],
                expires_at=int((START + 60) * 1000), host="relay.example", ticket="TICKET-1",
            ),
        )  # fmt: skip

    def test_every_be_hears_of_it_without_the_ticket(self) -> None:
        self.room.offer(ZMQ[0])
        self.room.acquire(self.fe, request_id="r-1")
        (heard,) = told(self.room.effects, Role.BE)
        self.assertEqual((heard.session_id, heard.zmq_port, heard.ticket), ("sess-1", ZMQ[0], ""))
        self.assertEqual(heard.request_id, "r-1")
        self.assertEqual(told(self.room.effects, Role.FE), [])
        self.assertEqual(len(of(self.room.effects, fx.Send)), 1)

    def test_a_bes_goes_to_every_fe_with_the_ticket(self) -> None:
        grant = self.room.acquire(self.be)
        self.assertEqual(grant.ticket, "TICKET-1")
        self.assertEqual(told(self.room.effects, Role.FE), [grant])
        self.assertEqual(told(self.room.effects, Role.BE), [])

    def test_the_port_that_is_not_asked_for_is_absent(self) -> None:
        self.room.offer(SRT[0])
        grant = self.room.acquire(self.fe, need_srt=True)
        self.assertEqual((grant.zmq_port, grant.srt_port), (0, SRT[0]))

    def test_both(self) -> None:
        grant = self.room.acquire(self.be, need_zmq=True, need_srt=True)
        self.assertEqual((grant.zmq_port, grant.srt_port), (ZMQ[0], SRT[0]))

    def test_default_time(self) -> None:
        self.assertEqual(self.room.acquire(self.be).expires_at, int((START + 30) * 1000))

    def test_trace_id_in_the_reply_and_what_it_causes(self) -> None:
        self.room.offer(ZMQ[0])
        self.room.acquire(self.fe, trace_id="t-1")
        (send,) = of(self.room.effects, fx.Send)
        (broadcast,) = of(self.room.effects, fx.Broadcast)
        (changed,) = of(self.room.effects, fx.StateChanged)
        self.assertEqual([send.trace_id, broadcast.trace_id, changed.trace_id], ["t-1"] * 3)

    def test_note_holds_no_ticket(self) -> None:
        self.room.acquire(self.be)
        (note,) = notes(self.room.effects, "granted")
        self.assertNotIn("TICKET", repr(note))
        self.assertEqual(note.fields["session_id"], "sess-1")


class Failing(TestCase):
    """The requester alone hears why there is none (sections 3 and 5)."""

    def setUp(self) -> None:
        self.room = Room()
        self.fe, self.be = self.room.fe("f"), self.room.be("b")

    def refused(self, conn: int, code: Code, **asked: object) -> PortGrant:
        grant = self.room.acquire(conn, **asked)
        self.assertEqual(
            (grant.session_id, grant.expires_at, grant.error_code, grant.ticket, grant.zmq_port),
            ("", 0, code, "", 0),
        )
        self.assertTrue(grant.error)
        self.assertEqual(of(self.room.effects, fx.Broadcast), [])
        self.assertEqual(of(self.room.effects, fx.StateChanged), [])
        self.assertEqual(len(self.room.board.leases), 0)
        return grant

    def test_nothing_ready(self) -> None:
        grant = self.refused(self.fe, Code.PORT_EXHAUSTED, request_id="r-9", trace_id="t")
        self.assertEqual(grant.request_id, "r-9")
        self.assertEqual(of(self.room.effects, fx.Send)[0].trace_id, "t")

    def test_all_or_nothing(self) -> None:
        self.room.offer(ZMQ[0])
        grant = self.refused(self.fe, Code.PORT_EXHAUSTED, need_zmq=True, need_srt=True)
        self.assertIn("srt", grant.error)

    def test_all_or_nothing_of_a_be(self) -> None:
        for port in SRT:
            self.room.offer(port)
        self.refused(self.be, Code.PORT_EXHAUSTED, need_zmq=True, need_srt=True)

    def test_neither(self) -> None:
        self.refused(self.fe, Code.INVALID_REQUEST, need_zmq=False)

    def test_ttl_out_of_range(self) -> None:
        self.room.offer(ZMQ[0])
        for ttl in (-1, 601, 10**12):
            grant = self.refused(self.fe, Code.INVALID_REQUEST, ttl_seconds=ttl)
            self.assertIn(str(ttl), grant.error)
            self.assertIn("600", grant.error)

    def test_ttl_at_its_limits(self) -> None:
        for ttl in (1, 600):
            grant = self.room.acquire(self.be, ttl_seconds=ttl)
            self.assertEqual(grant.expires_at, int((START + ttl) * 1000))

    def test_service_that_is_none(self) -> None:
        self.assertIn("Web", self.refused(self.fe, Code.INVALID_REQUEST, service="Web").error)
        self.refused(self.fe, Code.INVALID_REQUEST, service="x" * 65)

    def test_be_that_is_no_id(self) -> None:
        for bad, wanted in (("a\nb", '"a\\nb", 3'), ("x" * 129, "129 characters")):
            grant = self.refused(self.fe, Code.INVALID_REQUEST, be=bad)
            self.assertIn(wanted, grant.error)
            self.assertIn("128 printable", grant.error)

    def test_request_id_too_long(self) -> None:
        grant = self.refused(self.fe, Code.INVALID_REQUEST, request_id="x" * 257)
        self.assertEqual(grant.request_id, "")
        self.assertEqual(grant.error, "request_id has 257 bytes; allowed: at most 256")

    def test_longest_request_id(self) -> None:
        self.assertEqual(self.room.acquire(self.be, request_id="x" * 256).request_id, "x" * 256)

    def test_while_stopping(self) -> None:
        """Section 9."""
        self.room.stop()
        self.refused(self.be, Code.DRAINING)
        self.refused(self.fe, Code.DRAINING)


class FePorts(TestCase):
    """Which ports an FE gets (section 5)."""

    def setUp(self) -> None:
        self.room = Room()
        self.fe = self.room.fe("f")

    def taken(self, **asked: object) -> tuple[int, int] | str:
        grant = self.room.acquire(self.fe, **asked)
        return grant.error_code or (grant.zmq_port, grant.srt_port)

    def test_longest_ready(self) -> None:
        for port in (ZMQ[1], ZMQ[2], ZMQ[0]):
            self.room.offer(port)
        self.assertEqual(
            [self.taken() for _ in range(4)],
            [(ZMQ[1], 0), (ZMQ[2], 0), (ZMQ[0], 0), "PORT_EXHAUSTED"],
        )

    def test_not_one_under_a_bes_lease(self) -> None:
        """port_acquire passes over a port under any lease (section 4)."""
        self.room.acquire(self.room.be("b"))
        self.room.offer(ZMQ[0], "b")
        self.assertEqual(self.room.state().zmq_ready_ports, (ZMQ[0],))
        self.assertEqual(self.taken(), "PORT_EXHAUSTED")

    def test_not_a_busy_one(self) -> None:
        self.room.offer(ZMQ[0])
        self.room.dial(ZMQ[0])
        self.assertEqual(self.taken(), "PORT_EXHAUSTED")

    def test_of_its_service(self) -> None:
        self.room.offer(ZMQ[0])
        self.room.offer(ZMQ[1], service="web")
        self.assertEqual(self.taken(service="web"), (ZMQ[1], 0))
        self.assertEqual(self.taken(service="web"), "PORT_EXHAUSTED")
        self.assertEqual(self.taken(service="other"), "PORT_EXHAUSTED")
        self.assertEqual(self.taken(), (ZMQ[0], 0))
        self.assertEqual(self.taken(), "PORT_EXHAUSTED")

    def test_of_one_be(self) -> None:
        self.room.be("b1")
        self.room.be("b2")
        self.room.offer(ZMQ[0], "b1")
        self.room.offer(ZMQ[1], "b2")
        self.assertEqual(self.taken(be="b2"), (ZMQ[1], 0))
        self.assertEqual(self.taken(be="b2"), "PORT_EXHAUSTED")
        self.assertEqual(self.taken(be="nobody"), "PORT_EXHAUSTED")
        self.assertEqual(self.taken(be="b1"), (ZMQ[0], 0))

    def test_of_one_be_by_its_address(self) -> None:
        """A connection without a known id is the BE's that is registered at its address."""
        self.room.be("b1", at=ELSEWHERE)
        self.room.be("b2")
        self.room.offer(ZMQ[0], at=ELSEWHERE)
        self.room.offer(ZMQ[1], "other", at=ELSEWHERE)
        self.assertEqual(self.taken(be="b2"), "PORT_EXHAUSTED")
        self.assertEqual(self.taken(be="b1"), (ZMQ[0], 0))
        self.assertEqual(self.taken(be="b1"), (ZMQ[1], 0))

    def test_nobodys_is_not_a_named_bes(self) -> None:
        self.room.offer(ZMQ[0], "b1")
        self.assertEqual(self.taken(be="b1"), "PORT_EXHAUSTED")
        self.assertEqual(self.taken(), (ZMQ[0], 0))

    def test_two_of_one_be(self) -> None:
        """Not the longest ready ones, where a BE has both ready."""
        self.room.be("b1")
        self.room.be("b2")
        self.room.offer(ZMQ[0], "b1")
        self.room.offer(SRT[0], "b2")
        self.room.offer(ZMQ[1], "b2")
        self.assertEqual(self.taken(need_zmq=True, need_srt=True), (ZMQ[1], SRT[0]))

    def test_two_of_one_be_longest_ready(self) -> None:
        self.room.be("b1")
        for port in (SRT[1], SRT[0], ZMQ[2], ZMQ[1]):
            self.room.offer(port, "b1")
        self.assertEqual(self.taken(need_zmq=True, need_srt=True), (ZMQ[2], SRT[1]))

    def test_two_of_one_be_by_its_address(self) -> None:
        """Whatever the HELLO of each of its connections says."""
        self.room.be("b1", at=ELSEWHERE)
        self.room.be("b2")
        self.room.offer(ZMQ[0], at=ELSEWHERE)
        self.room.offer(SRT[0], "one")
        self.room.offer(ZMQ[1], "other")
        self.assertEqual(self.taken(need_zmq=True, need_srt=True), (ZMQ[1], SRT[0]))

    def test_two_of_one_that_has_not_registered(self) -> None:
        """Nobody's connections are of one BE where id and address are the same."""
        self.room.offer(ZMQ[0], "a", at=ELSEWHERE)
        self.room.offer(ZMQ[1], "b")
        self.room.offer(SRT[0], "a")
        self.room.offer(ZMQ[2], "a")
        self.assertEqual(self.taken(need_zmq=True, need_srt=True), (ZMQ[2], SRT[0]))

    def test_two_of_two_bes(self) -> None:
        self.room.be("b1")
        self.room.be("b2")
        self.room.offer(ZMQ[2], "b1")
        self.room.offer(SRT[1], "b2")
        self.assertEqual(self.taken(need_zmq=True, need_srt=True), (ZMQ[2], SRT[1]))


class BePorts(TestCase):
    """Which ports a BE gets (section 5)."""

    def setUp(self) -> None:
        self.room = Room()
        self.be = self.room.be("b")

    def test_empty_ones_in_port_order(self) -> None:
        self.room.offer(ZMQ[1])
        taken = [self.room.acquire(self.be) for _ in range(3)]
        self.assertEqual([g.zmq_port for g in taken], [ZMQ[0], ZMQ[2], 0])
        self.assertEqual(taken[2].error_code, "PORT_EXHAUSTED")

    def test_not_one_under_an_fes_lease(self) -> None:
        """Even an FE's lease on a port that has lost its BE."""
        link = self.room.offer(ZMQ[0])
        self.room.acquire(self.room.fe("f"))
        self.room.hang_up(link)
        self.assertEqual(self.room.acquire(self.be).zmq_port, ZMQ[1])

    def test_not_a_busy_one(self) -> None:
        self.room.offer(ZMQ[0])
        self.room.dial(ZMQ[0])
        self.assertEqual(self.room.acquire(self.be).zmq_port, ZMQ[1])


class Tables(TestCase):
    """The lease table on its own."""

    def setUp(self) -> None:
        self.room = Room()
        self.owner = self.room.switchboard.client(self.room.be("b"))
        self.ports = [self.room.board.ports[n] for n in (ZMQ[0], SRT[0])]
        self.lease = Lease("s", "t", self.owner, 5.0, self.ports)

    def test_add_and_end(self) -> None:
        table = LeaseTable()
        table.add(self.lease)
        self.assertEqual((len(table), list(table), table.get("s")), (1, [self.lease], self.lease))
        self.assertEqual(table.of(self.owner), [self.lease])
        table.end(self.lease, [self.ports[0]])
        self.assertEqual((self.lease.ports, table.get("s")), ([self.ports[1]], self.lease))
        self.assertIsNone(self.ports[0].lease)
        table.end(self.lease, [self.ports[1]])
        self.assertEqual((len(table), table.get("s"), table.of(self.owner)), (0, None, []))

    def test_a_port_is_under_one_lease(self) -> None:
        """Section 4: at most one; nothing is changed where one is taken."""
        table = LeaseTable()
        table.add(Lease("s", "t", self.owner, 5.0, [self.ports[1]]))
        with self.assertRaises(StateError):
            table.add(Lease("s2", "t2", self.owner, 5.0, self.ports))
        self.assertIsNone(self.ports[0].lease)
        self.assertIsNone(table.get("s2"))

    def test_ticket(self) -> None:
        self.assertTrue(self.lease.matches_ticket("t"))
        for other in ("", "T", "t ", "t\udc80", "é"):
            self.assertFalse(self.lease.matches_ticket(other))


class Requests(TestCase):
    """Who may ask (section 3)."""

    def test_one_who_has_not_registered(self) -> None:
        room = Room()
        self.assertEqual(room.ask(99, PortAcquire(need_zmq=True)), [])

    def test_fe_grant_is_the_first_thing_sent(self) -> None:
        room = Room()
        conn = room.fe("f")
        room.offer(ZMQ[0])
        grant = room.acquire(conn)
        self.assertEqual(sent(room.effects, conn), [grant])
