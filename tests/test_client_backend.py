"""relayx.client.backend: the water mark, leases, losses (no sockets, no waiting)."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from relayx.client import Backend, Refused, Session, StreamReset
from relayx.core import hello as wire
from relayx.core.hello import Hello
from relayx.core.messages import (
    Error,
    FrontEndLink,
    PortGrant,
    PortRelease,
    Role,
    SessionEnd,
    Telemetry,
)
from tests.test_client_fakes import GATEWAY, ControlPeer, DataPeer, done, port_state, reset

ZMQ = range(30101, 30111)
SRT = range(30000, 30010)


class BackendCase(SynchronousTestCase):
    """A BE and the gateway's end of its connections."""

    marks: dict[str, int] = {"zmq": 3}

    def setUp(self) -> None:
        """Start it, and register it."""
        self.reactor = MemoryReactorClock()
        self.sessions: list[Session] = []
        self.result: Any = None
        self.backend = Backend(
            self.reactor,
            GATEWAY,
            "web",
            **self.marks,
            on_session=self.on_session,
            rng=random.Random(7),
        )
        self.backend.start()
        self.control = ControlPeer(self.reactor)
        self.assertFalse(self.control.admit("be-1").link_telemetry)

    def on_session(self, session: Session) -> object:
        """Remember, and answer as the test wants."""
        self.sessions.append(session)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def dialled(self) -> list[DataPeer]:
        """The connections dialled since the last call, each refused later or answered."""
        peers = []
        while self.reactor.tcpClients:
            peers.append(DataPeer(self.reactor))
        return peers

    def filled(self) -> list[DataPeer]:
        """The mark's connections, waiting, the oldest first."""
        self.control.say(port_state(zmq=ZMQ, srt=SRT))
        peers = self.dialled()[::-1]
        for peer in peers:
            peer.wait()
        return peers


class MarkTests(BackendCase):
    """Ports that wait."""

    marks = {"zmq": 3, "srt": 2}

    def test_fills_the_marks(self) -> None:
        """Random empty ports of each protocol are dialled, as the contract's HELLO."""
        self.assertEqual(self.dialled(), [])
        peers = self.filled()
        ports = sorted(peer.port for peer in peers)
        self.assertEqual([port in SRT for port in ports], [True] * 2 + [False] * 3)
        self.assertEqual(
            peers[0].hello(),
            Hello(role=Role.BE, client_id="be-1", service="web", ack=True, on_fe_close="close"),
        )
        waiting = self.backend.waiting
        self.assertEqual(sorted(waiting["srt"] + waiting["zmq"]), ports)
        self.control.say(port_state(zmq=ZMQ, srt=SRT))
        self.assertEqual(self.dialled(), [])

    def test_connection_lost_on_the_way(self) -> None:
        """A port that the gateway calls empty long after we began to wait is dialled anew."""
        self.backend.set_marks(1, 0)
        self.control.say(port_state(zmq=[30101]))
        (peer,) = self.dialled()
        peer.wait()
        self.reactor.advance(1)
        self.control.say(port_state(zmq=[30101]))
        self.assertEqual(self.dialled(), [])
        self.reactor.advance(1.5)
        self.control.say(port_state(zmq=[30101]))
        self.assertTrue(peer.transport.aborted)
        peer.lose()
        (again,) = self.dialled()
        again.wait()
        self.assertEqual(self.backend.waiting["zmq"], (30101,))

    def test_choice_is_spread(self) -> None:
        """BEs seldom choose the same ports."""
        chosen = set()
        for seed in range(20):
            self.setUp()
            backend = Backend(
                self.reactor, GATEWAY, zmq=1, on_session=print, rng=random.Random(seed)
            )
            backend.start()
            control = ControlPeer(self.reactor)
            control.admit()
            control.say(port_state(zmq=ZMQ))
            chosen.add(DataPeer(self.reactor).port)
        self.assertGreater(len(chosen), 4)

    def test_fewer_empty_than_wanted(self) -> None:
        """With too few empty ports it takes those, and the rest when there are more."""
        self.control.say(port_state(zmq=[30101]))
        self.assertEqual([peer.port for peer in self.dialled()], [30101])
        self.control.say(port_state(zmq=[30102, 30103, 30104]))
        self.assertEqual(len(self.dialled()), 2)

    def test_refills_what_is_paired(self) -> None:
        """A pairing starts a session and another port."""
        peer = next(peer for peer in self.filled() if peer.port in ZMQ)
        peer.pair()
        (more,) = self.dialled()
        self.assertNotEqual(more.port, peer.port)
        (session,) = self.sessions
        self.assertEqual(
            (session.protocol, session.port, session.paired.pairing_id), ("zmq", peer.port, "p-1")
        )
        self.assertEqual(list(self.backend.sessions), ["p-1"])

    def test_refills_what_is_lost(self) -> None:
        """A waiting connection that is lost is replaced by another port's."""
        peer = self.filled()[0]
        peer.lose()
        (more,) = self.dialled()
        self.assertNotEqual(more.port, peer.port)

    def test_busy_ports_are_left_alone_for_a_while(self) -> None:
        """PORT_BUSY and PORT_RESERVED pick another port; the same one only after its backoff."""
        self.backend.set_marks(1, 0)
        self.control.say(port_state(zmq=[30101]))
        for times, delay in enumerate((0.1, 0.2, 0.4)):
            (peer,) = self.dialled()
            peer.answer(wire.Refused("PORT_RESERVED" if times else "PORT_BUSY", "taken"))
            peer.lose(done())
            self.control.say(port_state(zmq=[30101]))
            self.assertEqual(self.dialled(), [])
            if times == 0:
                self.control.say(port_state(zmq=[30101, 30102]))
                (other,) = self.dialled()
                self.assertEqual(other.port, 30102)
                other.answer(wire.Refused("PORT_BUSY", "taken"))
                other.lose(done())
                self.control.say(port_state(zmq=[30101]))
            for _ in range(2):
                self.reactor.advance(delay / 2)

    def test_what_is_wrong_with_all_waits_with_all(self) -> None:
        """NOT_ADMITTED is no port's fault: the pool waits, longer each time."""
        self.backend.set_marks(1, 0)
        self.control.say(port_state(zmq=ZMQ))
        for most in (0.1, 0.2, 0.4):
            (peer,) = self.dialled()
            peer.answer(wire.Refused("NOT_ADMITTED", "no"))
            peer.lose(done())
            self.control.say(port_state(zmq=ZMQ))
            self.assertEqual(self.dialled(), [])
            self.reactor.advance(most)

    def test_what_somebody_has_to_change_is_told_once(self) -> None:
        """HELLO_INVALID, as where TLS is missing; again once a port has waited in between."""
        said: list[str] = []

        def observe(event: Any) -> None:
            if event.get("log_level") is LogLevel.error:
                said.append(event["error"])

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.backend.set_marks(1, 0)
        for answer in ("", "no TLS", "no TLS", "no name", "", "no name"):
            self.control.say(port_state(zmq=ZMQ))
            (peer,) = self.dialled()
            if answer:
                peer.answer(wire.Refused("HELLO_INVALID", answer))
                peer.lose(done())
            else:
                peer.wait()
                peer.lose()
            self.reactor.advance(60)
            self.reactor.advance(60)
        told = [text.partition(": ")[2] for text in said]
        self.assertEqual(told, ["no TLS", "no name", "no name"])

    def test_lowered_mark(self) -> None:
        """Ports above a lowered mark are given up, the newest first; 0 gives up all."""
        self.backend.set_marks(3, 0)
        self.control.say(port_state(zmq=ZMQ))
        peers = [peer for peer in self.dialled()[::-1] if peer.port in ZMQ]
        for peer in peers:
            peer.wait()
        self.backend.set_marks(1, 0)
        self.assertEqual([peer.transport.aborted for peer in peers], [False, True, True])
        for peer in peers[1:]:
            peer.lose()
        self.assertEqual(self.dialled(), [])
        self.assertEqual(self.backend.waiting["zmq"], (peers[0].port,))
        self.backend.set_marks(2, 0)
        self.assertEqual(len(self.dialled()), 1)
        self.backend.set_marks(0, 0)
        self.assertEqual(self.backend.waiting, {"zmq": (), "srt": ()})

    def test_values(self) -> None:
        """Marks below 0 and services that the contract does not allow are mistakes."""
        self.assertRaises(ValueError, self.backend.set_marks, -1, 0)
        with self.assertRaises(ValueError):
            Backend(self.reactor, GATEWAY, "No Such", on_session=print)


class LeaseTests(BackendCase):
    """Ports under an FE's lease."""

    marks = {"zmq": 1}

    def test_refilled_beyond_the_mark_while_the_lease_lasts(self) -> None:
        """A leased port of ours that is empty again is waited on; after the lease, no longer."""
        (peer,) = self.filled()
        self.control.say(
            PortGrant(request_id="fe", session_id="s-1", expires_at=1, zmq_port=peer.port)
        )
        peer.pair()
        (other,) = self.dialled()
        other.wait()
        peer.lose()
        self.control.say(port_state(zmq=ZMQ))
        (again,) = self.dialled()
        self.assertEqual(again.port, peer.port)
        again.wait()
        self.assertEqual(len(self.backend.waiting["zmq"]), 2)
        self.control.say(PortRelease(session_id="s-other", zmq_port=peer.port))
        self.assertEqual(len(self.backend.waiting["zmq"]), 2)
        self.control.say(PortRelease(session_id="s-1", zmq_port=peer.port))
        self.assertTrue(again.transport.aborted)
        self.assertEqual(self.backend.waiting["zmq"], (other.port,))

    def test_others_leases_are_no_business_of_ours(self) -> None:
        """A grant of a port where we do not wait changes nothing, nor does a failed one."""
        (peer,) = self.filled()
        foreign = next(port for port in ZMQ if port != peer.port)
        self.control.say(
            PortGrant(request_id="fe", session_id="s-1", expires_at=1, zmq_port=foreign)
        )
        self.control.say(
            PortGrant(request_id="fe", session_id="", expires_at=0, error_code="PORT_EXHAUSTED")
        )
        self.control.say(port_state(zmq=ZMQ))
        self.assertEqual(self.dialled(), [])

    def test_leased_port_is_not_given_up(self) -> None:
        """Lowering the mark spares a port that an FE is about to use."""
        (peer,) = self.filled()
        self.control.say(
            PortGrant(request_id="fe", session_id="s-1", expires_at=1, zmq_port=peer.port)
        )
        self.backend.set_marks(0, 0)
        self.assertFalse(peer.transport.aborted)
        self.control.say(PortRelease(session_id="s-1"))
        self.assertTrue(peer.transport.aborted)


class LossTests(BackendCase):
    """The control connection and the end."""

    def test_waiting_connections_outlive_the_control_connection(self) -> None:
        """After a reconnect nothing that waits is dialled again; meanwhile nothing at all."""
        peers = self.filled()
        self.control.lose()
        peers[0].lose()
        self.assertEqual(self.reactor.tcpClients, [])
        self.reactor.advance(0.1)
        control = ControlPeer(self.reactor)
        control.admit("be-1")
        self.assertEqual(self.dialled(), [])
        control.say(port_state(zmq=set(ZMQ) - {peer.port for peer in peers[1:]}))
        self.assertEqual(len(self.dialled()), 1)
        self.assertFalse(any(peer.transport.aborted for peer in peers))

    def test_taken_over(self) -> None:
        """TAKEN_OVER gives up what waits; `done` fails; a session goes on."""
        peers = self.filled()
        peers[0].pair()
        self.dialled()
        self.control.say(Error(error_code="TAKEN_OVER", error="again"))
        self.control.lose(done())
        self.assertEqual(
            [peer.transport.aborted for peer in peers], [False] + [True] * (len(peers) - 1)
        )
        self.assertEqual(self.failureResultOf(self.backend.done, Refused).value.code, "TAKEN_OVER")
        self.assertEqual(self.backend.waiting["zmq"], ())
        self.assertEqual(len(self.backend.sessions), 1)

    def test_stop_with_grace(self) -> None:
        """`stop` gives up what waits, waits for sessions so long, resets them, and is done."""
        peers = self.filled()
        peers[0].pair()
        self.dialled()
        stopped = self.backend.stop(grace=5)
        self.assertTrue(peers[1].transport.aborted)
        self.reactor.advance(4.9)
        self.assertFalse(peers[0].transport.aborted or self.control.transport.disconnecting)
        self.reactor.advance(0.2)
        self.assertTrue(peers[0].transport.aborted)
        peers[0].lose()
        self.assertTrue(self.control.transport.disconnecting)
        self.assertNoResult(stopped)
        self.control.lose(done())
        self.successResultOf(stopped)
        self.successResultOf(self.backend.done)
        self.successResultOf(self.backend.stop())
        self.backend.set_marks(5, 5)
        self.assertEqual(self.reactor.tcpClients, [])

    def test_stop_when_the_last_session_ends(self) -> None:
        """The grace is over with the last session."""
        peers = self.filled()
        peers[0].pair()
        stopped = self.backend.stop(grace=5)
        peers[0].lose(done())
        self.assertTrue(self.control.transport.disconnecting)
        self.control.lose(done())
        self.successResultOf(stopped)
        self.assertEqual([it for it in self.reactor.getDelayedCalls() if it.getTime() > 4], [])


class SessionTests(BackendCase):
    """What `on_session` does and what becomes of it."""

    marks = {"zmq": 1}

    def paired(self) -> DataPeer:
        """A paired connection."""
        (peer,) = self.filled()
        peer.pair()
        return peer

    def test_an_exception_resets_that_session(self) -> None:
        """It is logged with the trace id, and the next port is waited on."""
        logged: list[Any] = []
        globalLogPublisher.addObserver(logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, logged.append)
        self.result = ZeroDivisionError()
        peer = self.paired()
        self.assertTrue(peer.transport.aborted)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        lines = [it for it in logged if str(it.get("log_namespace", "")).endswith("Backend")]
        self.assertEqual([it["trace_id"] for it in lines], ["t-1", "t-1"])
        self.assertEqual(len(self.dialled()), 1)

    def test_a_failure_resets_that_session(self) -> None:
        """A Deferred that fails later does the same."""
        self.result = Deferred()
        peer = self.paired()
        self.assertFalse(peer.transport.aborted)
        self.result.errback(ZeroDivisionError())
        self.assertTrue(peer.transport.aborted)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_peers_reset_is_no_error(self) -> None:
        """What fails because the stream was reset is told without a traceback."""

        async def read() -> None:
            await self.sessions[0].stream.read()

        self.result = Deferred()
        peer = self.paired()
        Deferred.fromCoroutine(read()).chainDeferred(self.result)
        peer.lose(reset())
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_result_ends_our_direction(self) -> None:
        """When a Deferred or a coroutine is through, the stream is ended and drained."""

        async def through() -> None:
            return None

        for result in (succeed(None), through()):
            self.setUp()
            self.result = result
            peer = self.paired()
            self.assertTrue(peer.transport.write_ended)
            peer.receive(bytes(300 * 1024))
            self.assertEqual(peer.transport.producerState, "producing")

    def test_a_plain_return_leaves_the_stream(self) -> None:
        """A callback that returns nothing goes on using the stream."""
        peer = self.paired()
        self.assertFalse(peer.transport.write_ended)
        reading = self.sessions[0].stream.read()
        peer.lose(reset())
        self.failureResultOf(reading, StreamReset)
        self.assertEqual(self.backend.sessions, {})

    def test_port_in_session_is_not_dialled(self) -> None:
        """A state from before the pairing, which calls the port empty, is not believed."""
        peer = self.paired()
        for more in self.dialled():
            more.wait()
        self.backend.set_marks(len(ZMQ), 0)
        self.control.say(port_state(zmq=ZMQ))
        self.assertNotIn(peer.port, [more.port for more in self.dialled()])
        peer.lose(done())
        self.assertEqual([more.port for more in self.dialled()], [peer.port])

    def test_link(self) -> None:
        """Told of each link to whoever asked, and the gateway is asked for it at each register."""
        link = FrontEndLink(
            pairing_id="p-1", session_id="", port=30010, rtt_ms=48.0, loss_percent=3.0,
            retransmitted=7, dropped=0, send_buffer_bytes=1316, send_buffer_ms=20,
            send_rate_bps=8e6, latency_ms=120,
        )  # fmt: skip
        self.control.say(Telemetry(current_speed=8.0, link=link))  # nobody wants it here
        told: list[FrontEndLink] = []
        reactor = MemoryReactorClock()
        backend = Backend(reactor, GATEWAY, srt=1, on_session=print, on_link=told.append)
        backend.start()
        for turn in (1, 2):
            control = ControlPeer(reactor)
            self.assertTrue(control.admit().link_telemetry)
            control.say(Telemetry(current_speed=8.0))
            control.say(Telemetry(current_speed=8.0, link=link))
            self.assertEqual(told, [link] * turn)
            control.lose(done())
            reactor.advance(1)

    def test_session_end(self) -> None:
        """The gateway's account of a session is kept with it, before or after its end."""
        peer = self.paired()
        peer.lose(done())
        end = SessionEnd(
            pairing_id="p-1",
            session_id="s-1",
            protocol="zmq",
            port=peer.port,
            cause="fe_closed",
            error="the FE closed",
            fe_to_be_bytes=1,
            be_to_fe_bytes=2,
            seconds=0.5,
        )
        self.control.say(end)
        self.control.say(end)
        self.assertEqual(self.sessions[0].end, end)
