"""A control connection that is held, and one that says too much (contract sections 1 and 2)."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relayx.control.pace import Pace
from relayx.control.protocol import TURN, ControlProtocol
from tests.common import cuts
from tests.test_control_bed import ControlBed, Wire

REGISTER = b'{"type":"register","payload":{"role":"FE"}}'


def query(number: int) -> bytes:
    return b'{"type":"port_state_q","msg_id":"%d"}' % number


class Held(SynchronousTestCase):
    """What comes while a connection is held waits, in its order."""

    def held(self, **settings: int) -> tuple[ControlBed, ControlProtocol, Wire]:
        """A connection that is held from its ``register`` on."""
        bed = ControlBed(self, **settings)
        protocol, wire = bed.connect()
        bed.heard.asked_to_register = lambda *_: protocol.hold()  # type: ignore[method-assign]
        return bed, protocol, wire

    def requests(self, bed: ControlBed) -> list[Any]:
        return [event[3] for event in bed.heard.take() if event[0] == "requested"]

    def test_whatever_way_it_is_cut(self) -> None:
        """TLS hands on what it had read before it was paused."""
        for pieces in cuts(REGISTER + query(1) + query(2) + query(3)):
            bed, protocol, wire = self.held()
            for piece in pieces:
                protocol.dataReceived(piece)
            self.assertEqual((self.requests(bed), wire.producerState), ([], "paused"))
            protocol.go_on()
            self.assertEqual(self.requests(bed), ["1", "2", "3"])
            self.assertEqual(wire.producerState, "producing")
            protocol.dataReceived(query(4))
            self.assertEqual(self.requests(bed), ["4"])

    def test_closed_meanwhile(self) -> None:
        bed, protocol, wire = self.held()
        protocol.dataReceived(REGISTER + query(1))
        protocol.dataReceived(query(2))
        protocol.close()
        protocol.go_on()
        self.assertEqual(self.requests(bed), [])
        self.assertEqual(wire.producerState, "producing", "what comes is read and dropped")

    def test_broken_meanwhile(self) -> None:
        bed, protocol, wire = self.held()
        protocol.dataReceived(REGISTER + query(1) + b"[]")
        protocol.dataReceived(query(2))
        self.assertEqual(wire.said(), [])
        protocol.go_on()
        self.assertEqual(self.requests(bed), ["1"])
        self.assertEqual(wire.said()[0]["payload"]["error_code"], "INVALID_MESSAGE")
        self.assertTrue(protocol.closing)

    def test_going_on_without_being_held(self) -> None:
        bed = ControlBed(self)
        protocol, _ = bed.connect()
        protocol.go_on()
        protocol.dataReceived(REGISTER + query(1))
        self.assertEqual(self.requests(bed), ["1"])


class Slow(Clock):
    """A clock that goes on whenever it is looked at."""

    step = 0.0

    def seconds(self) -> float:
        self.rightNow += self.step
        return float(self.rightNow)


class Turns(SynchronousTestCase):
    """One connection's messages do not keep the others waiting, however long they take."""

    def slow(self) -> tuple[ControlBed, ControlProtocol, Wire, Slow]:
        """A registered connection, of which each message takes half of its turn."""
        clock = Slow()
        bed = ControlBed(self, clock=clock)
        protocol, wire = bed.registered()
        clock.step = TURN / 2
        return bed, protocol, wire, clock

    def test_the_rest_waits(self) -> None:
        bed, protocol, wire, clock = self.slow()
        protocol.dataReceived(b"".join(map(query, range(9))))
        heard = [event[3] for event in bed.heard.take()]
        self.assertTrue(0 < len(heard) < 5, heard)
        self.assertEqual(wire.producerState, "paused")
        protocol.dataReceived(query(9))  # as TLS hands on what it had read
        for _ in range(9):
            clock.advance(0)
            heard += [event[3] for event in bed.heard.take()]
        self.assertEqual(heard, list("0123456789"))
        self.assertEqual(wire.producerState, "producing")

    def test_lost_meanwhile(self) -> None:
        bed, protocol, _, clock = self.slow()
        protocol.dataReceived(b"".join(map(query, range(9))))
        protocol.connectionLost(Failure(ConnectionDone()))
        bed.factory.close()
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_closed_meanwhile(self) -> None:
        bed, protocol, wire, clock = self.slow()
        protocol.dataReceived(b"".join(map(query, range(9))))
        heard = bed.heard.take()
        protocol.close()
        clock.advance(0)
        self.assertEqual(bed.heard.take(), [])
        self.assertTrue(heard)
        self.assertEqual(wire.producerState, "producing", "what comes is read and dropped")


class Paces(SynchronousTestCase):
    """Ten messages a second, twenty at once."""

    def test_burst_then_rate(self) -> None:
        pace = Pace(10, now=0)
        self.assertEqual([pace.allows(0) for _ in range(21)], [True] * 20 + [False])
        self.assertEqual([pace.allows(0.1), pace.allows(0.1)], [True, False])
        self.assertEqual([pace.allows(60) for _ in range(21)], [True] * 20 + [False])

    def test_far_over(self) -> None:
        pace = Pace(10, now=0)
        for _ in range(100):
            pace.allows(0.5)
        self.assertFalse(pace.far_over)
        pace.allows(0.9)
        self.assertTrue(pace.far_over)
        pace.allows(1.0)
        self.assertFalse(pace.far_over, "another second")


class TooMany(SynchronousTestCase):
    """Of messages, and of connections of one source."""

    def test_messages(self) -> None:
        bed = ControlBed(self, messages_per_second=2)
        protocol, wire = bed.registered()
        for number in range(5):
            protocol.dataReceived(query(number))
        self.assertEqual([event[3] for event in bed.heard.take()], ["0", "1", "2"])
        told = [message["payload"] for message in wire.said()]
        self.assertEqual([error["in_reply_to"] for error in told], ["3", "4"])
        self.assertEqual({error["error_code"] for error in told}, {"RATE_LIMITED"})
        bed.clock.advance(0.5)
        protocol.dataReceived(query(5))
        self.assertEqual(bed.heard.take()[0][3], "5")

    def test_dropped(self) -> None:
        bed = ControlBed(self, messages_per_second=2)
        protocol, wire = bed.registered()
        protocol.dataReceived(b"".join(map(query, range(100))))
        self.assertTrue(wire.aborted)
        dropped = [event for event in bed.heard.take() if event[0] == "dropped"]
        self.assertEqual(len(dropped), 1)
        self.assertIn("messages_per_second", dropped[0][3])

    def test_wrong_messages_count(self) -> None:
        """Each is answered, and an answer may have to be signed."""
        bed = ControlBed(self, messages_per_second=2)
        protocol, wire = bed.registered()
        protocol.dataReceived(b'{"type":1}' * 5)
        codes = [message["payload"]["error_code"] for message in wire.said()]
        self.assertEqual(codes, ["INVALID_MESSAGE"] * 3 + ["RATE_LIMITED"] * 2)
        protocol.dataReceived(b'{"type":1}' * 100)
        self.assertTrue(wire.aborted)
        self.assertLess(len(wire.said()), 20)

    def test_before_register(self) -> None:
        """Wrong messages are answered, so that a client may try again, but not for ever."""
        for wrong in (b"{}", b'{"type":1}', b'{"type":"register"}'):
            bed = ControlBed(self)
            protocol, wire = bed.connect()
            protocol.dataReceived(wrong * 15 + REGISTER)
            self.assertEqual([event[0] for event in bed.heard.take()], ["register"], wrong)
            protocol, wire = bed.connect()
            protocol.dataReceived(wrong * 1000)
            self.assertEqual(len(wire.said()), 16)
            self.assertTrue(wire.aborted)
            self.assertEqual([event[0] for event in bed.heard.take()], ["dropped"])

    def test_connections(self) -> None:
        """A warning a minute for each source; an IPv6 source is a /64."""
        bed = ControlBed(self, per_source=1)
        bed.connect("2001:db8::1")
        wires = [bed.connect(f"2001:db8::{number}")[1] for number in range(2, 5)]
        self.assertEqual([wire.aborted for wire in wires], [True] * 3)
        self.assertFalse(bed.connect("2001:db8:0:1::1")[1].aborted)
        self.assertEqual([event[0] for event in bed.heard.take()], ["dropped"])
        bed.clock.advance(60)
        bed.connect("2001:db8::9")
        told = [event for event in bed.heard.take() if event[0] == "dropped"]
        self.assertEqual(len(told), 1)
        self.assertIn("2001:db8::/64", told[0][3])
