"""What clients may do by their ids (contract section 1, ``clients``)."""

from __future__ import annotations

import time
import tracemalloc

from twisted.trial.unittest import SynchronousTestCase

from relayx.core import effects as fx
from relayx.core.errors import Code
from relayx.core.messages import Auth, Protocol, Register, Role
from relayx.core.policy import ANYBODY, Policies, Policy
from tests.common import ELSEWHERE, SRT, ZMQ, Room, of, pairs, refusals, sent


class Matching(SynchronousTestCase):
    """The first entry whose pattern matches holds, and it alone."""

    def found(self, client_id: str, *patterns: str) -> str:
        return Policies(Policy(match=pattern, max_leases=1) for pattern in patterns).of(
            client_id
        ).match  # fmt: skip

    def test_first_of_several(self) -> None:
        self.assertEqual(self.found("cam-1", "cam-1", "cam-*", "*"), "cam-1")
        self.assertEqual(self.found("cam-2", "cam-1", "cam-*", "*"), "cam-*")
        self.assertEqual(self.found("other", "cam-1", "cam-*", "*"), "*")
        self.assertEqual(self.found("cam-1", "*", "cam-1"), "*")

    def test_none(self) -> None:
        self.assertIs(Policies().of("cam-1"), ANYBODY)
        self.assertIs(Policies([Policy(match="cam-*")]).of("web"), ANYBODY)

    def test_patterns(self) -> None:
        for pattern, matching, others in (
            ("cam-?", ("cam-1", "cam-x"), ("cam-", "cam-12", "Cam-1", "xcam-1")),
            ("*-x", ("-x", "a-x", "a-b-x"), ("x", "a-x ", "a-X")),
            ("[ab]", ("[ab]",), ("a", "b")),
            ("[!a]*", ("[!a]", "[!a]b"), ("b",)),
            ("a.b", ("a.b",), ("axb",)),
            ("?", ("é", "x"), ("", "ab")),
            ("*", ("", "anything", "a\u2028b"), ()),
            ("a", ("a",), ("a\n", "A")),
        ):
            policies = Policies([Policy(match=pattern)])
            for client_id in matching:
                self.assertEqual(policies.of(client_id).match, pattern, client_id)
            for client_id in others:
                self.assertIs(policies.of(client_id), ANYBODY, (pattern, client_id))

    def test_what_is_too_long_for_an_id_is_not_kept(self) -> None:
        """Whoever dials says it before any secret is compared, as long as a message may be."""
        policies = Policies([Policy(match="*x"), Policy(match="cam-*")])
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before, _ = tracemalloc.get_traced_memory()
        for number in range(200):
            self.assertEqual(policies.of(f"cam-{number}" + "y" * 50_000).match, "cam-*")
        after, _ = tracemalloc.get_traced_memory()
        self.assertLess(after - before, 1_000_000)

    def test_many_stars_take_no_time(self) -> None:
        policies = Policies([Policy(match="*a" * 32 + "b")])
        began = time.thread_time()
        self.assertIs(policies.of("a" * 128), ANYBODY)
        self.assertLess(time.thread_time() - began, 1)

    def test_made_up_names_are_the_empty_id(self) -> None:
        policies = Policies([Policy(match="fe-*"), Policy(match="?*"), Policy(match="**")])
        self.assertEqual(policies.of("").match, "**")


class Registering(SynchronousTestCase):
    """Which policy is looked at, and what it says of roles (section 3)."""

    def test_role(self) -> None:
        room = Room(Policy(match="cam-*", roles=(Role.BE,)))
        room.be("cam-1"), room.fe("viewer")
        conn = room.fe("cam-1")
        (auth,) = sent(room.effects, conn)
        self.assertIsInstance(auth, Auth)
        self.assertEqual((auth.status, auth.error_code), ("error", "AUTH_FAILED"))
        self.assertIn("allowed: BE", auth.error)
        self.assertEqual(of(room.effects, fx.CloseControl), [fx.CloseControl(conn)])

    def test_wrong_secret_learns_nothing_of_the_policy(self) -> None:
        room = Room(Policy(match="cam-*", roles=(Role.BE,)))
        conn = room.fe("cam-1", authentic=False)
        self.assertEqual(sent(room.effects, conn)[0].error, "the secret is wrong")

    def policy_of(self, room: Room, role: str, client_id: str, instance: str = "") -> str:
        asked = Register(role=role, client_id=client_id, instance=instance)
        return room.switchboard.policy(asked).match

    def test_another_ones_instance(self) -> None:
        """A certificate's name has its own rules, whoever's instance it comes with."""
        room = Room(Policy(match="locked", own_secret=True))
        room.fe11("free", instance="I")
        asked = Register(role="FE", instance="I")
        self.assertEqual(room.switchboard.policy(asked, "locked").match, "locked")
        room.fe11("locked", instance="J")
        asked = Register(role="FE", instance="J")
        self.assertEqual(room.switchboard.policy(asked, "locked").match, "locked")

    def test_id_that_counts(self) -> None:
        """The asked one; for "" that of the same instance; "" for a made-up one."""
        room = Room(Policy(match="cam-*"), Policy(match="fe-*"), Policy(match="*", max_leases=1))
        room.fe11("cam-1", instance="I"), room.fe11("", instance="J")
        self.assertEqual(room.board.roster.named(Role.FE, "fe-1").asked_id, "")
        for role, client_id, instance, match in (
            ("FE", "cam-2", "", "cam-*"),
            ("FE", "", "", "*"),
            ("FE", "", "I", "cam-*"),
            ("BE", "", "I", "*"),
            ("FE", "", "unknown", "*"),
            ("FE", "", "J", "*"),
            ("FE", "fe-1", "J", "*"),
            ("FE", "fe-1", "other", "fe-*"),
            ("neither", "cam-1", "I", "cam-*"),
        ):
            self.assertEqual(self.policy_of(room, role, client_id, instance), match, client_id)

    def test_made_up_name_stays_one(self) -> None:
        room = Room(Policy(match="fe-*", roles=(Role.BE,)))
        room.fe11("", instance="J")
        conn = room.fe11("fe-1", instance="J")
        self.assertEqual(room.switchboard.client(conn).asked_id, "")

    def test_replaced(self) -> None:
        room = Room()
        room.switchboard.replace_policies(Policies([Policy(match="a", roles=(Role.BE,))]))
        conn = room.fe("a")
        self.assertIsNone(room.switchboard.client(conn))


class Leasing(SynchronousTestCase):
    """Protocols and numbers of leases (section 3, port_grant)."""

    def test_protocol(self) -> None:
        room = Room(Policy(match="cam-*", protocols=(Protocol.SRT,)))
        conn, other = room.be("cam-1"), room.be("other")
        for asked in ({"need_zmq": True}, {"need_zmq": True, "need_srt": True}):
            grant = room.acquire(conn, **asked)
            self.assertEqual((grant.session_id, grant.error_code), ("", "INVALID_REQUEST"))
            self.assertIn("allowed: srt ports", grant.error)
        self.assertTrue(room.acquire(conn, need_srt=True).session_id)
        self.assertTrue(room.acquire(other).session_id)

    def test_max_leases(self) -> None:
        room = Room(Policy(match="cam-*", max_leases=1))
        conn, other = room.be("cam-1"), room.be("cam-2")
        first = room.acquire(conn)
        refused = room.acquire(conn)
        self.assertEqual((refused.session_id, refused.error_code), ("", "RATE_LIMITED"))
        self.assertIn("holds 1 leases; allowed: 1", refused.error)
        self.assertTrue(room.acquire(other).session_id)
        room.release(conn, first.session_id)
        self.assertTrue(room.acquire(conn).session_id)

    def test_leases_per_client(self) -> None:
        room = Room(Policy(match="cam-*", max_leases=5), leases_per_client=1)
        for conn in (room.be("cam-1"), room.be("other")):
            self.assertTrue(room.acquire(conn).session_id)
            refused = room.acquire(conn)
            self.assertEqual(refused.error_code, "RATE_LIMITED")
            self.assertIn("limits.leases_per_client", refused.error)

    def test_all_that_live_under_one_id_count_as_one(self) -> None:
        room = Room(leases_per_client=1)
        room.acquire(room.be("b"))
        self.assertEqual(room.acquire(room.be("b")).error_code, "RATE_LIMITED")
        room.offer(ZMQ[1])
        self.assertTrue(room.acquire(room.fe("b")).session_id, "another role is another client")


class SayingHello(SynchronousTestCase):
    """Ports of a protocol that a connection's owner may not use (section 6)."""

    def setUp(self) -> None:
        self.room = Room(Policy(match="zmq-only", protocols=(Protocol.ZMQ,)))

    def test_be(self) -> None:
        self.room.be("zmq-only")
        for client_id in ("zmq-only", ""):  # "" is the BE's by its address
            link = self.room.offer(SRT[0], client_id)
            self.assertEqual(refusals(self.room.effects), [(link, Code.NOT_ADMITTED)])
        self.room.offer(ZMQ[0], "zmq-only")
        self.assertEqual(refusals(self.room.effects), [])

    def test_fe_by_its_id(self) -> None:
        self.room.fe("zmq-only")
        self.room.offer(SRT[0])
        link = self.room.dial(SRT[0], "zmq-only")
        self.assertEqual(refusals(self.room.effects), [(link, Code.NOT_ADMITTED)])
        elsewhere = self.room.dial(SRT[0], "zmq-only", at=ELSEWHERE)
        self.assertEqual(pairs(self.room.effects)[0][0], elsewhere)

    def test_fe_by_its_lease(self) -> None:
        """A lease from before the policy is of no use after it."""
        conn = self.room.fe("viewer")
        self.room.offer(SRT[0])
        grant = self.room.acquire(conn, need_srt=True)
        entries = [Policy(match="viewer", protocols=(Protocol.ZMQ,))]
        self.room.switchboard.replace_policies(Policies(entries))
        link = self.room.dial(SRT[0], session_id=grant.session_id, at=ELSEWHERE)
        self.assertEqual(refusals(self.room.effects), [(link, Code.NOT_ADMITTED)])

    def test_before_ttl_expired(self) -> None:
        """The order of precedence: NOT_ADMITTED, then TTL_EXPIRED."""
        viewer = self.room.fe("viewer")
        self.room.fe("zmq-only")
        self.room.offer(SRT[0])
        grant = self.room.acquire(viewer, need_srt=True)
        self.room.release(viewer, grant.session_id)
        for client_id, code in (("zmq-only", Code.NOT_ADMITTED), ("viewer", Code.TTL_EXPIRED)):
            link = self.room.dial(SRT[0], client_id, ticket=grant.ticket)
            self.assertEqual(refusals(self.room.effects), [(link, code)])

    def test_before_port_busy(self) -> None:
        self.room.be("zmq-only"), self.room.fe("zmq-only")
        self.room.offer(SRT[0], at=ELSEWHERE)
        self.room.dial(SRT[0])
        link = self.room.dial(SRT[0], "zmq-only")
        self.assertEqual(refusals(self.room.effects), [(link, Code.NOT_ADMITTED)])
        link = self.room.offer(SRT[0], "zmq-only")
        self.assertEqual(refusals(self.room.effects), [(link, Code.NOT_ADMITTED)])


class Bandwidth(SynchronousTestCase):
    """Whose limits a session carries (section 1, bandwidth)."""

    def limits(self, room: Room, **said: str) -> tuple[tuple[str, int], ...]:
        room.offer(ZMQ[0], "b")
        room.dial(ZMQ[0], said.get("fe", ""))
        (pair,) = of(room.effects, fx.Pair)
        return pair.limits

    def test_owners(self) -> None:
        room = Room(Policy(match="b", bandwidth=8000), Policy(match="f", bandwidth=16000))
        room.be("b"), room.fe("f")
        self.assertEqual(self.limits(room, fe="f"), (("FE f", 16000), ("BE b", 8000)))

    def test_nobodys_connection_has_none(self) -> None:
        room = Room(Policy(match="b", bandwidth=8000), Policy(match="f", bandwidth=16000))
        room.be("b")
        self.assertEqual(self.limits(room, fe="f"), (("BE b", 8000),))

    def test_unlimited(self) -> None:
        room = Room(Policy(match="b"))
        room.be("b")
        self.assertEqual(self.limits(room), ())
