"""Fixed sources and sinks that the gateway calls itself, for ports with ``srt.dial``.

A source (BE) is called while its port is empty, a sink (FE) while its port has a BE for it. What
does not answer is called again, later each time. In rendezvous mode both sides call, the gateway
from the data port's own number, which therefore does not listen for callers of SRT.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure

from relayx.core.glance import Snapshot
from relayx.core.messages import Role
from relayx.core.ports import Status
from relayx.srt.binding import Library, Peer, SrtError
from relayx.srt.engine import Engine
from relayx.srt.settings import Dial, SrtSettings

FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
"""Seconds before the first and between later calls; each wait is twice the one before."""

_log = Logger(namespace="relayx.srt")


class Caller:
    """Keeps one peer of ``srt.dial`` on its port.

    :param reactor: an IReactorTime and IReactorThreads.
    :param prepare: sets the options of a new socket.
    :param wanted: whether the port has a use for the peer now.
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
        wanted: Callable[[Dial], bool],
        connected: Callable[[Caller, int, Peer], None],
    ) -> None:
        self.dial = dial
        self._reactor = reactor
        self._engine = engine
        self._library = library
        self._interface = interface
        self._prepare = prepare
        self._wanted = wanted
        self._connected = connected
        self._wait = FIRST_WAIT
        self._call: Any = None
        self._busy = False  # being resolved, being called, or connected
        self._closed = False
        self._told = ""

    @property
    def name(self) -> str:
        """Whom it calls, for people."""
        dial = self.dial
        host = f"[{dial.host}]" if ":" in dial.host else dial.host
        how = "meets" if dial.rendezvous else "calls"
        return f"srt port {dial.port} {how} {dial.role} {host}:{dial.peer_port}"

    def consider(self) -> None:
        """Call, if the port has a use for the peer and it is time."""
        if self._busy or self._closed or self._call is not None or not self._wanted(self.dial):
            return
        self._busy = True
        pool = self._reactor.getThreadPool()
        dial = self.dial
        looked_up = deferToThreadPool(
            self._reactor, pool, socket.getaddrinfo, dial.host, dial.peer_port, 0,
            socket.SOCK_DGRAM,
        )  # fmt: skip
        looked_up.addCallbacks(self._dial, self._not_found)

    def ended(self) -> None:
        """The connection is gone; it had been there, so the next call is soon."""
        self._wait = FIRST_WAIT
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
        if why != self._told:  # once for each kind of trouble, however long it lasts
            self._told = why
            text = f"{self.name}: {why}; tries again in {self._wait:g} s and later"
            _log.warn("{text}", text=text, event="srt_dial_failed", port=self.dial.port)
        self._later()

    def _dial(self, found: list[Any]) -> None:
        if self._closed:
            return
        host, port = found[0][4][:2]
        library, sock = self._library, None
        try:
            sock = library.create()
            self._prepare(sock)
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
            self._told = ""
            self._connected(self, sock, peer)
            return
        library = self._library
        reason = library.reject_reason(sock)
        why = "no answer" if reason == 16 else f"refused: {library.reject_text(reason)} ({reason})"
        engine.close(sock)
        engine.tell(self._failed, why)


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
                self._prepare, self._wanted, self._connected,
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

    def _wanted(self, dial: Dial) -> bool:
        snapshot = self._look()
        port = snapshot.ports.get(dial.port)
        if port is None or port.retired or snapshot.draining:
            return False
        wanted = Status.EMPTY if dial.role is Role.BE else Status.READY
        return port.status is wanted
