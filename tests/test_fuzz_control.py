"""Anything on the control plane of a whole gateway, and on the client's side of it.

No exception, no growth, and each connection is registered, or answered and closed (contract
sections 2 and 3). The gateway runs on a clock, its connections on string transports.
"""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relayx.client.link import Link
from relayx.config.model import Config, Secrets
from relayx.control.protocol import ControlProtocol
from relayx.core.codec import decode_envelope, encode
from relayx.core.messages import REPLIES, REQUESTS, Register
from relayx.security.signing import Signer, Signing, Verifier
from relayx.security.trust import Trust
from relayx.service import GatewayService
from relayx.trust import read_keys
from tests.fuzzing import clean_log, examples
from tests.security_keys import NOW, key, verifying
from tests.signing import KeyFiles
from tests.test_control_bed import Wire

SECRET = "fuzzed-secret-that-no-log-line-may-hold"
PRIVATE = "private-key-that-goes-nowhere"
ADDRESSES = ["192.0.2.1", "192.0.2.2", "::ffff:192.0.2.1", "2001:db8::1"]

IDS = st.sampled_from(["", "a", "b", "cam-1"]) | st.text(max_size=8)
SMALL = st.integers(-1, 700) | st.integers()
PORTS = st.sampled_from([0, 30000, 30001, 30101, 65536]) | SMALL
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
PAYLOADS: dict[str, st.SearchStrategy[Any]] = {
    "register": st.fixed_dictionaries(
        {"role": st.sampled_from(["FE", "BE", "FE", "BE", "XE"])},
        optional={
            "secret": st.sampled_from([SECRET, SECRET, SECRET, "wrong"]),
            "client_id": IDS,
            "protocol": st.sampled_from(["1.1", "1.1", "2"]),
            "instance": st.sampled_from(["", "i1", "i2"]) | st.text(max_size=300),
        },
    ),
    "port_acquire": st.fixed_dictionaries(
        {},
        optional={
            "request_id": st.sampled_from(["r1", "r2"]) | st.text(max_size=300),
            "need_zmq": st.just(True),
            "need_srt": st.booleans(),
            "ttl_seconds": st.sampled_from([0, 1, 30, 600]) | SMALL,
            "service": st.sampled_from(["", "", "", "web", "Not!"]),
            "be": st.just(""),
        },
    ),
    "port_release": st.fixed_dictionaries(
        {"session_id": st.sampled_from(["", "$session", "$session"]) | st.text(max_size=8)},
        optional={"zmq_port": PORTS, "srt_port": PORTS},
    ),
    "port_state_q": st.fixed_dictionaries(
        {}, optional={"need_zmq": st.booleans(), "need_srt": st.booleans()}
    ),
    "port_alloc": st.fixed_dictionaries({}, optional={"zmq_start_port": PORTS}),
    "key_exchange": st.fixed_dictionaries(
        {"public_key": st.text(max_size=8)}, optional={"private_key": st.just(PRIVATE)}
    ),
    "ping": st.fixed_dictionaries({"c_send": st.integers(0, 2**63 - 1) | st.integers()}),
}
MESSAGES = st.sampled_from(sorted(REQUESTS)).flatmap(
    lambda kind: st.fixed_dictionaries(
        {"type": st.just(kind), "payload": PAYLOADS[kind]},
        optional={
            "trace_id": st.just("t") | st.text(max_size=260),
            "msg_id": st.sampled_from(["m1", "m2", "m3"]) | st.text(max_size=260),
        },
    )
)
OBJECTS = (
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from([*sorted(REQUESTS), *sorted(REPLIES), "log", "x"]) | JSON,
            "payload": JSON,
            **dict.fromkeys(["msg_id", "ts_ms", "trace_id", "sign", "kid"], JSON),
        },
    )
    | JSON
)
BYTES = st.binary(max_size=40) | st.text('{}[]":,\\ 0tn', max_size=40).map(str.encode)
HOW = st.sampled_from(["plain", "signed", "signed", "flipped", "again", "late"])
STEPS = st.one_of(
    *[st.tuples(st.just("say"), MESSAGES, HOW)] * 4,
    st.tuples(st.just("object"), OBJECTS, st.just("")),
    st.tuples(st.just("bytes"), BYTES, st.just("")),
    st.tuples(st.just("wait"), st.sampled_from([0.02, 1.0, 6.0, 31.0]), st.just("")),
    st.tuples(st.sampled_from(["full", "empty", "end", "lost"]), st.just(None), st.just("")),
)
GOOD = st.fixed_dictionaries(
    {"role": st.sampled_from(["FE", "BE"]), "secret": st.just(SECRET)},
    optional={
        "client_id": st.sampled_from(["", "a", "b"]),
        "protocol": st.just("1.1"),
        "instance": st.sampled_from(["i1", "i2"]),
    },
).map(lambda payload: ("say", {"type": "register", "payload": payload}, "signed"))
AGAIN = st.tuples(st.integers(0, 2), STEPS | GOOD, st.sampled_from([0, 0, 9, 60]), st.booleans())
CONVERSATION = st.tuples(
    st.lists(GOOD, min_size=2, max_size=3).map(
        lambda steps: [(number, step, 0, True) for number, step in enumerate(steps)]
    ),
    st.lists(AGAIN, max_size=25),
).map(lambda parts: [*parts[0], *parts[1]])


class Bench:
    """One gateway, and three clients who come again whenever they are closed."""

    def __init__(self, case: SynchronousTestCase, config: Config, signer: Signer) -> None:
        self.case = case
        self.clock = MemoryReactorClock()
        self.clock.advance(NOW)
        secrets = Secrets(auth_secret=SECRET)
        self.service = GatewayService(config, secrets, self.clock)
        self.service.startService()
        keys, trust = read_keys(config.security), self.service.control.trust
        if keys.own is not None:
            trust.signer = Signer(keys.own.kid, keys.own.private_key)
            trust.verifier = Verifier(keys.trusted, Signing(config.security.signing))
        self.signer = signer
        self.session_id = ""
        self.last = b""
        self.clients: dict[int, tuple[ControlProtocol, Wire]] = {}
        self.gone: list[Wire] = []

    def client(self, number: int) -> tuple[ControlProtocol, Wire]:
        """A connection that is not closed."""
        found = self.clients.get(number)
        if found is None or found[1].disconnecting:
            if found is not None:
                self.lose(number)
            address = ADDRESSES[number % len(ADDRESSES)]
            protocol = self.service.control.buildProtocol(IPv4Address("TCP", address, 1))
            wire = Wire(socket.socket())
            found = self.clients[number] = protocol, wire
            protocol.makeConnection(wire)
        return found

    def lose(self, number: int) -> None:
        """Its connection ends."""
        protocol, wire = self.clients.pop(number)
        self.heard(wire)
        wire.disconnecting = True
        wire.handle.close()
        protocol.connectionLost(Failure(ConnectionDone()))

    def heard(self, wire: Wire) -> None:
        """Look at what it was told: messages, signed by the gateway, without a secret in them."""
        raw = wire.value()
        self.case.assertNotIn(SECRET.encode(), raw)
        self.case.assertNotIn(PRIVATE.encode(), raw)
        for line in raw.splitlines():
            self.case.assertIn(decode_envelope(line).type, [*REPLIES, "log"])
            said = json.loads(line)
            self.session_id = (said["payload"] or {}).get("session_id") or self.session_id
        wire.clear()

    def line(self, message: dict[str, Any], how: str) -> bytes:
        """A message as bytes, in one of several ways wrong."""
        if (message["payload"] or {}).get("session_id") == "$session":
            message = {**message, "payload": {**message["payload"], "session_id": self.session_id}}
        if how == "plain":
            return json.dumps(message).encode() + b"\n"
        now = int(self.clock.seconds() * 1000) - (31_000 if how == "late" else 0)
        message = {**message, "ts_ms": now, "msg_id": message.get("msg_id") or str(uuid.uuid4())}
        line = self.signer.sign_line(json.dumps(message).encode() + b"\n")
        if how == "flipped":
            line = line.replace(b'"sign":"', b'"sign":"A', 1)
        if how == "again" and self.last:
            return self.last
        self.last = line
        return line

    def step(self, number: int, step: tuple[str, Any, str], cut: int) -> None:
        """Do one thing."""
        kind, what, how = step
        if kind == "wait":
            self.clock.advance(what)
            return
        protocol, wire = self.client(number)
        if kind == "lost":
            self.lose(number)
        elif kind == "end":
            protocol.readConnectionLost()
        elif kind in ("full", "empty") and wire.producer is not None:
            (wire.fill if kind == "full" else wire.empty)()
        elif kind in ("say", "object", "bytes"):
            said = what if kind == "bytes" else b""
            if kind == "say":
                said = self.line(what, how)
            elif kind == "object":
                said = json.dumps(what).encode()
            for piece in (said[:cut], said[cut:]):
                if piece and not wire.aborted:
                    protocol.dataReceived(piece)
        if number in self.clients:
            self.heard(wire)

    def end(self) -> None:
        """All of them go: whoever has not registered is closed by then, and nothing is left."""
        self.clock.pump([1.0] * 8)
        control, board = self.service.control, self.service.switchboard
        registered = {client.conn for client in board.clients()}
        for protocol, wire in self.clients.values():
            settled = protocol.conn in registered or wire.disconnecting
            self.case.assertTrue(settled, "a connection neither registers nor ends")
        for number in list(self.clients):
            self.lose(number)
        self.clock.pump([1.0] * 16)
        left = (control.open_connections(), len(control.newcomers), len(control.leaving))
        self.case.assertEqual(left, (0, 0, 0))
        self.case.assertEqual(list(board.clients()), [])
        stopped = self.service.stopService()
        self.clock.pump([1.0] * 3)
        self.case.successResultOf(stopped)
        self.case.assertEqual(self.clock.getDelayedCalls(), [])


class Gateways(SynchronousTestCase):
    """The gateway's side."""

    def setUp(self) -> None:
        self.files = KeyFiles(self.mktemp())
        self.signer = self.files.signer()

    def config(self, signing: str) -> Config:
        """Small limits, so that they are met."""
        whole = Config()
        told: dict[str, dict[str, Any]] = {
            "relay": {
                "max_fe": 2, "zmq_start_port": 30101, "zmq_end_port": 30102,
                "srt_start_port": 30000, "srt_end_port": 30001, "reaper_timeout": 10.0,
            },
            "data": {"splice": "off"},
            "limits": {"messages_per_second": 5, "leases_per_client": 2},
            "security": self.files.section(signing) if signing != "off" else {},
            "log": {"level": "debug", "stream": "be"},
        }  # fmt: skip
        changed = {k: msgspec.structs.replace(getattr(whole, k), **v) for k, v in told.items()}
        return msgspec.structs.replace(whole, **changed)

    def check(self, signing: str, conversation: list[Any]) -> None:
        with clean_log(self, SECRET, PRIVATE):
            bench = Bench(self, self.config(signing), self.signer)
            for number, step, cut, comes in conversation:
                bench.step(number, step, cut)
                if comes:
                    bench.clock.advance(0)
            bench.end()

    @given(st.sampled_from(["off", "accept", "require"]), CONVERSATION)
    @examples(100)
    def test_conversations(self, signing: str, conversation: list[Any]) -> None:
        """Any messages, in any order, from anybody."""
        self.check(signing, conversation)

    @given(st.lists(BYTES | OBJECTS.map(lambda found: json.dumps(found).encode()), max_size=12))
    @examples(60)
    def test_bytes(self, pieces: list[bytes]) -> None:
        """What one says alone, registered or not, whatever way it is cut."""
        register = self.line("register", {"role": "BE", "secret": SECRET})
        for before in (b"", register):
            whole = before + b"".join(pieces)
            told = [self.told(cut) for cut in ([whole], [before, *pieces])]
            self.assertEqual(told[0], told[1])

    def line(self, kind: str, payload: Any) -> bytes:
        return json.dumps({"type": kind, "payload": payload}).encode()

    def told(self, pieces: list[bytes]) -> list[Any]:
        """The types and codes of what comes back."""
        with clean_log(self, SECRET):
            bench = Bench(self, self.config("off"), self.signer)
            protocol, wire = bench.client(0)
            for piece in filter(None, pieces):
                protocol.dataReceived(piece)
            said = [json.loads(line) for line in wire.value().splitlines()]
            bench.end()
        kinds = [(m["type"], m["payload"].get("error_code")) for m in said if m["type"] != "log"]
        return [*kinds, wire.half_closed, wire.aborted]


class Clients(SynchronousTestCase):
    """The client's side: the gateway says anything."""

    REPLIES = st.sampled_from(sorted(REPLIES)).flatmap(
        lambda kind: st.fixed_dictionaries(
            {
                "type": st.just(kind),
                "payload": st.fixed_dictionaries(
                    {}, optional=dict.fromkeys(REPLIES[kind].__struct_fields__, JSON)
                ),
            }
        )
    )

    def link(self, trust: Trust, received: Callable[..., None]) -> tuple[Link, Wire, Clock]:
        """A link that has said ``register``."""
        clock = Clock()
        clock.advance(NOW)
        wire = Wire(socket.socket())
        self.addCleanup(wire.handle.close)
        register = Register(role="FE", secret=SECRET)
        link = Link(clock, register, received, lambda _: None, trust)
        link.auth.addErrback(lambda _: None)
        link.makeConnection(wire)
        return link, wire, clock

    @given(
        st.booleans(),
        st.booleans(),
        st.lists((REPLIES | OBJECTS).map(lambda o: json.dumps(o).encode()) | BYTES, max_size=8),
    )
    @examples(60)
    def test_anything(self, authentic: bool, verifies: bool, pieces: list[bytes]) -> None:
        """What is no message is left out or ends the link; unsigned ones never get through."""
        got: list[Any] = []
        trust = Trust(verifier=Verifier([verifying()], Signing.REQUIRE) if verifies else None)
        with clean_log(self, SECRET):
            link, wire, clock = self.link(trust, lambda message, _: got.append(message))
            if authentic:
                ok = encode(REPLIES["auth"](status="ok"), msg_id="m", ts_ms=int(NOW * 1000))
                link.dataReceived(Signer("k1", key()).sign_line(ok))
            for piece in filter(None, pieces):
                if not wire.aborted:
                    link.dataReceived(piece)
            clock.pump([1.0] * 8)
            self.assertTrue(wire.disconnecting, "nobody answers its pings")
            link.connectionLost(Failure(ConnectionDone()))
        self.assertTrue(link.over)
        self.assertEqual(clock.getDelayedCalls(), [])
        if verifies or not authentic:
            self.assertEqual(got, [])
