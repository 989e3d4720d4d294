"""Log lines: as text or as JSON, one event a line, never with a control character raw."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from zope.interface import implementer

LEVELS = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "error": LogLevel.error,
}
_ORDER = [LogLevel.debug, LogLevel.info, LogLevel.warn, LogLevel.error, LogLevel.critical]
_NAMES = {level: name for name, level in LEVELS.items()} | {LogLevel.critical: "critical"}

FIELDS = frozenset({
    "address", "be", "be_stall_seconds", "be_throttled_seconds", "be_to_fe_bytes", "cause",
    "client_id", "dropping_seconds", "error_code", "event", "fe", "fe_stall_seconds",
    "fe_throttled_seconds", "fe_to_be_bytes", "kid", "kid_before", "latency_ms", "loss_percent",
    "messages_dropped", "pairing_id", "port", "protocol", "role", "rtt_ms", "seconds",
    "session_id", "srt_port", "trace_id", "zmq_port",
})  # fmt: skip
"""The fields of an event that are shown; anything else stays inside the process."""

_COUNTS = frozenset({
    "be_stall_seconds", "be_to_fe_bytes", "fe_stall_seconds", "fe_to_be_bytes", "seconds",
})  # fmt: skip
"""What a session's end always says: a program that adds them up misses them where they are 0."""


def shown(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Those of :data:`FIELDS` that say something."""
    return {
        name: value
        for name, value in fields.items()
        if name in FIELDS and (value not in ("", 0, None) or name in _COUNTS)
    }


def clean(text: str) -> str:
    """`text` with every character that does not print written as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class Renderer:
    """Turns log events into lines.

    :param level: ``log.level``; lines below it are not rendered.
    :param form: ``log.format``, text or json.
    """

    def __init__(self, level: str, form: str) -> None:
        self.change(level, form)

    def change(self, level: str, form: str) -> None:
        """Render otherwise from now on."""
        self._least = _ORDER.index(LEVELS[level])
        self._json = form == "json"

    def shows(self, event: LogEvent) -> bool:
        """Whether an event is not below the level."""
        return _ORDER.index(_level(event)) >= self._least or bool(event.get("always"))

    def __call__(self, event: LogEvent) -> str | None:
        """The line of an event, newline included; None for one below the level."""
        if not self.shows(event):
            return None
        level = _level(event)
        text = formatEvent(event)
        failure = event.get("log_failure")
        if failure is not None:
            text = f"{text}\n{failure.getTraceback()}".strip()
        if not text:
            return None
        when = datetime.fromtimestamp(event.get("log_time", 0.0), UTC)
        stamp = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields = shown(event)
        if self._json:
            return self._as_json(stamp, _NAMES[level], text, fields)
        trace = f" trace_id={clean(fields['trace_id'])}" if "trace_id" in fields else ""
        lines = (clean(line) for line in text.splitlines())
        return f"{stamp} {_NAMES[level]:<5} " + "\n    ".join(lines) + trace + "\n"

    def _as_json(self, stamp: str, level: str, text: str, fields: dict[str, Any]) -> str:
        shown = {k: clean(v) if isinstance(v, str) else v for k, v in fields.items()}
        message = "\n".join(clean(line) for line in text.splitlines())
        line = {"time": stamp, "level": level, "message": message, **shown}
        return msgspec.json.encode(line).decode() + "\n"


def _level(event: LogEvent) -> Any:
    level = event.get("log_level", LogLevel.info)
    if level is LogLevel.info and not event.get("log_namespace", "").startswith("relayx"):
        return LogLevel.debug  # what Twisted itself has to tell, a line a port and more
    return level


@implementer(ILogObserver)
class LineObserver:
    """Writes rendered lines to a file; one that cannot be written (a full disk) is lost."""

    def __init__(self, out: TextIO, render: Callable[[LogEvent], str | None]) -> None:
        self._out = out
        self._render = render

    def __call__(self, event: LogEvent) -> None:
        """Write one event."""
        line = self._render(event)
        if line is None:
            return
        try:
            self._out.write(line)
            self._out.flush()
        except (OSError, ValueError):
            return
