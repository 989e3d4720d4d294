"""Corners of the byte path: what splice alone would get wrong (contract section 7)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from tests.guide_peer import DEADLINE
from tests.live import Gateway, live


@contextmanager
def gateway_held() -> Iterator[None]:
    """Hold the gateway's reactor, so that all that happens meanwhile comes at once."""
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go.wait(DEADLINE)

    reactor.callFromThread(hold)  # type: ignore[attr-defined]
    held.wait(DEADLINE)
    try:
        yield
    finally:
        go.set()


@contextmanager
def turns() -> Iterator[list[None]]:
    """The turns that the gateway's reactor takes meanwhile."""
    taken: list[None] = []
    iterate = reactor.doIteration  # type: ignore[attr-defined]

    def iteration(delay: float | None) -> None:
        taken.append(None)
        iterate(delay)

    reactor.doIteration = iteration  # type: ignore[attr-defined]
    try:
        yield taken
    finally:
        reactor.doIteration = iterate  # type: ignore[attr-defined]


class Corners(TestCase):
    """By splice, which is the default, where the system has it."""

    @live(zmq=4, srt=0, data={"admission": "open"})
    def test_a_reset_harms_no_other_session(self, gateway: Gateway) -> None:
        """Bytes for a side that has just been reset: their pipe is not used again."""
        pairs = [gateway.pair(port) for port in gateway.zmq[:3]]
        for fe, be in pairs:
            fe.send(b"hello")
            self.assertEqual(be.receive(5), b"hello")
        with gateway_held():
            pairs[0][0].send(b"x" * 1000)
            pairs[1][0].send(b"second")
            pairs[0][1].reset()
        self.assertEqual(pairs[1][1].receive(6), b"second")
        self.assertEqual(pairs[0][0].rest()[1], "reset")
        for fe, be in (*pairs[1:], gateway.pair(gateway.zmq[3])):
            fe.send(b"again")
            self.assertEqual(be.receive(5), b"again")

    @live(zmq=1, srt=0, data={"admission": "open"})
    def test_an_urgent_byte(self, gateway: Gateway) -> None:
        """It stays in its place, what comes behind it arrives, and nothing spins."""
        fe, be = gateway.pair(gateway.zmq[0])
        fe.send(b"before ")
        fe.socket.send(b"urgent!", socket.MSG_OOB)
        self.assertEqual(be.receive(14), b"before urgent!")
        with turns() as taken:
            self.assertRaises(TimeoutError, be.fill, 0.3)
        self.assertLess(len(taken), 100)  # one that spins takes thousands, few on a busy machine
        fe.send(b" after")
        fe.shutdown()
        self.assertEqual(be.rest(), (b" after", "end"))


class ControlEnds(TestCase):
    """A control client that ends its stream behind its last message (section 2)."""

    @live()
    def test_it_still_gets_its_answer(self, gateway: Gateway) -> None:
        for said, code in (
            (b"nonsense", "INVALID_MESSAGE"),
            (b'{"type":"register","payload":{"role":"FE","secret":"no"}}', "AUTH_FAILED"),
        ):
            client = gateway.control()
            with gateway_held():
                client.send(said)
                client.shutdown()
            answers = client.rest()
            self.assertEqual([a["payload"]["error_code"] for a in answers], [code])
