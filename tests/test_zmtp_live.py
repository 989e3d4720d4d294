"""The reader beside libzmq itself, where pyzmq is installed."""

from __future__ import annotations

import socket
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from relayx.zmtp import Failed, Handshake, Reader, greeting_bytes
from tests.zmtp_relay import Recorder

try:
    import zmq
    from zmq.utils.monitor import recv_monitor_message
except ImportError:
    zmq = None

COUNT = 450
PATIENCE = 60.0


class Live(SynchronousTestCase):
    def setUp(self) -> None:
        if zmq is None:
            raise SkipTest("pyzmq is not installed")
        self.context = zmq.Context()
        self.addCleanup(self.context.destroy, linger=0)

    def socket(self, kind: int) -> Any:
        made = self.context.socket(kind)
        made.linger, made.rcvtimeo, made.sndtimeo = 0, 60_000, 60_000
        return made


class Through(Live):
    """Two that both connect; what went through is counted exactly."""

    def joined(self, relay: Recorder) -> Handshake:
        relay.wait()
        joined = Handshake()
        for feed, said in ((joined.feed_fe, relay.said[0]), (joined.feed_be, relay.said[1])):
            for at in range(0, len(said), 65521):
                feed(bytes(said[at : at + 65521]))
        return joined

    def test_push_pull(self) -> None:
        sizes = [0, 1, 64, 255, 256, 1024, 1024, 1024, 70_000]
        with Recorder() as relay:
            push, pull = self.socket(zmq.PUSH), self.socket(zmq.PULL)
            push.connect(relay.address)
            self.assertTrue(relay.first_is_there.wait(PATIENCE))
            pull.connect(relay.address)
            for number in range(COUNT):
                push.send(bytes(sizes[number % 9]))
                pull.recv()
            push.close()
            pull.close()
            joined = self.joined(relay)
        self.assertEqual(joined.socket_types, ("PUSH", "PULL"))
        self.assertEqual((joined.fe.messages, joined.be.messages), (COUNT, 0))
        total = sum(sizes[number % 9] for number in range(COUNT))
        self.assertEqual(joined.fe.message_bytes, total)

    def test_req_rep(self) -> None:
        with Recorder() as relay:
            req, rep = self.socket(zmq.REQ), self.socket(zmq.REP)
            req.connect(relay.address)
            self.assertTrue(relay.first_is_there.wait(PATIENCE))
            rep.connect(relay.address)
            for _ in range(200):
                req.send(b"q" * 64)
                rep.send(rep.recv() * 2)
                req.recv()
            req.close()
            rep.close()
            joined = self.joined(relay)
        self.assertEqual((joined.fe.messages, joined.be.messages), (200, 200))
        self.assertEqual((joined.fe.message_bytes, joined.be.message_bytes), (200 * 64, 200 * 128))


class Refused(Live):
    """A peer of libzmq that is written here, byte by byte."""

    def accepted(self, client: Any) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        listener.settimeout(PATIENCE)
        client.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        end, _ = listener.accept()
        self.addCleanup(end.close)
        end.settimeout(PATIENCE)
        return end

    def heard(self, end: socket.socket) -> bytes:
        data = end.recv(4096)
        self.assertNotEqual(data, b"", "libzmq has closed")
        return data

    def test_the_first_bytes_draw_the_whole_greeting(self) -> None:
        push = self.socket(zmq.PUSH)
        end = self.accepted(push)
        reader = Reader()
        end.sendall(greeting_bytes()[:11])
        while reader.greeting is None:
            reader.feed(self.heard(end))
        self.assertEqual(reader.greeting.mechanism, "NULL")
        push.close()

    def test_an_error_is_understood(self) -> None:
        """libzmq tells its monitor of a reason of three digits, and closes."""
        push = self.socket(zmq.PUSH)
        monitor = push.get_monitor_socket(zmq.Event.HANDSHAKE_FAILED_AUTH)
        monitor.rcvtimeo = 60_000
        end = self.accepted(push)
        joined = Handshake()
        passed = greeting_bytes()
        end.sendall(passed)
        joined.feed_be(passed)
        while joined.fe.ready is None:
            joined.feed_fe(self.heard(end))
        self.assertEqual(joined.socket_types, ("PUSH", ""))
        sent = joined.refusal_to_fe("400", len(passed))
        self.assertEqual(Reader().feed(passed + sent)[-1], Failed("400"))
        end.sendall(sent)
        self.assertEqual(int(recv_monitor_message(monitor)["value"]), 400)
        self.assertEqual(end.recv(4096), b"")
        push.disable_monitor()
