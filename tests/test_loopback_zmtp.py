"""Unmodified programs of ZeroMQ that both connect to one port of the gateway, without HELLO."""

from __future__ import annotations

import hashlib
from typing import Any

from twisted.trial.unittest import TestCase

from tests.live import Gateway, live

try:
    import zmq
except ImportError:
    zmq = None

OPEN = {"admission": "open"}
WITHIN = 20_000


class ZmtpCase(TestCase):
    """What these tests have in common."""

    skip = None if zmq is not None else "pyzmq is not installed"

    def socket(self, gateway: Gateway, kind: int, port: int = 0, **options: Any) -> Any:
        context = zmq.Context()
        made = context.socket(kind)
        made.setsockopt(zmq.LINGER, 0)
        made.setsockopt(zmq.RCVTIMEO, WITHIN)
        made.setsockopt(zmq.SNDTIMEO, WITHIN)
        for name, value in options.items():
            made.setsockopt(getattr(zmq, name), value)
        made.connect(f"tcp://{gateway.host}:{port or gateway.zmq[0]}")
        gateway.before_closing(lambda: context.destroy(linger=0))
        return made

    def waiting(self, gateway: Gateway, kind: int, **options: Any) -> Any:
        """A socket whose connection waits on the first port."""
        watcher = gateway.fe11("watcher")
        made = self.socket(gateway, kind, **options)
        watcher.state(lambda state: gateway.zmq[0] in state["zmq_ready_ports"])
        return made


class PatternTests(ZmtpCase):
    """Each pattern of direct mode."""

    @live(data=OPEN)
    def test_push_pull(self, gateway: Gateway) -> None:
        pull = self.waiting(gateway, zmq.PULL)
        push = self.socket(gateway, zmq.PUSH)
        for number in range(1000):
            push.send(b"%d" % number)
        self.assertEqual([pull.recv() for _ in range(1000)], [b"%d" % n for n in range(1000)])

    @live(data=OPEN)
    def test_req_rep(self, gateway: Gateway) -> None:
        rep = self.waiting(gateway, zmq.REP)
        req = self.socket(gateway, zmq.REQ)
        for number in range(100):
            req.send_multipart([b"question", b"%d" % number])
            self.assertEqual(rep.recv_multipart(), [b"question", b"%d" % number])
            rep.send(b"")
            self.assertEqual(req.recv(), b"")

    @live(data=OPEN)
    def test_pub_sub(self, gateway: Gateway) -> None:
        pub = self.waiting(gateway, zmq.XPUB)
        sub = self.socket(gateway, zmq.SUB, SUBSCRIBE=b"a")
        self.assertEqual(pub.recv(), b"\x01a")
        for topic in (b"a1", b"b", b"a2"):
            pub.send(topic)
        self.assertEqual([sub.recv(), sub.recv()], [b"a1", b"a2"])

    @live(data=OPEN)
    def test_large(self, gateway: Gateway) -> None:
        pull = self.waiting(gateway, zmq.PULL)
        push = self.socket(gateway, zmq.PUSH)
        whole = bytes(range(256)) * (64 * 4096)
        push.send(whole)
        got = pull.recv()
        self.assertEqual(hashlib.sha256(got).digest(), hashlib.sha256(whole).digest())

    @live(data=OPEN)
    def test_curve_end_to_end(self, gateway: Gateway) -> None:
        public, secret = zmq.curve_keypair()
        mine, my_secret = zmq.curve_keypair()
        rep = self.waiting(
            gateway, zmq.REP, CURVE_SERVER=1, CURVE_PUBLICKEY=public, CURVE_SECRETKEY=secret
        )
        req = self.socket(
            gateway, zmq.REQ, CURVE_SERVERKEY=public, CURVE_PUBLICKEY=mine,
            CURVE_SECRETKEY=my_secret,
        )  # fmt: skip
        req.send(b"sealed")
        self.assertEqual(rep.recv(), b"sealed")
        rep.send(b"yes")
        self.assertEqual(req.recv(), b"yes")

    @live(data=OPEN, zmq_keys={"inspect": "off"})
    def test_uninspected(self, gateway: Gateway) -> None:
        pull = self.waiting(gateway, zmq.PULL)
        push = self.socket(gateway, zmq.PUSH)
        push.send(b"x")
        self.assertEqual(pull.recv(), b"x")


class RefusalTests(ZmtpCase):
    """Who does not fit."""

    @live(data=OPEN)
    def test_wrong_type_leaves_the_be_waiting(self, gateway: Gateway) -> None:
        pull = self.waiting(gateway, zmq.PULL)
        pub = self.socket(gateway, zmq.PUB)
        pub.send(b"nobody")
        push = self.socket(gateway, zmq.PUSH)
        push.send(b"right")
        self.assertEqual(pull.recv(), b"right")

    @live(data=OPEN)
    def test_a_successor_of_a_killed_pull(self, gateway: Gateway) -> None:
        push = self.waiting(gateway, zmq.PUSH)
        pull = self.socket(gateway, zmq.PULL)
        push.send(b"1")
        self.assertEqual(pull.recv(), b"1")
        watcher = gateway.fe11("another watcher")
        pull.close(linger=0)
        watcher.state(lambda state: gateway.zmq[0] in state["zmq_ready_ports"])
        second = self.socket(gateway, zmq.PULL)
        push.send(b"2")
        self.assertEqual(second.recv(), b"2")
