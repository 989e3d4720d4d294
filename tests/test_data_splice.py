"""Splice, its pipes and its road where the system refuses something (contract section 7)."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from relayx.core.messages import Role
from relayx.data import pipes
from relayx.data.pipes import F_SETPIPE_SZ, KEPT, LEAST, Pipe, PipePool
from relayx.data.plane import DataPlane
from relayx.data.road import IN, Road
from relayx.data.settings import Settings
from relayx.data.splice import Splicer
from relayx.net.tcp import Failure
from tests.guide_peer import DEADLINE, Data
from tests.live import Gateway, live
from tests.test_data_plane import Bed, listen_on_a_free_port
from tests.test_loopback_data_regressions import OPEN, Inside, ask, until


def refusal(number: int) -> OSError:
    """What a system call raises."""
    return OSError(number, os.strerror(number))


class Pipes(SynchronousTestCase):
    """The pool of pipes (section 1, ring_buffer_size)."""

    def test_the_system_refuses_the_size(self) -> None:
        """Half of it is asked for, and so on; what the system gave is used, which is said."""
        asked = []
        control = fcntl.fcntl

        def refuse(descriptor: int, command: int, size: int = 0) -> int:
            if command == F_SETPIPE_SZ:
                asked.append(size)
                raise refusal(errno.EPERM)
            return control(descriptor, command, size)

        self.patch(fcntl, "fcntl", refuse)
        pool = PipePool(LEAST * 4)
        pipe = pool.take()
        self.addCleanup(pipe.close)
        self.assertLess(pipe.size, LEAST * 4)
        self.assertEqual(asked[:2], [LEAST * 4, LEAST * 2])

    def test_an_empty_pipe_is_lent_again(self) -> None:
        pool = PipePool(LEAST)
        pipe = pool.take()
        pool.give_back(pipe)
        self.assertIs(pool.take(), pipe)
        self.assertEqual(pool.lent, 1)
        pool.give_back(pipe)
        pool.close()
        self.assertRaises(OSError, os.fstat, pipe.end_in)

    def test_a_pipe_with_bytes_is_not(self) -> None:
        pool = PipePool(LEAST)
        pipe = pool.take()
        pipe.held = os.write(pipe.end_in, b"secret")
        pool.give_back(pipe)
        self.assertRaises(OSError, os.fstat, pipe.end_in)
        self.assertEqual((pipe.held, pool.lent), (0, 0))

    def test_few_are_kept(self) -> None:
        pool = PipePool(LEAST)
        lent = [pool.take() for _ in range(KEPT + 1)]
        for pipe in lent:
            pool.give_back(pipe)
        self.assertRaises(OSError, os.fstat, lent[-1].end_in)
        os.fstat(lent[0].end_in)
        pool.close()

    def test_the_system_does_not_say_its_most(self) -> None:
        self.patch(pipes, "_MAX_FILE", "/nonexistent")
        pool = PipePool(1 << 30)
        pipe = pool.take()
        self.addCleanup(pipe.close)
        self.assertGreaterEqual(pipe.size, 4096)

    def test_a_small_pipe(self) -> None:
        pipe = Pipe(1)
        self.addCleanup(pipe.close)
        self.assertGreater(pipe.size, 1)


class Sharing(TestCase):
    """The pipe that all sessions use in turn."""

    def test_never_with_anothers_bytes(self) -> None:
        splicer = Splicer(reactor, LEAST)
        self.addCleanup(splicer.close)
        first = splicer.pipe()
        self.assertIs(splicer.pipe(), first)
        first.held = os.write(first.end_in, b"secret")
        second = splicer.pipe()
        self.assertIsNot(second, first)
        self.assertEqual((first.held, second.held, splicer.pool.lent), (0, 0, 1))

    def test_closed_twice(self) -> None:
        splicer = Splicer(reactor, LEAST)
        splicer.close()
        splicer.close()
        self.assertEqual(splicer.road.fileno(), -1)

    def test_it_is_said_once(self) -> None:
        splicer = Splicer(reactor, LEAST)
        self.addCleanup(splicer.close)
        for _ in range(2):
            splicer.no_pipe("none left")
            self.assertTrue(splicer.works)
        for _ in range(2):
            splicer.give_up("no such call")
            self.assertFalse(splicer.works)


class Walker:
    """A lane that writes down what it is told."""

    def __init__(self, told: Callable[[int], None] = lambda events: None) -> None:
        self.heard: list[int] = []
        self.failed = 0
        self._told = told

    def ready(self, events: int) -> None:
        """See road.Lane."""
        self.heard.append(events)
        self._told(events)

    def crashed(self) -> None:
        """See road.Lane."""
        self.failed += 1


class Guests:
    """A reactor that waits on the road itself, as relayx.reactor does."""

    def __init__(self) -> None:
        self.road: Any = None

    def adopt_road(self, road: Road) -> bool:
        """Take it."""
        self.road = road
        return True

    def release_road(self, road: Road) -> None:
        """Let it go."""
        self.road = None

    def seconds(self) -> float:
        """Always the same."""
        return 0.0


class Roads(TestCase):
    """The road by itself."""

    def setUp(self) -> None:
        self.hosting = Guests()
        self.road = Road(self.hosting)
        self.addCleanup(self.road.close)
        self.near, self.far = socket.socketpair()
        self.addCleanup(self.near.close)
        self.addCleanup(self.far.close)

    def read(self, events: int = 0) -> None:
        """Take what has come."""
        self.near.recv(100)

    def fail(self, events: int) -> None:
        """A fault in a lane."""
        raise RuntimeError("a fault of a lane")

    def test_waits_for_its_lanes_and_its_guest(self) -> None:
        guest, other = socket.socketpair()
        self.addCleanup(guest.close)
        self.addCleanup(other.close)
        lane = Walker(self.read)
        self.road.set(self.near.fileno(), lane, 0, IN)
        self.road.host(guest.fileno())
        self.assertTrue(self.road.wait(0.001), "the time has passed")
        self.far.send(b"x")
        self.assertFalse(self.road.wait(DEADLINE))
        self.assertEqual(lane.heard, [IN])
        other.send(b"x")
        self.assertTrue(self.road.wait(DEADLINE))

    def test_a_failing_lane_is_told(self) -> None:
        lane = Walker(self.fail)
        self.road.set(self.near.fileno(), lane, 0, IN)
        self.far.send(b"x")
        self.road.wait(DEADLINE)
        self.assertEqual(lane.failed, 1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_serving_a_failing_lane(self) -> None:
        def fail(events: int) -> None:
            self.read()
            self.fail(events)

        lane = Walker(fail)
        self.road.set(self.near.fileno(), lane, 0, IN)
        self.far.send(b"x")
        self.road.doRead()
        self.assertEqual(lane.failed, 1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_dropped_but_not_closed(self) -> None:
        """A descriptor without a lane is taken out, and told to nobody."""
        for look in (self.road.serve, lambda: self.road.wait(DEADLINE)):
            lane = Walker()
            self.road.set(self.near.fileno(), lane, 0, IN)
            self.road.drop(self.near.fileno())
            self.far.send(b"x")
            look()
            self.assertEqual(lane.heard, [])
            self.assertTrue(self.road.wait(0))

    def test_closed(self) -> None:
        self.assertIs(self.hosting.road, self.road)
        self.road.close()
        self.road.close()
        self.assertIsNone(self.hosting.road)
        self.road.serve()
        self.road.connectionLost(None)
        self.assertEqual((self.road.fileno(), self.road.logPrefix()), (-1, "relayx road"))


class Refused(Inside):
    """System calls that fail in the middle of sessions (section 7)."""

    def setUp(self) -> None:
        super().setUp()
        if not hasattr(os, "splice"):
            self.skipTest("no splice here")
        self.failing: list[BaseException | None] = []
        splice = os.splice

        def may_fail(*what: Any, **options: Any) -> int:
            failure = self.failing.pop(0) if self.failing else None
            if failure is not None:
                raise failure
            return splice(*what, **options)

        self.patch(os, "splice", may_fail)

    def fails(self, *failures: BaseException | None) -> None:
        """Have the next calls fail so; None is one that does not."""
        ask(lambda: self.failing.extend(failures))

    def passes(self, fe: Data, be: Data) -> None:
        """Bytes go both ways."""
        fe.send(b"question")
        self.assertEqual(be.receive(8), b"question")
        be.send(b"answer")
        self.assertEqual(fe.receive(6), b"answer")

    @live(zmq=3, srt=0, data=OPEN)
    def test_an_exception_ends_one_session_alone(self, gateway: Gateway) -> None:
        """Its bytes, which are in the shared pipe, are nobody else's either."""
        pairs = [gateway.pair(port) for port in gateway.zmq]
        for fe, be in pairs:
            self.passes(fe, be)
        for (fe, be), failures in zip(
            pairs[:2], ([RuntimeError("a fault")], [None, RuntimeError("another")]), strict=True
        ):
            self.fails(*failures)
            fe.send(b"secret")
            self.assertEqual((be.rest(), fe.rest()), ((b"", "reset"), (b"", "reset")))
        self.passes(*pairs[2])
        self.passes(*gateway.pair(gateway.zmq[0]))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)

    @live(zmq=2, srt=0, data=OPEN)
    def test_no_splice_in_the_middle(self, gateway: Gateway) -> None:
        """The buffered path takes over with what is in the pipe, and serves later sessions."""
        fe, be = gateway.pair(gateway.zmq[0])
        self.passes(fe, be)
        self.fails(None, refusal(errno.EINVAL))
        self.passes(fe, be)
        self.passes(*gateway.pair(gateway.zmq[1]))
        fe.shutdown()
        self.assertEqual(be.rest(), (b"", "end"))

    @live(zmq=1, srt=0, data=OPEN)
    def test_no_splice_for_what_is_stuck(self, gateway: Gateway) -> None:
        """Everything is delivered, in order, and what comes behind it."""
        fe, be = self.narrow_pair(gateway)
        sent = self.stuck(fe)
        self.fails(refusal(errno.EINVAL))
        rest = gateway.background(be.rest)
        until(lambda: not self.failing)
        fe.send(b"last")
        fe.shutdown()
        be.shutdown()
        self.assertEqual(rest.result(DEADLINE), (b"z" * sent + b"last", "end"))

    @live(zmq=1, srt=0, data=OPEN)
    def test_an_end_behind_what_is_stuck(self, gateway: Gateway) -> None:
        """Section 7: an end of stream comes behind all bytes, whichever path they take."""
        for failures in ([], [refusal(errno.EINVAL)]):
            self.built.clear()
            fe, be = self.narrow_pair(gateway)
            sent = self.stuck(fe)
            source = self.end_of(Role.FE)
            (session,) = {one.session for one in self.built}
            assert session is not None
            pump = session.pump
            self.fails(*failures)
            ask(lambda pump=pump, source=source: pump.end(source))
            self.assertEqual(be.rest(), (b"z" * sent, "end"))
            be.reset()
            self.assertEqual(fe.rest(), (b"", "reset"))

    @live(zmq=1, srt=0, data=OPEN)
    def test_no_splice_while_a_side_is_discarded(self, gateway: Gateway) -> None:
        """What is thrown away stays thrown away on the other path."""
        fe, be = gateway.pair(gateway.zmq[0])
        self.passes(fe, be)
        source = self.end_of(Role.BE)
        (session,) = {one.session for one in self.built}
        assert session is not None
        ask(lambda: session.pump.discard(source))
        self.fails(refusal(errno.EINVAL))
        fe.send(b"question")
        self.assertEqual(be.receive(8), b"question")
        before = source.received
        be.send(b"nobody's")
        until(lambda: source.received == before + 8)
        be.shutdown()
        self.assertEqual(fe.rest(), (b"", "end"))

    @live(zmq=1, srt=0, data=OPEN)
    def test_a_write_fails_for_what_is_stuck(self, gateway: Gateway) -> None:
        """The other side is reset, and the next session is not harmed."""
        fe, be = self.narrow_pair(gateway)
        self.stuck(fe)
        self.fails(refusal(errno.ETIMEDOUT))
        be.rest()
        self.assertEqual(fe.rest(), (b"", "reset"))
        self.passes(*gateway.pair(gateway.zmq[0]))

    @live(zmq=1, srt=0, data=OPEN)
    def test_a_read_fails(self, gateway: Gateway) -> None:
        fe, be = gateway.pair(gateway.zmq[0])
        self.passes(fe, be)
        self.fails(refusal(errno.ETIMEDOUT))
        fe.send(b"x")
        self.assertEqual((be.rest(), fe.rest()), ((b"", "reset"), (b"", "reset")))

    @live(zmq=1, srt=0, data=OPEN)
    def test_a_kept_bes_bytes_are_discarded_when_the_fe_is_gone(self, gateway: Gateway) -> None:
        """Section 7, keep: what is stuck is thrown away, and the BE serves the next FE."""
        client = gateway.fe()
        gateway.be()
        be = gateway.kept(gateway.zmq[0], client)
        fe = gateway.entering(gateway.zmq[0])
        fe.expect("RLX1PAIRED")
        sending = gateway.background(be.send, b"late" * 4_000_000)
        until(lambda: self.end_of(Role.FE).in_pipe)
        fe.reset()
        sending.result(DEADLINE)
        be.wait_until_acknowledged()
        client.state(lambda state: gateway.zmq[0] in state["zmq_ready_ports"])
        fe = gateway.entering(gateway.zmq[0])
        fe.expect("RLX1PAIRED")
        self.passes(fe, be)

    @live(zmq=1, srt=0, data=OPEN)
    def test_a_dead_peer_is_seen_once(self, gateway: Gateway) -> None:
        """A second failure, and one after the end, change nothing."""
        fe, be = gateway.pair(gateway.zmq[0])
        self.passes(fe, be)
        source = self.end_of(Role.FE)

        def fail() -> Failure | None:
            source.fail(Failure.DEAD)
            source.fail(Failure.RESET)
            return source.failure

        self.assertIs(ask(fail), Failure.DEAD)
        self.assertEqual(be.rest()[1], "reset")
        until(lambda: source.disconnected)
        self.assertIs(ask(fail), Failure.DEAD)


class Accepting(Bed):
    """What accept can say (section 1)."""

    settings = {"splice": True}

    def refuse(self, *failures: OSError) -> list[OSError]:
        """Have accept fail so, once each; what is left of the failures."""
        left = list(failures)
        accept = socket.socket.accept

        def may_fail(listening: socket.socket) -> Any:
            if left:
                raise left.pop(0)
            return accept(listening)

        self.patch(socket.socket, "accept", may_fail)
        return left

    async def test_aborted(self) -> None:
        left = self.refuse(ConnectionAbortedError(), refusal(errno.EINTR))
        _, link = await self.come(role="FE")
        self.assertEqual((left, self.heard), ([], [("hello", link, self.number, "127.0.0.1")]))

    async def test_out_of_descriptors(self) -> None:
        """Twisted's own way of accepting serves then; the session works as any other."""
        left = self.refuse(refusal(errno.EMFILE))
        fe, be = await self.session()
        self.assertEqual(left, [])
        for giver, taker in ((fe, be), (be, fe)):
            giver.transport.write(b"bytes")
            await self.until(lambda taker=taker: taker.got == b"bytes")

    async def test_ipv6_zone(self) -> None:
        """A link-local client's address has its zone, as on the control connection."""
        address = link_local()
        plane = DataPlane(reactor, Settings(interface="::", splice=False), self)
        number = listen_on_a_free_port(plane, "::1", socket.AF_INET6)
        peer = socket.socket(socket.AF_INET6)
        self.addCleanup(peer.close)
        peer.setblocking(False)
        peer.connect_ex((address[0], number, 0, address[3]))
        await self.until(plane.open_connections)
        peer.send(b'RLX1HELLO {"role":"FE"}\n')
        await self.until(lambda: self.heard)
        self.assertEqual(self.heard[0][2:], (number, f"{address[0]}%{address[4]}"))
        peer.close()
        for closing in plane.stop_listening():
            await closing
        plane.close()
        await self.until(lambda: not plane.open_connections())
        plane.release()


def link_local() -> tuple[str, int, int, int, str]:
    """A link-local address of this machine, as for connect, with its interface."""
    try:
        with open("/proc/net/if_inet6") as file:
            found = [line.split() for line in file if line.startswith("fe80")]
    except OSError:
        found = []
    if not found:
        raise SkipTest("no link-local address here")
    number, index, name = found[0][0], int(found[0][1], 16), found[0][5]
    return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(number)), 0, 0, index, name
