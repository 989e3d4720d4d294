"""relayx.client over TLS: whom it trusts, what it says, and how a stream ends."""

from __future__ import annotations

import functools
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relayx.client import ClientTls, DataConnection, Stream, StreamReset, TlsFailed, open_data
from relayx.client import Gateway as Where
from relayx.client.gateway import tcp_endpoints
from relayx.client.join import join
from relayx.core.hello import Hello, Waiting, encode_answer
from relayx.core.messages import Role
from tests.certificates import Authority, Pair, self_signed
from tests.guide_peer import DEADLINE
from tests.live import CONTROL_PORT, SECRET, Gateway, random_host
from tests.test_client_fakes import PAIRED
from tests.tls_live import NAME, TLS_PORT, Trust, outcome, secured

HELLO = Hello(role=Role.BE, client_id="b", ack=True, on_fe_close="close")
ANSWERS = encode_answer(Waiting()) + encode_answer(PAIRED)


class FilesTests(SynchronousTestCase):
    """The files of ClientTls."""

    def setUp(self) -> None:
        self.authority = Authority(Path(self.mktemp()))
        self.own = self.authority.issue("own")

    def test_good(self) -> None:
        """Those that go together; the key may be in the file of the certificate."""
        ca, own = self.authority.certificate, self.own
        both = Path(own.certificate).with_suffix(".both")
        both.write_bytes(Path(own.key).read_bytes() + Path(own.certificate).read_bytes())
        ClientTls().check()
        ClientTls(ca).check()
        ClientTls(ca, own.certificate, own.key).check()
        ClientTls(ca, str(both)).check()

    def test_bad(self) -> None:
        """The text names the file."""
        own, other = self.own, self.authority.issue("other")
        for tls, expected in (
            (ClientTls("/no/ca.pem"), "/no/ca.pem: cannot be read (No such file or directory)"),
            (ClientTls(own.key), f"{own.key}: holds no certificate in PEM"),
            (ClientTls(None, own.key), f"{own.key}: holds no certificate"),
            (ClientTls(None, own.certificate), f"{own.certificate}: holds no private key"),
            (ClientTls(None, own.certificate, other.key), f"{other.key}: does not match"),
        ):
            error = self.assertRaises(TlsFailed, tls.check)
            self.assertIn(expected, str(error))

    def test_read_again(self) -> None:
        """A file that has changed is read for the next connection."""
        tls = ClientTls(self.authority.certificate)
        tls.check()
        Path(self.authority.certificate).write_bytes(b"broken")
        self.assertRaises(TlsFailed, tls.check)


class VerifyTests(TestCase):
    """The control connection: what is trusted, and what is said of the rest."""

    timeout = 60

    def failed(self, gateway: Gateway, tls: ClientTls, port: int = TLS_PORT) -> str:
        found = outcome(Where(gateway.host, port, SECRET, tls=tls))
        self.assertIsInstance(found, TlsFailed, found)
        return str(found)

    @secured()
    def test_trusted(self, gateway: Gateway, trust: Trust) -> None:
        """A name, and after a renewal the address that was dialled."""
        found = outcome(Where(gateway.host, TLS_PORT, SECRET, tls=trust.tls()))
        self.assertIsInstance(found, str, found)
        by_address = Where(gateway.host, TLS_PORT, SECRET, tls=trust.tls(server_name=None))
        self.assertIn(f"for {NAME}, and not for {gateway.host}", str(outcome(by_address)))
        trust.renew(gateway, trust.authority.issue("address", [gateway.host]))
        self.assertIsInstance(outcome(by_address), str)

    @secured()
    def test_own_certificate(self, gateway: Gateway, trust: Trust) -> None:
        """One that is self-signed is trusted where it is the CA that was given, and else not."""
        own = self_signed(trust.directory, "self", [NAME])
        trust.renew(gateway, own)
        where = Where(
            gateway.host, TLS_PORT, SECRET, tls=ClientTls(own.certificate, None, None, NAME)
        )
        self.assertIsInstance(outcome(where), str)
        self.assertIn("is self-signed", self.failed(gateway, trust.tls()))

    @secured()
    def test_refused(self, gateway: Gateway, trust: Trust) -> None:
        """Which name, which date, which CA."""
        told = self.failed(gateway, trust.tls(server_name="other.example"))
        self.assertEqual(
            told, f"the gateway's certificate is for {NAME}, and not for other.example"
        )
        told = self.failed(gateway, trust.tls(server_name="192.0.2.7"))
        self.assertIn("not for 192.0.2.7", told)
        told = self.failed(gateway, ClientTls(trust.stranger.certificate, server_name=NAME))
        self.assertIn("signed by CN=CA ca, which is not trusted", told)
        self.assertIn("is not trusted", self.failed(gateway, ClientTls(server_name=NAME)))
        self.assertIn("no name", self.failed(gateway, trust.tls(server_name="a b")))
        trust.renew(gateway, trust.authority.issue("old", [NAME], days=(-3, -1)))
        self.assertIn("certificate has expired, on 20", self.failed(gateway, trust.tls()))
        trust.renew(gateway, trust.authority.issue("new", [NAME], days=(1, 3)))
        self.assertIn("certificate is not valid before 20", self.failed(gateway, trust.tls()))
        trust.renew(gateway, trust.authority.issue("nameless"))
        self.assertIn("is for nobody, and not", self.failed(gateway, trust.tls()))

    @secured()
    def test_not_tls(self, gateway: Gateway, trust: Trust) -> None:
        """TLS said to a plain port, and nothing of it to the one that speaks it."""
        told = self.failed(gateway, trust.tls(), CONTROL_PORT)
        self.assertEqual(told, f"the gateway does not speak TLS on {gateway.host}:{CONTROL_PORT}")
        lost = outcome(Where(gateway.host, TLS_PORT, SECRET))
        self.assertIn("the gateway may speak TLS there", str(lost))

    def test_old_version(self) -> None:
        """A gateway that speaks TLS 1.1 alone."""

        def scenario() -> None:
            pair = Authority(Path(self.mktemp()).absolute()).issue("server", [NAME])
            context = server_context(pair)
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = ssl.TLSVersion.TLSv1_1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
            with Served(context, lambda peer: None) as served:
                found = outcome(Where(served.host, served.port, SECRET, tls=ClientTls()))
            self.assertIsInstance(found, TlsFailed)
            self.assertIn("no version of TLS that is allowed: 1.2 and up", str(found))

        return deferToThread(scenario)


def server_context(pair: Pair) -> ssl.SSLContext:
    """A server's context of Python's own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    return context


class Served:
    """Plays the gateway to one connection, in a thread, by Python's own TLS."""

    def __init__(
        self, context: ssl.SSLContext | None, script: Callable[[ssl.SSLSocket], object]
    ) -> None:
        self._context = context
        self._script = script
        self._listening = socket.create_server((random_host(), 0))
        self._listening.settimeout(DEADLINE)
        self.host, self.port = self._listening.getsockname()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Served:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(2 * DEADLINE)
        self._listening.close()

    def _serve(self) -> None:
        peer: Any = self._listening.accept()[0]
        peer.settimeout(DEADLINE)
        try:
            if self._context is not None:
                peer = self._context.wrap_socket(peer, server_side=True)
            self._script(peer)
        except (ssl.SSLError, ConnectionError):
            pass  # the client is what is tested
        finally:
            peer.close()


def paired(peer: ssl.SSLSocket) -> None:
    """Read HELLO, and answer that the session has begun."""
    held = b""
    while not held.endswith(b"\n"):
        held += peer.recv(1)
    peer.sendall(ANSWERS)


def rest(peer: ssl.SSLSocket) -> bytes:
    """All up to the client's close_notify."""
    found = b""
    while data := peer.recv(65536):
        found += data
    return found


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

    timeout = 60

    def setUp(self) -> None:
        self.authority = Authority(Path(self.mktemp()).absolute())
        self.context = server_context(self.authority.issue("server", [NAME]))
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
