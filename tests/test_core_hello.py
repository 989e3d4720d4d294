"""HELLO and its answers (contract section 6)."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import TestCase

from relayx.core.codec import shown
from relayx.core.errors import Code
from relayx.core.hello import (
    Hello,
    HelloError,
    HelloReader,
    Paired,
    Refused,
    Waiting,
    decode_answer,
    decode_hello,
    encode_answer,
    encode_hello,
)
from relayx.core.messages import Role
from tests.common import check_cuts


def line(**fields: Any) -> bytes:
    """A HELLO line without its newline."""
    return b"RLX1HELLO " + json.dumps(fields).encode()


def read(pieces: list[bytes]) -> tuple[Hello | None, bytes]:
    """HELLO out of pieces, and every byte that came after it."""
    reader, hello, rest = HelloReader(), None, b""
    for piece in pieces:
        if hello is not None:
            rest += piece
            continue
        said = reader.feed(piece)
        if said is not None:
            hello, rest = said
    return hello, rest


class Fields(TestCase):
    """What a HELLO may carry (section 6, Fields)."""

    def refused(self, said: bytes) -> HelloError:
        with self.assertRaises(HelloError) as caught:
            decode_hello(said)
        self.assertEqual(caught.exception.code, Code.HELLO_INVALID)
        return caught.exception

    def test_role_alone(self) -> None:
        hello = decode_hello(line(role="BE"))
        self.assertEqual(hello, Hello(role=Role.BE))
        self.assertEqual(
            (hello.client_id, hello.service, hello.session_id, hello.ticket, hello.ack,
             hello.on_fe_close),
            ("", "", "", "", False, ""),
        )  # fmt: skip

    def test_all_of_an_fe(self) -> None:
        said = line(role="FE", client_id="c", service="web", session_id="s", ticket="t", ack=True)
        self.assertEqual(
            decode_hello(said),
            Hello(
                role=Role.FE, client_id="c", service="web", session_id="s", ticket="t", ack=True
            ),
        )  # fmt: skip

    def test_unknown_fields_are_ignored(self) -> None:
        self.assertEqual(decode_hello(line(role="FE", more=[1])), Hello(role=Role.FE))

    def test_space_in_the_object(self) -> None:
        self.assertEqual(decode_hello(b'RLX1HELLO  { "role" : "FE" } \r'), Hello(role=Role.FE))

    def test_role_is_required(self) -> None:
        for said in (line(), line(role="fe"), line(role="XX"), line(role=1), line(role=None)):
            self.assertIn("FE or BE", self.refused(said).text)

    def test_wrong_types(self) -> None:
        for field, value in (("client_id", 5), ("service", None), ("session_id", []),
                             ("ticket", {}), ("ack", "yes"), ("on_fe_close", True)):  # fmt: skip
            self.assertIn(field, self.refused(line(role="FE", **{field: value})).text)

    def test_client_id_limit(self) -> None:
        self.assertEqual(decode_hello(line(role="FE", client_id="x" * 128)).client_id, "x" * 128)
        for bad in ("x" * 129, "a\nb", "\x00"):
            text = self.refused(line(role="FE", client_id=bad)).text
            self.assertIn(f"client_id is {shown(bad)}, {len(bad)} characters", text)

    def test_service(self) -> None:
        for good in ("", "web", "a-z.0-9", "x" * 64):
            self.assertEqual(decode_hello(line(role="FE", service=good)).service, good)
        for bad in ("Web", "a_b", "a b", "x" * 65, "é", "web\n"):
            self.assertIn("service", self.refused(line(role="FE", service=bad)).text)

    def test_session_id_and_ticket_limits(self) -> None:
        for field in ("session_id", "ticket"):
            decode_hello(line(role="FE", **{field: "x" * 256}))
            text = self.refused(line(role="FE", **{field: "x" * 257})).text
            self.assertEqual(text, f"{field} has 257 bytes; allowed: at most 256")

    def test_on_fe_close(self) -> None:
        for good in ("close", "keep"):
            self.assertEqual(decode_hello(line(role="BE", on_fe_close=good)).on_fe_close, good)
        self.assertIn("close, keep", self.refused(line(role="BE", on_fe_close="stay")).text)

    def test_ack_with_close(self) -> None:
        self.assertTrue(decode_hello(line(role="BE", ack=True, on_fe_close="close")).ack)

    def test_ack_with_keep_is_invalid(self) -> None:
        error = self.refused(line(role="BE", ack=True, on_fe_close="keep"))
        self.assertTrue(error.ack)

    def test_on_fe_close_is_not_an_fes(self) -> None:
        """An FE that carries it is not refused: the field is a BE's."""
        self.assertEqual(
            decode_hello(line(role="FE", ack=True, on_fe_close="keep")),
            Hello(role=Role.FE, ack=True, on_fe_close="keep"),
        )

    def test_fault_tells_whether_it_wants_an_answer(self) -> None:
        self.assertTrue(self.refused(line(role="XX", ack=True)).ack)
        self.assertTrue(self.refused(line(role="BE", service="X", ack=True)).ack)
        self.assertFalse(self.refused(line(role="XX")).ack)
        self.assertFalse(self.refused(line(role="XX", ack="yes")).ack)
        self.assertFalse(self.refused(b"RLX1HELLO [").ack)

    def test_not_an_object(self) -> None:
        for body in (b"[]", b"null", b'"x"', b"5"):
            self.assertIn("object", self.refused(b"RLX1HELLO " + body).text)

    def test_not_json(self) -> None:
        for body in (b"", b"{", b'{"role":"FE"}x', b"{'role':'FE'}"):
            self.assertIn("JSON", self.refused(b"RLX1HELLO " + body).text)

    def test_not_utf8(self) -> None:
        self.assertIn("UTF-8", self.refused(b'RLX1HELLO {"role":"FE","client_id":"\xff"}').text)

    def test_too_deep(self) -> None:
        body = b'{"role":"FE","a":' + b"[" * 1900 + b"]" * 1900 + b"}"
        self.assertIn("JSON", self.refused(b"RLX1HELLO " + body).text)

    def test_another_word(self) -> None:
        for said in (b'HELLO {"role":"FE"}', b'rlx1hello {"role":"FE"}', b'RLX1HELLO{"role":"FE"}'):
            self.assertIn("RLX1HELLO", self.refused(said).text)

    def test_repr_hides_the_credentials(self) -> None:
        text = repr(Hello(role=Role.FE, client_id="me", ticket="hush", session_id="HUSH"))
        self.assertIn("'me'", text)
        self.assertNotIn("hush", text.lower())

    def test_fault_hides_the_credentials(self) -> None:
        error = self.refused(line(role="FE", ticket="hush" * 65))
        self.assertNotIn("hush", str(error))


class Reading(TestCase):
    """HELLO out of a stream, whatever way it is cut (section 6)."""

    SAMPLE = b'RLX1HELLO {"role":"FE","client_id":"\xc3\xa9"}\n'
    HELLO = Hello(role=Role.FE, client_id="é")

    def test_alone(self) -> None:
        check_cuts(self, read, self.SAMPLE, (self.HELLO, b""))

    def test_with_data_behind(self) -> None:
        """What follows the newline is session data."""
        behind = b"\n\0RLX1HELLO \xff\n"
        check_cuts(self, read, self.SAMPLE + behind, (self.HELLO, behind))

    def test_encoded(self) -> None:
        hello = Hello(role=Role.BE, service="web", ack=True, on_fe_close="close")
        check_cuts(self, read, encode_hello(hello) + b"x", (hello, b"x"))

    def test_incomplete(self) -> None:
        check_cuts(self, read, self.SAMPLE[:-1], (None, b""))

    def test_two_readers_hold_nothing_in_common(self) -> None:
        one, two = HelloReader(), HelloReader()
        one.feed(self.SAMPLE[:20])
        self.assertEqual(two.feed(self.SAMPLE), (self.HELLO, b""))
        self.assertEqual(one.feed(self.SAMPLE[20:]), (self.HELLO, b""))

    def long_line(self, size: int) -> bytes:
        """A valid HELLO line of `size` bytes, newline included."""
        start, end = b'RLX1HELLO {"role":"FE","x":"', b'"}\n'
        return start + b"x" * (size - len(start) - len(end)) + end

    def test_longest_line(self) -> None:
        sample = self.long_line(4096)
        for pieces in ([sample], [sample[:4095], sample[4095:]], [sample + b"y" * 9000]):
            hello, rest = read(pieces)
            self.assertEqual(hello, Hello(role=Role.FE))
            self.assertEqual(rest, b"y" * (sum(map(len, pieces)) - 4096))

    def test_line_too_long(self) -> None:
        sample = self.long_line(4098)
        for pieces in ([sample], [sample[:100], sample[100:]], [sample[:4096]]):
            with self.assertRaises(HelloError) as caught:
                read(pieces)
            self.assertIn("4096", caught.exception.text)

    def test_wrong_from_the_first_byte(self) -> None:
        """Bytes that cannot become a HELLO are refused before the newline."""
        for said in (b"G", b"RLX1HELLOX", b"RLX2", b"\n", b"\x16\x03\x01"):
            with self.assertRaises(HelloError):
                HelloReader().feed(said)

    def test_wrong_at_the_newline(self) -> None:
        for said in (b"RLX1HELLO {\n", b"RLX1\n", b"RLX1HELLO \n"):
            with self.assertRaises(HelloError):
                read([said])
            with self.assertRaises(HelloError):
                read([said[i : i + 1] for i in range(len(said))])


class Answers(TestCase):
    """The lines that a client that sets ack gets (section 6)."""

    PAIRED = Paired("pair-1", "sess-1", "be-1", "192.0.2.2", "t")

    def test_waiting(self) -> None:
        self.assertEqual(encode_answer(Waiting()), b'RLX1OK {"state":"ready"}\n')

    def test_paired(self) -> None:
        self.assertEqual(
            encode_answer(self.PAIRED),
            b'RLX1PAIRED {"pairing_id":"pair-1","session_id":"sess-1","client_id":"be-1",'
            b'"address":"192.0.2.2","trace_id":"t"}\n',
        )

    def test_refused(self) -> None:
        self.assertEqual(
            encode_answer(Refused("PORT_BUSY", "taken\n")),
            b'RLX1ERR {"error_code":"PORT_BUSY","error":"taken\\n"}\n',
        )

    def test_round_trip(self) -> None:
        for answer in (Waiting(), self.PAIRED, Refused("PORT_BUSY", "taken")):
            self.assertEqual(decode_answer(encode_answer(answer)[:-1]), answer)

    def test_unknown_fields_are_ignored(self) -> None:
        self.assertEqual(decode_answer(b'RLX1OK {"state":"ready","more":1}'), Waiting())

    def test_not_an_answer(self) -> None:
        for said in (b"", b"HTTP/1.1 400 Bad Request", b'RLX1HELLO {"role":"FE"}'):
            with self.assertRaises(HelloError) as caught:
                decode_answer(said)
            self.assertIn("RLX1PAIRED", caught.exception.text)

    def test_broken_answer(self) -> None:
        for said in (b"RLX1OK", b"RLX1OK {", b"RLX1PAIRED {}", b"RLX1OK {}x"):
            with self.assertRaises(HelloError) as caught:
                decode_answer(said)
            self.assertIn(said.split(b" ")[0].decode(), caught.exception.text)
