"""Port states and the port lists (contract section 4)."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from twisted.trial.unittest import TestCase

from relayx.core.errors import StateError
from relayx.core.messages import PortState, Protocol, ServiceCount
from relayx.core.ports import TRANSITIONS, Change, PortTable, Status
from tests.common import BE_AT, SRT, ZMQ, Room, pairing

ROWS = {
    (Status.EMPTY, Change.BE_WAITS): Status.READY,
    (Status.READY, Change.BE_GONE): Status.EMPTY,
    (Status.READY, Change.PAIRED): Status.BUSY,
    (Status.BUSY, Change.BE_KEPT): Status.READY,
    (Status.BUSY, Change.ENDED): Status.EMPTY,
    (Status.BUSY, Change.JOINED): Status.BUSY,
    (Status.BUSY, Change.LEFT): Status.BUSY,
}
WAY_TO = {
    Status.EMPTY: [],
    Status.READY: [Change.BE_WAITS],
    Status.BUSY: [Change.BE_WAITS, Change.PAIRED],
}


class Transitions(TestCase):
    """One test a row of the table, and one for each pair that is not in it; see below."""

    def table_at(self, status: Status) -> PortTable:
        table = PortTable([(7, Protocol.ZMQ)])
        for change in WAY_TO[status]:
            table.change(table[7], change)
        self.assertIs(table[7].status, status)
        return table

    def ready(self, table: PortTable) -> list[int]:
        return [port.number for port in table.ready(Protocol.ZMQ)]

    def test_no_other_rows(self) -> None:
        self.assertEqual(TRANSITIONS, ROWS)


def _row(before: Status, change: Change, after: Status) -> Callable[[Transitions], None]:
    def test(self: Transitions) -> None:
        table = self.table_at(before)
        table.change(table[7], change)
        self.assertIs(table[7].status, after)
        self.assertEqual(self.ready(table), [7] if after is Status.READY else [])

    return test


def _refused(before: Status, change: Change) -> Callable[[Transitions], None]:
    def test(self: Transitions) -> None:
        table = self.table_at(before)
        with self.assertRaises(StateError) as caught:
            table.change(table[7], change)
        self.assertIn("7", str(caught.exception))
        self.assertIn(before.value, str(caught.exception))
        self.assertIs(table[7].status, before)
        self.assertEqual(self.ready(table), [7] if before is Status.READY else [])

    return test


for _status in Status:
    for _change in Change:
        _after = ROWS.get((_status, _change))
        _name = f"{_status.name}_{_change.name}".lower()
        if _after is None:
            setattr(Transitions, f"test_{_name}_is_refused", _refused(_status, _change))
        else:
            setattr(Transitions, f"test_{_name}", _row(_status, _change, _after))


class Table(TestCase):
    """The ports there are, and which are ready."""

    def test_ports_in_order(self) -> None:
        table = PortTable([(9, Protocol.SRT), (3, Protocol.ZMQ), (7, Protocol.ZMQ)])
        self.assertEqual(len(table), 3)
        self.assertEqual([port.number for port in table], [3, 7, 9])
        self.assertEqual([port.number for port in table.of(Protocol.ZMQ)], [3, 7])
        self.assertEqual([port.number for port in table.of(Protocol.SRT)], [9])

    def test_longest_ready_first(self) -> None:
        table = PortTable([(n, Protocol.ZMQ) for n in (1, 2, 3)])
        for number in (3, 1, 2):
            table.change(table[number], Change.BE_WAITS)
        self.assertEqual([port.number for port in table.ready(Protocol.ZMQ)], [3, 1, 2])
        self.assertEqual(list(table.ready(Protocol.SRT)), [])

    def test_ready_again_is_the_last(self) -> None:
        table = PortTable([(n, Protocol.ZMQ) for n in (1, 2)])
        for number in (1, 2):
            table.change(table[number], Change.BE_WAITS)
        table.change(table[1], Change.PAIRED)
        table.change(table[1], Change.BE_KEPT)
        self.assertEqual([port.number for port in table.ready(Protocol.ZMQ)], [2, 1])


class Lists(TestCase):
    """Counts and lists for each state under each lease (section 4)."""

    def setUp(self) -> None:
        self.room = Room()
        self.fe1, self.be1 = self.room.fe11("f"), self.room.be11("b")

    def zmq(self) -> tuple[tuple[int, ...], tuple[int, ...], int]:
        """Ready, empty and busy zmq ports."""
        state = self.room.state()
        return state.zmq_ready_ports, state.zmq_empty_ports, state.zmq_busy

    def test_nothing_happened(self) -> None:
        self.assertEqual(
            self.room.state(v11=False),
            PortState(
                zmq_total=3, srt_total=2, zmq_busy=0, srt_busy=0, zmq_ready_ports=(),
                srt_ready_ports=(), zmq_empty_ports=ZMQ, srt_empty_ports=SRT,
            ),
        )  # fmt: skip

    def test_no_ports(self) -> None:
        table = PortTable([])
        state = table.state(v11=False)
        self.assertEqual((state.zmq_total, state.srt_total, state.zmq_empty_ports), (0, 0, ()))

    def test_ready(self) -> None:
        self.room.offer(ZMQ[1])
        self.assertEqual(self.zmq(), ((ZMQ[1],), (ZMQ[0], ZMQ[2]), 0))

    def test_lists_are_sorted(self) -> None:
        """The lists are in port order, not in that of becoming ready."""
        for port in (ZMQ[2], ZMQ[0], ZMQ[1]):
            self.room.offer(port)
        self.assertEqual(self.zmq(), (ZMQ, (), 0))

    def test_protocols_apart(self) -> None:
        self.room.offer(SRT[0])
        state = self.room.state()
        self.assertEqual(self.zmq(), ((), ZMQ, 0))
        self.assertEqual((state.srt_ready_ports, state.srt_empty_ports), ((SRT[0],), (SRT[1],)))

    def test_busy(self) -> None:
        self.room.offer(ZMQ[0])
        self.room.dial(ZMQ[0])
        self.assertEqual(self.zmq(), ((), ZMQ[1:], 1))
        self.assertEqual(self.room.state().srt_busy, 0)

    def test_ready_under_an_fes_lease_is_reserved(self) -> None:
        self.room.offer(ZMQ[0])
        self.room.acquire(self.fe1)
        self.assertEqual(self.zmq(), ((), ZMQ[1:], 0))

    def test_empty_under_an_fes_lease_is_empty(self) -> None:
        """A BE refills a port that has lost its BE."""
        link = self.room.offer(ZMQ[0])
        self.room.acquire(self.fe1)
        self.room.hang_up(link)
        self.assertEqual(self.zmq(), ((), ZMQ, 0))

    def test_busy_under_an_fes_lease_is_busy(self) -> None:
        self.room.offer(ZMQ[0])
        session_id = self.room.acquire(self.fe1).session_id
        self.room.dial(ZMQ[0], session_id=session_id)
        self.assertEqual(self.zmq(), ((), ZMQ[1:], 1))

    def test_empty_under_a_bes_lease_is_reserved(self) -> None:
        self.room.acquire(self.be1)
        self.assertEqual(self.zmq(), ((), ZMQ[1:], 0))

    def test_ready_under_a_bes_lease_is_ready(self) -> None:
        self.room.acquire(self.be1)
        self.room.offer(ZMQ[0], "b")
        self.assertEqual(self.zmq(), ((ZMQ[0],), ZMQ[1:], 0))

    def test_busy_under_a_bes_lease_is_busy(self) -> None:
        self.room.acquire(self.be1)
        self.room.offer(ZMQ[0], "b")
        self.room.dial(ZMQ[0])
        self.assertEqual(self.zmq(), ((), ZMQ[1:], 1))

    def test_ready_again_after_a_kept_session(self) -> None:
        self.room.offer(ZMQ[0])
        self.room.dial(ZMQ[0])
        self.room.over(pairing(self.room.effects), kept=True)
        self.assertEqual(self.zmq(), ((ZMQ[0],), ZMQ[1:], 0))

    def test_empty_after_a_session(self) -> None:
        self.room.offer(ZMQ[0])
        self.room.dial(ZMQ[0])
        self.room.over(pairing(self.room.effects))
        self.assertEqual(self.zmq(), ((), ZMQ, 0))

    def test_draining_is_busy(self) -> None:
        self.room.offer(ZMQ[0])
        self.room.dial(ZMQ[0])
        self.room.drains(pairing(self.room.effects))
        self.assertEqual(self.zmq(), ((), ZMQ[1:], 1))


class Services(TestCase):
    """Ports of named services (section 4)."""

    def setUp(self) -> None:
        self.room = Room()

    def test_counted_apart(self) -> None:
        self.room.offer(ZMQ[0], service="web")
        self.room.offer(ZMQ[2], service="web")
        self.room.offer(SRT[0], service="a")
        self.room.offer(ZMQ[1])
        state = self.room.state()
        self.assertEqual(state.services, {"web": ServiceCount(2, 0), "a": ServiceCount(0, 1)})
        self.assertEqual(list(state.services), ["a", "web"])
        self.assertEqual((state.zmq_ready_ports, state.zmq_empty_ports), ((ZMQ[1],), ()))

    def test_none_ready(self) -> None:
        self.assertEqual(self.room.state().services, {})

    def test_v1_clients_do_not_know_them(self) -> None:
        self.room.offer(ZMQ[0], service="web")
        state = self.room.state(v11=False)
        self.assertIs(state.services, msgspec.UNSET)
        self.assertEqual(state.zmq_ready_ports, ())

    def test_reserved_is_not_counted(self) -> None:
        self.room.offer(ZMQ[0], service="web")
        self.room.offer(ZMQ[1], service="web")
        self.room.acquire(self.room.fe11("f"), service="web")
        self.assertEqual(self.room.state().services, {"web": ServiceCount(1, 0)})

    def test_busy_is_not_counted(self) -> None:
        self.room.offer(ZMQ[0], service="web")
        self.room.dial(ZMQ[0], service="web")
        self.assertEqual(self.room.state().services, {})

    def test_port_tells_the_service_of_its_be(self) -> None:
        port = self.room.board.ports[ZMQ[0]]
        self.assertIsNone(port.service)
        link = self.room.offer(ZMQ[0], service="web")
        self.assertEqual(port.service, "web")
        self.assertEqual((port.be.id, port.be.address), (link, BE_AT))
        self.room.dial(ZMQ[0], service="web")
        self.assertEqual(port.service, "web")


class Asked(TestCase):
    """port_state_q: the lists of a protocol that is not needed stay empty (section 3)."""

    def setUp(self) -> None:
        self.table = PortTable([(3, Protocol.ZMQ), (4, Protocol.ZMQ), (9, Protocol.SRT)])
        self.table.change(self.table[4], Change.BE_WAITS)

    def lists(self, **asked: bool) -> tuple[tuple[int, ...], ...]:
        state = self.table.state(v11=False, **asked)
        self.assertEqual((state.zmq_total, state.srt_total), (2, 1))
        return (
            state.zmq_ready_ports, state.zmq_empty_ports, state.srt_ready_ports,
            state.srt_empty_ports,
        )  # fmt: skip

    def test_both(self) -> None:
        self.assertEqual(self.lists(), ((4,), (3,), (), (9,)))

    def test_zmq(self) -> None:
        self.assertEqual(self.lists(srt=False), ((4,), (3,), (), ()))

    def test_srt(self) -> None:
        self.assertEqual(self.lists(zmq=False), ((), (), (), (9,)))
