"""Peers that vanish: the network between two hosts is cut (contract section 7, dead peers).

Loopback cannot lose packets, so the test makes two hosts: network namespaces of its own, joined
by a pair of virtual interfaces, one of which is then taken down.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet import defer, threads
from twisted.trial.unittest import TestCase

from tests.guide_peer import DEADLINE, Control, Data
from tests.hosts import NEAR, TwoHosts
from tests.live import LATE, SECRET, Control11, Data11
from tests.live_process import twistd

KEEPALIVE = 1.0

T = TypeVar("T")


def _send_until_blocked(link: Data) -> int:
    """Send for as long as the kernel takes bytes at once; return how many."""
    link.socket.setblocking(False)
    sent = 0
    blocked_since = time.monotonic()
    while time.monotonic() - blocked_since < 0.3:
        try:
            sent += link.socket.send(b"x" * 65536)
            blocked_since = time.monotonic()
        except BlockingIOError:
            continue
    link.socket.settimeout(DEADLINE)
    return sent


class Dead(TestCase):
    """Who is found dead, who is not, and how soon."""

    def setUp(self) -> None:
        self.hosts = TwoHosts()
        self.addCleanup(self.hosts.remove)
        self.hosts.make()

    def on_far(self, call: Callable[..., T], *args: Any) -> T:
        """Run a call on the far host."""
        return self.hosts.far.submit(call, *args).result()

    def far_be(self, port: int, client_id: str = "") -> Data11:
        """A BE's connection from the far host that waits on a port."""
        link: Data11 = self.on_far(Data11, (NEAR, port))
        link.hello("BE", client_id)
        link.expect("RLX1OK")
        return link

    @defer.inlineCallbacks
    def test_vanished_peers(self) -> Any:
        """Section 7: an idle, a waiting and a busy peer that vanish; a reader that stands still."""
        scenario = self.hosts.near.submit
        yield threads.deferToThread(lambda: scenario(self.scenario).result())

    def scenario(self) -> None:
        sections: dict[str, dict[str, Any]] = {
            "control": {"endpoints": ["tcp:5555"]},
            "data": {"interface": "", "admission": "open", "keepalive": KEEPALIVE},
            "relay": {"reaper_timeout": 60.0},
        }
        with twistd(self.mktemp(), zmq=4, srt=1, **sections) as gateway:
            waiting, idle, busy, stalled = gateway.zmq
            witness = gateway.fe11("witness")
            far: Control = self.on_far(Control11, (NEAR, 5555))
            far.register("BE", SECRET, "vanishing")
            far.say("port_alloc")  # so that telemetry is on its way when the link is cut
            far.expect("telemetry")

            kept_open = [self.far_be(waiting, "vanishing"), self.far_be(idle), self.far_be(busy)]
            gateway.entering(idle, "witness").expect("RLX1PAIRED")
            sender = gateway.entering(busy, "witness")
            sender.expect("RLX1PAIRED")
            reader = gateway.dial11(stalled, receive_buffer=8192)
            reader.hello("BE")
            reader.expect("RLX1OK")
            writer = gateway.entering(stalled, "witness")
            writer.expect("RLX1PAIRED")
            reader.expect("RLX1PAIRED")
            sent = _send_until_blocked(writer)

            self.hosts.cut()
            began = time.monotonic()
            sender.send(b"into the void")
            ends = {}
            while len(ends) < 2:
                end = witness.expect("session_end")
                ends[end["port"]] = (end["cause"], time.monotonic() - began)
            witness.state(lambda state: waiting in state["zmq_empty_ports"])
            gone = time.monotonic() - began
            self.assertEqual(
                {port: cause for port, (cause, _) in ends.items()},
                {idle: "be_dead", busy: "be_dead"},
            )
            # 4 x keepalive, and what the periodic look and a loaded machine add
            slowest = max(gone, *(seconds for _, seconds in ends.values()))
            self.assertLess(slowest, 4 * KEEPALIVE + LATE)

            for link in kept_open:
                link.close()
            self.assertEqual(len(reader.receive(sent)), sent)
            writer.send(b"still there")
            self.assertEqual(reader.receive(11), b"still there")
            gateway.terminate()
            status, written = gateway.ended()
            self.assertEqual(status, 0)
            self.assertIn("BE vanishing", written)
            self.assertIn("control connection of BE vanishing ended", written)
