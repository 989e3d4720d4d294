"""Which secret opens what (contract section 1), and that comparing is bounded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks, succeed
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relayx.authentication import Authentication
from relayx.config.model import ClientPolicy, Secrets
from relayx.core.errors import Code, PeerError
from relayx.core.messages import Register
from relayx.core.policy import Policy
from relayx.security import secrethash
from relayx.slow_checks import AT_ONCE, SlowChecks

SHARED = Policy()
CAM = Policy(match="cam-*", own_secret=True)
HASH = str(secrethash.make("own"))


class Comparing(SynchronousTestCase):
    """The shared secrets at once, a client's own by way of a thread, once."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.said: list[tuple[Any, ...]] = []
        self.compared = 0
        self.authentication = Authentication(
            Secrets("current", "previous"),
            [ClientPolicy("cam-*", secret_hash=HASH)],
            self.clock,
            lambda *said, **fields: self.said.append((*said, fields)),
        )

    def slowly(self, check: Callable[[], bool]) -> Deferred[bool]:
        self.compared += 1
        return succeed(check())

    def right(self, secret: str, policy: Policy = SHARED, client_id: str = "cam-1") -> bool:
        asked = Register(role="BE", secret=secret, client_id=client_id)
        return self.successResultOf(self.authentication.check(asked, policy, self.slowly))

    def test_shared(self) -> None:
        found = [self.right(secret) for secret in ("current", "previous", "own", "", "\ud800")]
        self.assertEqual(found, [True, True, False, False, False])
        self.assertEqual(self.compared, 0)

    def test_own(self) -> None:
        found = [self.right(secret, CAM) for secret in ("own", "current", "previous", "", "\ud800")]
        self.assertEqual(found, [True, False, False, False, False])

    def test_what_was_right_costs_nothing_again(self) -> None:
        self.assertEqual([self.right("own", CAM) for _ in range(3)], [True] * 3)
        self.assertEqual(self.compared, 1)
        self.right("wrong", CAM), self.right("wrong", CAM)
        self.assertEqual(self.compared, 3)

    def test_a_policy_whose_hash_is_gone_opens_nothing(self) -> None:
        self.assertFalse(self.right("own", Policy(match="x", own_secret=True)))

    def test_replaced(self) -> None:
        self.assertTrue(self.right("own", CAM))
        other = ClientPolicy("cam-*", secret_hash=str(secrethash.make("new")))
        self.authentication.replace(Secrets("next", "current"), [other])
        self.assertEqual([self.right("own", CAM), self.right("new", CAM)], [False, True])
        self.assertEqual([self.right(s) for s in ("next", "current", "previous")], [True, True, 0])
        self.authentication.replace(Secrets("only"))
        self.assertTrue(self.right("new", CAM))
        self.assertEqual([self.right(""), self.right("only")], [False, True])

    def test_a_bad_hash_leaves_the_old_ones(self) -> None:
        bad = [ClientPolicy("cam-*", secret_hash="scrypt$")]
        with self.assertRaises(ValueError):
            self.authentication.replace(Secrets("next"), bad)
        self.assertEqual([self.right("own", CAM), self.right("current")], [True, True])

    def test_previous_is_counted_and_told_once_a_minute_for_each(self) -> None:
        self.right("current")
        for _ in range(3):
            self.right("previous", client_id="a")
        self.right("previous", client_id="b")
        self.clock.advance(60)
        self.right("previous", client_id="a")
        self.assertEqual(self.authentication.previous_used, 5)
        self.assertEqual(
            [(level, event, fields["client_id"]) for level, event, _, fields in self.said],
            [("info", "previous_secret", client_id) for client_id in "aba"],
        )

    def changed(self, secrets: Secrets, *entries: ClientPolicy) -> list[str]:
        """What is said of other secrets."""
        self.said.clear()
        self.authentication.replace(secrets, entries)
        self.assertEqual({said[:2] for said in self.said} - {("info", "secret_changed")}, set())
        return [said[2] for said in self.said]

    def test_changes_are_told(self) -> None:
        cam = ClientPolicy("cam-*", secret_hash=HASH)
        for secrets, words in (
            (Secrets("current", "previous"), []),
            (Secrets("current"), ["auth_secret_previous of before is not accepted"]),
            (Secrets("next", "current"), ["before it is accepted as auth_secret_previous"]),
            (Secrets("last", "next"), ["accepted as auth_secret_previous", "of before is not"]),
            (Secrets("last", "guest"), ["of before is not", "previous is another, and accepted"]),
            (Secrets("guest"), ["auth_secret is another; the one before it is not accepted"]),
        ):
            said = self.changed(secrets, cam)
            self.assertEqual(len(said), len(words), said)
            for text, part in zip(said, words, strict=True):
                self.assertIn(part, text)
        other = ClientPolicy("cam-*", secret_hash=str(secrethash.make("new")))
        door = ClientPolicy("door", secret_hash=HASH)
        self.assertEqual(
            self.changed(Secrets("guest"), other, door),
            ["the secret of clients[cam-*] is another", "clients[door] has a secret of its own"],
        )
        self.assertEqual(
            self.changed(Secrets("guest"), other),
            ["clients[door] has no secret of its own any more"],
        )

    def test_nothing_secret_is_said(self) -> None:
        self.right("previous", client_id="a"), self.right("own", CAM)
        self.assertNotIn('"previous"', str(self.said))
        for secret in (HASH, "current"):
            self.assertNotIn(secret, str(self.said) + repr(self.authentication))


class Queueing(TestCase):
    """A few at once, each source in its turn, and no more than so many."""

    def setUp(self) -> None:
        self.release = threading.Event()
        self.addCleanup(self.release.set)
        self.order: list[str] = []
        self.checks = SlowChecks(reactor, per_source=2, most=4)

    def check(self, name: str) -> Deferred[bool]:
        def work() -> bool:
            self.release.wait(30)
            self.order.append(name)
            return True

        return self.checks.run(name[0], work)

    def refused(self, name: str) -> None:
        error = self.assertRaises(PeerError, self.check, name)
        self.assertEqual(error.code, Code.RATE_LIMITED)

    @inlineCallbacks
    def test_bounded_for_a_source_and_altogether(self) -> Any:
        waiting = [self.check(name) for name in ("a1", "a2", "a3")]
        self.refused("a4")
        waiting += [self.check(name) for name in ("b1", "b2", "b3")]
        self.refused("c1")
        self.release.set()
        yield gatherResults(waiting)
        self.assertTrue((yield self.check("c1")))

    @inlineCallbacks
    def test_sources_have_their_turns(self) -> Any:
        self.assertEqual(AT_ONCE, 2)
        go_on = {name: threading.Event() for name in ("a1", "a2", "a3", "b1", "c1")}
        begun: list[str] = []

        def work(name: str) -> bool:
            begun.append(name)
            return go_on[name].wait(timeout=60)

        waiting = [self.checks.run(name[0], lambda name=name: work(name)) for name in go_on]
        for ends, count in (("a1", 2), ("b1", 3), ("a2", 4), ("c1", 5), ("a3", 5)):
            while len(begun) < count:
                yield deferLater(reactor, 0.002)
            go_on[ends].set()  # and the next begins
        self.assertEqual((yield gatherResults(waiting)), [True] * len(go_on))
        self.assertEqual(set(begun[:2]), {"a1", "b1"})
        self.assertEqual(begun[2:], ["a2", "c1", "a3"])

    @inlineCallbacks
    def test_a_failure_is_passed_on(self) -> Any:
        def broken() -> bool:
            raise MemoryError

        with self.assertRaises(MemoryError):
            yield self.checks.run("a", broken)
        self.release.set()
        self.assertTrue((yield self.check("a1")))
