"""port_state: its content, its lists and when it is pushed (contract section 4)."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

from twisted.trial.unittest import TestCase

from tests.live import Gateway, live

KEYS = {
    "zmq_total", "srt_total", "zmq_busy", "srt_busy", "zmq_ready_ports", "srt_ready_ports",
    "zmq_empty_ports", "srt_empty_ports",
}  # fmt: skip


class Content(TestCase):
    """What port_state carries (section 4)."""

    @live()
    def test_at_first(self, gateway: Gateway) -> None:
        """Section 4: all ports empty; lists are sorted and never null."""
        for client in (gateway.fe(), gateway.be(), gateway.fe11()):
            state = client.expect("port_state")
            self.assertTrue(set(state) >= KEYS, state)
            self.assertEqual((state["zmq_total"], state["srt_total"]), (3, 2))
            self.assertEqual((state["zmq_busy"], state["srt_busy"]), (0, 0))
            self.assertEqual(state["zmq_empty_ports"], gateway.zmq)
            self.assertEqual(state["srt_empty_ports"], gateway.srt)
            self.assertEqual((state["zmq_ready_ports"], state["srt_ready_ports"]), ([], []))

    @live()
    def test_ready_and_busy(self, gateway: Gateway) -> None:
        """Section 4: a port is empty, ready or busy; each is pushed to every client."""
        fe, be = gateway.fe(), gateway.be()
        port = gateway.zmq[1]
        gateway.waiting(gateway.zmq[2])
        waiting = gateway.waiting(port)
        for client in (fe, be):
            state = client.expect("port_state", zmq_ready_ports=[port, gateway.zmq[2]])
            self.assertEqual(state["zmq_empty_ports"], [gateway.zmq[0]])
        entered = gateway.entering(port)
        entered.expect("RLX1PAIRED")
        for client in (fe, be):
            state = client.expect("port_state", zmq_ready_ports=[gateway.zmq[2]])
            self.assertEqual((state["zmq_busy"], state["srt_busy"]), (1, 0))
            self.assertEqual(state["zmq_empty_ports"], [gateway.zmq[0]])
        entered.close()
        waiting.close()
        for client in (fe, be):
            state = client.expect("port_state", zmq_busy=0)
            self.assertEqual(state["zmq_empty_ports"], gateway.zmq[:2])

    @live()
    def test_query(self, gateway: Gateway) -> None:
        """Section 3: need_zmq and need_srt leave the other protocol's lists empty."""
        fe = gateway.fe()
        gateway.be()
        gateway.waiting(gateway.zmq[0])
        gateway.waiting(gateway.srt[0])
        fe.expect("port_state", zmq_ready_ports=gateway.zmq[:1], srt_ready_ports=gateway.srt[:1])

        def ask(**needs: bool) -> dict[str, Any]:
            fe.say("port_state_q", needs, trace_id="asked")
            found = fe.find("port_state")
            self.assertEqual(found["trace_id"], "asked")
            return found["payload"]

        both = ask(need_zmq=True, need_srt=True)
        self.assertEqual(both, ask())
        zmq, srt = ask(need_zmq=True), ask(need_srt=True)
        for state in (zmq, srt):
            self.assertEqual((state["zmq_total"], state["srt_total"]), (3, 2))
        self.assertEqual(zmq["zmq_ready_ports"], gateway.zmq[:1])
        self.assertEqual(zmq["zmq_empty_ports"], gateway.zmq[1:])
        self.assertEqual((zmq["srt_ready_ports"], zmq["srt_empty_ports"]), ([], []))
        self.assertEqual(srt["srt_ready_ports"], gateway.srt[:1])
        self.assertEqual(srt["srt_empty_ports"], gateway.srt[1:])
        self.assertEqual((srt["zmq_ready_ports"], srt["zmq_empty_ports"]), ([], []))

    @live()
    def test_reserved_by_an_fe(self, gateway: Gateway) -> None:
        """Section 4: a ready port under an FE's lease is in no list; without its BE, empty."""
        fe, _ = gateway.fe(), gateway.be()
        link = gateway.waiting(gateway.zmq[0])
        grant = fe.acquire()
        self.assertEqual(grant["zmq_port"], gateway.zmq[0])
        state = fe.state()
        self.assertEqual((state["zmq_ready_ports"], state["zmq_busy"]), ([], 0))
        self.assertEqual(state["zmq_empty_ports"], gateway.zmq[1:])
        link.close()
        state = fe.expect("port_state", zmq_empty_ports=gateway.zmq)
        gateway.waiting(gateway.zmq[0])
        state = fe.expect("port_state", zmq_empty_ports=gateway.zmq[1:])
        self.assertEqual(state["zmq_ready_ports"], [])
        fe.say("port_release", {"session_id": grant["session_id"]})
        fe.expect("port_state", zmq_ready_ports=gateway.zmq[:1])

    @live()
    def test_reserved_by_a_be(self, gateway: Gateway) -> None:
        """Section 4: an empty port under a BE's lease is in no list; with its BE, ready."""
        be = gateway.be("holder")
        grant = be.acquire()
        port = grant["zmq_port"]
        state = be.state()
        self.assertNotIn(port, state["zmq_ready_ports"] + state["zmq_empty_ports"])
        self.assertEqual(len(state["zmq_empty_ports"]), 2)
        gateway.waiting(port, "holder")
        be.expect("port_state", zmq_ready_ports=[port])

    @live()
    def test_services(self, gateway: Gateway) -> None:
        """Section 4: a named service's ports are counted for 1.1 clients, in no ready list."""
        v1, v11 = gateway.fe(), gateway.fe11()
        gateway.be()
        gateway.waiting(gateway.zmq[0], service="web")
        gateway.waiting(gateway.zmq[1], service="web")
        gateway.waiting(gateway.srt[0], service="a.b-9")
        gateway.waiting(gateway.zmq[2])
        state = v11.state(lambda state: state["zmq_ready_ports"] == gateway.zmq[2:])
        self.assertEqual(
            state["services"],
            {"web": {"zmq_ready": 2, "srt_ready": 0}, "a.b-9": {"zmq_ready": 0, "srt_ready": 1}},
        )
        self.assertEqual(
            (state["zmq_empty_ports"], state["srt_empty_ports"]), ([], gateway.srt[1:])
        )
        plain = v1.state(lambda state: state["zmq_ready_ports"] == gateway.zmq[2:])
        self.assertNotIn("services", plain)
        grant = v11.acquire(service="web")
        self.assertEqual(grant["zmq_port"], gateway.zmq[0])
        self.assertEqual(v11.state()["services"]["web"], {"zmq_ready": 1, "srt_ready": 0})


class Pushing(TestCase):
    """When port_state is pushed (section 4)."""

    @live()
    def test_soon(self, gateway: Gateway) -> None:
        """Section 4: the first push within 20 ms of a change."""
        fe, _ = gateway.fe(), gateway.be()
        fe.state()
        delays = [9.0]
        while min(delays) >= 0.02 and len(delays) < 100:  # a busy machine delays most of them
            link = gateway.waiting(gateway.zmq[0])
            told = time.monotonic()
            fe.expect("port_state", zmq_ready_ports=gateway.zmq[:1])
            delays.append(time.monotonic() - told)
            link.close()
            fe.expect("port_state", zmq_ready_ports=[])
        self.assertTrue(min(delays) < 0.02, delays)

    @live(zmq=40)
    def test_coalesced(self, gateway: Gateway) -> None:
        """Section 4: pushes are at least 20 ms apart, and the last one is the truth."""
        fe, _ = gateway.fe(), gateway.be()
        fe.state()
        before = len(fe.log)
        links = [gateway.waiting(port) for port in gateway.zmq]
        for link in links[1::2]:
            link.close()
        state = fe.find("port_state", lambda state: state["zmq_ready_ports"] == gateway.zmq[::2])[
            "payload"
        ]
        self.assertEqual(state["zmq_empty_ports"], gateway.zmq[1::2])
        stamps = [m["ts_ms"] for m in fe.log[before:] if m["type"] == "port_state"]
        self.assertTrue(len(stamps) >= 1)
        gaps = [later - earlier for earlier, later in pairwise(stamps)]
        self.assertEqual([gap for gap in gaps if gap < 18], [], stamps)
        self.assertTrue(len(stamps) < 60, stamps)

    @live()
    def test_quiet_where_nothing_changes(self, gateway: Gateway) -> None:
        """Section 4: pushed on change only."""
        fe = gateway.fe()
        fe.expect("port_state")
        with self.assertRaises(TimeoutError):
            fe.fill(0.3)
