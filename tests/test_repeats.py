"""Log lines that repeat: the first few, then how many more there were."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.trial.unittest import SynchronousTestCase

from relayx.logs import Renderer
from relayx.repeats import FIRST, MOST_KINDS, WINDOW, Repeats, Unrepeating


def line(event: str = "refused", address: str = "192.0.2.1", **fields: Any) -> dict[str, Any]:
    return {
        "log_format": "{text}", "text": f"a line of {event}", "event": event, "address": address,
        "log_level": LogLevel.warn, "log_namespace": "relayx", "log_time": 0.0,
    } | fields  # fmt: skip


class Counting(SynchronousTestCase):
    """Which lines are written."""

    def setUp(self) -> None:
        self.repeats = Repeats(first=3)

    def written(self, *events: dict[str, Any], now: float = 0.0) -> int:
        return sum(self.repeats.admit(event, now) for event in events)

    def test_first_few(self) -> None:
        self.assertEqual(self.written(*[line()] * 10), 3)
        self.assertEqual(self.repeats.left_out, 7)
        (summary,) = self.repeats.summaries(WINDOW)
        self.assertEqual(summary["text"], "7 more lines of refused from 192.0.2.1 left out")
        self.assertEqual((summary["log_level"], summary["address"]), (LogLevel.warn, "192.0.2.1"))
        self.assertEqual(self.written(*[line()] * 10, now=WINDOW), 3)

    def test_few_enough(self) -> None:
        self.assertEqual(self.written(*[line()] * 3), 3)
        self.assertIsNone(self.repeats.next_due())
        self.assertEqual(self.repeats.summaries(WINDOW), [])

    def test_one(self) -> None:
        self.written(*[line()] * 4)
        (summary,) = self.repeats.summaries(WINDOW)
        self.assertIn("1 more line of", summary["text"])

    def test_another_source_event_or_level(self) -> None:
        self.written(*[line()] * 10)
        for other in (
            line(address="192.0.2.2"), line("blocked"), line(log_level=LogLevel.info),
        ):  # fmt: skip
            self.assertEqual(self.written(other), 1)

    def test_texts_differ(self) -> None:
        """What a stranger puts into a line does not make it another one."""
        lines = [line(text=f"id {n}", client_id=str(n)) for n in range(10)]
        self.assertEqual(self.written(*lines), 3)

    def test_clients_at_one_address(self) -> None:
        lines = [line("registered", client_id=str(n)) for n in range(10)]
        self.assertEqual(self.written(*lines), 10)

    def test_without_an_event(self) -> None:
        for same in (
            {"log_namespace": "n", "log_format": "cannot {what}", "log_level": LogLevel.info},
            {"log_namespace": "n", "log_format": "{text}", "text": "x"},
        ):
            self.assertEqual(self.written(*[same] * 5), 3)

    def test_accounts_are_always_written(self) -> None:
        for always in (*map(line, ("session_end", "reloaded", "admin")), line(always=True)):
            self.assertEqual(self.written(*[always] * 10), 10)

    def test_bounded(self) -> None:
        """Whatever sources there are."""
        self.repeats = Repeats(first=1, most=4)
        for number in range(100):
            self.written(*[line(address=str(number))] * 2)
        self.assertEqual(len(self.repeats.summaries(WINDOW)), 4)
        self.assertEqual(self.repeats.left_out, 100)
        self.assertGreater(MOST_KINDS, 100)

    def test_late(self) -> None:
        """A line past the window joins the summary that is due, and the next begins anew."""
        self.written(*[line()] * 5)
        self.assertEqual(self.written(line(), now=2 * WINDOW), 0)
        (summary,) = self.repeats.summaries(2 * WINDOW)
        self.assertIn("3 more lines", summary["text"])
        self.assertEqual(self.written(line(), now=2 * WINDOW), 1)


class Loop(Clock):
    """A clock that takes calls from threads, and makes them at once."""

    def callFromThread(self, call: Any, *arguments: Any) -> None:
        call(*arguments)


class Observing(SynchronousTestCase):
    """In front of an observer."""

    def setUp(self) -> None:
        self.reactor = Loop()
        self.seen: list[dict[str, Any]] = []
        self.render = Renderer("info", "text")
        self.unrepeating = Unrepeating(self.reactor, self.seen.append, self.render)

    def log(self, count: int, **fields: Any) -> None:
        for _ in range(count):
            self.unrepeating(line(**fields))

    def texts(self) -> list[str]:
        return [event["text"] for event in self.seen]

    def test_summary_comes_by_itself(self) -> None:
        self.log(FIRST + 5)
        self.assertEqual(len(self.seen), FIRST)
        self.reactor.advance(WINDOW)
        self.assertEqual(self.texts()[FIRST:], ["5 more lines of refused from 192.0.2.1 left out"])
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertIsNotNone(self.render(self.seen[-1]))

    def test_one_timer(self) -> None:
        self.log(FIRST + 5)
        self.reactor.advance(WINDOW / 2)
        self.log(FIRST + 3, event="blocked")
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        self.reactor.advance(WINDOW / 2)
        self.assertIn("5 more lines of refused", self.texts()[-1])
        self.reactor.advance(WINDOW / 2)
        self.assertIn("3 more lines of blocked", self.texts()[-1])

    def test_lines_below_the_level_do_not_count(self) -> None:
        self.log(5 * FIRST, log_level=LogLevel.debug)
        self.assertEqual((self.seen, self.unrepeating.repeats.left_out), ([], 0))
        self.render.change("debug", "text")
        self.log(1, log_level=LogLevel.debug)
        self.assertEqual(len(self.seen), 1)

    def test_closed(self) -> None:
        """What was left out is told at the end, and no timer stays."""
        self.log(FIRST + 5)
        self.unrepeating.close()
        self.assertIn("5 more lines", self.texts()[-1])
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.log(2 * FIRST)
        self.assertEqual(self.reactor.getDelayedCalls(), [])
