"""Time that goes on when the system's clock is set back (contract sections 4 and 6)."""

from __future__ import annotations

import signal
import time
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from relayx.net.steady import Steady, time_of_day
from tests.guide_peer import DEADLINE
from tests.live import random_host
from tests.live_process import Subprocess, killed_in_the_end


class Clocks:
    """A clock that is set, and one that nobody sets."""

    def __init__(self) -> None:
        self.day = 1000.0
        self.ticks = 50.0
        self.steady = Steady(lambda: self.day, lambda: self.ticks)

    def advance(self, seconds: float) -> None:
        """Let time pass for both."""
        self.day += seconds
        self.ticks += seconds


class Seconds(TestCase):
    """What a Steady says."""

    def setUp(self) -> None:
        self.clocks = Clocks()

    def after(self, seconds: float) -> float:
        """What it says after some seconds more."""
        self.clocks.advance(seconds)
        return self.clocks.steady.seconds()

    def test_the_systems_clock(self) -> None:
        self.assertEqual([self.after(0), self.after(3), self.after(0.5)], [1000, 1003, 1003.5])

    def test_a_clock_that_drifts_is_followed(self) -> None:
        self.clocks.day += 9.5
        self.clocks.ticks += 10
        self.assertEqual(self.clocks.steady.seconds(), 1009.5)

    def test_set_forward(self) -> None:
        self.clocks.day += 3600
        self.assertEqual([self.after(0), self.after(2)], [4600, 4602])

    def test_set_back(self) -> None:
        """It goes on at half the speed, until the clock has caught up with it."""
        self.after(10)
        self.clocks.day -= 8
        said = [self.after(0), self.after(2), self.after(2), self.after(12), self.after(1)]
        self.assertEqual(said, [1010, 1011, 1012, 1018, 1019])

    def test_the_time_of_day(self) -> None:
        """What is stamped goes by the system's clock, wherever the timers are."""
        self.clocks.day -= 3600
        self.assertEqual(self.clocks.steady.seconds(), 1000)
        self.assertEqual(time_of_day(self.clocks), self.clocks.day)
        clock = Clock()
        clock.advance(7)
        self.assertEqual(time_of_day(clock), 7)


class SetBack(Subprocess):
    """A gateway whose system's clock is set back by an hour when it gets SIGUSR1."""

    def program(self) -> tuple[str, ...]:
        """Have the clock set at that signal, then twistd."""
        return (
            "-c",
            "import os, signal, time; real, off = time.time, [0]\n"
            "time.time = lambda: real() + off[0]\n"
            "def turn(*_): off[0] = -3600; os.write(1, b'turned')\n"
            "signal.signal(signal.SIGUSR1, turn)\n"
            "from twisted.scripts.twistd import run; run()",
        )


class TimersOfAGateway(TestCase):
    """A gateway whose clock is set back while it serves."""

    def test_nothing_comes_an_hour_late(self) -> None:
        """Pushes (section 4), time-outs of HELLO (section 6) and leases (section 5)."""
        gateway = SetBack(random_host(), 2, 0)
        gateway.start(self.mktemp(), {"data": {"hello_timeout": 1.0}})
        with killed_in_the_end(gateway):
            gateway.wait_until_listening()
            fe, _ = gateway.fe(), gateway.be()
            silent = gateway.dial11(gateway.zmq[0])
            fe.ping()
            self._set_back(gateway)
            gateway.waiting(gateway.zmq[1])
            self._pushed(fe, gateway.zmq[1])
            self.assertEqual(silent.rest(), (b"", "end"))
            granted = fe.acquire(ttl_seconds=1)
            released = fe.expect("port_release")
            self.assertEqual(released["session_id"], granted["session_id"])
            gateway.terminate()
            status, written = gateway.ended()
        self.assertEqual((status, "Traceback" in written), (0, False), written)

    def _set_back(self, gateway: Subprocess) -> None:
        gateway.process.send_signal(signal.SIGUSR1)
        gateway.wait_for("turned")

    def _pushed(self, fe: Any, port: int) -> None:
        """Wait until the client is told that the port is ready."""
        deadline = time.monotonic() + DEADLINE
        while port not in fe.expect("port_state")["zmq_ready_ports"]:
            self.assertLess(time.monotonic(), deadline)
