"""Both directions of a connection, until both sides are ready (RFC 23 and 37)."""

from __future__ import annotations

from relayx.zmtp.commands import error_command
from relayx.zmtp.errors import Fault, ZmtpError
from relayx.zmtp.events import Event
from relayx.zmtp.greeting import GREETING_BYTES, greeting_bytes
from relayx.zmtp.reader import Part, Reader
from relayx.zmtp.sockettypes import compatible, incompatibility

_SAME_IN_ALL = 11
"""Bytes of a greeting that are those of any ZMTP 3: signature and major version."""


class Handshake:
    """Follows what an FE and a BE say to each other, whichever comes first.

    Bytes may be fed before they are passed on, and are not kept here. Which of two types is wrong
    is nobody's to say; the error is raised out of the call that shows the second.

    :param max_message: as :class:`Reader` has it.
    :param handshake_only: likewise; bytes may be fed until `done` is true, and need not be after.
    :ivar fe: the reader of what comes from the FE.
    :ivar be: the reader of what comes from the BE.
    """

    def __init__(self, *, max_message: int | None = None, handshake_only: bool = False) -> None:
        self.fe = Reader(max_message=max_message, handshake_only=handshake_only)
        self.be = Reader(max_message=max_message, handshake_only=handshake_only)
        self._checked = False

    def feed_fe(self, data: bytes | memoryview) -> list[Event]:
        """Take bytes that come from the FE and return what they complete.

        :raises ZmtpError: as :meth:`Reader.feed` does, and where the two do not go together.
        """
        return self._feed(self.fe, data)

    def feed_be(self, data: bytes | memoryview) -> list[Event]:
        """The same for bytes that come from the BE."""
        return self._feed(self.be, data)

    @property
    def done(self) -> bool:
        """Whether both sides are ready and go together."""
        return self._checked

    @property
    def consumed(self) -> tuple[int, int] | None:
        """How many bytes came from the FE and from the BE up to where both were ready.

        None until `done`. From there on nothing need be looked at any more.
        """
        return (self.fe.stops[-1], self.be.stops[-1]) if self._checked else None

    @property
    def socket_types(self) -> tuple[str, str]:
        """The FE's and the BE's; "" for each that is not known (yet), or encrypted."""
        fe, be = self.fe.ready, self.be.ready
        return (fe.socket_type if fe else "", be.socket_type if be else "")

    def refusal_to_fe(self, reason: str, passed: int) -> bytes:
        """What to send to the FE, before it is closed, to refuse it in protocol.

        It is an ERROR command, behind as much of a greeting as the FE has not got. b"" where none
        is legal: inside a frame, in traffic, to a peer whose own greeting is not there or wrong.

        :param reason: a sentence, see :func:`error_command`.
        :param passed: how many bytes of what the BE sent have been sent to the FE.
        """
        return _refusal(self.fe, self.be, reason, passed)

    def refusal_to_be(self, reason: str, passed: int) -> bytes:
        """The same for the BE; `passed` is how much of the FE's it has been sent."""
        return _refusal(self.be, self.fe, reason, passed)

    def _feed(self, reader: Reader, data: bytes | memoryview) -> list[Event]:
        events = reader.feed(data)
        if not self._checked:
            try:
                self._check()
            except ZmtpError as error:
                error.events = events
                error.mutual = True
                raise
        return events

    def _check(self) -> None:
        """See whether the two go together as far as both are known."""
        fe, be = self.fe, self.be
        if fe.greeting is None or be.greeting is None:
            return
        if fe.greeting.mechanism != be.greeting.mechanism:
            raise ZmtpError(
                Fault.MECHANISM,
                f"the FE uses {fe.greeting.mechanism} and the BE {be.greeting.mechanism}; "
                "both have to use one mechanism",
            )
        servers = fe.greeting.as_server and be.greeting.as_server
        if fe.greeting.mechanism != "NULL" and (servers or (fe.part and fe.part is be.part)):
            part = Part.SERVER.value if servers or fe.part is Part.SERVER else Part.CLIENT.value
            raise ZmtpError(
                Fault.MECHANISM,
                f"both are {part}s of {fe.greeting.mechanism}; "
                "one has to be its server and the other its client",
            )
        if fe.ready is not None and be.ready is not None:
            if not compatible(fe.ready.socket_type, be.ready.socket_type):
                text = incompatibility(fe.ready.socket_type, be.ready.socket_type)
                raise ZmtpError(Fault.SOCKET_TYPE, text)
            self._checked = True


def _refusal(to: Reader, other: Reader, reason: str, passed: int) -> bytes:
    """What refuses the peer that `to` reads, of which `passed` bytes of `other`'s stand before."""
    if to.greeting is None:
        return b""
    greeting = b""
    if passed < GREETING_BYTES:
        mechanism = to.greeting.mechanism
        other_mechanism = other.greeting.mechanism if other.greeting else None
        if passed > _SAME_IN_ALL and other_mechanism != mechanism:
            return b""
        greeting = greeting_bytes(mechanism)[passed:]
    elif passed not in other.stops or (other.ready is not None and passed == other.stops[-1]):
        return b""
    return greeting + error_command(reason)
