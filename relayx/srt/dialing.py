"""Fixed sources and sinks that the gateway calls itself, for ports with ``srt.dial``.

A source (BE) is called while its port is empty, a sink (FE) while its port has a BE for it, and
neither while the rules would refuse it. What does not answer, or is gone again at once, is called
later each time. In rendezvous mode both sides call, the gateway from the data port's own number,
which therefore does not listen for callers of SRT.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from relayx.core.errors import Code, PeerError
from relayx.core.glance import Snapshot, wants_dialled
from relayx.core.messages import Role
from relayx.srt.binding import Library, Peer, SrtError
from relayx.srt.engine import Engine
from relayx.srt.settings import Dial, SrtSettings

FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
"""Seconds before the first and between later calls; each wait is twice the one before."""

SETTLED = 3.0
"""Seconds after which a connection counts as one that is of use, whatever became of it."""

LEAST_TIMEOUT = 1
"""Milliseconds: libsrt takes 0 too, and gives up at once then."""

RENDEZVOUS_FACTOR = 10
"""libsrt waits for a rendezvous that many times ``conntimeo``."""

MOST_TOLD = 16
"""Kinds of trouble that are remembered as told, of which some name clients."""

NOT_REJECTED, NO_ANSWER = 0, 16
"""Of libsrt's reasons for a rejection: SRT_REJ_UNKNOWN and SRT_REJ_TIMEOUT."""

_log = Logger(namespace="relayx.srt")


class Caller:
    """Keeps one peer of ``srt.dial`` on its port.

    :param reactor: an IReactorTime and IReactorThreads.
    :param prepare: sets the options of a new socket.
    :param wanted: whether the port has a use for the peer now, by its address, or "" where that is
        not known yet; raises a PeerError where the rules would refuse it.
    :param lease_left: seconds for which the port is under a lease, None where it is under none.
    :param connected: told with the socket and the peer, in the engine's thread.
    """

    def __init__(
        self,
        reactor: Any,
        engine: Engine,
        library: Library,
        dial: Dial,
        interface: str,
        prepare: Callable[[int], None],
        wanted: Callable[[Dial, str], bool],
        lease_left: Callable[[Dial], float | None],
        connected: Callable[[Caller, int, Peer], None],
    ) -> None:
        self.dial = dial
        self._reactor = reactor
        self._engine = engine
        self._library = library
        self._interface = interface
        self._prepare = prepare
        self._wanted = wanted
        self._lease_left = lease_left
        self._connected = connected
        self._wait = FIRST_WAIT
        self._call: Any = None
        self._busy = False  # being resolved, being called, or connected
        self._closed = False
        self._since = 0.0  # when it was reached
        self._address = ""  # what its name was looked up as
        self._looked_up = 0.0
        self._told: set[str] = set()

    @property
    def name(self) -> str:
        """Whom it calls, for people."""
        dial = self.dial
        host = f"[{dial.host}]" if ":" in dial.host else dial.host
        how = "meets" if dial.rendezvous else "calls"
        return f"srt port {dial.port} {how} {dial.role} {host}:{dial.peer_port}"

    def consider(self) -> None:
        """Call, if the port has a use for the peer and it is time."""
        if self._busy or self._closed or self._call is not None:
            return
        is_known = self._reactor.seconds() - self._looked_up < LONGEST_WAIT
        if not self._may_come(self._address if is_known else ""):
            return
        self._busy = True
        pool = self._reactor.getThreadPool()
        dial = self.dial
        looked_up = deferToThreadPool(
            self._reactor, pool, socket.getaddrinfo, dial.host, dial.peer_port, 0,
            socket.SOCK_DGRAM,
        )  # fmt: skip
        looked_up.addCallbacks(self._dial, self._not_found)

    def ended(self, *, served: bool, by_peer: bool) -> None:
        """The connection is gone; the next call is soon where it was of use.

        :param served: whether it was in a session. A sink is in one as soon as it is connected, so
            with one that ends it by itself only the time counts.
        :param by_peer: whether the peer ended it.
        """
        hung_up = by_peer and self.dial.role is Role.FE
        lasted = self._reactor.seconds() - self._since
        if lasted >= SETTLED or (served and not hung_up):
            self._wait = FIRST_WAIT
            self._told.clear()
            self._later()
        elif by_peer:
            self._failed("it closed the connection at once")
        else:
            self._later()

    def close(self) -> None:
        """Call no more."""
        self._closed = True
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _later(self) -> None:
        self._busy = False
        if self._closed or self._call is not None:
            return
        self._call = self._reactor.callLater(self._wait, self._again)
        self._wait = min(self._wait * 2, LONGEST_WAIT)

    def _again(self) -> None:
        self._call = None
        self.consider()

    def _not_found(self, failure: Failure) -> None:
        self._failed(failure.getErrorMessage())

    def _failed(self, why: str) -> None:
        if self._is_news(why):
            text = f"{self.name}: {why}; tries again in {self._wait:g} s and later"
            _log.warn("{text}", text=text, event="srt_dial_failed", port=self.dial.port)
        self._later()

    def _is_news(self, why: str) -> bool:
        """Whether this trouble is to be told: each kind once, until a connection was of use."""
        if why in self._told:
            return False
        if len(self._told) >= MOST_TOLD:
            self._told.clear()
        self._told.add(why)
        return True

    def _may_come(self, address: str) -> bool:
        """Whether there is a use for the peer and the rules let it in; why they do not is told."""
        try:
            return self._wanted(self.dial, address)
        except PeerError as refusal:
            if self._is_news(str(refusal)):
                tell = _log.warn if refusal.code is Code.NOT_ADMITTED else _log.info
                tell(
                    "{text}", text=f"{self.name}: not now, {refusal}", event="srt_dial_refused",
                    port=self.dial.port, error_code=str(refusal.code),
                )  # fmt: skip
            return False

    def _dial(self, found: list[Any]) -> None:
        if self._closed:
            return
        host, port = found[0][4][:2]
        self._address, self._looked_up = host, self._reactor.seconds()
        if not self._may_come(host):
            self._busy = False
            return
        library, sock = self._library, None
        try:
            sock = library.create()
            self._prepare(sock)
            self._keep_to_lease(sock)
            if self.dial.streamid:
                library.set(sock, "streamid", self.dial.streamid)
            peer = Peer(host, port)
            if self.dial.rendezvous:
                here = self._interface or ("::" if ":" in host else "0.0.0.0")
                library.rendezvous(sock, Peer(here, self.dial.port), peer)
            else:
                library.connect(sock, host, port)
        except (SrtError, OSError) as error:
            if sock is not None:
                library.close(sock)
            self._failed(str(error))
            return
        self._engine.order(self._watch, sock, peer)

    def _keep_to_lease(self, sock: int) -> None:
        """Have the call last no longer than the lease that the port is under."""
        left = self._lease_left(self.dial)
        if left is None:
            return
        longest = int(left * 1000) // (RENDEZVOUS_FACTOR if self.dial.rendezvous else 1)
        if longest < self._library.get(sock, "conntimeo"):
            self._library.set(sock, "conntimeo", max(longest, LEAST_TIMEOUT))

    def _reached(self) -> None:
        self._since = self._reactor.seconds()

    # in the engine's thread

    def _watch(self, sock: int, peer: Peer) -> None:
        engine = self._engine
        engine.add(sock)
        engine.read_by(sock, lambda event: self._happened(sock, peer))
        engine.pump.room(sock, True)
        if engine.is_over(sock):
            self._happened(sock, peer)

    def _happened(self, sock: int, peer: Peer) -> None:
        engine = self._engine
        engine.read_by(sock, None)
        engine.pump.room(sock, False)
        if engine.is_connected(sock):
            engine.renew(sock)
            engine.tell(self._reached)
            self._connected(self, sock, peer)
            return
        why = self._why_not(self._library.reject_reason(sock))
        engine.close(sock)
        engine.tell(self._failed, why)

    def _why_not(self, reason: int) -> str:
        if reason == NOT_REJECTED:
            return "it closed the connection during the handshake"
        if reason == NO_ANSWER:
            return "no answer"
        return f"refused: {self._library.reject_text(reason)} ({reason})"


class Callers:
    """All peers of ``srt.dial``.

    :param reactor: an IReactorTime and IReactorThreads.
    :param prepare: sets the options of a new socket.
    :param look: a copy of the rules' state.
    :param connected: told with the caller, the socket and the peer, in the engine's thread.
    """

    def __init__(
        self,
        reactor: Any,
        engine: Engine,
        library: Library,
        prepare: Callable[[int], None],
        look: Callable[[], Snapshot],
        connected: Callable[[Caller, int, Peer], None],
    ) -> None:
        self._reactor = reactor
        self._engine = engine
        self._library = library
        self._prepare = prepare
        self._look = look
        self._connected = connected
        self._callers: list[Caller] = []

    def __iter__(self) -> Iterator[Caller]:
        return iter(self._callers)

    def begin(self, settings: SrtSettings) -> None:
        """Call from now on."""
        for dial in settings.dial:
            caller = Caller(
                self._reactor, self._engine, self._library, dial, settings.interface,
                self._prepare, self._wanted, self._lease_left, self._connected,
            )  # fmt: skip
            self._callers.append(caller)
            caller.consider()

    def consider(self) -> None:
        """Call those for whom there is a use now."""
        for caller in self._callers:
            caller.consider()

    def close(self) -> None:
        """Call no more."""
        for caller in self._callers:
            caller.close()

    def _wanted(self, dial: Dial, address: str) -> bool:
        now = self._reactor.seconds()
        return wants_dialled(self._look(), now, dial.port, address, dial.role)

    def _lease_left(self, dial: Dial) -> float | None:
        port = self._look().ports.get(dial.port)
        lease = None if port is None else port.lease
        return None if lease is None else lease.expires - self._reactor.seconds()
