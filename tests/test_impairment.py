"""The impairment proxy does what it is told, the same way each time, and counts SRT's packets."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from twisted.trial.unittest import SkipTest, TestCase

from tests.impairment import Counts, Impairment
from tests.relayx_process import environment

try:
    from tests import srt_peer
    from tests.srt_peer import SrtPeer
except ImportError:
    MISSING = "cffi is not installed"
else:
    MISSING = srt_peer.missing()

PACKETS = 200
"""Fewer than fill the receive buffer of a socket, from which the system drops."""


def udp(case: TestCase) -> socket.socket:
    """A socket on a free port, whose receives fail in the end."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    case.addCleanup(made.close)
    made.bind(("127.0.0.1", 0))
    made.settimeout(20)
    return made


class Proxy(TestCase):
    """With plain packets."""

    def sent(self, **options: Any) -> tuple[list[int], Counts]:
        """Which of the numbered packets arrive, in this order, and the count of them."""
        target, client = udp(self), udp(self)
        with Impairment(target.getsockname(), **options) as proxy:
            for number in range(PACKETS):
                client.sendto(number.to_bytes(2, "big"), proxy.address)
            client.sendto(b"", proxy.address)  # which may be lost as any other
            got = []
            deadline = time.monotonic() + 60
            while True:
                counts = proxy.to_target
                if len(got) == counts.arrived - counts.dropped and counts.arrived > PACKETS:
                    return [int.from_bytes(packet, "big") for packet in got if packet], counts
                self.assertLess(time.monotonic(), deadline)
                if len(got) < counts.forwarded:
                    got.append(target.recv(100))

    def test_nothing(self) -> None:
        """Without any, everything passes in order."""
        got, counts = self.sent()
        self.assertEqual(got, list(range(PACKETS)))
        self.assertEqual((counts.dropped, counts.reordered), (0, 0))

    def test_loss(self) -> None:
        """About as many as told, the same ones with the same seed, others with another."""
        first, counts = self.sent(loss=0.2, seed=7)
        self.assertTrue(20 <= counts.dropped <= 70, counts)
        self.assertEqual(self.sent(loss=0.2, seed=7)[0], first)
        self.assertNotEqual(self.sent(loss=0.2, seed=8)[0], first)

    def test_reorder(self) -> None:
        """Nothing is lost, but the order."""
        got, counts = self.sent(reorder=0.1, holdback=0.02)
        self.assertEqual(sorted(got), list(range(PACKETS)))
        self.assertNotEqual(got, sorted(got))
        self.assertGreater(counts.reordered, 0)

    def test_delay(self) -> None:
        """Both ways, and each client has a flow of its own."""
        target, clients = udp(self), [udp(self), udp(self)]
        with Impairment(target.getsockname(), delay=0.1) as proxy:
            begun = time.monotonic()
            for client in clients:
                client.sendto(b"?", proxy.address)
            for _ in clients:
                _, sender = target.recvfrom(10)
                target.sendto(str(sender[1]).encode(), sender)
            answers = {client.recv(10) for client in clients}
            self.assertGreaterEqual(time.monotonic() - begun, 0.2)
            self.assertEqual(len(answers), 2)
            self.assertEqual(len(proxy.flows), 2)

    def test_process(self) -> None:
        """As a process it says where it listens, and in the end what it did."""
        target, client = udp(self), udp(self)
        running = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.impairment", "--loss", "0"),
                *("--target", "{}:{}".format(*target.getsockname())),
            ],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(running.wait)
        self.addCleanup(running.kill)
        assert running.stdout
        host, _, port = running.stdout.readline().removeprefix("listening ").rpartition(":")
        client.sendto(b"x", (host, int(port)))
        self.assertEqual(target.recv(10), b"x")
        said, _ = running.communicate(timeout=20)
        self.assertEqual(json.loads(said)["to_target"]["forwarded"], 1)


class Srt(TestCase):
    """With two SRT peers."""

    def test_retransmissions(self) -> None:
        """All messages come through a bad line, and libsrt counts what it sent again as we do."""
        if MISSING:
            raise SkipTest(MISSING)
        executor = ThreadPoolExecutor(1)
        self.addCleanup(executor.shutdown)
        listener = SrtPeer.listen(latency=500, tlpktdrop=False)
        self.addCleanup(listener.close)
        with Impairment(listener.address, loss=0.05, delay=0.01) as proxy:
            accepting = executor.submit(listener.accept)
            caller = SrtPeer.connect(*proxy.address, latency=500, tlpktdrop=False)
            self.addCleanup(caller.close)
            accepted = accepting.result()
            self.addCleanup(accepted.close)
            receiving = executor.submit(lambda: [accepted.receive() for _ in range(PACKETS)])
            messages = [number.to_bytes(2, "big") * 100 for number in range(PACKETS)]
            for message in messages:
                caller.send(message)
            self.assertEqual(receiving.result(), messages)
            caller.drain()
            told, counted = caller.stats(), proxy.to_target
            deadline = time.monotonic() + 60
            while counted.data < told["pktSentTotal"] and time.monotonic() < deadline:
                counted = proxy.to_target
        self.assertGreater(counted.data_dropped, 0)
        self.assertEqual(counted.data, told["pktSentTotal"])
        self.assertEqual(counted.retransmitted, told["pktRetransTotal"])
