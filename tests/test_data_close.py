"""How a session ends in close (contract section 7)."""

from __future__ import annotations

from relayx.core.messages import Cause
from relayx.net.tcp import Failure
from tests.test_data_bed import Base


class Ends(Base):
    """Each side's end of stream is passed on; the other direction goes on."""

    def test_fes_end_is_passed_on(self) -> None:
        self.ends(self.fe)
        self.assertEqual((self.be.shut, self.fe.shut), (True, False))
        self.running()

    def test_bes_end_is_passed_on(self) -> None:
        self.ends(self.be)
        self.assertEqual((self.be.shut, self.fe.shut), (False, True))
        self.running()

    def test_the_other_direction_goes_on(self) -> None:
        self.ends(self.fe)
        self.sends(self.be, b"answer")
        self.fe.acknowledge()
        self.passes(5)
        self.assertEqual(self.fe.wrote, b"answer")
        self.running()

    def test_over_when_both_have_ended(self) -> None:
        self.ends(self.fe)
        self.passes(1)
        self.ends(self.be)
        self.over("fe_closed", "closed", "closed")

    def test_cause_is_the_first_end(self) -> None:
        self.ends(self.be)
        self.ends(self.fe)
        self.over("be_closed", "closed", "closed")

    def test_not_over_before_all_is_delivered(self) -> None:
        """Delivered means acknowledged by the receiver's TCP."""
        for fe_sends in (True, False):
            self.begin()
            end, other = (self.fe, self.be) if fe_sends else (self.be, self.fe)
            self.sends(end, b"x" * 100)
            self.ends(self.fe)
            self.ends(self.be)
            self.passes(5)
            self.running()
            other.acknowledge()
            self.passes(0.3)
            self.over("fe_closed", "closed", "closed")

    def test_seen_looks_at_once(self) -> None:
        self.sends(self.fe, b"x")
        self.ends(self.fe)
        self.ends(self.be)
        self.passes(5)
        self.be.acknowledge()
        self.session.seen()
        self.over("fe_closed", "closed", "closed")

    def test_seen_before_any_end(self) -> None:
        self.session.seen()
        self.running()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_told_twice(self) -> None:
        self.ends(self.fe)
        self.ends(self.fe)
        self.gone(self.fe)
        self.gone(self.fe)
        self.running()
        self.ends(self.be)
        self.ends(self.be)
        self.over("fe_closed", "closed", "closed")
        self.gone(self.be)
        self.fails(self.fe)
        self.session.seen()
        self.session.finish(Cause.DRAIN, "late")
        self.over("fe_closed", "closed", "closed")

    def test_not_draining(self) -> None:
        self.ends(self.fe)
        self.assertEqual(self.drained, 0)

    def test_outcome(self) -> None:
        self.begin(before=b"RLX1PAIRED {}\n")
        self.sends(self.fe, b"x" * 10)
        self.sends(self.be, b"y" * 20)
        self.be.acknowledge()
        self.fe.acknowledge()
        self.passes(1.5)
        self.ends(self.fe)
        self.ends(self.be)
        outcome = self.over("fe_closed", "closed", "closed")
        self.assertEqual((outcome.fe_to_be_bytes, outcome.be_to_fe_bytes), (10, 20))
        self.assertAlmostEqual(outcome.seconds, 1.5)


class Failures(Base):
    """A side resets: what it had sent is delivered, then the other is reset."""

    def test_fe_reset(self) -> None:
        self.sends(self.fe, b"last")
        self.fails(self.fe)
        self.passes(1)
        self.running()
        self.gone(self.fe)
        self.passes(1)
        self.running()
        self.be.acknowledge()
        self.passes(0.3)
        outcome = self.over("fe_reset", "closed", "reset")
        self.assertEqual(outcome.fe_to_be_bytes, 4)
        self.assertEqual(outcome.text, "the FE reset its connection")

    def test_be_reset(self) -> None:
        self.sends(self.be, b"last")
        self.fails(self.be)
        self.gone(self.be)
        self.fe.acknowledge()
        self.passes(0.3)
        outcome = self.over("be_reset", "reset", "closed")
        self.assertEqual(outcome.text, "the BE reset its connection")

    def test_bytes_that_still_come_are_delivered(self) -> None:
        self.fails(self.fe)
        self.sends(self.fe, b"still")
        self.assertEqual(self.be.wrote, b"still")

    def test_the_others_bytes_are_thrown_away(self) -> None:
        """And it is never pushed back for them."""
        self.be.pauseProducing()
        self.fails(self.fe)
        self.assertFalse(self.be.paused)
        self.sends(self.be, b"nobody takes this")
        self.assertEqual(self.fe.wrote, b"")
        self.assertEqual(self.fe.producer, None)

    def test_lost_with_a_failure(self) -> None:
        self.fe.failure = Failure.RESET
        self.gone(self.fe)
        self.over("fe_reset", "closed", "reset")

    def test_dead(self) -> None:
        for side, cause in (("fe", "fe_dead"), ("be", "be_dead")):
            self.begin()
            end = self.fe if side == "fe" else self.be
            self.fails(end, Failure.DEAD)
            self.gone(end)
            (outcome,) = self.outcomes
            self.assertEqual(outcome.cause, cause)
            self.assertEqual(outcome.text, f"the {side.upper()} does not answer")

    def test_both_fail(self) -> None:
        self.sends(self.fe, b"x")
        self.fails(self.fe)
        self.fails(self.be)
        self.over("fe_reset", "reset", "reset")

    def test_a_reset_outweighs_an_end(self) -> None:
        self.ends(self.fe)
        self.fails(self.be)
        self.gone(self.be)
        self.over("be_reset", "reset", "closed")

    def test_the_first_failure_is_the_cause(self) -> None:
        self.fails(self.be, Failure.DEAD)
        self.fails(self.fe)
        self.over("be_dead", "reset", "reset")

    def test_end_is_not_passed_to_a_failed_side(self) -> None:
        self.fails(self.fe)
        self.ends(self.be)
        self.assertFalse(self.fe.shut)


class Timeouts(Base):
    """half_close_timeout and session_idle_timeout (sections 1 and 7)."""

    def test_half_close(self) -> None:
        self.begin(half_close_timeout=10.0)
        self.ends(self.fe)
        self.passes(9.7)
        self.running()
        self.passes(1)
        outcome = self.over("half_close_timeout", "reset", "reset")
        self.assertIn("10 s", outcome.text)

    def test_progress_puts_it_off(self) -> None:
        self.begin(half_close_timeout=10.0)
        self.ends(self.fe)
        for _ in range(5):
            self.passes(8)
            self.sends(self.be, b"x")
            self.fe.acknowledge()
        self.running()
        self.passes(10.5)
        self.over("half_close_timeout", "reset", "reset")

    def test_acknowledged_bytes_are_progress(self) -> None:
        """A slow reader that takes a little at a time is not cut off."""
        self.begin(half_close_timeout=10.0)
        self.sends(self.fe, b"x" * 100)
        self.ends(self.fe)
        for _ in range(5):
            self.passes(8)
            self.be.unacknowledged -= 10
        self.running()

    def test_never_without_an_end(self) -> None:
        """Nor where the session is looked at for its other time-out."""
        for idle_timeout in (0.0, 40.0):
            self.begin(half_close_timeout=1.0, idle_timeout=idle_timeout)
            self.passes(20)
            self.running()

    def test_idle(self) -> None:
        self.begin(idle_timeout=4.0)
        self.passes(3.9)
        self.running()
        self.passes(1.2)
        outcome = self.over("idle_timeout", "reset", "reset")
        self.assertIn("4 s", outcome.text)

    def test_idle_from_the_last_byte_that_made_progress(self) -> None:
        self.begin(idle_timeout=4.0)
        for end, other in ((self.fe, self.be), (self.be, self.fe)) * 3:
            self.passes(3)
            self.sends(end, b"x")
            other.acknowledge()
        self.running()
        self.passes(5.2)
        self.over("idle_timeout", "reset", "reset")

    def test_idle_never(self) -> None:
        self.begin(idle_timeout=0.0)
        self.passes(30)
        self.running()

    def test_failure_then_nothing(self) -> None:
        """The peer of one that has reset takes nothing: it is not waited for without end."""
        self.begin(half_close_timeout=10.0)
        self.sends(self.fe, b"x")
        self.fails(self.fe)
        self.gone(self.fe)
        self.passes(9)
        self.running()
        self.passes(2)
        outcome = self.over("fe_reset", "reset", "reset")
        self.assertEqual(outcome.fe_to_be_bytes, 0)


class Finishing(Base):
    """Ended by the gateway (sections 8 and 9)."""

    def test_both_are_reset_at_once(self) -> None:
        self.sends(self.fe, b"x")
        self.session.finish(Cause.BE_LOST, "lost")
        outcome = self.over("be_lost", "reset", "reset")
        self.assertEqual((outcome.text, outcome.fe_to_be_bytes), ("lost", 0))

    def test_outweighs_an_end(self) -> None:
        self.ends(self.fe)
        self.session.finish(Cause.DRAIN, "stop")
        self.over("drain", "reset", "reset")
