"""One control connection, from `register` to its end (contract sections 2 and 3)."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from relayx.client.errors import ClientError, ControlLost, Distrusted, Refused
from relayx.client.sockets import set_up
from relayx.client.tls import tls_failure
from relayx.core.codec import Envelope, ObjectStream, decode_envelope, decode_payload, encode, shown
from relayx.core.errors import Code, FramingError, PeerError
from relayx.core.messages import REPLIES, Auth, Error, Message, Ping, Pong, Register
from relayx.security.trust import Trust

BEAT = 1.0
MISSED_BEATS = 3
AUTH_TIMEOUT = 5.0
CLOSE_TIMEOUT = 1.0
MAX_MESSAGE_BYTES = 16 * 1024 * 1024

_OF_SIGNATURES = {Code.SIGNATURE_INVALID, Code.REPLAYED, Code.RATE_LIMITED}

Receiver = Callable[[Message | str, str], None]
"""Takes a message, or a log line, and its `trace_id`."""


class Link(Protocol):
    """Registers, cuts what comes into messages, and sees by pings that the gateway is there.

    :param register: the first message.
    :param received: gets every message after `auth`; types that are not known are left out.
    :param lost: called once, with the reason, when a registered connection has ended.
    :param trust: signs what is sent, and verifies what comes: a message that fails ends the
        connection with `Distrusted`.

    :ivar auth: fires when the gateway has taken the registration; fails with `Refused`, or
        with `ControlLost` where the connection ends before any answer. Cancelling it resets
        the connection.
    :ivar over: whether the connection is closed, or is being closed by us.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        register: Register,
        received: Receiver,
        lost: Callable[[Failure], None],
        trust: Trust | None = None,
    ) -> None:
        self._reactor = reactor
        self._register = register
        self._received = received
        self._trust = trust or Trust()
        self.auth: Deferred[Auth] = Deferred(self._cancelled)
        self._result: Deferred[Auth] | None = self.auth
        self._lost = lost
        self._objects = ObjectStream(MAX_MESSAGE_BYTES)
        self._timer: IDelayedCall | None = None
        self._unanswered = 0
        self._last_ping = 0
        self._registered = False
        self._heard = False
        self.over = False
        self._why: ClientError | None = None

    def connectionMade(self) -> None:
        """Say who we are."""
        set_up(self.transport)
        self._timer = self._reactor.callLater(AUTH_TIMEOUT, self._no_auth)
        self.send(self._register)

    def send(self, message: Message, *, trace_id: str = "") -> str:
        """Send one message and return its `msg_id`."""
        now_ms = int(self._reactor.seconds() * 1000)
        msg_id = f"{uuid.uuid4()}-{now_ms}"
        if self.transport is not None and not self.over:
            line = encode(message, msg_id=msg_id, ts_ms=now_ms, trace_id=trace_id)
            self.transport.write(self._trust.sign(line))
        return msg_id

    def ping(self) -> int:
        """Send a ping and return its `c_send`, unix ns, which no other of this link has."""
        self._last_ping = max(self._last_ping + 1, int(self._reactor.seconds() * 1e9))
        self.send(Ping(c_send=self._last_ping))
        return self._last_ping

    def loseConnection(self) -> None:
        """Close once all is sent, at the latest after one second."""
        if self.transport is not None and not self.over:
            self.over = True
            self.transport.loseConnection()
            self._restart_timer(CLOSE_TIMEOUT, self._abort)

    def drop(self, why: ClientError) -> None:
        """Reset the connection, because of `why`."""
        self._why = self._why or why
        self.over = True
        self._stop_timer()
        self._abort()

    def _cancelled(self, _: Deferred[Auth]) -> None:
        self._result = None
        self.drop(ControlLost("the registration was cancelled"))

    def _abort(self) -> None:
        self._timer = None
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        """Pass on each message that these bytes complete."""
        self._heard = True
        try:
            for raw in self._objects.feed(data):
                if self.over:
                    return
                self._take(raw)
        except FramingError as error:
            self.drop(ControlLost(f"the gateway sent what is no message: {error.text}"))

    def _take(self, raw: bytes) -> None:
        try:
            envelope = decode_envelope(raw)
            self._trust.check(raw, envelope, self._reactor.seconds())
            message = self._typed(envelope)
        except FramingError:
            raise
        except PeerError as error:
            if error.code in _OF_SIGNATURES:
                self.drop(Distrusted(error.code, f"a message of the gateway: {error.text}"))
            else:
                self._log.warn("a message of the gateway is left out: {error}", error=error.text)
            return
        if isinstance(message, Auth):
            self._authenticated(message)
        elif message is not None and self._registered:
            if isinstance(message, Pong | Error):  # a ping too many is answered with an error
                self._unanswered = 0
            self._received(message, envelope.trace_id)

    def _typed(self, envelope: Envelope) -> Message | str | None:
        if envelope.type == "log":
            return log_text(envelope)
        if envelope.type not in REPLIES:
            self._log.debug("a message of the unknown type {type}", type=shown(envelope.type))
            return None
        return decode_payload(envelope, REPLIES)

    def _authenticated(self, auth: Auth) -> None:
        if self._result is None:
            return
        result, self._result = self._result, None
        self._stop_timer()
        if auth.status == "ok":
            self._registered = True
            self._beat()
            result.callback(auth)
        else:
            self.loseConnection()
            result.errback(Failure(Refused(auth.error_code, auth.error)))

    def _no_auth(self) -> None:
        self.drop(ControlLost(f"the gateway did not answer register within {AUTH_TIMEOUT:g} s"))

    def _beat(self) -> None:
        if self._unanswered >= MISSED_BEATS:
            self.drop(ControlLost(f"the gateway left {MISSED_BEATS} pings unanswered"))
            return
        self._unanswered += 1
        self.ping()
        self._timer = self._reactor.callLater(BEAT, self._beat)

    def _restart_timer(self, seconds: float, call: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self._reactor.callLater(seconds, call)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell that this connection is over."""
        self.over = True
        self._stop_timer()
        why = self._why or self._reason(reason)
        if self._result is not None:
            result, self._result = self._result, None
            result.errback(Failure(why))
        elif self._registered:
            self._registered = False
            self._lost(Failure(why))

    def _reason(self, reason: Failure) -> ClientError:
        if self._result is not None and (failure := tls_failure(reason, self.transport)):
            return failure
        text = f"the control connection ended: {reason.getErrorMessage()}"
        if not self._heard and not ISSLTransport.providedBy(self.transport):
            text = f"{text.rstrip('.')}, before any answer; the gateway may speak TLS there"
        return ControlLost(text)


def log_text(envelope: Envelope) -> str:
    """The line of a `log` message, whose payload is a bare string.

    :raises PeerError: ``INVALID_MESSAGE`` where it is something else.
    """
    try:
        return msgspec.json.decode(envelope.payload, type=str)
    except msgspec.DecodeError as error:
        raise PeerError(Code.INVALID_MESSAGE, f"log: {error}") from None
