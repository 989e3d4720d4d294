"""Several FEs that watch one BE's SRT stream on one port (srt.fan_out)."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import TestCase

from relayx.core import effects as fx
from relayx.core.errors import Code
from relayx.core.messages import Cause, PortAlloc, SessionEnd, Transport
from tests.common import (
    ELSEWHERE,
    FE_AT,
    SRT,
    ZMQ,
    Room,
    closed,
    of,
    pairing,
    pairs,
    refusals,
    sent,
)

PORT = SRT[0]
NATIVE = Transport.SRT


class FanOutCase(TestCase):
    """A BE publishes on the port; up to three may watch."""

    rules: dict[str, Any] = {}

    def setUp(self) -> None:
        self.room = Room(**{"srt_fan_out": 3} | self.rules)
        self.fe, self.be = self.room.fe11("f"), self.room.be11("b")

    def publish(self, client_id: str = "b", **said: Any) -> int:
        return self.room.offer(PORT, client_id, **{"by": NATIVE, "publishes": True} | said)

    def watch(self, **said: Any) -> int:
        return self.room.dial(PORT, **{"by": NATIVE} | said)

    def watched(self, **said: Any) -> str:
        """A session of one more FE."""
        self.watch(**said)
        return pairing(self.room.effects)

    def refused(self, link: int, code: Code) -> None:
        self.assertEqual(refusals(self.room.effects), [(link, code)])
        self.assertEqual(pairs(self.room.effects), [])

    @property
    def port(self) -> Any:
        return self.room.board.ports[PORT]


class Joining(FanOutCase):
    """Who is let in while a session runs."""

    def test_all_that_may(self) -> None:
        be = self.publish()
        fes = []
        for number in (1, 2, 3):
            fes.append(self.watch())
            (pair,) = of(self.room.effects, fx.Pair)
            self.assertEqual((pair.fe, pair.be, pair.shared), (fes[-1], be, True))
            self.assertEqual(len(self.port.sessions), number)
            self.assertEqual(self.room.state().srt_busy, 1)
            self.assertEqual(len(of(self.room.effects, fx.StateChanged)), int(number == 1))
        self.assertEqual(set(self.room.board.links), {be, *fes})
        self.assertIs(self.port.session, self.room.board.sessions["pair-1"])
        self.assertEqual(self.port.be.id, be)
        self.refused(self.watch(), Code.PORT_BUSY)

    def test_a_busy_port_is_in_no_list(self) -> None:
        """Though one more may come."""
        self.publish()
        self.watch()
        state = self.room.state()
        self.assertEqual((state.srt_native_ready_ports, state.srt_empty_ports), ((), SRT[1:]))

    def test_one_is_over_and_another_comes(self) -> None:
        self.publish()
        first = self.watched()
        for _ in range(2):
            self.watch()
        self.room.over(first, kept=True)
        self.assertEqual(pairs(self.room.effects), [])
        self.watched()
        self.refused(self.watch(), Code.PORT_BUSY)

    def test_one_session_where_it_is_off(self) -> None:
        room = self.room = Room(srt_fan_out=1)
        self.publish()
        self.watch()
        (pair,) = of(room.effects, fx.Pair)
        self.assertFalse(pair.shared)
        self.refused(self.watch(), Code.PORT_BUSY)

    def test_a_be_that_does_not_publish(self) -> None:
        self.publish(publishes=False)
        self.assertFalse(self.room.board.sessions[self.watched()].shared)
        self.refused(self.watch(), Code.PORT_BUSY)

    def test_another_be(self) -> None:
        self.publish()
        self.watch()
        self.refused(self.publish("c", at=ELSEWHERE), Code.PORT_BUSY)

    def test_an_fe_by_tcp(self) -> None:
        self.publish()
        self.watch()
        self.refused(self.watch(by=Transport.TCP), Code.NOT_ADMITTED)

    def test_another_service(self) -> None:
        self.publish(service="cam")
        self.watched(service="cam")
        self.refused(self.watch(), Code.NOT_ADMITTED)
        self.watched(service="cam")

    def test_one_is_being_drained(self) -> None:
        self.publish()
        first = self.watched()
        self.watched()
        self.room.drains(first)
        self.refused(self.watch(), Code.PORT_BUSY)
        self.room.over(first, kept=True)
        self.watched()

    def test_one_was_asked_to_end(self) -> None:
        self.publish()
        first = self.watched()
        self.room.switchboard.end_session(first, Cause.ADMIN)
        self.refused(self.watch(), Code.PORT_BUSY)
        self.room.over(first, kept=True)
        self.watched()

    def test_the_be_is_gone(self) -> None:
        self.publish()
        first, _ = self.watched(), self.watched()
        self.room.over(first)
        self.refused(self.watch(), Code.PORT_BUSY)

    def test_stopping(self) -> None:
        self.publish()
        self.watch()
        self.room.stop()
        self.refused(self.watch(), Code.DRAINING)

    def test_turned_on_while_a_session_runs(self) -> None:
        """Its engine was not told to share the BE."""
        self.room = Room(srt_fan_out=1)
        self.publish()
        self.watch()
        self.room.change_rules(srt_fan_out=3)
        self.refused(self.watch(), Code.PORT_BUSY)

    def test_turned_off_while_sessions_run(self) -> None:
        self.publish()
        for _ in range(2):
            self.watch()
        self.room.change_rules(srt_fan_out=2)
        self.refused(self.watch(), Code.PORT_BUSY)
        self.assertEqual(len(self.port.sessions), 2)


class OverABridge(FanOutCase):
    """A session over the bridge has its BE for itself."""

    rules = {"srt_bridge": True}

    def test_the_first_by_tcp(self) -> None:
        self.publish()
        self.assertFalse(self.room.board.sessions[self.watched(by=Transport.TCP)].shared)
        self.refused(self.watch(), Code.PORT_BUSY)

    def test_a_further_one_by_tcp(self) -> None:
        self.publish()
        self.watch()
        self.refused(self.watch(by=Transport.TCP), Code.PORT_BUSY)

    def test_a_be_by_tcp(self) -> None:
        self.publish(by=Transport.TCP)
        self.watch()
        self.refused(self.watch(), Code.PORT_BUSY)


class UnderALease(FanOutCase):
    """A lease is asked of the others as of the first."""

    def lease(self, conn: int, **asked: Any) -> Any:
        return self.room.acquire(conn, need_srt=True, transport="srt", **asked)

    def test_an_fes(self) -> None:
        self.publish()
        grant = self.lease(self.fe)
        said = [{"ticket": grant.ticket, "at": ELSEWHERE}, {"session_id": grant.session_id}, {}]
        for one in said:
            name = self.watched(**one)
            self.assertEqual(self.room.board.sessions[name].session_id, grant.session_id)

    def test_an_fes_that_is_anothers(self) -> None:
        self.publish()
        self.watched(ticket=self.lease(self.fe).ticket)
        self.refused(self.watch(at=ELSEWHERE), Code.PORT_RESERVED)
        self.refused(self.watch(ticket="TICKET-9"), Code.NOT_ADMITTED)

    def test_a_bes(self) -> None:
        grant = self.lease(self.be)
        self.publish()
        for said in ({}, {"ticket": grant.ticket}, {"at": ELSEWHERE}):
            name = self.watched(**said)
            self.assertEqual(self.room.board.sessions[name].session_id, grant.session_id)

    def test_an_fes_that_has_expired(self) -> None:
        """It lies over the port until the sessions are over, for nobody new."""
        self.publish()
        grant = self.lease(self.fe, ttl_seconds=5)
        first = self.watched(ticket=grant.ticket)
        self.room.later(5)
        for said in ({"ticket": grant.ticket}, {}):
            self.refused(self.watch(**said), Code.TTL_EXPIRED)
        self.room.over(first, kept=True)
        self.assertEqual(self.room.leases(self.fe), set())
        self.watched()

    def test_a_bes_that_has_expired(self) -> None:
        """Whoever does not name it is as free as on a port under none."""
        grant = self.lease(self.be, ttl_seconds=5)
        self.publish()
        self.watch()
        self.room.later(5)
        self.refused(self.watch(ticket=grant.ticket), Code.TTL_EXPIRED)
        self.assertEqual(self.room.board.sessions[self.watched()].session_id, "")

    def test_it_ends_with_the_last_session(self) -> None:
        self.publish()
        grant = self.lease(self.fe, ttl_seconds=5)
        first, second = (self.watched(ticket=grant.ticket) for _ in range(2))
        self.room.later(5)
        self.room.over(first, kept=True)
        self.assertEqual(self.room.leases(self.fe), {grant.session_id})
        self.room.over(second, kept=True)
        self.assertEqual(self.room.leases(self.fe), set())

    def test_once_waited_for(self) -> None:
        """How long the lease waited for its first session is told with that one alone."""
        self.publish()
        grant = self.lease(self.fe)
        waited = []
        for _ in range(2):
            self.watch(ticket=grant.ticket)
            waited += [pair.lease_waited for pair in of(self.room.effects, fx.Pair)]
        self.assertEqual(waited, [0, None])

    def test_no_fe_waits_where_one_runs_on(self) -> None:
        """It would wait for as long as that one lasts."""
        self.publish()
        ticket = self.lease(self.fe).ticket
        first, _ = (self.watched(ticket=ticket) for _ in range(2))
        self.room.drains(first)
        self.refused(self.watch(ticket=ticket), Code.PORT_BUSY)

    def test_an_fe_waits_where_all_are_drained(self) -> None:
        """As after one session: it has the lease, and the BE is about to be there again."""
        be = self.publish()
        grant = self.lease(self.fe)
        first, second = (self.watched(ticket=grant.ticket) for _ in range(2))
        self.room.drains(first)
        self.room.drains(second)
        fe = self.watch(ticket=grant.ticket)
        self.assertEqual(self.room.effects, [fx.Wait(fe)])
        self.refused(self.watch(ticket=grant.ticket), Code.PORT_BUSY)
        self.room.over(first, kept=True)
        self.assertEqual(pairs(self.room.effects), [])
        self.room.over(second, kept=True)
        self.assertEqual(pairs(self.room.effects), [(fe, be)])


class Ending(FanOutCase):
    """One session after the other, and all at once."""

    def setUp(self) -> None:
        super().setUp()
        self.link = self.publish()
        self.fes = [self.watch(client_id="f") for _ in range(3)]
        self.names = list(self.room.board.sessions)

    def test_the_port_is_busy_until_the_last(self) -> None:
        for name, fe in list(zip(self.names, self.fes, strict=True))[:2]:
            self.room.over(name, kept=True)
            self.assertEqual(of(self.room.effects, fx.StateChanged), [])
            self.assertEqual(self.room.state().srt_busy, 1)
            self.assertNotIn(fe, self.room.board.links)
            self.assertIn(self.link, self.room.board.links)
        self.assertEqual(list(self.port.sessions), self.names[2:])
        self.room.over(self.names[2], kept=True)
        self.assertEqual(of(self.room.effects, fx.Wait), [fx.Wait(self.link)])
        self.assertEqual(self.room.state().srt_native_ready_ports, (PORT,))
        self.assertEqual(set(self.room.board.links), {self.link})

    def test_each_end_hears_of_each(self) -> None:
        for name in self.names:
            self.room.over(name, kept=True)
            for conn in (self.fe, self.be):
                ends = [x for x in sent(self.room.effects, conn) if isinstance(x, SessionEnd)]
                self.assertEqual([end.pairing_id for end in ends], [name])
        self.assertEqual(self.room.switchboard.sessions_ended(), {Cause.FE_CLOSED: 3})

    def test_the_be_is_gone(self) -> None:
        """It is forgotten with the last of its sessions, whatever is said of that one."""
        self.room.over(self.names[0])
        self.room.over(self.names[1])
        self.assertIn(self.link, self.room.board.links)
        self.room.over(self.names[2], kept=True)
        self.assertEqual(of(self.room.effects, fx.Wait) + closed(self.room.effects), [])
        self.assertEqual(self.room.board.links, {})
        self.assertEqual(self.room.state().srt_empty_ports, SRT)

    def test_the_be_of_the_last_alone_is_gone(self) -> None:
        for name in self.names[:2]:
            self.room.over(name, kept=True)
        self.room.over(self.names[2])
        self.assertEqual(self.room.board.links, {})
        self.assertEqual(self.room.state().srt_empty_ports, SRT)

    def test_once_more(self) -> None:
        self.room.over(self.names[0], kept=True)
        self.assertEqual(self.room.over(self.names[0], kept=True), [])

    def test_stopping(self) -> None:
        self.room.stop()
        effects = self.room.did(self.room.switchboard.end_sessions(Cause.DRAIN))
        self.assertEqual([effect.pairing_id for effect in effects], self.names)
        for name in self.names[:2]:
            self.room.over(name, kept=True)
            self.assertEqual(closed(self.room.effects), [])
        self.room.over(self.names[2], kept=True)
        self.assertEqual(closed(self.room.effects), [self.link])

    def test_the_be_is_reaped(self) -> None:
        self.room.lose(self.be)
        effects = of(self.room.later(10), fx.EndSession)
        self.assertEqual([effect.pairing_id for effect in effects], self.names)
        self.assertEqual({effect.cause for effect in effects}, {Cause.BE_LOST})
        self.assertEqual(closed(self.room.effects), [])

    def test_the_port_is_retired(self) -> None:
        ranges = PortAlloc(zmq_start_port=ZMQ[0], zmq_end_port=ZMQ[-1])
        touched = self.room.switchboard.touched_by(ranges)
        self.assertEqual(touched.sessions, tuple(self.names))
        self.assertEqual(touched.clients, ("b", "f"))
        self.room.change_rules(ports=ranges)
        self.assertEqual(self.room.state().srt_total, 1)
        for name in self.names[:2]:
            self.room.over(name, kept=True)
            self.assertIn(PORT, [port.number for port in self.room.board.ports])
        self.room.over(self.names[2], kept=True)
        self.assertEqual(closed(self.room.effects), [self.link])
        self.assertNotIn(PORT, [port.number for port in self.room.board.ports])

    def test_the_port_cannot_change_its_protocol(self) -> None:
        ranges = PortAlloc(zmq_start_port=PORT, zmq_end_port=PORT)
        self.room.over(self.names[0], kept=True)
        self.assertEqual(self.room.switchboard.touched_by(ranges).blocked, (PORT,))

    def test_an_fe_is_taken_over(self) -> None:
        """Its sessions are the new one's."""
        again = self.room.fe11("f", at=FE_AT, instance="i")
        self.room.over(self.names[0], kept=True)
        ends = [x for x in sent(self.room.effects, again) if isinstance(x, SessionEnd)]
        self.assertEqual(len(ends), 1)
