"""Who may connect to a broker: names and passwords, addresses, and who failed too often."""

from __future__ import annotations

import threading
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relayx.authentication import Authentication
from relayx.brokerdoors import Doors, Sight
from relayx.config.model import ClientPolicy, Secrets
from relayx.core.directory import Client, Directory
from relayx.core.messages import Protocol, Role
from relayx.core.policy import Policies, Policy
from relayx.net.sources import Failures
from relayx.security import secrethash
from relayx.zmq.settings import Pattern, Side
from relayx.zmq.settings import Role as SideRole

SIDE = Side(Pattern.PUSH_PULL, SideRole.FRONTEND, 30101)
HERE, THERE = "192.0.2.1", "2001:db8::7"
OWN = ClientPolicy("own", secret_hash=str(secrethash.make("own secret")))


class Same:
    """A reactor of one thread: what another thread asks for is done at once."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.seconds = self.clock.seconds

    def getThreadPool(self) -> Same:
        return self

    def callInThreadWithCallback(self, done: Any, call: Any, *args: Any, **more: Any) -> None:
        done(True, call(*args, **more))

    def callFromThread(self, call: Any, *args: Any, **more: Any) -> None:
        call(*args, **more)


class DoorCase(SynchronousTestCase):
    """Doors over real secrets, policies and failures."""

    def setUp(self) -> None:
        self.reactor = Same()
        self.policies = Policies((
            Policy(match="own", own_secret=True),
            Policy(match="srt", protocols=(Protocol.SRT,)),
            Policy(match="none", roles=()),
        ))  # fmt: skip
        self.said: list[tuple[str, str, str]] = []
        self.failures = Failures(3, 60.0)
        self.sight = Sight("peer", directory())
        self.authentication = Authentication(
            Secrets("shared", "old"), [OWN], self.reactor, self.say
        )
        self.doors = Doors(
            self.reactor, self.authentication, lambda name: self.policies.of(name),
            self.failures, self.say, lambda: self.sight,
        )  # fmt: skip

    def say(self, level: str, event: str, text: str, **fields: Any) -> None:
        self.said.append((level, event, text))

    def events(self, event: str) -> list[str]:
        return [text for _, kind, text in self.said if kind == event]

    def see(self, admission: str, *clients: Client, draining: bool = False) -> None:
        self.sight = Sight(admission, directory(*clients), draining)
        self.doors.changed()


def directory(*clients: Client, grace: dict[Any, float] | None = None) -> Directory:
    by_address: dict[Any, list[Client]] = {}
    for client in clients:
        by_address.setdefault((client.role, client.address), []).append(client)
    return Directory({}, by_address, grace or {})


class Passwords(DoorCase):
    """check"""

    def right(self, name: str, password: str, address: str = HERE) -> bool:
        return self.doors.check(name, password, address, SIDE)

    def test_each(self) -> None:
        for name, password, good in (
            ("c", "shared", True), ("c", "old", True), ("c", "own secret", False),
            ("own", "own secret", True),
        ):  # fmt: skip
            self.assertIs(self.right(name, password), good, (name, password))
        self.assertEqual(self.authentication.previous_used, 1)

    def test_whoMayNot(self) -> None:
        """Without an id, with one too long, without a role, without zmq."""
        for name in ("", "c" * 129, "a\nb", "none", "srt"):
            self.failures = self.doors._failures = Failures(99, 60.0)
            self.assertFalse(self.right(name, "shared"), name)
        self.assertIn("may not use zmq ports", self.events("broker_refused")[-1])

    def test_blocked(self) -> None:
        """The third failure blocks the source, of which the right one is no way out."""
        for _ in range(3):
            self.assertFalse(self.right("c", "wrong"))
        self.assertEqual(len(self.events("blocked")), 1)
        self.assertFalse(self.right("c", "shared"))
        self.assertTrue(self.right("c", "shared", THERE))
        self.reactor.clock.advance(61)
        self.assertTrue(self.right("c", "shared"))

    def test_mapped(self) -> None:
        """An IPv4-mapped address is the IPv4 one."""
        for _ in range(3):
            self.right("c", "wrong", f"::ffff:{HERE}")
        self.assertFalse(self.right("c", "shared", HERE))

    def test_told(self) -> None:
        """Once a minute for an address, a port and a reason; never the password."""
        for _ in range(2):
            self.right("c\x1b", "my pass")
        (text,) = self.events("broker_refused")
        self.assertIn("port 30101", text)
        self.assertIn(HERE, text)
        self.assertNotIn("\x1b", text)
        self.assertNotIn("my pass", text)

    def test_changedMeanwhile(self) -> None:
        """A policy that changes while a secret is compared is the one that counts."""
        waiting: Deferred[bool] = Deferred()
        self.doors._checks.run = lambda source, check: waiting  # type: ignore[method-assign]
        asked = self.doors.ask("own", "own secret", HERE, SIDE)
        self.policies = Policies((Policy(match="own", protocols=(Protocol.SRT,)),))
        waiting.callback(True)
        self.assertFalse(self.successResultOf(asked))

    def test_tooMany(self) -> None:
        """Where too many secrets are being compared, it is refused and does not count."""
        self.reactor.callInThreadWithCallback = lambda *_: None  # type: ignore[method-assign]
        held = [self.doors.ask("own", "x", HERE, SIDE) for _ in range(33)]
        refused = self.doors.ask("own", "x", HERE, SIDE)
        self.assertFalse(self.successResultOf(refused))
        self.assertIn("too many", self.events("broker_refused")[-1])
        for one in held:
            self.assertNoResult(one)
        self.assertFalse(self.failures.blocked_for(HERE, 0.0))

    def test_broken(self) -> None:
        """What cannot be compared is an error where it was asked."""

        def broken(*_: Any) -> Deferred[bool]:
            return succeed(False).addCallback(lambda _: 1 / 0)  # type: ignore[arg-type,return-value]

        self.authentication.check = broken  # type: ignore[method-assign,assignment]
        self.assertRaises(ZeroDivisionError, self.right, "c", "shared")


class Addresses(DoorCase):
    """allow"""

    def test_peer(self) -> None:
        """An address of a registered client of either role; others are told of, seldom."""
        self.see("peer", Client(1, Role.FE, "f", HERE), Client(2, Role.BE, "b", THERE))
        for address in (HERE, f"::ffff:{HERE}", THERE):
            self.assertTrue(self.doors.allow(address, SIDE))
        for _ in range(3):
            self.assertFalse(self.doors.allow("192.0.2.9", SIDE))
        (text,) = self.events("broker_refused")
        self.assertIn("data.admission", text)

    def test_grace(self) -> None:
        """An address counts for a while after its last client has gone."""
        self.sight = Sight("peer", directory(grace={(Role.FE, HERE): 5.0}))
        self.doors.changed()
        self.assertTrue(self.doors.allow(HERE, SIDE))
        self.reactor.clock.advance(6)
        self.assertFalse(self.doors.allow(HERE, SIDE))

    def test_others(self) -> None:
        """open and ticket ask no address; a gateway that drains takes nobody."""
        for admission in ("open", "ticket"):
            self.see(admission)
            self.assertTrue(self.doors.allow(HERE, SIDE))
            self.see(admission, draining=True)
            self.assertFalse(self.doors.allow(HERE, SIDE))


class Threads(TestCase):
    """Asked by another thread, decided in the reactor's"""

    async def test_where(self) -> None:
        told: list[str] = []

        def policy(name: str) -> Policy:
            told.append(threading.current_thread().name)
            return anybody

        anybody = Policy()
        authentication = Authentication(Secrets("shared"), [], reactor, lambda *_, **__: None)
        doors = Doors(
            reactor, authentication, policy, Failures(3, 60.0), lambda *_, **__: None,
            lambda: Sight("open", directory()),
        )  # fmt: skip
        self.assertTrue(await deferToThread(doors.check, "c", "shared", HERE, SIDE))
        self.assertFalse(await deferToThread(doors.check, "c", "wrong", HERE, SIDE))
        self.assertEqual(set(told), {threading.main_thread().name})
