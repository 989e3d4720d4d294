"""Points in time as text: RFC 3339 in UTC, to the second."""

from __future__ import annotations

import datetime

_LATEST = 253402300799  # the last second of the year 9999
DAY = 86_400.0
"""Seconds."""


def utc(seconds: float) -> str:
    """``2026-11-24T12:00:00Z`` of seconds since the epoch, cut into the years that it can say."""
    return _moment(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc_day(seconds: float) -> str:
    """``20261124``, likewise."""
    return _moment(seconds).strftime("%Y%m%d")


def _moment(seconds: float) -> datetime.datetime:
    whole = int(min(max(seconds, 0), _LATEST))
    return datetime.datetime.fromtimestamp(whole, datetime.UTC)


def from_utc(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 text.

    :raises ValueError: where it is none, or does not say its distance to UTC.
    """
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("no distance to UTC")
    return moment.timestamp()
