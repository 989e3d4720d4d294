"""Admission ``ticket`` through the client library, and where a ticket never shows (section 6)."""

from __future__ import annotations

from typing import Any

from rich.pretty import pretty_repr
from twisted.internet import reactor
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from relayx.client import Frontend, LogLine, Refused
from relayx.client.data import open_data
from relayx.client.gateway import tcp_endpoints
from relayx.config.model import Admission, Level
from relayx.config.model import LogStream as Stream
from relayx.core.hello import Hello
from relayx.core.messages import PortGrant, PortRelease, Role, SessionEnd
from relayx.logs import Renderer
from relayx.testing import LocalGateway
from tests.test_client_gateway import GatewayCase, asynchronous, read_all

TICKET = {"admission": Admission.TICKET}
EVERYTHING = {"level": Level.DEBUG, "stream": Stream.ALL}


class TicketCase(GatewayCase):
    """What the tests here share."""

    async def refusal(self, local: LocalGateway, port: int, ticket: str) -> Refused:
        """Why a connection with this ticket is refused."""
        hello = Hello(role=Role.FE, ticket=ticket, ack=True)
        endpoint = tcp_endpoints(reactor)(local.host, port)
        connection = await open_data(reactor, endpoint, hello)
        try:
            await connection.when_paired()
        except Refused as refused:
            return refused
        raise AssertionError("it was paired")


class ByTicket(TicketCase):
    """FEs come with their lease's ticket, BEs with the id of a registered one."""

    @asynchronous
    async def test_session(self) -> None:
        """Bytes there and back, of both protocols, with a named service and without."""
        local = self.start(data=TICKET)
        self.backend(local, zmq=1, srt=1)
        self.backend(local, service="web", zmq=1)
        frontend = self.frontend(local)
        for protocol, service in (("zmq", ""), ("srt", ""), ("zmq", "web")):
            async with frontend.session(protocol, service=service, timeout=10) as session:
                await session.stream.write(b"there and back")
                session.stream.end()
                self.assertEqual(await read_all(session.stream), b"there and back")

    @asynchronous
    async def test_again_and_again(self) -> None:
        """Each session has a ticket of its own; a BE's one port serves all."""
        local = self.start(data=TICKET)
        self.backend(local, zmq=1)
        frontend = self.frontend(local)
        tickets = set()
        for _ in range(5):
            async with frontend.session(timeout=10) as session:
                tickets.add(session.grant.ticket)
                await session.stream.write(b"x")
                self.assertEqual(await session.stream.read(), b"x")
        self.assertEqual((len(tickets), min(map(len, tickets)) >= 22), (5, True))

    @asynchronous
    async def test_without_a_ticket(self) -> None:
        """It is refused, though the port is ready and the address a client's."""
        local = self.start(data=TICKET)
        self.backend(local, zmq=1)
        frontend = self.frontend(local)
        await self.until(lambda: frontend.control.state and frontend.control.state.zmq_ready_ports)
        state = frontend.control.state
        assert state is not None
        refused = await self.refusal(local, state.zmq_ready_ports[0], "")
        self.assertEqual(refused.code, "NOT_ADMITTED")


class Unseen(TicketCase):
    """The requester has its ticket, and nobody else hears or reads of it."""

    def record(self, local: LocalGateway) -> list[str]:
        """Everything that is said from now on, in the logs or to other clients."""
        told: list[str] = []
        renderers = [Renderer("debug", form) for form in ("text", "json")]

        def observe(event: LogEvent) -> None:
            told.extend(filter(None, (render(event) for render in renderers)))
            told.append(repr(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        for role in Role:
            witness = self.control(local, role)
            for kind in (PortGrant, PortRelease, SessionEnd):
                witness.events.on(kind, lambda message: told.append(fields(message)))
            witness.events.on(LogLine, lambda line: told.append(line.text))
        return told

    @asynchronous
    async def test_fes_ticket(self) -> None:
        """Not in the log at debug, text or JSON, in `log` messages, or in what others are sent."""
        local = self.start(data=TICKET, log=EVERYTHING)
        told = self.record(local)
        self.backend(local, zmq=1)
        frontend = self.frontend(local)
        opened = await frontend.open_session(timeout=10)
        ticket = opened.grant.ticket
        other = frontend.control.acquire(need_zmq=True, timeout=0)
        await other.addErrback(lambda _: None)
        wrong = await self.refusal(local, opened.port, ticket + "x")
        await opened.release()
        ended = await self.refusal(local, opened.port, ticket)
        self.assertEqual((wrong.code, ended.code), ("NOT_ADMITTED", "TTL_EXPIRED"))
        opened.stream.abort()
        await self.until(lambda: any("session_end" in line for line in told))
        await self.until(lambda: any("sess_" in line and "leases" in line for line in told))
        shown = [
            repr(thing) + str(thing) + pretty_repr(thing)
            for thing in (opened, opened.grant, opened.connection, opened.stream, wrong, ended)
        ]
        shown += [Failure(error).getTraceback() for error in (wrong, ended)]
        shown.append(repr(frontend.control) + repr(frontend))
        for line in told + shown:
            self.assertNotIn(ticket, line)
        self.assertTrue(any(opened.grant.session_id in line for line in told))

    @asynchronous
    async def test_bes_ticket(self) -> None:
        """Of a BE's lease every FE hears, no other BE does, and the log does not."""
        local = self.start(data=TICKET, log=EVERYTHING)
        heard: list[PortGrant] = []
        fe = self.control(local, Role.FE)
        fe.events.on(PortGrant, heard.append)
        await fe.when_connected()
        others = self.control(local, Role.BE, "other")
        grants: list[PortGrant] = []
        others.events.on(PortGrant, grants.append)
        await others.when_connected()
        told: list[str] = []

        def observe(event: LogEvent) -> None:
            told.append(repr(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        holder = self.control(local, Role.BE, "holder")
        grant = await holder.acquire(need_zmq=True)
        await self.until(lambda: heard)
        await others.ping()
        self.assertEqual(([g.ticket for g in heard], grants), ([grant.ticket], []))
        for line in [*told, repr(grant), pretty_repr(grant)]:
            self.assertNotIn(grant.ticket, line)

    @asynchronous
    async def test_errors_of_the_library(self) -> None:
        """A session that cannot be had says nothing of the ticket that it was to come by."""
        local = self.start(data={**TICKET, "hello_timeout": 0.2})
        backend = self.backend(local, zmq=1)
        told: list[str] = []
        board = local.service.switchboard.board
        tickets: set[str] = set()

        def dead_ends(host: str, port: int) -> Any:
            if port in local.zmq_ports:
                tickets.update(lease.ticket for lease in board.leases)
                port = 1  # nobody listens there
            return tcp_endpoints(reactor)(local.host, port)

        await self.until(lambda: any(backend.waiting.values()))
        frontend = Frontend(reactor, local.gateway, endpoints=dead_ends)
        self.addCleanup(frontend.stop)
        globalLogPublisher.addObserver(observer := lambda event: told.append(repr(event)))
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        frontend.start()
        try:
            await frontend.open_session(timeout=30)
        except Exception as error:
            told += [repr(error), str(error), Failure(error).getTraceback()]
        self.assertTrue(tickets)
        for ticket in tickets:
            self.assertNotIn(ticket, "".join(told))


def fields(message: Any) -> str:
    """Every field of a message, hidden ones too."""
    return str({name: getattr(message, name) for name in message.__struct_fields__})
