"""How a session ends in keep (contract section 7)."""

from __future__ import annotations

from relayx.core.messages import Cause
from relayx.net.tcp import Failure
from tests.test_data_bed import Base


class Kept(Base):
    """drain_quiet 200 ms, drain_limit 30 s, half_close_timeout 10 min."""

    keep = True


class FeEnds(Kept):
    """An FE's end of stream cannot be passed on."""

    def test_not_passed_on(self) -> None:
        self.ends(self.fe)
        self.assertFalse(self.be.shut)
        self.assertEqual(self.drained, 1)
        self.running()

    def test_draining_is_told_once(self) -> None:
        self.ends(self.fe)
        self.gone(self.fe)
        self.assertEqual(self.drained, 1)

    def test_over_after_drain_quiet(self) -> None:
        self.ends(self.fe)
        self.passes(0.19)
        self.running()
        self.passes(0.1)
        outcome = self.over("fe_closed", "closed", "")
        self.assertTrue(outcome.be_kept)

    def test_the_answer_still_goes_to_the_fe(self) -> None:
        self.ends(self.fe)
        self.passes(0.1)
        self.sends(self.be, b"answer")
        self.assertEqual(self.fe.wrote, b"answer")
        self.passes(0.15)
        self.fe.acknowledge()
        self.running()
        self.passes(0.1)
        outcome = self.over("fe_closed", "closed", "")
        self.assertEqual(outcome.be_to_fe_bytes, 6)

    def test_every_byte_of_the_be_begins_the_quiet_anew(self) -> None:
        self.ends(self.fe)
        for _ in range(10):
            self.passes(0.15)
            self.sends(self.be, b"x")
            self.fe.acknowledge()
        self.running()
        self.passes(0.3)
        self.over("fe_closed", "closed", "")

    def test_not_before_all_fe_bytes_are_delivered(self) -> None:
        self.sends(self.fe, b"x" * 100)
        self.ends(self.fe)
        self.passes(20)
        self.running()
        self.be.acknowledge()
        self.passes(0.15)
        self.running()
        self.passes(0.5)
        outcome = self.over("fe_closed", "closed", "")
        self.assertEqual(outcome.fe_to_be_bytes, 100)

    def test_not_before_all_be_bytes_are_delivered(self) -> None:
        self.sends(self.be, b"x" * 100)
        self.ends(self.fe)
        self.passes(20)
        self.running()
        self.fe.acknowledge()
        self.passes(0.3)
        self.over("fe_closed", "closed", "")

    def test_quiet_counts_only_while_the_be_is_read(self) -> None:
        self.ends(self.fe)
        self.be.pauseProducing()
        self.passes(5)
        self.running()
        self.be.resumeProducing()
        self.passes(0.15)
        self.running()
        self.passes(0.3)
        self.over("fe_closed", "closed", "")

    def test_bytes_that_wait_to_be_read_are_no_quiet(self) -> None:
        self.ends(self.fe)
        self.be.unread = 10
        self.passes(1)
        self.running()
        self.be.unread = 0
        self.sends(self.be, b"x" * 10)
        self.fe.acknowledge()
        self.passes(0.3)
        self.over("fe_closed", "closed", "")

    def test_its_fin_after_its_end(self) -> None:
        """Its connection is closed while the BE's echo is on its way: an ordinary end."""
        self.ends(self.fe)
        self.sends(self.be, b"echo")
        self.fails(self.fe)
        self.gone(self.fe)
        self.passes(0.3)
        self.over("fe_closed", "closed", "")


class FeFails(Kept):
    """An FE that closes or resets is an ordinary end and never resets the BE."""

    def test_reset(self) -> None:
        self.sends(self.be, b"on its way")
        self.fails(self.fe)
        self.gone(self.fe)
        self.assertEqual(self.drained, 1)
        self.passes(0.15)
        self.running()
        self.passes(0.2)
        self.over("fe_closed", "closed", "")

    def test_what_it_sent_is_still_delivered(self) -> None:
        self.sends(self.fe, b"last")
        self.fails(self.fe)
        self.sends(self.fe, b"words")
        self.gone(self.fe)
        self.passes(5)
        self.running()
        self.assertEqual(self.be.wrote, b"lastwords")
        self.be.acknowledge()
        self.passes(0.6)
        outcome = self.over("fe_closed", "closed", "")
        self.assertEqual(outcome.fe_to_be_bytes, 9)

    def test_not_before_all_that_it_sent_is_read(self) -> None:
        self.sends(self.fe, b"last")
        self.be.acknowledge()
        self.fails(self.fe)
        self.passes(5)
        self.running()
        self.sends(self.fe, b"words")
        self.be.acknowledge()
        self.gone(self.fe)
        self.passes(0.3)
        outcome = self.over("fe_closed", "closed", "")
        self.assertEqual(outcome.fe_to_be_bytes, 9)

    def test_the_bes_bytes_are_discarded_from_then_on(self) -> None:
        self.fails(self.fe)
        self.sends(self.be, b"echo")
        self.assertEqual(self.fe.wrote, b"")

    def test_dead(self) -> None:
        """An FE that is dead did neither close nor reset: it has a cause of its own."""
        self.fails(self.fe, Failure.DEAD)
        self.gone(self.fe)
        self.passes(0.5)
        self.over("fe_dead", "closed", "")


class Limits(Kept):
    """A BE that is still sending, or takes nothing (section 7, keep)."""

    def test_still_sending(self) -> None:
        self.begin(drain_limit=5.0)
        self.ends(self.fe)
        for _ in range(49):
            self.sends(self.be, b"x")
            self.fe.acknowledge()
            self.passes(0.1)
        self.running()
        for _ in range(3):
            self.sends(self.be, b"x")
            self.passes(0.1)
        outcome = self.over("limit", "reset", "reset")
        self.assertIn("5 s", outcome.text)

    def test_quiet_but_not_delivered(self) -> None:
        """The FE takes the answer late: the BE is not still sending, and stays."""
        self.begin(drain_limit=5.0)
        self.ends(self.fe)
        self.passes(0.1)
        self.sends(self.be, b"answer")
        self.passes(20)
        self.running()
        self.fe.acknowledge()
        self.passes(0.3)
        self.assertTrue(self.over("fe_closed", "closed", "").be_kept)

    def test_counted_from_the_last_fe_byte(self) -> None:
        self.begin(drain_limit=5.0)
        self.sends(self.fe, b"x")
        self.ends(self.fe)
        for _ in range(80):
            self.sends(self.be, b"x")
            self.fe.acknowledge()
            self.passes(0.1)
        self.running()
        self.be.acknowledge()
        for _ in range(45):
            self.sends(self.be, b"x")
            self.passes(0.1)
        self.running()
        for _ in range(10):
            if not self.outcomes:
                self.sends(self.be, b"x")
                self.passes(0.1)
        self.over("limit", "reset", "reset")

    def test_takes_nothing(self) -> None:
        self.begin(half_close_timeout=10.0)
        self.sends(self.fe, b"x")
        self.ends(self.fe)
        self.passes(9.5)
        self.running()
        self.passes(1)
        self.over("half_close_timeout", "reset", "reset")

    def test_takes_nothing_but_talks(self) -> None:
        self.begin(half_close_timeout=10.0)
        self.sends(self.fe, b"x")
        self.ends(self.fe)
        for _ in range(105):
            if not self.outcomes:
                self.sends(self.be, b"y")
                self.fe.acknowledge()
                self.passes(0.1)
        self.over("half_close_timeout", "reset", "reset")

    def test_takes_a_little_at_a_time(self) -> None:
        self.begin(half_close_timeout=10.0)
        self.sends(self.fe, b"x" * 10)
        self.ends(self.fe)
        for _ in range(5):
            self.passes(8)
            self.be.unacknowledged -= 1
        self.running()

    def test_the_fe_takes_a_little_at_a_time(self) -> None:
        """What it takes of the answer after its end is progress."""
        self.begin(half_close_timeout=10.0)
        self.ends(self.fe)
        self.sends(self.be, b"x" * 10)
        for _ in range(5):
            self.passes(8)
            self.fe.unacknowledged -= 1
        self.running()

    def test_drain_quiet_of_a_minute(self) -> None:
        self.begin(drain_quiet=60.0)
        self.ends(self.fe)
        self.passes(59, step=0.25)
        self.running()
        self.passes(17, step=0.25)
        self.over("fe_closed", "closed", "")


class BeEnds(Kept):
    """A kept BE's own end or reset is handled as in close; the port is then empty."""

    def test_its_end_is_passed_on(self) -> None:
        self.ends(self.be)
        self.assertTrue(self.fe.shut)
        self.assertFalse(self.be.shut)
        self.running()

    def test_then_the_fe_ends(self) -> None:
        self.ends(self.be)
        self.sends(self.fe, b"more")
        self.ends(self.fe)
        self.assertTrue(self.be.shut)
        self.running()
        self.be.acknowledge()
        self.passes(0.3)
        self.over("be_closed", "closed", "closed")

    def test_after_the_fes_end(self) -> None:
        """The FE's end, kept back until then, is passed on."""
        self.sends(self.fe, b"more")
        self.ends(self.fe)
        self.ends(self.be)
        self.assertTrue(self.be.shut)
        self.be.acknowledge()
        self.passes(0.3)
        self.over("fe_closed", "closed", "closed")

    def test_its_reset(self) -> None:
        self.fails(self.be)
        self.gone(self.be)
        self.over("be_reset", "reset", "closed")

    def test_its_reset_after_the_fes_end(self) -> None:
        self.ends(self.fe)
        self.fails(self.be)
        self.gone(self.be)
        self.over("be_reset", "reset", "closed")

    def test_its_end_after_the_fe_was_gone(self) -> None:
        self.fails(self.fe)
        self.gone(self.fe)
        self.ends(self.be)
        self.over("fe_closed", "closed", "closed")

    def test_ended_by_the_gateway(self) -> None:
        self.session.finish(Cause.DRAIN, "stop")
        self.over("drain", "reset", "reset")

    def test_bytes_to_the_fe_are_progress(self) -> None:
        self.begin(idle_timeout=4.0)
        for _ in range(5):
            self.passes(3)
            self.sends(self.be, b"x")
            self.fe.acknowledge()
        self.running()

    def test_idle(self) -> None:
        self.begin(idle_timeout=4.0)
        self.passes(5.5)
        self.over("idle_timeout", "reset", "reset")
