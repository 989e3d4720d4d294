"""When a peer of ``srt.dial`` is called, and for how long: on a clock, without libsrt."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relayx.core.errors import Code, PeerError
from relayx.core.messages import Role
from relayx.srt.binding import Peer
from relayx.srt.dialing import FIRST_WAIT, LONGEST_WAIT, MOST_TOLD, SETTLED, Caller
from relayx.srt.settings import Dial
from tests.srt_live import logged

GROWING = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
NO_ANSWER, CLOSED, WRONG_PASSPHRASE = 16, 0, 10
CONFIGURED = 3000


class OneThread(Clock):
    """A reactor whose pool of threads does at once what it is asked for."""

    def getThreadPool(self) -> OneThread:
        return self

    def callInThreadWithCallback(self, done: Any, call: Any, *args: Any, **more: Any) -> None:
        done(True, call(*args, **more))

    def callFromThread(self, call: Any, *args: Any, **more: Any) -> None:
        call(*args, **more)


class Calls:
    """libsrt and its engine, as far as they are needed for a call.

    :ivar made: when a call was made, and the time-out that it had, in ms.
    :ivar outcome: of the next call: a reason for a rejection, None where it is connected.
    """

    def __init__(self, clock: Clock) -> None:
        self.made: list[tuple[float, int]] = []
        self.outcome: int | None = NO_ANSWER
        self.pump = self
        self._clock = clock
        self._timeout = 0
        self._read: Any = None

    # libsrt

    def create(self) -> int:
        self._timeout = CONFIGURED
        return 1

    def get(self, sock: int, name: str) -> int:
        assert name == "conntimeo", name
        return self._timeout

    def set(self, sock: int, name: str, value: int) -> None:
        assert name == "conntimeo", name
        self._timeout = value

    def connect(self, sock: int, host: str, port: int) -> None:
        self.made.append((self._clock.seconds(), self._timeout))

    def rendezvous(self, sock: int, local: Peer, remote: Peer) -> None:
        self.connect(sock, *remote)

    def reject_reason(self, sock: int) -> int:
        assert self.outcome is not None
        return self.outcome

    def reject_text(self, reason: int) -> str:
        return {CLOSED: "Unknown or erroneous", WRONG_PASSPHRASE: "Incorrect passphrase"}[reason]

    # the engine

    def order(self, what: Callable[..., object], *args: object) -> None:
        what(*args)

    tell = order

    def read_by(self, sock: int, reader: Any) -> None:
        self._read = reader

    def room(self, sock: int, wanted: bool) -> None:
        pass

    def is_over(self, sock: int) -> bool:
        return True

    def is_connected(self, sock: int) -> bool:
        return self.outcome is None

    def add(self, sock: int) -> None:
        pass

    renew = close = add


class CallerCase(SynchronousTestCase):
    """One peer; what the rules say of it is in `refusal`."""

    def setUp(self) -> None:
        self.clock = OneThread()
        self.clock.advance(1_000_000)
        self.calls = Calls(self.clock)
        self.refusal: PeerError | None = None
        self.wanted = True
        self.lease_ends: float | None = None
        self.asked: list[str] = []
        self.reached: list[Caller] = []
        self.caller = self.new_caller(Role.BE)

    def new_caller(self, role: Role, *, rendezvous: bool = False) -> Caller:
        caller = Caller(
            self.clock, self.calls, self.calls,  # type: ignore[arg-type]
            Dial(30000, "127.0.0.1", 7001, role, rendezvous=rendezvous), "", lambda sock: None,
            self.is_wanted, self.lease_left, lambda caller, sock, peer: self.reached.append(caller),
        )  # fmt: skip
        self.addCleanup(caller.close)
        return caller

    def is_wanted(self, dial: Dial, address: str) -> bool:
        self.asked.append(address)
        if self.refusal is not None and address:
            raise self.refusal
        return self.wanted

    def lease_left(self, dial: Dial) -> float | None:
        return None if self.lease_ends is None else self.lease_ends - self.clock.seconds()

    def waits(self, count: int, after: Callable[[], None] = lambda: None) -> list[float]:
        """Seconds from a call to the next, some times; `after`: what happens to each call."""
        times = []
        for _ in range(count):
            times.append(self.calls.made[-1][0])
            after()
            (call,) = self.clock.getDelayedCalls()
            self.clock.advance(call.getTime() - self.clock.seconds())
        times.append(self.calls.made[-1][0])
        return [later - one for one, later in pairwise(times)]


class Waits(CallerCase):
    """How long it is until the next call."""

    def test_no_answer(self) -> None:
        self.caller.consider()
        self.assertEqual(self.waits(len(GROWING)), GROWING)
        self.assertEqual((GROWING[0], GROWING[-1]), (FIRST_WAIT, LONGEST_WAIT))

    def ends(self, **how: bool) -> Callable[[], None]:
        return lambda: self.caller.ended(**how)

    def connected_for(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.caller.ended(served=False, by_peer=True)

    def test_closed_at_once(self) -> None:
        """It answers, and has no use for the gateway."""
        self.calls.outcome = None
        self.caller.consider()
        self.assertEqual(self.waits(8, self.ends(served=False, by_peer=True)), GROWING)

    def test_refused_when_it_was_there(self) -> None:
        """By the rules, whose state had changed during the handshake."""
        self.calls.outcome = None
        self.caller.consider()
        self.assertEqual(self.waits(8, self.ends(served=False, by_peer=False)), GROWING)

    def test_closed_during_the_handshake_or_at_once(self) -> None:
        """In turns: the wait goes on growing."""
        self.calls.outcome = None
        self.caller.consider()

        def alternate() -> None:
            if self.calls.outcome is None:
                self.caller.ended(served=False, by_peer=True)
                self.calls.outcome = CLOSED
            else:
                self.calls.outcome = None

        self.assertEqual(self.waits(8, alternate), GROWING)

    def test_a_connection_that_lasted(self) -> None:
        self.caller.consider()
        self.waits(4)
        self.calls.outcome = None
        self.waits(1)
        first = self.waits(1, lambda: self.connected_for(SETTLED / 2))
        self.assertEqual(first, [SETTLED / 2 + 16])
        later = self.waits(1, lambda: self.connected_for(SETTLED))
        self.assertEqual(later, [SETTLED + FIRST_WAIT])

    def test_a_session(self) -> None:
        """However short, and whoever ended it."""
        for by_peer in (False, True):
            self.calls.outcome = NO_ANSWER
            caller = self.caller = self.new_caller(Role.BE)
            caller.consider()
            self.waits(3)
            self.calls.outcome = None
            self.waits(1)
            self.assertEqual(self.waits(1, self.ends(served=True, by_peer=by_peer)), [FIRST_WAIT])
            caller.close()

    def test_a_sinks_session(self) -> None:
        """A sink that hangs up at once was in one too, and had no use for it."""
        self.caller = self.new_caller(Role.FE)
        self.calls.outcome = None
        self.caller.consider()
        self.assertEqual(self.waits(4, self.ends(served=True, by_peer=True)), GROWING[:4])
        self.assertEqual(self.waits(1, self.ends(served=True, by_peer=False)), [FIRST_WAIT])


class Rules(CallerCase):
    """Nobody is called whom the rules would refuse."""

    def test_not_called(self) -> None:
        self.refusal = PeerError(Code.PORT_RESERVED, "kept for another")
        self.caller.consider()
        self.assertEqual(self.calls.made, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.refusal = None
        self.caller.consider()
        self.assertEqual(len(self.calls.made), 1)

    def test_looked_up_once_in_a_while(self) -> None:
        """The rules go by the address, which a name may change."""
        self.refusal = PeerError(Code.PORT_RESERVED, "kept for another")
        for _ in range(3):
            self.caller.consider()
        self.assertEqual(self.asked, ["", *["127.0.0.1"] * 3])
        self.clock.advance(LONGEST_WAIT)
        self.caller.consider()
        self.assertEqual(self.asked[4:], ["", "127.0.0.1"])
        self.assertEqual(self.calls.made, [])

    def test_no_use_for_it(self) -> None:
        self.wanted = False
        self.caller.consider()
        self.assertEqual((self.asked, self.calls.made), ([""], []))


class Log(CallerCase):
    """What is said, once in a streak."""

    def test_each_reason_once(self) -> None:
        with logged() as lines:
            self.caller.consider()
            for outcome in (NO_ANSWER, CLOSED, WRONG_PASSPHRASE, NO_ANSWER, CLOSED):
                self.calls.outcome = outcome
                self.waits(1)
        name = "srt port 30000 calls BE 127.0.0.1:7001: "
        self.assertEqual([line.removeprefix(name) for line in lines.all], [
            "no answer; tries again in 0.5 s and later",
            "it closed the connection during the handshake; tries again in 2 s and later",
            "refused: Incorrect passphrase (10); tries again in 4 s and later",
        ])  # fmt: skip

    def test_closed_at_once(self) -> None:
        self.calls.outcome = None
        self.caller.consider()
        with logged() as lines:
            self.waits(3, lambda: self.caller.ended(served=False, by_peer=True))
        self.assertEqual(len(lines.all), 1)
        self.assertIn("it closed the connection at once; tries again in 0.5 s", lines.all[0])

    def test_the_rules(self) -> None:
        self.refusal = PeerError(Code.NOT_ADMITTED, "srt.bridge is off")
        with logged() as lines:
            for _ in range(3):
                self.caller.consider()
        self.assertEqual(lines.all, [
            "srt port 30000 calls BE 127.0.0.1:7001: not now, NOT_ADMITTED: srt.bridge is off"
        ])  # fmt: skip

    def test_again_in_the_next_streak(self) -> None:
        with logged() as lines:
            self.caller.consider()
            self.calls.outcome = None
            self.waits(1)
            self.calls.outcome = NO_ANSWER
            self.waits(1, lambda: self.caller.ended(served=True, by_peer=False))
            self.waits(1)
        self.assertEqual(len([line for line in lines.all if "no answer" in line]), 2)

    def test_bounded(self) -> None:
        """Reasons that name clients are not remembered without end."""
        with logged() as lines:
            for number in (*range(MOST_TOLD + 1), 0):
                self.refusal = PeerError(Code.PORT_RESERVED, f"kept for be-{number}")
                self.caller.consider()
        self.assertEqual(len([line for line in lines.all if line.endswith("be-0")]), 2)


class Leases(CallerCase):
    """A call lasts no longer than the lease that its port is under."""

    def timeout(self, left: float | None, *, rendezvous: bool = False) -> int:
        """Milliseconds that a call gets with so many seconds left."""
        self.lease_ends = None if left is None else self.clock.seconds() + left
        caller = self.new_caller(Role.BE, rendezvous=rendezvous)
        caller.consider()
        caller.close()
        return self.calls.made[-1][1]

    def test_caller(self) -> None:
        lefts = (None, 600, 3, 2.5, 0.25, 0.0001, 0, -1)
        found = [self.timeout(left) for left in lefts]
        self.assertEqual(found, [3000, 3000, 3000, 2500, 250, 1, 1, 1])

    def test_rendezvous(self) -> None:
        """libsrt waits ten times as long."""
        lefts = (None, 600, 30, 2.5, 0.25, 0.001, -1)
        found = [self.timeout(left, rendezvous=True) for left in lefts]
        self.assertEqual(found, [3000, 3000, 3000, 250, 25, 1, 1])
