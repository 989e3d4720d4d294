"""Brokered ports in the rules: port_state, leases that many share, HELLO refused there."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import TestCase

from relayx.core import effects as fx
from relayx.core.brokered import BrokerPorts
from relayx.core.codec import encode
from relayx.core.errors import Code
from relayx.core.messages import (
    BrokerState,
    Pattern,
    PortAlloc,
    PortRelease,
    PortStateQuery,
    Protocol,
    Role,
    Side,
)
from relayx.core.policy import Policy
from relayx.core.ports import Status
from tests.common import RANGES, SRT, ZMQ, Room, notes, of, refusals, sent, told

RANGE = PortAlloc(zmq_start_port=3001, zmq_end_port=3007, srt_start_port=SRT[0], srt_end_port=4001)
PUSH, PULL = 3004, 3005
PUB, SUB = 3007, 3006
BROKERS = (
    BrokerPorts(Pattern.PUSH_PULL, PUSH, PULL),
    BrokerPorts(Pattern.PUB_SUB, PUB, SUB),
)


class BrokeredCase(TestCase):
    """A room with two brokers and three other zmq ports, an FE and a BE of 1.1."""

    def setUp(self) -> None:
        self.room = Room(ports=RANGE, brokers=BROKERS)
        self.fe, self.be = self.room.fe11("f"), self.room.be11("b")

    def state(self, frontend: int = 0, backend: int = 0) -> BrokerState:
        return BrokerState(
            pattern="push_pull", frontend=PUSH, backend=PULL,
            clients_frontend=frontend, clients_backend=backend,
        )  # fmt: skip

    def clients(self, frontend: int, backend: int) -> list[fx.Effect]:
        counts = {Side.FRONTEND: frontend, Side.BACKEND: backend}
        return self.room.did(self.room.switchboard.broker_clients(PUSH, counts))

    def end(self) -> list[fx.Effect]:
        return self.room.did(self.room.switchboard.broker_ended(PUSH))


class States(BrokeredCase):
    """port_state"""

    def test_lists(self) -> None:
        """In the total and in `brokers`, in no list; ready + empty + busy + reserved is all."""
        self.room.offer(ZMQ[0])
        state = self.room.state()
        assert isinstance(state.brokers, tuple)
        self.assertEqual(state.zmq_total, 7)
        self.assertEqual((state.zmq_ready_ports, state.zmq_empty_ports), (ZMQ[:1], ZMQ[1:]))
        ready = len(state.zmq_ready_ports) + 2 * len(state.brokers)
        self.assertEqual(ready + len(state.zmq_empty_ports) + state.zmq_busy, state.zmq_total)
        self.assertEqual(state.brokers[0], self.state())
        self.assertEqual([one.pattern for one in state.brokers], ["push_pull", "pub_sub"])

    def test_v1(self) -> None:
        """A v1 client sees no broker."""
        self.assertNotIn(b"broker", encode(self.room.state(v11=False)))

    def test_without(self) -> None:
        """Where there is none, a 1.1 client's port_state is what it always was."""
        self.assertNotIn(b"broker", encode(Room().state()))

    def test_query(self) -> None:
        """Who asks for srt ports alone is not told of brokers."""
        for asked, has in ((PortStateQuery(need_srt=True), False), (PortStateQuery(), True)):
            (answer,) = sent(self.room.ask(self.fe, asked), self.fe)
            self.assertEqual(b"brokers" in encode(answer), has)

    def test_clients(self) -> None:
        """Connections that come and go change port_state, once each."""
        self.assertEqual(len(of(self.clients(2, 1), fx.StateChanged)), 1)
        brokers = self.room.state().brokers
        assert isinstance(brokers, tuple)
        self.assertEqual(brokers[0], self.state(2, 1))
        self.assertEqual(brokers[1].clients_frontend, 0)
        self.assertEqual(self.clients(2, 1), [])

    def test_ready(self) -> None:
        """Its ports are ready, under no lease, and of zmq."""
        for number in (PUSH, PULL, PUB, SUB):
            port = self.room.board.ports[number]
            self.assertEqual((port.status, port.reserved), (Status.READY, False))
            self.assertIs(port.protocol, Protocol.ZMQ)
        self.assertEqual(list(self.room.board.ports.ready(Protocol.ZMQ)), [])

    def test_ranges(self) -> None:
        """Ranges that grow leave brokers as they are."""
        grown = msgspec.structs.replace(RANGE, zmq_end_port=3009)
        self.room.change_rules(ports=grown)
        state = self.room.state()
        self.assertEqual((state.zmq_total, state.zmq_empty_ports), (9, (*ZMQ, 3008, 3009)))
        brokers = state.brokers
        assert isinstance(brokers, tuple)
        self.assertEqual(len(brokers), 2)


class Acquiring(BrokeredCase):
    """port_acquire"""

    def test_plain(self) -> None:
        """Without `broker` nobody gets a broker's port, whatever else is there."""
        self.assertEqual(self.room.acquire(self.fe).error_code, Code.PORT_EXHAUSTED)
        for number in ZMQ:
            grant = self.room.acquire(self.be)
            self.assertEqual((grant.zmq_port, grant.broker), (number, ""))
        self.assertEqual(self.room.acquire(self.be).error_code, Code.PORT_EXHAUSTED)

    def test_sides(self) -> None:
        """The side is the one asked for, else that of the role."""
        for conn, side, port in (
            (self.fe, "", PUSH), (self.be, "", PULL), (self.fe, "backend", PULL),
            (self.be, "frontend", PUSH),
        ):  # fmt: skip
            grant = self.room.acquire(conn, need_zmq=False, broker="push_pull", side=side)
            self.assertEqual((grant.zmq_port, grant.srt_port, grant.error), (port, 0, ""))
            self.assertEqual(grant.broker, "push_pull")
            self.assertEqual(grant.side, "frontend" if port == PUSH else "backend")

    def test_many(self) -> None:
        """Any number of leases share a port; each ends by itself."""
        grants = [self.room.acquire(self.fe, broker="pub_sub") for _ in range(5)]
        self.assertEqual({grant.zmq_port for grant in grants}, {PUB})
        self.assertEqual(len({grant.session_id for grant in grants}), 5)
        self.assertEqual(len({grant.ticket for grant in grants}), 5)
        self.room.release(self.fe, grants[0].session_id)
        self.assertEqual(len(self.room.leases(self.fe)), 4)
        self.assertIsNone(self.room.board.ports[PUB].lease)

    def test_told(self) -> None:
        """The requester alone is told: nobody else has to do anything for it."""
        grant = self.room.acquire(self.fe, broker="push_pull")
        self.assertTrue(grant.ticket)
        self.assertEqual(told(self.room.effects, Role.BE), [])
        self.assertEqual(of(self.room.effects, fx.StateChanged), [])
        self.room.release(self.fe, grant.session_id)
        self.assertEqual(of(self.room.effects, fx.Broadcast), [])
        self.assertEqual(of(self.room.effects, fx.StateChanged), [])

    def test_expires(self) -> None:
        """It ends with its time, and its owner is told so."""
        grant = self.room.acquire(self.fe, broker="push_pull", ttl_seconds=5)
        effects = self.room.later(5)
        self.assertEqual(
            sent(effects, self.fe),
            [PortRelease(session_id=grant.session_id, zmq_port=PUSH, error_code=Code.TTL_EXPIRED)],
        )
        self.assertEqual(of(effects, fx.Broadcast), [])
        self.assertEqual(self.room.leases(self.fe), set())

    def test_ownerGone(self) -> None:
        """It ends with its owner."""
        self.room.acquire(self.fe, broker="push_pull")
        self.room.lose(self.fe)
        self.assertEqual(len(self.room.board.leases), 0)

    def test_v1(self) -> None:
        """What v1 does not know, a v1 client has not said."""
        client = self.room.be("old")
        grant = self.room.acquire(client, broker="push_pull")
        self.assertEqual((grant.zmq_port, grant.broker), (ZMQ[0], ""))
        grant = self.room.acquire(client, need_zmq=False, broker="push_pull")
        self.assertEqual(grant.error_code, Code.INVALID_REQUEST)

    def test_refused(self) -> None:
        """What it cannot be asked for with, and what there is not."""
        for asked, code in (
            ({"broker": "pull_push"}, Code.INVALID_REQUEST),
            ({"broker": "push_pull", "side": "left"}, Code.INVALID_REQUEST),
            ({"broker": "push_pull", "need_srt": True}, Code.INVALID_REQUEST),
            ({"broker": "push_pull", "service": "web"}, Code.INVALID_REQUEST),
            ({"broker": "push_pull", "be": "b"}, Code.INVALID_REQUEST),
            ({"broker": "push_pull", "ttl_seconds": 601}, Code.INVALID_REQUEST),
            ({"broker": "req_rep"}, Code.PORT_EXHAUSTED),
        ):
            grant = self.room.acquire(self.fe, **asked)
            self.assertEqual((grant.error_code, grant.session_id), (code, ""), asked)
        self.room.stop()
        grant = self.room.acquire(self.fe, broker="push_pull")
        self.assertEqual(grant.error_code, Code.DRAINING)

    def test_policy(self) -> None:
        """Protocols and leases that a policy allows hold here too."""
        room = Room(
            Policy(match="s*", protocols=(Protocol.SRT,)), Policy(match="f", max_leases=1),
            ports=RANGE, brokers=BROKERS,
        )  # fmt: skip
        grant = room.acquire(room.fe11("s1"), broker="push_pull")
        self.assertEqual(grant.error_code, Code.INVALID_REQUEST)
        client = room.fe11("f")
        self.assertTrue(room.acquire(client, broker="push_pull").session_id)
        self.assertEqual(room.acquire(client, broker="pub_sub").error_code, Code.RATE_LIMITED)

    def test_first(self) -> None:
        """Of two of one pattern everybody gets the first: those who meet come to one."""
        room = Room(ports=RANGE, brokers=(BROKERS[0], BrokerPorts(Pattern.PUSH_PULL, PUB, SUB)))
        for client in (room.fe11("a"), room.fe11("b")):
            self.assertEqual(room.acquire(client, broker="push_pull").zmq_port, PUSH)


class Ending(BrokeredCase):
    """A broker that has ended by itself"""

    def test_state(self) -> None:
        """It is no longer listed, and its ports are reserved: for nobody."""
        self.clients(1, 1)
        self.assertEqual(len(of(self.end(), fx.StateChanged)), 1)
        brokers = self.room.state().brokers
        assert isinstance(brokers, tuple)
        self.assertEqual([one.pattern for one in brokers], ["pub_sub"])
        self.assertTrue(self.room.board.ports[PUSH].reserved)
        self.assertEqual(self.end(), [])

    def test_leases(self) -> None:
        """Leases on its ports end, others do not, and there are no new ones."""
        gone = self.room.acquire(self.fe, broker="push_pull")
        stays = self.room.acquire(self.fe, broker="pub_sub")
        effects = self.end()
        self.assertEqual(
            sent(effects, self.fe),
            [PortRelease(session_id=gone.session_id, zmq_port=PUSH, error_code=Code.BE_LOST)],
        )
        self.assertEqual(self.room.leases(self.fe), {stays.session_id})
        grant = self.room.acquire(self.fe, broker="push_pull")
        self.assertEqual(grant.error_code, Code.PORT_EXHAUSTED)

    def test_all(self) -> None:
        """Where the last has ended, there is no list."""
        room = Room(ports=RANGE, brokers=BROKERS[:1])
        room.switchboard.broker_ended(PUSH)
        self.assertNotIn(b"brokers", encode(room.state()))


class Hellos(BrokeredCase):
    """A data connection that came to a broker's port, by whatever way"""

    def test_refused(self) -> None:
        for role in Role:
            link = self.room.hello(role, PUSH)
            self.assertEqual(refusals(self.room.effects), [(link, Code.NOT_ADMITTED)])
            (note,) = notes(self.room.effects, "refused")
            self.assertIn("broker", note.text)
        self.assertIs(self.room.board.ports[PUSH].status, Status.READY)


class Usual(TestCase):
    """Without brokers"""

    def test_asked(self) -> None:
        room = Room(ports=RANGES)
        grant = room.acquire(room.fe11("f"), broker="push_pull")
        self.assertEqual(grant.error_code, Code.PORT_EXHAUSTED)
