"""relayx.client.data over TLS: the same HELLO inside, and how a stream ends."""

from __future__ import annotations

import contextlib
import functools
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.trial.unittest import TestCase

from relayx.client import (
    ClientTls,
    DataConnection,
    Stream,
    StreamEnded,
    StreamReset,
    TlsFailed,
    connect_stream,
    open_data,
)
from relayx.client import Gateway as Where
from relayx.client.gateway import tcp_endpoints
from relayx.client.join import join
from relayx.core.hello import Hello
from relayx.core.messages import Role
from relayx.net.tls import ServerFiles, load_context
from tests.certificates import Authority
from tests.guide_peer import DEADLINE
from tests.tls_live import NAME
from tests.tls_server import Served, paired, rest, server_context

HELLO = Hello(role=Role.BE, client_id="b", ack=True, on_fe_close="close")


def awaited(call: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine on the reactor and wait for it."""

    def begin() -> Deferred[Any]:
        return Deferred.fromCoroutine(call()).addTimeout(2 * DEADLINE, reactor)

    return blockingCallFromThread(reactor, begin)


def scenario(script: Callable[[Any], None]) -> Callable[[Any], Deferred[None]]:
    """Run a test in a thread."""
    return functools.wraps(script)(lambda case: deferToThread(script, case))


class DataTests(TestCase):
    """A data connection: the same HELLO inside TLS, and how its stream ends."""

    def setUp(self) -> None:
        self.authority = Authority(Path(self.mktemp()).absolute())
        pair = self.authority.issue("server", [NAME])
        self.context = server_context(pair)
        self.files = ServerFiles(certificate=pair.certificate, private_key=pair.key)
        self.heard = b""

    async def open(self, served: Served, **more: Any) -> tuple[DataConnection, Stream]:
        tls = ClientTls(self.authority.certificate, **{"server_name": NAME, **more})
        where = Where("gateway.invalid", 1, data_tls=tls)
        endpoint = where.data_endpoint(reactor, tcp_endpoints(reactor), served.port, served.host)
        connection = await open_data(reactor, endpoint, HELLO)
        stream: Any = await connection.when_paired()
        return connection, stream

    async def read_all(self, stream: Stream) -> bytes:
        found = b""
        while data := await stream.read():
            found += data
        return found

    @scenario
    def test_bytes_after_our_end(self) -> None:
        """What comes after our close_notify is read, up to the gateway's own."""
        size = 300_000

        def script(peer: ssl.SSLSocket) -> None:
            paired(peer)
            self.heard = rest(peer)
            peer.sendall(b"y" * size)
            peer.unwrap()

        async def client() -> None:
            connection, stream = await self.open(served)
            await stream.write(b"x" * size)
            stream.end()
            self.assertEqual(await self.read_all(stream), b"y" * size)
            await stream.closed()
            await connection.when_closed()

        with Served(self.context, script) as served:
            awaited(client)
        self.assertEqual(self.heard, b"x" * size)

    @scenario
    def test_gateway_ends(self) -> None:
        """A close_notify is an end of stream."""

        def script(peer: ssl.SSLSocket) -> None:
            paired(peer)
            peer.sendall(b"whole")
            peer.unwrap()

        async def client() -> None:
            _, stream = await self.open(served)
            self.assertEqual(await self.read_all(stream), b"whole")
            await stream.closed()

        with Served(self.context, script) as served:
            awaited(client)

    def overtaken(self, taken: socket.socket, held_up: threading.Event) -> int:
        """End the session while the client waits for room; how much it sends all the same.

        By OpenSSL itself: Python's own ends no direction without a look at the other.
        """
        taken.settimeout(None)
        peer = SSL.Connection(load_context(self.files), taken)
        peer.set_accept_state()
        paired(peer)
        self.assertTrue(held_up.wait(DEADLINE))
        peer.shutdown()
        count = 0
        with contextlib.suppress(SSL.ZeroReturnError):
            while True:
                count += len(peer.recv(65536))
        return count

    @scenario
    def test_gateway_ends_while_a_write_waits(self) -> None:
        """Over TLS that is the end of both: the stream does not wait for room for ever."""
        size = 20_000_000
        held_up = threading.Event()
        got: list[int] = []

        async def client() -> None:
            connection, stream = await self.open(served)
            written = stream.write(b"x" * size)
            self.assertNoResult(written)
            held_up.set()
            await stream.closed()
            await connection.when_closed()
            self.assertIsInstance(self.failureResultOf(written).value, StreamEnded)

        with Served(None, lambda peer: got.append(self.overtaken(peer, held_up))) as served:
            awaited(client)
        self.assertEqual(got, [size])  # it had all gone into TLS before the end came

    @scenario
    def test_gateway_ends_while_joined(self) -> None:
        """Who sends without end to a session that is over is ended too."""
        held_up = threading.Event()
        ended: list[type[OSError]] = []

        def sends(peer: socket.socket) -> None:
            peer.setblocking(False)
            while select.select([], [peer], [], 1)[1]:
                peer.send(b"z" * 65536)
            held_up.set()  # all on the way is full
            peer.settimeout(DEADLINE)
            try:
                while True:
                    peer.sendall(b"z" * 65536)
            except OSError as error:
                ended.append(type(error))

        async def client() -> None:
            local = await connect_stream(tcp_endpoints(reactor)(near.host, near.port))
            _, session = await self.open(served)
            await join(reactor, session, local)

        with (
            Served(None, lambda peer: self.overtaken(peer, held_up)) as served,
            Served(None, sends) as near,
        ):
            awaited(client)
        self.assertIn(ended, ([ConnectionResetError], [BrokenPipeError]))

    @scenario
    def test_truncated(self) -> None:
        """An end of TCP without one is not, whether we have ended our direction or not."""

        def script(peer: ssl.SSLSocket) -> None:
            paired(peer)
            peer.sendall(b"half")
            if self.ends:
                rest(peer)
            peer.shutdown(socket.SHUT_WR)
            try:
                socket.socket.recv(peer, 1)
            except ValueError:
                pass

        async def client() -> None:
            _, stream = await self.open(served)
            self.assertEqual(await stream.read(), b"half")
            if self.ends:
                stream.end()
            with self.assertRaises(StreamReset):
                await stream.read()
            with self.assertRaises(StreamReset):
                await stream.closed()

        for self.ends in (False, True):
            with Served(self.context, script) as served:
                awaited(client)

    @scenario
    def test_reset(self) -> None:
        """A reset is an error, and `abort` is one to the gateway."""

        def script(peer: ssl.SSLSocket) -> None:
            paired(peer)
            peer.recv(1)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        async def client() -> None:
            _, stream = await self.open(served)
            await stream.write(b"!")
            with self.assertRaises(StreamReset):
                await stream.closed()

        with Served(self.context, script) as served:
            awaited(client)

        def listen(peer: ssl.SSLSocket) -> None:
            paired(peer)
            peer.suppress_ragged_eofs = False
            try:
                peer.recv(1)
            except OSError as error:
                self.heard = repr(error).encode()

        async def aborting() -> None:
            connection, _ = await self.open(served)
            connection.abort()
            await connection.when_closed()

        with Served(self.context, listen) as served:
            awaited(aborting)
        self.assertNotEqual(self.heard, b"")

    @scenario
    def test_refused(self) -> None:
        """Before HELLO is said to anybody: the wrong name, no TLS."""

        def script(peer: ssl.SSLSocket) -> None:
            self.heard += peer.recv(100)

        async def wrong_name() -> None:
            with self.assertRaises(TlsFailed) as caught:
                await self.open(served, server_name=None)
            self.assertIn(f"not for {served.host}", str(caught.exception))

        with Served(self.context, script) as served:
            awaited(wrong_name)
        self.assertEqual(self.heard, b"")

        async def no_tls() -> None:
            with self.assertRaises(TlsFailed) as caught:
                await self.open(served)
            self.assertIn(f"speak TLS on {served.host}:{served.port}", str(caught.exception))

        with Served(None, lambda peer: peer.sendall(b"RLX1ERR {}\n")) as served:
            awaited(no_tls)

    @scenario
    def test_set_up(self) -> None:
        """Keepalive and no-delay reach the TCP socket below."""

        async def client() -> None:
            connection, _ = await self.open(served)
            tcp = connection.transport.transport.getHandle()
            self.assertTrue(tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            self.assertTrue(tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
            self.assertEqual(tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 15)
            connection.abort()

        with Served(self.context, paired) as served:
            awaited(client)

    @scenario
    def test_joined(self) -> None:
        """One side ends: the other gets all of it first, by TLS or without; so with a reset."""
        size = 2_000_000
        got: dict[str, bytes] = {}

        def sends(peer: ssl.SSLSocket) -> None:
            paired(peer)
            peer.sendall(b"z" * size)
            if broken:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                peer.unwrap()

        def takes(peer: ssl.SSLSocket) -> None:
            paired(peer)
            peer.suppress_ragged_eofs = False
            found = b""
            try:
                while data := peer.recv(65536):
                    found += data
                peer.unwrap()
                found += b"end"
            except OSError:
                found += b"broken"
            got["bytes"] = found

        async def client() -> None:
            _, one = await self.open(first)
            _, other = await self.open(second)
            if broken:
                with self.assertRaises(StreamReset):
                    await join(reactor, one, other)
            else:
                self.assertEqual((await join(reactor, one, other)).a_to_b, size)

        for broken in (False, True):
            with Served(self.context, sends) as first, Served(self.context, takes) as second:
                awaited(client)
            if broken:
                self.assertTrue(got["bytes"].endswith(b"broken"), got["bytes"][-20:])
            else:
                self.assertEqual(got["bytes"], b"z" * size + b"end")
