"""What a data port refuses, what it replaces, and whom it lets wait (sections 5 and 6)."""

from __future__ import annotations

import select
import socket
import time

from twisted.trial.unittest import TestCase

from tests.guide_peer import DEADLINE, Data
from tests.live import LATE, NEVER, Data11, Gateway, live
from tests.reloading import Filed, filed, in_the_reactor
from tests.test_loopback_data_hello import an_fe_waits, unread_by_the_gateway

ELSEWHERE = "127.0.0.21"


class Refusals(TestCase):
    """The codes in their order of precedence (section 6)."""

    def silent(self, gateway: Gateway, port: int, role: str, **hello: str) -> None:
        """The same refusal without ack: a close, and nothing said."""
        link = gateway.dial(port)
        link.hello(role, **hello)
        self.assertEqual(link.rest()[0], b"")

    def sends_on(self, link: Data, sent: list[int]) -> float:
        """Send to a gateway that has refused, until it is gone, and note how much: when it was."""
        link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
        gone = select.poll()
        gone.register(link.socket, 0)  # for errors and hang-ups alone
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline and not gone.poll(2):
            try:
                sent.append(link.socket.send(bytes(1 << 16)))
            except (ConnectionResetError, BrokenPipeError, TimeoutError):
                break
        return time.monotonic()

    @live()
    def test_goes_on_sending(self, gateway: Gateway) -> None:
        """Section 6: what a refused one still sends is dropped for about 1 s, then it is closed."""
        client, service = gateway.fe(), gateway.service
        in_the_reactor(service.data.data.leaving.change, NEVER, 256)
        told, silent, wrong = (gateway.dial11(gateway.zmq[0]) for _ in range(3))
        begun = time.monotonic()
        told.hello("FE")
        silent.hello("FE", ack=False)
        wrong.hello("nobody")
        self.assertEqual(told.refusal(), "PORT_EMPTY")
        sent: list[list[int]] = [[], [], []]
        running = list(map(gateway.background, [self.sends_on] * 3, (told, silent, wrong), sent))
        while not any(done.done() for done in running) and min(map(sum, sent)) <= 2 << 20:
            client.ping()
        self.assertTrue(min(map(sum, sent)) > 2 << 20, "it is not read")
        since = time.monotonic()
        in_the_reactor(service.reload, service.config, service.secrets)  # its own time again
        for done in running:
            self.assertTrue(done.result() - begun > 0.7, "it is closed too early")
            self.assertTrue(done.result() - since < 1 + LATE, "it is closed too late")

    @live()
    def test_port_empty(self, gateway: Gateway) -> None:
        """Section 6: no BE there, and no lease to wait under."""
        gateway.fe()
        self.assertEqual(gateway.entering(gateway.zmq[0]).refusal(), "PORT_EMPTY")
        self.silent(gateway, gateway.zmq[0], "FE")

    @live()
    def test_port_busy(self, gateway: Gateway) -> None:
        """Section 6: a session runs, or another BE waits."""
        client, _ = gateway.fe(), gateway.be()
        waiting = gateway.waiting(gateway.zmq[0])
        second = gateway.dial11(gateway.zmq[0])
        second.hello("BE")
        self.assertEqual(second.refusal(), "PORT_BUSY")
        self.silent(gateway, gateway.zmq[0], "BE")
        fe = gateway.entering(gateway.zmq[0])
        fe.expect("RLX1PAIRED")
        waiting.expect("RLX1PAIRED")
        for role in ("FE", "BE"):
            link = gateway.dial11(gateway.zmq[0])
            link.hello(role)
            self.assertEqual(link.refusal(), "PORT_BUSY", role)
            self.silent(gateway, gateway.zmq[0], role)
        fe.send(b"undisturbed")
        self.assertEqual(waiting.receive(11), b"undisturbed")
        client.ping()

    @live()
    def test_reserved(self, gateway: Gateway) -> None:
        """Section 6: PORT_RESERVED to an FE that may not use the lease."""
        fe, _ = gateway.fe(source=ELSEWHERE), gateway.be()
        gateway.fe()
        gateway.waiting(gateway.zmq[0])
        fe.acquire()
        self.assertEqual(gateway.entering(gateway.zmq[0]).refusal(), "PORT_RESERVED")
        self.silent(gateway, gateway.zmq[0], "FE")

    @live()
    def test_reserved_before_empty(self, gateway: Gateway) -> None:
        """Section 6: PORT_RESERVED goes before PORT_EMPTY, PORT_BUSY before both."""
        fe, be = gateway.fe(source=ELSEWHERE), gateway.be()
        gateway.fe()
        waiting = gateway.waiting(gateway.zmq[0])
        grant = fe.acquire()
        waiting.close()
        be.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)
        self.assertEqual(gateway.entering(gateway.zmq[0]).refusal(), "PORT_RESERVED")
        gateway.waiting(gateway.zmq[0])
        entered = gateway.entering(gateway.zmq[0], session_id=grant["session_id"])
        entered.expect("RLX1PAIRED")
        self.assertEqual(gateway.entering(gateway.zmq[0]).refusal(), "PORT_BUSY")

    @live()
    def test_ttl_expired(self, gateway: Gateway) -> None:
        """Section 6: one of this port's last 16 leases; before PORT_BUSY, after NOT_ADMITTED."""
        fe, be = gateway.fe(), gateway.be()
        gateway.waiting(gateway.zmq[0])
        grants = []
        for _ in range(17):
            grants.append(fe.acquire())
            fe.say("port_release", {"session_id": grants[-1]["session_id"]})
        be.expect("port_release", session_id=grants[-1]["session_id"])

        def refused(grant: dict[str, str], key: str, **options: str) -> str:
            return gateway.entering(gateway.zmq[0], **{key: grant[key]}, **options).refusal()

        for key in ("session_id", "ticket"):
            self.assertEqual(refused(grants[-1], key), "TTL_EXPIRED")
            self.assertEqual(refused(grants[1], key), "TTL_EXPIRED")
            self.assertEqual(refused(grants[0], key), "NOT_ADMITTED")
            self.assertEqual(refused(grants[-1], key, source=ELSEWHERE), "NOT_ADMITTED")
        gateway.entering(gateway.zmq[0]).expect("RLX1PAIRED")
        self.assertEqual(refused(grants[-1], "session_id"), "TTL_EXPIRED")

    @live()
    def test_not_admitted_before_busy(self, gateway: Gateway) -> None:
        """Section 6: NOT_ADMITTED goes before PORT_BUSY and PORT_EMPTY."""
        gateway.fe(), gateway.be()
        gateway.pair(gateway.zmq[0])
        for port in gateway.zmq[:2]:
            for hello in ({"source": ELSEWHERE}, {"session_id": "unheard"}):
                self.assertEqual(gateway.entering(port, **hello).refusal(), "NOT_ADMITTED")


class Replacing(TestCase):
    """A second BE on a port (section 6)."""

    def second(self, gateway: Gateway, client_id: str, source: str = "") -> Data11:
        link = gateway.dial11(gateway.zmq[0], source=source)
        link.hello("BE", client_id)
        return link

    @live()
    def test_by_the_same_11_be(self, gateway: Gateway) -> None:
        """Section 6: a registered 1.1 BE at the same address replaces its waiting connection."""
        gateway.fe(), gateway.be11("worker")
        old = gateway.waiting(gateway.zmq[0], "worker")
        old.send(b"of the old one")
        new = self.second(gateway, "worker")
        new.expect("RLX1OK")
        self.assertIn(old.dropped(), ("", "TAKEN_OVER"))
        fe = gateway.entering(gateway.zmq[0])
        fe.expect("RLX1PAIRED")
        new.expect("RLX1PAIRED")
        new.send(b"new")
        self.assertEqual(fe.receive(3), b"new")
        self.assertEqual(self.second(gateway, "worker").refusal(), "PORT_BUSY")

    @live()
    def test_not_by_others(self, gateway: Gateway) -> None:
        """Section 6: not a v1 BE, not another BE, not from another address."""
        client = gateway.fe()
        gateway.be11("worker"), gateway.be11("other"), gateway.be("plain")
        gateway.be(source=ELSEWHERE)
        waiting = gateway.waiting(gateway.zmq[0], "worker")
        for client_id, source in (("other", ""), ("plain", ""), ("", ""), ("worker", ELSEWHERE)):
            self.assertEqual(
                self.second(gateway, client_id, source).refusal(), "PORT_BUSY", client_id
            )
        waiting.close()
        client.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)
        waiting = gateway.waiting(gateway.zmq[0], "plain")
        self.assertEqual(self.second(gateway, "plain").refusal(), "PORT_BUSY")
        gateway.entering(gateway.zmq[0]).expect("RLX1PAIRED")
        waiting.expect("RLX1PAIRED")


class WaitingFE(TestCase):
    """An FE on a leased port where no BE waits (section 5)."""

    def leased(self, gateway: Gateway, ttl_seconds: int = 30) -> str:
        """Lease the first zmq port and take its BE away."""
        self.fe = gateway.fe(), gateway.be()
        client = self.fe[0]
        be = gateway.waiting(gateway.zmq[0])
        session_id = client.acquire(ttl_seconds=ttl_seconds)["session_id"]
        be.close()
        client.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)
        return session_id

    @live()
    def test_paired_when_the_be_comes(self, gateway: Gateway) -> None:
        """Section 5: kept waiting, unread; its end of stream does not end the waiting."""
        session_id = self.leased(gateway)
        for ends in (False, True):
            fe = gateway.entering(gateway.zmq[0], session_id=session_id)
            fe.send(b"early bird" * 20000)
            if ends:
                fe.shutdown()
            an_fe_waits(gateway, gateway.zmq[0])
            be = gateway.dial11(gateway.zmq[0])
            be.hello("BE")
            self.assertEqual(fe.expect("RLX1PAIRED")["pairing_id"], be.paired()["pairing_id"])
            self.assertEqual(be.receive(200000), b"early bird" * 20000)
            be.send(b"answer")
            self.assertEqual(fe.receive(6), b"answer")
            fe.close(), be.close()
            self.fe[0].state(lambda state: state["zmq_busy"] == 0)

    @live()
    def test_is_not_read(self, gateway: Gateway) -> None:
        """Section 5: what it sends meanwhile stays in its socket."""
        session_id = self.leased(gateway)
        fe = gateway.entering(gateway.zmq[0], session_id=session_id)
        an_fe_waits(gateway, gateway.zmq[0])  # its HELLO has been read
        fe.send(b"early bird")
        self.assertRaises(TimeoutError, fe.fill, 0.1)
        self.assertEqual(unread_by_the_gateway(fe), 10)
        be = gateway.dial11(gateway.zmq[0])
        be.hello("BE")
        be.paired()
        self.assertEqual(be.receive(10), b"early bird")

    @filed()
    def test_port_empty_after_hello_timeout(self, gateway: Filed) -> None:
        """Section 5: for up to hello_timeout; then PORT_EMPTY."""
        session_id = self.leased(gateway)
        gateway.reload(data={"hello_timeout": 0.4})
        # Its HELLO may come late; not what is tested here.
        in_the_reactor(gateway.service.data.data._newcomers.change, NEVER, 256, 256)
        begun = time.monotonic()
        fe = gateway.entering(gateway.zmq[0], session_id=session_id)
        self.assertEqual(fe.refusal(), "PORT_EMPTY")
        self.assertTrue(0.35 < time.monotonic() - begun < 0.4 + LATE, time.monotonic() - begun)

    @live()
    def test_one_waits(self, gateway: Gateway) -> None:
        """Section 5: one FE waits per port, another gets PORT_BUSY; a reset ends the waiting."""
        session_id = self.leased(gateway)
        first = gateway.entering(gateway.zmq[0], session_id=session_id)
        an_fe_waits(gateway, gateway.zmq[0])
        second = gateway.entering(gateway.zmq[0], session_id=session_id)
        self.assertEqual(second.refusal(), "PORT_BUSY")
        first.reset()
        self.fe[0].ping()
        third = gateway.entering(gateway.zmq[0], session_id=session_id)
        gateway.dial11(gateway.zmq[0]).hello("BE")
        third.expect("RLX1PAIRED")

    @live()
    def test_lease_ends(self, gateway: Gateway) -> None:
        """Section 5: TTL_EXPIRED, at once, when its lease expires or is released."""
        session_id = self.leased(gateway, ttl_seconds=1)
        fe = gateway.entering(gateway.zmq[0], session_id=session_id)
        self.assertEqual(fe.refusal(), "TTL_EXPIRED")

    @live()
    def test_lease_released(self, gateway: Gateway) -> None:
        """Section 5: the same where the owner releases it."""
        session_id = self.leased(gateway)
        fe = gateway.entering(gateway.zmq[0], session_id=session_id)
        an_fe_waits(gateway, gateway.zmq[0])
        self.fe[0].say("port_release", {"session_id": session_id})
        self.assertEqual(fe.refusal(), "TTL_EXPIRED")

    @live()
    def test_under_a_bes_lease(self, gateway: Gateway) -> None:
        """Section 5: an FE that uses a BE's lease is often a little earlier than the BE."""
        gateway.fe()
        be = gateway.be("holder")
        grant = be.acquire()
        fe = gateway.entering(grant["zmq_port"], ticket=grant["ticket"])
        an_fe_waits(gateway, grant["zmq_port"])
        gateway.dial11(grant["zmq_port"]).hello("BE", "holder")
        self.assertEqual(fe.expect("RLX1PAIRED")["session_id"], grant["session_id"])
