"""Timers and effects of the board (no contract section: the ground of the rules)."""

from __future__ import annotations

import gc

from twisted.trial.unittest import TestCase

from relayx.core import effects as fx
from relayx.core.board import Board, Rules
from relayx.core.messages import PortAlloc, Protocol, Role
from tests.common import RANGES, SRT, ZMQ, CountingNames, Room


def board() -> Board:
    return Board(Rules(ports=RANGES), CountingNames())


class Ports(TestCase):
    """The data ports that the rules are given (section 1)."""

    def test_both_ranges(self) -> None:
        ports = board().ports
        self.assertEqual([p.number for p in ports.of(Protocol.ZMQ)], list(ZMQ))
        self.assertEqual([p.number for p in ports.of(Protocol.SRT)], list(SRT))

    def test_protocol_without_keys_has_none(self) -> None:
        rules = Rules(ports=PortAlloc(srt_start_port=5, srt_end_port=5))
        ports = Board(rules, CountingNames()).ports
        self.assertEqual([p.number for p in ports], [5])
        self.assertEqual(ports.of(Protocol.ZMQ), [])


class Timers(TestCase):
    """What is due is done once, in order, unless it is cancelled."""

    def setUp(self) -> None:
        self.board = board()
        self.done: list[tuple[str, float]] = []

    def at(self, when: float, name: str) -> object:
        return self.board.at(when, lambda now: self.done.append((name, now)))

    def test_nothing_due(self) -> None:
        self.assertIsNone(self.board.next_due())
        self.board.run_due(10.0)
        self.assertEqual(self.done, [])

    def test_in_order_of_time_then_of_asking(self) -> None:
        for when, name in ((5.0, "b"), (3.0, "a"), (5.0, "c")):
            self.at(when, name)
        self.assertEqual(self.board.next_due(), 3.0)
        self.board.run_due(6.0)
        self.assertEqual(self.done, [("a", 6.0), ("b", 6.0), ("c", 6.0)])
        self.assertIsNone(self.board.next_due())

    def test_not_before_its_time(self) -> None:
        self.at(5.0, "a")
        self.board.run_due(4.999)
        self.assertEqual(self.done, [])
        self.board.run_due(5.0)
        self.board.run_due(5.0)
        self.assertEqual(self.done, [("a", 5.0)])

    def test_cancelled(self) -> None:
        due = self.at(5.0, "a")
        self.at(6.0, "b")
        self.board.cancel(due)
        self.assertEqual(self.board.next_due(), 6.0)
        self.board.run_due(7.0)
        self.assertEqual(self.done, [("b", 7.0)])

    def test_cancelled_twice_and_after_it_was_done(self) -> None:
        due, other = self.at(5.0, "a"), self.at(5.0, "b")
        self.board.cancel(due)
        self.board.cancel(due)
        self.board.cancel(None)
        self.board.run_due(5.0)
        self.board.cancel(other)
        self.assertEqual(self.done, [("b", 5.0)])

    def test_what_is_done_may_ask_for_more(self) -> None:
        self.board.at(1.0, lambda now: self.at(now, "again"))
        self.board.run_due(1.0)
        self.assertEqual(self.done, [("again", 1.0)])

    def test_what_is_done_may_cancel_another(self) -> None:
        later = self.at(2.0, "later")
        self.board.at(1.0, lambda now: self.board.cancel(later))
        self.board.run_due(3.0)
        self.assertEqual(self.done, [])

    def test_many_cancelled_leave_the_others(self) -> None:
        """Compacting loses nothing and keeps the order, whatever order they were asked for in."""
        dues = {
            n: self.at(float(n), str(n)) for n in sorted(range(1000), key=lambda n: n * 617 % 1000)
        }
        for n, due in dues.items():
            if n % 10:
                self.board.cancel(due)
        self.assertEqual(self.board.next_due(), 0.0)
        self.board.run_due(2000.0)
        self.assertEqual([name for name, _ in self.done], [str(n) for n in range(0, 1000, 10)])

    def test_cancelled_ones_are_let_go(self) -> None:
        """Leases granted and released for ever do not fill the memory."""
        kept = self.at(1e9, "far")
        for _ in range(5000):
            self.board.cancel(self.at(1e9, "x"))
        alive = sum(type(one) is type(kept) for one in gc.get_objects())
        self.assertTrue(alive < 1000, alive)


class Effects(TestCase):
    """The effects of one event (no section)."""

    def test_taken_once(self) -> None:
        one = board()
        one.emit(fx.CloseControl(1))
        self.assertEqual(one.take(), [fx.CloseControl(1)])
        self.assertEqual(one.take(), [])

    def test_changes_end_in_one_state_changed(self) -> None:
        one = board()
        one.changed()
        one.emit(fx.CloseControl(1))
        one.changed()
        self.assertEqual(one.take("t"), [fx.CloseControl(1), fx.StateChanged("t")])
        self.assertEqual(one.take("t"), [])

    def test_nothing_is_sent_to_a_lost_client(self) -> None:
        room = Room()
        conn = room.be("b")
        client = room.switchboard.client(conn)
        room.lose(conn)
        room.board.send(client, RANGES)
        self.assertEqual(room.board.take(), [])


class Queries(TestCase):
    """What the service asks of the switchboard."""

    def test_clients(self) -> None:
        room = Room()
        fe, be = room.fe("f"), room.be("b")
        switchboard = room.switchboard
        self.assertEqual([c.conn for c in switchboard.clients()], [fe, be])
        self.assertEqual([c.conn for c in switchboard.clients(Role.BE)], [be])
        self.assertEqual(switchboard.client(fe).client_id, "f")
        self.assertIsNone(switchboard.client(99))
        self.assertEqual(repr(switchboard.client(fe)), "<FE 'f' at 192.0.2.1>")

    def test_sessions_running(self) -> None:
        room = Room()
        self.assertEqual(room.switchboard.sessions_running(), 0)
        room.offer(ZMQ[0])
        room.dial(ZMQ[0])
        self.assertEqual(room.switchboard.sessions_running(), 1)

    def test_next_due(self) -> None:
        room = Room()
        self.assertIsNone(room.switchboard.next_due())
        room.offer(ZMQ[0])
        room.acquire(room.fe("f"), ttl_seconds=7)
        self.assertEqual(room.switchboard.next_due(), room.now + 7)
