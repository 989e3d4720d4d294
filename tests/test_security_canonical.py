"""Canonical JSON: what RFC 8785 publishes as facts, and what it leaves to us."""

from __future__ import annotations

import json
import struct
import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relayx.security.canonical import (
    MAX_DEPTH,
    MAX_DIGITS,
    CanonicalError,
    canonical,
    parse,
)
from tests.rfc8785 import EXAMPLE, EXAMPLE_CANONICAL, NUMBERS, SORTED, SORTED_ORDER

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=20,
)


class PublishedTests(SynchronousTestCase):
    """The examples of RFC 8785."""

    def test_numbers(self) -> None:
        """Appendix B: doubles by their bits."""
        for bits, text in NUMBERS.items():
            value = struct.unpack(">d", bytes.fromhex(bits))[0]
            self.assertEqual(canonical(value).decode(), text, bits)
            # As it comes in: an integer that is past 2^53 is its own digits, so with a fraction.
            spelled = repr(value)
            self.assertEqual(canonical(parse(spelled.encode())).decode(), text, bits)

    def test_numbers_that_are_none(self) -> None:
        """Appendix B: NaN and Infinity."""
        for bits in ("7fffffffffffffff", "7ff0000000000000"):
            value = struct.unpack(">d", bytes.fromhex(bits))[0]
            with self.assertRaisesRegex(CanonicalError, "not finite"):
                canonical([value])

    def test_example(self) -> None:
        """Sections 3.2.2 to 3.2.4."""
        self.assertEqual(canonical(parse(EXAMPLE)), EXAMPLE_CANONICAL)

    def test_sorting(self) -> None:
        """Section 3.2.3: by UTF-16 code units."""
        again = json.loads(canonical(parse(SORTED)))
        self.assertEqual(list(again.values()), SORTED_ORDER)


class OursTests(SynchronousTestCase):
    """Where RFC 8785 stops, and what has no one meaning."""

    def refused(self, raw: bytes, text: str) -> None:
        with self.assertRaisesRegex(CanonicalError, text):
            parse(raw)

    def test_integers_of_any_size(self) -> None:
        """Nanoseconds are past 2^53, and not one of them gets lost."""
        long = "1" * (MAX_DIGITS + 1)
        for digits in (
            "9007199254740993", "1795549346441182947", "-" + "9" * 100, "0", long,
            "-" + "9" * 60000, f'{{"\u00e9":[{long}]}}',
        ):  # fmt: skip
            self.assertEqual(canonical(parse(digits.encode())).decode(), digits)
        self.assertEqual(canonical(parse(b'{"\\u00e9":%b}' % long.encode()))[6:-1].decode(), long)
        self.assertEqual(canonical(parse(b"-0")), b"0")
        self.assertEqual(canonical(parse(b"[1.0, 1e2, -0.0]")), b"[1,100,0]")

    def test_repeated_keys(self) -> None:
        """At any depth, and however they are spelled."""
        self.refused(b'{"a":1,"a":1}', 'the key "a" twice')
        self.refused(b'[{"b":{"a":1,"\\u0061":2}}]', 'the key "a" twice')

    def test_a_key_twice_among_many(self) -> None:
        """RFC 7493 section 2.3; a peer chooses how many there are."""
        keys = b",".join(b'"%d":1' % number for number in range(40_000))
        began = time.thread_time()
        self.refused(b"{" + keys + b',"39999":2}', 'the key "39999" twice')
        self.assertLess(time.thread_time() - began, 5)
        self.assertEqual(parse(b'[{"a":1},{"a":2}]'), [{"a": 1}, {"a": 2}])

    def test_surrogates(self) -> None:
        """Halves are refused, in values and keys; pairs are one character."""
        self.refused(b'"\\ud800"', "surrogate")
        self.refused(b'{"\\uDC00x":1}', "surrogate")
        self.refused(b'"\xed\xa0\x80"', "UTF-8")
        self.assertEqual(canonical(parse(b'"\\ud83d\\ude00"')), '"\N{GRINNING FACE}"'.encode())
        for value in ("\ud800", {"\ud800": 1}):
            with self.assertRaisesRegex(CanonicalError, "surrogate"):
                canonical(value)

    def test_numbers(self) -> None:
        """Past a double, or of too many digits to be meant."""
        self.refused(b"[1e400]", "past what a double holds")
        self.refused(b"-1e309", "past what a double holds")
        self.refused(b"0." + b"1" * MAX_DIGITS, "digits")
        for text in (b"NaN", b"Infinity", b"-Infinity"):
            self.refused(text, "no number of JSON")
        self.assertEqual(canonical(parse(b"1" * MAX_DIGITS)), b"1" * MAX_DIGITS)
        for digits in (MAX_DIGITS + 1, 10_000):
            with self.assertRaisesRegex(CanonicalError, "digits"):
                canonical(10**digits)

    def test_depth(self) -> None:
        """So far and no further, the same for reading and writing."""
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
            most = opening * MAX_DEPTH + b"1" + closing * MAX_DEPTH
            self.assertEqual(canonical(parse(most)), most)
            self.refused(opening + most + closing, "levels")
            self.refused(opening * 100_000 + closing * 100_000, "levels")
        wide = b"[" + b",".join([b"[]"] * 200) + b"]"
        self.assertEqual(canonical(parse(wide)), wide)
        deep: Any = 1
        for _ in range(MAX_DEPTH + 1):
            deep = [deep]
        with self.assertRaisesRegex(CanonicalError, "levels"):
            canonical(deep)

    def test_not_json(self) -> None:
        """Also what lenient readers take."""
        for raw in (b"", b"{", b"01", b"'a'", b"[1,]", b'"\n"', b"1 2", b"\xef\xbb\xbf1", b"+1"):
            self.refused(raw, "not JSON")
        self.refused(b'{"a":1}'.decode().encode("utf-16"), "UTF-8")

    def test_types_that_json_has_not(self) -> None:
        """Our own mistakes are told."""
        for value in ({1: 2}, (1,), b"x", {"a": {1, 2}}):
            with self.assertRaises(CanonicalError):
                canonical(value)
        self.assertEqual(canonical({}), b"{}")
        self.assertEqual(canonical([]), b"[]")

    @given(VALUES)
    def test_stable(self, value: Any) -> None:
        """One spelling, whatever it was before, and nothing else in it."""
        spelled = json.dumps(value, indent=1, ensure_ascii=True).encode()
        once = canonical(parse(spelled))
        self.assertEqual(canonical(parse(once)), once)
        self.assertEqual(canonical(value), once)
        self.assertEqual(json.loads(once, parse_int=float), json.loads(spelled, parse_int=float))

    @given(st.binary(max_size=200) | TEXTS.map(str.encode))
    def test_any_bytes(self, raw: bytes) -> None:
        """A value that can be written, or the one error."""
        try:
            canonical(parse(raw))
        except CanonicalError as error:
            self.assertTrue(str(error))
