"""Broker mode: who is not for a side, and how many a side takes."""

from __future__ import annotations

import resource
import socket
import threading
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from relayx import brokering
from tests.admin_peer import until
from tests.live import NEVER
from tests.live_process import twistd
from tests.reloading import in_the_reactor
from tests.scrapes import scrape_of
from tests.test_loopback_process import Limited
from tests.test_zmq_process import BrokeredProcess
from tests.zmq_brokers import HOST, NO_ZMQ, BrokersCase, in_thread
from tests.zmq_gateway import Brokered, Meeting, brokered, meeting

if NO_ZMQ is None:
    import zmq

    from relayx.zmq.settings import Role, Security

PUSHED = {"pattern": "push_pull"}
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + bytes(32)


def ready(kind: bytes) -> bytes:
    """The command READY of a socket of this type."""
    body = b"\x05READY\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind
    return b"\x04" + bytes([len(body)]) + body


def open_descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


class UnfitTests(BrokersCase):
    """Peers that are not for the side that they connect to"""

    def wrong(self, broker: Any, kind: int, role: Role, **options: Any) -> Any:
        """A socket of this kind at a side that it may not be for."""
        peer = self.context.socket(kind)
        peer.linger, peer.reconnect_ivl = 0, -1
        for name, value in options.items():
            setattr(peer, name, value)
        peer.connect(f"tcp://{HOST}:{broker.port(role)}")
        return peer

    async def assertUnfit(self, broker: Any, *reasons: str) -> None:
        """One handshake has failed, for one of these reasons, and its connection is gone."""
        failures = broker.handshake_failures
        await self.told.until(lambda: sum(failures.values()) > 0)
        await self.told.until(lambda: not any(side.live for side in broker.connections.values()))
        self.assertEqual(sum(failures[one] for one in reasons), 1)
        self.assertEqual(sum(failures.values()), 1)

    async def test_sidesSwapped(self) -> None:
        """Of each pattern, on both sides; the peer leaves it to libzmq to hang up."""
        for pattern, front, back in (
            ("push_pull", b"PUSH", b"PULL"),
            ("pub_sub", b"PUB", b"SUB"),
            ("req_rep", b"REQ", b"REP"),
        ):
            for kind, role in ((back, Role.FRONTEND), (front, Role.BACKEND)):
                broker = await self.broker(pattern)
                with socket.create_connection((HOST, broker.port(role))) as peer:
                    peer.sendall(GREETING + ready(kind))
                    await self.assertUnfit(broker, "unfit")

    async def test_real(self) -> None:
        """A peer of libzmq's own; where it hangs up first, that is all that is known."""
        for kind, role in ((zmq.PULL, Role.FRONTEND), (zmq.PUSH, Role.BACKEND)):
            broker = await self.broker("push_pull")
            peer = self.wrong(broker, kind, role)
            await self.assertUnfit(broker, "unfit", "no_detail")
            peer.close()

    async def test_plain(self) -> None:
        """With PLAIN, where libzmq hears of the type first, on our side."""
        broker = await self.broker("push_pull", security=Security.PLAIN, check=lambda *_: True)
        plain = {"plain_username": b"c", "plain_password": b"p"}
        peer = self.wrong(broker, zmq.PULL, Role.FRONTEND, **plain)
        await self.assertUnfit(broker, "unfit")
        peer.close()

    async def test_besideOthers(self) -> None:
        """Beside one that is served, and one that never ends its handshake."""
        broker = await self.broker("push_pull")
        push = self.peer(broker, zmq.PUSH)
        await self.live(broker, 1, 0)
        with socket.create_connection((HOST, broker.port(Role.FRONTEND))) as silent:
            silent.sendall(GREETING)
            await self.told.until(lambda: broker.connections[Role.FRONTEND].live == 2)
            with socket.create_connection((HOST, broker.port(Role.FRONTEND))) as wrong:
                wrong.sendall(GREETING + ready(b"PULL"))
                await self.told.until(lambda: broker.handshake_failures["unfit"] == 1)
        push.send(b"on")
        self.assertEqual(await in_thread(self.peer(broker, zmq.PULL).recv), b"on")
        self.assertEqual(broker.handshake_failures["unfit"], 1)

    async def test_oldVersion(self) -> None:
        """ZMTP 2.0, which libzmq closes without a word."""
        broker = await self.broker("push_pull")
        with socket.create_connection((HOST, broker.port(Role.FRONTEND))) as old:
            old.sendall(b"\xff" + bytes(8) + b"\x7f\x01\x08\x00\x00")
            await self.told.until(lambda: broker.handshake_failures["unfit"] == 1)

    @brokered(PUSHED, http={"endpoint": "tcp:0:interface={host}"})
    def test_told(self, gateway: Brokered) -> None:
        """The log says which socket belongs where, and the metrics count it."""
        peer = gateway.dial(gateway.zmq[0])
        peer.send(GREETING + ready(b"PULL"))

        def told() -> list[str]:
            events = in_the_reactor(gateway.service.admin.recent_events)
            return [event.text for event in events if "unfit" in event.text]

        until(lambda: told())
        front, back = gateway.zmq[:2]
        hint = f"PUSH connects to the frontend, port {front}, and PULL to the backend, port {back}"
        self.assertIn(hint, told()[0])
        labels = {"pattern": "push_pull", "reason": "unfit"}
        found = scrape_of(gateway).of("relayx_broker_handshake_failures_total", **labels)
        self.assertEqual(found, 1)
        peer.close()


class FullTests(BrokersCase):
    """``max_connections``"""

    def knock(self, broker: Any, role: Role) -> socket.socket:
        made = socket.create_connection((HOST, broker.port(role)))
        made.settimeout(30)
        self.addCleanup(made.close)
        return made

    async def test_bound(self) -> None:
        """Beyond it newcomers are closed; who is there stays, and the other side is free."""
        broker = await self.broker("push_pull", max_connections=2)
        push = self.peer(broker, zmq.PUSH)
        await self.live(broker, 1, 0)
        silent = self.knock(broker, Role.FRONTEND)
        side = broker.connections[Role.FRONTEND]
        await self.told.until(lambda: side.live == 2)
        for _ in range(20):
            late = self.knock(broker, Role.FRONTEND)
            await in_thread(_rest, late)
        failures = broker.handshake_failures
        await self.told.until(lambda: failures["full"] == 20)
        self.assertEqual(side.live, 2)
        pull = self.peer(broker, zmq.PULL)
        push.send(b"still")
        self.assertEqual(await in_thread(pull.recv), b"still")
        silent.close()
        await self.told.until(lambda: side.live == 1)
        second = self.peer(broker, zmq.PUSH)
        second.send(b"in turn")
        self.assertEqual(await in_thread(pull.recv), b"in turn")
        self.assertEqual({why: count for why, count in failures.items() if count},
                         {"full": 20, "no_detail": 1})  # fmt: skip

    async def test_nothingLost(self) -> None:
        """A PUSH that is closed has sent nothing, and sends it all once there is room."""
        broker = await self.broker("push_pull", max_connections=1)
        pull = self.peer(broker, zmq.PULL)
        first = self.peer(broker, zmq.PUSH)
        await self.live(broker, 1, 1)
        waiting = self.peer(broker, zmq.PUSH, reconnect_ivl=1)
        for number in range(200):
            waiting.send(b"%d" % number)
        await self.told.until(lambda: broker.handshake_failures["full"] >= 50)
        self.assertFalse(pull.poll(0))
        self.assertEqual(broker.connections[Role.FRONTEND].accepted, 1)
        first.close()
        got = await in_thread(lambda: [pull.recv() for _ in range(200)])
        self.assertEqual(got, [b"%d" % number for number in range(200)])
        self.assertEqual(broker.handshake_failures["unfit"], 0)

    async def test_beforeItIsReady(self) -> None:
        """Who is closed has not been told READY, however late the gateway hears of it."""
        began, let = threading.Event(), threading.Event()
        self.addCleanup(let.set)

        def allow(address: str, side: Any) -> bool:
            """Keeps the thread that hears of connections too, the first time."""
            began.set()
            return let.wait(30)

        broker = await self.broker("push_pull", max_connections=1, allow=allow)
        links = []
        for _ in range(6):
            links.append(self.knock(broker, Role.FRONTEND))
            links[-1].sendall(GREETING + ready(b"PUSH"))
            self.assertTrue(await in_thread(began.wait, 30))
            await in_thread(links[-1].recv, 64, socket.MSG_WAITALL)
        let.set()
        self.assertIn(b"READY", await in_thread(links[0].recv, 1000))
        for link in links[1:]:
            self.assertEqual(await in_thread(_rest, link), b"")

    async def test_manyAtOnce(self) -> None:
        """A hundred that come together: as many as may stay do, the others are closed."""
        broker = await self.broker("req_rep", max_connections=10)
        side = broker.connections[Role.BACKEND]
        links = [self.knock(broker, Role.BACKEND) for _ in range(100)]
        await self.told.until(lambda: broker.handshake_failures["full"] == 90)
        self.assertEqual(side.live, 10)
        for link in links:
            link.close()
        await self.told.until(lambda: side.live == 0)
        self.assertEqual(broker.handshake_failures["no_detail"], 10)

    @brokered({**PUSHED, "max_connections": 1}, http={"endpoint": "tcp:0:interface={host}"})
    def test_told(self, gateway: Brokered) -> None:
        """The log says so, at most once in five seconds however many come."""
        self.patch(brokering, "LOG_EVERY", NEVER)
        gateway.meeting.connect("PULL")
        gateway.fe11().state(lambda state: state["brokers"][0]["clients_backend"] == 1)
        for _ in range(30):
            link = gateway.dial(gateway.zmq[1])
            self.assertIn(link.rest()[1], ("end", "reset"))

        def told() -> list[str]:
            events = in_the_reactor(gateway.service.admin.recent_events)
            return [event.text for event in events if "max_connections" in event.text]

        labels = {"pattern": "push_pull", "reason": "full"}

        def closed() -> float:
            return scrape_of(gateway).of("relayx_broker_handshake_failures_total", **labels)

        until(lambda: closed() >= 30)
        self.assertEqual((closed(), told()), (30, []))
        self.patch(brokering, "LOG_EVERY", 0.0)
        in_the_reactor(gateway.service.brokering._log_connections)
        self.assertEqual(len(told()), 1)


def _rest(link: socket.socket) -> bytes:
    """What comes before a connection's end."""
    rest = b""
    try:
        while more := link.recv(4096):
            rest += more
    except ConnectionResetError:
        pass
    return rest


class Small(Limited, BrokeredProcess):
    """A gateway with one small broker and few descriptors."""

    soft = hard = 300
    brokers = ({**PUSHED, "max_connections": 20, "backlog": 50},)


class Flooded(TestCase):
    """A process whose broker everybody wants to connect to"""

    skip = NO_ZMQ

    def test_descriptors(self) -> None:
        """Four hundred who greet and say nothing more take no more than the broker's share.

        Without a limit they take every descriptor that there is.
        """
        few = {"max_unregistered": 10}
        sections = {
            "relay": {"max_fe": 5, "max_be": 5}, "control": few, "data": {"max_waiting_hello": 5},
        }  # fmt: skip
        with twistd(self.mktemp(), zmq=4, kind=Small, **sections) as gateway:
            pid = gateway.process.pid
            soft, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            self.assertEqual(soft, 300)
            gateway.fe().ping()  # it has started
            before = open_descriptors(pid)
            links = []
            for _ in range(400):
                links.append(socket.create_connection((gateway.host, gateway.zmq[0])))
                self.addCleanup(links[-1].close)
                try:
                    links[-1].sendall(GREETING)
                except OSError:
                    pass  # closed already
            until(lambda: open_descriptors(pid) == before + 20)
            gateway.wait_for("max_connections")
            gateway.fe().ping()
            with meeting(gateway) as peers:
                self.pull(peers)
            for link in links:
                link.close()
            until(lambda: open_descriptors(pid) <= before + 1)
            gateway.terminate()
            status, written = gateway.ended()
        self.assertEqual(status, 0, written)
        self.assertNotIn("Traceback", written)

    def pull(self, peers: Meeting) -> None:
        """The other side has its own share."""
        self.assertTrue(peers.admitted("PULL"))
