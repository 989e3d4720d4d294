"""Port ranges that change under a running gateway, on real sockets (contract section 4)."""

from __future__ import annotations

import hashlib
import random
import socket
from typing import Any

from twisted.trial.unittest import TestCase

from tests.guide_peer import Data
from tests.live import NEVER
from tests.relayx_process import relayx
from tests.reloading import Filed, filed, in_the_reactor

MIB = 1 << 20


def listens(gateway: Filed, port: int) -> bool:
    """Whether somebody can connect to a port."""
    try:
        gateway.dial(port).close()
    except ConnectionRefusedError:
        return False
    return True


def send_all(link: Data, data: bytes) -> None:
    link.send(data)
    link.shutdown()


class Ports(TestCase):
    """Ports added and removed."""

    @filed()
    def test_added(self, gateway: Filed) -> None:
        """They listen, and every FE and BE is told."""
        fe, be = gateway.fe(), gateway.be()
        more = gateway.zmq[-1] + 1
        self.assertFalse(listens(gateway, more))
        impact = gateway.reload(relay=gateway.ports(5, 2))
        self.assertEqual(impact.ports_added, (more, more + 1))
        self.assertEqual(impact.ports_kept, (*gateway.srt, *gateway.zmq))
        fe.expect("port_alloc", zmq_end_port=more + 1)
        for client in (fe, be):
            client.state(lambda state: state["zmq_empty_ports"][-2:] == [more, more + 1])
        gateway.pair(more)

    @filed()
    def test_removed_and_added_again(self, gateway: Filed) -> None:
        """They listen no more, as soon as the reload is done; sessions elsewhere go on."""
        client, _ = gateway.fe(), gateway.be()
        fe, be = gateway.pair(gateway.zmq[1])
        gone = gateway.zmq[0]
        for _ in range(3):
            impact = gateway.reload(relay=gateway.ports(2, 0, first=1))
            self.assertEqual(impact.ports_removed, (*gateway.srt, gone))
            self.assertEqual([listens(gateway, port) for port in impact.ports_removed], [False] * 3)
            client.state(lambda state: (state["zmq_total"], state["srt_total"]) == (2, 0))
            gateway.reload()
            self.assertTrue(listens(gateway, gone))
            client.state(lambda state: (state["zmq_total"], state["srt_total"]) == (3, 2))
        fe.send(b"goes on")
        self.assertEqual(be.receive(7), b"goes on")
        gateway.pair(gone)

    @filed()
    def test_who_waits_on_a_removed_port(self, gateway: Filed) -> None:
        """A waiting BE is closed, a lease ends with its code, an FE under it is told."""
        gone = gateway.zmq[0]
        client, be_client = gateway.fe("phone"), gateway.be()
        other = gateway.waiting(gateway.srt[0])
        be = gateway.waiting(gone)
        grant = client.acquire()
        be.close()
        client.state(lambda state: gone in state["zmq_empty_ports"])
        fe = gateway.entering(gone, session_id=grant["session_id"])
        gateway.write(relay=gateway.ports(2, 0, first=1))
        impact = in_the_reactor(gateway.service.plan_reload)
        self.assertEqual(impact.leases, (grant["session_id"],))
        self.assertIn("phone", impact.clients)
        in_the_reactor(gateway.service.reload)
        for peer in (client, be_client):
            peer.expect("port_release", session_id=grant["session_id"], error_code="DRAINING")
        self.assertEqual(fe.refusal(), "TTL_EXPIRED")
        self.assertIn(other.dropped(), ("", "DRAINING"))

    @filed()
    def test_late_hello(self, gateway: Filed) -> None:
        """Who connected before the port was removed and says HELLO after it gets an answer."""
        gateway.fe(), gateway.be()
        links = [gateway.dial11(gateway.zmq[0]) for _ in range(2)]
        gateway.reload(relay=gateway.ports(2, 2, first=1))
        for link, role in zip(links, ("FE", "BE"), strict=True):
            link.hello(role)
            self.assertEqual(link.refusal(), "DRAINING")

    @filed()
    def test_session_on_a_removed_port(self, gateway: Filed) -> None:
        """It goes on to its own end, both ways and with all its bytes; then the port is gone."""
        gone = gateway.zmq[0]
        client = gateway.fe11("phone")
        gateway.be()
        be = gateway.waiting(gone)
        fe = gateway.entering(gone, client_id="phone")
        pairing_id = fe.expect("RLX1PAIRED")["pairing_id"]
        be.expect("RLX1PAIRED")
        data = random.Random(6).randbytes(8 * MIB)
        sending = [gateway.background(send_all, link, data) for link in (fe, be)]
        half = be.receive(4 * MIB)
        impact = gateway.reload(relay=gateway.ports(2, 2, first=1))
        self.assertEqual((impact.sessions, impact.ports_removed), ((pairing_id,), (gone,)))
        state = client.state()
        self.assertEqual((state["zmq_total"], state["zmq_busy"]), (3, 1))
        self.assertFalse(listens(gateway, gone))
        rest, how = be.rest()
        self.assertEqual((_digest(half + rest), how), (_digest(data), "end"))
        self.assertEqual((_digest(fe.receive(8 * MIB)), fe.rest()), (_digest(data), (b"", "end")))
        for each in sending:
            each.result()
        fe.close(), be.close()
        self.assertEqual(client.expect("session_end", pairing_id=pairing_id)["port"], gone)
        client.state(lambda state: (state["zmq_total"], state["zmq_busy"]) == (2, 0))

    @filed(data={"drain_quiet": 0.05, "drain_limit": NEVER})
    def test_kept_be_on_a_removed_port(self, gateway: Filed) -> None:
        """It is closed when its session has ended, as the port is gone then."""
        client, _ = gateway.fe(), gateway.be()
        be = gateway.kept(gateway.zmq[0], client)
        fe = gateway.dial(gateway.zmq[0])
        fe.hello("FE", first=b"x")
        self.assertEqual(be.receive(1), b"x")
        gateway.reload(relay=gateway.ports(2, 2, first=1))
        fe.close()
        self.assertEqual(be.rest()[0], b"")
        client.state(lambda state: state["zmq_total"] == 2)

    @filed(zmq=6)
    def test_back_end_moves_on(self, gateway: Filed) -> None:
        """``relayx be`` whose ports are gone waits on others, as many as before."""
        client = gateway.fe()
        with relayx("be", "--echo", "--zmq", "2", gateway=gateway.host):
            client.state(lambda state: len(state["zmq_ready_ports"]) == 2)
            ready = set(client.state()["zmq_ready_ports"])
            first = 3 if ready & set(gateway.zmq[:3]) else 0
            gateway.reload(relay=gateway.ports(3, 0, first=first))
            client.state(lambda state: state["zmq_total"] == 3)
            state = client.state(lambda state: len(state["zmq_ready_ports"]) == 2)
            self.assertTrue(set(state["zmq_ready_ports"]) <= set(gateway.zmq[first : first + 3]))

    @filed()
    def test_taken_port(self, gateway: Filed) -> None:
        """One port that cannot be bound refuses all: nothing listens more, nobody is told."""
        fe = gateway.fe()
        fe.ping()
        taken = gateway.zmq[-1] + 2
        with socket.create_server((gateway.host, taken)):
            told = gateway.refused(
                relay={**gateway.ports(6, 2), "max_fe": 7}, log={"level": "warn"}
            )
            first = f"relay.zmq_start_port = {gateway.zmq[0]} begins a range"
            self.assertIn(f"{first} whose port {taken} cannot be listened on: ", told)
            self.assertFalse(listens(gateway, taken - 1))
            impact = in_the_reactor(gateway.service.plan_reload)
            self.assertEqual([fault.value for fault in impact.faults], [str(gateway.zmq[0])])
            self.assertIn(str(impact.faults[0]), told)
            self.assertFalse(listens(gateway, taken - 1))
            self.assertEqual([m for m in fe.ping() if m["type"] == "port_alloc"], [])
        gateway.reload(relay=gateway.ports(6, 2))
        self.assertTrue(listens(gateway, taken))

    @filed(data={"interface": "::1", "admission": "open"}, zmq=1, srt=0)
    def test_taken_port_of_ipv6(self, gateway: Filed) -> None:
        """A dry run tries the address that the port would have."""
        first = gateway.zmq[0]
        gateway.write(relay={"zmq_start_port": first, "zmq_end_port": first + 1})
        with socket.create_server(("::1", first + 1), family=socket.AF_INET6):
            impact = in_the_reactor(gateway.service.plan_reload)
            self.assertEqual([fault.value for fault in impact.faults], [str(first)])
            self.assertIn(f"port {first + 1} cannot", impact.faults[0].problem)
        impact = in_the_reactor(gateway.service.plan_reload)
        self.assertEqual((impact.faults, impact.ports_added), ((), (first + 1,)))

    @filed()
    def test_other_protocol(self, gateway: Filed) -> None:
        """Idle ports change it; one with a session refuses the reload."""
        client, _ = gateway.fe(), gateway.be()
        swapped: dict[str, Any] = {
            "srt_start_port": gateway.zmq[0], "srt_end_port": gateway.zmq[-1],
            "zmq_start_port": None, "zmq_end_port": None,
        }  # fmt: skip
        fe, be = gateway.pair(gateway.zmq[0])
        self.assertIn("a session runs on it", gateway.refused(relay=swapped))
        fe.close(), be.close()
        client.state(lambda state: state["zmq_busy"] == 0)
        gateway.reload(relay=swapped)
        client.state(lambda state: state["srt_empty_ports"] == gateway.zmq)
        gateway.pair(gateway.zmq[0])

    @filed(zmq=0, srt=0)
    def test_first_ports(self, gateway: Filed) -> None:
        """A gateway that began without any."""
        gateway.fe(), gateway.be()
        first = 20000 + random.randrange(10000)
        gateway.reload(relay={"zmq_start_port": first, "zmq_end_port": first})
        gateway.pair(first)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
