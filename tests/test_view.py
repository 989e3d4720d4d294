"""What the admin API shows of ports and sessions by SRT, which several FEs may share."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from relayx.admin import queries
from relayx.core.glance import glance
from relayx.core.messages import Protocol, Role, Transport
from relayx.core.pairing import Stalls
from relayx.data.settings import Settings
from relayx.planes import Look, Planes, Side
from relayx.view import View
from tests.common import SRT, ZMQ, Room

NATIVE = Transport.SRT


class Shared(SynchronousTestCase):
    """A BE by SRT with two FEs, beside one by TCP that waits."""

    def setUp(self) -> None:
        self.room = Room(srt_fan_out=2)
        self.room.fe11("f")
        self.room.be11("b")
        self.room.offer(SRT[0], "b", by=NATIVE, publishes=True)
        for _ in range(2):
            self.room.dial(SRT[0], "f", by=NATIVE)
        self.room.offer(ZMQ[0], "b")
        reactor = MemoryReactorClock()
        reactor.advance(self.room.now)
        look = lambda: glance(self.room.board, self.room.now)  # noqa: E731
        plane = Planes(reactor, Settings(splice=False), self, look)  # type: ignore[arg-type]
        self.view = View(self.room.switchboard, plane, reactor)

    def ports(self, **query: Any) -> list[Any]:
        return list(self.view.ports(queries.PortQuery(**query)).items)

    def test_ports(self) -> None:
        (busy,) = self.ports(state="busy")
        self.assertEqual(
            (busy.port, busy.transport, busy.sessions, busy.pairing_id, busy.client_id),
            (SRT[0], "srt", 2, "pair-1", "b"),
        )
        (ready,) = self.ports(state="ready")
        self.assertEqual((ready.transport, ready.sessions, ready.pairing_id), ("tcp", 0, ""))
        self.assertEqual({port.transport for port in self.ports(state="empty")}, {""})

    def test_added_ports_stand_where_they_belong(self) -> None:
        """By number, also where a reload has put some in before others."""
        before = self.room.rules.ports
        self.room.change_rules(ports=msgspec.structs.replace(before, zmq_start_port=ZMQ[0] - 2))
        numbers = [port.port for port in self.ports()]
        self.assertEqual(numbers, [ZMQ[0] - 2, ZMQ[0] - 1, *ZMQ, *SRT])

    def test_one_busy_port(self) -> None:
        self.assertEqual(self.view.ports_by_protocol()[Protocol.SRT].busy, 1)
        self.assertEqual(self.view.session_count().running, 2)

    def test_sessions(self) -> None:
        found = self.view.sessions(queries.SessionQuery(port=SRT[0])).items
        self.assertEqual([session.pairing_id for session in found], ["pair-1", "pair-2"])
        self.assertEqual({end.transport for s in found for end in (s.fe, s.be)}, {"srt"})

    def test_clients_count_each(self) -> None:
        found = self.view.clients(queries.ClientQuery()).items
        self.assertEqual({c.role: c.sessions for c in found}, {Role.FE: 2, Role.BE: 2})

    def test_the_first_is_over(self) -> None:
        self.room.over("pair-1", kept=True)
        (busy,) = self.ports(state="busy")
        self.assertEqual((busy.sessions, busy.pairing_id), (1, "pair-2"))


class Moving(Planes):
    """A data plane whose every session has delivered so many bytes to its BE.

    :ivar delivered: as many.
    """

    delivered = 0

    def look(self, pairing_id: str) -> Look | None:
        """See Planes."""
        return Look(self.delivered, 0, 0.0, None, False, Stalls(), Side(), Side())

    def bytes_moved(self) -> int:
        """See Planes."""
        return self.delivered


class OfLate(SynchronousTestCase):
    """Rates for those who ask seldom: of the last seconds, not of all the time since."""

    def test_after_an_hour(self) -> None:
        room = Room()
        room.be11("b")
        room.fe11("f")
        room.offer(ZMQ[0], "b")
        room.dial(ZMQ[0], "f")
        clock = MemoryReactorClock()
        planes = Moving(clock, Settings(splice=False), self, lambda: None)  # type: ignore[arg-type]
        view = View(room.switchboard, planes, clock)
        for _ in range(720):
            clock.advance(5)
            view.keep_rates_fresh()
        planes.delivered = 8000
        clock.advance(4)
        (session,) = view.sessions(queries.SessionQuery()).items
        self.assertEqual((session.fe_to_be_rate, view.moved()), (2000.0, (8000, 2000.0)))
