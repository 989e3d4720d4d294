"""log messages (contract section 3, log)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger, LogPublisher
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relayx.control.logstream import QUEUE, LogStream
from tests.test_control_bed import ControlBed, Wire


class ThreadedClock(Clock):
    """A clock that takes calls from other threads, at the next advance."""

    def callFromThread(self, what: Callable[..., Any], *args: Any) -> None:
        self.callLater(0, what, *args)


class Streaming(SynchronousTestCase):
    """A log of its own whose lines go to the clients."""

    def setUp(self) -> None:
        self.bed = ControlBed(self)
        self.clock = ThreadedClock()
        self.connections = [self.bed.registered() for _ in range(2)]
        self.to = [protocol.conn for protocol, _ in self.connections]
        self.stream = LogStream(self.clock, self.bed.factory, self.render, lambda: self.to)
        self.publisher = LogPublisher(self.stream)
        self.log = Logger(namespace="relayx", observer=self.publisher)

    def render(self, event: dict[str, Any]) -> str | None:
        text = event["log_format"]
        return None if text == "hidden" else f"{text}\n"

    def deliver(self) -> None:
        self.clock.pump([0.0, 0.1])

    def got(self, number: int = 0) -> list[Any]:
        messages = self.wire(number).said()
        self.assertTrue(all(message["type"] == "log" for message in messages))
        return [message["payload"] for message in messages]

    def wire(self, number: int) -> Wire:
        return self.connections[number][1]

    def test_lines_in_order_to_each(self) -> None:
        for text in ("one", "two"):
            self.log.info(text)
        self.assertEqual(self.got(), [])
        self.deliver()
        self.assertEqual((self.got(0), self.got(1)), (["one", "two"],) * 2)

    def test_again(self) -> None:
        for text in ("one", "two"):
            self.log.info(text)
            self.deliver()
        self.assertEqual(self.got(), ["one", "two"])

    def test_what_is_not_shown(self) -> None:
        self.log.info("hidden")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.deliver()
        self.assertEqual(self.got(), [])

    def test_to_those_that_are_named_when_it_is_sent(self) -> None:
        self.log.info("one")
        self.to.pop()
        self.deliver()
        self.assertEqual((self.got(0), self.got(1)), (["one"], []))

    def test_to_nobody(self) -> None:
        self.to.clear()
        before = self.bed.names.given["msg"]
        self.log.info("one")
        self.deliver()
        self.assertEqual(self.bed.names.given["msg"], before)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_client_that_is_gone(self) -> None:
        self.connections[0][0].connectionLost()
        self.log.info("one")
        self.deliver()
        self.assertEqual(self.got(1), ["one"])

    def test_a_client_that_lags_keeps_its_messages(self) -> None:
        self.wire(0).fill()
        for n in range(2000):
            self.log.info(f"line {n}")
            self.deliver()
        self.wire(0).empty()
        lines = self.got(0)
        self.assertEqual(lines[-1], "line 1999")
        self.assertTrue(len(lines) < 2000)
        self.assertEqual(len(self.got(1)), 2000)
        self.assertFalse(self.wire(0).aborted)

    def test_bounded(self) -> None:
        """The oldest are lost first, and counted."""
        for n in range(QUEUE + 3):
            self.log.info(f"line {n}")
        self.assertEqual(self.stream.lines_dropped, 3)
        self.deliver()
        lines = self.got()
        self.assertEqual((len(lines), lines[0]), (QUEUE, "line 3"))

    def test_never_feeds_itself(self) -> None:
        """A line about sending a line gets to no client."""
        wire = self.wire(0)
        write = wire.write

        def loud(data: bytes) -> None:
            self.log.info("sending")
            write(data)

        wire.write = loud
        self.log.info("one")
        for _ in range(5):
            self.deliver()
        self.assertEqual((self.got(0), self.got(1)), (["one"], ["one"]))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_goes_on_after_a_failure(self) -> None:
        """A write that raises ends that delivery alone."""
        wire = self.wire(0)
        write = wire.writeSequence

        def failing(data: list[bytes]) -> None:
            wire.writeSequence = write
            raise RuntimeError("no")

        wire.writeSequence = failing
        self.log.info("one")
        self.assertRaises(RuntimeError, self.deliver)
        self.log.info("two")
        self.deliver()
        self.assertEqual(self.got(), ["two"])

    def test_closed(self) -> None:
        self.log.info("one")
        self.stream.close()
        self.log.info("two")
        self.deliver()
        self.assertEqual(self.got(), [])

    def test_closed_while_one_is_due(self) -> None:
        self.log.info("one")
        self.clock.advance(0)
        self.stream.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_call_however_many_lines(self) -> None:
        for _ in range(100):
            self.log.info("x")
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)


class OffThread(TestCase):
    """A line may come from any thread; it is sent in the reactor's."""

    def test_from_a_thread(self) -> Any:
        from twisted.internet import reactor

        bed = ControlBed(self)
        protocol, wire = bed.registered()
        clock = ThreadedClock()
        stream = LogStream(clock, bed.factory, lambda e: e["log_format"], lambda: [protocol.conn])
        log = Logger(namespace="relayx", observer=stream)
        pool = ThreadPool(0, 2)
        pool.start()
        self.addCleanup(pool.stop)
        done = deferToThreadPool(reactor, pool, log.info, "from a thread")

        def check(_: object) -> None:
            self.assertEqual(wire.value(), b"")
            clock.pump([0.0, 0.1])
            self.assertEqual([m["payload"] for m in wire.said()], ["from a thread"])

        return done.addCallback(check)
