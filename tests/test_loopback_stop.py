"""Stopping, in the test's process and as twistd; a port that is taken (section 9)."""

from __future__ import annotations

import signal
import socket
import time

from twisted.internet import reactor, threads
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.guide_peer import DEADLINE, Control, EndedError, WasResetError
from tests.live import (
    CONTROL_PORT,
    LATE,
    NEVER,
    SECRET,
    BindError,
    Gateway,
    Peers,
    live,
    random_host,
    service_for,
)
from tests.live_process import Subprocess, twistd
from tests.test_loopback_data_hello import an_fe_waits


def is_draining(client: Control) -> None:
    """Wait until a signal has reached the gateway."""
    deadline = time.monotonic() + DEADLINE
    while client.acquire()["error_code"] != "DRAINING":
        if time.monotonic() > deadline:
            raise TimeoutError("it does not drain")


class Draining(TestCase):
    """stopService, as SIGTERM brings it about (section 9)."""

    @live(data={"drain_timeout": NEVER})
    def test_nothing_new(self, gateway: Gateway) -> None:
        """Section 9: no new registration, lease or session; running ones go on."""
        client, be_client = gateway.fe(), gateway.be()
        fe, be = gateway.pair(gateway.zmq[0])
        waiting = gateway.waiting(gateway.zmq[1])
        unregistered = gateway.control()
        silent = gateway.dial11(gateway.zmq[2])
        client.ping()
        stopped = gateway.stop()
        self.assertIn(waiting.dropped(), ("", "DRAINING"))
        found = client.acquire()
        self.assertEqual((found["error_code"], found["session_id"]), ("DRAINING", ""))
        self.assertEqual(be_client.acquire()["error_code"], "DRAINING")
        for late in (lambda: unregistered, gateway.control):
            try:
                auth = late().register("FE", SECRET)
            except (ConnectionRefusedError, EndedError, WasResetError):
                continue
            self.assertEqual((auth["status"], auth["error_code"]), ("error", "DRAINING"))
        try:
            silent.hello("FE")
            self.assertEqual(silent.refusal(), "DRAINING")
        except (EndedError, WasResetError):
            pass  # closed before it could ask
        fe.send(b"still running")
        self.assertEqual(be.receive(13), b"still running")
        self.assertFalse(stopped.done())
        fe.close()
        self.assertEqual(be.rest(), (b"", "end"))
        be.close()
        stopped.result(DEADLINE)  # it ends as soon as no session is left

    @live()
    def test_a_waiting_fe(self, gateway: Gateway) -> None:
        """Section 5: an FE that waits under its lease gets DRAINING, at once."""
        client, _ = gateway.fe(), gateway.be()
        link = gateway.waiting(gateway.zmq[0])
        session_id = client.acquire()["session_id"]
        link.close()
        client.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)
        fe = gateway.entering(gateway.zmq[0], session_id=session_id)
        an_fe_waits(gateway, gateway.zmq[0])
        gateway.stop()
        self.assertEqual(fe.refusal(), "DRAINING")

    @live(data={"drain_timeout": 0.5})
    def test_drain_timeout(self, gateway: Gateway) -> None:
        """Section 9: sessions that go on are closed after drain_timeout; the cause is drain."""
        client, _ = gateway.fe11("phone"), gateway.be("worker")
        be = gateway.waiting(gateway.zmq[0], "worker")
        fe = gateway.entering(gateway.zmq[0], "phone")
        fe.expect("RLX1PAIRED")
        be.expect("RLX1PAIRED")
        begun = time.monotonic()
        stopped = gateway.stop()
        self.assertEqual(client.expect("session_end")["cause"], "drain")
        self.assertEqual((fe.rest()[0], be.rest()[0]), (b"", b""))
        self.assertTrue(0.4 < time.monotonic() - begun < 0.5 + LATE, time.monotonic() - begun)
        stopped.result(DEADLINE)

    @live(data={"drain_timeout": NEVER})
    def test_idle(self, gateway: Gateway) -> None:
        """Section 9: without a session the gateway ends at once, every connection closed."""
        client, waiting = gateway.be(), gateway.waiting(gateway.zmq[0])
        unregistered, silent = gateway.control(), gateway.dial(gateway.zmq[1])
        gateway.stop().result(DEADLINE)
        self.assertIn(waiting.dropped(), ("", "DRAINING"))
        self.assertEqual(silent.rest()[0], b"")
        for control in (client, unregistered):
            try:
                control.rest()
            except WasResetError:
                pass
        self.assertRaises(ConnectionRefusedError, gateway.control)
        self.assertRaises(ConnectionRefusedError, gateway.dial, gateway.zmq[0])

    @live()
    def test_what_happens_after_it(self, gateway: Gateway) -> None:
        """A connection that was waited for too long ends later; nothing is made due by that."""
        gateway.be("worker")
        gateway.stop().result(DEADLINE)
        service = gateway.service
        self.assertIsNotNone(service.switchboard.next_due())
        threads.blockingCallFromThread(reactor, service._perform, [])


class TakenPort(TestCase):
    """privilegedStartService where a port cannot be bound (section 9)."""

    def test_nothing_half_started(self) -> Deferred[None]:
        """Section 9: an error that names the port; nothing listens, nothing is left behind.

        (What is left in the reactor makes the test fail by itself.)
        """
        peers = Peers(random_host(), 3, 2)
        with socket.create_server((peers.host, peers.zmq[2])):
            service = service_for(peers, {})
            error = self.assertRaises(BindError, service.privilegedStartService)
        self.assertIn(str(peers.zmq[2]), str(error))

        def look() -> None:
            for port in (CONTROL_PORT, *peers.zmq, *peers.srt):
                self.assertRaises(ConnectionRefusedError, peers.dial, port)
            peers.close_all()

        return deferLater(reactor, 0, look)


class Process(TestCase):
    """twistd -n relayx (sections 1 and 9)."""

    def test_signals(self) -> None:
        """Section 9: SIGTERM or SIGINT with a running session; exit status 0."""
        for number in (signal.SIGTERM, signal.SIGINT):
            with twistd(self.mktemp(), data={"drain_timeout": NEVER}) as gateway:
                client, _ = gateway.fe(), gateway.be()
                fe, be = gateway.pair(gateway.zmq[0])
                gateway.process.send_signal(number)
                is_draining(client)
                fe.send(b"to the last")
                self.assertEqual(be.receive(11), b"to the last")
                fe.close()
                self.assertEqual(be.rest(), (b"", "end"))
                be.close()
                status, written = gateway.ended()
                self.assertEqual((status, "Traceback" in written), (0, False), written)
                self.assertNotIn(SECRET, written)

    def test_drain_timeout(self) -> None:
        """Section 9: a session that does not end is closed, and the exit status is 0."""
        with twistd(self.mktemp(), data={"drain_timeout": 0.3}) as gateway:
            gateway.fe(), gateway.be()
            fe, be = gateway.pair(gateway.zmq[0])
            gateway.terminate()
            self.assertEqual((fe.rest()[0], be.rest()[0]), (b"", b""))
            status, written = gateway.ended()
            self.assertEqual((status, "Traceback" in written), (0, False), written)

    def test_second_signal(self) -> None:
        """An operator who cannot wait: sessions are ended at once, and the exit status is 0."""
        with twistd(self.mktemp(), data={"drain_timeout": NEVER}) as gateway:
            client, _ = gateway.fe11("phone"), gateway.be()
            be = gateway.waiting(gateway.zmq[0])
            fe = gateway.entering(gateway.zmq[0], "phone")
            fe.expect("RLX1PAIRED")
            be.expect("RLX1PAIRED")
            gateway.terminate()
            is_draining(client)
            gateway.terminate()
            self.assertEqual(client.expect("session_end")["cause"], "drain")
            self.assertEqual((fe.rest()[0], be.rest()[0]), (b"", b""))
            status, written = gateway.ended()
            self.assertEqual((status, "Traceback" in written), (0, False), written)

    def test_taken_port(self) -> None:
        """Section 9: one clear error that names the port, exit 1, no traceback."""
        for taken in ("control", "data"):
            gateway = Subprocess(random_host(), 3, 0)
            port = gateway.zmq[2] if taken == "data" else CONTROL_PORT
            with socket.create_server((gateway.host, port)):
                gateway.start(self.mktemp(), {})
                status, written = gateway.ended()
            self.assertEqual(status, 1, written)
            self.assertNotIn("Traceback", written)
            naming = [line for line in written.splitlines() if str(port) in line]
            self.assertEqual(len(naming), 1, written)
            gateway.close_all()
