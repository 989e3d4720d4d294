"""A session between two made-up transports, on a clock; what its tests share."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relayx.core.pairing import Outcome
from relayx.data.pump import BufferedPump
from relayx.data.session import Limits, Session
from relayx.net.tcp import Failure


class End:
    """A transport of one side: its peer acknowledges bytes only when the test says so."""

    whole = False

    def __init__(self) -> None:
        self.failure: Failure | None = None
        self.connected = True
        self.whole = False
        self.read_ended = False
        self.paused = False
        self.received = 0
        self.sent = 0
        self.unsent = 0
        self.unacknowledged = 0
        self.unread = 0
        self.wrote = b""
        self.shut = False
        self.watched = False
        self.closed = ""
        self.producer: Any = None
        self.read_size = 65536

    def limit_reads(self, size: int) -> None:
        self.read_size = size

    def start_watching(self) -> None:
        self.watched = True

    @property
    def delivered(self) -> int:
        return self.sent - self.unacknowledged

    @property
    def all_delivered(self) -> bool:
        return self.failure is not None or not (self.unsent or self.unacknowledged)

    def has_unread(self) -> bool:
        return self.unread > 0

    def write(self, data: bytes) -> None:
        if self.failure is None:
            self.wrote += data
            self.sent += len(data)
            self.unacknowledged += len(data)

    def acknowledge(self) -> None:
        self.unacknowledged = 0

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def loseWriteConnection(self) -> None:
        self.shut = True

    def close_ended(self) -> None:
        self.loseConnection()

    def loseConnection(self) -> None:
        self.closed = "closed"

    def abortConnection(self) -> None:
        self.closed = "reset"


class Base(SynchronousTestCase):
    """One session; what becomes of it is written down here."""

    keep = False

    def setUp(self) -> None:
        self.begin()

    def begin(self, before: bytes = b"", **limits: float) -> None:
        """Pair; `before` was written to both sides before the session."""
        self.clock = Clock()
        self.fe, self.be = End(), End()
        for end in (self.fe, self.be):
            end.write(before)
            end.acknowledge()
            end.wrote = b""
        self.pump = self.make_pump()
        self.drained = 0
        self.outcomes: list[Outcome] = []
        self.session = Session(
            "pair-1", self.fe, self.be, self.pump, self.keep, Limits(**limits), self, self.clock
        )
        self.session.start()

    def make_pump(self) -> Any:
        """The byte path, the buffered one unless a test has another."""
        return BufferedPump(self.fe, self.be, self.clock)

    def session_draining(self, session: Session) -> None:
        self.drained += 1

    def session_over(self, session: Session, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    # what happens

    def sends(self, end: End, data: bytes) -> None:
        """One side's bytes come."""
        end.received += len(data)
        self.pump.received(end, data)

    def ends(self, end: End) -> None:
        """One side's stream has been read to its end."""
        end.read_ended = True
        self.session.stream_ended(end)

    def fails(self, end: End, failure: Failure = Failure.RESET) -> None:
        """One side takes no more."""
        end.failure = failure
        self.session.failed(end)

    def gone(self, end: End) -> None:
        """One side's connection is closed and read to its end."""
        end.connected = False
        self.session.lost(end)

    def passes(self, seconds: float, step: float = 0.01) -> None:
        self.clock.pump([step] * round(seconds / step))

    # what is seen

    def running(self) -> None:
        self.assertEqual(self.outcomes, [])
        self.assertEqual((self.fe.closed, self.be.closed), ("", ""))

    def over(self, cause: str, fe: str, be: str) -> Outcome:
        """The session is over, once, and this became of its sides."""
        (outcome,) = self.outcomes
        self.assertEqual(
            (outcome.cause, self.fe.closed, self.be.closed, outcome.be_kept),
            (cause, fe, be, not be),
        )
        self.assertTrue(outcome.text)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual((self.fe.producer, self.be.producer), (None, None))
        return outcome


class Bed(Base):
    """The bed itself."""

    def test_bytes_go_through(self) -> None:
        self.sends(self.fe, b"ping")
        self.sends(self.be, b"pong")
        self.assertEqual((self.be.wrote, self.fe.wrote), (b"ping", b"pong"))
        self.running()
        self.assertEqual(self.clock.getDelayedCalls(), [])
