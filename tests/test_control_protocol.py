"""The control connection: framing, errors, registering, pong (contract sections 2 and 3)."""

from __future__ import annotations

import socket

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relayx.core.messages import PortStateQuery, Register
from relayx.net.newcomers import LINGER
from tests.common import cuts
from tests.test_control_bed import ControlBed

REGISTER = (
    b'{"type":"register","payload":{"role":"FE","secret":"s","client_id":"c"},"trace_id":"t"}'
)
QUERY = b'{"type":"port_state_q","msg_id":"m","trace_id":"t","payload":{"need_zmq":true}}'


class Framing(SynchronousTestCase):
    """Objects in, whatever way they are cut (section 2)."""

    def test_register_and_query_cut_anyhow(self) -> None:
        sample = REGISTER + QUERY + b"\n\n" + QUERY
        for pieces in cuts(sample):
            bed = ControlBed(self)
            protocol, _ = bed.connect()
            for piece in pieces:
                protocol.dataReceived(piece)
            query = ("requested", 1, PortStateQuery(need_zmq=True), "m", "t")
            asked = Register(role="FE", secret="s", client_id="c")
            self.assertEqual(
                bed.heard.take(), [("register", 1, "192.0.2.1", asked, "t"), query, query]
            )

    def broken(self, data: bytes, **settings: int) -> None:
        bed = ControlBed(self, **settings)
        protocol, wire = bed.registered()
        protocol.dataReceived(QUERY + data)
        self.assertEqual([event[0] for event in bed.heard.take()], ["requested", "dropped"])
        (message,) = wire.said()
        self.assertEqual(message["type"], "error")
        self.assertEqual(message["payload"]["error_code"], "INVALID_MESSAGE")
        self.assertNotIn("in_reply_to", message["payload"])
        self.assertTrue(wire.half_closed)
        self.assertFalse(wire.disconnecting)
        self.assertTrue(protocol.closing)

    def test_not_an_object(self) -> None:
        self.broken(b"[1]")

    def test_not_json(self) -> None:
        self.broken(b"{nonsense}")

    def test_not_utf8(self) -> None:
        self.broken(b'{"type":"\xff"}')

    def test_too_deep(self) -> None:
        self.broken(b'{"type":"ping","payload":' + b"[" * 32)

    def test_too_long(self) -> None:
        """control.max_message_bytes."""
        self.broken(b'{"type":"' + b"x" * 200, max_message_bytes=200)

    def test_longest(self) -> None:
        bed = ControlBed(self, max_message_bytes=len(QUERY))
        protocol, wire = bed.registered()
        protocol.dataReceived(QUERY)
        self.assertEqual(len(bed.heard.take()), 1)
        self.assertEqual(wire.said(), [])

    def test_what_follows_is_dropped(self) -> None:
        bed = ControlBed(self)
        protocol, wire = bed.registered()
        protocol.dataReceived(b"x" + QUERY)
        protocol.dataReceived(QUERY)
        self.assertEqual([event[0] for event in bed.heard.take()], ["dropped"])
        self.assertEqual(len(wire.said()), 1)

    def test_closed_after_a_second(self) -> None:
        """What still comes is read and dropped for up to 1 s."""
        self.assertEqual(LINGER, 1.0)
        bed = ControlBed(self)
        protocol, wire = bed.registered()
        protocol.dataReceived(b"x")
        bed.clock.advance(0.999)
        self.assertFalse(wire.disconnecting)
        self.assertEqual(wire.producerState, "producing")
        bed.clock.advance(0.001)
        self.assertTrue(wire.disconnecting)

    def test_objects_after_a_close_do_not_count(self) -> None:
        """Two objects in one segment, the first closes: the second is void."""
        bed = ControlBed(self)
        protocol, _ = bed.connect()
        bed.heard.asked_to_register = lambda *_: protocol.close()
        protocol.dataReceived(REGISTER + QUERY)
        self.assertEqual(bed.heard.take(), [])


class Mistakes(SynchronousTestCase):
    """A well-formed message that is wrong: error, and the connection stays (section 2)."""

    def setUp(self) -> None:
        self.bed = ControlBed(self)
        self.protocol, self.wire = self.bed.registered()

    def error(self, said: bytes) -> dict[str, object]:
        self.protocol.dataReceived(said)
        self.assertEqual(self.bed.heard.take(), [])
        self.assertFalse(self.protocol.closing)
        self.assertFalse(self.wire.half_closed)
        (message,) = self.wire.said()
        self.assertEqual(message["type"], "error")
        return message

    def test_unknown_type(self) -> None:
        message = self.error(b'{"type":"dance","msg_id":"m-1","trace_id":"t"}')
        self.assertEqual(message["payload"]["error_code"], "INVALID_MESSAGE")
        self.assertEqual(message["payload"]["in_reply_to"], "m-1")
        self.assertEqual(message["trace_id"], "t")

    def test_no_msg_id(self) -> None:
        self.assertNotIn("in_reply_to", self.error(b'{"type":"dance"}')["payload"])

    def test_wrong_types(self) -> None:
        message = self.error(b'{"type":"ping","msg_id":"m","payload":{"c_send":"x"}}')
        self.assertEqual(message["payload"]["error_code"], "INVALID_MESSAGE")
        self.assertEqual(message["payload"]["in_reply_to"], "m")

    def test_envelope_of_wrong_types(self) -> None:
        message = self.error(b'{"type":5}')
        self.assertEqual(message["payload"]["error_code"], "INVALID_MESSAGE")

    def test_id_too_long(self) -> None:
        message = self.error(
            b'{"type":"port_state_q","msg_id":"m","trace_id":"' + b"t" * 257 + b'"}'
        )
        self.assertEqual(message["payload"]["error_code"], "INVALID_REQUEST")
        self.assertEqual(message["payload"]["in_reply_to"], "m")
        self.assertNotIn("trace_id", message)

    def test_it_goes_on(self) -> None:
        self.error(b'{"type":"dance"}')
        self.protocol.dataReceived(QUERY)
        self.assertEqual(len(self.bed.heard.take()), 1)

    def test_register_again_is_for_the_rules(self) -> None:
        self.protocol.dataReceived(REGISTER)
        (event,) = self.bed.heard.take()
        self.assertEqual(event[0], "requested")


class Registering(SynchronousTestCase):
    """The first message (section 3)."""

    def setUp(self) -> None:
        self.bed = ControlBed(self, register_timeout=5.0)
        self.protocol, self.wire = self.bed.connect("::ffff:192.0.2.7")

    def test_address_is_plain(self) -> None:
        self.protocol.dataReceived(REGISTER)
        self.assertEqual(self.bed.heard.take()[0][2], "192.0.2.7")

    def test_another_message(self) -> None:
        self.protocol.dataReceived(b'{"type":"ping","payload":{"c_send":1},"trace_id":"t"}')
        self.assertEqual(
            self.bed.heard.take(), [("failed", 1, "192.0.2.7", "REGISTER_REQUIRED", "t")]
        )
        self.assertEqual(self.wire.said(), [])

    def test_an_unknown_message(self) -> None:
        self.protocol.dataReceived(b'{"type":"hello"}')
        self.assertEqual(self.bed.heard.take()[0][3], "REGISTER_REQUIRED")

    def test_register_of_wrong_types(self) -> None:
        """An error message, and another try is open."""
        self.protocol.dataReceived(b'{"type":"register","payload":{"role":5}}')
        self.assertEqual(self.bed.heard.take(), [])
        self.assertEqual(self.wire.said()[0]["payload"]["error_code"], "INVALID_MESSAGE")
        self.protocol.dataReceived(REGISTER)
        self.assertEqual(self.bed.heard.take()[0][0], "register")

    def test_timeout(self) -> None:
        self.bed.clock.advance(4.999)
        self.assertEqual(self.bed.heard.take(), [])
        self.bed.clock.advance(0.001)
        self.assertEqual(
            self.bed.heard.take(), [("failed", 1, "192.0.2.7", "REGISTER_REQUIRED", "")]
        )

    def test_timeout_is_not_put_off_by_bytes(self) -> None:
        self.bed.clock.advance(4.0)
        self.protocol.dataReceived(b'{"type":')
        self.bed.clock.advance(1.0)
        self.assertEqual(self.bed.heard.take()[0][0], "failed")

    def test_no_timeout_after_register(self) -> None:
        self.protocol.dataReceived(REGISTER)
        self.bed.heard.take()
        self.bed.clock.advance(6)
        self.assertEqual(self.bed.heard.take(), [])

    def test_ping_before_the_answer_is_no_pong(self) -> None:
        """Asked, but refused: what it still says is for the rules to ignore."""
        self.protocol.dataReceived(REGISTER + b'{"type":"ping","payload":{"c_send":1}}')
        self.assertEqual([event[0] for event in self.bed.heard.take()], ["register", "requested"])
        self.assertEqual(self.wire.said(), [])


class Pong(SynchronousTestCase):
    """ping and pong (section 3)."""

    def test_pong(self) -> None:
        bed = ControlBed(self)
        protocol, wire = bed.registered()
        bed.clock.advance(0.5)
        protocol.dataReceived(b'{"type":"ping","payload":{"c_send":123456789},"trace_id":"t"}')
        (message,) = wire.said()
        self.assertEqual(message["type"], "pong")
        self.assertEqual(
            message["payload"],
            {"c_send": 123456789, "s_recv": 1000500000000, "s_send": 1000500000000},
        )
        self.assertEqual((message["trace_id"], message["ts_ms"]), ("t", 1000500))
        self.assertEqual(bed.heard.take(), [])

    def test_any_number_comes_back(self) -> None:
        bed = ControlBed(self)
        protocol, wire = bed.registered()
        for number in (0, -1, 2**63 - 1, 2**64, 2**70):
            protocol.dataReceived(b'{"type":"ping","payload":{"c_send":%d}}' % number)
            self.assertEqual(wire.said()[0]["payload"]["c_send"], number)


class Ends(SynchronousTestCase):
    """Closing, dropping, and the end of the connection (sections 1 to 3)."""

    def setUp(self) -> None:
        self.bed = ControlBed(self, max_outbox_bytes=1000)
        self.protocol, self.wire = self.bed.registered()

    def gone(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def test_options(self) -> None:
        """TCP keepalive, and no delay for small messages."""
        no_delay = self.wire.handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        self.assertEqual(no_delay, 1)
        self.assertEqual(self.wire.handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1)

    def test_lost(self) -> None:
        self.gone()
        self.assertEqual(self.bed.heard.take(), [("lost", 1)])
        self.assertIsNone(self.bed.factory.get(1))
        self.assertEqual(self.bed.factory.open_connections(), 0)

    def test_lost_while_closing(self) -> None:
        self.protocol.close()
        self.gone()
        self.assertEqual(self.bed.heard.take(), [("lost", 1)])
        self.bed.clock.advance(2)
        self.assertFalse(self.wire.disconnecting)

    def test_lost_after_the_linger(self) -> None:
        self.protocol.close()
        self.bed.clock.advance(1)
        self.gone()
        self.assertEqual(self.bed.heard.take(), [("lost", 1)])

    def test_close_sends_what_waits(self) -> None:
        self.wire.fill()
        self.protocol.dataReceived(b'{"type":"ping","payload":{"c_send":1}}')
        self.assertEqual(self.wire.said(), [])
        self.protocol.close()
        self.assertEqual([m["type"] for m in self.wire.said()], ["pong"])
        self.assertTrue(self.wire.half_closed)

    def test_close_twice(self) -> None:
        self.protocol.close()
        self.bed.clock.advance(0.9)
        self.protocol.close()
        self.bed.clock.advance(0.1)
        self.assertTrue(self.wire.disconnecting)

    def test_close_where_there_is_no_half_close(self) -> None:
        """TLS transports of some kinds have none."""
        self.wire.loseWriteConnection = None
        self.protocol.close()
        self.bed.clock.advance(1)
        self.assertTrue(self.wire.disconnecting)

    def test_reads_too_slowly(self) -> None:
        """control.max_outbox_bytes: dropped at once."""
        self.wire.fill()
        for _ in range(20):
            self.protocol.dataReceived(b'{"type":"ping","payload":{"c_send":1}}')
        (event,) = self.bed.heard.take()
        self.assertEqual(event[:3], ("dropped", 1, "192.0.2.1"))
        self.assertIn("control.max_outbox_bytes", event[3])
        self.assertTrue(self.wire.aborted)
        self.assertEqual(self.wire.said(), [])
