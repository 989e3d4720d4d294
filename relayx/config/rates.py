"""Rates in the configuration: bits a second, with k, M or G behind the number where wanted."""

from __future__ import annotations

import re
from decimal import Decimal

_RATE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)([kMG]?)")
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}


class RateError(ValueError):
    """A text that is no rate; says why."""


def parse_rate(text: str) -> int:
    """Bits a second of a text such as ``20M``: powers of 1000, as networks count.

    :raises RateError: where it is none; the bounds of a key are not looked at here.
    """
    found = _RATE.fullmatch(text)
    if found is None:
        raise RateError("is not a rate")
    return int(Decimal(found[1]) * _UNITS[found[2]])
