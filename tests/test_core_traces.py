"""The trace_id of a request is in every line that it caused (contract section 2)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.common import ZMQ, Room, notes, pairing


class Lines(SynchronousTestCase):
    """What notes carry the trace_id, beside those that answer the request itself."""

    def setUp(self) -> None:
        self.room = Room()
        self.fe, self.be = self.room.fe("f"), self.room.be("b")

    def trace(self, event: str) -> list[str]:
        """The trace ids of the lines of the last event."""
        return [note.fields["trace_id"] for note in notes(self.room.effects, event)]

    def test_lease(self) -> None:
        """Its grant, its end by itself or by its owner's, and its session."""
        link = self.room.offer(ZMQ[0])
        grant = self.room.acquire(self.fe, trace_id="t", ttl_seconds=5)
        self.assertEqual(self.trace("granted"), ["t"])
        self.room.dial(ZMQ[0], session_id=grant.session_id)
        self.room.over(pairing(self.room.effects), kept=True)
        self.assertEqual(self.trace("session_end"), ["t"])
        self.room.later(5)
        self.assertEqual(self.trace("lease_ended"), ["t"])
        self.room.hang_up(link)

    def test_release(self) -> None:
        """The request that ends it, where there is one."""
        self.room.offer(ZMQ[0])
        grant = self.room.acquire(self.fe, trace_id="t")
        self.room.release(self.fe, grant.session_id, trace_id="u")
        self.assertEqual(self.trace("lease_ended"), ["u"])

    def test_refused_under_a_lease(self) -> None:
        link = self.room.offer(ZMQ[0])
        grant = self.room.acquire(self.fe, trace_id="t")
        self.room.hang_up(link)
        self.room.dial(ZMQ[0], session_id=grant.session_id)
        self.room.dial(ZMQ[0], session_id=grant.session_id)
        self.assertEqual(self.trace("refused"), ["t"])
        self.room.later(2)
        self.assertEqual(self.trace("refused"), ["t"])

    def test_takeovers(self) -> None:
        for number in range(5):
            self.room.be11("b", instance=str(number), trace_id=f"t{number}")
        self.assertEqual(self.trace("taken_over"), ["t4"])
        self.assertEqual(self.trace("takeovers"), ["t4"])
        self.assertEqual(self.trace("registered"), ["t4"])

    def test_registration_refused(self) -> None:
        self.room.fe(authentic=False, trace_id="t")
        self.assertEqual(self.trace("register_failed"), ["t"])
