"""What is told of sessions of ZeroMQ: metrics, admin API, log; and the limit of a message."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor

from relayx.admin import model, queries
from relayx.view import View
from tests.fuzzing import clean_log
from tests.live import Gateway, live
from tests.scrapes import Scrape
from tests.test_loopback_zmtp import MESSAGES, OPEN, ZmtpCase, in_the_reactor, zmq
from tests.zmtp_bed import message, opening


def scrape(gateway: Gateway) -> Scrape:
    """The gateway's metrics."""
    return Scrape(in_the_reactor(gateway.service.metrics.render))


def sessions(gateway: Gateway) -> tuple[model.Session, ...]:
    """What the admin API says of the sessions that run."""
    service = gateway.service
    view = View(service.switchboard, service.data, reactor)
    return in_the_reactor(lambda: view.sessions(queries.SessionQuery())).items


class Numbers(ZmtpCase):
    """Messages by pattern and direction."""

    @live(data=OPEN, zmq_keys=MESSAGES)
    def test_req_rep(self, gateway: Gateway) -> None:
        rep = self.waiting(gateway, zmq.REP)
        req = self.socket(gateway, zmq.REQ)
        for _ in range(100):
            req.send(bytes(64))
            rep.send(rep.recv() * 2)
            req.recv()
        found = scrape(gateway)
        pattern = {"pattern": "req_rep"}
        for direction, size in (("fe_to_be", 64), ("be_to_fe", 128)):
            labels = {**pattern, "direction": direction}
            self.assertEqual(found.of("relayx_zmq_messages_total", **labels), 100)
            self.assertEqual(found.of("relayx_zmq_bytes_total", **labels), 100 * size)
        self.assertEqual(found.of("zmq_msg_duration_seconds_count", **pattern), 100)
        self.assertGreater(found.of("zmq_msg_duration_seconds_sum", **pattern), 0)
        for role in ("FE", "BE"):
            self.assertEqual(found.of("zmq_conn_total", role=role), 1)
        (shown,) = sessions(gateway)
        self.assertEqual(
            shown.zmtp,
            model.Zmtp(
                mechanism="NULL", fe_type="REQ", be_type="REP",
                fe_to_be_messages=100, be_to_fe_messages=100,
            ),
        )  # fmt: skip

    @live(data=OPEN)
    def test_without_messages(self, gateway: Gateway) -> None:
        pull = self.waiting(gateway, zmq.PULL)
        push = self.socket(gateway, zmq.PUSH)
        push.send(b"x")
        pull.recv()
        found = scrape(gateway)
        labels = {"pattern": "push_pull", "direction": "fe_to_be"}
        self.assertTrue(found.has("relayx_zmq_messages_total", **labels))
        self.assertEqual(found.of("relayx_zmq_messages_total", **labels), 0)
        (shown,) = sessions(gateway)
        assert shown.zmtp is not None
        self.assertEqual((shown.zmtp.fe_type, shown.zmtp.be_type), ("PUSH", "PULL"))
        self.assertIsNone(shown.zmtp.fe_to_be_messages)

    @live(data=OPEN)
    def test_of_others(self, gateway: Gateway) -> None:
        """Every fault has a series from the start; a session of HELLO has nothing of ZMTP."""
        found = scrape(gateway)
        for reason in ("version", "malformed", "mechanism", "socket_type", "too_big", "ended"):
            self.assertTrue(found.has("relayx_zmtp_faults_total", reason=reason), reason)
        gateway.pair(gateway.zmq[0])
        (shown,) = sessions(gateway)
        self.assertIsNone(shown.zmtp)

    @live(data=OPEN, zmq_keys=MESSAGES)
    def test_the_log(self, gateway: Gateway) -> None:
        with clean_log(self) as lines:
            pull = self.waiting(gateway, zmq.PULL)
            push = self.socket(gateway, zmq.PUSH)
            for _ in range(7):
                push.send(b"x")
            for _ in range(7):
                pull.recv()
            watcher = gateway.fe11("watching")
            push.close(linger=0)
            watcher.state(lambda state: gateway.zmq[0] in state["zmq_ready_ports"])
        (line,) = [line for line in lines if " ended after " in line]
        self.assertTrue(
            line.endswith("; ZMTP of NULL, PUSH to PULL, 7 messages FE to BE, 0 BE to FE"), line
        )


class Limited(ZmtpCase):
    """``zmq.max_message_bytes``."""

    def again(self, push: Any, pull: Any) -> None:
        """Both come again; what libzmq had sent before is lost with the connection."""
        while not pull.poll(100):
            push.send(b"next")
        self.assertEqual(pull.recv_multipart(), [b"next"])

    def over(self, gateway: Gateway, pull: Any, parts: list[bytes], text: str) -> None:
        """The session ends, the PULL gets nothing of it, and both come again."""
        be = gateway.be11("told")
        push = self.socket(gateway, zmq.PUSH)
        push.send(b"fits")
        self.assertEqual(pull.recv(), b"fits")
        with clean_log(self) as lines:
            push.send_multipart(parts)
            self.again(push, pull)
        ended = [line for line in lines if " ended after " in line]
        self.assertIn(f": limit, the FE broke ZMTP: {text}", ended[0])
        self.assertEqual(scrape(gateway).of("relayx_zmtp_faults_total", reason="too_big"), 1)
        self.assertEqual(
            scrape(gateway).of("relayx_sessions_ended_total", protocol="zmq", cause="limit"), 1
        )
        be.close()

    @live(data=OPEN, zmq_keys={**MESSAGES, "max_message_bytes": 100_000})
    def test_one_frame(self, gateway: Gateway) -> None:
        pull = self.waiting(gateway, zmq.PULL)
        text = "a message of 8388608 bytes; 100000 is most"
        self.over(gateway, pull, [bytes(8 << 20)], text)

    @live(data=OPEN, zmq_keys={**MESSAGES, "max_message_bytes": 100_000})
    def test_all_frames_together(self, gateway: Gateway) -> None:
        pull = self.waiting(gateway, zmq.PULL)
        text = "a message of 120000 bytes or more; 100000 is most"
        self.over(gateway, pull, [bytes(60_000)] * 3, text)

    @live(data=OPEN, zmq_keys={**MESSAGES, "max_message_bytes": 100_000})
    def test_at_the_limit(self, gateway: Gateway) -> None:
        pull = self.waiting(gateway, zmq.PULL)
        push = self.socket(gateway, zmq.PUSH)
        for _ in range(20):
            push.send_multipart([bytes(50_000)] * 2)
        got = [pull.recv_multipart() for _ in range(20)]
        self.assertEqual(got, [[bytes(50_000)] * 2] * 20)

    @live(data=OPEN, zmq_keys={**MESSAGES})
    def test_garbage_in_traffic(self, gateway: Gateway) -> None:
        """A peer that has shaken hands well and then speaks no ZMTP."""
        pull = self.waiting(gateway, zmq.PULL)
        link = gateway.dial(gateway.zmq[0])
        link.send(opening("PUSH") + message(b"ok"))
        self.assertEqual(pull.recv(), b"ok")
        with clean_log(self) as lines:
            link.send(b"garbage" * 10_000)
            self.assertEqual(link.rest()[1], "reset")
            self.again(self.socket(gateway, zmq.PUSH), pull)
        found = [line for line in lines if "limit, the FE broke ZMTP: a frame with flags" in line]
        self.assertEqual(len(found), 1, lines)
