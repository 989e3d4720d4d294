"""The stream of JSON objects (contract section 2)."""

from __future__ import annotations

import sys
from typing import Any

from twisted.trial.unittest import TestCase

from relayx.core.codec import ObjectStream
from relayx.core.errors import Code, FramingError
from tests.common import check_cuts


def cut(pieces: list[bytes], max_bytes: int = 4096) -> list[bytes]:
    """The objects found in pieces fed one after the other."""
    stream = ObjectStream(max_bytes)
    return [found for piece in pieces for found in stream.feed(piece)]


def nested(levels: int) -> bytes:
    """An object with so many levels, itself included."""
    return b'{"a":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


class Objects(TestCase):
    """What counts as one object (section 2)."""

    def test_ends_in_newline(self) -> None:
        check_cuts(self, cut, b'{"type":"ping"}\n', [b'{"type":"ping"}'])

    def test_acts_without_newline(self) -> None:
        check_cuts(self, cut, b'{"type":"ping"}', [b'{"type":"ping"}'])

    def test_yields_at_the_last_byte(self) -> None:
        """An object is acted on as soon as it is complete, not with the next one."""
        stream = ObjectStream(100)
        self.assertEqual(list(stream.feed(b'{"a":{}')), [])
        self.assertEqual(list(stream.feed(b"}")), [b'{"a":{}}'])

    def test_spans_lines(self) -> None:
        sample = b'{\r\n  "a":\n\t[1,\n 2]\n}\n'
        check_cuts(self, cut, sample, [b'{\r\n  "a":\n\t[1,\n 2]\n}'])

    def test_follow_each_other_with_nothing_between(self) -> None:
        check_cuts(self, cut, b'{"a":1}{"b":{}}{}', [b'{"a":1}', b'{"b":{}}', b"{}"])

    def test_space_around_objects(self) -> None:
        check_cuts(self, cut, b' \t\r\n{"a":1} \n\n {"b":2}\r\n', [b'{"a":1}', b'{"b":2}'])

    def test_space_alone(self) -> None:
        check_cuts(self, cut, b" \r\n\t\n", [])

    def test_incomplete_object_is_kept(self) -> None:
        check_cuts(self, cut, b'{"a":1}{"b":', [b'{"a":1}'])

    def test_brackets_in_strings(self) -> None:
        check_cuts(self, cut, b'{"a":"}{]["}{"}":"{"}', [b'{"a":"}{]["}', b'{"}":"{"}'])

    def test_escaped_quote_in_string(self) -> None:
        check_cuts(self, cut, rb'{"a":"\"}"}{"b":1}', [rb'{"a":"\"}"}', b'{"b":1}'])

    def test_escaped_backslash_before_quote(self) -> None:
        check_cuts(self, cut, rb'{"a":"\\"}{"b":"\\\""}', [rb'{"a":"\\"}', rb'{"b":"\\\""}'])

    def test_escapes_by_number(self) -> None:
        check_cuts(self, cut, rb'{"a":"\u007d\u0022"}{}', [rb'{"a":"\u007d\u0022"}', b"{}"])

    def test_several_bytes_a_character(self) -> None:
        sample = '{"a":"中继 ☃"}'.encode()
        check_cuts(self, cut, sample + sample, [sample, sample])

    def test_lists_within_objects(self) -> None:
        check_cuts(self, cut, b'{"a":[[{}],{"b":[]}]}{}', [b'{"a":[[{}],{"b":[]}]}', b"{}"])

    def test_bytes_behind_are_kept_for_the_next(self) -> None:
        stream = ObjectStream(100)
        self.assertEqual(list(stream.feed(b'{"a":1}\n{"b"')), [b'{"a":1}'])
        self.assertEqual(list(stream.feed(b":2}")), [b'{"b":2}'])


class Refused(TestCase):
    """What breaks the stream (section 2)."""

    def broken(self, pieces: list[bytes], max_bytes: int = 4096) -> tuple[list[bytes], str]:
        """The objects before the fault, and what is said of it."""
        stream, found = ObjectStream(max_bytes), []
        with self.assertRaises(FramingError) as caught:
            for piece in pieces:
                for raw in stream.feed(piece):
                    found.append(raw)
        self.assertEqual(caught.exception.code, Code.INVALID_MESSAGE)
        return found, caught.exception.text

    def test_not_an_object(self) -> None:
        for sample in (b"[1]", b'"text"', b"12", b"null", b"GET / HTTP/1.0", b"}", b"\xff", b"\0"):
            found, text = self.broken([sample])
            self.assertEqual(found, [])
            self.assertIn("JSON object", text)

    def test_byte_order_mark(self) -> None:
        self.assertEqual(self.broken([b"\xef\xbb\xbf{}"])[0], [])

    def test_objects_before_the_fault_count(self) -> None:
        for pieces in ([b'{"a":1}\n{}x'], [b'{"a":1}', b"{}", b"x"]):
            self.assertEqual(self.broken(pieces)[0], [b'{"a":1}', b"{}"])

    def test_depth_32_passes(self) -> None:
        check_cuts(self, cut, nested(32), [nested(32)])

    def test_depth_33_is_refused(self) -> None:
        found, text = self.broken([nested(33)])
        self.assertEqual(found, [])
        self.assertIn("32", text)

    def test_depth_33_is_refused_in_pieces(self) -> None:
        sample = nested(33)
        self.assertEqual(self.broken([sample[i : i + 1] for i in range(len(sample))])[0], [])

    def test_depth_is_refused_before_the_end(self) -> None:
        self.assertIn("32", self.broken([b'{"a":' + b"[" * 32])[1])

    def test_depth_counts_anew_in_each_object(self) -> None:
        check_cuts(self, cut, nested(32) * 2, [nested(32)] * 2)

    def test_longest_object_passes(self) -> None:
        sample = b'{"a":"' + b"x" * 56 + b'"}'
        self.assertEqual(len(sample), 64)
        for behind in (b"", b"\n", b"{}"):
            found = cut([sample + behind], 64)
            self.assertEqual(found[0], sample)
        check_cuts(self, lambda pieces: cut(pieces, 64), sample, [sample])

    def test_one_byte_more_is_refused(self) -> None:
        sample = b'{"a":"' + b"x" * 57 + b'"}'
        found, text = self.broken([sample], 64)
        self.assertEqual(found, [])
        self.assertIn("64", text)

    def test_one_byte_more_is_refused_in_pieces(self) -> None:
        sample = b'{"a":"' + b"x" * 57 + b'"}'
        self.assertEqual(self.broken([sample[i : i + 1] for i in range(65)], 64)[0], [])

    def test_too_long_is_refused_before_the_end(self) -> None:
        self.assertIn("64", self.broken([b'{"a":"' + b"x" * 59], 64)[1])

    def test_size_counts_anew_in_each_object(self) -> None:
        sample = b'{"a":"' + b"x" * 56 + b'"}'
        check_cuts(self, lambda pieces: cut(pieces, 64), sample * 3, [sample] * 3)

    def test_space_between_objects_is_no_message(self) -> None:
        self.assertEqual(cut([b"{}" + b" " * 1000 + b"{}"], 64), [b"{}", b"{}"])


class CallCounter:
    """Counts the calls made, of Python functions and of C ones."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, frame: Any, event: str, arg: Any) -> None:
        if event in ("call", "c_call"):
            self.calls += 1

    def __enter__(self) -> CallCounter:
        self._before = sys.getprofile()
        sys.setprofile(self)
        return self

    def __exit__(self, *exc: object) -> None:
        sys.setprofile(self._before)


class Work(TestCase):
    """Each byte is looked at once however the stream is cut (section 2, Framing)."""

    SIZE = 1 << 20
    WINDOW = 2000

    def test_byte_by_byte_is_linear(self) -> None:
        """The last bytes of a MiB cost as many calls as the first."""
        sample = b'{"a":"' + b"x" * (self.SIZE - 8) + b'"}'
        stream = ObjectStream(self.SIZE)
        pieces = [sample[i : i + 1] for i in range(len(sample))]
        tail = len(pieces) - self.WINDOW - 10

        def feed(first: int, last: int) -> list[bytes]:
            return [raw for piece in pieces[first:last] for raw in stream.feed(piece)]

        feed(0, 10)
        with CallCounter() as early:
            feed(10, 10 + self.WINDOW)
        feed(10 + self.WINDOW, tail)
        with CallCounter() as late:
            feed(tail, tail + self.WINDOW)
        self.assertEqual(feed(tail + self.WINDOW, len(pieces)), [sample])
        # The interpreter's own calls, such as a collection's, are counted too, now and then.
        self.assertLess(abs(late.calls - early.calls), self.WINDOW // 20)
        self.assertTrue(early.calls <= 12 * self.WINDOW, early.calls)

    def test_a_long_string_is_one_step(self) -> None:
        sample = b'{"a":"' + b"x" * (self.SIZE - 8) + b'"}'
        stream = ObjectStream(self.SIZE)
        with CallCounter() as counter:
            found = list(stream.feed(sample))
        self.assertEqual(found, [sample])
        self.assertTrue(counter.calls < 60, counter.calls)
