"""Losing a BE: what lives on, what passes on, what is reaped (contract section 8)."""

from __future__ import annotations

import time

from twisted.trial.unittest import TestCase

from tests.guide_peer import Control
from tests.live import LATE, NEVER, SECRET, Gateway, live
from tests.test_loopback_control_lease import time_passes
from tests.test_loopback_control_messages import of

SHORT = {"reaper_timeout": 0.4}


def lose(client: Control) -> float:
    """End a control connection, until the gateway has seen it; when that was at the earliest."""
    begun = time.monotonic()
    client.shutdown()
    client.rest()
    return begun


class Reaping(TestCase):
    """A BE that nobody follows (section 8)."""

    def after(self, lost: float, timeout: float) -> None:
        """About reaper_timeout has passed since the BE was lost."""
        took = time.monotonic() - lost
        self.assertTrue(timeout - 0.05 <= took < timeout + LATE, took)

    @live()
    def test_waiting_connections(self, gateway: Gateway) -> None:
        """Section 8: they live on for reaper_timeout, then close; the port is empty."""
        fe, be = gateway.fe(), gateway.be("worker")
        link = gateway.waiting(gateway.zmq[0], "worker")
        lose(be)
        time_passes(gateway, NEVER / 2)
        self.assertEqual(fe.state()["zmq_ready_ports"], gateway.zmq[:1])
        time_passes(gateway, NEVER)
        self.assertIn(link.dropped(), ("", "BE_LOST"))
        fe.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)

    @live()
    def test_sessions(self, gateway: Gateway) -> None:
        """Section 8: sessions live on, then both sides are closed; the cause is be_lost."""
        fe, be = gateway.fe11(), gateway.be("worker")
        waiting = gateway.waiting(gateway.zmq[0], "worker")
        link = gateway.entering(gateway.zmq[0], fe.auth["client_id"])
        link.expect("RLX1PAIRED")
        waiting.expect("RLX1PAIRED")
        lose(be)
        time_passes(gateway, NEVER / 2)
        link.send(b"after the loss")
        self.assertEqual(waiting.receive(14), b"after the loss")
        time_passes(gateway, NEVER)
        self.assertEqual(link.rest()[0], b"")
        self.assertEqual(waiting.rest()[0], b"")
        end = fe.expect("session_end")
        self.assertEqual((end["cause"], end["fe_to_be_bytes"]), ("be_lost", 14))

    @live(relay=SHORT)
    def test_sessions_under_a_lease(self, gateway: Gateway) -> None:
        """Section 8: the lease on a port whose session is reaped ends with BE_LOST."""
        fe, be = gateway.fe11(), gateway.be("worker")
        waiting = gateway.waiting(gateway.zmq[0], "worker")
        session_id = fe.acquire()["session_id"]
        link = gateway.entering(gateway.zmq[0], session_id=session_id)
        link.expect("RLX1PAIRED")
        waiting.expect("RLX1PAIRED")
        lose(be)
        link.rest()
        self.assertEqual(
            fe.expect("port_release"),
            {"session_id": session_id, "zmq_port": gateway.zmq[0], "error_code": "BE_LOST"},
        )
        fe.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)
        self.assertEqual(
            [m["payload"]["cause"] for m in fe.log if m["type"] == "session_end"], ["be_lost"]
        )

    @live(relay=SHORT)
    def test_leases_on_its_ports(self, gateway: Gateway) -> None:
        """Section 8: leases on ports where its connection waits end with BE_LOST."""
        fe, be, other = gateway.fe(), gateway.be("worker"), gateway.be("other")
        gateway.waiting(gateway.zmq[0], "worker")
        gateway.waiting(gateway.zmq[1], "other")
        grant, safe = fe.acquire(), fe.acquire()
        self.assertEqual(grant["zmq_port"], gateway.zmq[0])
        lost = lose(be)
        for client in (fe, other):
            told = client.expect("port_release")
            self.assertEqual(
                told, {"session_id": grant["session_id"], "zmq_port": gateway.zmq[0],
                       "error_code": "BE_LOST"},
            )  # fmt: skip
        self.after(lost, SHORT["reaper_timeout"])
        fe.say("port_release", {"session_id": safe["session_id"]})
        other.expect("port_release", session_id=safe["session_id"])

    @live(relay=SHORT)
    def test_leases_where_it_was_the_last_to_wait(self, gateway: Gateway) -> None:
        """Section 8: the same where its connection was the last to wait under the lease."""
        fe, be = gateway.fe(), gateway.be("worker")
        link = gateway.waiting(gateway.zmq[0], "worker")
        grant = fe.acquire()
        link.close()
        fe.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)
        lose(be)
        self.assertEqual(
            fe.expect("port_release"),
            {"session_id": grant["session_id"], "zmq_port": gateway.zmq[0],
             "error_code": "BE_LOST"},
        )  # fmt: skip

    @live(relay=SHORT)
    def test_one_port_of_a_lease(self, gateway: Gateway) -> None:
        """Sections 3 and 8: a lease ends per port; the other BE's port stays under it."""
        fe, be, other = gateway.fe(), gateway.be("worker"), gateway.be("other")
        gateway.waiting(gateway.zmq[0], "worker")
        waiting = gateway.waiting(gateway.srt[0], "other")
        session_id = fe.acquire(need_zmq=True, need_srt=True)["session_id"]
        lose(be)
        ended = {"session_id": session_id, "zmq_port": gateway.zmq[0], "error_code": "BE_LOST"}
        for client in (fe, other):
            self.assertEqual(client.expect("port_release"), ended)
        link = gateway.entering(gateway.srt[0], session_id=session_id)
        self.assertEqual(link.expect("RLX1PAIRED")["session_id"], session_id)
        waiting.expect("RLX1PAIRED")
        fe.say("port_release", {"session_id": session_id})
        self.assertEqual(
            other.expect("port_release"), {"session_id": session_id, "srt_port": gateway.srt[0]}
        )

    @live(relay=SHORT)
    def test_leases_that_it_owns(self, gateway: Gateway) -> None:
        """Section 8: they end with BE_LOST."""
        fe, be = gateway.fe(), gateway.be("worker")
        grant = be.acquire(need_zmq=True, need_srt=True)
        lost = lose(be)
        told = fe.expect("port_release")
        self.assertEqual((told["session_id"], told["error_code"]), (grant["session_id"], "BE_LOST"))
        self.after(lost, SHORT["reaper_timeout"])
        fe.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)

    @live(relay={"reaper_timeout": 0.0})
    def test_at_once(self, gateway: Gateway) -> None:
        """Section 8: reaper_timeout 0 reaps at once."""
        fe, be = gateway.fe(), gateway.be("worker")
        link = gateway.waiting(gateway.zmq[0], "worker")
        lose(be)
        fe.say("port_state_q", {}, trace_id="now")
        answer = fe.find("port_state")
        while answer.get("trace_id") != "now":
            answer = fe.find("port_state")
        self.assertEqual(answer["payload"]["zmq_empty_ports"], gateway.zmq)
        self.assertIn(link.dropped(), ("", "BE_LOST"))

    @live(relay={"max_be": 1})
    def test_a_lost_be_takes_no_place(self, gateway: Gateway) -> None:
        """Section 8: a lost BE does not count for max_be."""
        lose(gateway.be("worker"))
        self.assertEqual(gateway.control().register("BE", SECRET, "next")["status"], "ok")
        self.assertEqual(gateway.control().register("BE", SECRET, "more")["error_code"], "CAPACITY")

    @live(relay=SHORT, data={"admission": "open"})
    def test_nobodys_connection(self, gateway: Gateway) -> None:
        """Section 6: a connection that is nobody's is never reaped."""
        fe, be = gateway.fe(), gateway.be("worker")
        nobodys = gateway.waiting(gateway.zmq[0], "stranger", source="127.0.0.77")
        its = gateway.waiting(gateway.zmq[1], "worker")
        lose(be)
        self.assertIn(its.dropped(), ("", "BE_LOST"))
        fe.state(lambda state: state["zmq_ready_ports"] == gateway.zmq[:1])
        gateway.entering(gateway.zmq[0]).expect("RLX1PAIRED")
        nobodys.expect("RLX1PAIRED")


class PassingOn(TestCase):
    """What passes to a BE that is registered when the time has passed (section 8)."""

    @live()
    def test_to_the_same_client_id(self, gateway: Gateway) -> None:
        """Section 8: connections and leases of a named BE pass to the same client_id."""
        fe, be = gateway.fe(), gateway.be("worker")
        gateway.be("bystander")
        link = gateway.waiting(gateway.zmq[0], "worker")
        grant = fe.acquire(ttl_seconds=600)
        owned = be.acquire(ttl_seconds=600)
        marker = gateway.waiting(gateway.srt[0], "marker")
        marked = gateway.be("marker")
        lose(be)
        lose(marked)
        back = gateway.be("worker")
        time_passes(gateway, NEVER)
        self.assertIn(marker.dropped(), ("", "BE_LOST"))  # reaped: worker's time has passed too
        fe.ping()
        self.assertEqual([r for r in of("port_release", fe.log) if r.get("zmq_port")], [])
        back.say("port_release", {"session_id": owned["session_id"]})
        fe.expect("port_release", session_id=owned["session_id"])
        gateway.entering(gateway.zmq[0], session_id=grant["session_id"]).expect("RLX1PAIRED")
        link.expect("RLX1PAIRED")

    @live(relay=SHORT)
    def test_to_one_that_registered_earlier(self, gateway: Gateway) -> None:
        """Section 8: however early that one registered."""
        fe = gateway.fe()
        gateway.be("worker")
        second = gateway.be("worker")
        link = gateway.waiting(gateway.zmq[0], "worker")
        marked = gateway.be("marker")
        marker = gateway.waiting(gateway.srt[0], "marker")
        lose(second)
        lose(marked)
        self.assertIn(marker.dropped(), ("", "BE_LOST"))
        fe.state(lambda state: state["zmq_ready_ports"] == gateway.zmq[:1])
        gateway.entering(gateway.zmq[0]).expect("RLX1PAIRED")
        link.expect("RLX1PAIRED")

    @live(relay=SHORT)
    def test_not_to_another_client_id(self, gateway: Gateway) -> None:
        """Section 8: a named BE's connections do not pass to another name."""
        gateway.be("bystander")
        be = gateway.be("worker")
        link = gateway.waiting(gateway.zmq[0], "worker")
        lose(be)
        self.assertIn(link.dropped(), ("", "BE_LOST"))

    @live(relay=SHORT)
    def test_by_address_alone(self, gateway: Gateway) -> None:
        """Section 8: a connection that was its by address passes to any BE at that address."""
        fe, elsewhere = gateway.fe(), gateway.be("elsewhere", source="127.0.0.88")
        be = gateway.be("worker")
        link = gateway.waiting(gateway.zmq[0], "")
        moved = gateway.waiting(gateway.zmq[1], "", source="127.0.0.88")
        marker = gateway.waiting(gateway.srt[0], "worker")
        gateway.be("bystander")
        lose(be)
        lose(elsewhere)
        self.assertIn(marker.dropped(), ("", "BE_LOST"))
        self.assertIn(moved.dropped(), ("", "BE_LOST"))
        fe.state(lambda state: state["zmq_ready_ports"] == gateway.zmq[:1])
        gateway.entering(gateway.zmq[0]).expect("RLX1PAIRED")
        link.expect("RLX1PAIRED")
