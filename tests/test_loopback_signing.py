"""Signed control messages between a client and a real gateway (guide section 4.5)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from twisted.trial.unittest import TestCase

from relayx.core.codec import decode_envelope
from relayx.core.errors import PeerError
from relayx.security.keys import KeyType
from relayx.security.policy import Signing
from relayx.security.signing import Verifier
from relayx.testing import LocalGateway
from tests.signing import GATEWAY, KeyFiles, SigningControl, envelope, signed, signing_gateway


@contextmanager
def dialled(local: LocalGateway, files: KeyFiles) -> Iterator[SigningControl]:
    """A control connection that has not registered."""
    control = SigningControl((local.host, local.gateway.port))
    control.signer = files.signer()
    try:
        yield control
    finally:
        control.close()


@contextmanager
def registered(local: LocalGateway, files: KeyFiles) -> Iterator[SigningControl]:
    """A control connection that has registered with a signature."""
    with dialled(local, files) as control:
        control.say_signed("register", {"role": "FE", "secret": local.gateway.secret})
        control.expect("auth", status="ok")
        control.expect("port_state")
        yield control


class Required(TestCase):
    """``security.signing: require``."""

    @signing_gateway("require")
    def test_unsigned_register(self, local: LocalGateway, files: KeyFiles) -> None:
        with dialled(local, files) as control:
            control.say("register", {"role": "FE", "secret": local.gateway.secret})
            (auth,) = control.rest()
            self.assertEqual(auth["type"], "auth")
            self.assertEqual(auth["payload"]["error_code"], "SIGNATURE_INVALID")
            self.assertIn("not signed", auth["payload"]["error"])

    @signing_gateway("require")
    def test_unsigned_message_is_not_acted_upon(self, local: LocalGateway, files: KeyFiles) -> None:
        with registered(local, files) as control:
            asked = envelope("port_acquire", {"need_zmq": True, "request_id": "r"}, trace_id="t")
            answer = control.answer_to(json.dumps(asked).encode())
            self.assertEqual(answer["type"], "error")
            self.assertEqual(answer["payload"]["error_code"], "SIGNATURE_INVALID")
            self.assertEqual(answer["payload"]["in_reply_to"], asked["msg_id"])
            self.assertEqual(answer["trace_id"], "t")
            control.say_signed("ping", {"c_send": 2**62})  # the connection stays
            self.assertEqual(control.expect("pong")["c_send"], 2**62)

    @signing_gateway("require")
    def test_any_flipped_field(self, local: LocalGateway, files: KeyFiles) -> None:
        with registered(local, files) as control:
            whole = json.loads(signed(control.signer, "ping", {"c_send": 7}, trace_id="t"))
            for name, other in (
                ("type", "port_state_q"), ("payload", {"c_send": 8}), ("msg_id", "another"),
                ("ts_ms", whole["ts_ms"] + 1), ("trace_id", "u"), ("kid", "nobody"),
                ("sign", "A" + whole["sign"][1:] if whole["sign"][0] != "A" else "B"),
            ):  # fmt: skip
                answer = control.answer_to(json.dumps({**whole, name: other}).encode())
                self.assertEqual(answer["payload"]["error_code"], "SIGNATURE_INVALID", name)
            self.assertEqual(control.answer_to(json.dumps(whole).encode())["type"], "pong")

    @signing_gateway("require")
    def test_spelling_of_the_payload(self, local: LocalGateway, files: KeyFiles) -> None:
        """What our own types would write otherwise is verified as it was received."""
        with registered(local, files) as control:
            told = {"need_zmq": True, "zz": [1.0, 4.50, 1e30, "\u20ac\u0007"], "a": {"b": {}}}
            whole = json.loads(signed(control.signer, "port_state_q", told))
            text = json.dumps(whole, indent=1).replace("4.5,", "45e-1,").replace("1.0,", "1,")
            self.assertIn("45e-1", text)
            self.assertEqual(control.answer_to(text.encode())["type"], "port_state")

    @signing_gateway("require")
    def test_replay_and_clock(self, local: LocalGateway, files: KeyFiles) -> None:
        with registered(local, files) as control:
            for seconds, expected in ((20, "pong"), (-20, "pong"), (40, ""), (-40, "")):
                data = signed(control.signer, "ping", {"c_send": 1}, ago=seconds)
                answer = control.answer_to(data)
                if expected:
                    self.assertEqual(answer["type"], expected, seconds)
                    again = control.answer_to(data)["payload"]
                    self.assertEqual(again["error_code"], "REPLAYED")
                else:
                    self.assertEqual(answer["payload"]["error_code"], "SIGNATURE_INVALID")
                    self.assertIn("30000 ms either way", answer["payload"]["error"])
            with registered(local, files) as other:  # what one has said, another cannot repeat
                data = signed(control.signer, "ping", {"c_send": 3})
                self.assertEqual(control.answer_to(data)["type"], "pong")
                self.assertEqual(other.answer_to(data)["payload"]["error_code"], "REPLAYED")

    @signing_gateway("require")
    def test_register(self, local: LocalGateway, files: KeyFiles) -> None:
        """One that was heard on the way, or is old, opens nothing to whoever plays it back."""
        asked = {"role": "FE", "secret": local.gateway.secret, "client_id": "victim"}

        def told(data: bytes) -> dict[str, Any]:
            with dialled(local, files) as control:
                auth: dict[str, Any] = control.answer_to(data)
                self.assertEqual(auth["type"], "auth")
                return auth["payload"]

        with registered(local, files) as control:
            heard = signed(control.signer, "register", asked)
            self.assertEqual(told(heard)["status"], "ok")
            self.assertEqual(told(heard)["error_code"], "REPLAYED")
            late = signed(control.signer, "register", asked, ago=31)
            self.assertEqual(told(late)["error_code"], "SIGNATURE_INVALID")
            control.say_signed("ping", {"c_send": 1})
            control.expect("pong")

    @signing_gateway("require")
    def test_played_back_too_often(self, local: LocalGateway, files: KeyFiles) -> None:
        """It counts as a registration that failed: 30 a minute (section 1, limits)."""
        with registered(local, files) as control:
            heard = signed(control.signer, "register", {"role": "FE", "secret": "wrong"})
        codes = []
        for _ in range(31):
            with dialled(local, files) as control:
                codes.append(control.answer_to(heard)["payload"]["error_code"])
        fresh = {"role": "FE", "secret": local.gateway.secret}
        with dialled(local, files) as control:
            control.say_signed("register", fresh)
            refused = control.expect("auth", status="error")
        self.assertEqual(codes[:2], ["AUTH_FAILED", "REPLAYED"])
        self.assertEqual(refused["error_code"], "RATE_LIMITED")

    @signing_gateway("require")
    def test_gateway_signs_all(self, local: LocalGateway, files: KeyFiles) -> None:
        verifier = Verifier(files.public, Signing.REQUIRE)
        with dialled(local, files) as control:
            control.say_signed("register", {"role": "FE", "secret": local.gateway.secret})
            data = b""
            while data.count(b"\n") < 3:
                data += control.socket.recv(65536)
            control.say_signed("ping", {"c_send": time.time_ns()})
            while data.count(b"\n") < 4:
                data += control.socket.recv(65536)
            kinds = []
            for line in data.splitlines():
                found = decode_envelope(line)
                self.assertEqual(verifier.check(line, found, time.time()), GATEWAY)
                kinds.append(found.type)
            self.assertEqual(kinds, ["auth", "port_alloc", "port_state", "pong"])

    @signing_gateway("require", kind=KeyType.RSA2048)
    def test_rsa(self, local: LocalGateway, files: KeyFiles) -> None:
        verifier = Verifier(files.public, Signing.REQUIRE)
        with registered(local, files) as control:
            control.say_signed("ping", {"c_send": 5})
            line = control.socket.recv(65536)
            self.assertEqual(verifier.check(line, decode_envelope(line), time.time()), GATEWAY)


class Accepted(TestCase):
    """``security.signing: accept``, and off."""

    @signing_gateway("accept")
    def test_both(self, local: LocalGateway, files: KeyFiles) -> None:
        with registered(local, files) as control:
            control.say("ping", {"c_send": 1})
            self.assertEqual(control.expect("pong")["c_send"], 1)
            bad = json.loads(signed(control.signer, "ping", {"c_send": 2}))
            answer = control.answer_to(json.dumps({**bad, "payload": {"c_send": 3}}).encode())
            self.assertEqual(answer["payload"]["error_code"], "SIGNATURE_INVALID")
            answer = control.answer_to(json.dumps({**bad, "sign": ""}).encode())
            self.assertEqual(answer["payload"]["error_code"], "SIGNATURE_INVALID")

    @signing_gateway("off")
    def test_off(self, local: LocalGateway, files: KeyFiles) -> None:
        with dialled(local, files) as control:
            asked = envelope("register", {"role": "FE", "secret": local.gateway.secret})
            auth = control.answer_to(json.dumps({**asked, "sign": "x", "kid": "y"}).encode())
            self.assertEqual(auth["payload"]["status"], "ok")
            self.assertNotIn("sign", auth)

    @signing_gateway("accept", keys="")
    def test_no_key_of_its_own(self, local: LocalGateway, files: KeyFiles) -> None:
        with dialled(local, files) as control:
            control.say_signed("register", {"role": "FE", "secret": local.gateway.secret})
            answer: dict[str, Any] = control.read()
            self.assertEqual(answer["payload"]["status"], "ok")
            self.assertNotIn("sign", answer)
            verifier = Verifier(files.public, Signing.REQUIRE)
            raw = json.dumps(answer).encode()
            self.assertRaises(PeerError, verifier.check, raw, decode_envelope(raw), time.time())
