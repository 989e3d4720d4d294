"""A data connection that says no HELLO, since its library speaks ZMTP at once.

libzmq sends the first ten bytes of its greeting and waits for as many from its peer, and says what
kind of socket it is only when it has seen a whole greeting. So the gateway answers with a greeting
of its own, which has the peer's mechanism and version, and thereby knows of each side what it is
before the two are paired; nothing of an FE that does not fit ever reaches the BE. What each side
says behind its greeting is kept for the other.

Where ``zmq.inspect`` is off nothing is answered and nothing read: the bytes are kept as they are.
"""

from __future__ import annotations

from relayx.zmtp import Credentials, Event, Greeting, Reader, greeting_bytes
from relayx.zmtp.greeting import GREETING_BYTES

_ANY = 11
"""Bytes of a greeting that are those of any ZMTP 3."""


class Raw:
    """What is known of such a connection.

    :ivar reader: follows what it says, None where nothing is read.
    :ivar credentials: what it says of itself by PLAIN, None where it has not (yet).
    """

    __slots__ = ("_greeted", "credentials", "reader")

    def __init__(self, *, inspect: bool) -> None:
        self.reader = Reader(handshake_only=True) if inspect else None
        self.credentials: Credentials | None = None
        self._greeted = 0

    def feed(self, data: bytes) -> bytes:
        """Take what the peer says; return what it is to be answered.

        :raises ZmtpError: where it is no ZMTP that is understood here.
        """
        reader = self.reader
        if reader is None:
            return b""
        for event in reader.feed(data):
            self._take(event)
        if reader.greeting is None:
            before, self._greeted = self._greeted, _ANY
            return greeting_bytes()[before:_ANY]
        return self._rest(reader.greeting)

    def _take(self, event: Event) -> None:
        if isinstance(event, Credentials):
            self.credentials = event

    def _rest(self, greeting: Greeting) -> bytes:
        whole = greeting_bytes(greeting.mechanism, minor=greeting.version[1])
        before, self._greeted = self._greeted, GREETING_BYTES
        return whole[before:]

    def is_known(self, *, credentials: bool) -> bool:
        """Whether it has said all that it says before it hears from its real peer.

        :param credentials: whether an FE's are waited for, where its mechanism has any.
        """
        reader = self.reader
        if reader is None:
            return True
        if reader.greeting is None:
            return False
        if reader.greeting.mechanism == "NULL":
            return reader.ready is not None or reader.failed is not None
        wants = credentials and reader.greeting.mechanism == "PLAIN"
        return not wants or self.credentials is not None
