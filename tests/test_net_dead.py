"""A peer that is gone without a word (contract section 7, dead peers).

Loopback loses nothing. So the two sockets live in a network of their own, made by a thread
that leaves ours, and that network is taken down: from then on no packet arrives.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from twisted.internet.address import IPv4Address
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from relayx.net.tcp import is_dead, unacknowledged
from tests.test_control_bed import ControlBed, Wire
from tests.test_net_tcp import await_true, fill, tcp_pair

_CLONE_NEWNET = 0x40000000


class Cut(SynchronousTestCase):
    """Two connected sockets whose network can be taken down."""

    def setUp(self) -> None:
        self.apart = ThreadPoolExecutor(1)
        self.addCleanup(self.apart.shutdown)
        self.apart.submit(self.leave).result()
        self.one, self.two = self.apart.submit(tcp_pair, self, 4096).result()

    def leave(self) -> None:
        """Put the thread into a network of its own, or skip the test."""
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(_CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            self.ip("up")
        except (AttributeError, OSError, subprocess.CalledProcessError) as error:
            raise SkipTest(f"no network of our own can be made here: {error}") from None

    def ip(self, state: str) -> None:
        command = ["ip", "link", "set", "lo", state]
        subprocess.run(command, check=True, capture_output=True)

    def cut(self) -> None:
        self.apart.submit(self.ip, "down").result()

    def send(self) -> None:
        """Put bytes on their way that will never arrive."""
        try:
            self.one.send(b"lost")
        except OSError:
            return

    def test_dead(self) -> None:
        """Nothing acknowledged for that long, and two retransmissions unanswered."""
        while True:
            self.cut()
            begun = time.monotonic()
            self.send()
            self.assertEqual(unacknowledged(self.one), 4)
            dead = is_dead(self.one, 0.0)
            if time.monotonic() - begun < 0.3:
                break  # a second retransmission comes later
            self.apart.submit(self.ip, "up").result()
            self.one, self.two = self.apart.submit(tcp_pair, self, 4096).result()
        self.assertFalse(dead, "one retransmission is not enough")
        self.assertTrue(await_true(lambda: is_dead(self.one, 1.0)))
        self.assertFalse(is_dead(self.one, 60.0), "not for that long yet")

    def test_idle(self) -> None:
        """Where nothing is in flight it is for the kernel's keepalive to find."""
        self.cut()
        self.assertFalse(await_true(lambda: is_dead(self.one, 0.0), seconds=0.5))

    def test_with_a_closed_window(self) -> None:
        """Its probes are unanswered: a stalled reader that was alive has died."""
        fill(self.one)
        self.assertFalse(is_dead(self.one, 0.0))
        self.cut()
        self.assertTrue(await_true(lambda: is_dead(self.one, 0.5)))

    def test_control_connection_is_dropped(self) -> None:
        """The control plane looks at each of its connections every keepalive / 2."""
        bed = ControlBed(self, keepalive=0.25)
        protocol = bed.factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 4))
        wire = Wire(self.one)
        protocol.makeConnection(wire)
        bed.clock.pump([0.125] * 3)
        self.assertEqual(bed.heard.take(), [])
        self.cut()
        self.send()
        self.assertTrue(await_true(lambda: is_dead(self.one, 1.0)))
        bed.clock.advance(0.125)
        self.assertTrue(wire.aborted)
        (event,) = bed.heard.take()
        self.assertEqual(event[0], "dropped")
        self.assertIn("does not answer", event[3])

    def test_the_other_side_of_a_live_network(self) -> None:
        """Uncut, the same sockets are alive."""
        self.send()
        self.two.settimeout(5)
        self.assertEqual(self.two.recv(4), b"lost")
        self.assertFalse(is_dead(self.one, 0.0))
        self.assertIsInstance(self.one, socket.socket)
