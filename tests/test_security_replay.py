"""The table of messages that were verified a moment ago."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relayx.security.replay import WINDOW_MS, ReplayTable, Seen

A, B = b"a" * 32, b"b" * 32
START = 1_000_000


class ReplayTests(SynchronousTestCase):
    """Entries live as long as their message could come again."""

    def test_lifetime(self) -> None:
        """Until the message's time plus the window, and not a second past it."""
        for ts_ms in (START - WINDOW_MS, START, START + WINDOW_MS, START + 999):
            table = ReplayTable()
            self.assertIs(table.enter(A, "m", ts_ms, START), Seen.NEW)
            end = ts_ms + WINDOW_MS
            self.assertIs(table.enter(A, "m", ts_ms, end), Seen.AGAIN)
            self.assertEqual(len(table), 1)
            self.assertIs(table.enter(B, "other", end, end + 1000), Seen.NEW)
            self.assertEqual(len(table), 1)

    def test_apart_by_key(self) -> None:
        """The same id of two keys is two messages."""
        table = ReplayTable()
        self.assertIs(table.enter(A, "m", START, START), Seen.NEW)
        self.assertIs(table.enter(B, "m", START, START), Seen.NEW)
        self.assertIs(table.enter(A, "m", START + 1, START), Seen.AGAIN)

    def test_full(self) -> None:
        """One key's flood is its own; what is there stays, and makes room when it is over."""
        table = ReplayTable(3)
        for number in range(3):
            table.enter(A, f"m{number}", START, START)
        for number in range(100):
            self.assertIs(table.enter(A, f"n{number}", START, START), Seen.FULL)
        self.assertIs(table.enter(A, "m0", START, START), Seen.AGAIN)
        self.assertIs(table.enter(B, "m", START, START), Seen.NEW)
        self.assertEqual(len(table), 4)
        later = START + WINDOW_MS + 1000
        self.assertIs(table.enter(A, "n", later, later), Seen.NEW)
        self.assertEqual(len(table), 1)

    def test_clock_set_back(self) -> None:
        """What has been let go is never new again; what is still held is as before."""
        table = ReplayTable()
        table.enter(A, "m", START, START)
        later = START + WINDOW_MS + 1000
        table.enter(A, "n", later, later)
        self.assertIs(table.enter(A, "m", START, START), Seen.FORGOTTEN)
        self.assertIs(table.enter(A, "n", later, START), Seen.AGAIN)
        self.assertIs(table.enter(A, "o", START + 1000, START + 1000), Seen.NEW)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([A, B]),
                st.sampled_from("mnop"),
                st.integers(-WINDOW_MS, WINDOW_MS),
                st.integers(-5_000, 40_000),
            ),
            max_size=40,
        )
    )
    def test_never_twice(self, steps: list[tuple[bytes, str, int, int]]) -> None:
        """Whatever the clock does, no message is new twice, and time empties the table."""
        table, now, new = ReplayTable(), START, set()
        for key, msg_id, skew, passed in steps:
            now += passed
            seen = table.enter(key, msg_id, now + skew, now)
            message = (key, msg_id, now + skew)
            if seen is Seen.NEW:
                self.assertNotIn(message, new)
                new.add(message)
        for key, msg_id, ts_ms in new:
            if abs(ts_ms - now) <= WINDOW_MS:
                self.assertIsNot(table.enter(key, msg_id, ts_ms, now), Seen.NEW)
        end = max([ts_ms for _, _, ts_ms in new], default=now) + WINDOW_MS + 1000
        table.enter(A, "last", end, end)
        self.assertEqual(len(table), 1)
