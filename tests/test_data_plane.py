"""The data plane on real sockets over loopback (contract sections 6 and 7)."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest, TestCase

from relayx.core import effects as fx
from relayx.core.errors import Code
from relayx.core.hello import Hello, Paired
from relayx.core.messages import Cause
from relayx.core.messages import Protocol as Label
from relayx.data.plane import DataPlane
from relayx.data.session import Limits
from relayx.data.settings import Settings


class Peer(Protocol):
    """A client's end: what it got, and how its connection ended."""

    def __init__(self) -> None:
        self.got = b""
        self.ended = False

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def connectionLost(self, reason: object = None) -> None:
        self.ended = True

    def say(self, **hello: Any) -> None:
        self.transport.write(b"RLX1HELLO " + json.dumps(hello).encode() + b"\n")


def listen_on_a_free_port(plane: DataPlane, host: str, family: int) -> int:
    """Have the plane listen on a port that the system gave; again where it was taken since."""
    for _ in range(10):
        with socket.create_server((host, 0), family=family) as free:
            number: int = free.getsockname()[1]
        try:
            plane.listen(number)
        except CannotListenError:
            continue
        return number
    raise RuntimeError("no port stays free here")


class Bed(TestCase):
    """A data plane on one free port; what it tells is written down."""

    settings: dict[str, Any] = {}

    def setUp(self) -> None:
        self.heard: list[tuple[Any, ...]] = []
        self.hellos: dict[int, Hello] = {}
        self.peers: list[Peer] = []
        settings = Settings(**{"interface": "127.0.0.1", "splice": False} | self.settings)
        self.plane = DataPlane(reactor, settings, self)
        self.number = listen_on_a_free_port(self.plane, "127.0.0.1", socket.AF_INET)

    async def tearDown(self) -> None:
        for closing in self.plane.stop_listening():
            await closing
        self.plane.close()
        for peer in self.peers:
            peer.transport.abortConnection()
        await self.until(lambda: not self.plane.open_connections())
        await self.until(lambda: all(peer.ended for peer in self.peers))
        self.plane.release()

    # data.events.Events

    def said_hello(self, link: int, port: int, address: str, hello: Hello) -> None:
        self.hellos[link] = hello
        self.heard.append(("hello", link, port, address))

    def hello_failed(self, port: int, address: str, text: str) -> None:
        self.heard.append(("hello failed", port, address, text))

    def link_lost(self, link: int) -> None:
        self.heard.append(("lost", link))

    def session_draining(self, pairing_id: str) -> None:
        self.heard.append(("draining", pairing_id))

    def session_over(self, pairing_id: str, outcome: Any) -> None:
        self.heard.append(("over", pairing_id, outcome.cause, outcome.be_kept))

    # steps

    async def until(self, true: Callable[[], object]) -> None:
        """Let the reactor run until something is so; trial's timeout ends the waiting."""
        while not true():
            await deferLater(reactor, 0.005)

    async def dial(self) -> Peer:
        endpoint = HostnameEndpoint(reactor, "127.0.0.1", self.number)
        peer = await connectProtocol(endpoint, Peer())
        self.peers.append(peer)
        return peer

    async def come(self, **hello: Any) -> tuple[Peer, int]:
        """A connection that has said HELLO, and its link."""
        peer = await self.dial()
        known = len(self.hellos)
        peer.say(**hello)
        await self.until(lambda: len(self.hellos) > known)
        return peer, max(self.hellos)

    def pair(self, fe: int, be: int, *, keep: bool = False) -> None:
        told = Paired("pair-1", "", "", "127.0.0.1", "")
        self.plane.pair(
            fx.Pair("pair-1", self.number, Label.ZMQ, fe, be, keep, to_fe=told, to_be=told)
        )

    async def session(self, *, keep: bool = False) -> tuple[Peer, Peer]:
        be, be_link = await self.come(role="BE")
        self.plane.wait(fx.Wait(be_link))
        fe, fe_link = await self.come(role="FE")
        self.pair(fe_link, be_link, keep=keep)
        self.heard.clear()
        return fe, be


class Hellos(Bed):
    """HELLO, and refusals (section 6)."""

    async def test_told(self) -> None:
        peer, link = await self.come(role="BE", client_id="b")
        self.assertEqual(self.heard, [("hello", link, self.number, "127.0.0.1")])
        self.assertEqual(self.hellos[link].client_id, "b")
        self.assertEqual(peer.got, b"")

    async def test_numbered_as_asked(self) -> None:
        """Other connections to the same switchboard have the numbers between."""
        first, numbers = self.number, iter((7, 9))
        plane = DataPlane(reactor, Settings(interface="127.0.0.1", splice=False), self, numbers)
        self.addCleanup(plane.release)
        self.number = listen_on_a_free_port(plane, "127.0.0.1", socket.AF_INET)
        links = [(await self.come(role="FE"))[1] for _ in range(2)]
        self.assertEqual(links, [7, 9])
        self.number = first
        for closing in plane.stop_listening():
            await closing
        plane.close()
        await self.until(lambda: not plane.open_connections())

    async def test_waiting_be_with_ack(self) -> None:
        peer, link = await self.come(role="BE", ack=True)
        self.plane.wait(fx.Wait(link))
        await self.until(lambda: peer.got)
        self.assertEqual(peer.got, b'RLX1OK {"state":"ready"}\n')

    async def test_waiting_fe_hears_nothing(self) -> None:
        peer, link = await self.come(role="FE", ack=True)
        self.plane.wait(fx.Wait(link))
        self.plane.refuse(fx.Refuse(link, Code.PORT_EMPTY, "nobody"))
        await self.until(lambda: peer.ended)
        self.assertEqual(peer.got, b'RLX1ERR {"error_code":"PORT_EMPTY","error":"nobody"}\n')

    async def test_refused_without_ack(self) -> None:
        peer, link = await self.come(role="FE")
        self.plane.refuse(fx.Refuse(link, Code.PORT_EMPTY, "nobody"))
        await self.until(lambda: peer.ended)
        self.assertEqual(peer.got, b"")
        self.assertNotIn(("lost", link), self.heard)

    async def test_invalid_with_ack(self) -> None:
        peer = await self.dial()
        peer.say(role="XX", ack=True)
        await self.until(lambda: peer.ended)
        self.assertTrue(peer.got.startswith(b'RLX1ERR {"error_code":"HELLO_INVALID"'), peer.got)
        self.assertEqual([event[:3] for event in self.heard],
                         [("hello failed", self.number, "127.0.0.1")])  # fmt: skip

    async def test_invalid_without_ack(self) -> None:
        peer = await self.dial()
        peer.transport.write(b"GET / HTTP/1.0\r\n\r\n")
        await self.until(lambda: peer.ended)
        self.assertEqual((peer.got, len(self.heard)), (b"", 1))

    async def test_gone_before_hello(self) -> None:
        peer = await self.dial()
        await self.until(self.plane.open_connections)
        peer.transport.loseConnection()
        await self.until(lambda: not self.plane.open_connections())
        self.assertEqual(self.heard, [])

    async def test_effects_on_one_that_is_gone(self) -> None:
        """The rules are told that it is lost; nothing else happens."""
        self.plane.wait(fx.Wait(99))
        self.plane.refuse(fx.Refuse(99, Code.PORT_BUSY, "x"))
        self.plane.close_link(fx.CloseLink(99))
        self.plane.end_session(fx.EndSession("pair-99", Cause.DRAIN))
        self.assertEqual(self.heard, [("lost", 99), ("over", "pair-99", Cause.DRAIN, False)])

    async def test_closed_link(self) -> None:
        peer, link = await self.come(role="BE", ack=True)
        self.plane.wait(fx.Wait(link))
        self.plane.close_link(fx.CloseLink(link))
        await self.until(lambda: peer.ended)
        self.assertNotIn(("lost", link), self.heard)


class Late(Bed):
    """hello_timeout and max_waiting_hello (sections 1 and 6)."""

    settings = {"hello_timeout": 0.1, "max_waiting_hello": 2}

    async def test_no_hello_in_time(self) -> None:
        peer = await self.dial()
        await self.until(lambda: peer.ended)
        ((what, port, _, text),) = self.heard
        self.assertEqual((what, port), ("hello failed", self.number))
        self.assertIn("0.1 s", text)

    async def test_the_oldest_is_closed(self) -> None:
        self.plane.change(Settings(hello_timeout=60.0, max_waiting_hello=2))
        peers = []
        for count in range(1, 4):
            peers.append(await self.dial())
            await self.until(lambda c=count: self.plane.open_connections() >= min(c, 2))
        await self.until(lambda: peers[0].ended)
        self.assertEqual(self.heard, [])
        self.plane.change(Settings(**self.settings))
        await self.until(lambda: peers[1].ended and peers[2].ended)
        self.assertEqual(len(self.heard), 2)


class Waiting(Bed):
    """A waiting connection's end is seen (sections 5 to 7)."""

    async def test_be_ends_its_stream(self) -> None:
        peer, link = await self.come(role="BE")
        self.plane.wait(fx.Wait(link))
        peer.transport.loseWriteConnection()
        await self.until(lambda: ("lost", link) in self.heard)

    async def test_be_that_is_not_read_any_more_ends_its_stream(self) -> None:
        """Past 64 KiB of early bytes it is paused; its end is seen all the same."""
        peer, link = await self.come(role="BE")
        self.plane.wait(fx.Wait(link))
        peer.transport.write(b"x" * 100_000)
        peer.transport.loseWriteConnection()
        await self.until(lambda: ("lost", link) in self.heard)

    async def test_fe_ends_its_stream(self) -> None:
        """Its reset ends the waiting, its end of stream does not."""
        fe, fe_link = await self.come(role="FE")
        self.plane.wait(fx.Wait(fe_link))
        fe.transport.write(b"question")
        fe.transport.loseWriteConnection()
        be, be_link = await self.come(role="BE")
        self.plane.wait(fx.Wait(be_link))
        self.assertNotIn(("lost", fe_link), self.heard)
        self.pair(fe_link, be_link)
        await self.until(lambda: be.ended)
        self.assertEqual(be.got, b"question")

    async def test_fe_resets(self) -> None:
        fe, link = await self.come(role="FE")
        self.plane.wait(fx.Wait(link))
        fe.transport.abortConnection()
        await self.until(lambda: ("lost", link) in self.heard)


class Sessions(Bed):
    """One FE and one BE (section 7)."""

    settings = {"limits": Limits(drain_quiet=0.02)}

    async def test_bytes_and_ends(self) -> None:
        fe, be = await self.session()
        fe.transport.write(b"ping")
        await self.until(lambda: be.got == b"ping")
        be.transport.write(b"pong")
        await self.until(lambda: fe.got == b"pong")
        fe.transport.loseConnection()
        await self.until(lambda: be.ended and self.heard)
        self.assertEqual(self.heard, [("over", "pair-1", Cause.FE_CLOSED, False)])

    async def test_bytes_before_the_session(self) -> None:
        be, be_link = await self.come(role="BE")
        self.plane.wait(fx.Wait(be_link))
        be.transport.write(b"banner")
        fe, fe_link = await self.come(role="FE")
        self.pair(fe_link, be_link)
        await self.until(lambda: fe.got == b"banner")

    async def test_kept(self) -> None:
        fe, be = await self.session(keep=True)
        fe.transport.loseConnection()
        await self.until(lambda: len(self.heard) == 2)
        self.assertEqual(
            self.heard, [("draining", "pair-1"), ("over", "pair-1", Cause.FE_CLOSED, True)]
        )
        self.assertFalse(be.ended)

    async def test_between_sessions_a_kept_bes_bytes_are_discarded(self) -> None:
        fe, be = await self.session(keep=True)
        fe.transport.loseConnection()
        await self.until(lambda: len(self.heard) == 2)
        be.transport.write(b"late")
        await self.until(lambda: self.heard)
        fe, link = await self.come(role="FE")
        self.pair(link, 1, keep=True)
        be.transport.write(b"fresh")
        await self.until(lambda: fe.got)
        self.assertEqual(fe.got, b"fresh")

    async def test_ended_by_the_gateway(self) -> None:
        fe, be = await self.session()
        self.plane.end_session(fx.EndSession("pair-1", Cause.BE_LOST))
        self.assertEqual(self.heard, [("over", "pair-1", Cause.BE_LOST, False)])
        await self.until(lambda: fe.ended and be.ended)

    async def test_one_side_is_gone_already(self) -> None:
        for gone, cause in ((1, Cause.BE_CLOSED), (2, Cause.FE_CLOSED)):
            peer, link = await self.come(role="FE" if gone == 1 else "BE")
            self.heard.clear()
            self.pair(*((link, 99) if gone == 1 else (99, link)))
            self.assertEqual(self.heard, [("over", "pair-1", cause, False)])
            await self.until(lambda p=peer: p.ended)

    async def test_bytes_moved(self) -> None:
        self.assertEqual(self.plane.sessions.bytes_moved(), 0)
        fe, be = await self.session()
        fe.transport.write(b"x" * 1000)
        be.transport.write(b"y" * 500)
        await self.until(lambda: self.plane.sessions.bytes_moved() == 1500)
        fe.transport.loseConnection()
        await self.until(lambda: self.heard)
        self.assertEqual(self.plane.sessions.bytes_moved(), 1500)


class Splicing(Sessions):
    """The same, where the bytes go by splice."""

    settings = {"limits": Limits(drain_quiet=0.02), "splice": True}


class Listening(Bed):
    """Ports."""

    async def test_stopped(self) -> None:
        closing: list[Deferred[None]] = self.plane.stop_listening()
        for one in closing:
            await one
        with self.assertRaises(OSError):
            socket.create_connection(("127.0.0.1", self.number), timeout=5)

    async def test_dual_stack(self) -> None:
        """ "::" takes IPv4 as well, and an IPv4 peer has its IPv4 address."""
        plane = DataPlane(reactor, Settings(interface="::", splice=False), self)
        self.addCleanup(plane.release)
        try:
            number = listen_on_a_free_port(plane, "::1", socket.AF_INET6)
        except OSError as error:
            raise SkipTest(f"no IPv6 here: {error}") from None
        first, self.number = self.number, number
        peer, link = await self.come(role="FE")
        self.assertEqual(self.heard, [("hello", link, number, "127.0.0.1")])
        self.number = first
        peer.transport.abortConnection()
        for closing in plane.stop_listening():
            await closing
        await self.until(lambda: not plane.open_connections())
        plane.close()
