"""What describes the keys of a section: ranges, meanings, and marks of what their text is.

Each function gives the :class:`msgspec.Meta` of one key, whose description stands in the
configuration file, in the reference and, with its range, in faults.
"""

from __future__ import annotations

import msgspec
from msgspec import Meta

COUNT_MOST = 2**31 - 1
INT64_MOST = 2**63 - 1
KIB = 1024
MIB = 1024 * KIB
LONGEST = 168 * 3600
"""Seconds: a week; the reactor's poll cannot wait for more than 24 days."""

UNBOUNDED = frozenset({COUNT_MOST, INT64_MOST})
"""Upper ends that only say which integers there are: shown as "or more"."""

DURATION = "duration"
"""Mark of a key whose text is a Go style duration."""

RATE = "rate"
"""Mark of a key that is a number of bits a second, with k, M or G behind it where wanted."""

CREDENTIAL = "credential"
"""Mark of a key whose value may let somebody in, and is therefore never shown."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of the sections of the file, and of the entries of its lists.

    A field that is a section itself is nested in it.
    """


def count(text: str) -> Meta:
    """At least one of something."""
    return Meta(ge=1, le=COUNT_MOST, description=text)


def number(text: str, least: int = 0, most: int = COUNT_MOST) -> Meta:
    """An integer in the unit that `text` says."""
    return Meta(ge=least, le=most, description=text)


def port(text: str) -> Meta:
    """The number of a port."""
    return Meta(ge=1, le=65535, description=text)


def duration(text: str, least: int = 0, most: int = LONGEST) -> Meta:
    """A duration; `least` and `most` are seconds."""
    return Meta(ge=least, le=most, description=text, extra={"kind": DURATION})


def text(text: str) -> Meta:
    """A text, or whatever else has no range."""
    return Meta(description=text)


def credential(text: str) -> Meta:
    """A text that is never shown."""
    return Meta(description=text, extra={"kind": CREDENTIAL})
