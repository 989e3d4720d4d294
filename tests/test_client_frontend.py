"""relayx.client.frontend: a lease, a connection, a session (no sockets, no waiting)."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from relayx.client import DataLost, Frontend, Gateway, Refused, StreamReset, TimedOut
from relayx.core import hello as wire
from relayx.core.hello import Hello
from relayx.core.messages import PortAcquire, PortGrant, PortRelease, Role
from tests.test_client_fakes import GATEWAY, ControlPeer, DataPeer, done, refuse_dial, reset


class FrontendCase(SynchronousTestCase):
    """An FE and the gateway's end of its connections."""

    def setUp(self) -> None:
        """Start it, and register it."""
        self.reactor = MemoryReactorClock()
        self.frontend = Frontend(self.reactor, GATEWAY, jitter=lambda: 1.0)
        self.frontend.start()
        self.control = ControlPeer(self.reactor)
        self.control.admit("fe-1")

    def asked(self) -> PortAcquire:
        """The one request since the last call."""
        (message,) = self.control.heard()
        assert isinstance(message, PortAcquire)
        return message

    def grant(self, session_id: str = "s-1", host: str = "") -> None:
        """Grant what was asked for."""
        self.control.say(
            PortGrant(
                request_id=self.asked().request_id,
                session_id=session_id,
                expires_at=1,
                zmq_port=30101,
                ticket="a-ticket",
                host=host,
            )
        )

    def refused(self, code: str) -> DataPeer:
        """Refuse the data connection."""
        peer = DataPeer(self.reactor)
        peer.answer(wire.Refused(code, "no"))
        peer.lose(done())
        return peer


class OpenTests(FrontendCase):
    """`open_session`."""

    def test_acquires_and_connects(self) -> None:
        """The lease's port is dialled with its session id and ticket; release gives it back."""
        opening = self.frontend.open_session("zmq", "web", "be-1", ttl=9)
        asked = self.asked()
        self.assertEqual(
            (asked.need_zmq, asked.need_srt, asked.service, asked.be, asked.ttl_seconds),
            (True, False, "web", "be-1", 9),
        )
        self.control.say(
            PortGrant(
                request_id=asked.request_id,
                session_id="s-1",
                expires_at=1,
                zmq_port=30101,
                ticket="a-ticket",
            )
        )
        peer = DataPeer(self.reactor)
        self.assertEqual((peer.host, peer.port), ("127.0.0.1", 30101))
        hello = peer.hello()
        self.assertEqual(
            hello,
            Hello(
                role=Role.FE,
                client_id="fe-1",
                service="web",
                session_id="s-1",
                ticket="a-ticket",
                ack=True,
            ),
        )
        self.assertNotIn("a-ticket", repr(hello))
        peer.pair()
        session = self.successResultOf(opening)
        self.assertEqual(session.stream.paired, session.paired)
        self.assertNotIn("a-ticket", repr(session))
        session.release()
        self.assertEqual(self.control.heard(), [PortRelease(session_id="s-1")])
        self.successResultOf(session.release())
        self.assertEqual(self.control.heard(), [])

    def test_host_of_the_grant(self) -> None:
        """A grant's host is dialled instead of the gateway's."""
        self.frontend.open_session()
        self.grant(host="10.1.2.3")
        self.assertEqual(DataPeer(self.reactor).host, "10.1.2.3")

    def test_another_lease(self) -> None:
        """An expired lease, and a port that is empty or taken, is released and asked anew."""
        opening = self.frontend.open_session("zmq")
        codes = ("TTL_EXPIRED", "PORT_EMPTY", "PORT_BUSY", "PORT_RESERVED")
        for number, code in enumerate(codes):
            self.grant(f"s-{number}")
            self.refused(code)
            self.assertEqual(self.control.heard(), [PortRelease(session_id=f"s-{number}")])
            self.assertNoResult(opening)
            self.reactor.advance(0.1 * 2**number)
        self.grant("s-9")
        DataPeer(self.reactor).pair()
        self.assertEqual(self.successResultOf(opening).grant.session_id, "s-9")

    def test_no_more_than_the_time_allows(self) -> None:
        """With a time-out the last refusal is the error."""
        opening = self.frontend.open_session("zmq", timeout=0.2)
        for number in range(2):
            self.grant(f"s-{number}")
            self.refused("PORT_EMPTY")
            self.assertEqual(self.control.heard(), [PortRelease(session_id=f"s-{number}")])
            self.reactor.advance(0.1)
        self.assertEqual(self.failureResultOf(opening, Refused).value.code, "PORT_EMPTY")

    def test_other_refusals_fail(self) -> None:
        """What another lease does not mend fails, and the lease is given back."""
        opening = self.frontend.open_session("zmq")
        self.grant()
        self.refused("NOT_ADMITTED")
        self.assertEqual(self.failureResultOf(opening, Refused).value.code, "NOT_ADMITTED")
        self.assertEqual(self.control.heard(), [PortRelease(session_id="s-1")])

    def test_exhausted(self) -> None:
        """Without a port it asks again with backoff."""
        opening = self.frontend.open_session("zmq")
        for delay in (0.1, 0.2):
            self.control.say(
                PortGrant(
                    request_id=self.asked().request_id,
                    session_id="",
                    expires_at=0,
                    error_code="PORT_EXHAUSTED",
                )
            )
            self.assertEqual(self.control.heard(), [])
            self.reactor.advance(delay)
        self.grant()
        DataPeer(self.reactor).pair()
        self.successResultOf(opening)

    def test_unreachable_port(self) -> None:
        """A data port that cannot be reached is given up after five attempts."""
        for outcome, error in ((refuse_dial, ConnectionRefusedError), (None, DataLost)):
            self.setUp()
            opening = self.frontend.open_session("zmq")
            for number in range(5):
                self.assertNoResult(opening)
                self.grant(f"s-{number}")
                if outcome is not None:
                    outcome(self.reactor)
                else:
                    DataPeer(self.reactor).lose()
                self.assertEqual(self.control.heard(), [PortRelease(session_id=f"s-{number}")])
                self.reactor.advance(0.1 * 2**number)
            self.failureResultOf(opening, error)

    def test_lost_control_connection(self) -> None:
        """An `acquire` that was lost with its connection is asked anew on the next."""
        opening = self.frontend.open_session("zmq")
        self.asked()
        self.control.lose()
        self.reactor.advance(0.1)
        self.control = ControlPeer(self.reactor)
        self.control.admit("fe-1")
        self.grant()
        DataPeer(self.reactor).pair()
        self.successResultOf(opening)

    def test_cancelled(self) -> None:
        """Cancelling resets the connection, and gives the lease back."""
        opening = self.frontend.open_session("zmq")
        self.grant()
        peer = DataPeer(self.reactor)
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        self.assertTrue(peer.transport.aborted)
        self.assertEqual(self.control.heard(), [PortRelease(session_id="s-1")])

    def test_protocol(self) -> None:
        """There are two protocols."""
        self.failureResultOf(self.frontend.open_session("tcp"), ValueError)


class ContextTests(FrontendCase):
    """`async with session()`."""

    def run_block(self, block: Any) -> tuple[Deferred[None], DataPeer]:
        """A session around `block`, paired."""

        async def run() -> None:
            async with self.frontend.session("zmq") as session:
                await block(session)

        running = Deferred.fromCoroutine(run())
        self.grant()
        peer = DataPeer(self.reactor)
        peer.pair()
        return running, peer

    def test_released_after_the_stream_is_over(self) -> None:
        """Leaving the block ends our direction, drains the other, then releases."""

        async def block(session: Any) -> None:
            await session.stream.write(b"x")

        running, peer = self.run_block(block)
        self.assertTrue(peer.transport.write_ended)
        peer.receive(bytes(300 * 1024))
        self.assertEqual(peer.transport.producerState, "producing")
        self.assertEqual(self.control.heard(), [])
        peer.protocol.writeConnectionLost()
        peer.protocol.readConnectionLost()
        peer.lose(done())
        self.assertEqual(self.control.heard(), [PortRelease(session_id="s-1")])
        self.control.lose()
        self.successResultOf(running)

    def test_exception(self) -> None:
        """An exception in the block resets the stream and releases the lease."""

        async def block(session: Any) -> None:
            raise ZeroDivisionError

        running, peer = self.run_block(block)
        self.assertTrue(peer.transport.aborted)
        self.assertEqual(self.control.heard(), [PortRelease(session_id="s-1")])
        self.control.lose()
        self.failureResultOf(running, ZeroDivisionError)

    def test_reset_at_the_end(self) -> None:
        """A reset before the other side's end is not passed over."""

        async def block(session: Any) -> None:
            return None

        running, peer = self.run_block(block)
        peer.lose(reset())
        self.control.lose()
        self.failureResultOf(running, StreamReset)

    def test_other_side_does_not_end(self) -> None:
        """After ten seconds the stream is reset, and that is told."""

        async def block(session: Any) -> None:
            return None

        running, peer = self.run_block(block)
        for _ in range(10):
            self.reactor.advance(1)
            self.control.answer_pings()
        self.assertTrue(peer.transport.aborted)
        self.control.lose()
        self.failureResultOf(running, TimedOut)


class GatewayTests(SynchronousTestCase):
    """`Gateway.parse`."""

    def test_addresses(self) -> None:
        """Names and addresses, with and without a port."""
        for text, host, port in (
            ("relay.example", "relay.example", 5555),
            ("relay.example:1", "relay.example", 1),
            ("10.0.0.1:65535", "10.0.0.1", 65535),
            ("[::1]:77", "::1", 77),
            ("[::1]", "::1", 5555),
            ("fe80::1", "fe80::1", 5555),
        ):
            gateway = Gateway.parse(text, "s")
            self.assertEqual((gateway.host, gateway.port, gateway.secret), (host, port, "s"))
            self.assertEqual(Gateway.parse(str(gateway), "s"), gateway)
        self.assertNotIn("sesame", repr(Gateway.parse("h", "sesame")))

    def test_what_is_none(self) -> None:
        """Anything else is an error that names it."""
        for text in ("", ":1", "h:", "h:x", "h:0", "h:65536", "[::1", "[h]:1", "[::1]x", "a:b:c"):
            self.assertRaises(ValueError, Gateway.parse, text, "s")
