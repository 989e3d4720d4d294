"""One JSON object to a typed message and back (contract sections 2 and 3)."""

from __future__ import annotations

import json

from twisted.trial.unittest import TestCase

from relayx.core.codec import (
    decode_envelope,
    decode_payload,
    encode,
    fits,
    is_client_id,
    shown,
)
from relayx.core.errors import Code, FramingError, PeerError
from relayx.core.messages import (
    REPLIES,
    REQUESTS,
    Error,
    Ping,
    Pong,
    PortAcquire,
    PortStateQuery,
    Register,
)


class Envelopes(TestCase):
    """The envelope's fields (section 2)."""

    def test_every_field(self) -> None:
        raw = (
            b'{"type":"ping","payload":{"c_send":5},"msg_id":"m-1","ts_ms":7,"trace_id":"t",'
            b'"sign":"s","kid":"k"}'
        )
        envelope = decode_envelope(raw)
        self.assertEqual(
            (envelope.type, envelope.msg_id, envelope.ts_ms, envelope.trace_id, envelope.sign,
             envelope.kid),
            ("ping", "m-1", 7, "t", "s", "k"),
        )  # fmt: skip

    def test_type_alone(self) -> None:
        envelope = decode_envelope(b'{"type":"ping"}')
        self.assertEqual((envelope.type, envelope.msg_id, envelope.trace_id), ("ping", "", ""))

    def test_payload_is_kept_as_received(self) -> None:
        """Signatures are over a payload's bytes."""
        raw = b'{"type":"ping","payload":{ "c_send" :5,  "x":"\\u0041" }}'
        payload = bytes(decode_envelope(raw).payload)
        self.assertEqual(payload, b'{ "c_send" :5,  "x":"\\u0041" }')

    def test_unknown_fields_are_ignored(self) -> None:
        envelope = decode_envelope(b'{"type":"ping","extra":[1,{"a":null}],"payload":null}')
        self.assertEqual(envelope.type, "ping")

    def test_not_utf8_breaks_the_stream(self) -> None:
        for bad in (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf"):
            with self.assertRaises(FramingError) as caught:
                decode_envelope(b'{"type":"' + bad + b'"}')
            self.assertEqual(caught.exception.code, Code.INVALID_MESSAGE)
            self.assertIn("UTF-8", caught.exception.text)

    def test_not_utf8_in_an_ignored_field_breaks_the_stream(self) -> None:
        with self.assertRaises(FramingError):
            decode_envelope(b'{"type":"ping","extra":"\xff"}')

    def test_not_json_breaks_the_stream(self) -> None:
        for bad in (b"{]", b'{"a"}', b"{'a':1}", b'{"type":"ping",}', b'{"a":NaN}', b'{"a":"\n"}'):
            with self.assertRaises(FramingError) as caught:
                decode_envelope(bad)
            self.assertIn("JSON", caught.exception.text)

    def test_wrong_types_do_not_break_the_stream(self) -> None:
        for bad in (b"{}", b'{"type":5}', b'{"type":null}', b'{"type":"ping","msg_id":5}',
                    b'{"type":"ping","trace_id":{}}', b'{"type":"ping","ts_ms":"x"}'):  # fmt: skip
            with self.assertRaises(PeerError) as caught:
                decode_envelope(bad)
            self.assertNotIsInstance(caught.exception, FramingError)
            self.assertEqual(caught.exception.code, Code.INVALID_MESSAGE)

    def test_an_integer_of_any_length_does_not_break_the_stream(self) -> None:
        """It is JSON like any other: ignored where nobody reads it, else of the wrong type."""
        digits = b"9" * 60000
        for extra in (b'"extra":' + digits, b'"extra":[{"a":-' + digits + b"}]"):
            raw = b'{"type":"ping",' + extra + b',"payload":{"c_send":5,' + extra + b"}}"
            self.assertEqual(decode_payload(decode_envelope(raw), REQUESTS), Ping(c_send=5))
        with self.assertRaises(PeerError) as caught:
            decode_payload(decode_envelope(b'{"type":"ping","payload":{"c_send":' + digits + b"}}"),
                           REQUESTS)  # fmt: skip
        self.assertNotIsInstance(caught.exception, FramingError)
        for field in (b"ts_ms", b"msg_id", b"trace_id", b"type"):
            with self.assertRaises(PeerError) as caught:
                decode_envelope(b'{"type":"ping","' + field + b'":' + digits + b"}")
            self.assertNotIsInstance(caught.exception, FramingError)
            self.assertEqual(caught.exception.code, Code.INVALID_MESSAGE)

    def test_number_out_of_range_does_not_break_the_stream(self) -> None:
        """1e999 is JSON: a payload of the wrong types, not a broken stream."""
        raw = b'{"type":"ping","payload":{"c_send":1e999}}'
        with self.assertRaises(PeerError) as caught:
            decode_payload(decode_envelope(raw), REQUESTS)
        self.assertNotIsInstance(caught.exception, FramingError)

    def test_number_out_of_range_in_the_envelope(self) -> None:
        with self.assertRaises(PeerError) as caught:
            decode_envelope(b'{"type":"ping","ts_ms":1e999,"msg_id":"m"}')
        self.assertNotIsInstance(caught.exception, FramingError)
        self.assertEqual(caught.exception.msg_id, "m")

    def test_number_out_of_range_in_an_ignored_field(self) -> None:
        raw = b'{"type":"ping","extra":-1e999,"payload":{"c_send":5,"more":[1e999]}}'
        self.assertEqual(decode_payload(decode_envelope(raw), REQUESTS), Ping(c_send=5))

    def test_wrong_types_name_no_id_that_is_none(self) -> None:
        for ids in (b'"msg_id":5,"trace_id":{}', b'"msg_id":"' + b"m" * 257 + b'"'):
            with self.assertRaises(PeerError) as caught:
                decode_envelope(b'{"type":5,' + ids + b"}")
            self.assertEqual((caught.exception.msg_id, caught.exception.trace_id), ("", ""))

    def test_wrong_types_still_name_the_message(self) -> None:
        """Section 3, error: in_reply_to is the msg_id, where there was one."""
        with self.assertRaises(PeerError) as caught:
            decode_envelope(b'{"type":"ping","ts_ms":"x","msg_id":"m-1","trace_id":"t"}')
        self.assertEqual((caught.exception.msg_id, caught.exception.trace_id), ("m-1", "t"))

    def test_longest_ids(self) -> None:
        raw = json.dumps({"type": "ping", "msg_id": "m" * 256, "trace_id": "é" * 128})
        envelope = decode_envelope(raw.encode())
        self.assertEqual((envelope.msg_id, envelope.trace_id), ("m" * 256, "é" * 128))

    def test_msg_id_too_long(self) -> None:
        raw = json.dumps({"type": "ping", "msg_id": "m" * 257, "trace_id": "t"}).encode()
        with self.assertRaises(PeerError) as caught:
            decode_envelope(raw)
        error = caught.exception
        self.assertEqual((error.code, error.msg_id, error.trace_id), ("INVALID_REQUEST", "", "t"))
        self.assertEqual(error.text, "msg_id has 257 bytes; allowed: at most 256")

    def test_trace_id_too_long(self) -> None:
        """256 bytes, not characters."""
        raw = json.dumps({"type": "ping", "msg_id": "m", "trace_id": "é" * 129}).encode()
        with self.assertRaises(PeerError) as caught:
            decode_envelope(raw)
        error = caught.exception
        self.assertEqual((error.code, error.msg_id, error.trace_id), ("INVALID_REQUEST", "m", ""))
        self.assertEqual(error.text, "trace_id has 258 bytes; allowed: at most 256")


class Payloads(TestCase):
    """The typed payload (sections 2 and 3)."""

    def decoded(self, raw: bytes) -> object:
        return decode_payload(decode_envelope(raw), REQUESTS)

    def refused(self, raw: bytes) -> PeerError:
        with self.assertRaises(PeerError) as caught:
            self.decoded(raw)
        self.assertNotIsInstance(caught.exception, FramingError)
        self.assertEqual(caught.exception.code, Code.INVALID_MESSAGE)
        return caught.exception

    def test_object(self) -> None:
        self.assertEqual(self.decoded(b'{"type":"ping","payload":{"c_send":5}}'), Ping(c_send=5))

    def test_null_and_absent_are_empty(self) -> None:
        for raw in (
            b'{"type":"port_state_q"}',
            b'{"type":"port_state_q","payload":null}',
            b'{"type":"port_state_q","payload": null }',
            b'{"type":"port_state_q","payload":{}}',
        ):
            self.assertEqual(self.decoded(raw), PortStateQuery())

    def test_unknown_fields_are_ignored(self) -> None:
        raw = b'{"type":"ping","payload":{"c_send":5,"more":[{}]}}'
        self.assertEqual(self.decoded(raw), Ping(c_send=5))

    def test_defaults(self) -> None:
        raw = b'{"type":"port_acquire","payload":{"need_zmq":true}}'
        self.assertEqual(self.decoded(raw), PortAcquire(need_zmq=True))

    def test_unknown_type(self) -> None:
        error = self.refused(b'{"type":"dance","msg_id":"m","trace_id":"t"}')
        self.assertEqual((error.msg_id, error.trace_id), ("m", "t"))
        self.assertIn('"dance"', error.text)
        self.assertIn("port_acquire", error.text)

    def test_unknown_type_is_shown_without_control_characters(self) -> None:
        error = self.refused(json.dumps({"type": "a\x1b[2J\n" + "b" * 500}).encode())
        self.assertTrue(error.text.isprintable(), error.text)
        self.assertTrue(len(error.text) < 300, error.text)

    def test_a_reply_is_no_request(self) -> None:
        self.refused(b'{"type":"port_grant","payload":{}}')

    def test_wrong_type_names_the_place(self) -> None:
        error = self.refused(b'{"type":"ping","msg_id":"m","payload":{"c_send":"now"}}')
        self.assertEqual(error.msg_id, "m")
        self.assertIn("c_send", error.text)

    def test_missing_field(self) -> None:
        self.assertIn("role", self.refused(b'{"type":"register","payload":{}}').text)

    def test_payload_that_is_no_object(self) -> None:
        for payload in (b"[]", b'"x"', b"5", b"true"):
            self.refused(b'{"type":"port_state_q","payload":' + payload + b"}")

    def test_a_secret_is_not_shown(self) -> None:
        error = self.refused(b'{"type":"register","payload":{"role":5,"secret":"hush"}}')
        self.assertNotIn("hush", error.text)

    def test_replies_for_the_client(self) -> None:
        envelope = decode_envelope(b'{"type":"error","payload":{"error_code":"X","error":"y"}}')
        self.assertEqual(decode_payload(envelope, REPLIES), Error(error_code="X", error="y"))


class Encoding(TestCase):
    """What the gateway writes (section 2)."""

    def test_one_compact_line(self) -> None:
        line = encode(Pong(c_send=1, s_recv=2, s_send=3), msg_id="m", ts_ms=9, trace_id="t")
        self.assertEqual(
            line,
            b'{"type":"pong","payload":{"c_send":1,"s_recv":2,"s_send":3},"msg_id":"m","ts_ms":9,'
            b'"trace_id":"t"}\n',
        )

    def test_no_trace_id(self) -> None:
        line = encode(Error(error_code="X", error="y"), msg_id="m", ts_ms=9)
        self.assertEqual(
            line,
            b'{"type":"error","payload":{"error_code":"X","error":"y"},"msg_id":"m","ts_ms":9}\n',
        )

    def test_trace_id_byte_for_byte(self) -> None:
        trace_id = 'a"\\/\u00e9\U0001f600\x7f\n'
        line = encode(Ping(c_send=1), trace_id=trace_id)
        self.assertEqual(json.loads(line)["trace_id"], trace_id)
        self.assertEqual(decode_envelope(line).trace_id, trace_id)

    def test_newline_in_a_value_stays_one_line(self) -> None:
        self.assertEqual(encode(Error(error_code="X", error="a\nb")).count(b"\n"), 1)

    def test_string_is_a_log_message(self) -> None:
        self.assertEqual(encode("a line"), b'{"type":"log","payload":"a line"}\n')

    def test_round_trip(self) -> None:
        message = Register(role="FE", secret="s", client_id="c", protocol="1.1", instance="i")
        self.assertEqual(decode_payload(decode_envelope(encode(message)), REQUESTS), message)


class Limits(TestCase):
    """Ids and what may be shown of them (section 2)."""

    def test_fits(self) -> None:
        self.assertTrue(fits(""))
        self.assertTrue(fits("x" * 256))
        self.assertFalse(fits("x" * 257))
        self.assertTrue(fits("é" * 128))
        self.assertFalse(fits("é" * 128 + "x"))

    def test_client_id(self) -> None:
        for good in ("", "a", "x" * 128, "工作 é-1", "a b"):
            self.assertTrue(is_client_id(good), good)
        for bad in ("x" * 129, "a\n", "\x00", "a\x1bb", "\u2028", "\u202e"):
            self.assertFalse(is_client_id(bad), ascii(bad))

    def test_shown(self) -> None:
        self.assertEqual(shown("web"), '"web"')
        self.assertEqual(shown("a\nb\x1b"), r'"a\nb\x1b"')
        self.assertEqual(shown("x" * 64), '"' + "x" * 64 + '"')
        self.assertEqual(shown("x" * 65), '"' + "x" * 64 + '…"')
        self.assertEqual(shown("abcdef", 3), '"abc…"')
