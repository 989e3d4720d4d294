"""Programs of ZeroMQ that end, or are killed, and come again; and those that stay meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any

from tests.live import Gateway, live
from tests.test_loopback_zmtp import OPEN, ZmtpCase, zmq
from tests.test_loopback_zmtp_refusals import Events


class RestartTests(ZmtpCase):
    """What holds for whoever stays when the other side ends and comes again."""

    def back(self, gateway: Gateway) -> None:
        """Wait until the port is ready, for the one that stayed and came again at once."""
        watcher = gateway.fe11("watching for a restart")
        watcher.state(lambda state: gateway.zmq[0] in state["zmq_ready_ports"])
        watcher.close()

    def out_of_turn(self, call: Callable[..., Any], *arguments: Any) -> None:
        """What ZMQ itself forbids a REQ that waits for its answer."""
        with self.assertRaises(zmq.ZMQError) as caught:
            call(*arguments)
        self.assertEqual(caught.exception.errno, zmq.EFSM)

    @live(data=OPEN)
    def test_a_plain_req_between_exchanges(self, gateway: Gateway) -> None:
        """Without REQ_RELAXED: where the REP restarts while no answer is due, nothing is lost.

        The next request is sent when the REQ has come again: what it sends into a connection
        whose end it has not seen yet is lost, as without a gateway.
        """
        rep, req = self.waiting(gateway, zmq.REP), self.socket(gateway, zmq.REQ)
        for number in range(9):
            for turn in (b"first", b"second"):
                req.send_multipart([turn, b"%d" % number])
                self.assertEqual(rep.recv_multipart(), [turn, b"%d" % number])
                self.out_of_turn(req.send, b"two in a row")
                rep.send_multipart([b"answer", turn, b"%d" % number])
                self.assertEqual(req.recv_multipart(), [b"answer", turn, b"%d" % number])
            rep.close(linger=0)
            self.back(gateway)
            rep = self.socket(gateway, zmq.REP)

    @live(data=OPEN)
    def test_a_plain_req_between_request_and_reply(self, gateway: Gateway) -> None:
        """The request is lost with the REP: nobody gets it again, and its REQ can neither receive
        nor send. A REQ that begins anew finds the new REP."""
        rep, req = self.waiting(gateway, zmq.REP), self.socket(gateway, zmq.REQ)
        req.send(b"lost")
        self.assertEqual(rep.recv(), b"lost")
        rep.close(linger=0)
        self.back(gateway)
        events = Events()
        rep = self.socket(gateway, zmq.REP, watch=events)
        events.wait(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        with self.assertRaises(zmq.Again):
            req.recv(zmq.DONTWAIT)
        self.out_of_turn(req.send, b"again")
        req.close(linger=0)
        self.back(gateway)
        req = self.socket(gateway, zmq.REQ)
        req.send(b"anew")
        self.assertEqual(rep.recv(), b"anew")
        rep.send(b"answer")
        self.assertEqual(req.recv(), b"answer")

    @live(data=OPEN)
    def test_a_relaxed_req_between_request_and_reply(self, gateway: Gateway) -> None:
        """It asks again, and takes no other answer for that to its last question."""
        rep = self.waiting(gateway, zmq.REP)
        req = self.socket(gateway, zmq.REQ, REQ_RELAXED=1, REQ_CORRELATE=1)
        for number in range(3):
            req.send(b"lost %d" % number)
            self.assertEqual(rep.recv(), b"lost %d" % number)
            rep.close(linger=0)
            self.back(gateway)
            rep = self.socket(gateway, zmq.REP)
            req.send(b"%d" % number)
            self.assertEqual(rep.recv(), b"%d" % number)
            rep.send(b"answer %d" % number)
            self.assertEqual(req.recv(), b"answer %d" % number)

    def killed(self, gateway: Gateway, reads: int) -> subprocess.Popen[bytes]:
        """A PULL in a process of its own, which takes so many messages, and then no more."""
        program = f"""
            import signal, sys, zmq
            pull = zmq.Context().socket(zmq.PULL)
            pull.connect("tcp://{gateway.host}:{gateway.zmq[0]}")
            for _ in range({reads}):
                print(pull.recv()[:8].decode(), flush=True)
            signal.pause()
        """
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def read(self, process: subprocess.Popen[bytes], count: int) -> None:
        """It has got the first of them, in order."""
        assert process.stdout is not None
        got = [int(process.stdout.readline()) for _ in range(count)]
        self.assertEqual(got, list(range(count)))

    @live(data=OPEN)
    def test_a_killed_pull(self, gateway: Gateway) -> None:
        """Its successor gets all that is sent once the PUSH has come again."""
        push = self.waiting(gateway, zmq.PUSH)
        process = self.killed(gateway, 1000)
        for number in range(1000):
            push.send(b"%08d" % number)
        self.read(process, 1000)
        process.send_signal(signal.SIGKILL)
        self.back(gateway)
        pull = self.socket(gateway, zmq.PULL)
        for number in range(1000, 2000):
            push.send(b"%08d" % number)
        self.assertEqual([int(pull.recv()) for _ in range(1000)], list(range(1000, 2000)))
        self.assertEqual(process.wait(), -signal.SIGKILL)

    @live(data=OPEN)
    def test_a_pull_that_is_killed_in_the_stream(self, gateway: Gateway) -> None:
        """What was on its way to it is lost, in one piece; all behind that comes, in order."""
        push = self.waiting(gateway, zmq.PUSH)
        process = self.killed(gateway, 100)
        enough = threading.Event()

        def send() -> int:
            number = 0
            while not enough.is_set():
                push.send(b"%08d" % number + bytes(1000))
                number += 1
            push.send(b"end")
            return number

        sent = gateway.background(send)
        self.read(process, 100)
        process.send_signal(signal.SIGKILL)
        pull = self.socket(gateway, zmq.PULL)
        got = []
        while (message := pull.recv()) != b"end":
            got.append(int(message[:8]))
            if len(got) == 1000:
                enough.set()
        self.assertGreaterEqual(got[0], 100)
        self.assertEqual(got, list(range(got[0], sent.result())))
