"""The stream of JSON objects on a control connection (contract section 2)."""

from __future__ import annotations

import json
import re
import time

from twisted.trial.unittest import TestCase

from tests.guide_peer import Control, EndedError, WasResetError, message
from tests.live import LATE, NEVER, SECRET, Gateway, live
from tests.reloading import in_the_reactor

REGISTER = message("register", {"role": "FE", "secret": SECRET, "client_id": "framing"})
MSG_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}-(\d+)")


def nested(levels: int) -> bytes:
    """A ping that nests that many levels deep, the message itself counted."""
    inner = b"[" * (levels - 1) + b"]" * (levels - 1)
    return b'{"type":"ping","payload":{"c_send":9},"extra":' + inner + b"}"


class Accepted(TestCase):
    """Every way of writing a stream of objects (section 2)."""

    def pong(self, client: Control, stamp: int) -> None:
        self.assertEqual(client.expect("pong", c_send=stamp)["c_send"], stamp)

    @live()
    def test_no_newline(self, gateway: Gateway) -> None:
        """Section 2: an object is acted on as soon as it is complete, newline or not."""
        client = gateway.control()
        client.send(REGISTER)
        self.assertEqual(client.expect("auth")["status"], "ok")
        client.send(message("ping", {"c_send": 7}))
        self.pong(client, 7)

    @live()
    def test_several_lines(self, gateway: Gateway) -> None:
        """Section 2: an object may span lines."""
        client = gateway.control()
        client.send(json.dumps(json.loads(REGISTER), indent=4).encode())
        self.assertEqual(client.expect("auth")["status"], "ok")
        client.send(b'{\r\n\t"type"\n:\n"ping",\n"payload": {\n\n"c_send":8}\n}\n')
        self.pong(client, 8)

    @live()
    def test_many_in_one_segment(self, gateway: Gateway) -> None:
        """Section 2: objects may follow each other with nothing, or blanks, between."""
        client = gateway.control()
        pings = [message("ping", {"c_send": stamp}) for stamp in range(1, 6)]
        client.send(REGISTER + pings[0] + pings[1] + b"\n\n  \r\n" + pings[2] + b" " + pings[3])
        client.send(pings[4])
        self.assertEqual(client.expect("auth")["status"], "ok")
        answered = [client.find("pong")["payload"]["c_send"] for _ in pings]
        self.assertEqual(answered, [1, 2, 3, 4, 5])

    @live()
    def test_byte_by_byte(self, gateway: Gateway) -> None:
        """Section 2: the cut into segments does not matter, within a character either."""
        client = gateway.control()
        client.send_bytewise(REGISTER)
        self.assertEqual(client.expect("auth")["status"], "ok")
        line = json.dumps(
            {"type": "ping", "payload": {"c_send": 5}, "trace_id": 'é "}{\\ 文 \U0001f600'},
            ensure_ascii=False,
        )
        client.send_bytewise(line.encode())
        self.assertEqual(client.find("pong")["trace_id"], 'é "}{\\ 文 \U0001f600')

    @live()
    def test_cut_between_segments(self, gateway: Gateway) -> None:
        """Section 2: the end of one object and the start of the next in one segment."""
        client = gateway.fe()
        first, second = (message("ping", {"c_send": stamp}) for stamp in (1, 2))
        client.send(first + second[:10])
        self.pong(client, 1)
        client.send(second[10:])
        self.pong(client, 2)

    @live()
    def test_unknown_fields(self, gateway: Gateway) -> None:
        """Section 2: unknown fields are ignored, in the envelope and in the payload."""
        client = gateway.control()
        client.say("register", {"role": "BE", "secret": SECRET, "colour": [1]}, mood={"a": None})
        self.assertEqual(client.expect("auth")["status"], "ok")

    @live()
    def test_depth_limit(self, gateway: Gateway) -> None:
        """Section 2: 32 levels are allowed."""
        client = gateway.fe()
        client.send(nested(32))
        self.pong(client, 9)

    @live(control={"max_message_bytes": 1024})
    def test_size_limit(self, gateway: Gateway) -> None:
        """Section 2: an object of exactly max_message_bytes is allowed."""
        client = gateway.fe()
        empty = message("ping", {"c_send": 3}, pad="")
        client.send(message("ping", {"c_send": 3}, pad="x" * (1024 - len(empty))) + b"\n")
        self.pong(client, 3)

    @live()
    def test_null_payload(self, gateway: Gateway) -> None:
        """Section 2: a payload may be null, and may be left out."""
        client = gateway.fe()
        client.expect("port_state")
        client.send(b'{"type":"port_state_q","payload":null}{"type":"port_state_q"}')
        self.assertEqual([client.expect("port_state")["zmq_total"] for _ in range(2)], [3, 3])


class Written(TestCase):
    """What the gateway writes (section 2)."""

    @live()
    def test_one_compact_object_a_line(self, gateway: Gateway) -> None:
        """Section 2: one compact object a line, with msg_id and ts_ms."""
        client = gateway.control()
        client.send(REGISTER)
        seen = []
        while len(seen) < 3:
            while b"\n" not in client.held:
                client.fill()
            line, _, client.held = client.held.partition(b"\n")
            found = json.loads(line)
            compact = json.dumps(found, separators=(",", ":"), ensure_ascii=False)
            self.assertEqual(line.decode(), compact)
            now = time.time() * 1000
            self.assertTrue(abs(found["ts_ms"] - now) < 5000, (found["ts_ms"], now))
            stamp = MSG_ID.fullmatch(found["msg_id"])
            self.assertIsNotNone(stamp, found["msg_id"])
            self.assertTrue(abs(int(stamp.group(1)) - now) < 5000, found["msg_id"])
            seen.append(found)
        self.assertEqual([m["type"] for m in seen], ["auth", "port_alloc", "port_state"])
        self.assertEqual(len({m["msg_id"] for m in seen}), 3)

    @live()
    def test_trace_id_in_reply_and_broadcast(self, gateway: Gateway) -> None:
        """Section 2: a request's trace_id is in its reply and in what it broadcasts."""
        fe, be = gateway.fe(), gateway.be()
        gateway.waiting(gateway.zmq[0])
        trace = "0af7651916cd43dd8448eb211c80319c"
        fe.say("port_acquire", {"request_id": "r1", "need_zmq": True}, trace_id=trace)
        self.assertEqual(fe.find("port_grant")["trace_id"], trace)
        seen = be.find("port_grant")
        self.assertEqual((seen["trace_id"], seen["payload"]["request_id"]), (trace, "r1"))
        session_id = seen["payload"]["session_id"]
        fe.say("port_release", {"session_id": session_id}, trace_id="second")
        self.assertEqual(be.find("port_release")["trace_id"], "second")
        be.say("port_alloc", {}, trace_id="third")
        self.assertEqual(fe.find("port_alloc")["trace_id"], "third")
        be.say("key_exchange", {"public_key": "k"}, trace_id="fourth")
        self.assertEqual(fe.find("key_exchange")["trace_id"], "fourth")

    @live()
    def test_trace_id_of_register(self, gateway: Gateway) -> None:
        """Section 2: auth repeats the trace_id of its register."""
        client = gateway.control()
        client.say("register", {"role": "FE", "secret": SECRET}, trace_id="of-register")
        self.assertEqual(client.find("auth")["trace_id"], "of-register")


class Broken(TestCase):
    """A broken stream: one error, readable, then an end of stream and no reset (section 2)."""

    def refused(self, client: Control, data: bytes) -> None:
        client.ping()
        client.send(data)
        found = client.rest()
        self.assertEqual([m["type"] for m in found], ["error"])
        self.assertEqual(found[0]["payload"]["error_code"], "INVALID_MESSAGE")
        self.assertTrue(found[0]["payload"]["error"])

    @live()
    def test_garbage(self, gateway: Gateway) -> None:
        """Section 2: what is no JSON object at all."""
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"[1,2]\n", b"42\n", b'"text"\n', b"\x00\x01\x02"):
            self.refused(gateway.fe(), data)

    @live()
    def test_broken_json(self, gateway: Gateway) -> None:
        """Section 2: braces in balance, but not JSON between them."""
        for data in (b'{"type":}\n', b"{]}\n", b'{"type":"ping",}\n', b"{'type':'ping'}\n"):
            self.refused(gateway.fe(), data)

    @live()
    def test_not_utf8(self, gateway: Gateway) -> None:
        """Section 2: invalid UTF-8 within a string."""
        for bad in (b"\xff", b"\xc3(", b"\xed\xa0\x80"):
            for field in (b'},"trace_id":"', b'},"unknown":"', b',"unknown":"'):
                end = b'"}}\n' if field.startswith(b",") else b'"}\n'
                data = b'{"type":"ping","payload":{"c_send":1' + field + bad + end
                self.refused(gateway.fe(), data)

    @live()
    def test_too_deep(self, gateway: Gateway) -> None:
        """Section 2: nesting deeper than 32 levels."""
        self.refused(gateway.fe(), nested(33))
        self.refused(gateway.fe(), b'{"a":' * 50000)

    @live(control={"max_message_bytes": 1024})
    def test_oversize(self, gateway: Gateway) -> None:
        """Section 2: over max_message_bytes, complete or not."""
        empty = message("ping", {"c_send": 3}, pad="")
        self.refused(
            gateway.fe(), message("ping", {"c_send": 3}, pad="x" * (1025 - len(empty))) + b"\n"
        )
        self.refused(gateway.fe(), b'{"type":"' + b"x" * 5000)

    @live()
    def test_more_on_the_way(self, gateway: Gateway) -> None:
        """Section 2: what still comes in is read and dropped, so the error is not lost."""
        in_the_reactor(gateway.service.control.leaving.change, NEVER, 256)
        self.refused(gateway.fe(), b"garbage" + b"more and more " * 50000)

    @live()
    def test_objects_before_the_fault_count(self, gateway: Gateway) -> None:
        """Section 2: what was complete before the fault is acted on."""
        client = gateway.fe()
        client.ping()
        client.send(message("ping", {"c_send": 77}) + b"}")
        self.assertEqual([m["type"] for m in client.rest()], ["pong", "error"])

    @live()
    def test_before_registration(self, gateway: Gateway) -> None:
        """Section 2: the same for a connection that has not registered."""
        client = gateway.control()
        client.send(b"hello there\n")
        found = client.rest()
        self.assertEqual([m["type"] for m in found], ["error"])
        self.assertEqual(found[0]["payload"]["error_code"], "INVALID_MESSAGE")

    @live()
    def test_the_peer_goes_on_sending(self, gateway: Gateway) -> None:
        """Section 2: what comes after the error is dropped for a while, not answered by a reset."""
        in_the_reactor(gateway.service.control.leaving.change, NEVER, 256)
        client, bystander = gateway.fe(), gateway.fe()
        client.ping(), bystander.ping()
        client.send(b"nonsense")
        self.assertEqual(client.find("error")["payload"]["error_code"], "INVALID_MESSAGE")
        self.assertRaises(EndedError, client.fill)
        for _ in range(3):
            self.assertRaises(TimeoutError, bystander.fill, 0.02)
            client.send(b"more nonsense" * 100)

    @live()
    def test_not_for_ever(self, gateway: Gateway) -> None:
        """Section 2: for up to 1 s; then the connection is gone, whatever still comes."""
        client, bystander = gateway.fe(), gateway.fe()
        client.ping(), bystander.ping()
        begun = time.monotonic()
        client.send(b"nonsense")
        with self.assertRaises(WasResetError):
            while time.monotonic() - begun < 1 + LATE:
                self.assertRaises(TimeoutError, bystander.fill, 0.1)
                client.send(b"more nonsense")
        self.assertTrue(time.monotonic() - begun > 0.9, "what still comes is read for a while")


class Refused(TestCase):
    """A well-formed message that means nothing: an error, and the connection stays."""

    @live()
    def test_unknown_type(self, gateway: Gateway) -> None:
        """Section 2 and 3: INVALID_MESSAGE with in_reply_to and the trace_id."""
        client = gateway.fe()
        client.say("teleport", {"where": 1}, msg_id="m-1", trace_id="t-1")
        found = client.find("error")
        self.assertEqual(found["payload"]["error_code"], "INVALID_MESSAGE")
        self.assertEqual(found["payload"]["in_reply_to"], "m-1")
        self.assertEqual(found["trace_id"], "t-1")
        self.assertIn("teleport", found["payload"]["error"])
        client.ping()

    @live()
    def test_a_servers_type(self, gateway: Gateway) -> None:
        """Section 3: what only the gateway sends is no request."""
        client = gateway.fe()
        for kind in ("auth", "port_state", "port_grant", "pong", "telemetry", "session_end"):
            client.say(kind, {}, msg_id=kind)
            found = client.expect("error")
            self.assertEqual((found["error_code"], found["in_reply_to"]), ("INVALID_MESSAGE", kind))
        client.ping()

    @live()
    def test_wrong_payload_types(self, gateway: Gateway) -> None:
        """Section 2: a payload of the wrong types."""
        client = gateway.fe()
        wrong = [
            ("ping", {"c_send": "now"}), ("ping", {}), ("ping", [1]), ("ping", "text"),
            ("port_acquire", {"need_zmq": 1}), ("port_acquire", {"ttl_seconds": "30"}),
            ("port_acquire", {"request_id": 5}), ("port_release", {"session_id": None}),
            ("port_release", {}), ("port_state_q", {"need_srt": "yes"}),
        ]  # fmt: skip
        for number, (kind, payload) in enumerate(wrong):
            client.say(kind, payload, msg_id=f"w{number}", trace_id=f"t{number}")
            found = client.find("error")
            self.assertEqual(found["payload"]["error_code"], "INVALID_MESSAGE", (kind, payload))
            self.assertEqual(found["payload"]["in_reply_to"], f"w{number}", (kind, payload))
            self.assertEqual(found["trace_id"], f"t{number}", (kind, payload))
        client.ping()

    @live()
    def test_no_msg_id(self, gateway: Gateway) -> None:
        """Section 3: in_reply_to only where there was a msg_id."""
        client = gateway.fe()
        client.say("teleport", {})
        self.assertFalse(client.expect("error").get("in_reply_to"))

    @live()
    def test_long_ids(self, gateway: Gateway) -> None:
        """Section 2: trace_id, msg_id and request_id have at most 256 bytes."""
        client = gateway.fe()
        longest = "é" * 128
        client.say("ping", {"c_send": 4}, trace_id=longest, msg_id="m" * 256)
        self.assertEqual(client.find("pong")["trace_id"], longest)
        for field in ("trace_id", "msg_id"):
            client.say("ping", {"c_send": 4}, **{field: longest + "x"})
            self.assertEqual(client.expect("error")["error_code"], "INVALID_REQUEST", field)
        self.assertNotIn("pong", [m["type"] for m in client.log[-2:]])
        client.say("ping", {"c_send": 4}, trace_id="of the error", msg_id="m" * 257)
        found = client.find("error")
        self.assertEqual(found["trace_id"], "of the error")
        self.assertFalse(found["payload"].get("in_reply_to"))
        client.say("port_acquire", {"request_id": "r" * 257, "need_zmq": True})
        found = client.find("port_grant")["payload"]
        self.assertEqual((found["error_code"], found["session_id"]), ("INVALID_REQUEST", ""))
        self.assertEqual(client.acquire(request_id="r" * 256)["error_code"], "PORT_EXHAUSTED")
