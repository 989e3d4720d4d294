"""TCP and SRT on the same srt ports: leases, admission and the lists, by transport."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import TestCase

from relayx.core import effects as fx
from relayx.core.codec import encode
from relayx.core.errors import Code
from relayx.core.messages import PortAcquire, PortState, Role, ServiceCount, Transport
from relayx.core.refusals import WrongTransportError
from tests.common import ELSEWHERE, SRT, ZMQ, Room, notes, of, pairs, refusals, told

TCP, NATIVE = Transport.TCP, Transport.SRT


class TransportCase(TestCase):
    """A room with an FE and a BE."""

    bridge = False

    def setUp(self) -> None:
        self.room = Room(srt_bridge=self.bridge)
        self.fe, self.be = self.room.fe11("f"), self.room.be11("b")

    def refused(self, link: int, code: Code, *words: str) -> None:
        self.assertEqual(refusals(self.room.effects), [(link, code)])
        (refusal,) = of(self.room.effects, fx.Refuse)
        for word in words:
            self.assertIn(word, refusal.text)

    def waits(self, link: int) -> None:
        self.assertEqual(of(self.room.effects, fx.Wait), [fx.Wait(link)])

    def exhausted(self, conn: int, **asked: object) -> None:
        grant = self.room.acquire(conn, **asked)
        self.assertEqual((grant.error_code, grant.transport), (Code.PORT_EXHAUSTED, "tcp"))


class Words(TestCase):
    """The two transports."""

    def test_other(self) -> None:
        self.assertIs(TCP.other, NATIVE)
        self.assertIs(NATIVE.other, TCP)


class Leases(TransportCase):
    """port_acquire and port_grant by transport, without a bridge."""

    def test_tcp_is_the_default(self) -> None:
        self.room.offer(SRT[0], by=NATIVE)
        self.room.offer(SRT[1])
        grant = self.room.acquire(self.fe, need_srt=True)
        self.assertEqual((grant.srt_port, grant.transport), (SRT[1], "tcp"))
        self.assertNotIn(b"transport", encode(grant))
        self.exhausted(self.fe, need_srt=True)

    def test_srt(self) -> None:
        self.room.offer(SRT[0])
        self.room.offer(SRT[1], by=NATIVE)
        grant = self.room.acquire(self.fe, need_srt=True, transport="srt")
        self.assertEqual((grant.srt_port, grant.transport), (SRT[1], "srt"))
        (heard,) = told(self.room.effects, Role.BE)
        self.assertEqual((heard.transport, heard.ticket), ("srt", ""))
        self.assertIn(b'"transport":"srt"', encode(grant))
        self.exhausted(self.fe, need_srt=True, transport="srt")

    def test_zmq_beside_srt(self) -> None:
        """The transport is that of the srt port; a zmq port's BE came by TCP."""
        self.room.offer(ZMQ[0])
        self.room.offer(SRT[0], by=NATIVE)
        grant = self.room.acquire(self.fe, need_zmq=True, need_srt=True, transport="srt")
        self.assertEqual((grant.zmq_port, grant.srt_port), (ZMQ[0], SRT[0]))
        fe = self.room.dial(ZMQ[0], ticket=grant.ticket)
        self.assertEqual([pair[0] for pair in pairs(self.room.effects)], [fe])

    def test_of_a_be(self) -> None:
        grant = self.room.acquire(self.be, need_srt=True, transport="srt")
        self.assertEqual((grant.srt_port, grant.transport), (SRT[0], "srt"))
        self.assertEqual(told(self.room.effects, Role.FE), [grant])

    def test_unknown(self) -> None:
        grant = self.room.acquire(self.fe, need_srt=True, transport="udp")
        self.assertEqual(grant.error_code, Code.INVALID_REQUEST)
        self.assertIn('"udp"', grant.error)

    def test_srt_for_a_zmq_port_alone(self) -> None:
        grant = self.room.acquire(self.fe, need_zmq=True, transport="srt")
        self.assertEqual(grant.error_code, Code.INVALID_REQUEST)
        self.assertIn("need_srt", grant.error)

    def test_the_request_on_the_wire(self) -> None:
        """What v1 clients send is what it was."""
        self.assertNotIn(b"transport", encode(PortAcquire(need_srt=True)))
        self.assertIn(b'"srt"', encode(PortAcquire(need_srt=True, transport="srt")))


class Admission(TransportCase):
    """The wrong kind of connection is NOT_ADMITTED, before it is anything else."""

    def test_alike(self) -> None:
        for port, by in zip(SRT, (TCP, NATIVE), strict=True):
            be = self.room.offer(port, by=by)
            fe = self.room.dial(port, by=by)
            (pair,) = of(self.room.effects, fx.Pair)
            self.assertEqual((pair.fe, pair.be), (fe, be))
            self.assertEqual((pair.transport_fe, pair.transport_be), (by, by))
            self.assertFalse(pair.shared)

    def test_fe_for_a_waiting_be(self) -> None:
        for port, by in zip(SRT, (TCP, NATIVE), strict=True):
            self.room.offer(port, by=by)
            link = self.room.dial(port, by=by.other)
            self.refused(link, Code.NOT_ADMITTED, "TCP", "SRT", "srt.bridge")

    def test_fe_before_busy(self) -> None:
        self.room.offer(SRT[0])
        self.room.dial(SRT[0])
        self.refused(self.room.dial(SRT[0], by=NATIVE), Code.NOT_ADMITTED)
        self.refused(self.room.dial(SRT[0]), Code.PORT_BUSY)

    def test_fe_under_its_own_lease(self) -> None:
        be = self.room.offer(SRT[0])
        ticket = self.room.acquire(self.fe, need_srt=True).ticket
        self.room.hang_up(be)
        self.refused(self.room.dial(SRT[0], ticket=ticket, by=NATIVE), Code.NOT_ADMITTED, "TCP")
        self.waits(self.room.dial(SRT[0], ticket=ticket))

    def test_fe_under_a_bes_lease(self) -> None:
        self.room.acquire(self.be, need_srt=True, transport="srt")
        self.refused(self.room.dial(SRT[0]), Code.NOT_ADMITTED, "SRT")
        self.waits(self.room.dial(SRT[0], by=NATIVE))

    def test_be_under_an_fes_lease(self) -> None:
        """Only a BE of the lease's transport refills its port."""
        be = self.room.offer(SRT[0], by=NATIVE)
        self.room.acquire(self.fe, need_srt=True, transport="srt")
        self.room.hang_up(be)
        self.refused(self.room.offer(SRT[0]), Code.NOT_ADMITTED, "SRT")
        self.waits(self.room.offer(SRT[0], by=NATIVE))

    def test_be_under_its_own_lease(self) -> None:
        self.room.acquire(self.be, need_srt=True, transport="srt")
        self.refused(self.room.offer(SRT[0], "b"), Code.NOT_ADMITTED, "SRT")
        self.waits(self.room.offer(SRT[0], "b", by=NATIVE))

    def test_be_before_reserved(self) -> None:
        self.room.acquire(self.be, need_srt=True)
        other = {"at": ELSEWHERE}
        self.refused(self.room.offer(SRT[0], "c", by=NATIVE, **other), Code.NOT_ADMITTED)
        self.refused(self.room.offer(SRT[0], "c", **other), Code.PORT_RESERVED)

    def test_no_srt_on_a_zmq_port(self) -> None:
        self.refused(self.room.offer(ZMQ[0], by=NATIVE), Code.NOT_ADMITTED, "zmq")
        self.room.offer(ZMQ[0])
        self.refused(self.room.dial(ZMQ[0], by=NATIVE), Code.NOT_ADMITTED, "zmq")

    def test_another_be_on_a_ready_port(self) -> None:
        """One BE waits on a port, whatever carries it."""
        self.room.offer(SRT[0])
        self.refused(self.room.offer(SRT[0], by=NATIVE), Code.PORT_BUSY)

    def test_it_is_told_as_information(self) -> None:
        """Nothing is wrong with the address, so that it is no warning."""
        self.room.offer(SRT[0])
        self.room.dial(SRT[0], by=NATIVE)
        (note,) = notes(self.room.effects, "refused")
        self.assertEqual(note.level, "info")
        self.assertEqual(WrongTransportError("x").seen, "")


class Bridged(TransportCase):
    """srt.bridge: any FE with any BE."""

    bridge = True

    def test_both_ways(self) -> None:
        for port, by in zip(SRT, (TCP, NATIVE), strict=True):
            be = self.room.offer(port, by=by)
            fe = self.room.dial(port, by=by.other)
            (pair,) = of(self.room.effects, fx.Pair)
            self.assertEqual((pair.fe, pair.be), (fe, be))
            self.assertEqual((pair.transport_fe, pair.transport_be), (by.other, by))

    def test_a_lease_of_its_own_transport_first(self) -> None:
        self.room.offer(SRT[0])
        self.room.offer(SRT[1], by=NATIVE)
        grants = [self.room.acquire(self.fe, need_srt=True, transport="srt") for _ in range(2)]
        self.assertEqual([grant.srt_port for grant in grants], [SRT[1], SRT[0]])
        self.assertEqual([grant.transport for grant in grants], ["srt", "srt"])

    def test_a_lease_of_the_other(self) -> None:
        self.room.offer(SRT[0], by=NATIVE)
        grant = self.room.acquire(self.fe, need_srt=True)
        self.assertEqual((grant.srt_port, grant.transport), (SRT[0], "tcp"))
        for by in (TCP, NATIVE):
            self.room.dial(SRT[0], ticket=grant.ticket, by=by)
            (pair,) = of(self.room.effects, fx.Pair)
            self.room.over(pair.pairing_id, kept=True)

    def test_a_be_refills_an_fes_lease(self) -> None:
        self.room.hang_up(self.room.offer(SRT[0]))
        be = self.room.offer(SRT[0])
        self.room.acquire(self.fe, need_srt=True)
        self.room.hang_up(be)
        self.waits(self.room.offer(SRT[0], by=NATIVE))

    def test_a_bes_own_lease_is_as_it_asked(self) -> None:
        """Every FE was told by what that BE is connected."""
        self.room.acquire(self.be, need_srt=True, transport="srt")
        self.refused(self.room.offer(SRT[0], "b"), Code.NOT_ADMITTED, "SRT")

    def test_no_srt_on_a_zmq_port(self) -> None:
        self.refused(self.room.offer(ZMQ[0], by=NATIVE), Code.NOT_ADMITTED, "zmq")

    def test_turned_off_while_an_fe_waits(self) -> None:
        """It was let wait for a BE that it may not be paired with any more."""
        self.room.acquire(self.be, need_srt=True, transport="srt")
        fe = self.room.dial(SRT[0])
        self.waits(fe)
        self.room.change_rules(srt_bridge=False)
        be = self.room.offer(SRT[0], "b", by=NATIVE)
        self.waits(be)
        self.refused(fe, Code.NOT_ADMITTED, "SRT")
        self.assertEqual(self.room.state().srt_native_ready_ports, (SRT[0],))


class Lists(TransportCase):
    """port_state (section 4) names the ports of SRT BEs apart."""

    def srt(self, **asked: object) -> tuple[object, ...]:
        state = self.room.board.ports.state(**{"v11": True} | asked)
        return state.srt_ready_ports, state.srt_native_ready_ports, state.srt_empty_ports

    def test_none(self) -> None:
        self.assertEqual(self.srt(), ((), (), SRT))

    def test_apart(self) -> None:
        self.room.offer(SRT[0])
        self.room.offer(SRT[1], by=NATIVE)
        self.assertEqual(self.srt(), ((SRT[0],), (SRT[1],), ()))
        self.assertEqual(self.srt(srt=False), ((), (), ()))

    def test_v1_clients_do_not_know_them(self) -> None:
        self.room.offer(SRT[1], by=NATIVE)
        state = self.room.state(v11=False)
        self.assertEqual(
            state,
            PortState(
                zmq_total=3, srt_total=2, zmq_busy=0, srt_busy=0, zmq_ready_ports=(),
                srt_ready_ports=(), zmq_empty_ports=ZMQ, srt_empty_ports=(SRT[0],),
            ),
        )  # fmt: skip
        self.assertIs(state.srt_native_ready_ports, msgspec.UNSET)
        self.assertNotIn(b"native", encode(state))

    def test_reserved(self) -> None:
        self.room.offer(SRT[0], by=NATIVE)
        self.room.acquire(self.fe, need_srt=True, transport="srt")
        self.assertEqual(self.srt(), ((), (), (SRT[1],)))

    def test_busy(self) -> None:
        self.room.offer(SRT[0], by=NATIVE)
        self.room.dial(SRT[0], by=NATIVE)
        self.assertEqual(self.srt(), ((), (), (SRT[1],)))
        self.assertEqual(self.room.state().srt_busy, 1)

    def test_services(self) -> None:
        self.room.offer(SRT[0], by=NATIVE, service="web")
        self.room.offer(SRT[1], service="web")
        state = self.room.state()
        self.assertEqual(state.services, {"web": ServiceCount(0, 1, 1)})
        self.assertEqual(self.srt(), ((), (), ()))
        self.assertIn(b'{"web":{"zmq_ready":0,"srt_ready":1,"srt_native_ready":1}}', encode(state))

    def test_a_be_comes_again_by_another_transport(self) -> None:
        self.room.offer(SRT[0], "b")
        new = self.room.offer(SRT[0], "b", by=NATIVE)
        self.waits(new)
        self.assertEqual(len(of(self.room.effects, fx.StateChanged)), 1)
        self.assertEqual(self.srt(), ((), (SRT[0],), (SRT[1],)))
