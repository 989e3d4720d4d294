"""Broker mode: handshakes of which libzmq says nothing, and connections that are ended."""

from __future__ import annotations

import os
import socket

from twisted.trial.unittest import SynchronousTestCase

from relayx.zmq.handshakes import LONGEST, Handshakes
from relayx.zmq.hangup import Hangup


class HandshakesTests(SynchronousTestCase):
    """What is counted as unfit, and when"""

    def setUp(self) -> None:
        self.shakes = Handshakes()

    def come(self, *descriptors: int, at: float = 0.0) -> None:
        for one in descriptors:
            self.shakes.accepted(one, at)

    def go(self, *descriptors: int, told: bool = False, at: float = 0.0) -> None:
        for one in descriptors:
            self.shakes.ended(one, told, at)

    def check(self, unfit: int, unsettled: bool = False) -> None:
        self.assertEqual((self.shakes.unfit, self.shakes.unsettled), (unfit, unsettled))

    def test_alone(self) -> None:
        """One that ends without a word is; one that succeeded, failed or was refused is not."""
        self.come(5)
        self.go(5)
        self.check(1)
        for outcome, told in ((True, False), (False, True), (True, True)):
            self.come(5)
            if outcome:
                self.shakes.outcome(0.0)
            self.go(5, told=told)
            self.check(1)

    def test_besideOthers(self) -> None:
        """At once, beside one that has succeeded and one that says nothing yet."""
        self.come(5)
        self.shakes.outcome(0.0)
        self.come(6, 7)
        self.go(7)
        self.check(1)
        self.go(6, told=True)
        self.go(5)
        self.check(1)

    def test_reused(self) -> None:
        """The number of one that has gone is another's then."""
        self.come(5)
        self.go(5)
        self.come(5)
        self.shakes.outcome(0.0)
        self.go(5)
        self.check(1)
        self.come(5)  # its end was not told
        self.come(5)
        self.go(5)
        self.check(2)

    def test_allSucceeded(self) -> None:
        """Several at once that all succeed, whenever they go."""
        self.come(5, 6, 7)
        self.shakes.outcome(0.0)
        self.go(6)
        self.check(0, unsettled=True)
        self.shakes.outcome(0.0)
        self.shakes.outcome(0.0)
        self.check(0)
        self.go(5, 7)
        self.check(0)

    def test_whichOne(self) -> None:
        """Which of two succeeded shows when the other one fails, or goes without a word too."""
        for told, unfit in ((True, 0), (False, 1)):
            self.come(5, 6)
            self.shakes.outcome(0.0)
            self.go(6)
            self.check(0, unsettled=True)
            self.go(5, told=told)
            self.check(unfit)

    def test_time(self) -> None:
        """Who is there longer than any handshake has succeeded; so the other one had not."""
        self.come(5, 6)
        self.shakes.outcome(0.0)
        self.go(6, at=1.0)
        self.shakes.settle(LONGEST - 1)
        self.check(0, unsettled=True)
        self.shakes.settle(LONGEST)
        self.check(1)
        self.go(5, at=LONGEST + 1)
        self.check(1)

    def test_refusedAndFailed(self) -> None:
        """One that is told of twice does not hide the next."""
        self.come(5, 6)
        self.shakes.outcome(0.0)
        self.go(5, told=True)
        self.go(6, told=True)
        self.come(7)
        self.go(7)
        self.check(1)


class HangupTests(SynchronousTestCase):
    """Ending connections by their numbers"""

    def setUp(self) -> None:
        self.hangup = Hangup()
        self.addCleanup(self.hangup.close)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.listening.close)
        self.port = self.listening.getsockname()[1]
        self.peer = socket.create_connection(self.listening.getsockname())
        self.addCleanup(self.peer.close)
        self.peer.settimeout(30)
        self.accepted = self.listening.accept()[0]
        self.addCleanup(self.accepted.close)

    def test_ended(self) -> None:
        """Its peer reads the end, and so does who has it; the descriptor stays theirs."""
        before = len(os.listdir("/proc/self/fd"))
        self.assertTrue(self.hangup.end(self.accepted.fileno(), self.port))
        self.assertEqual((self.peer.recv(1), self.accepted.recv(1)), (b"", b""))
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_others(self) -> None:
        """What is none, or not one of this port, is left alone."""
        read, write = os.pipe()
        for one in (read, write):
            self.addCleanup(os.close, one)
        closed = os.dup(read)
        os.close(closed)
        for descriptor in (self.peer.fileno(), self.listening.fileno(), read, closed):
            self.assertFalse(self.hangup.end(descriptor, self.port), descriptor)
        self.accepted.sendall(b"on")
        self.assertEqual(self.peer.recv(2), b"on")
        socket.create_connection(self.listening.getsockname()).close()
        os.write(write, b"on")
        self.assertEqual(os.read(read, 2), b"on")
