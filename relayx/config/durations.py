"""Durations as Go writes them: ``500ms``, ``2s``, ``1m30s``, ``1.5h`` (contract section 1).

Seconds everywhere else in the code; the text with a unit is what files hold.
"""

from __future__ import annotations

import re
from decimal import Decimal

UNITS = {
    "ns": Decimal("1e-9"),
    "us": Decimal("1e-6"),
    "µs": Decimal("1e-6"),
    "μs": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
"""Seconds in each unit. Go takes the micro sign and the Greek letter, and so do we."""

EXAMPLES = "a duration with its unit, such as 500ms, 2s or 1m30s"

_MOST_CHARACTERS = 64
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)")


class DurationError(ValueError):
    """A text that is not a duration; says why."""


def parse_duration(text: str) -> float:
    """Seconds of a Go style duration. A bare 0 needs no unit, as in Go.

    :raises DurationError: where it is none; the bounds of a key are not looked at here.
    """
    if len(text) > _MOST_CHARACTERS:
        raise DurationError("is too long for a duration")
    if _NUMBER.fullmatch(text):
        if Decimal(text) == 0:
            return 0.0
        raise DurationError("needs a unit")
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text.startswith(("-", "+")) else text
    total = Decimal(0)
    position = 0
    while part := _PART.match(rest, position):
        total += Decimal(part[1]) * UNITS[part[2]]
        position = part.end()
    if not position or position != len(rest):
        raise DurationError("is not a duration")
    return float(sign * total)


def format_duration(seconds: float) -> str:
    """The shortest text of whole numbers that :func:`parse_duration` reads as `seconds`.

    Nothing below a nanosecond is kept.
    """
    left = round(Decimal(repr(seconds)) / UNITS["ns"])
    if not left:
        return "0s"
    text = "-" if left < 0 else ""
    left = abs(left)
    for unit in ("h", "m", "s", "ms", "us", "ns"):
        count, left = divmod(left, int(UNITS[unit] / UNITS["ns"]))
        text += f"{count}{unit}" if count else ""
    return text
