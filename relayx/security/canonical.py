"""Canonical JSON: RFC 8785 with integers of any size (contract section 3, Signatures).

RFC 8785 takes every number for a double, and stops at integers past 2^53. The nanoseconds of
``ping`` and ``pong`` are past that. So here a number that is written without fraction and
exponent is written again as its plain decimal digits, and everything else is RFC 8785: keys
sorted by UTF-16 code units, strings and floats as the ``rfc8785`` package writes them.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import rfc8785

from relayx.core.codec import shown
from relayx.core.errors import RelayError

MAX_DEPTH = 64
"""Most levels of objects and lists within each other; the control plane has half of that."""

MAX_DIGITS = 640
"""Most characters of a number that is read as one. Python takes and gives as many digits whatever
its settings; an integer of more is kept as it is written."""


class CanonicalError(RelayError):
    """A value has no canonical form, or a text is not I-JSON (RFC 7493); str() says why."""


class _LongInteger:
    """The digits of an integer past `MAX_DIGITS`. JSON has one spelling for each."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def canonical(value: object) -> bytes:
    """The one spelling of a value of :func:`parse`, UTF-8.

    :param value: dicts with text keys, lists, texts, ints, floats, booleans and None.
    :raises CanonicalError: for other types, floats that are not finite, halves of surrogate
        pairs, and more than `MAX_DEPTH` levels.
    """
    parts: list[bytes] = []
    try:
        _write(value, parts, 0)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        raise CanonicalError(
            "a text with half of a surrogate pair, or a number that is not finite"
        ) from None
    return b"".join(parts)


def _write(value: object, parts: list[bytes], depth: int) -> None:
    if isinstance(value, str | float) or value is None or isinstance(value, bool):
        parts.append(rfc8785.dumps(value))
    elif isinstance(value, int):
        parts.append(_digits(value))
    elif isinstance(value, _LongInteger):
        parts.append(value.text.encode())
    elif depth == MAX_DEPTH:
        raise CanonicalError(f"more than {MAX_DEPTH} levels within each other")
    elif isinstance(value, dict):
        before = b"{"
        for key in _sorted(value):
            parts += (before, rfc8785.dumps(key), b":")
            _write(value[key], parts, depth + 1)
            before = b","
        parts.append(b"}" if value else b"{}")
    elif isinstance(value, list):
        before = b"["
        for item in value:
            parts.append(before)
            _write(item, parts, depth + 1)
            before = b","
        parts.append(b"]" if value else b"[]")
    else:
        raise CanonicalError(f"JSON has no {type(value).__name__}")


def _digits(value: int) -> bytes:
    try:
        text = str(value)
    except ValueError:  # past what Python writes at all
        text = "0" * (MAX_DIGITS + 1)
    if len(text) > MAX_DIGITS:
        raise CanonicalError(f"a number of more than {MAX_DIGITS} digits")
    return text.encode()


def _sorted(value: dict[Any, Any]) -> list[str]:
    """The keys by UTF-16 code units (RFC 8785 section 3.2.3)."""
    for key in value:
        if not isinstance(key, str):
            raise CanonicalError(f"a key that is no text but {type(key).__name__}")
    return sorted(value, key=lambda key: key.encode("utf-16-be"))


def parse(raw: bytes) -> Any:
    """The value of a JSON text as it was received, with nothing in it lost.

    Refused is what two readers may read in two ways (RFC 7493): keys that an object has twice,
    halves of surrogate pairs, numbers past a double, ``NaN``; and what could not be written
    again: more than `MAX_DEPTH` levels, fractions of more than `MAX_DIGITS` characters.

    :raises CanonicalError: for these, and for what is not JSON in UTF-8.
    """
    try:
        text = raw.decode()
        value = _DECODER.decode(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False, default=repr).encode()
    except UnicodeDecodeError as error:
        raise CanonicalError(f"not UTF-8: {error.reason}") from None
    except UnicodeEncodeError:
        raise CanonicalError("a text with half of a surrogate pair") from None
    except RecursionError:
        raise CanonicalError(f"more than {MAX_DEPTH} levels within each other") from None
    except json.JSONDecodeError as error:
        raise CanonicalError(f"not JSON: {error.msg} at character {error.pos}") from None
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH:
        _check_depth(value)
    return value


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            item
            for outer in level
            if isinstance(outer, dict | list)
            for item in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise CanonicalError(f"more than {MAX_DEPTH} levels within each other")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise CanonicalError(f"an object has the key {shown(_first_again(pairs))} twice")
    return found


def _first_again(pairs: list[tuple[str, Any]]) -> str:
    """The first key that comes for the second time; a peer chooses how many there are."""
    before: set[str] = set()
    for name, _ in pairs:
        if name in before:
            break
        before.add(name)
    return name


def _integer(text: str) -> int | _LongInteger:
    return int(text) if len(text) <= MAX_DIGITS else _LongInteger(text)


def _float(text: str) -> float:
    if len(text) > MAX_DIGITS:
        raise CanonicalError(f"a number of more than {MAX_DIGITS} digits")
    value = float(text)
    if math.isinf(value):
        raise CanonicalError(f"the number {shown(text)} is past what a double holds")
    return value


def _constant(text: str) -> NoReturn:
    raise CanonicalError(f"{text} is no number of JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
)
