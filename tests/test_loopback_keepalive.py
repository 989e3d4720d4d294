"""TCP keepalive on control and data connections, as the kernel tells of it (section 1)."""

from __future__ import annotations

import os
import time

from twisted.trial.unittest import TestCase

from tests.guide_peer import DEADLINE, Peer
from tests.live import Gateway, live
from tests.reloading import Filed, filed
from tests.test_loopback_data_hello import at_the_gateway

TICKS = os.sysconf("SC_CLK_TCK")
KEEPALIVE_TIMER = "02"
"""Of a connection on which nothing is in flight."""


def until_a_probe(peer: Peer) -> float:
    """Seconds until the gateway's end asks whether this peer is still there.

    What it has sent is acknowledged first, and it accepts a connection before that.
    """
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        kind, _, ticks = at_the_gateway(peer)[5].partition(":")
        if kind == KEEPALIVE_TIMER:
            return int(ticks, 16) / TICKS
    raise AssertionError("it never will")


class Keepalive(TestCase):
    """data.keepalive"""

    @live(data={"keepalive": 60.0})
    def test_of_every_connection(self, gateway: Gateway) -> None:
        """Control connections, registered or not, and data connections at every stage."""
        registered, newcomer, _ = gateway.fe(), gateway.control(), gateway.be()
        silent, waiting = gateway.dial(gateway.zmq[0]), gateway.waiting(gateway.zmq[1])
        paired = gateway.pair(gateway.zmq[2])
        for control in (registered, newcomer):
            control.say("register")
            control.find("error")
        for peer in (registered, newcomer, silent, waiting, *paired):
            left = until_a_probe(peer)
            self.assertTrue(30 < left <= 60, left)

    @filed(data={"keepalive": 60.0})
    def test_reloaded(self, gateway: Filed) -> None:
        """New data connections have the new one."""
        gateway.fe().ping()
        gateway.reload(data={"keepalive": 200.0})
        silent = gateway.dial(gateway.zmq[0])
        silent.send(b"RLX1HELLO ")
        self.assertTrue(100 < until_a_probe(silent) <= 200)
