"""The control connection: JSON objects in, lines out (contract sections 2 and 3)."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from twisted.internet.interfaces import IHalfCloseableProtocol, ISSLTransport
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from relayx.control.outbox import Outbox
from relayx.control.pace import BURST, Pace
from relayx.core.codec import (
    Envelope,
    ObjectStream,
    decode_envelope,
    decode_payload,
    shown,
)
from relayx.core.errors import Code, FramingError, PeerError
from relayx.core.messages import REQUESTS, Error, Message, Ping, Pong, Register
from relayx.net.address import plain
from relayx.net.steady import time_of_day
from relayx.net.tcp import set_keepalive
from relayx.net.tls import common_name, tls_failure

if TYPE_CHECKING:
    from relayx.control.factory import ControlFactory

MOST_BEFORE_REGISTER = 16
"""Messages of a connection up to its ``register``, wrong ones, which are answered, included."""

TURN = 0.005
"""Seconds for which one connection's messages are acted upon; then it is the others' turn."""


class Events(Protocol):
    """Who is told what happens on the control plane."""

    def asked_to_register(
        self, conn: int, address: str, asked: Register, trace_id: str, identity: str | None
    ) -> None:
        """A connection's first message is ``register``.

        :param identity: the common name in its certificate, None where it was asked for none.
        """

    def failed_to_register(self, conn: int, address: str, error: PeerError) -> None:
        """A connection did not register as it should."""

    def distrusted(self, conn: int, address: str, error: PeerError) -> None:
        """A client that has asked to register sent a message whose signature is not good."""

    def requested(self, conn: int, message: Message, msg_id: str, trace_id: str) -> None:
        """A registered client sent a message."""

    def control_lost(self, conn: int) -> None:
        """A connection has ended."""

    def dropped(self, conn: int, address: str, why: str) -> None:
        """A connection is closed because of what it did or did not do."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the control plane goes by (contract section 1, ``control``); seconds and bytes."""

    register_timeout: float = 5.0
    idle_timeout: float = 0.0
    max_message_bytes: int = 65536
    max_outbox_bytes: int = 1048576
    max_unregistered: int = 256
    keepalive: float = 15.0
    per_source: int = 4096
    unregistered_per_source: int = 128
    messages_per_second: int = 1000


@implementer(IHalfCloseableProtocol)
class ControlProtocol(LineReceiver):
    """One client's control connection.

    The objects are cut by :class:`~relayx.core.codec.ObjectStream`, since the contract acts on
    an object that no newline has followed yet; LineReceiver is in raw mode throughout.
    """

    factory: ControlFactory
    outbox: Outbox

    def __init__(self, factory: ControlFactory, conn: int, address: str) -> None:
        self.factory = factory
        self.conn = conn
        self.address = plain(address)
        self.source = ""
        self.registered = False
        self.last_heard = 0.0
        self._asked = False
        self._before_register = 0
        self._closing = False
        self._pace = Pace(factory.settings.messages_per_second, factory.reactor.seconds())
        self._held = False
        self._turn: Any = None
        self._kept = b""
        self._objects: Iterator[bytes] = iter(())
        self._stream = ObjectStream(factory.settings.max_message_bytes)

    def connectionMade(self) -> None:
        """Wait for ``register``."""
        settings = self.factory.settings
        self.setRawMode()
        transport: Any = self.transport
        sock = self.tcp_socket
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            set_keepalive(sock, settings.keepalive)
        self.outbox = Outbox(transport, settings.max_outbox_bytes, self._overflowed)
        self.last_heard = self.factory.reactor.seconds()
        self.factory.opened(self)

    def change(self, settings: Settings) -> None:
        """Go by other limits from now on."""
        self._pace.change(settings.messages_per_second)
        self._stream.max_bytes = settings.max_message_bytes
        self.outbox.change(settings.max_outbox_bytes)

    def rawDataReceived(self, data: bytes) -> None:
        """Act on each object that `data` completes."""
        if self._closing:
            return
        self.last_heard = self.factory.reactor.seconds()
        if self._held:  # TLS hands on what it had read before it was paused
            self._kept += data
            return
        self._objects = self._stream.feed(data)
        self._act_on_objects()

    def _act_on_objects(self) -> None:
        reactor = self.factory.reactor
        until = reactor.seconds() + TURN
        try:
            for raw in self._objects:
                self._act(raw)
                if self._closing or self._held:
                    return
                if reactor.seconds() >= until:
                    self.hold()
                    self._turn = reactor.callLater(0, self._next_turn)
                    return
        except FramingError as error:
            self.factory.events.dropped(self.conn, self.address, str(error))
            self._send_error(error)
            self.close()

    def _next_turn(self) -> None:
        self._turn = None
        self.go_on()

    def hold(self) -> None:
        """Act on nothing more, and read nothing, until :meth:`go_on`."""
        self._held = True
        transport: Any = self.transport
        transport.pauseProducing()

    def go_on(self) -> None:
        """Act on what came meanwhile, in its order, and read on."""
        if not self._held:
            return
        self._held = False
        if self._closing:
            self._kept = b""
        else:
            self._act_on_objects()
        while self._kept and not self._held:
            kept, self._kept = self._kept, b""
            self.rawDataReceived(kept)
        if not self._held:
            transport: Any = self.transport
            transport.resumeProducing()

    @property
    def tcp_socket(self) -> socket.socket | None:
        """The TCP socket below, through TLS too; None where it is not TCP."""
        lowest: Any = self.transport
        while ISSLTransport.providedBy(lowest) and hasattr(lowest, "transport"):
            lowest = lowest.transport
        handle = lowest.getHandle() if hasattr(lowest, "getHandle") else None
        families = (socket.AF_INET, socket.AF_INET6)
        return handle if isinstance(handle, socket.socket) and handle.family in families else None

    @property
    def closing(self) -> bool:
        """Whether nothing that it says counts any more."""
        return self._closing

    def _act(self, raw: bytes) -> None:
        allowed = self._pace.allows(self.last_heard)
        if self._says_too_much():
            return
        try:
            envelope = decode_envelope(raw)
        except FramingError:
            raise
        except PeerError as error:
            if allowed:
                self._send_error(error)
            else:
                self._slow_down(error.msg_id, error.trace_id)
            return
        self.factory.counts.came(envelope.type)
        if not allowed:
            self._slow_down(envelope.msg_id, envelope.trace_id)
            return
        try:
            self.factory.trust.check(raw, envelope, time_of_day(self.factory.reactor))
        except PeerError as error:
            self._distrust(error)
            return
        if not self._asked and envelope.type != Register.TYPE:
            self._reject(envelope)
            return
        try:
            message = decode_payload(envelope, REQUESTS)
        except PeerError as error:
            self._send_error(error)
            return
        self._pass_on(message, envelope)

    def _says_too_much(self) -> bool:
        """Whether it is dropped for all that it says, before any of that is looked at."""
        if not self._asked:
            self._before_register += 1
            if self._before_register > MOST_BEFORE_REGISTER:
                self.drop(f"it sent {MOST_BEFORE_REGISTER} messages and no register that is one")
                return True
        if self._pace.far_over:
            self.drop(
                f"it sent {self._pace.sent} messages within a second; allowed: "
                f"{self.factory.settings.messages_per_second} a second, "
                "limits.messages_per_second"
            )
            return True
        return False

    def _slow_down(self, msg_id: str, trace_id: str) -> None:
        """A message too many: it is not acted upon."""
        self.factory.counts.rate_limited += 1
        limit = self.factory.settings.messages_per_second
        text = f"too many messages; allowed: {limit} a second, {BURST * limit} at once"
        self._send_error(PeerError(Code.RATE_LIMITED, text, msg_id=msg_id, trace_id=trace_id))

    def _distrust(self, error: PeerError) -> None:
        """A message whose signature is missing or wrong: it is answered and not acted upon."""
        if self._asked:
            self._send_error(error)
            self.factory.distrusted(self, error)
        else:
            self._asked = True
            self.factory.newcomers.discard(self)
            self.factory.events.failed_to_register(self.conn, self.address, error)

    def _pass_on(self, message: Message, envelope: Envelope) -> None:
        events = self.factory.events
        if isinstance(message, Ping) and self.registered:
            self._pong(message, envelope.trace_id)
        elif isinstance(message, Register) and not self._asked:
            self._asked = True
            self.factory.newcomers.discard(self)
            identity = common_name(self.transport)
            events.asked_to_register(self.conn, self.address, message, envelope.trace_id, identity)
        else:
            events.requested(self.conn, message, envelope.msg_id, envelope.trace_id)

    def _reject(self, envelope: Envelope) -> None:
        text = f"the first message is {shown(envelope.type)}; it must be register"
        error = PeerError(Code.REGISTER_REQUIRED, text, trace_id=envelope.trace_id)
        self.factory.events.failed_to_register(self.conn, self.address, error)

    def _pong(self, ping: Ping, trace_id: str) -> None:
        reactor = self.factory.reactor
        sent = time_of_day(reactor)
        received = sent - (reactor.seconds() - self.last_heard)
        pong = Pong(c_send=ping.c_send, s_recv=int(received * 1e9), s_send=int(sent * 1e9))
        self.send(pong, trace_id)

    def _send_error(self, error: PeerError) -> None:
        message = Error(error_code=error.code, error=error.text, in_reply_to=error.msg_id)
        self.send(message, error.trace_id)

    def send(self, message: Message, trace_id: str = "") -> None:
        """Send one message."""
        self.send_all([(message, trace_id)])

    def send_all(self, messages: Iterable[tuple[Message, str]]) -> None:
        """Send some messages as one, each with its ``trace_id``."""
        self.outbox.send(b"".join(self._line(*each) for each in messages))

    def _line(self, message: Message, trace_id: str) -> bytes:
        counts = self.factory.counts
        counts.went(message)
        if isinstance(message, Error):
            counts.errors[message.error_code] += 1
        return self.factory.encode(message, trace_id)

    def close(self) -> None:
        """Close behind what was sent; what still comes is read and dropped for a while."""
        if not self._closing:
            self.factory.newcomers.discard(self)
            self.outbox.flush()
            self.outbox.close()
            self._closing = True
            self.factory.leaving.add(self)
            transport: Any = self.transport
            if ISSLTransport.providedBy(transport):
                transport.loseConnection()  # TLS has no half-close, and says its end itself
            elif getattr(transport, "loseWriteConnection", None) is not None:
                transport.loseWriteConnection()

    def lose(self) -> None:
        """Close behind what was sent."""
        self.outbox.flush()
        self.outbox.close()
        transport: Any = self.transport
        transport.loseConnection()

    def turn_away(self) -> None:
        """Close at once, without a word, a connection that has only just come."""
        self._closing = True
        transport: Any = self.transport
        transport.abortConnection()

    def crowd_out(self) -> None:
        """Close one that has not registered, for another that has just come.

        Over TLS that takes an answer, which may never come.
        """
        self._closing = True
        if ISSLTransport.providedBy(self.transport):
            self.factory.leaving.add(self)
        self.lose()

    def stop_lingering(self) -> None:
        """Close a connection that was to close, though it has not read what it was told."""
        self.lose()
        if self.factory.get(self.conn) is self:
            transport: Any = self.transport
            transport.abortConnection()

    def readConnectionLost(self) -> None:
        """The client has ended its stream: it gets what it is owed, and is gone."""
        self.lose()

    def writeConnectionLost(self) -> None:
        """Our own end of stream is on its way."""

    def _overflowed(self) -> None:
        limit = self.factory.settings.max_outbox_bytes
        self.drop(f"it reads too slowly to stay under {limit} bytes, control.max_outbox_bytes")

    def drop(self, why: str) -> None:
        """Close a connection at once that would not take what is still to be sent."""
        self._closing = True
        self.factory.events.dropped(self.conn, self.address, why)
        transport: Any = self.transport
        transport.abortConnection()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """The connection is closed."""
        self.outbox.close()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        if why := tls_failure(reason):
            self.factory.counts.tls_failures += 1
            self.factory.events.dropped(self.conn, self.address, f"TLS: {why}")
        self.factory.lost(self)
