"""Signatures of control messages: made, verified, and refused with a reason."""

from __future__ import annotations

import json
import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relayx.core.codec import encode
from relayx.core.errors import Code, PeerError
from relayx.core.messages import Ping, Register, Telemetry
from relayx.security.keys import ANY_KID, KeyType, VerifyingKey
from relayx.security.signing import OnExpired, Signer, Signing, Verifier
from tests.rfc8785 import EXAMPLE, EXAMPLE_CANONICAL, NUMBERS, SORTED
from tests.security_keys import (
    KID,
    NOW,
    NOW_MS,
    check,
    envelope,
    key,
    refusal,
    signed,
    signed_text,
    verifier,
    verifying,
)


class RefusalCase(SynchronousTestCase):
    """Asks for a refusal and its words."""

    def refused(
        self,
        one: Verifier,
        raw: bytes,
        *texts: str,
        now: float = NOW,
        code: Code = Code.SIGNATURE_INVALID,
    ) -> PeerError:
        error = refusal(one, raw, now)
        self.assertEqual(error.code, code, error.text)
        for text in (*texts, "allowed: "):
            self.assertIn(text, error.text)
        return error


class SignerTests(SynchronousTestCase):
    """What signing adds to a line, and leaves."""

    def test_adds_two_fields(self) -> None:
        """Every other byte is as it was."""
        for kind in KeyType:
            line = encode(Ping(c_send=2**62 + 1), msg_id="m", ts_ms=NOW_MS, trace_id="\u20ac")
            done = Signer(KID, key(kind)).sign_line(line)
            self.assertTrue(done.startswith(line[:-2] + b',"sign":"'))
            self.assertTrue(done.endswith(b'","kid":"k1"}\n'))
            self.assertEqual(check(verifier(verifying(key(kind))), done), KID)

    def test_every_kind_of_payload(self) -> None:
        """Messages, texts of `log`, floats, and nothing."""
        one = verifier()
        for number, message in enumerate(
            (
                Register(role="FE", secret="\u00e9\U0001f600\n"),
                Telemetry(current_speed=1e-7),
                "a line",
            )
        ):
            line = encode(message, msg_id=f"m{number}", ts_ms=NOW_MS)
            self.assertEqual(check(one, Signer(KID, key()).sign_line(line)), KID)
        line = b'{"type":"port_state_q","msg_id":"n","ts_ms":%d}\n' % NOW_MS
        self.assertEqual(check(one, Signer(KID, key()).sign_line(line)), KID)

    def test_lines_that_are_none(self) -> None:
        """Our own mistakes are told at once."""
        signer = Signer(KID, key())
        for line in (b"", b"{}\n", b"[]\n", b'{"type":"x"}', b'{"type":"x"} \n', b"{\n"):
            with self.assertRaises(ValueError):
                signer.sign_line(line)
        with self.assertRaisesRegex(ValueError, "signed already"):
            signer.sign_line(signed())
        with self.assertRaisesRegex(ValueError, "cannot name a key"):
            Signer('a"b', key())

    def test_expired(self) -> None:
        """With `reject` an expired key leaves messages of a later time as they are."""
        for on_expired, ts_ms, signs in (
            (OnExpired.REJECT, NOW_MS - 1, True),
            (OnExpired.REJECT, NOW_MS, False),
            (OnExpired.WARN, NOW_MS, True),
        ):
            signer = Signer(KID, key(), NOW, on_expired)
            line = encode(Ping(c_send=1), msg_id="m", ts_ms=ts_ms)
            self.assertEqual(signer.sign_line(line) != line, signs)
            self.assertEqual((signer.kid, signer.expires), (KID, NOW))


class AsReceivedTests(RefusalCase):
    """The signature is over what was sent, however it is spelled."""

    def test_published_examples(self) -> None:
        """RFC 8785's own, through the path that verifies."""
        self.assertEqual(check(verifier(), signed_text(EXAMPLE, EXAMPLE_CANONICAL)), KID)
        order = ("\r", "1", "\x80", "\u00f6", "\u20ac", "\U0001f600", "\ufb33")
        values = json.loads(SORTED)
        text = json.dumps({name: values[name] for name in order}, ensure_ascii=False)
        # One of the texts has ": " in it, which is no separator.
        raw = signed_text(SORTED, text.replace('", "', '","').replace('": "', '":"').encode())
        self.assertEqual(check(verifier(), raw), KID)

    def test_published_numbers(self) -> None:
        """RFC 8785, Appendix B, likewise."""
        for bits, text in NUMBERS.items():
            value = struct.unpack(">d", bytes.fromhex(bits))[0]
            raw = signed_text(b'{"n":%b}' % repr(value).encode(), b'{"n":%b}' % text.encode())
            self.assertEqual(check(verifier(), raw), KID, bits)

    def test_spellings(self) -> None:
        """Orders, spaces, escapes and numbers that our own types would write otherwise."""
        for payload, canonical in (
            (b'{ "b" : 1.0 ,\n"a" : 1E2 }', b'{"a":100,"b":1}'),
            (b'{"c_send":1795549346441182947}', b'{"c_send":1795549346441182947}'),
            (b'{"c_send":9007199254740993,"x":0.10}', b'{"c_send":9007199254740993,"x":0.1}'),
            (b"[-0,%b]" % (b"7" * 5000), b"[0,%b]" % (b"7" * 5000)),
            (b'"\\u0041\\/"', b'"A/"'),
            (b"null", b"null"),
        ):
            self.assertEqual(check(verifier(), signed_text(payload, canonical)), KID, payload)

    def test_two_meanings(self) -> None:
        """What two readers may read in two ways is verified for neither."""
        for payload in (b'{"a":1,"a":1}', b'{"n":1e999}', b"0." + b"1" * 700):
            raw = signed_text(payload, payload)
            self.refused(verifier(), raw, "cannot be verified", "allowed: I-JSON")
        raw = signed().replace(b'"type"', b'"type":"log","type"', 1)
        self.refused(verifier(), raw, '"type" twice')

    def test_unknown_fields(self) -> None:
        """They are not signed, as they are not read."""
        raw = signed().replace(b'{"type"', b'{"extra":[1],"type"', 1)
        self.assertEqual(check(verifier(), raw), KID)


class FlippedTests(RefusalCase):
    """Nothing that is signed can be changed."""

    def test_each_signed_field(self) -> None:
        """One bit of each, for each kind of key."""
        for kind in KeyType:
            raw = signed(Ping(c_send=70), signer=Signer(KID, key(kind)))
            one = verifier(verifying(key(kind)))
            for text in (b'"ping"', b"70", b'"m1"', b'"t1"', str(NOW_MS).encode()):
                at = raw.index(text) + len(text) - 2
                flipped = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
                self.refused(one, flipped, "not the signature of this message")
            self.assertEqual(check(one, raw), KID)

    def test_fields_gone_or_new(self) -> None:
        """Absent is as the default, and nothing else is."""
        raw = signed()
        self.refused(verifier(), raw.replace(b',"trace_id":"t1"', b""), "not the signature")
        self.refused(verifier(), raw.replace(b'{"c_send":7}', b"null"), "not the signature")
        plain = signed(trace_id="")
        self.assertNotIn(b"trace_id", plain)
        again = plain.replace(b'"msg_id"', b'"trace_id":"","msg_id"')
        self.assertEqual(check(verifier(), again), KID)

    def test_signature(self) -> None:
        """Every character of it counts."""
        raw = signed()
        start = raw.index(b'"sign":"') + 8
        for at in (start, start + 20, raw.index(b'","kid"') - 1, raw.index(b'","kid"') - 3):
            for other in b"AB":
                changed = raw[:at] + bytes([other]) + raw[at + 1 :]
                if changed != raw:
                    self.refused(verifier(), changed, "sign is not")

    def test_base64(self) -> None:
        """One spelling: standard alphabet, padded, no surplus bits."""
        for text in ("YR==", "YQ", "YQ=", "Y Q=", "\u00e9", "_-__", "====", "A" * 1025, "YQ==\\n"):
            raw = b'{"type":"x","msg_id":"m","ts_ms":%d,"kid":"k1","sign":"%b"}' % (
                NOW_MS,
                text.encode(),
            )
            self.refused(verifier(), raw, "base64")

    @given(st.binary(max_size=100))
    def test_any_signature(self, data: bytes) -> None:
        """None but the right one."""
        text = data.hex()
        raw = b'{"type":"x","msg_id":"m","ts_ms":%d,"kid":"k1","sign":"%b"}'
        for kind in (KeyType.P256, KeyType.RSA2048):
            one = verifier(verifying(key(kind)))
            refusal(one, raw % (NOW_MS, (text or "a").encode()))


class KeysTests(RefusalCase):
    """Whose signature it may be."""

    def test_unknown(self) -> None:
        """A kid that is not there, and what is refused shows no other."""
        other = signed(signer=Signer("k2", key(number=1)))
        error = self.refused(verifier(), other, '"k2" is not known')
        self.assertNotIn(KID, error.text)
        self.assertEqual((error.msg_id, error.trace_id), ("m1", "t1"))

    def test_of_another_key(self) -> None:
        """A known kid on another key's signature."""
        self.refused(verifier(), signed(signer=Signer(KID, key(number=1))), "not the signature")
        rsa = verifier(verifying(key(KeyType.RSA2048)))
        self.refused(rsa, signed(), "not the signature")
        self.refused(verifier(), signed(signer=Signer(KID, key(KeyType.RSA2048))), "not the sign")

    def test_any_kid(self) -> None:
        """One key under whatever name, unless that name has a key of its own."""
        one = verifier(verifying(kid=ANY_KID), verifying(key(number=1), "k2"))
        self.assertEqual(check(one, signed()), KID)
        second = Signer("k2", key(number=1))
        self.assertEqual(check(one, signed(msg_id="m2", signer=second)), "k2")
        self.refused(one, signed(msg_id="m3", signer=Signer("k2", key())), "not the signature")
        raw = signed().replace(b'"kid":"k1"', b'"kid":"*"')
        self.refused(verifier(), raw, "not known")

    def test_replaced(self) -> None:
        """New keys from now on; what was seen stays seen."""
        one = verifier()
        check(one, signed())
        one.replace([verifying(key(number=1), "k2")])
        self.refused(one, signed(), "not known")
        one.replace([verifying()])
        self.refused(one, signed(), "before", code=Code.REPLAYED)

    def test_expired(self) -> None:
        """Refused with `reject`, taken with `warn`."""
        old = VerifyingKey(KID, key().public_key(), NOW)
        one = Verifier([old], Signing.REQUIRE, OnExpired.REJECT)
        self.refused(one, signed(), "expired at 2026-11-24T", now=NOW)
        self.assertEqual(check(one, signed(), NOW - 1), KID)
        self.assertEqual(check(Verifier([old], Signing.REQUIRE, OnExpired.WARN), signed()), KID)


class ModesTests(RefusalCase):
    """``security.signing``."""

    def test_unsigned(self) -> None:
        """Let through unless signatures are required."""
        line = encode(Ping(c_send=1), msg_id="m", trace_id="t")
        self.assertEqual(check(verifier(signing=Signing.OFF), line), "")
        self.assertEqual(check(verifier(signing=Signing.ACCEPT), line), "")
        error = self.refused(verifier(), line, "not signed")
        self.assertEqual((error.msg_id, error.trace_id), ("m", "t"))

    def test_off(self) -> None:
        """Looks at no signature."""
        for raw in (signed(), signed().replace(b"ping", b"pong"), b'{"type":"x","kid":"y"}'):
            self.assertEqual(check(verifier(signing=Signing.OFF), raw), "")

    def test_half_signed(self) -> None:
        """`accept` verifies what has either field."""
        for signing in (Signing.ACCEPT, Signing.REQUIRE):
            one = verifier(signing=signing)
            self.refused(one, b'{"type":"x","sign":"YQ=="}', "without kid")
            self.refused(one, b'{"type":"x","kid":"k1"}', "without sign")
            self.refused(one, signed(msg_id=""), "without msg_id")
            self.refused(one, signed().replace(b"ping", b"pong"), "not the signature")
            self.assertEqual(check(one, signed()), KID)


class TimeTests(RefusalCase):
    """The clock's window, and messages that come again in it."""

    def test_skew(self) -> None:
        """29 s and 30 s either way are taken, a millisecond more and 31 s are not."""
        for apart in (29, 30):
            for now in (NOW - apart, NOW + apart):
                self.assertEqual(check(verifier(), signed(), now), KID)
        for seconds in (30.001, 31):
            for now in (NOW - seconds, NOW + seconds):
                apart_ms = round(seconds * 1000)
                now_ms = str(round(now * 1000))
                texts = (str(NOW_MS), now_ms, f"{apart_ms} ms apart", "30000 ms")
                self.refused(verifier(), signed(), *texts, now=now)

    def test_absent_time(self) -> None:
        """Is 1970."""
        self.refused(verifier(), signed(ts_ms=0), "ts_ms is 0")

    def test_replayed(self) -> None:
        """The same message, and another of the same id; not another's."""
        one = verifier(verifying(), verifying(key(number=1), "k2"))
        check(one, signed())
        error = self.refused(one, signed(), '"m1"', "before", code=Code.REPLAYED)
        self.assertEqual((error.msg_id, error.trace_id), ("m1", "t1"))
        self.refused(one, signed(Ping(c_send=8)), code=Code.REPLAYED)
        self.refused(one, signed(), code=Code.REPLAYED, now=NOW + 30)
        self.assertEqual(check(one, signed(msg_id="m2")), KID)
        self.assertEqual(check(one, signed(signer=Signer("k2", key(number=1)))), "k2")

    def test_replayed_under_another_kid(self) -> None:
        """The kid is not signed, so it does not make a message another one."""
        one = verifier(verifying(kid=ANY_KID))
        check(one, signed())
        again = signed().replace(b'"kid":"k1"', b'"kid":"k2"')
        self.refused(one, again, code=Code.REPLAYED)

    def test_refused_is_not_seen(self) -> None:
        """Only what was verified takes an id."""
        one = verifier()
        refusal(one, signed().replace(b"ping", b"pong"))
        self.assertEqual(check(one, signed()), KID)

    def test_flood(self) -> None:
        """New ids cannot push out fresh ones; their own key is told to slow down."""
        one = Verifier(
            [verifying(), verifying(key(number=1), "k2")], Signing.REQUIRE, most_per_key=2
        )
        for number in range(2):
            check(one, signed(msg_id=f"m{number}"))
        self.refused(one, signed(msg_id="m2"), "too many", code=Code.RATE_LIMITED)
        self.refused(one, signed(msg_id="m0"), code=Code.REPLAYED)
        self.assertEqual(check(one, signed(signer=Signer("k2", key(number=1)))), "k2")
        later = signed(msg_id="m2", ts_ms=NOW_MS + 32_000)
        self.assertEqual(check(one, later, NOW + 32), KID)

    def test_clock_set_back(self) -> None:
        """What was let go is not taken again."""
        one = verifier()
        check(one, signed())
        check(one, signed(msg_id="m2", ts_ms=NOW_MS + 40_000), NOW + 40)
        self.refused(one, signed(), "set back", now=NOW + 20)


class AnythingTests(SynchronousTestCase):
    """Envelopes of any kind are verified or refused."""

    @given(
        st.fixed_dictionaries(
            {"type": st.text(max_size=5)},
            optional={
                "payload": st.dictionaries(st.text(max_size=3), st.floats() | st.integers()),
                "msg_id": st.text(max_size=5),
                "ts_ms": st.integers(NOW_MS - 40_000, NOW_MS + 40_000),
                "sign": st.text(max_size=20) | st.just("YWJj"),
                "kid": st.sampled_from(["k1", "k2", "*", "", "\n"]),
            },
        )
    )
    def test_any_envelope(self, document: dict[str, Any]) -> None:
        """A kid, or the one error, and no other."""
        raw = json.dumps(document).encode()
        try:
            parsed = envelope(raw)
        except PeerError:
            return
        try:
            self.assertEqual(verifier(signing=Signing.ACCEPT).check(raw, parsed, NOW), "")
        except PeerError as error:
            self.assertEqual(error.code, Code.SIGNATURE_INVALID)
