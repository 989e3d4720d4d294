"""relayx.client.control: registering, coming back, asking (no sockets, no waiting)."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relayx.client import (
    Backoff,
    ClientError,
    Connected,
    ControlClient,
    ControlLost,
    Disconnected,
    Ended,
    LogLine,
    Refused,
    Stopped,
    TimedOut,
    Unreachable,
)
from relayx.core.codec import encode
from relayx.core.messages import (
    Auth,
    Error,
    KeyExchange,
    Ping,
    Pong,
    PortAcquire,
    PortAlloc,
    PortGrant,
    PortRelease,
    PortState,
    PortStateQuery,
    Register,
    Role,
    Telemetry,
)
from tests.test_client_fakes import GATEWAY, ControlPeer, done, port_state, refuse_dial, reset


def granted(asked: PortAcquire, session_id: str = "s-1") -> PortGrant:
    """A lease for a request."""
    return PortGrant(
        request_id=asked.request_id, session_id=session_id, expires_at=1, zmq_port=7, ticket="tk"
    )


def refused(asked: PortAcquire, code: str = "PORT_EXHAUSTED") -> PortGrant:
    """No lease for a request."""
    return PortGrant(
        request_id=asked.request_id, session_id="", expires_at=0, error_code=code, error="none"
    )


class BackoffTests(SynchronousTestCase):
    """The delays between attempts."""

    def test_bounds(self) -> None:
        """Each delay is within 50 ms and 5 s, doubles, and varies by half of itself."""
        for jitter in (0.0, 0.5, 0.999999):
            delays = [Backoff(lambda jitter=jitter: jitter).delay(n) for n in range(1, 2000)]
            self.assertTrue(all(0.05 <= delay <= 5.0 for delay in delays))
            self.assertEqual(delays, sorted(delays))
        low = [Backoff(lambda: 0.0).delay(n) for n in (1, 2, 3, 100)]
        high = [Backoff(lambda: 1.0).delay(n) for n in (1, 2, 3, 100)]
        self.assertEqual(low, [0.05, 0.1, 0.2, 2.5])
        self.assertEqual(high, [0.1, 0.2, 0.4, 5.0])

    def test_count_and_reset(self) -> None:
        """`next` counts failures in a row, `reset` begins anew."""
        backoff = Backoff(lambda: 0.0)
        self.assertEqual([backoff.next(), backoff.next()], [0.05, 0.1])
        backoff.reset()
        self.assertEqual(backoff.next(), 0.05)


class ControlCase(SynchronousTestCase):
    """A started client on a memory reactor."""

    role = Role.FE

    def setUp(self) -> None:
        """Start it."""
        self.reactor = MemoryReactorClock()
        self.client = ControlClient(self.reactor, GATEWAY, self.role, jitter=lambda: 1.0)
        self.seen: list[Any] = []
        for kind in (Connected, Disconnected, Ended, Unreachable, LogLine, Error, Telemetry):
            self.client.events.on(kind, self.seen.append)
        for message in (PortGrant, PortState, PortRelease):
            self.client.events.on(message, self.seen.append)
        self.client.start()

    def peer(self) -> ControlPeer:
        """The gateway's end of the newest connection."""
        return ControlPeer(self.reactor)

    def admitted(self) -> ControlPeer:
        """The same, with the client registered."""
        peer = self.peer()
        peer.admit()
        peer.answer_pings()
        return peer

    def fails(self, deferred: Any, kind: type[Exception]) -> Any:
        """The error that `deferred` has failed with."""
        return self.failureResultOf(deferred, kind).value

    def waits(self) -> float:
        """Seconds to the only delayed call."""
        (call,) = self.reactor.getDelayedCalls()
        return call.getTime() - self.reactor.seconds()


class RegisterTests(ControlCase):
    """From the first message to `auth`."""

    def test_register(self) -> None:
        """`register` carries role, secret, version and a random instance."""
        when = self.client.when_connected()
        peer = self.peer()
        self.assertEqual((peer.host, peer.port, peer.timeout), ("127.0.0.1", 5555, 3.0))
        register = peer.admit("fe-7")
        self.assertEqual(
            register,
            Register(role="FE", secret="a-secret", protocol="1.1", instance=self.client.instance),
        )
        self.assertEqual(len(register.instance), 32)
        other = ControlClient(self.reactor, GATEWAY, Role.FE)
        self.assertNotEqual(other.instance, register.instance)
        self.assertEqual(self.successResultOf(when), "fe-7")
        self.assertEqual(self.seen, [Connected("fe-7", "gw")])
        self.assertTrue(self.client.connected)

    def test_no_secret_in_repr(self) -> None:
        """No repr shows the secret."""
        self.assertNotIn("a-secret", repr(GATEWAY) + repr(vars(self.client)))

    def test_comes_back_as_the_same(self) -> None:
        """After a loss it registers with the same instance and the id it was given."""
        peer = self.peer()
        first = peer.admit("fe-7")
        peer.lose()
        self.assertFalse(self.client.connected)
        self.assertIsInstance(self.seen[-1], Disconnected)
        self.reactor.advance(0.1)
        second = self.peer().admit("fe-7")
        self.assertEqual(second.instance, first.instance)
        self.assertEqual((first.client_id, second.client_id), ("", "fe-7"))
        self.assertTrue(self.client.connected)

    def test_refused_connections_are_tried_again(self) -> None:
        """Where nobody listens, the delay doubles up to 5 s, and is reset by `auth` alone."""
        delays = []
        for _ in range(9):
            refuse_dial(self.reactor)
            delays.append(self.waits())
            self.reactor.advance(delays[-1])
        self.assertEqual(
            [round(delay, 6) for delay in delays], [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5]
        )
        self.assertEqual(len([it for it in self.seen if isinstance(it, Unreachable)]), 9)
        self.peer().lose()  # connected, but no auth
        self.assertAlmostEqual(self.waits(), 5)
        self.reactor.advance(5)
        self.admitted().lose()
        self.assertAlmostEqual(self.waits(), 0.1)

    def test_capacity_and_draining_are_tried_again(self) -> None:
        """A gateway that is full or stopping is asked again."""
        for code, delay in (("CAPACITY", 0.1), ("DRAINING", 0.2), ("REGISTER_REQUIRED", 0.4)):
            self.peer().refuse(code)
            self.assertEqual(self.seen[-1].reason.value.code, code)
            self.reactor.advance(delay)
        self.admitted()
        self.assertTrue(self.client.connected)

    def test_final_refusals(self) -> None:
        """A wrong secret, or a registration that can never be right, ends the client."""
        for code in ("AUTH_FAILED", "INVALID_REQUEST"):
            self.setUp()
            when = self.client.when_connected()
            asked = self.client.ping()
            self.peer().refuse(code)
            self.assertEqual(self.fails(when, Refused).code, code)
            self.assertEqual(self.fails(asked, Refused).code, code)
            self.assertEqual(self.fails(self.client.ping(), Refused).code, code)
            self.assertEqual(self.fails(self.client.pause(1), Refused).code, code)
            self.assertEqual(self.fails(self.client.acquire(need_zmq=True), Refused).code, code)
            self.assertEqual(self.fails(self.client.when_stopped(), Refused).code, code)
            self.assertEqual([type(it) for it in self.seen], [Ended])
            self.assertEqual(self.reactor.getDelayedCalls(), [])
            self.client.start()
            self.assertEqual(self.reactor.tcpClients, [])

    def test_taken_over(self) -> None:
        """TAKEN_OVER is final, for outstanding and later requests too."""
        peer = self.admitted()
        asked = self.client.ping()
        peer.say(Error(error_code="TAKEN_OVER", error="again"))
        self.assertTrue(peer.transport.disconnecting)
        peer.lose(done())
        self.assertEqual(self.fails(asked, Refused).code, "TAKEN_OVER")
        self.assertEqual(self.fails(self.client.ping(), Refused).code, "TAKEN_OVER")
        self.assertEqual(self.fails(self.client.when_stopped(), Refused).code, "TAKEN_OVER")
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_silent_gateway(self) -> None:
        """No `auth` within five seconds drops the connection."""
        peer = self.peer()
        self.reactor.advance(4.9)
        self.assertFalse(peer.transport.aborted)
        self.reactor.advance(0.2)
        self.assertTrue(peer.transport.aborted)
        peer.lose()
        self.assertIn("did not answer register", str(self.seen[-1].reason.value))

    def test_split_at_each_byte(self) -> None:
        """The gateway's bytes mean the same however they are cut."""
        peer = self.peer()
        peer.heard()
        sent = (
            encode(Auth(status="ok", client_id="fe-7", server="gw", protocol="1.1"))
            + encode('a "line" {')
            + encode(Telemetry(current_speed=1.5))
        )
        for at in range(len(sent)):
            peer.receive(sent[at : at + 1])
        self.assertEqual(
            self.seen,
            [Connected("fe-7", "gw"), LogLine('a "line" {'), Telemetry(current_speed=1.5)],
        )


class BeatTests(ControlCase):
    """A ping every second."""

    def test_three_missed(self) -> None:
        """Three pings without an answer drop the connection, and it is dialled again."""
        peer = self.admitted()
        for _ in range(5):
            self.reactor.advance(1)
            peer.answer_pings()
        self.reactor.advance(1)
        self.reactor.advance(1)
        self.reactor.advance(0.99)
        self.assertFalse(peer.transport.aborted)
        self.assertEqual(len(peer.heard(pings=True)), 2)
        self.reactor.advance(0.02)
        self.assertFalse(peer.transport.aborted)
        self.reactor.advance(1)
        self.assertTrue(peer.transport.aborted)
        peer.lose()
        self.assertIn("unanswered", str(self.seen[-1].reason.value))
        self.reactor.advance(0.1)
        self.admitted()

    def test_late_answer_is_an_answer(self) -> None:
        """An answer after two beats starts the count anew."""
        peer = self.admitted()
        for _ in range(4):
            self.reactor.advance(1)
            self.reactor.advance(1)
            peer.answer_pings()
        self.assertFalse(peer.transport.aborted)


class RequestTests(ControlCase):
    """Requests and their answers."""

    def test_acquire_matched_by_request_id(self) -> None:
        """Grants in any order find their requests; another's is an event."""
        peer = self.admitted()
        first = self.client.acquire(need_zmq=True, service="web", be="b-1", ttl_seconds=9)
        second = self.client.acquire(need_srt=True, transport="srt")
        one, two = peer.heard()
        self.assertEqual((one.need_zmq, one.need_srt, one.service), (True, False, "web"))
        self.assertEqual((one.be, one.ttl_seconds, two.be), ("b-1", 9, None))
        self.assertEqual((one.transport, two.transport), ("tcp", "srt"))
        others = PortGrant(request_id="x", session_id="s-9", expires_at=1, zmq_port=4)
        peer.say(others)
        peer.say(granted(two, "s-2"))
        self.assertEqual(self.successResultOf(second).session_id, "s-2")
        self.assertNoResult(first)
        peer.say(granted(one, "s-1"))
        self.assertEqual(self.successResultOf(first).session_id, "s-1")
        self.assertEqual(self.seen[1:], [others])

    def test_trace_id(self) -> None:
        """`acquire` carries the caller's trace id."""
        peer = self.admitted()
        self.client.acquire(need_zmq=True, trace_id="mine")
        (asked,) = peer.heard()
        self.assertEqual(peer.trace_ids[asked], "mine")

    def test_exhausted_is_tried_again(self) -> None:
        """PORT_EXHAUSTED is asked anew with backoff until there is a port."""
        peer = self.admitted()
        lease = self.client.acquire(need_zmq=True)
        ids = set()
        for delay in (0.1, 0.2, 0.4):
            (asked,) = peer.heard()
            ids.add(asked.request_id)
            peer.say(refused(asked))
            self.reactor.advance(delay - 0.01)
            self.assertEqual(peer.heard(), [])
            self.reactor.advance(0.011)
        (asked,) = peer.heard()
        self.assertEqual(len(ids | {asked.request_id}), 4)
        peer.say(granted(asked))
        self.assertEqual(self.successResultOf(lease).zmq_port, 7)

    def test_limited_is_tried_again(self) -> None:
        """RATE_LIMITED likewise, whether a grant says so or an error about the request."""
        peer = self.admitted()
        lease = self.client.acquire(need_zmq=True)
        (asked,) = peer.heard()
        peer.say(refused(asked, "RATE_LIMITED"))
        self.reactor.advance(0.11)
        (asked,) = peer.heard()
        peer.say(Error(error_code="RATE_LIMITED", error="slow", in_reply_to=peer.msg_ids[asked]))
        self.assertNoResult(lease)
        self.reactor.advance(0.21)
        (asked,) = peer.heard()
        peer.say(granted(asked))
        self.assertEqual(self.successResultOf(lease).zmq_port, 7)

    def test_limited_release_is_tried_again(self) -> None:
        """A lease that could not be given back for once is given back a little later."""
        peer = self.admitted()
        released = self.client.release("s-1")
        for delay in (0.11, 0.21):
            (asked,) = peer.heard(pings=False)
            self.assertEqual(asked, PortRelease(session_id="s-1"))
            peer.say(
                Error(error_code="RATE_LIMITED", error="slow", in_reply_to=peer.msg_ids[asked])
            )
            self.assertNoResult(released)
            self.reactor.advance(delay)
        peer.answer_pings()
        self.successResultOf(released)

    def test_limited_registration_is_tried_again(self) -> None:
        """RATE_LIMITED is not final."""
        self.peer().refuse("RATE_LIMITED")
        stopped = self.client.when_stopped()
        self.assertNoResult(stopped)
        self.reactor.advance(6)
        ControlPeer(self.reactor).admit()
        self.assertTrue(self.client.connected)

    def test_exhausted_until_the_deadline(self) -> None:
        """With a time-out the last attempt is at its end; with 0 there is but one."""
        peer = self.admitted()
        lease = self.client.acquire(need_zmq=True, timeout=0.25)
        for delay in (0.1, 0.15):
            (asked,) = peer.heard()
            peer.say(refused(asked))
            self.assertNoResult(lease)
            self.reactor.advance(delay)
        (asked,) = peer.heard()
        peer.say(refused(asked))
        self.assertEqual(self.fails(lease, Refused).code, "PORT_EXHAUSTED")
        once = self.client.acquire(need_zmq=True, timeout=0)
        (asked,) = peer.heard()
        peer.say(refused(asked))
        self.fails(once, Refused)

    def test_other_refusals_fail(self) -> None:
        """Any other code fails at once."""
        peer = self.admitted()
        lease = self.client.acquire(need_zmq=True)
        (asked,) = peer.heard()
        peer.say(refused(asked, "INVALID_REQUEST"))
        error = self.fails(lease, Refused)
        self.assertEqual((error.code, error.text), ("INVALID_REQUEST", "none"))
        self.assertEqual(str(error), "INVALID_REQUEST: none")

    def test_late_grant_is_given_back(self) -> None:
        """A lease that comes after its request was cancelled or timed out is released."""
        peer = self.admitted()
        lease = self.client.acquire(need_zmq=True)
        (asked,) = peer.heard()
        lease.cancel()
        self.fails(lease, CancelledError)
        peer.say(granted(asked, "s-8"))
        self.assertEqual(peer.heard(), [PortRelease(session_id="s-8")])
        self.assertEqual(len(self.seen), 1)
        slow = self.client.acquire(need_zmq=True)
        (asked,) = peer.heard()
        for _ in range(10):
            self.reactor.advance(1)
            peer.answer_pings()
        self.fails(slow, TimedOut)
        peer.say(granted(asked, "s-9"))
        self.assertEqual(peer.heard(), [PortRelease(session_id="s-9")])

    def test_release_is_confirmed_by_the_ping_behind_it(self) -> None:
        """Without an error before the pong, the gateway has taken it."""
        peer = self.admitted()
        released = self.client.release("s-1")
        message, ping = peer.heard(pings=True)
        self.assertEqual((message, type(ping)), (PortRelease(session_id="s-1"), Ping))
        self.assertNoResult(released)
        self.client.release("s-2").addErrback(lambda failure: self.seen.append(failure.value))
        bad, _ = peer.heard(pings=True)
        peer.say(Error(error_code="INVALID_REQUEST", error="whose?", in_reply_to=peer.msg_ids[bad]))
        self.assertEqual(self.seen[-1].code, "INVALID_REQUEST")
        peer.say(Error(error_code="INVALID_MESSAGE", error="stray"))
        self.assertIsInstance(self.seen[-1], Error)
        self.pong(peer, ping)
        self.assertIsNone(self.successResultOf(released))

    def pong(self, peer: ControlPeer, ping: Any) -> None:
        """Answer one ping."""
        peer.say(Pong(c_send=ping.c_send, s_recv=0, s_send=0))

    def test_ping_measures(self) -> None:
        """A ping gives the seconds there and back, though others are on their way."""
        peer = self.admitted()
        first = self.client.ping()
        self.reactor.advance(0.25)
        second = self.client.ping()
        one, two = peer.heard(pings=True)
        self.assertNotEqual(one.c_send, two.c_send)
        self.reactor.advance(0.5)
        self.pong(peer, two)
        self.pong(peer, one)
        self.assertAlmostEqual(self.successResultOf(first), 0.75)
        self.assertAlmostEqual(self.successResultOf(second), 0.5)

    def test_port_state(self) -> None:
        """The answer to a query is told from a push by its trace id."""
        peer = self.admitted()
        asked = self.client.port_state(need_srt=True)
        (query,) = peer.heard()
        self.assertEqual(query, PortStateQuery(need_srt=True))
        pushed, answer = port_state(zmq=[1]), port_state(srt=[2])
        peer.say(pushed, trace_id="another's")
        self.assertNoResult(asked)
        peer.say(answer, trace_id=peer.trace_ids[query])
        self.assertEqual(self.successResultOf(asked), answer)
        self.assertEqual(self.client.state, pushed)
        self.assertEqual(self.seen[1:], [pushed])

    def test_long_port_state(self) -> None:
        """A state of 60,000 ports is taken, in segments of 64 KiB."""
        peer = self.admitted()
        state = port_state(zmq=range(1, 60_001))
        sent = encode(state)
        for start in range(0, len(sent), 65536):
            peer.receive(sent[start : start + 65536])
        self.assertEqual(self.client.state, state)

    def test_newer_and_broken_messages(self) -> None:
        """Unknown types are left out, and payloads of wrong types; what is no JSON ends it."""
        peer = self.admitted()
        peer.receive(b'{"type":"of the future","payload":{"x":[1]}}')
        peer.receive(b'{"type":"telemetry","payload":{"current_speed":"fast"}}')
        peer.receive(b'{"type":"log","payload":{}}{"type":7}')
        peer.receive(b'{"type":"telemetry","payload":{"current_speed":2.0,"new":1}}')
        self.assertEqual(self.seen[1:], [Telemetry(current_speed=2.0)])
        peer.receive(b"HTTP/1.1 400 Bad Request\r\n")
        self.assertTrue(peer.transport.aborted)
        peer.say(Telemetry(current_speed=3.0))
        self.assertEqual(len(self.seen), 2)

    def test_a_callback_that_fails(self) -> None:
        """A failing callback is logged and stops neither others nor the client."""
        self.client.events.on(Telemetry, lambda _: 1 / 0)
        undo = self.client.events.on(Telemetry, self.seen.append)
        peer = self.admitted()
        peer.say(Telemetry(current_speed=2.0))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(len(self.seen), 3)
        undo()
        undo()
        peer.say(Telemetry(current_speed=2.0))
        self.flushLoggedErrors(ZeroDivisionError)
        self.assertEqual(len(self.seen), 4)

    def test_only_a_backend_may(self) -> None:
        """An FE has neither keys to tell nor telemetry to ask for."""
        self.admitted()
        self.fails(self.client.exchange_key("k"), ClientError)
        self.fails(self.client.subscribe_telemetry(), ClientError)


class LossTests(ControlCase):
    """Requests and the loss of the connection."""

    def test_outstanding_fail_at_once_later_ones_wait(self) -> None:
        """What was asked fails; what is asked meanwhile is sent on the next connection."""
        peer = self.admitted()
        before = [self.client.acquire(need_zmq=True), self.client.ping()]
        peer.lose()
        for asked in before:
            self.fails(asked, ControlLost)
        later = self.client.acquire(need_zmq=True)
        self.reactor.advance(0.1)
        peer = self.peer()
        self.assertNoResult(later)
        peer.admit()
        (asked,) = peer.heard()
        peer.say(granted(asked))
        self.assertEqual(self.successResultOf(later).session_id, "s-1")

    def test_later_ones_wait_no_longer_than_allowed(self) -> None:
        """Without a connection a request fails after its time-out."""
        asked = self.client.ping()
        self.reactor.advance(9.9)
        self.assertNoResult(asked)
        self.reactor.advance(0.2)
        self.fails(asked, ControlLost)

    def test_cancelled_before_it_was_sent(self) -> None:
        """A request that was cancelled while it waited is never sent."""
        asked = self.client.acquire(need_zmq=True)
        asked.cancel()
        self.fails(asked, CancelledError)
        peer = self.peer()
        peer.admit()
        self.assertEqual(peer.heard(), [])

    def test_stop(self) -> None:
        """`stop` closes in order, fails what waits, and fires when the connection is gone."""
        peer = self.admitted()
        asked = [self.client.ping(), self.client.pause(3)]
        stopped = self.client.stop()
        self.assertTrue(peer.transport.disconnecting)
        self.assertNoResult(stopped)
        peer.lose(done())
        self.assertIsNone(self.successResultOf(stopped))
        self.assertIsNone(self.successResultOf(self.client.when_stopped()))
        self.assertIsNone(self.successResultOf(self.client.stop()))
        for one in (*asked, self.client.ping(), self.client.when_connected()):
            self.fails(one, Stopped)
        self.assertEqual([type(it) for it in self.seen], [Connected, Disconnected, Ended])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stop_does_not_wait_for_a_dead_gateway(self) -> None:
        """What is not closed in order within a second is reset."""
        peer = self.admitted()
        self.client.stop()
        self.reactor.advance(1.1)
        self.assertTrue(peer.transport.aborted)

    def test_stop_in_every_state(self) -> None:
        """Before a connection, while it registers, and between two attempts."""
        self.successResultOf(self.client.stop())
        self.setUp()
        peer = self.peer()
        self.successResultOf(self.client.stop())
        self.assertTrue(peer.transport.aborted)
        peer.lose()
        self.setUp()
        refuse_dial(self.reactor)
        self.successResultOf(self.client.stop())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stop_by_who_is_told_of_the_connection(self) -> None:
        """A callback may stop the client at once."""
        self.client.events.on(Connected, lambda _: self.client.stop())
        peer = self.peer()
        peer.admit()
        self.assertTrue(peer.transport.disconnecting)
        peer.lose(done())
        self.successResultOf(self.client.when_stopped())
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_never_started(self) -> None:
        """A client that was never started can be stopped."""
        client = ControlClient(self.reactor, GATEWAY, Role.BE)
        self.successResultOf(client.stop())

    def test_lost_while_registering(self) -> None:
        """A connection that ends before `auth` is tried again."""
        peer = self.peer()
        peer.lose(Failure(reset().value))
        self.reactor.advance(0.1)
        self.admitted()
        self.assertEqual([type(it) for it in self.seen], [Unreachable, Connected])


class BackendControlTests(ControlCase):
    """What a BE alone may ask."""

    role = Role.BE

    def test_key_and_telemetry_again_after_a_loss(self) -> None:
        """The gateway is told anew what it may have forgotten."""
        peer = self.admitted()
        key = self.client.exchange_key("PEM")
        subscribed = self.client.subscribe_telemetry()
        sent = peer.heard(pings=True)
        wanted = [KeyExchange(public_key="PEM"), PortAlloc()]
        self.assertEqual([it for it in sent if not isinstance(it, Ping)], wanted)
        for message in sent:
            if isinstance(message, Ping):
                peer.receive(
                    b'{"type":"pong","payload":{"c_send":%d,"s_recv":1,"s_send":1}}'
                    % message.c_send
                )
        self.successResultOf(key)
        self.successResultOf(subscribed)
        peer.lose()
        self.reactor.advance(0.1)
        peer = self.peer()
        peer.admit()
        self.assertEqual(peer.heard(), wanted)
