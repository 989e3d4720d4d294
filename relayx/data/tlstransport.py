"""TLS on a data connection, over the TCP transport that it began on.

Twisted's own TLS closes the connection as soon as one stream ends. Here each ends alone, as over
TCP (contract section 7): the peer's close_notify is its end of stream, ours is passed on as a
close_notify behind all our bytes, and TCP stays open both ways, so that what either still sends
is delivered. Where TCP ends without a close_notify, bytes may have been cut off: that is a reset.

Nothing is kept here: what one read brings, 64 KiB at most and the rest of a record before it, is
decrypted and handed on at once, and what is written goes to the TCP transport at once, encrypted.
That one pushes back, and reads no more while it is paused.
"""

from __future__ import annotations

from typing import Any, Protocol

from OpenSSL import SSL
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol
from twisted.python.failure import Failure as TwistedFailure
from zope.interface import implementer

from relayx.data.tlsrecords import RecordCounter
from relayx.data.transport import DataTransport
from relayx.net.proxy import Address
from relayx.net.tcp import Failure
from relayx.net.tls import reasons

_RECORD = 16384
_CHUNK = 1 << 17
_MOST_UNSENT = 1 << 20
"""Far more than a session leaves unsent; a peer that has TLS itself answer it without reading."""


class Owner(Protocol):
    """The protocol on top: Twisted's half-closeable one, and what the transports tell besides."""

    def dataReceived(self, data: bytes) -> None:
        """Decrypted bytes have come."""

    def readConnectionLost(self) -> None:
        """The peer has said close_notify, and all before it was handed on."""

    def writeConnectionLost(self) -> None:
        """Our own close_notify is on its way."""

    def connectionLost(self, reason: TwistedFailure) -> None:
        """The connection is closed."""

    def connection_failed(self) -> None:
        """See :class:`~relayx.data.transport.Ends`."""

    def end_of_stream_seen(self) -> None:
        """See :class:`~relayx.data.transport.Ends`."""

    def tls_failed(self, reason: str) -> None:
        """What came is not TLS, or not the TLS that is wanted here; nothing more is read."""


@implementer(IProtocol, IHalfCloseableProtocol)
class TlsTransport:
    """TLS between a :class:`DataTransport` and its protocol (see data.carrier.Carrier).

    :param lower: the TCP transport, whose protocol this becomes.
    :param owner: the protocol that was its protocol.
    """

    whole = False

    __slots__ = (
        "_accepted", "_broken", "_delivered", "_encrypted", "_end_unread", "_lower", "_owner",
        "_ready", "_records", "_skipped", "_tls", "_write_ended", "read_ended",
    )  # fmt: skip

    def __init__(self, lower: DataTransport, owner: Owner, context: SSL.Context) -> None:
        self._lower = lower
        self._owner = owner
        self._tls = SSL.Connection(context, None)
        self._tls.set_accept_state()
        self._records = RecordCounter()
        self._ready = False  # the handshake is done
        self._broken = False  # nothing more can be decrypted
        self._write_ended = False  # our close_notify is said
        self._end_unread = False  # the peer's close_notify has come while this was paused
        self._skipped = -1  # the record that began to come before a session began
        self._accepted = 0  # bytes that were written, before encryption
        self._encrypted = 0  # bytes that they and all else became
        self._delivered = 0
        self.read_ended = False
        lower.protocol = self

    # the protocol of the TCP transport

    def makeConnection(self, transport: Any) -> None:
        """Never called: the connection is there already."""

    def connectionMade(self) -> None:
        """Likewise."""

    def dataReceived(self, data: bytes) -> None:
        """Decrypt what has come, hand it on, then look what ended it."""
        if self._broken or self.read_ended:
            return
        plain, ended = self._decrypt(data)
        if plain and self.connected:
            self._owner.dataReceived(plain)
        if ended is not None:
            self._ended(ended)
        elif self._lower.unsent > _MOST_UNSENT:
            self._break("it makes TLS answer and reads no answers")

    def _decrypt(self, data: bytes) -> tuple[bytes, SSL.Error | None]:
        """What the records that are complete now hold, and what ended the stream behind them.

        Less what the record holds that is to be skipped, which may be none of the session's.
        """
        if self._skipped == self._records.complete:
            cut = self._records.rest(data)
            _, ended = self._decrypt_all(data[:cut])
            data = data[cut:]
            if ended is not None or not data:
                return b"", ended
        return self._decrypt_all(data)

    def _decrypt_all(self, data: bytes) -> tuple[bytes, SSL.Error | None]:
        self._records.feed(data)
        self._tls.bio_write(data)
        ended: SSL.Error | None = None
        decrypted: list[bytes] = []
        try:
            if not self._ready:
                self._tls.do_handshake()
                self._ready = True
            while True:
                decrypted.append(self._tls.recv(_RECORD))
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            ended = error
        self._flush()
        return b"".join(decrypted), ended

    def _ended(self, ended: SSL.Error) -> None:
        if not self.connected:
            return
        if not isinstance(ended, SSL.ZeroReturnError):
            self._break(reasons(ended))
        elif self.paused:  # as if it had not been read yet
            self._end_unread = True
            self._owner.end_of_stream_seen()
        else:
            self._end_of_stream()

    def _end_of_stream(self) -> None:
        """The peer's stream is at its end; what comes now is read and dropped."""
        if self.connected:
            self.read_ended = True
            self._owner.readConnectionLost()

    def _break(self, reason: str) -> None:
        """Nothing more can be decrypted."""
        self._broken = True
        if self.connected:
            self._owner.tls_failed(reason)

    def readConnectionLost(self) -> None:
        """TCP's end of stream, which means something only where close_notify went before."""
        if self.read_ended or self._end_unread or not self.connected:
            return
        if self._ready and not self._broken:
            self.fail(Failure.RESET)
            return
        if not self._broken:
            self._break("the connection ended within the handshake")
        self._lower.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our own end of TCP's stream is on its way."""
        self._owner.writeConnectionLost()

    def connectionLost(self, reason: TwistedFailure) -> None:
        """The connection is closed; nothing refers to the owner any more, which refers to us."""
        owner = self._owner
        del self._owner
        owner.connectionLost(reason)

    def connection_failed(self) -> None:
        """The peer takes no more bytes; what it sent may still be on its way up."""
        self._owner.connection_failed()
        if self._broken:
            self._lower.abortConnection()  # nothing of it could be decrypted

    def end_of_stream_seen(self) -> None:
        """TCP's end of stream was seen, though nobody reads."""
        self._owner.end_of_stream_seen()

    # reading

    @property
    def failure(self) -> Failure | None:
        """Why the connection cannot go on."""
        return self._lower.failure

    @property
    def route(self) -> tuple[Address, Address]:
        """The addresses and ports of the peer and of the gateway."""
        return self._lower.route

    @property
    def connected(self) -> bool:
        """Whether the connection is not closed yet."""
        return bool(self._lower.connected)

    @property
    def paused(self) -> bool:
        """Whether it is not being read."""
        return self._lower.paused

    @property
    def received(self) -> int:
        """Bytes that came, encrypted: part of a record is progress too."""
        return self._lower.received

    def has_unread(self) -> bool:
        """Whether bytes have come that were not read yet."""
        return self._lower.has_unread()

    def discard_unread(self) -> None:
        """Decrypt what has come so far, while the owner throws it away.

        A record of which only a part has come is thrown away as a whole.
        """
        for data in self._lower.take_unread():
            self._lower.received += len(data)
            _, ended = self._decrypt(data)
            if ended is not None:
                self._lower.reactor.callLater(0, self._ended, ended)
                return
        if self._records.inside:
            self._skipped = self._records.complete

    def limit_reads(self, size: int) -> None:
        """Read at most so many bytes at once, as they come encrypted."""
        self._lower.limit_reads(size)

    def start_watching(self) -> None:
        """Have the end seen from now on, though nobody reads the connection."""
        self._lower.start_watching()

    def pauseProducing(self) -> None:
        """Stop reading."""
        if not self.read_ended:
            self._lower.pauseProducing()

    def resumeProducing(self) -> None:
        """Read on."""
        self._lower.resumeProducing()
        if self._end_unread:
            self._end_unread = False
            self._lower.reactor.callLater(0, self._end_of_stream)

    def stopProducing(self) -> None:
        """Close; a consumer that is gone calls it."""
        self.loseConnection()

    # writing

    def write(self, data: bytes) -> None:
        """Encrypt and send, or throw away where the peer takes no more."""
        if self.failure is not None or not self._can_say:
            return
        left = memoryview(data)
        try:
            while left:
                left = left[self._tls.send(left) :]
        except SSL.Error as error:
            self._break(reasons(error))
            return
        self._accepted += len(data)
        self._flush()

    def _flush(self) -> None:
        """Have the TCP transport send what TLS has made."""
        while True:
            try:
                made = self._tls.bio_read(_CHUNK)
            except SSL.Error:  # WantReadError: there is no more
                return
            self._encrypted += len(made)
            self._lower.write(made)

    @property
    def _can_say(self) -> bool:
        return self._ready and not self._broken and not self._write_ended

    def _say_end(self) -> None:
        if self._can_say and self.failure is None:
            self._write_ended = True
            try:
                self._tls.shutdown()
            except SSL.Error:
                return
            self._flush()

    def loseWriteConnection(self) -> None:
        """Say close_notify behind all that was written; TCP stays open both ways."""
        if not self._ready or self._broken:
            self._lower.loseWriteConnection()
            return
        self._say_end()
        if self._lower.unsent:
            self._lower.drained = self._owner.writeConnectionLost

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Have whoever fills this connection pushed back, by what TCP takes."""
        self._lower.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """Push back on nobody any more."""
        self._lower.unregisterProducer()

    @property
    def _on_their_way(self) -> int:
        """Encrypted bytes that the peer's TCP has not acknowledged.

        They are at least as many as the bytes that are encrypted in them.
        """
        return self._encrypted - self._lower.delivered

    @property
    def sent(self) -> int:
        """Bytes given to the kernel so far, before encryption; never too many."""
        return max(0, self._accepted - (self._encrypted - self._lower.sent))

    @property
    def unsent(self) -> int:
        """Bytes that the gateway itself still holds for the peer, before encryption."""
        return self._accepted - self.sent

    @property
    def in_pipe(self) -> int:
        """None of them ever is in a pipe."""
        return 0

    @property
    def settled(self) -> int:
        """See data.carrier.Carrier; -1 where some are not acknowledged, as far as is known."""
        lower = self._lower
        return self.sent if lower.sent == lower.settled else -1

    @property
    def delivered(self) -> int:
        """Bytes, before encryption, that the peer's TCP has acknowledged; never too many.

        All of them once nothing is on its way any more.
        """
        self._delivered = max(self._delivered, self._accepted - self._on_their_way)
        return self._delivered

    @property
    def all_delivered(self) -> bool:
        """Whether nothing is left on its way, our close_notify included."""
        return self._lower.all_delivered

    def is_dead(self, seconds: float) -> bool:
        """Whether the peer has left bytes unanswered for that long (contract section 7)."""
        return self._lower.is_dead(seconds)

    # ends

    def fail(self, failure: Failure) -> None:
        """The peer takes no more bytes."""
        self._lower.fail(failure)

    def loseConnection(self) -> None:
        """Close behind what was written and a close_notify."""
        self._say_end()
        self._lower.loseConnection()

    def abortConnection(self) -> None:
        """Reset."""
        self._lower.abortConnection()

    def close_ended(self) -> None:
        """Close, where both streams have ended."""
        self._say_end()
        self._lower.close_ended()
