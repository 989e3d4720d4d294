"""The handshake of ZMTP between two sides that were paired, one of which at least said no HELLO.

Each of those has had the gateway's greeting for its peer's (``relayx.data.raw``), so the real one
is left out. With NULL both have said what they are, and nothing is passed on before they are known
to fit. With PLAIN and CURVE one answers the other, and what they say is followed as it goes
through. Then the session takes the bytes, as of any other connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from relayx.data.connection import DataConnection
from relayx.zmtp import Handshake, ZmtpError
from relayx.zmtp.greeting import GREETING_BYTES

LONGEST = 30.0
"""Seconds: libzmq's own ZMQ_HANDSHAKE_IVL."""


class Negotiation:
    """One handshake, which ends once.

    :param clock: an IReactorTime.
    :param done: called when the two are ready, with what each has sent that is still to be passed.
    :param failed: called when they do not fit, or one is gone: with what the BE has said, where it
        has been told nothing yet and can wait for another FE, else None; and why.
    """

    def __init__(
        self,
        fe: DataConnection,
        be: DataConnection,
        clock: Any,
        done: Callable[[bytes, bytes], None],
        failed: Callable[[bytes | None, ZmtpError | str], None],
    ) -> None:
        self.fe = fe
        self.be = be
        self._handshake = Handshake(handshake_only=True)
        self._done = done
        self._failed = failed
        self._over = False
        # What was held back of each, and how much of each the other has been told instead.
        self._kept = {fe: b"", be: b""}
        self._instead = {
            fe: GREETING_BYTES if be.raw is not None else 0,
            be: GREETING_BYTES if fe.raw is not None else 0,
        }
        self._seen = {fe: 0, be: 0}
        self._said_by_be = b""
        self._be_was_told = be.raw is None
        self._timer = clock.callLater(LONGEST, self._too_long)

    def begin(self, of_fe: bytes, of_be: bytes) -> None:
        """Take what both sides have said so far."""
        self.received(self.fe, of_fe)
        self.received(self.be, of_be)

    def received(self, source: DataConnection, data: bytes) -> None:
        """One side goes on speaking."""
        if self._over or not data:
            return
        self._kept[source] += data
        if source is self.be:
            self._said_by_be += data
        handshake = self._handshake
        try:
            (handshake.feed_fe if source is self.fe else handshake.feed_be)(data)
        except ZmtpError as error:
            self._fail(error)
            return
        self._pass()

    def ended(self, source: DataConnection) -> None:
        """One side is gone, or has ended its stream."""
        who = "the FE" if source is self.fe else "the BE"
        self._fail(f"{who} ended in the handshake of ZMTP")

    def close(self) -> None:
        """Forget it."""
        self._over = True
        if self._timer.active():
            self._timer.cancel()

    def _pass(self) -> None:
        handshake, fe, be = self._handshake, self.fe, self.be
        if handshake.done:
            self.close()
            self._done(self._left(fe), self._left(be))
            return
        greetings = handshake.fe.greeting, handshake.be.greeting
        if None in greetings or any(g is not None and g.mechanism == "NULL" for g in greetings):
            # Nothing goes to the other before both are known, but a greeting that it waits for.
            for side, other in ((fe, be), (be, fe)):
                if other.raw is None and side.raw is not None:
                    self._send(side, other)
            return
        for side, other in ((fe, be), (be, fe)):
            self._send(side, other)

    def _left(self, source: DataConnection) -> bytes:
        """What one side has said that the other is to have and has not."""
        kept, self._kept[source] = self._kept[source], b""
        skip = max(0, self._instead[source] - self._seen[source])
        self._seen[source] += len(kept)
        return kept[skip:]

    def _send(self, source: DataConnection, target: DataConnection) -> None:
        data = self._left(source)
        if data:
            target.transport.write(data)
            self._be_was_told = self._be_was_told or target is self.be

    def _too_long(self) -> None:
        self._fail(f"the handshake of ZMTP took longer than {LONGEST:g} s")

    def _fail(self, why: ZmtpError | str) -> None:
        if self._over:
            return
        self.close()
        if isinstance(why, ZmtpError):
            instead = GREETING_BYTES if self.fe.raw is not None else 0
            passed = max(instead, self._seen[self.be])
            refusal = self._handshake.refusal_to_fe(why.text, passed)
            if refusal and self.fe.transport.connected:
                self.fe.transport.write(refusal)
        self._failed(None if self._be_was_told else self._said_by_be, why)
