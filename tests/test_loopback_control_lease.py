"""Leases: acquire, grant, release, expiry (contract sections 3 and 5)."""

from __future__ import annotations

import time

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from tests.guide_peer import Control
from tests.live import LATE, Gateway, live
from tests.test_loopback_control_messages import of
from tests.test_loopback_data_regressions import ask


def time_passes(gateway: Gateway, seconds: float) -> None:
    """Do what will be due then of leases and of lost BEs, without waiting for it."""
    service = gateway.service
    ask(lambda: service._perform(service.switchboard.tick(reactor.seconds() + seconds)))  # type: ignore[attr-defined]


class AcquiringAsFE(TestCase):
    """An FE's port_acquire (sections 3 and 5)."""

    @live()
    def test_grant(self, gateway: Gateway) -> None:
        """Section 3: what a grant carries, for the default of 30 seconds."""
        fe, _ = gateway.fe(), gateway.be()
        gateway.waiting(gateway.zmq[1])
        for ttl in (None, 0, 30):
            wanted = {} if ttl is None else {"ttl_seconds": ttl}
            before = time.time() * 1000
            grant = fe.acquire(request_id=f"r{ttl}", **wanted)
            self.assertEqual((grant["request_id"], grant["zmq_port"]), (f"r{ttl}", gateway.zmq[1]))
            self.assertNotIn("srt_port", grant)
            self.assertNotIn("host", grant)
            self.assertFalse(grant.get("error_code"))
            self.assertTrue(abs(grant["expires_at"] - before - 30000) < 1500, grant)
            self.assertTrue(grant["session_id"])
            self.assertTrue(len(grant["ticket"]) >= 22, grant)
            fe.say("port_release", {"session_id": grant["session_id"]})

    @live(data={"advertise_host": "relay.example"})
    def test_host(self, gateway: Gateway) -> None:
        """Section 3: host where it is configured."""
        fe, _ = gateway.fe(), gateway.be()
        gateway.waiting(gateway.zmq[1])
        self.assertEqual(fe.acquire()["host"], "relay.example")

    @live()
    def test_longest_ready_first(self, gateway: Gateway) -> None:
        """Section 5: the longest-ready unreserved port, then the next."""
        fe, _ = gateway.fe(), gateway.be()
        for port in (gateway.zmq[2], gateway.zmq[0], gateway.zmq[1]):
            gateway.waiting(port)
        granted = [fe.acquire()["zmq_port"] for _ in range(3)]
        self.assertEqual(granted, [gateway.zmq[2], gateway.zmq[0], gateway.zmq[1]])
        failed = fe.acquire(request_id="one too many")
        self.assertEqual(
            (failed["request_id"], failed["session_id"], failed["expires_at"]),
            ("one too many", "", 0),
        )
        self.assertEqual(failed["error_code"], "PORT_EXHAUSTED")
        self.assertTrue(failed["error"])

    @live()
    def test_both_or_nothing(self, gateway: Gateway) -> None:
        """Section 5: two ports, all or nothing, and given back as one."""
        fe, be = gateway.fe(), gateway.be()
        gateway.waiting(gateway.zmq[0])
        self.assertEqual(fe.acquire(need_zmq=True, need_srt=True)["error_code"], "PORT_EXHAUSTED")
        gateway.waiting(gateway.srt[1])
        grant = fe.acquire(need_zmq=True, need_srt=True)
        self.assertEqual((grant["zmq_port"], grant["srt_port"]), (gateway.zmq[0], gateway.srt[1]))
        self.assertEqual(fe.acquire(need_srt=True)["error_code"], "PORT_EXHAUSTED")
        fe.say("port_release", {"session_id": grant["session_id"], "zmq_port": gateway.zmq[0]})
        told = be.expect("port_release")
        self.assertEqual(
            told, {"session_id": grant["session_id"], "zmq_port": gateway.zmq[0],
                   "srt_port": gateway.srt[1]},
        )  # fmt: skip
        self.assertEqual(fe.acquire(need_srt=True)["srt_port"], gateway.srt[1])

    @live()
    def test_both_of_one_be(self, gateway: Gateway) -> None:
        """Section 5: for two, both of one BE where any BE has both ready."""
        fe = gateway.fe()
        gateway.be("a"), gateway.be("b")
        gateway.waiting(gateway.zmq[0], "a")
        gateway.waiting(gateway.zmq[1], "b")
        gateway.waiting(gateway.srt[0], "b")
        grant = fe.acquire(need_zmq=True, need_srt=True)
        self.assertEqual((grant["zmq_port"], grant["srt_port"]), (gateway.zmq[1], gateway.srt[0]))
        gateway.waiting(gateway.srt[1], "b")
        grant = fe.acquire(need_zmq=True, need_srt=True)
        self.assertEqual((grant["zmq_port"], grant["srt_port"]), (gateway.zmq[0], gateway.srt[1]))

    @live()
    def test_be_and_service(self, gateway: Gateway) -> None:
        """Section 5: of the service asked for, and of that BE where one is named."""
        fe = gateway.fe11()
        gateway.be("a"), gateway.be("b")
        gateway.waiting(gateway.zmq[0], "a")
        gateway.waiting(gateway.zmq[1], "b")
        gateway.waiting(gateway.zmq[2], "b", service="web")
        self.assertEqual(fe.acquire(be="b")["zmq_port"], gateway.zmq[1])
        self.assertEqual(fe.acquire(be="b")["error_code"], "PORT_EXHAUSTED")
        self.assertEqual(fe.acquire(be="nobody")["error_code"], "PORT_EXHAUSTED")
        self.assertEqual(fe.acquire(be="a", service="web")["error_code"], "PORT_EXHAUSTED")
        self.assertEqual(fe.acquire(be="b", service="web")["zmq_port"], gateway.zmq[2])
        self.assertEqual(fe.acquire(service="other")["error_code"], "PORT_EXHAUSTED")
        self.assertEqual(fe.acquire()["zmq_port"], gateway.zmq[0])

    @live()
    def test_out_of_range(self, gateway: Gateway) -> None:
        """Section 3: values out of range are INVALID_REQUEST, in a grant."""
        fe, be = gateway.fe(), gateway.be()
        gateway.waiting(gateway.zmq[0])
        for number, wanted in enumerate((
            {"ttl_seconds": 601}, {"ttl_seconds": -1}, {"service": "Upper"}, {"service": "a b"},
            {"service": "x" * 65}, {"need_zmq": False, "need_srt": False},
        )):  # fmt: skip
            found = fe.acquire(request_id=f"bad{number}", **wanted)
            self.assertEqual(found["error_code"], "INVALID_REQUEST", wanted)
            self.assertEqual((found["session_id"], found["expires_at"]), ("", 0))
            self.assertTrue(found["error"])
        self.assertEqual(of("port_grant", be.ping()), [])
        for ttl in (1, 600):
            grant = fe.acquire(ttl_seconds=ttl)
            self.assertEqual(grant["zmq_port"], gateway.zmq[0])
            fe.say("port_release", {"session_id": grant["session_id"]})

    @live()
    def test_who_is_told(self, gateway: Gateway) -> None:
        """Section 3: requester and the other role are told; the ticket is the requester's."""
        fe, other = gateway.fe(), gateway.fe11()
        bes = [gateway.be(), gateway.be11()]
        gateway.waiting(gateway.zmq[0])
        grant = fe.acquire()
        ticket = grant.pop("ticket")
        for be in bes:
            told = be.expect("port_grant")
            self.assertEqual({k: v for k, v in told.items() if k != "ticket"}, grant)
            self.assertFalse(told.get("ticket"))
        fe.say("port_release", {"session_id": grant["session_id"]})
        for be in bes:
            told = be.expect("port_release")
            self.assertEqual(told["session_id"], grant["session_id"])
            self.assertEqual(told["zmq_port"], gateway.zmq[0])
            self.assertFalse(told.get("error_code"))
        for client in (fe, other):
            client.ping()
            self.assertEqual(of("port_release", client.log), [])
        self.assertEqual(of("port_grant", other.log), [])
        for client in (other, *bes):
            self.assertNotIn(ticket, repr(client.log))

    @live()
    def test_failure_is_the_requesters_alone(self, gateway: Gateway) -> None:
        """Section 3: on failure a grant goes to the requester only."""
        fe, be = gateway.fe(), gateway.be()
        self.assertEqual(fe.acquire()["error_code"], "PORT_EXHAUSTED")
        self.assertEqual(of("port_grant", be.ping()), [])

    @live()
    def test_release_of_what_is_not_ones_own(self, gateway: Gateway) -> None:
        """Section 3: an unknown or another's session_id is an error INVALID_REQUEST."""
        fe, other, be = gateway.fe(), gateway.fe(), gateway.be()
        gateway.waiting(gateway.zmq[0])
        session_id = fe.acquire()["session_id"]
        tries: list[tuple[Control, str]] = [(other, session_id), (be, session_id), (fe, "x"),
                                            (fe, "")]  # fmt: skip
        for client, wrong in tries:
            client.say("port_release", {"session_id": wrong}, msg_id="the-release")
            found = client.expect("error")
            self.assertEqual(
                (found["error_code"], found["in_reply_to"]), ("INVALID_REQUEST", "the-release")
            )
        fe.say("port_release", {"session_id": session_id})
        be.expect("port_release", session_id=session_id)
        fe.say("port_release", {"session_id": session_id})
        self.assertEqual(fe.expect("error")["error_code"], "INVALID_REQUEST")


class AcquiringAsBE(TestCase):
    """A BE's port_acquire (sections 3 and 5)."""

    @live()
    def test_empty_ports_in_order(self, gateway: Gateway) -> None:
        """Section 5: empty, unreserved ports in port order."""
        be = gateway.be("holder")
        gateway.waiting(gateway.zmq[0])
        granted = [be.acquire()["zmq_port"] for _ in range(2)]
        self.assertEqual(granted, gateway.zmq[1:])
        self.assertEqual(be.acquire()["error_code"], "PORT_EXHAUSTED")
        grant = be.acquire(need_srt=True, need_zmq=False)
        self.assertEqual(grant["srt_port"], gateway.srt[0])
        self.assertNotIn("zmq_port", grant)

    @live()
    def test_every_fe_gets_the_ticket(self, gateway: Gateway) -> None:
        """Sections 5 and 6: the grant goes to every FE, ticket included; to no other BE."""
        fes, other = [gateway.fe(), gateway.fe11()], gateway.be()
        be = gateway.be("holder")
        grant = be.acquire(need_zmq=True, need_srt=True)
        self.assertTrue(len(grant["ticket"]) >= 22)
        for fe in fes:
            self.assertEqual(fe.expect("port_grant"), grant)
        self.assertEqual(of("port_grant", other.ping()), [])
        be.say("port_release", {"session_id": grant["session_id"]})
        for fe in fes:
            told = fe.expect("port_release", session_id=grant["session_id"])
            self.assertEqual((told["zmq_port"], told["srt_port"]), (gateway.zmq[0], gateway.srt[0]))

    @live()
    def test_passed_over(self, gateway: Gateway) -> None:
        """Section 4: an acquire passes over a port under any lease."""
        fe, be = gateway.fe(), gateway.be("holder")
        port = be.acquire()["zmq_port"]
        gateway.waiting(port, "holder")
        self.assertEqual(fe.acquire()["error_code"], "PORT_EXHAUSTED")
        gateway.waiting(gateway.zmq[1])
        held = fe.acquire()["zmq_port"]
        self.assertEqual(held, gateway.zmq[1])
        self.assertEqual(be.acquire()["zmq_port"], gateway.zmq[2])


class Ending(TestCase):
    """How a lease ends (section 5)."""

    @live()
    def test_expires(self, gateway: Gateway) -> None:
        """Sections 3 and 5: TTL_EXPIRED to the owner and to the other role."""
        fe, other, be = gateway.fe(), gateway.fe(), gateway.be()
        gateway.waiting(gateway.zmq[0])
        grant = fe.acquire(ttl_seconds=1)
        wanted = {"session_id": grant["session_id"], "zmq_port": gateway.zmq[0],
                  "error_code": "TTL_EXPIRED"}  # fmt: skip
        found = fe.find("port_release")
        self.assertEqual(found["payload"], wanted)
        late = found["ts_ms"] - grant["expires_at"]
        self.assertTrue(-5 <= late < LATE * 1000, late)
        self.assertEqual(be.expect("port_release"), wanted)
        other.ping()
        self.assertEqual(of("port_release", other.log), [])
        self.assertEqual(other.acquire()["zmq_port"], gateway.zmq[0])

    @live()
    def test_be_lease_expires(self, gateway: Gateway) -> None:
        """Section 5: a BE's lease likewise; every FE is told."""
        fe, be = gateway.fe(), gateway.be("holder")
        grant = be.acquire(ttl_seconds=1, need_zmq=True, need_srt=True)
        for client in (be, fe):
            found = client.expect("port_release", error_code="TTL_EXPIRED")
            self.assertEqual(
                (found["session_id"], found["zmq_port"], found["srt_port"]),
                (grant["session_id"], gateway.zmq[0], gateway.srt[0]),
            )
        be.expect("port_state", zmq_empty_ports=gateway.zmq)

    @live()
    def test_not_while_a_session_runs(self, gateway: Gateway) -> None:
        """Section 5: expiry waits for the session; the other port of the lease does not."""
        fe, be = gateway.fe(), gateway.be()
        waiting = gateway.waiting(gateway.zmq[0])
        gateway.waiting(gateway.srt[0])
        grant = fe.acquire(need_zmq=True, need_srt=True)
        link = gateway.entering(gateway.zmq[0], session_id=grant["session_id"])
        link.expect("RLX1PAIRED")
        waiting.expect("RLX1PAIRED")
        [lease] = gateway.service.switchboard.board.leases
        lease.expires = 0.0
        time_passes(gateway, 31)
        found = fe.expect("port_release")
        self.assertEqual((found["error_code"], found["srt_port"]), ("TTL_EXPIRED", gateway.srt[0]))
        self.assertNotIn("zmq_port", found)
        link.send(b"still going")
        self.assertEqual(waiting.receive(11), b"still going")
        self.assertEqual(of("port_release", fe.ping()), [])
        link.close()
        waiting.close()
        found = fe.expect("port_release")
        self.assertEqual((found["error_code"], found["zmq_port"]), ("TTL_EXPIRED", gateway.zmq[0]))
        self.assertNotIn("srt_port", found)
        for client in (be,):
            told = [client.expect("port_release") for _ in range(2)]
            self.assertEqual([t["session_id"] for t in told], [grant["session_id"]] * 2)

    @live()
    def test_owner_gone(self, gateway: Gateway) -> None:
        """Section 5: an FE's leases end with its control connection."""
        fe, other, be = gateway.fe(), gateway.fe(), gateway.be()
        gateway.waiting(gateway.zmq[0])
        grant = fe.acquire()
        fe.close()
        told = be.expect("port_release")
        self.assertEqual(
            (told["session_id"], told["zmq_port"]), (grant["session_id"], gateway.zmq[0])
        )
        self.assertEqual(other.acquire()["zmq_port"], gateway.zmq[0])

    @live()
    def test_owner_gone_while_a_session_runs(self, gateway: Gateway) -> None:
        """Section 5: the lease ends, the session goes on, the port is free after."""
        fe, other, be = gateway.fe(), gateway.fe(), gateway.be()
        waiting = gateway.waiting(gateway.zmq[0])
        session_id = fe.acquire()["session_id"]
        link = gateway.entering(gateway.zmq[0], session_id=session_id)
        link.expect("RLX1PAIRED")
        waiting.expect("RLX1PAIRED")
        fe.close()
        self.assertEqual(be.expect("port_release")["session_id"], session_id)
        link.send(b"without its owner")
        self.assertEqual(waiting.receive(17), b"without its owner")
        link.close()
        self.assertEqual(waiting.rest(), (b"", "end"))
        waiting.close()
        other.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)
        gateway.waiting(gateway.zmq[0])
        self.assertEqual(other.acquire()["zmq_port"], gateway.zmq[0])

    @live()
    def test_release_leaves_the_session(self, gateway: Gateway) -> None:
        """Section 5: a running session is never ended by its lease."""
        fe, be = gateway.fe(), gateway.be()
        waiting = gateway.waiting(gateway.zmq[0])
        grant = fe.acquire()
        link = gateway.entering(gateway.zmq[0], session_id=grant["session_id"])
        link.expect("RLX1PAIRED")
        waiting.expect("RLX1PAIRED")
        fe.say("port_release", {"session_id": grant["session_id"]})
        be.expect("port_release", session_id=grant["session_id"])
        waiting.send(b"on and on")
        self.assertEqual(link.receive(9), b"on and on")
        link.shutdown()
        self.assertEqual(waiting.rest(), (b"", "end"))
        waiting.close()
        self.assertEqual(link.rest(), (b"", "end"))
        fe.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)

    @live()
    def test_the_same_lease_again(self, gateway: Gateway) -> None:
        """Section 5: inside expires_at the owner may connect again under the same lease."""
        fe, _ = gateway.fe(), gateway.be()
        first = gateway.waiting(gateway.zmq[0])
        session_id = fe.acquire()["session_id"]
        link = gateway.entering(gateway.zmq[0], session_id=session_id)
        paired = link.expect("RLX1PAIRED")
        first.expect("RLX1PAIRED")
        link.close()
        first.close()
        fe.state(lambda state: state["zmq_busy"] == 0)
        gateway.waiting(gateway.zmq[0])
        again = gateway.entering(gateway.zmq[0], session_id=session_id).expect("RLX1PAIRED")
        self.assertEqual((paired["session_id"], again["session_id"]), (session_id, session_id))
        self.assertNotEqual(paired["pairing_id"], again["pairing_id"])
