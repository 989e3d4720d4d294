"""The client library against the real gateway, on loopback sockets."""

from __future__ import annotations

import hashlib
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet import reactor as real_reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from relayx.client import (
    Backend,
    ControlClient,
    Frontend,
    Gateway,
    Refused,
    Session,
    Stopped,
    Stream,
    StreamFactory,
    StreamReset,
    connect_stream,
    join,
    tcp_endpoints,
)
from relayx.core.messages import (
    KeyExchange,
    PortAlloc,
    PortState,
    Role,
    Telemetry,
)
from relayx.testing import LocalGateway

reactor: Any = real_reactor


async def echo(session: Session) -> None:
    """Send back what comes, to the end."""
    while data := await session.stream.read():
        await session.stream.write(data)


async def read_all(stream: Stream) -> bytes:
    """What comes up to the end of stream."""
    parts = []
    while data := await stream.read():
        parts.append(data)
    return b"".join(parts)


class GatewayCase(TestCase):
    """Starts a gateway, and stops what a test makes before it."""

    def start(self, **sections: Any) -> LocalGateway:
        """A gateway that runs until the end of the test."""
        local = LocalGateway(reactor, **sections)
        local.start()
        self.addCleanup(local.stop)
        return local

    def backend(
        self, local: LocalGateway, on_session: Callable[[Session], object] = echo, **asked: Any
    ) -> Backend:
        """A started BE."""
        backend = Backend(reactor, local.gateway, on_session=on_session, **asked)
        backend.done.addErrback(lambda _: None)
        self.addCleanup(backend.stop)
        backend.start()
        return backend

    def frontend(self, local: LocalGateway, **asked: Any) -> Frontend:
        """A started FE."""
        frontend = Frontend(reactor, local.gateway, **asked)
        self.addCleanup(frontend.stop)
        frontend.start()
        return frontend

    def control(self, local: LocalGateway, role: Role, client_id: str = "") -> ControlClient:
        """A started control client."""
        client = ControlClient(reactor, local.gateway, role, client_id)
        self.addCleanup(client.stop)
        client.start()
        return client

    async def until(self, condition: Callable[[], object]) -> None:
        """Let the reactor run until `condition` holds."""
        while not condition():
            await deferLater(reactor, 0.005)


def asynchronous(
    test: Callable[[Any], Coroutine[Deferred[Any], Any, None]],
) -> Callable[[Any], Deferred[None]]:
    """Have trial wait for an ``async def`` test."""

    def run(case: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(test(case))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class SessionTests(GatewayCase):
    """Sessions from end to end."""

    @asynchronous
    async def test_bytes_there_and_back(self) -> None:
        """An FE's bytes come back from an echoing BE, and both ends of stream with them."""
        local = self.start()
        backend = self.backend(local, zmq=1)
        frontend = self.frontend(local)
        async with frontend.session("zmq", timeout=30) as session:
            await session.stream.write(b"hello")
            session.stream.end()
            self.assertEqual(await read_all(session.stream), b"hello")
            self.assertEqual(session.paired.client_id, backend.control.client_id)
            self.assertEqual(session.grant.zmq_port, session.port)
        await self.until(lambda: not backend.sessions)

    @asynchronous
    async def test_bulk_both_ways_and_protocols(self) -> None:
        """Many megabytes over both protocols at once arrive whole."""
        local = self.start()
        self.backend(local, zmq=1, srt=1)
        frontend = self.frontend(local)
        blob = hashlib.sha256(b"x").digest() * 256 * 1024

        async def there_and_back(protocol: str) -> None:
            async with frontend.session(protocol, timeout=30) as session:
                digest = Deferred.fromCoroutine(read_all(session.stream))
                for start in range(0, len(blob), 100_000):
                    await session.stream.write(blob[start : start + 100_000])
                session.stream.end()
                self.assertTrue(await digest == blob)

        await gatherResults(
            [Deferred.fromCoroutine(there_and_back(name)) for name in ("zmq", "srt")]
        )

    @asynchronous
    async def test_many_in_turn(self) -> None:
        """A BE refills its mark, so that one port serves session after session."""
        local = self.start(zmq=1, srt=0)
        self.backend(local, zmq=1)
        frontend = self.frontend(local)
        for number in range(5):
            async with frontend.session("zmq", timeout=30) as session:
                await session.stream.write(b"%d" % number)
                session.stream.end()
                self.assertEqual(await read_all(session.stream), b"%d" % number)

    @asynchronous
    async def test_service_and_be(self) -> None:
        """A named service and a named BE are found among others."""
        local = self.start(zmq=6)
        self.backend(local, zmq=2)
        self.backend(local, service="web", client_id="web-1", zmq=1)
        self.backend(local, service="web", client_id="web-2", zmq=1)
        frontend = self.frontend(local)
        async with frontend.session("zmq", "web", "web-2", timeout=30) as session:
            self.assertEqual(session.paired.client_id, "web-2")
            session.stream.end()
            self.assertEqual(await read_all(session.stream), b"")

    @asynchronous
    async def test_exception_in_block_resets(self) -> None:
        """Leaving the block by an exception is a reset for the BE, and frees the lease."""
        local = self.start()
        outcome: Deferred[bytes] = Deferred()

        def on_session(session: Session) -> None:
            Deferred.fromCoroutine(read_all(session.stream)).chainDeferred(outcome)

        self.backend(local, on_session, zmq=1)
        frontend = self.frontend(local)
        with self.assertRaises(ZeroDivisionError):
            async with frontend.session("zmq", timeout=30) as session:
                await session.stream.write(b"part")
                raise ZeroDivisionError
        with self.assertRaises(StreamReset):
            await outcome

    @asynchronous
    async def test_failing_session_aborts_only_itself(self) -> None:
        """A BE's failing callback resets its session; the next one is served."""
        local = self.start()
        calls: list[Session] = []

        def on_session(session: Session) -> object:
            calls.append(session)
            if len(calls) == 1:
                raise ZeroDivisionError
            return echo(session)

        self.backend(local, on_session, zmq=1)
        frontend = self.frontend(local)
        opened = await frontend.open_session("zmq", timeout=30)
        with self.assertRaises(StreamReset):
            await opened.stream.read()
        await opened.release()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        async with frontend.session("zmq", timeout=30) as session:
            await session.stream.write(b"again")
            session.stream.end()
            self.assertEqual(await read_all(session.stream), b"again")

    @asynchronous
    async def test_session_end_is_told(self) -> None:
        """A BE's session carries the gateway's cause and counts."""
        local = self.start()
        seen: list[Session] = []

        def on_session(session: Session) -> object:
            seen.append(session)
            return echo(session)

        self.backend(local, on_session, zmq=1)
        frontend = self.frontend(local)
        async with frontend.session("zmq", timeout=30) as session:
            await session.stream.write(b"12345")
            session.stream.end()
            await read_all(session.stream)
        await self.until(lambda: seen[0].end is not None)
        self.assertEqual((seen[0].end.fe_to_be_bytes, seen[0].end.be_to_fe_bytes), (5, 5))

    @asynchronous
    async def test_own_protocol(self) -> None:
        """A protocol of the caller's own may have the bytes."""
        local = self.start()
        self.backend(local, zmq=1)
        frontend = self.frontend(local)
        got: Deferred[bytes] = Deferred()

        class Greeter(Protocol):
            def connectionMade(self) -> None:
                self.transport.write(b"hi")

            def dataReceived(self, data: bytes) -> None:
                got.callback(data)
                self.transport.loseConnection()

        opened = await frontend.open_session("zmq", timeout=30, build=lambda paired: Greeter())
        self.assertEqual(await got, b"hi")
        self.assertIsInstance(opened.receiver, Greeter)
        self.assertRaises(TypeError, lambda: opened.stream)
        await opened.connection.when_closed()
        await opened.release()

    @asynchronous
    async def test_waits_for_a_backend(self) -> None:
        """With no port ready an FE tries until one is; with no time it gives up."""
        local = self.start()
        frontend = self.frontend(local)
        with self.assertRaises(Refused) as caught:
            await frontend.open_session("zmq", timeout=0)
        self.assertEqual(caught.exception.code, "PORT_EXHAUSTED")
        opening = frontend.open_session("zmq", timeout=30)
        self.backend(local, zmq=1)
        opened = await opening
        opened.stream.end()
        self.assertEqual(await read_all(opened.stream), b"")
        await opened.release()

    @asynchronous
    async def test_cancelled_opening_leaves_no_lease(self) -> None:
        """A cancelled `open_session` gives back what it had."""
        local = self.start(zmq=1, srt=0)
        frontend = self.frontend(local)
        await frontend.control.when_connected()
        opening = frontend.open_session("zmq")
        self.backend(local, zmq=1)
        opening.cancel()
        with self.assertRaises(CancelledError):
            await opening
        async with frontend.session("zmq", timeout=30) as session:
            session.stream.end()
            await read_all(session.stream)


class ControlTests(GatewayCase):
    """The control plane's requests."""

    @asynchronous
    async def test_requests(self) -> None:
        """Each request is answered, and what is refused fails with its code."""
        local = self.start(zmq=2, srt=3)
        backend = self.backend(local, zmq=1, srt=1)
        client = self.control(local, Role.FE)
        await self.until(lambda: all(backend.waiting.values()))
        state = await client.port_state(need_srt=True)
        self.assertEqual((state.srt_total, len(state.srt_ready_ports)), (3, 1))
        self.assertEqual(state.zmq_ready_ports, ())
        self.assertGreater(await client.ping(), 0)
        grant = await client.acquire(need_zmq=True, need_srt=True, ttl_seconds=5)
        self.assertTrue(grant.zmq_port and grant.srt_port and grant.ticket)
        self.assertNotIn(grant.ticket, repr(grant))
        await client.release(grant.session_id)
        with self.assertRaises(Refused) as caught:
            await client.release(grant.session_id)
        self.assertEqual(caught.exception.code, "INVALID_REQUEST")
        with self.assertRaises(Refused) as caught:
            await client.acquire(need_zmq=True, ttl_seconds=601)
        self.assertEqual(caught.exception.code, "INVALID_REQUEST")

    @asynchronous
    async def test_events(self) -> None:
        """Keys, ranges, states and telemetry come as events."""
        local = self.start()
        client = self.control(local, Role.FE)
        kinds: list[type] = []
        for kind in (KeyExchange, PortAlloc, PortState):
            client.events.on(kind, lambda event: kinds.append(type(event)))
        backend = self.control(local, Role.BE)
        telemetry: Deferred[Telemetry] = Deferred()
        backend.events.on(Telemetry, lambda event: telemetry.called or telemetry.callback(event))
        await client.when_connected()
        await backend.exchange_key("PEM")
        await backend.subscribe_telemetry()
        self.assertEqual((await telemetry).current_speed, 0)
        await self.until(lambda: {KeyExchange, PortAlloc, PortState} <= set(kinds))

    @asynchronous
    async def test_wrong_secret_is_final(self) -> None:
        """AUTH_FAILED stops a client, whose requests then fail with it."""
        local = self.start()
        wrong = Gateway(local.gateway.host, local.gateway.port, "wrong")
        client = ControlClient(reactor, wrong, Role.FE)
        client.start()
        with self.assertRaises(Refused) as caught:
            await client.when_stopped()
        self.assertEqual(caught.exception.code, "AUTH_FAILED")
        with self.assertRaises(Refused):
            await client.ping()

    @asynchronous
    async def test_taken_over(self) -> None:
        """A second BE of one id stops the first: its `done` fails, its ports pass on."""
        local = self.start(zmq=1, srt=0)
        first = Backend(reactor, local.gateway, zmq=1, on_session=echo, client_id="one")
        self.addCleanup(first.stop)
        first.start()
        await self.until(lambda: first.waiting["zmq"])
        second = self.backend(local, zmq=1, client_id="one")
        with self.assertRaises(Refused) as caught:
            await first.done
        self.assertEqual(caught.exception.code, "TAKEN_OVER")
        await self.until(lambda: second.waiting["zmq"])
        self.assertEqual(first.waiting["zmq"], ())

    @asynchronous
    async def test_gateway_comes_back(self) -> None:
        """A restarted gateway finds its BE and FE again by themselves."""
        local = self.start()
        self.backend(local, zmq=1)
        frontend = self.frontend(local)
        async with frontend.session("zmq", timeout=30) as session:
            session.stream.end()
            await read_all(session.stream)
        config, secrets = local.service.config, local.gateway.secret
        await local.stop()
        from relayx.config.model import Secrets
        from relayx.service import GatewayService

        again = GatewayService(config, Secrets(auth_secret=secrets), reactor)
        again.privilegedStartService()
        again.startService()
        self.addCleanup(again.stopService)
        async with frontend.session("zmq", timeout=30) as session:
            await session.stream.write(b"back")
            session.stream.end()
            self.assertEqual(await read_all(session.stream), b"back")

    @asynchronous
    async def test_stop_fails_what_waits(self) -> None:
        """`stop` fails an `acquire` that is being tried again."""
        local = self.start()
        client = self.control(local, Role.FE)
        await client.when_connected()
        waiting = client.acquire(need_zmq=True)
        await client.ping()
        await client.stop()
        with self.assertRaises(Stopped):
            await waiting


class MarkTests(GatewayCase):
    """The water mark against the real port table."""

    @asynchronous
    async def test_marks(self) -> None:
        """Two BEs fill their marks without sharing a port; a lowered mark gives ports up."""
        local = self.start(zmq=8, srt=2)
        first = self.backend(local, zmq=4)
        second = self.backend(local, zmq=4, srt=1)
        await self.until(lambda: len(first.waiting["zmq"]) == len(second.waiting["zmq"]) == 4)
        self.assertFalse(set(first.waiting["zmq"]) & set(second.waiting["zmq"]))
        client = self.control(local, Role.FE)
        self.assertEqual(len((await client.port_state()).zmq_ready_ports), 8)
        first.set_marks(1, 0)
        self.assertEqual(len(first.waiting["zmq"]), 1)
        await self.until(lambda: client.state and len(client.state.zmq_ready_ports) == 5)

    @asynchronous
    async def test_stop_with_grace(self) -> None:
        """`stop` lets a running session end, and gives up what waits at once."""
        local = self.start()
        backend = self.backend(local, zmq=1)
        frontend = self.frontend(local)
        opened = await frontend.open_session("zmq", timeout=30)
        await self.until(lambda: backend.sessions and backend.waiting["zmq"])
        stopping = backend.stop(grace=10)
        self.assertEqual(backend.waiting["zmq"], ())
        await opened.stream.write(b"late")
        opened.stream.end()
        self.assertEqual(await read_all(opened.stream), b"late")
        await stopping
        await backend.done

    @asynchronous
    async def test_stop_without_grace_resets(self) -> None:
        """`stop` with no grace resets what runs."""
        local = self.start()
        backend = self.backend(local, lambda session: None, zmq=1)
        frontend = self.frontend(local)
        opened = await frontend.open_session("zmq", timeout=30)
        await self.until(lambda: backend.sessions)
        await backend.stop()
        with self.assertRaises(StreamReset):
            await opened.stream.read()
        await opened.release()


class JoinTests(GatewayCase):
    """A service behind the gateway, as ``be --forward`` and ``fe --listen`` have it."""

    def exposed(self, on_service: Callable[[Stream], object]) -> tuple[LocalGateway, int]:
        """A TCP service, exposed through the gateway on a local port, whose number is returned."""
        local = self.start(zmq=4, srt=0)
        service = reactor.listenTCP(0, StreamFactory(on_service), interface="127.0.0.1")
        self.addCleanup(service.stopListening)
        endpoints = tcp_endpoints(reactor)

        async def forward(session: Session) -> None:
            target = await connect_stream(endpoints("127.0.0.1", service.getHost().port))
            await join(reactor, session.stream, target)

        def on_session(session: Session) -> None:
            Deferred.fromCoroutine(forward(session)).addErrback(lambda _: None)

        self.backend(local, on_session, zmq=2)
        frontend = self.frontend(local)

        async def serve(accepted: Stream) -> None:
            opened = await frontend.open_session("zmq", timeout=30)
            try:
                await join(reactor, accepted, opened.stream)
            finally:
                await opened.release()

        def on_stream(accepted: Stream) -> None:
            Deferred.fromCoroutine(serve(accepted)).addErrback(lambda _: None)

        listening = reactor.listenTCP(0, StreamFactory(on_stream), interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        return local, listening.getHost().port

    def dial(self, port: int) -> Deferred[Stream]:
        """A plain TCP client of that local port."""
        return connect_stream(tcp_endpoints(reactor)("127.0.0.1", port))

    @asynchronous
    async def test_half_close_all_the_way(self) -> None:
        """A request that ends with an end of stream is answered through both joins."""

        def on_service(stream: Stream) -> None:
            async def answer() -> None:
                asked = await read_all(stream)
                await stream.write(hashlib.sha256(asked).digest())
                stream.end()

            Deferred.fromCoroutine(answer())

        _, port = self.exposed(on_service)
        blob = b"0123456789abcdef" * 300_000
        client = await self.dial(port)
        await client.write(blob)
        client.end()
        self.assertEqual(await read_all(client), hashlib.sha256(blob).digest())
        await client.closed()

    @asynchronous
    async def test_service_speaks_and_ends_first(self) -> None:
        """What the service sends before it ends arrives whole at a client that still sends."""
        blob = b"fedcba9876543210" * 300_000
        came: Deferred[bytes] = Deferred()

        def on_service(stream: Stream) -> None:
            async def speak() -> None:
                await stream.write(blob)
                stream.end()
                came.callback(await read_all(stream))

            Deferred.fromCoroutine(speak())

        _, port = self.exposed(on_service)
        client = await self.dial(port)
        self.assertTrue(await read_all(client) == blob)
        await client.write(b"after your end")
        client.end()
        self.assertEqual(await came, b"after your end")
        await client.closed()

    @asynchronous
    async def test_reset_of_the_service(self) -> None:
        """A service's reset is a reset for the client, after what came before it."""

        def on_service(stream: Stream) -> None:
            async def break_off() -> None:
                self.assertEqual(await stream.read(), b"go")
                await stream.write(b"part")
                self.assertEqual(await stream.read(), b"got it")
                stream.abort()

            Deferred.fromCoroutine(break_off())

        _, port = self.exposed(on_service)
        client = await self.dial(port)
        await client.write(b"go")
        self.assertEqual(await client.read(), b"part")
        await client.write(b"got it")
        with self.assertRaises(StreamReset):
            await client.read()
        with self.assertRaises(StreamReset):
            await client.closed()

    @asynchronous
    async def test_reset_of_the_client(self) -> None:
        """A client's reset reaches the service with all that came before it."""
        came: Deferred[bytes] = Deferred()
        parts: list[bytes] = []

        def on_service(stream: Stream) -> None:
            async def take() -> None:
                while data := await stream.read():
                    parts.append(data)
                    if sum(map(len, parts)) == 400_000:
                        came.callback(b"")

            failed: Deferred[None] = Deferred.fromCoroutine(take())
            failed.addErrback(lambda failure: outcome.append(failure.trap(StreamReset)))

        outcome: list[object] = []
        _, port = self.exposed(on_service)
        plain = socket.create_connection(("127.0.0.1", port))
        plain.setblocking(False)
        left = b"x" * 400_000
        while left:
            try:
                left = left[plain.send(left) :]
            except BlockingIOError:
                await deferLater(reactor, 0.005)
        await came
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        plain.close()
        await self.until(lambda: outcome)
        self.assertEqual(outcome, [StreamReset])
