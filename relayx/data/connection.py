"""One data connection: HELLO, then waiting, then in a session (contract section 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from relayx.core.errors import Code
from relayx.core.hello import (
    Answer,
    Hello,
    HelloError,
    HelloReader,
    Refused,
    encode_answer,
)
from relayx.core.messages import Role
from relayx.data.carrier import Carrier
from relayx.data.opening import ZMTP, Opening, TlsBegins, Told
from relayx.data.raw import Raw
from relayx.data.tlstransport import TlsTransport
from relayx.data.transport import DataTransport
from relayx.net.address import plain
from relayx.net.proxy import Address, Header
from relayx.net.tcp import Failure as Reason
from relayx.zmtp import ZmtpError

if TYPE_CHECKING:
    from relayx.data.negotiation import Negotiation
    from relayx.data.plane import DataPlane
    from relayx.data.session import Session

EARLY_LIMIT = 65536
"""Most bytes that a waiting BE may send before its first session (contract section 6)."""


@implementer(IProtocol, IHalfCloseableProtocol)
class DataConnection:
    """The protocol of an accepted data connection.

    What arrives goes to `_take`, which is another function at each stage: reading HELLO,
    keeping early bytes, throwing bytes away, or handing them to the session. It is not bound to
    the connection, which would then refer to itself and be left to the garbage collector.

    :ivar address: where the peer is, as a trusted proxy tells where one stands in front of it.
    :ivar raw: what is known of one that speaks ZMTP and says no HELLO.
    :ivar transport: TCP, or TLS over it.
    """

    __slots__ = (
        "_opening",
        "_plane",
        "_reader",
        "_take",
        "_told",
        "address",
        "held",
        "hello",
        "link",
        "negotiation",
        "port",
        "raw",
        "session",
        "transport",
        "waiting",
    )  # fmt: skip

    transport: Carrier

    def __init__(
        self,
        plane: DataPlane,
        link: int,
        port: int,
        address: str,
        opening: Opening | None = None,
    ) -> None:
        """:param opening: where more than a plain HELLO may come."""
        self.link = link
        self.port = port
        self.address = plain(address)
        self.hello: Hello | None = None
        self.raw: Raw | None = None
        self.negotiation: Negotiation | None = None
        self.held = b""
        self.session: Session | None = None
        self.waiting = False
        self._plane = plane
        self._told: Header | None = None
        self._opening = opening
        self._reader: HelloReader | None = None
        self._take: Callable[[DataConnection, bytes], None]
        if opening is None:
            self._reader = HelloReader()
            self._take = DataConnection._take_hello
        else:
            self._take = DataConnection._take_opening

    # IProtocol

    def makeConnection(self, transport: Any) -> None:
        """Begin to wait for HELLO; `transport` is a DataTransport."""
        self.transport = transport
        self._plane.connected(self)
        transport.begin()

    def connectionMade(self) -> None:
        """Nothing more than :meth:`makeConnection` does."""

    def dataReceived(self, data: bytes) -> None:
        """Bytes have come."""
        self._take(self, data)

    def connectionLost(self, reason: Failure) -> None:
        """The connection is closed and nothing is left to read."""
        session = self.session
        if session is not None:
            session.lost(self.transport)
        self._plane.lost(self)

    # IHalfCloseableProtocol

    def readConnectionLost(self) -> None:
        """The peer's stream has been read to its end."""
        if self.session is not None:
            self.session.stream_ended(self.transport)
        else:
            self.transport.loseConnection()
            self._plane.lost(self)  # it is gone for the rules, though it closes a turn later

    def writeConnectionLost(self) -> None:
        """Our own end of stream is on its way."""
        if self.session is not None:
            self.session.seen()

    # Ends

    def connection_failed(self) -> None:
        """The peer takes no more bytes."""
        if self.session is not None:
            self.session.failed(self.transport)
        else:
            self.transport.abortConnection()
            self._plane.lost(self)

    def end_of_stream_seen(self) -> None:
        """The peer has ended its stream; a waiting BE is gone then, an FE is not."""
        if self.session is not None:
            self.session.seen()
        elif self.negotiation is not None or (
            self.waiting and self.hello is not None and self.hello.role is Role.BE
        ):
            self.transport.loseConnection()
            self._plane.lost(self)

    def tls_failed(self, reason: str) -> None:
        """What came is not TLS as it should be; no more of it can be read."""
        self._plane.tls_failures += 1
        if self._opening is not None:
            self._plane.hello_failed(self, HelloError(f"TLS: {reason}"))
        elif self.hello is None:
            self.transport.loseConnection()  # it has been turned away before
        else:
            self._plane.tls_broke(self, reason)
            self.transport.fail(Reason.RESET)

    @property
    def greeted(self) -> bool:
        """Whether the gateway has answered it with a greeting of ZMTP instead of its peer's."""
        return self.raw is not None and self.raw.reader is not None

    @property
    def route(self) -> tuple[Address, Address]:
        """Where the peer is and where it connected to, as a trusted proxy tells."""
        told = self._told
        if told is not None and told.source is not None and told.destination is not None:
            return told.source, told.destination
        return self.transport.route

    # stages

    def _take_hello(self, data: bytes) -> None:
        reader = self._reader
        if reader is None:
            return
        if data.startswith(ZMTP) and reader.is_new and self._begin_zmtp(data):
            return
        try:
            said = reader.feed(data)
        except HelloError as error:
            self._plane.hello_failed(self, error)
            return
        if said is not None:
            self.hello, self.held = said
            self._reader = None
            self._take = DataConnection._take_early
            self._plane.said_hello(self, self.hello)

    def _take_opening(self, data: bytes) -> None:
        """The stages before HELLO where there are any (data.opening)."""
        while (opening := self._opening) is not None:
            if opening.may_be_zmtp(data) and self._begin_zmtp(data):
                return
            try:
                step = opening.feed(data)
            except HelloError as error:
                self._plane.hello_failed(self, error)
                return
            if step is None:
                return
            if isinstance(step, Told):
                self._told, data = step.header, step.rest
                if step.header.source is not None:
                    self.address = plain(step.header.source.host)
                    self._plane.address_told(self)
            elif isinstance(step, TlsBegins):
                self._begin_tls(step.rest)
                return
            else:
                self.hello, self.held = step
                self._opening = None
                self._take = DataConnection._take_early
                self._plane.said_hello(self, self.hello)

    def _begin_zmtp(self, data: bytes) -> bool:
        """Take a connection that says no HELLO for one of ZMTP, where those may come."""
        self.raw = self._plane.direct.take(self.port)
        if self.raw is None:
            return False
        self._reader = self._opening = None
        self._take = DataConnection._take_zmtp
        self._take_zmtp(data)
        return True

    def _take_zmtp(self, data: bytes) -> None:
        """What a peer says before it is paired: kept, and answered as far as it waits for that."""
        raw = self.raw
        if raw is None:
            return
        self.held += data
        try:
            answer = raw.feed(data)
        except ZmtpError as error:
            self._plane.direct.failed(self, error)
            return
        if answer:
            self.transport.write(answer)
        if len(self.held) >= EARLY_LIMIT:
            self.transport.pauseProducing()
        self._plane.direct.said(self, raw)

    def _begin_tls(self, data: bytes) -> None:
        context, lower = self._plane.tls, self.transport
        if context is None or not isinstance(lower, DataTransport):
            self._plane.hello_failed(self, HelloError("TLS is not served here any more"))
            return
        self.transport = tls = TlsTransport(lower, self, context)
        tls.dataReceived(data)

    def _take_early(self, data: bytes) -> None:
        self.held += data
        if len(self.held) >= EARLY_LIMIT:
            self.transport.pauseProducing()

    def _take_nothing(self, data: bytes) -> None:
        """Throw away: a refused peer's bytes, or a kept BE's between sessions."""

    def _take_session(self, data: bytes) -> None:
        session = self.session
        if session is not None:
            session.pump.received(self.transport, data)

    def wait(self) -> None:
        """Stay until paired: a BE is read into a small buffer, an FE is not read at all."""
        self.waiting = True
        if self.hello is not None and self.hello.role is Role.FE:
            self.transport.pauseProducing()

    def chosen(self) -> None:
        """It is about to be paired, before anybody is told: what came between sessions is gone."""
        if self.waiting and self._take is DataConnection._take_nothing:
            self.transport.discard_unread()

    def negotiate(self, negotiation: Negotiation) -> bytes:
        """Become one side of a handshake of ZMTP; return what came before it."""
        held, self.held = self.held, b""
        self.waiting = False
        self.negotiation = negotiation
        self._take = DataConnection._take_negotiation
        return held

    def _take_negotiation(self, data: bytes) -> None:
        negotiation = self.negotiation
        if negotiation is not None:
            negotiation.received(self, data)

    def pair(self, session: Session) -> bytes:
        """Become one side of a session; return what came before it."""
        held, self.held = self.held, b""
        self.waiting = False
        self.negotiation = None
        self.session = session
        self._take = DataConnection._take_session
        return held

    def wait_again(self, held: bytes) -> None:
        """A handshake came to nothing of which this BE has seen nothing."""
        self.held = held
        self.waiting = True
        self.negotiation = None
        self._take = DataConnection._take_zmtp
        if len(held) >= EARLY_LIMIT:
            self.transport.pauseProducing()
        else:
            self.transport.resumeProducing()

    def keep(self) -> None:
        """The session is over and this BE waits for the next one; until then it says nothing."""
        self.session = None
        self.waiting = True
        self._take = DataConnection._take_nothing
        self.transport.resumeProducing()

    def answer(self, answer: Answer) -> None:
        """Say a line, where HELLO asked for answers."""
        if self.hello is not None and self.hello.ack:
            self.transport.write(encode_answer(answer))

    def refuse(self, code: Code, text: str, *, ack: bool = False) -> None:
        """Close, saying why where HELLO asked for it (`ack`: where no HELLO could be kept)."""
        if ack:
            self.transport.write(encode_answer(Refused(code, text)))
        else:
            self.answer(Refused(code, text))
        self.leave()

    def leave(self) -> None:
        """Close behind what was said; what still comes is read and dropped for a while."""
        self.waiting = False
        self.held = b""
        self._reader = self._opening = None
        self._take = DataConnection._take_nothing
        if not self.transport.connected:
            return
        self.transport.resumeProducing()
        self.transport.loseWriteConnection()
        self._plane.leaving.add(self)

    def close(self) -> None:
        """Close without a word."""
        self.transport.loseConnection()

    def stop_lingering(self) -> None:
        """Close a connection that was turned away, though it has not read why."""
        self.transport.loseConnection()
        if self.transport.connected:
            self.transport.abortConnection()
