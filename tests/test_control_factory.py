"""Many control connections: limits, idle ones, dead ones (contract sections 1 and 3)."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relayx.core.messages import Auth
from relayx.net.newcomers import LINGER
from tests.test_control_bed import ControlBed, Wire


class Unregistered(SynchronousTestCase):
    """control.max_unregistered: past it the oldest is closed (section 1)."""

    def setUp(self) -> None:
        self.bed = ControlBed(self, max_unregistered=2)

    def closed(self, wires: list[Wire]) -> list[bool]:
        return [wire.disconnecting for wire in wires]

    def test_up_to_it(self) -> None:
        wires = [self.bed.connect()[1] for _ in range(2)]
        self.assertEqual(self.closed(wires), [False, False])

    def test_past_it(self) -> None:
        wires = [self.bed.connect()[1] for _ in range(4)]
        self.assertEqual(self.closed(wires), [True, True, False, False])

    def test_what_it_says_afterwards_does_not_count(self) -> None:
        """Over TLS it can still speak until it is reset; it does not register."""
        first, _ = self.bed.connect()
        for _ in range(2):
            self.bed.connect()
        first.dataReceived(b'{"type":"register","payload":{"role":"FE"}}')
        self.assertEqual(self.bed.heard.take(), [])

    def test_registered_ones_do_not_count(self) -> None:
        wires = [self.bed.registered()[1] for _ in range(3)]
        wires += [self.bed.connect()[1] for _ in range(2)]
        self.assertEqual(self.closed(wires), [False] * 5)

    def test_ended_ones_do_not_count(self) -> None:
        first, _ = self.bed.connect()
        first.connectionLost(Failure(ConnectionDone()))
        wires = [self.bed.connect()[1] for _ in range(2)]
        self.assertEqual(self.closed(wires), [False, False])

    def test_refused_ones_do_not_count(self) -> None:
        """They are closing already."""
        first, _ = self.bed.connect()
        first.close()
        wires = [self.bed.connect()[1] for _ in range(2)]
        self.assertEqual(self.closed(wires), [False, False])


class Numbers(SynchronousTestCase):
    """Connections have numbers of their own."""

    def test_get(self) -> None:
        bed = ControlBed(self)
        one, two = bed.connect()[0], bed.connect()[0]
        self.assertEqual((one.conn, two.conn), (1, 2))
        self.assertIs(bed.factory.get(2), two)
        self.assertIsNone(bed.factory.get(3))
        self.assertEqual(bed.factory.open_connections(), 2)

    def test_unix_sockets_have_no_host(self) -> None:
        bed = ControlBed(self)
        self.assertEqual(bed.factory.buildProtocol(None).address, "")

    def test_lost_once(self) -> None:
        bed = ControlBed(self)
        protocol, _ = bed.connect()
        for _ in range(2):
            protocol.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(bed.heard.take(), [("lost", 1)])


class Idle(SynchronousTestCase):
    """control.idle_timeout (section 1)."""

    def test_a_silent_client_is_dropped(self) -> None:
        bed = ControlBed(self, idle_timeout=8.0)
        protocol, wire = bed.registered()
        bed.clock.pump([1.0] * 7)
        self.assertFalse(protocol.closing)
        bed.clock.pump([1.0] * 3)
        self.assertTrue(protocol.closing)
        (event,) = bed.heard.take()
        self.assertEqual(event[0], "dropped")
        self.assertIn("control.idle_timeout", event[3])
        self.assertTrue(wire.half_closed)

    def test_once(self) -> None:
        bed = ControlBed(self, idle_timeout=0.4)
        bed.registered()
        bed.clock.pump([0.1] * 9)
        self.assertEqual(len(bed.heard.take()), 1)

    def test_one_that_speaks_stays(self) -> None:
        bed = ControlBed(self, idle_timeout=8.0)
        protocol, _ = bed.registered()
        for _ in range(10):
            bed.clock.pump([1.0] * 5)
            protocol.dataReceived(b'{"type":"ping","payload":{"c_send":1}}')
        self.assertFalse(protocol.closing)
        self.assertEqual(bed.heard.take(), [])

    def test_never(self) -> None:
        bed = ControlBed(self, idle_timeout=0.0)
        protocol, _ = bed.registered()
        bed.clock.pump([7.5] * 1000)
        self.assertFalse(protocol.closing)
        self.assertEqual(bed.heard.take(), [])

    def test_not_before_it_has_registered(self) -> None:
        bed = ControlBed(self, idle_timeout=1.0, register_timeout=100.0)
        protocol, _ = bed.connect()
        bed.clock.pump([1.0] * 10)
        self.assertFalse(protocol.closing)


class Closing(SynchronousTestCase):
    """The gateway stops (section 9)."""

    def test_closes_all_and_sends_what_waits(self) -> None:
        bed = ControlBed(self)
        protocol, wire = bed.registered()
        other = bed.connect()[1]
        wire.fill()
        protocol.send(Auth(status="ok"))
        bed.factory.close()
        self.assertEqual([m["type"] for m in wire.said()], ["auth"])
        self.assertEqual((wire.disconnecting, other.disconnecting), (True, True))

    def test_leaves_no_timer(self) -> None:
        bed = ControlBed(self)
        bed.connect()
        bed.factory.close()
        bed.factory.release()
        self.assertEqual(bed.clock.getDelayedCalls(), [])

    def test_who_does_not_end_is_reset(self) -> None:
        """Over TLS an end takes an answer, for which there is as long as for a refusal."""
        bed = ControlBed(self)
        _, wire = bed.registered()
        bed.factory.close()
        bed.clock.advance(LINGER - 0.01)
        self.assertFalse(wire.aborted)
        bed.clock.advance(0.01)
        self.assertTrue(wire.aborted)

    def test_who_is_left_when_nobody_is_waited_for_is_reset(self) -> None:
        """After a turn of the reactor that took long, that may come before its time is up."""
        bed = ControlBed(self)
        _, wire = bed.registered()
        bed.factory.close()
        bed.factory.release()
        self.assertTrue(wire.aborted)
        self.assertEqual(bed.clock.getDelayedCalls(), [])

    def test_without_connections(self) -> None:
        bed = ControlBed(self)
        bed.factory.close()
        self.assertEqual(bed.clock.getDelayedCalls(), [])
