"""Log lines (contract sections 1 and 2: no control character ever reaches one raw)."""

from __future__ import annotations

import errno
import io
import json
from typing import Any

from twisted.logger import LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relayx.logs import LineObserver, Renderer, clean

LEVELS = ("debug", "info", "warn", "error", "critical")


def event(text: str = "text", **fields: Any) -> dict[str, Any]:
    """An event as the gateway logs them, at 2023-11-14T22:13:20.5Z."""
    return {
        "log_format": "{text}", "text": text, "log_level": LogLevel.info, "log_time": 1.7e9 + 0.5,
        "log_namespace": "relayx",
    } | fields  # fmt: skip


def of_level(name: str, **fields: Any) -> dict[str, Any]:
    return event(log_level=LogLevel.lookupByName(name), **fields)


class Levels(SynchronousTestCase):
    """log.level; lines below it are not rendered."""

    def shown(self, level: str) -> list[str]:
        render = Renderer(level, "text")
        names = ["debug", "info", "warn", "error", "critical"]
        return [name for name in names if render(of_level(name)) is not None]

    def test_each(self) -> None:
        for index, level in enumerate(LEVELS[:4]):
            self.assertEqual(self.shown(level), list(LEVELS[index:]))

    def test_of_others(self) -> None:
        """What Twisted has to tell at info, a line a port and more, is for debug."""
        line = event(log_namespace="twisted.internet.protocol.Factory")
        self.assertIsNone(Renderer("info", "text")(line))
        self.assertIn("debug", Renderer("debug", "text")(line))

    def test_warnings_of_others(self) -> None:
        line = of_level("warn", log_namespace="twisted")
        self.assertIn("warn", Renderer("warn", "text")(line))

    def test_without_a_level(self) -> None:
        line = event(log_namespace="relayx.x")
        del line["log_level"]
        self.assertIn(" info ", Renderer("info", "text")(line))
        del line["log_namespace"]
        self.assertIsNone(Renderer("info", "text")(line))


class Text(SynchronousTestCase):
    """log.format text."""

    def line(self, *args: Any, **fields: Any) -> str:
        rendered = Renderer("debug", "text")(event(*args, **fields))
        self.assertIsNotNone(rendered)
        return rendered

    def test_line(self) -> None:
        self.assertEqual(self.line("hello"), "2023-11-14T22:13:20.500Z info  hello\n")

    def test_trace_id(self) -> None:
        line = self.line("hello", trace_id="t\n1", port=5, secret="hush")
        self.assertEqual(line, "2023-11-14T22:13:20.500Z info  hello trace_id=t\\n1\n")

    def test_empty_trace_id(self) -> None:
        self.assertNotIn("trace_id", self.line("hello", trace_id=""))

    def test_control_characters(self) -> None:
        line = self.line("a\x1b[2Jb\x00c\u202e\x7f")
        self.assertEqual(line.split("info  ")[1], "a\\x1b[2Jb\\x00c\\u202e\\x7f\n")

    def test_newlines_are_set_in(self) -> None:
        """So that nobody can make a line that looks like one of ours."""
        text = "a\n2023-11-14T22:13:20.500Z info  forged\r\nb\x0bc\x85d\u2028e"
        lines = self.line(text).split("\n")
        self.assertEqual(lines.pop(), "")
        self.assertTrue(all(line.isprintable() for line in lines), lines)
        self.assertTrue(lines[0].endswith("info  a"))
        self.assertTrue(all(line.startswith("    ") for line in lines[1:]), lines)

    def test_failure(self) -> None:
        try:
            raise ValueError("broken\x1b")
        except ValueError:
            failure = Failure()
        line = self.line("it failed", log_failure=failure)
        self.assertIn("it failed\n    ", line)
        self.assertIn("builtins.ValueError: broken\\x1b", line)
        self.assertNotIn("\x1b", line)

    def test_failure_without_a_text(self) -> None:
        line = self.line("", log_failure=Failure(ValueError("broken")))
        self.assertIn("broken", line)

    def test_nothing_to_say(self) -> None:
        self.assertIsNone(Renderer("debug", "text")(event("")))

    def test_critical(self) -> None:
        self.assertIn(" critical hello", self.line("hello", log_level=LogLevel.critical))


class Json(SynchronousTestCase):
    """log.format json."""

    def line(self, *args: Any, **fields: Any) -> dict[str, Any]:
        rendered = Renderer("debug", "json")(event(*args, **fields))
        self.assertEqual(rendered.count("\n"), 1)
        self.assertTrue(rendered.endswith("\n"))
        self.assertTrue(rendered[:-1].isprintable())
        return json.loads(rendered)

    def test_line(self) -> None:
        self.assertEqual(
            self.line("hello", log_level=LogLevel.warn),
            {"time": "2023-11-14T22:13:20.500Z", "level": "warn", "message": "hello"},
        )

    def test_known_fields_alone(self) -> None:
        line = self.line("hello", port=5, client_id="c", secret="hush", ticket="hush", event="e")
        self.assertEqual({**line, "time": "", "message": ""}, {
            "time": "", "level": "info", "message": "", "port": 5, "client_id": "c", "event": "e",
        })  # fmt: skip

    def test_empty_fields_are_left_out(self) -> None:
        line = self.line("hello", port=0, client_id="", cause=None)
        self.assertEqual(set(line), {"time", "level", "message"})

    def test_no_byte_is_a_number(self) -> None:
        """A session that moved nothing one way is added up like any other."""
        told = {"fe_to_be_bytes": 5, "be_to_fe_bytes": 0, "seconds": 0.0, "fe_stall_seconds": 0.0}
        line = self.line("ended", **told)
        self.assertEqual({name: line.get(name) for name in told}, told)

    def test_control_characters(self) -> None:
        line = self.line("a\x1bb\nc", trace_id="t\x00\n")
        self.assertEqual((line["message"], line["trace_id"]), ("a\\x1bb\nc", "t\\x00\\n"))

    def test_failure(self) -> None:
        line = self.line("it failed", log_failure=Failure(ValueError("broken")))
        self.assertIn("ValueError: broken", line["message"])


class Cleaning(SynchronousTestCase):
    """Every character that does not print is written as an escape."""

    def test_clean(self) -> None:
        self.assertEqual(clean("plain é 中"), "plain é 中")
        self.assertEqual(clean("a\tb\n\x9b\U000e0001"), "a\\tb\\n\\x9b\\U000e0001")


class Full(io.StringIO):
    """A file on a disk that is full until there is room again."""

    full = True

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


class Writing(SynchronousTestCase):
    """LineObserver."""

    def observer(self, out: io.StringIO) -> LineObserver:
        return LineObserver(out, Renderer("info", "text"))

    def test_writes(self) -> None:
        out = io.StringIO()
        observe = self.observer(out)
        observe(event("one"))
        observe(of_level("debug"))
        observe(event("two"))
        self.assertEqual([line[-3:] for line in out.getvalue().splitlines()], ["one", "two"])

    def test_full_disk(self) -> None:
        """The line is lost, and nothing else; the next one is written again."""
        out = Full()
        observe = self.observer(out)
        observe(event("one"))
        out.full = False
        observe(event("two"))
        self.assertEqual([line[-3:] for line in out.getvalue().splitlines()], ["two"])

    def test_closed_file(self) -> None:
        out = io.StringIO()
        observe = self.observer(out)
        out.close()
        observe(event("one"))

    def test_flushed(self) -> None:
        flushed = []
        out = io.StringIO()
        out.flush = lambda: flushed.append(out.getvalue()[-4:])
        self.observer(out)(event("one"))
        self.assertEqual(flushed, ["one\n"])
