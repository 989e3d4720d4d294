"""The wire types: their fields, defaults and what a repr shows (contract section 3)."""

from __future__ import annotations

import json

import msgspec
from twisted.trial.unittest import TestCase

from relayx.core.codec import encode
from relayx.core.errors import Code, FramingError, PeerError, RelayError, StateError
from relayx.core.messages import (
    REPLIES,
    REQUESTS,
    Auth,
    Cause,
    Error,
    KeyExchange,
    Message,
    PortAcquire,
    PortAlloc,
    PortGrant,
    PortRelease,
    PortState,
    Register,
    Role,
    ServiceCount,
    SessionEnd,
    Telemetry,
)


def payload(message: Message) -> object:
    """A message's payload as it is on the wire."""
    return json.loads(encode(message))["payload"]


class Tables(TestCase):
    """Who may send what (section 3)."""

    def test_requests(self) -> None:
        self.assertEqual(
            set(REQUESTS),
            {"register", "port_alloc", "port_state_q", "port_acquire", "port_release",
             "key_exchange", "ping"},
        )  # fmt: skip

    def test_replies(self) -> None:
        self.assertEqual(
            set(REPLIES),
            {"auth", "port_alloc", "port_state", "port_grant", "port_release", "key_exchange",
             "pong", "telemetry", "session_end", "error"},
        )  # fmt: skip

    def test_codes(self) -> None:
        self.assertEqual(
            set(Code),
            {"AUTH_FAILED", "REGISTER_REQUIRED", "CAPACITY", "TAKEN_OVER", "INVALID_MESSAGE",
             "INVALID_REQUEST", "PORT_EXHAUSTED", "TTL_EXPIRED", "BE_LOST", "HELLO_INVALID",
             "PORT_BUSY", "PORT_EMPTY", "PORT_RESERVED", "NOT_ADMITTED", "SIGNATURE_INVALID",
             "REPLAYED", "RATE_LIMITED", "DRAINING"},
        )  # fmt: skip

    def test_causes(self) -> None:
        self.assertEqual(
            set(Cause),
            {"fe_closed", "be_closed", "fe_reset", "be_reset", "fe_dead", "be_dead",
             "idle_timeout", "half_close_timeout", "be_lost", "drain", "admin", "limit"},
        )  # fmt: skip

    def test_other_role(self) -> None:
        self.assertIs(Role.FE.other, Role.BE)
        self.assertIs(Role.BE.other, Role.FE)


class Wire(TestCase):
    """What is written and what is left out (sections 3 and 4)."""

    def test_auth_ok(self) -> None:
        self.assertEqual(
            payload(Auth(status="ok", client_id="c", server="s", protocol="1.1")),
            {"status": "ok", "client_id": "c", "server": "s", "protocol": "1.1"},
        )

    def test_auth_error(self) -> None:
        self.assertEqual(
            payload(Auth(status="error", error_code="CAPACITY", error="full")),
            {"status": "error", "error_code": "CAPACITY", "error": "full"},
        )

    def test_grant_of_one_port(self) -> None:
        """A port that was not asked for is absent."""
        self.assertEqual(
            payload(PortGrant(request_id="r", session_id="s", expires_at=1, zmq_port=2)),
            {"request_id": "r", "session_id": "s", "expires_at": 1, "zmq_port": 2},
        )

    def test_failed_grant(self) -> None:
        grant = PortGrant(
            request_id="r", session_id="", expires_at=0, error_code="PORT_EXHAUSTED", error="none"
        )
        self.assertEqual(
            payload(grant),
            {"request_id": "r", "session_id": "", "expires_at": 0, "error_code": "PORT_EXHAUSTED",
             "error": "none"},
        )  # fmt: skip

    def test_state_of_nothing(self) -> None:
        """Section 4: [] where there are none, never null and never absent."""
        state = PortState(
            zmq_total=0, srt_total=0, zmq_busy=0, srt_busy=0, zmq_ready_ports=(),
            srt_ready_ports=(), zmq_empty_ports=(), srt_empty_ports=(),
        )  # fmt: skip
        self.assertEqual(
            payload(state),
            {"zmq_total": 0, "srt_total": 0, "zmq_busy": 0, "srt_busy": 0, "zmq_ready_ports": [],
             "srt_ready_ports": [], "zmq_empty_ports": [], "srt_empty_ports": []},
        )  # fmt: skip

    def test_state_with_services(self) -> None:
        state = PortState(
            zmq_total=3, srt_total=0, zmq_busy=0, srt_busy=0, zmq_ready_ports=(),
            srt_ready_ports=(), zmq_empty_ports=(), srt_empty_ports=(),
            services={"web": ServiceCount(3, 0)},
        )  # fmt: skip
        self.assertEqual(payload(state)["services"], {"web": {"zmq_ready": 3, "srt_ready": 0}})

    def test_state_with_srt_bes(self) -> None:
        """For 1.1 clients [] where there is none, as in the other lists."""
        state = PortState(
            zmq_total=0, srt_total=3, zmq_busy=0, srt_busy=0, zmq_ready_ports=(),
            srt_ready_ports=(), zmq_empty_ports=(), srt_empty_ports=(), srt_native_ready_ports=(),
            services={"web": ServiceCount(0, 1, 2)},
        )  # fmt: skip
        told = payload(state)
        self.assertEqual(told["srt_native_ready_ports"], [])
        self.assertEqual(
            told["services"], {"web": {"zmq_ready": 0, "srt_ready": 1, "srt_native_ready": 2}}
        )

    def test_session_end_with_zeros(self) -> None:
        end = SessionEnd(
            pairing_id="p", session_id="", protocol="zmq", port=1, cause="drain", error="e",
            fe_to_be_bytes=0, be_to_fe_bytes=0, seconds=0.0,
        )  # fmt: skip
        self.assertEqual(
            payload(end),
            {"pairing_id": "p", "session_id": "", "protocol": "zmq", "port": 1, "cause": "drain",
             "error": "e", "fe_to_be_bytes": 0, "be_to_fe_bytes": 0, "seconds": 0.0},
        )  # fmt: skip

    def test_small_ones(self) -> None:
        self.assertEqual(payload(Telemetry(current_speed=0.0)), {"current_speed": 0.0})
        self.assertEqual(
            payload(PortRelease(session_id="s", srt_port=9, error_code="BE_LOST")),
            {"session_id": "s", "srt_port": 9, "error_code": "BE_LOST"},
        )
        self.assertEqual(
            payload(PortAlloc(zmq_start_port=1, zmq_end_port=2)),
            {"zmq_start_port": 1, "zmq_end_port": 2},
        )
        self.assertEqual(
            payload(Error(error_code="X", error="y", in_reply_to="m")),
            {"error_code": "X", "error": "y", "in_reply_to": "m"},
        )
        self.assertEqual(
            payload(KeyExchange(public_key="k", client_id="c")),
            {"public_key": "k", "client_id": "c"},
        )

    def test_frozen(self) -> None:
        with self.assertRaises(AttributeError):
            PortAcquire().service = "web"  # type: ignore[misc]

    def test_schema_can_be_made(self) -> None:
        """JSON Schema comes from the structs."""
        for kind in (*REQUESTS.values(), *REPLIES.values()):
            self.assertEqual(msgspec.json.schema(kind)["$ref"], f"#/$defs/{kind.__name__}")


class Shown(TestCase):
    """Nothing secret in a repr (section 3)."""

    def test_register(self) -> None:
        text = repr(Register(role="FE", secret="hush", client_id="me", instance="HUSH"))
        self.assertNotIn("hush", text)
        self.assertNotIn("HUSH", text)
        self.assertIn("'me'", text)

    def test_grant(self) -> None:
        text = repr(PortGrant(request_id="r", session_id="sess", expires_at=1, ticket="hush"))
        self.assertNotIn("hush", text)
        self.assertIn("'sess'", text)

    def test_key_exchange(self) -> None:
        text = repr(KeyExchange(public_key="hush", private_key="hush", client_id="me"))
        self.assertNotIn("hush", text)
        self.assertIn("'me'", text)


class Errors(TestCase):
    """A peer's mistakes apart from our own."""

    def test_peer_error(self) -> None:
        error = PeerError(Code.PORT_BUSY, "taken", msg_id="m", trace_id="t")
        self.assertEqual(
            (error.code, error.text, error.msg_id, error.trace_id, str(error)),
            (Code.PORT_BUSY, "taken", "m", "t", "PORT_BUSY: taken"),
        )

    def test_framing_error(self) -> None:
        error = FramingError("cut")
        self.assertEqual((error.code, str(error)), (Code.INVALID_MESSAGE, "INVALID_MESSAGE: cut"))

    def test_state_error_is_no_peers(self) -> None:
        self.assertFalse(issubclass(StateError, PeerError))
        self.assertTrue(issubclass(StateError, RelayError))
