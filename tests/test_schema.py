"""The JSON Schema of the wire: valid itself, true of what is sent, no wider than the parsers."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import msgspec
from jsonschema import Draft202012Validator
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relayx import schema
from relayx.core import hello
from relayx.core import messages as ms
from relayx.core.codec import MAX_CLIENT_ID, MAX_ID_BYTES, decode_envelope, decode_payload, encode
from relayx.core.errors import Code, PeerError
from relayx.schema import Direction
from tests.live import Gateway, live

GUIDE = (
    """{"type": "port_acquire", "payload": {
      "request_id": "4d7d0fd1-2c55-4fd2-8e9b-2b8cb1d8de2f-1739577600000",
      "need_zmq": true, "need_srt": true, "ttl_seconds": 30}}""",
    """{"type": "port_grant", "payload": {
      "request_id": "4d7d0fd1-2c55-4fd2-8e9b-2b8cb1d8de2f-1739577600000",
      "session_id": "sess_01HZZZZZZZZZZZZZZZZZZZZZZZ",
      "zmq_port": 30110, "srt_port": 30010, "expires_at": 1739577630000, "error": ""}}""",
    """{"type": "port_state", "payload": {
      "zmq_total": 100, "srt_total": 101, "zmq_busy": 3, "srt_busy": 2,
      "zmq_ready_ports": [30110, 30111], "srt_ready_ports": [30010, 30011],
      "zmq_empty_ports": [30112, 30113], "srt_empty_ports": [30012, 30013]}}""",
)
"""The guide's own messages, section 4.3: a request, its answer, a broadcast."""

_NOTHING = ms.PortState(
    zmq_total=0, srt_total=0, zmq_busy=0, srt_busy=0, zmq_ready_ports=(), srt_ready_ports=(),
    zmq_empty_ports=(), srt_empty_ports=(),
)  # fmt: skip

REQUESTS: tuple[ms.Message, ...] = (
    ms.Register(role="FE"),
    ms.Register(role="BE", secret="s", client_id="cam-é", protocol="1.1", instance="i" * 256),
    ms.PortAlloc(),
    ms.PortAlloc(zmq_start_port=1, zmq_end_port=2, srt_start_port=3, srt_end_port=65535),
    ms.PortStateQuery(),
    ms.PortStateQuery(need_zmq=True),
    ms.PortAcquire(need_zmq=True),
    ms.PortAcquire(need_zmq=True, need_srt=True, ttl_seconds=600, service="web.a-1", be="b"),
    ms.PortAcquire(need_srt=True, transport="srt"),
    ms.PortAcquire(broker="push_pull", side="backend"),
    ms.PortRelease(session_id="sess"),
    ms.PortRelease(session_id="sess", zmq_port=30110, srt_port=30010),
    ms.KeyExchange(public_key="PEM"),
    ms.Ping(c_send=1739577600000000000),
)

REPLIES: tuple[ms.Message | str, ...] = (
    ms.Auth(status="ok", client_id="fe-1", server="relayx", protocol="1.1"),
    ms.Auth(status="error", error_code=Code.AUTH_FAILED, error="no"),
    ms.PortAlloc(zmq_start_port=30101, zmq_end_port=30200),
    _NOTHING,
    msgspec.structs.replace(
        _NOTHING,
        zmq_ready_ports=(1, 65535),
        services={"web": ms.ServiceCount(zmq_ready=3, srt_ready=0)},
    ),
    msgspec.structs.replace(
        _NOTHING,
        srt_native_ready_ports=(1, 65535),
        services={"web": ms.ServiceCount(zmq_ready=0, srt_ready=0, srt_native_ready=1)},
    ),
    ms.PortGrant(request_id="", session_id="sess", expires_at=1, zmq_port=1, ticket="t", host="h"),
    msgspec.structs.replace(
        _NOTHING,
        brokers=(
            ms.BrokerState(
                pattern="req_rep", frontend=1, backend=65535, clients_frontend=0, clients_backend=9
            ),
        ),
    ),
    ms.PortGrant(request_id="", session_id="s", expires_at=1, srt_port=1, transport="srt"),
    ms.PortGrant(
        request_id="", session_id="s", expires_at=1, zmq_port=1, broker="pub_sub", side="frontend"
    ),
    ms.PortGrant(
        request_id="r", session_id="", expires_at=0, error_code=Code.PORT_EXHAUSTED, error="none"
    ),
    ms.PortRelease(session_id="sess", srt_port=30010, error_code=Code.TTL_EXPIRED),
    ms.KeyExchange(public_key="PEM", client_id="be-1"),
    ms.Pong(c_send=1, s_recv=2, s_send=3),
    ms.Telemetry(current_speed=0.0),
    ms.Telemetry(
        current_speed=1.5,
        link=ms.FrontEndLink(
            pairing_id="p", session_id="", port=30010, rtt_ms=48.2, loss_percent=100.0,
            retransmitted=0, dropped=3, send_buffer_bytes=0, send_buffer_ms=0, send_rate_bps=8e6,
            latency_ms=120,
        ),
    ),
    ms.SessionEnd(
        pairing_id="p", session_id="", protocol="zmq", port=30110, cause=ms.Cause.FE_CLOSED,
        error="closed", fe_to_be_bytes=0, be_to_fe_bytes=2**53, seconds=1.5,
    ),
    ms.Error(error_code=Code.INVALID_MESSAGE, error="what"),
    ms.Error(error_code=Code.REPLAYED, error="again", in_reply_to="m"),
    "one line of the log",
)  # fmt: skip

HELLOS = (
    hello.Hello(role=ms.Role.FE),
    hello.Hello(role=ms.Role.FE, client_id="fe", session_id="s", ticket="t", service="web"),
    hello.Hello(role=ms.Role.BE, ack=True, on_fe_close="close"),
    hello.Hello(role=ms.Role.BE, on_fe_close="keep", proxy="v2"),
)

ANSWERS = (
    hello.Waiting(),
    hello.Paired(pairing_id="p", session_id="", client_id="", address="192.0.2.1", trace_id=""),
    hello.Refused(error_code=Code.PORT_BUSY, error="taken"),
)

WRONG: dict[str, tuple[dict[str, Any], ...]] = {
    "register": (
        {}, {"role": "be"}, {"role": "FE", "client_id": "c" * (MAX_CLIENT_ID + 1)},
        {"role": "FE", "client_id": "a\nb"}, {"role": "FE", "instance": "i" * (MAX_ID_BYTES + 1)},
    ),
    "port_acquire": (
        {}, {"need_zmq": False}, {"need_zmq": True, "ttl_seconds": 601},
        {"need_zmq": True, "ttl_seconds": -1}, {"need_srt": True, "service": "Web"},
        {"need_srt": True, "service": "w" * 65}, {"need_srt": True, "be": "b" * 129},
        {"need_srt": True, "request_id": "r" * 257}, {"need_srt": True, "transport": "udp"},
        {"need_srt": True, "transport": ""}, {"need_zmq": True, "transport": "srt"},
        {"broker": ""}, {"broker": "router"}, {"broker": "req_rep", "side": "left"},
    ),
    "RLX1HELLO": (
        {}, {"role": "GW"}, {"role": "BE", "ack": True, "on_fe_close": "keep"},
        {"role": "BE", "on_fe_close": "maybe"}, {"role": "FE", "service": "Web"},
        {"role": "BE", "proxy": "v1"}, {"role": "FE", "proxy": "v2"},
        {"role": "FE", "client_id": "c" * 129}, {"role": "FE", "ticket": "t" * 257},
    ),
}  # fmt: skip
"""What the rules refuse though the types are right (contract sections 2, 3, 5 and 6)."""


@cache
def validator(name: str = "") -> Draft202012Validator:
    """Of one message or definition, or of the whole."""
    whole = schema.wire_schema()
    if name:
        whole = {**whole, "anyOf": [{"$ref": f"#/$defs/{name}"}]}
    return Draft202012Validator(whole)


def sent(message: ms.Message | str, **envelope: Any) -> dict[str, Any]:
    """A message as it is on the wire."""
    return json.loads(encode(message, **envelope))


def wire_name(message: ms.Message | str) -> str:
    """Its type on the wire."""
    return "log" if isinstance(message, str) else message.TYPE


def described(found: Any, path: str) -> list[str]:
    """The paths of the properties that do not say what they are, of a definition."""
    missing = []
    if isinstance(found, dict):
        for name, field in found.get("properties", {}).items():
            if not (field.get("description") or "const" in field or name == "payload"):
                missing.append(f"{path}.{name}")
        for key, inner in found.items():
            missing += described(inner, f"{path}.{key}")
    return missing


class Itself(SynchronousTestCase):
    """The schema as a document."""

    def test_valid(self) -> None:
        """The whole and each part that can be had alone."""
        Draft202012Validator.check_schema(schema.wire_schema())
        for name in schema.names():
            alone = schema.message_schema(name)
            Draft202012Validator.check_schema(alone)
            self.assertEqual(alone["$schema"], schema.DIALECT)

    def test_every_message(self) -> None:
        """One definition each, and both directions of those that have two."""
        whole = schema.wire_schema()["$defs"]
        wanted = {*ms.REQUESTS, *ms.REPLIES, "log", "RLX1HELLO", "RLX1OK", "RLX1PAIRED", "RLX1ERR"}
        self.assertEqual(set(schema.names()), wanted)
        self.assertEqual(set(whole), wanted | {"envelope", "from_client", "from_gateway"})
        both = [Direction.REQUEST, Direction.REPLY]
        for name in ("port_alloc", "port_release", "key_exchange"):
            self.assertEqual(whole[name]["x-direction"], both)
        self.assertEqual(whole["ping"]["x-direction"], both[:1])
        self.assertEqual(whole["RLX1HELLO"]["x-direction"], both[:1])
        self.assertEqual(whole["log"]["x-direction"], both[1:])

    def test_every_field_is_described(self) -> None:
        """And every message, without the names of documents that a reader may not have."""
        whole = schema.wire_schema()
        self.assertEqual(described(whole, "$"), [])
        for name in schema.names():
            self.assertTrue(whole["$defs"][name]["description"])
        self.assertNotRegex(json.dumps(whole), "contract|``")

    def test_unknown_name(self) -> None:
        self.assertRaises(KeyError, schema.message_schema, "hello")


class Examples(SynchronousTestCase):
    """What is right."""

    def test_guide(self) -> None:
        """The guide's examples, whole, and in their direction alone."""
        request, *replies = map(json.loads, GUIDE)
        for example in (request, *replies):
            validator().validate(example)
        validator("from_client").validate(request)
        self.assertFalse(validator("from_gateway").is_valid(request))
        for reply in replies:
            validator("from_gateway").validate(reply)
            self.assertFalse(validator("from_client").is_valid(reply))

    def test_every_type(self) -> None:
        """Of each message, the least and more, as the codec writes it."""
        for way, samples, kinds in (
            ("from_client", REQUESTS, set(ms.REQUESTS)),
            ("from_gateway", REPLIES, {*ms.REPLIES, "log"}),
        ):
            self.assertEqual({wire_name(sample) for sample in samples}, kinds)
            for sample in samples:
                for written in (
                    sent(sample),
                    sent(sample, msg_id="m", ts_ms=1, trace_id="t") | {"sign": "A=", "kid": "k"},
                ):
                    validator(way).validate(written)
                    validator(wire_name(sample)).validate(written)
                alone = schema.message_schema(wire_name(sample))
                Draft202012Validator(alone).validate(sent(sample))

    def test_lines(self) -> None:
        """HELLO and its answers."""
        for line in (
            *map(hello.encode_hello, HELLOS),
            *map(hello.encode_answer, ANSWERS),
        ):
            word, _, body = line.decode().partition(" ")
            validator(word).validate(json.loads(body))
            Draft202012Validator(schema.message_schema(word)).validate(json.loads(body))

    def test_unknown_fields(self) -> None:
        """They are ignored on both sides (contract section 2)."""
        for sample in (*REQUESTS, *REPLIES):
            written = sent(sample) | {"unknown": [1]}
            if isinstance(written["payload"], dict):
                written["payload"]["unknown"] = {"a": None}
            validator().validate(written)
        validator("RLX1HELLO").validate({"role": "FE", "unknown": 1})

    def test_no_payload(self) -> None:
        """Null or absent where no field is required, as the codec takes it."""
        for name, kind in ms.REQUESTS.items():
            for written in ({"type": name}, {"type": name, "payload": None}):
                taken = True
                try:
                    decode_payload(decode_envelope(json.dumps(written).encode()), {name: kind})
                except PeerError:
                    taken = False
                if name == "port_acquire":
                    taken = False  # refused by the rules: it asks for nothing
                self.assertEqual(validator(name).is_valid(written), taken, written)


class Wrong(SynchronousTestCase):
    """What is wrong is invalid."""

    def test_types(self) -> None:
        """A field of a wrong type: the codec refuses it and so does the schema."""
        for sample in (*REQUESTS, *(reply for reply in REPLIES if isinstance(reply, ms.Message))):
            kind = type(sample)
            for field in msgspec.structs.fields(kind):
                payload = sent(sample)["payload"] | {field.name: {"wrong": "type"}}
                if field.name == "services":
                    payload["services"] = ["wrong"]
                written = {"type": kind.TYPE, "payload": payload}
                envelope = decode_envelope(json.dumps(written).encode())
                refused = self.assertRaises(PeerError, decode_payload, envelope, {kind.TYPE: kind})
                self.assertEqual(refused.code, Code.INVALID_MESSAGE)
                self.assertFalse(validator().is_valid(written), written)

    def test_missing(self) -> None:
        """A field that is required."""
        for sample in (*REQUESTS, *(reply for reply in REPLIES if isinstance(reply, ms.Message))):
            for field in msgspec.structs.fields(type(sample)):
                if field.required:
                    written = sent(sample)
                    del written["payload"][field.name]
                    self.assertFalse(validator().is_valid(written), written)

    def test_rules(self) -> None:
        """What the rules refuse."""
        for name, payloads in WRONG.items():
            for payload in payloads:
                written = payload if name.startswith("RLX1") else {"type": name, "payload": payload}
                self.assertFalse(validator(name).is_valid(written), payload)
        for payload in WRONG["RLX1HELLO"]:
            line = hello.PREFIX + json.dumps(payload).encode()
            self.assertRaises(hello.HelloError, hello.decode_hello, line)

    def test_envelope(self) -> None:
        """Unknown types, and ids that are too long."""
        ping = sent(ms.Ping(c_send=1))
        for written in (
            [], "ping", {}, {"type": "nothing"}, {**ping, "type": 1}, {**ping, "msg_id": 1},
            {**ping, "trace_id": "t" * 257}, {**ping, "ts_ms": "1"}, {**ping, "sign": None},
        ):  # fmt: skip
            self.assertFalse(validator().is_valid(written), written)


class Live(TestCase):
    """What a gateway says in fact."""

    timeout = 30

    @live(log={"stream": "all"}, data={"advertise_host": "gateway.example"})
    def test_everything_that_is_said(self, gateway: Gateway) -> None:
        """Two clients, a session, errors, telemetry, the log: each message is valid."""
        be = gateway.be11("be")
        be.say("port_alloc", {})
        be.say("key_exchange", {"public_key": "PEM"})
        fe = gateway.fe11("fe")
        waiting = gateway.waiting(gateway.zmq[0], "be")
        named = gateway.waiting(gateway.zmq[1], "be", service="web")
        fe.state(lambda state: state["zmq_ready_ports"] and state.get("services"))
        grant = fe.acquire(need_zmq=True, need_srt=False)
        fe.acquire(need_srt=True, need_zmq=False)
        entering = gateway.entering(grant["zmq_port"], "fe", session_id=grant["session_id"])
        paired = [entering.expect("RLX1PAIRED"), waiting.paired()]
        entering.close()
        waiting.close()
        named.close()
        for peer in (fe, be):
            peer.expect("session_end")
        fe.say("port_release", {"session_id": grant["session_id"]})
        fe.say("port_release", {"session_id": "none"})
        fe.expect("error")
        fe.ping()
        be.expect("telemetry")
        be.ping()
        heard = [*fe.log, *be.log]
        self.assertEqual({message["type"] for message in heard}, {*ms.REPLIES, "log"})
        whole = validator("from_gateway")
        for message in heard:
            whole.validate(message)
        for fields in paired:
            validator("RLX1PAIRED").validate(fields)
