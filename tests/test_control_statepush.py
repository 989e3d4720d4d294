"""Pushing port_state (contract section 4)."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relayx.control.protocol import ControlProtocol
from relayx.control.statepush import SLICE, StatePush
from relayx.core.messages import PortState
from tests.test_control_bed import ControlBed, Wire

TURN = 1 / 65536


class TurnClock(Clock):
    """What a call puts off with no delay comes a turn later, as in a reactor."""

    def callLater(self, delay: float, *call: Any, **kw: Any) -> Any:
        return super().callLater(max(delay, TURN), *call, **kw)


class Pushing(SynchronousTestCase):
    """A push over a bed of clients; the state is a number that counts up."""

    clients = 3

    def setUp(self) -> None:
        self.bed = ControlBed(self)
        self.clock = TurnClock()
        self.clock.advance(1000.0)
        self.connections = [self.bed.registered() for _ in range(self.clients)]
        self.v11 = {1}
        self.asked: list[bool] = []
        self.number = 1
        self.cost = 0.0
        self.push = StatePush(self.clock, self.bed.factory, self.recipients, self.state)

    def recipients(self) -> list[tuple[int, bool]]:
        return [(protocol.conn, protocol.conn in self.v11) for protocol, _ in self.connections]

    def state(self, v11: bool) -> PortState:
        self.asked.append(v11)
        self.clock.rightNow += self.cost  # the time that it takes to make
        return PortState(
            zmq_total=self.number, srt_total=0, zmq_busy=0, srt_busy=0, zmq_ready_ports=(),
            srt_ready_ports=(), zmq_empty_ports=(), srt_empty_ports=(),
            **({"services": {}} if v11 else {}),
        )  # fmt: skip

    def got(self, number: int = 0) -> list[Any]:
        """What the messages to one client said since the last look."""
        return [m["payload"]["zmq_total"] for m in self.wire(number).said()]

    def wire(self, number: int) -> Wire:
        return self.connections[number][1]

    def protocol(self, number: int) -> ControlProtocol:
        return self.connections[number][0]


class When(Pushing):
    """The first within 20 ms, the next at least 20 ms later."""

    def test_not_without_a_change(self) -> None:
        self.clock.advance(10)
        self.assertEqual((self.got(), self.asked), ([], []))

    def test_first_within_20_ms(self) -> None:
        self.push.changed("")
        self.assertEqual(self.got(), [])
        self.clock.advance(0.02)
        self.assertEqual([self.got(n) for n in range(3)], [[1], [1], [1]])

    def test_once(self) -> None:
        self.push.changed("")
        self.clock.advance(0.02)
        self.got()
        self.clock.advance(10)
        self.assertEqual(self.got(), [])

    def test_next_at_least_20_ms_later(self) -> None:
        self.push.changed("")
        step = 1 / 1024
        self.clock.pump([step] * 6)
        self.assertEqual(self.got(), [1])
        self.number = 2
        self.push.changed("")
        self.clock.pump([step] * 19)
        self.assertEqual(self.got(), [])
        self.clock.pump([step] * 3)
        self.assertEqual(self.got(), [2])

    def test_after_a_pause_within_20_ms_again(self) -> None:
        self.push.changed("")
        self.clock.advance(1)
        self.got()
        self.push.changed("")
        self.clock.advance(0.02)
        self.assertEqual(self.got(), [1])

    def test_many_changes_are_one_push(self) -> None:
        for number in range(1, 50):
            self.number = number
            self.push.changed("")
        self.clock.advance(0.02)
        self.assertEqual(self.got(), [49])

    def test_churn_is_at_most_50_a_second(self) -> None:
        pushes = 0
        for _ in range(1000):
            self.push.changed("")
            self.clock.advance(0.001)
            pushes += len(self.got())
        self.assertTrue(45 <= pushes <= 50, pushes)

    def test_further_apart_under_load(self) -> None:
        """A push that took 50 ms is followed by none for as long again, at least."""
        self.cost = 0.025
        self.push.changed("")
        self.clock.advance(0.005)
        self.assertEqual(self.got(), [1])
        self.cost = 0.0
        self.push.changed("")
        self.clock.advance(0.099)
        self.assertEqual(self.got(), [])
        self.clock.advance(0.1)
        self.assertEqual(self.got(), [1])

    def test_closed(self) -> None:
        self.push.changed("")
        self.push.close()
        self.push.changed("")
        self.clock.advance(1)
        self.assertEqual((self.got(), self.asked), ([], []))

    def test_closed_before_anything(self) -> None:
        self.push.close()
        self.push.changed("")
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.time < 1000.1], [])


class What(Pushing):
    """Encoded once for each kind of client; only the newest to one that lags."""

    def test_encoded_once_a_kind(self) -> None:
        before = self.bed.names.given["msg"]
        self.push.changed("")
        self.clock.advance(0.02)
        self.assertEqual(sorted(self.asked), [False, True])
        self.assertEqual(self.bed.names.given["msg"] - before, 2)

    def test_each_kind_its_own(self) -> None:
        self.push.changed("")
        self.clock.advance(0.02)
        payloads = [self.wire(n).said()[0]["payload"] for n in range(3)]
        self.assertEqual(["services" in payload for payload in payloads], [True, False, False])

    def test_a_client_that_lags_gets_only_the_newest(self) -> None:
        self.wire(0).fill()
        for number in (1, 2, 3):
            self.number = number
            self.push.changed("")
            self.clock.advance(0.1)
        self.assertEqual((self.got(0), self.got(1)), ([], [1, 2, 3]))
        self.wire(0).empty()
        self.assertEqual(self.got(0), [3])

    def test_a_client_that_is_gone(self) -> None:
        self.push.changed("")
        self.protocol(0).connectionLost()
        self.clock.advance(0.02)
        self.assertEqual(self.got(1), [1])

    def trace(self) -> str | None:
        (message,) = self.wire(0).said()
        return message.get("trace_id")

    def test_trace_id_of_the_one_request(self) -> None:
        self.push.changed("t")
        self.push.changed("t")
        self.clock.advance(0.02)
        self.assertEqual(self.trace(), "t")

    def test_no_trace_id_of_two_requests(self) -> None:
        for trace_id in ("t", "u", "v"):
            self.push.changed(trace_id)
        self.clock.advance(0.02)
        self.assertIsNone(self.trace())

    def test_no_trace_id_of_a_request_and_something_else(self) -> None:
        self.push.changed("t")
        self.push.changed("")
        self.clock.advance(0.02)
        self.assertIsNone(self.trace())

    def test_trace_id_is_not_kept(self) -> None:
        self.push.changed("t")
        self.clock.advance(0.02)
        self.trace()
        self.push.changed("u")
        self.clock.advance(0.02)
        self.assertEqual(self.trace(), "u")


class Slices(Pushing):
    """Sent in slices, so that the reactor never stalls for it."""

    clients = 2 * SLICE + 5

    def sent(self) -> int:
        return sum(bool(wire.value()) for _, wire in self.connections)

    def test_a_slice_a_turn(self) -> None:
        self.push.changed("")
        self.clock.advance(0.02)
        self.assertEqual(self.sent(), SLICE)
        self.clock.advance(TURN)
        self.assertEqual(self.sent(), 2 * SLICE)
        self.clock.advance(TURN)
        self.assertEqual(self.sent(), self.clients)
        self.assertEqual(sorted(self.asked), [False, True])

    def test_a_change_in_between_is_pushed_after_it(self) -> None:
        self.push.changed("t")
        self.clock.advance(0.02)
        self.number = 2
        self.push.changed("u")
        self.clock.pump([TURN] * 3)
        self.assertEqual(self.got(-1), [1])
        self.assertEqual(sorted(self.asked), [False, True], "made once however long it takes")
        self.clock.advance(0.02)
        self.clock.pump([TURN] * 3)
        (message,) = self.wire(-1).said()
        self.assertEqual((message["payload"]["zmq_total"], message["trace_id"]), (2, "u"))

    def test_nobody_gets_a_state_older_than_one_that_it_has(self) -> None:
        self.push.changed("")
        self.clock.advance(0.02)
        self.number = 2
        self.push.changed("")
        self.push.told(self.protocol(-1).conn)
        self.clock.pump([TURN] * 3)
        self.assertEqual((self.got(-1), self.got(-2)), ([], [1]))
        self.clock.advance(0.02)
        self.clock.pump([TURN] * 3)
        self.assertEqual((self.got(-1), self.got(-2)), ([2], [2]))

    def test_who_was_told_the_same_is_not_passed_over(self) -> None:
        """It may have asked for one protocol only, and no other push is due."""
        self.push.changed("")
        self.clock.advance(0.02)
        self.push.told(self.protocol(-1).conn)
        self.clock.pump([TURN] * 3)
        self.assertEqual(self.got(-1), [1])

    def test_who_was_told_before_a_push_is_not_passed_over(self) -> None:
        self.push.told(self.protocol(-1).conn)
        self.push.changed("")
        self.clock.advance(0.02)
        self.clock.pump([TURN] * 3)
        self.assertEqual(self.got(-1), [1])

    def test_closed_in_between(self) -> None:
        self.push.changed("")
        self.clock.advance(0.02)
        self.push.close()
        self.clock.pump([TURN, TURN, 1])
        self.assertEqual(self.sent(), SLICE)
