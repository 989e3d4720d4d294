"""The handshake of ZMTP between two sides that were paired, one of which at least said no HELLO.

Each of those has had the gateway's greeting for its peer's (``relayx.data.raw``), so the real one
is left out. With NULL both have said what they are, and nothing is passed on before they are known
to fit. With PLAIN and CURVE one answers the other, and what they say is followed as it goes
through. Then the session takes the bytes, as of any other connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from relayx.data.connection import EARLY_LIMIT, DataConnection
from relayx.zmtp import Fault, Handshake, Reader, ZmtpError
from relayx.zmtp.greeting import GREETING_BYTES
from relayx.zmtp.reader import Part

LONGEST = 30.0
"""Seconds: libzmq's own ZMQ_HANDSHAKE_IVL."""

_SUBSCRIBERS = ("SUB", "XSUB")


class Failure(NamedTuple):
    """Why a handshake came to nothing.

    :ivar why: an error of ZMTP, or a sentence.
    :ivar side: the one that made the mistake or is gone; the FE where the two do not fit.
    :ivar said_by_be: what the BE has said, where it has been told nothing yet and has made no
        mistake, so that it can wait for another FE; else None.
    """

    why: ZmtpError | str
    side: DataConnection
    said_by_be: bytes | None


class Negotiation:
    """One handshake, which ends once.

    :param clock: an IReactorTime.
    :param done: called when the two are ready, with what each has sent that is still to be passed.
    :param failed: called when they do not fit, or one is gone.
    :param messages: whether `handshake` goes on with the messages that come behind it.
    :param max_message: the most bytes in such a message, None for no limit.
    :param be_shows_none: whether the BE was taken for one since it showed no credentials of PLAIN;
        it is an FE where it shows them now, and both connect again.
    :ivar handshake: of the two; it has been fed all that `done` is called with.
    """

    def __init__(
        self,
        fe: DataConnection,
        be: DataConnection,
        clock: Any,
        done: Callable[[bytes, bytes], None],
        failed: Callable[[Failure], None],
        *,
        messages: bool = False,
        max_message: int | None = None,
        be_shows_none: bool = False,
    ) -> None:
        self.fe = fe
        self.be = be
        self.handshake = Handshake(max_message=max_message, handshake_only=not messages)
        self._done = done
        self._failed = failed
        self._be_shows_none = be_shows_none
        self._over = False
        # What was held back of each, and how much of each the other has been told instead.
        self._kept = {fe: b"", be: b""}
        self._instead = {
            fe: GREETING_BYTES if be.greeted else 0,
            be: GREETING_BYTES if fe.greeted else 0,
        }
        self._seen = {fe: 0, be: 0}
        self._said_by_be = b""
        self._be_was_told = be.raw is None
        self._timer = clock.callLater(LONGEST, self._too_long)

    def begin(self, of_fe: bytes, of_be: bytes) -> None:
        """Take what both sides have said so far."""
        self._said_by_be = of_be  # whatever is wrong with the FE's
        self._take(self.fe, of_fe)
        self._take(self.be, of_be)

    def received(self, source: DataConnection, data: bytes) -> None:
        """One side goes on speaking."""
        if source is self.be and not self._be_was_told:
            self._said_by_be += data
        self._take(source, data)

    def _take(self, source: DataConnection, data: bytes) -> None:
        if self._over or not data:
            return
        self._kept[source] += data
        handshake = self.handshake
        wrong: ZmtpError | None = None
        try:
            (handshake.feed_fe if source is self.fe else handshake.feed_be)(data)
        except ZmtpError as error:
            wrong = error
        if self._be_shows_none and self._be_is_client():
            self._fail("the BE shows credentials late, and so is an FE", self.be)
            return
        if wrong is not None:
            self._fail(wrong, self.fe if wrong.mutual else source, for_good=wrong.mutual)
            return
        if handshake.done and self._subscribes_in_vain():
            return
        if self._is_null(source):
            self._fail_refused(source)  # with the others, ERROR is for its real peer
        if not self._over:
            self._pass()
        if not self._over and self._is_ahead(source):
            source.transport.pauseProducing()

    def ended(self, source: DataConnection) -> None:
        """One side is gone, or has ended its stream."""
        for side in (self.be, self.fe):
            self._fail_refused(side)
        self._fail(f"{self._name(source)} ended in the handshake of ZMTP", source)

    def _fail_refused(self, side: DataConnection) -> None:
        """Come to nothing where one side has given up by an ERROR."""
        failed = self._reader(side).failed
        if failed is not None:
            self._fail(f"{self._name(side)} refused the handshake: {failed.reason}", side)

    def close(self) -> None:
        """Forget it."""
        self._over = True
        if self._timer.active():
            self._timer.cancel()

    def _name(self, side: DataConnection) -> str:
        return "the FE" if side is self.fe else "the BE"

    def _reader(self, side: DataConnection) -> Reader:
        return self.handshake.fe if side is self.fe else self.handshake.be

    def _is_null(self, side: DataConnection) -> bool:
        greeting = self._reader(side).greeting
        return greeting is not None and greeting.mechanism == "NULL"

    def _be_is_client(self) -> bool:
        reader = self.handshake.be
        plain = reader.greeting is not None and reader.greeting.mechanism == "PLAIN"
        return plain and reader.part is Part.CLIENT

    def _is_ahead(self, source: DataConnection) -> bool:
        """Whether one side says much behind its own handshake and before the other's is over."""
        reader = self._reader(source)
        total = self._seen[source] + len(self._kept[source])
        return reader.ready is not None and total - reader.stops[-1] >= EARLY_LIMIT

    def _subscribes_in_vain(self) -> bool:
        """Whether a publisher does not understand how its SUB subscribes; the two fail then.

        An FE that subscribes will be told what this BE knows when it comes again.
        """
        types = self.handshake.socket_types
        for side, other, kind in (
            (self.fe, self.be, types[0]), (self.be, self.fe, types[1])
        ):  # fmt: skip
            theirs = self._reader(other).greeting
            if kind not in _SUBSCRIBERS or theirs is None:
                continue
            minor = theirs.version[1]
            told = side.raw.told_minor if side.raw is not None and side.greeted else minor
            if told is not None and told > minor == 0:
                who, whose = ("FE", "BE") if side is self.fe else ("BE", "FE")
                error = ZmtpError(
                    Fault.VERSION,
                    f"the {who}, {kind}, subscribes as ZMTP 3.{told} has it, which the {whose}'s "
                    "3.0 does not know; it works where the one of 3.0 connects first",
                )
                self._fail(error, self.fe, for_good=side is self.be)
                return True
        return False

    def _pass(self) -> None:
        handshake, fe, be = self.handshake, self.fe, self.be
        if handshake.done:
            self.close()
            self._done(self._left(fe), self._left(be))
            return
        greetings = handshake.fe.greeting, handshake.be.greeting
        if None in greetings or any(g is not None and g.mechanism == "NULL" for g in greetings):
            # Nothing goes to the other before both are known, but a greeting that it waits for.
            for side, other in ((fe, be), (be, fe)):
                if not other.greeted:
                    self._send(side, other, GREETING_BYTES)
            return
        for side, other in ((fe, be), (be, fe)):
            self._send(side, other)

    def _left(self, source: DataConnection, upto: int | None = None) -> bytes:
        """What one side has said that the other is to have and has not.

        :param upto: where in its stream to stop.
        """
        seen, whole = self._seen[source], self._kept[source]
        kept = whole if upto is None else whole[: max(0, upto - seen)]
        self._kept[source] = whole[len(kept) :]
        self._seen[source] += len(kept)
        return kept[max(0, self._instead[source] - seen) :]

    def _send(
        self, source: DataConnection, target: DataConnection, upto: int | None = None
    ) -> None:
        data = self._left(source, upto)
        if data:
            target.transport.write(data)
            self._be_was_told = self._be_was_told or target is self.be

    def _too_long(self) -> None:
        late = self.fe if self.handshake.fe.ready is None else self.be
        self._fail(f"the handshake of ZMTP took longer than {LONGEST:g} s", late)

    def _fail(self, why: ZmtpError | str, side: DataConnection, *, for_good: bool = False) -> None:
        """
        :param for_good: whether connecting again does not mend it, and ERROR is sent to the FE.
        """
        if self._over:
            return
        self.close()
        if for_good:
            passed = max(self._instead[self.be], self._seen[self.be])
            refusal = self.handshake.refusal_to_fe(str(why), passed)
            if refusal and self.fe.transport.connected:
                self.fe.transport.write(refusal)
        told = self._be_was_told or side is self.be
        self._failed(Failure(why, side, None if told else self._said_by_be))
