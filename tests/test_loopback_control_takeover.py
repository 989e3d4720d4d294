"""Takeover of a registration by a restarted client (contract section 3, Takeover)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from tests.guide_peer import Control, EndedError
from tests.live import SECRET, Gateway, live
from tests.test_loopback_control_messages import of
from tests.test_loopback_data_hello import an_fe_waits


class Taking(TestCase):
    """A registration that carries another instance (section 3)."""

    def taken_over(self, client: Control) -> None:
        """The old connection gets TAKEN_OVER and an end of stream."""
        errors = of("error", client.rest())
        self.assertEqual([e["error_code"] for e in errors], ["TAKEN_OVER"])
        self.assertTrue(errors[0]["error"])

    @live()
    def test_fe_with_leases(self, gateway: Gateway) -> None:
        """Section 3: leases go with the registration, at once."""
        old, be = gateway.fe11("phone"), gateway.be()
        gateway.waiting(gateway.zmq[0])
        session_id = old.acquire()["session_id"]
        new = gateway.fe11("phone")
        self.assertEqual(new.auth["client_id"], "phone")
        self.taken_over(old)
        self.assertEqual(of("port_release", be.ping()), [])
        new.say("port_release", {"session_id": session_id})
        self.assertEqual(be.expect("port_release")["session_id"], session_id)

    @live()
    def test_sessions_go_on(self, gateway: Gateway) -> None:
        """Section 3: sessions go with it too, session_end is told to the new client."""
        old_fe, old_be = gateway.fe11("phone"), gateway.be11("worker")
        waiting = gateway.waiting(gateway.zmq[0], "worker")
        link = gateway.entering(gateway.zmq[0], "phone", session_id=old_fe.acquire()["session_id"])
        paired = link.expect("RLX1PAIRED")
        waiting.expect("RLX1PAIRED")
        fe, be = gateway.fe11("phone"), gateway.be11("worker")
        self.taken_over(old_fe)
        self.taken_over(old_be)
        link.send(b"as before")
        self.assertEqual(waiting.receive(9), b"as before")
        link.shutdown()
        self.assertEqual(waiting.rest(), (b"", "end"))
        waiting.close()
        for client in (fe, be):
            self.assertEqual(client.expect("session_end")["pairing_id"], paired["pairing_id"])

    @live()
    def test_waiting_connections_closed(self, gateway: Gateway) -> None:
        """Section 3: where the instance differs, the old one's waiting connections close."""
        gateway.be11("worker")
        other, fe = gateway.be11("other"), gateway.fe()
        link = gateway.waiting(gateway.zmq[0], "worker")
        kept = gateway.waiting(gateway.zmq[1], "other")
        gateway.be11("worker")
        self.assertIn(link.dropped(), ("", "TAKEN_OVER"))
        state = fe.state(lambda state: gateway.zmq[0] in state["zmq_empty_ports"])
        self.assertEqual(state["zmq_ready_ports"], [gateway.zmq[1]])
        other.ping()
        gateway.entering(gateway.zmq[1]).expect("RLX1PAIRED")
        kept.expect("RLX1PAIRED")

    @live()
    def test_a_waiting_fe_is_closed(self, gateway: Gateway) -> None:
        """Section 3: an FE's waiting data connections close likewise; its lease goes on."""
        old, be = gateway.fe11("phone"), gateway.be()
        first = gateway.waiting(gateway.zmq[0])
        session_id = old.acquire()["session_id"]
        first.close()
        old.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)
        waits = gateway.entering(gateway.zmq[0], session_id=session_id)
        an_fe_waits(gateway, gateway.zmq[0])
        gateway.fe11("phone")
        self.assertIn(waits.dropped(), ("", "TAKEN_OVER"))
        self.assertEqual(of("port_release", be.ping()), [])
        again = gateway.entering(gateway.zmq[0], session_id=session_id)
        gateway.waiting(gateway.zmq[0])
        self.assertEqual(again.expect("RLX1PAIRED")["session_id"], session_id)

    @live()
    def test_of_a_v1_client(self, gateway: Gateway) -> None:
        """Section 3: an absent instance differs from any; the v1 client is taken over."""
        old = gateway.be("worker")
        link = gateway.waiting(gateway.zmq[0], "worker")
        new = gateway.be11("worker")
        self.taken_over(old)
        self.assertIn(link.dropped(), ("", "TAKEN_OVER"))
        new.ping()

    @live()
    def test_same_instance(self, gateway: Gateway) -> None:
        """Section 3: the same process coming back; no TAKEN_OVER, nothing else changes."""
        old, fe = gateway.be11("worker", instance="process-1"), gateway.fe()
        link = gateway.waiting(gateway.zmq[0], "worker")
        session_id = old.acquire()["session_id"]
        new = gateway.be11("worker", instance="process-1")
        self.assertEqual(of("error", old.rest()), [])
        self.assertEqual(of("port_release", fe.ping()), [])
        new.say("port_release", {"session_id": session_id})
        fe.expect("port_release", session_id=session_id)
        gateway.entering(gateway.zmq[0]).expect("RLX1PAIRED")
        link.expect("RLX1PAIRED")

    @live()
    def test_same_instance_without_a_client_id(self, gateway: Gateway) -> None:
        """Section 3: it is matched without a client_id, by the instance alone."""
        old, be = gateway.fe11(instance="process-2"), gateway.be()
        gateway.waiting(gateway.zmq[0])
        session_id = old.acquire()["session_id"]
        new = gateway.fe11(instance="process-2")
        self.assertEqual(new.auth["client_id"], old.auth["client_id"])
        self.assertEqual(of("error", old.rest()), [])
        self.assertEqual(of("port_release", be.ping()), [])
        new.say("port_release", {"session_id": session_id})
        be.expect("port_release", session_id=session_id)

    @live()
    def test_empty_ids_do_not_meet(self, gateway: Gateway) -> None:
        """Section 3: different instances without a client_id are different clients."""
        first, second = gateway.fe11(), gateway.fe11()
        first.ping(), second.ping()
        self.assertNotEqual(first.auth["client_id"], second.auth["client_id"])

    @live()
    def test_roles_apart(self, gateway: Gateway) -> None:
        """Section 3: only a registration of the same role is replaced."""
        fe, be = gateway.fe11("both"), gateway.be11("both")
        fe.ping(), be.ping()

    @live()
    def test_v1_side_by_side(self, gateway: Gateway) -> None:
        """Section 3: registrations without instance live side by side under one id."""
        clients = [gateway.fe("twin"), gateway.fe("twin"), gateway.be("twin"), gateway.be("twin")]
        gateway.be11("other", instance="")
        gateway.be11("other", instance="")
        for client in clients:
            client.ping()
        # without an instance there is no takeover of a 1.1 client either
        v11 = gateway.fe11("tablet")
        gateway.fe("tablet").ping()
        v11.ping()

    @live()
    def test_all_of_that_id(self, gateway: Gateway) -> None:
        """Section 3: a takeover takes the place of any live registration of that id."""
        old = [gateway.be("twin"), gateway.be("twin")]
        new = gateway.be11("twin")
        for client in old:
            self.taken_over(client)
        new.ping()

    @live(relay={"max_fe": 1, "max_be": 1})
    def test_at_capacity(self, gateway: Gateway) -> None:
        """Section 3: a restarted client never waits for the place of its dead link."""
        old_fe, old_be = gateway.fe11("phone"), gateway.be11("worker")
        gateway.fe11("phone").ping()
        gateway.be11("worker").ping()
        self.taken_over(old_fe)
        self.taken_over(old_be)
        self.assertEqual(
            gateway.control().register("FE", SECRET, "third")["error_code"], "CAPACITY"
        )

    @live()
    def test_wrong_secret_takes_nothing(self, gateway: Gateway) -> None:
        """Section 3: AUTH_FAILED comes before any takeover."""
        old = gateway.fe11("phone")
        intruder = gateway.control()
        intruder.say("register", {"role": "FE", "client_id": "phone", "instance": "i",
                                  "protocol": "1.1", "secret": "wrong"})  # fmt: skip
        self.assertEqual(intruder.expect("auth")["error_code"], "AUTH_FAILED")
        old.ping()

    @live(relay={"reaper_timeout": 30.0})
    def test_of_a_lost_be(self, gateway: Gateway) -> None:
        """Section 3: the same holds for a BE that is lost but not yet reaped."""
        fe = gateway.fe()
        old = gateway.be11("worker")
        link = gateway.waiting(gateway.zmq[0], "worker")
        session_id = old.acquire()["session_id"]
        old.shutdown()
        with self.assertRaises(EndedError):
            while True:
                old.read()
        new = gateway.be11("worker")
        self.assertIn(link.dropped(), ("", "TAKEN_OVER"))
        self.assertEqual(of("port_release", fe.ping()), [])
        new.say("port_release", {"session_id": session_id})
        fe.expect("port_release", session_id=session_id)

    @live(relay={"reaper_timeout": 30.0})
    def test_a_lost_be_comes_back(self, gateway: Gateway) -> None:
        """Section 3: a lost BE of the same instance finds everything as it was."""
        old = gateway.be11("worker", instance="process-3")
        link = gateway.waiting(gateway.zmq[0], "worker")
        old.shutdown()
        old.rest()
        gateway.be11("worker", instance="process-3").ping()
        gateway.fe()
        gateway.entering(gateway.zmq[0]).expect("RLX1PAIRED")
        link.expect("RLX1PAIRED")

    @live(log={"stream": "be"})
    def test_many_takeovers_are_a_warning(self, gateway: Gateway) -> None:
        """Section 3: more than 3 takeovers of one id a minute are a warning in the log."""
        watcher = gateway.be("watcher")
        clients = [gateway.fe11("restless") for _ in range(4)]
        watcher.ping()
        watcher.ping()
        before = [line for line in of("log", watcher.log) if "restless" in line]
        clients.append(gateway.fe11("restless"))
        found = watcher.find("log", lambda line: "restless" in line and "warn" in line.lower())[
            "payload"
        ]
        self.assertNotIn(found, before)
