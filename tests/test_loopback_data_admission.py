"""Who is admitted to a data port, and who may use a lease (contract sections 5 and 6)."""

from __future__ import annotations

import time

from twisted.trial.unittest import TestCase

from tests.live import LATE, Gateway, live

ELSEWHERE = "127.0.0.21"


class Admission(TestCase):
    """data.admission: open, peer, ticket (section 6)."""

    @live(data={"admission": "open"})
    def test_open(self, gateway: Gateway) -> None:
        """Section 6: anyone, registered or not."""
        be = gateway.waiting(gateway.zmq[0], "nobody", source=ELSEWHERE)
        gateway.entering(gateway.zmq[0], source="127.0.0.22").expect("RLX1PAIRED")
        be.expect("RLX1PAIRED")

    @live()
    def test_peer(self, gateway: Gateway) -> None:
        """Section 6: the address must be that of a registered client of the same role."""
        gateway.fe(source=ELSEWHERE), gateway.be()
        gateway.waiting(gateway.zmq[0])
        for role, source in (("FE", ""), ("BE", ELSEWHERE), ("FE", "127.0.0.22")):
            link = gateway.dial11(gateway.zmq[0], source=source)
            link.hello(role)
            self.assertEqual(link.refusal(), "NOT_ADMITTED", (role, source))
        gateway.entering(gateway.zmq[0], "any id", source=ELSEWHERE).expect("RLX1PAIRED")

    @live(relay={"reaper_timeout": 0.0})
    def test_peer_grace(self, gateway: Gateway) -> None:
        """Section 6: an address counts for at least 2 s after its last control connection."""
        fe = gateway.fe(source=ELSEWHERE)
        gateway.be()
        bystander = gateway.fe()
        bystander.ping()
        gone = time.monotonic()
        fe.shutdown()
        fe.rest()
        codes = set()
        while "NOT_ADMITTED" not in codes and time.monotonic() - gone < 2 + LATE:
            self.assertRaises(TimeoutError, bystander.fill, 0.05)
            codes.add(gateway.entering(gateway.zmq[0], source=ELSEWHERE).refusal())
        self.assertTrue(time.monotonic() - gone > 1.95, "it has counted for too short a time")
        self.assertEqual(codes, {"PORT_EMPTY", "NOT_ADMITTED"})

    @live(log={"stream": "all"})
    def test_peer_refusal_is_logged(self, gateway: Gateway) -> None:
        """Section 6: a warning with the address seen and the key to change."""
        fe = gateway.fe()
        gateway.entering(gateway.zmq[0], source=ELSEWHERE).refusal()
        line = fe.find("log", lambda line: ELSEWHERE in str(line))["payload"]
        self.assertIn("data.admission", line)

    @live(data={"admission": "ticket"})
    def test_ticket(self, gateway: Gateway) -> None:
        """Section 6: an FE carries the ticket of a live lease on this port, from anywhere."""
        fe, be = gateway.fe(), gateway.be("worker")
        for port in gateway.zmq:
            gateway.waiting(port, "worker")
        grant, other = fe.acquire(), fe.acquire()
        port, ticket = grant["zmq_port"], grant["ticket"]
        for hello in ({}, {"ticket": ticket[:-1] + "?"}, {"ticket": other["ticket"]},
                      {"session_id": grant["session_id"]}):  # fmt: skip
            self.assertEqual(gateway.entering(port, **hello).refusal(), "NOT_ADMITTED", hello)
        self.assertEqual(gateway.entering(gateway.zmq[2]).refusal(), "NOT_ADMITTED")
        paired = gateway.entering(port, ticket=ticket, source=ELSEWHERE).expect("RLX1PAIRED")
        self.assertEqual(paired["session_id"], grant["session_id"])
        fe.say("port_release", {"session_id": other["session_id"]})
        be.expect("port_release", session_id=other["session_id"])
        self.assertNotEqual(
            gateway.entering(other["zmq_port"], ticket=other["ticket"]).answer()[0], "RLX1PAIRED"
        )

    @live(data={"admission": "ticket"})
    def test_ticket_be(self, gateway: Gateway) -> None:
        """Section 6: a BE carries the client_id of a registered BE at the same address."""
        gateway.be("worker"), gateway.be("remote", source=ELSEWHERE)
        for client_id in ("", "stranger", "remote"):
            link = gateway.dial11(gateway.zmq[0])
            link.hello("BE", client_id)
            self.assertEqual(link.refusal(), "NOT_ADMITTED", client_id)
        gateway.waiting(gateway.zmq[0], "worker")
        gateway.waiting(gateway.zmq[1], "remote", source=ELSEWHERE)

    @live(data={"admission": "ticket"})
    def test_ticket_of_a_bes_lease(self, gateway: Gateway) -> None:
        """Section 6: every FE gets the ticket of a BE's lease, and may use it."""
        fe, be = gateway.fe(), gateway.be("worker")
        port = be.acquire()["zmq_port"]
        gateway.waiting(port, "worker")
        self.assertEqual(gateway.entering(port).refusal(), "NOT_ADMITTED")
        ticket = fe.expect("port_grant")["ticket"]
        gateway.entering(port, ticket=ticket).expect("RLX1PAIRED")


class LeasedPorts(TestCase):
    """Who may use a port under a lease, in open and peer (section 6)."""

    @live()
    def test_ways_in(self, gateway: Gateway) -> None:
        """Section 6: the lease's ticket, its session_id, or the owner's address."""
        fe, _ = gateway.fe(), gateway.be()
        gateway.fe(source=ELSEWHERE)
        for hello in ("ticket", "session_id", "neither"):
            be = gateway.waiting(gateway.zmq[0])
            grant = fe.acquire()
            stranger = gateway.entering(gateway.zmq[0], source=ELSEWHERE)
            self.assertEqual(stranger.refusal(), "PORT_RESERVED")
            fields = {} if hello == "neither" else {hello: grant[hello]}
            source = "" if hello == "neither" else ELSEWHERE
            link = gateway.entering(gateway.zmq[0], source=source, **fields)
            self.assertEqual(link.expect("RLX1PAIRED")["session_id"], grant["session_id"], hello)
            link.close(), be.close()
            fe.say("port_release", {"session_id": grant["session_id"]})
            fe.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)

    @live()
    def test_empty_strings_are_absent(self, gateway: Gateway) -> None:
        """Section 6: "" is absent."""
        fe, _ = gateway.fe(), gateway.be()
        gateway.waiting(gateway.zmq[0])
        fe.acquire()
        gateway.entering(gateway.zmq[0], session_id="", ticket="").expect("RLX1PAIRED")

    @live()
    def test_unknown_ids(self, gateway: Gateway) -> None:
        """Section 6: a session_id or ticket that this port does not know is NOT_ADMITTED."""
        fe, _ = gateway.fe(), gateway.be()
        gateway.waiting(gateway.zmq[0])
        gateway.waiting(gateway.zmq[1])
        grant = fe.acquire()
        for port, hello in (
            (gateway.zmq[0], {"session_id": "unheard"}), (gateway.zmq[0], {"ticket": "unheard"}),
            (gateway.zmq[1], {"session_id": grant["session_id"]}),
            (gateway.zmq[1], {"ticket": grant["ticket"]}),
            (gateway.zmq[2], {"session_id": "unheard"}),
        ):  # fmt: skip
            self.assertEqual(gateway.entering(port, **hello).refusal(), "NOT_ADMITTED", hello)

    @live()
    def test_be_leases(self, gateway: Gateway) -> None:
        """Section 5: only the BE that owns the lease may fill the port; any FE may then enter."""
        gateway.fe(source=ELSEWHERE), gateway.be("other", source=ELSEWHERE)
        be = gateway.be("holder")
        grant = be.acquire()
        port = grant["zmq_port"]
        link = gateway.dial11(port, source=ELSEWHERE)
        link.hello("BE", "other")
        self.assertEqual(link.refusal(), "PORT_RESERVED")
        for hello in ({}, {"session_id": grant["session_id"]}, {"ticket": grant["ticket"]}):
            waiting = gateway.waiting(port, "holder")
            entered = gateway.entering(port, source=ELSEWHERE, **hello)
            paired = entered.expect("RLX1PAIRED")
            if hello:
                self.assertEqual(paired["session_id"], grant["session_id"])
            entered.close(), waiting.close()
            be.state(lambda state: state["zmq_busy"] == 0)

    @live()
    def test_refill_of_the_same_service(self, gateway: Gateway) -> None:
        """Section 5: inside a lease only a BE of the same service may refill its port."""
        fe, _ = gateway.fe(), gateway.be()
        first = gateway.waiting(gateway.zmq[0], service="web")
        grant = fe.acquire(service="web")
        first.close()
        fe.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)
        for service in ("", "other"):
            link = gateway.dial11(gateway.zmq[0])
            link.hello("BE", service=service)
            self.assertEqual(link.refusal(), "NOT_ADMITTED", service)
        gateway.waiting(gateway.zmq[0], service="web")
        gateway.entering(gateway.zmq[0], session_id=grant["session_id"]).expect("RLX1PAIRED")

    @live()
    def test_services(self, gateway: Gateway) -> None:
        """Section 6: a named service takes an FE with a lease on it, or that names it."""
        fe, _ = gateway.fe(), gateway.be()
        for hello in ({}, {"service": "other"}):
            be = gateway.waiting(gateway.zmq[0], service="web")
            self.assertEqual(gateway.entering(gateway.zmq[0], **hello).refusal(), "NOT_ADMITTED")
            be.close()
            fe.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)
        be = gateway.waiting(gateway.zmq[0], service="web")
        gateway.entering(gateway.zmq[0], service="web").expect("RLX1PAIRED")
        gateway.waiting(gateway.zmq[1], service="web")
        grant = fe.acquire(service="web")
        gateway.entering(gateway.zmq[1], ticket=grant["ticket"]).expect("RLX1PAIRED")
        gateway.waiting(gateway.zmq[2])
        found = gateway.entering(gateway.zmq[2], service="web").refusal()
        self.assertEqual(found, "NOT_ADMITTED")
