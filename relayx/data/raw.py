"""A data connection that says no HELLO, since its library speaks ZMTP at once.

libzmq sends the first ten bytes of its greeting and waits for as many from its peer, and says what
kind of socket it is only when it has seen a whole greeting. So the gateway answers with a greeting
of its own, which has the peer's mechanism and version, and thereby knows of each side what it is
before the two are paired; nothing of an FE that does not fit ever reaches the BE. What each side
says behind its greeting is kept for the other.

Where ``zmq.inspect`` is off nothing is answered and nothing read: the bytes are kept as they are.

**Who is refused, and how.** libzmq that is sent an ERROR command never connects again, and
connects again at once where its connection is closed (``relayx.zmtp``). So ERROR is for what will
not mend by itself: socket types or mechanisms that do not go together, two clients or two servers
of one mechanism, and subscriptions that a publisher of ZMTP 3.0 would not understand. It goes to
the FE, where the BE has been told nothing and waits on for another. All else is a plain close:
contract refusals (``PORT_BUSY``, ``PORT_EMPTY``, ``NOT_ADMITTED``, ...), bytes that are no ZMTP,
and peers of **ZMTP 2.0 and 1.0** (libzmq 3 and 2), which know neither mechanisms nor ERROR and
are closed at the eleventh byte. Each has a line in the log that says why (``zmtp_failed``), and
is counted by its kind (``relayx_zmtp_faults_total``).

What is encrypted or answered end to end is the peers' own affair: a libzmq server of CURVE that
connects gives up for good when a client does not know its key (4.3.5, tried). One that binds, as
behind ``relayx be --forward``, does not.

**3.0 and 3.1.** What a peer may send depends on the minor version that it was told, most of all
how a SUB subscribes: by a command that 3.0 does not have, or by a message that all understand. So
a peer is greeted with its own minor version, or with that of whoever waits on its port already
where that is lower. A SUB of 3.1 that came first and a PUB of 3.0 that comes then are left; they
are told apart from those that fit and refused (``relayx.data.negotiation``).
"""

from __future__ import annotations

from collections.abc import Callable

from relayx.zmtp import Credentials, Event, Greeting, Reader, greeting_bytes
from relayx.zmtp.greeting import GREETING_BYTES

_ANY = 11
"""Bytes of a greeting that are those of any ZMTP 3."""


class Raw:
    """What is known of such a connection.

    :param waiting_minor: gives the minor version of who waits on the port, None where nobody does
        or it is not known.
    :ivar reader: follows what it says, None where nothing is read, and nothing answered.
    :ivar told_minor: the minor version that it has been greeted with, None before that.
    :ivar credentials: what it says of itself by PLAIN, None where it has not (yet).
    """

    __slots__ = ("_greeted", "_waiting_minor", "credentials", "reader", "told_minor")

    def __init__(
        self, *, inspect: bool, waiting_minor: Callable[[], int | None] = lambda: None
    ) -> None:
        self.reader = Reader(handshake_only=True) if inspect else None
        self.credentials: Credentials | None = None
        self.told_minor: int | None = None
        self._waiting_minor = waiting_minor
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
        if self.told_minor is None:
            waiting, own = self._waiting_minor(), greeting.version[1]
            self.told_minor = own if waiting is None else min(own, waiting)
        whole = greeting_bytes(greeting.mechanism, minor=self.told_minor)
        before, self._greeted = self._greeted, GREETING_BYTES
        return whole[before:]

    @property
    def minor(self) -> int | None:
        """Its own minor version, None where that is not known (yet)."""
        reader = self.reader
        return None if reader is None or reader.greeting is None else reader.greeting.version[1]

    @property
    def refusal(self) -> str:
        """Why it gave its handshake up by an ERROR, "" where it did not.

        libzmq whose own ZAP handler refuses its peer does so, and then stays for as long as a
        handshake may take.
        """
        reader = self.reader
        failed = None if reader is None else reader.failed
        return "" if failed is None else failed.reason or "it does not say why"

    @property
    def kind(self) -> str:
        """Its kind of socket, "" where that is not known, or only later, as with PLAIN."""
        reader = self.reader
        return "" if reader is None or reader.ready is None else reader.ready.socket_type

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
            return reader.ready is not None
        return not credentials or not self.owes_credentials

    @property
    def owes_credentials(self) -> bool:
        """Whether it may be a client of PLAIN that has not shown its credentials yet."""
        reader = self.reader
        if reader is None or reader.greeting is None or self.credentials is not None:
            return False
        return reader.greeting.mechanism == "PLAIN"

    @property
    def is_server(self) -> bool:
        """Whether it says that it is the server of its mechanism; libzmq's do not."""
        reader = self.reader
        return reader is not None and reader.greeting is not None and reader.greeting.as_server
