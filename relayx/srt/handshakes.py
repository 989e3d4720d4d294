"""Who may come by SRT: handshakes of callers, from a snapshot of the rules to what became of them.

A caller is decided on in the listen callback, in a thread of libsrt's that may not wait, so that it
reads why it is turned away before its handshake ends. Who is let in may fail after all, over a
passphrase for example.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from relayx.core.errors import Code, PeerError
from relayx.core.glance import Decision, Snapshot, decide
from relayx.core.streamid import Type, parse_stream_id, reject_of
from relayx.srt.binding import CLOSED, Library, Peer
from relayx.srt.options import FILE

MOST_REFUSED = 1000
"""Refusals that may wait to be logged; in a storm, older ones are only counted."""

_LOOK_AFTER = 0.02
"""Seconds from a handshake that goes on to a look at what became of it."""

_BUILD_SHARE = 10
_FAILED_TEXT = (
    "its handshake failed after it was let in, which libsrt tells the caller alone why: the "
    "passphrase is another, one side has none, or one is in buffer mode without t=file"
)


class LetIn(NamedTuple):
    """A caller that may come, and whose handshake goes on.

    :ivar port: the number of the data port.
    :ivar when: it was decided on, by time.monotonic().
    """

    port: int
    peer: Peer
    when: float
    decision: Decision


class Handshakes:
    """Decides on callers, and tells of those that do not come to be connected.

    :param reactor: an IReactorTime and IReactorFromThreads.
    :param look: copies the rules' state.
    :param looked: called when there is a new copy.
    :param prepare: told of each that is let in, with the port's number and its socket, in a thread
        of libsrt's.
    :param refused: told of each that is turned away, with the port's number, the address, the code,
        SRT's code (0 where libsrt refused by itself) and the text.
    :ivar snapshot: what is decided by.
    :ivar refusals: how many callers were turned away, by SRT's code.
    """

    def __init__(
        self,
        reactor: Any,
        library: Library,
        look: Callable[[], Snapshot],
        looked: Callable[[], None],
        prepare: Callable[[int, int], None],
        refused: Callable[[int, str, str, int, str], None],
    ) -> None:
        self._reactor = reactor
        self._library = library
        self._look = look
        self._looked = looked
        self._prepare = prepare
        self._tell = refused
        self.snapshot = look()
        self._stale = False
        self.refusals: dict[int, int] = {}
        self._counting = threading.Lock()  # libsrt decides in several threads at once
        self._build_call: Any = None
        self._may_build_at = 0.0
        self._let_in: dict[int, LetIn] = {}
        self._looking = False  # at what becomes of them
        self._look_call: Any = None
        self._refused: deque[tuple[int, str, str, int, str]] = deque(maxlen=MOST_REFUSED)
        self._telling = False
        self._closed = False

    # the snapshot

    def changed(self) -> None:
        """The rules' state is not what it was: callers are decided on by a new copy of it.

        Copying costs time, so it is done at once, but no more than a tenth of all time, unless
        somebody is told of the new state, see :meth:`refresh`.
        """
        self._stale = True
        if self._closed or self._build_call is not None:
            return
        wait = max(0.0, self._may_build_at - time.monotonic())
        if wait:
            self._build_call = self._reactor.callLater(wait, self._build)
        else:
            self._build()

    def refresh(self) -> None:
        """Decide by the state as it is now: somebody is about to be told of it, and may call."""
        if not self._stale or self._closed:
            return
        if self._build_call is not None:
            self._build_call.cancel()
        self._build()

    def _build(self) -> None:
        self._build_call = None
        began = time.monotonic()
        self.snapshot = self._look()
        self._stale = False
        ended = time.monotonic()
        self._may_build_at = ended + (ended - began) * _BUILD_SHARE
        self._looked()

    # in a thread of libsrt's

    def decide(self, number: int, sock: int, peer: Peer, raw: bytes) -> int:
        """Whether a caller may come: 0, or the reason why not.

        :param number: the data port's.
        :param sock: that it would have.
        :param raw: its stream id.
        """
        try:
            asked = parse_stream_id(raw)
        except PeerError as error:
            return self._refuse(number, peer, error.code, reject_of(error), error.text)
        decision = decide(self.snapshot, self._reactor.seconds(), number, peer.host, asked)
        if decision.refusal is not None:
            refusal = decision.refusal
            return self._refuse(number, peer, refusal.code, decision.reject, refusal.text)
        self._prepare(number, sock)
        if asked.type is Type.FILE:
            self._library.set(sock, "transtype", FILE)
        self._let_in[sock] = LetIn(number, peer, time.monotonic(), decision)
        if not self._looking:
            self._looking = True
            self._reactor.callFromThread(self._look_later)
        return 0

    # in the engine's thread

    def done(self, sock: int) -> LetIn | None:
        """A handshake has ended in a connection; None where it was told of as failed."""
        return self._let_in.pop(sock, None)

    # in the reactor's thread

    def _look_later(self) -> None:
        if not self._closed:
            self._look_call = self._reactor.callLater(_LOOK_AFTER, self._look_at_handshakes)

    def _look_at_handshakes(self) -> None:
        """Tell of those that failed after all."""
        self._look_call = None
        for sock, let_in in list(self._let_in.items()):
            if self._library.state(sock) >= CLOSED and self._let_in.pop(sock, None) is not None:
                self._refuse(let_in.port, let_in.peer, Code.NOT_ADMITTED, 0, _FAILED_TEXT)
        if not self._let_in:
            self._looking = False
        if self._let_in:  # also by a thread of libsrt's since
            self._looking = True
            self._look_later()

    def _refuse(self, number: int, peer: Peer, code: str, reject: int, text: str) -> int:
        self._refused.append((number, peer.host, code, reject, text))
        with self._counting:
            self.refusals[reject] = self.refusals.get(reject, 0) + 1
        if not self._telling:
            self._telling = True
            self._reactor.callFromThread(self._tell_refused)
        return reject

    def _tell_refused(self) -> None:
        self._telling = False
        while self._refused:
            self._tell(*self._refused.popleft())

    def close(self) -> None:
        """Look at nothing any more; who calls still reads a reason."""
        self._closed = True
        for call in (self._look_call, self._build_call):
            if call is not None:
                call.cancel()
        self._look_call = self._build_call = None
