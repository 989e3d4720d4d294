"""Who accepts control connections, and knows all of them (contract sections 2 and 9)."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory

from relayx.control.counts import Counts
from relayx.control.protocol import ControlProtocol, Events, Settings
from relayx.core.codec import encode
from relayx.core.errors import Code, PeerError
from relayx.core.messages import Message
from relayx.net.newcomers import LINGER, Newcomers
from relayx.net.sources import OpenCounts, Seldom, source_of
from relayx.net.steady import time_of_day
from relayx.net.tcp import is_dead
from relayx.security.trust import Trust


class ControlFactory(ServerFactory):
    """Accepts control connections; knows all of them.

    :ivar newcomers: the connections that have not registered yet.
    :ivar leaving: those that are to close and have been told so.
    :ivar counts: what came and went, of all connections.
    """

    noisy = False

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        events: Events,
        names: Any,
        trust: Trust | None = None,
    ) -> None:
        """:param names: gives ``msg_id(unix_ms)``.

        :param trust: signs what is sent and verifies what comes.
        """
        self.trust = trust or Trust()
        self.counts = Counts()
        self.reactor = reactor
        self.settings = settings
        self.events = events
        self._names = names
        self._next = 0
        self._connections: dict[int, ControlProtocol] = {}
        self.newcomers: Newcomers[ControlProtocol] = Newcomers(
            reactor,
            settings.register_timeout,
            settings.max_unregistered,
            timed_out=self._no_register,
            crowded_out=ControlProtocol.crowd_out,
            per_source=settings.unregistered_per_source,
        )
        self.leaving: Newcomers[ControlProtocol] = Newcomers(
            reactor,
            LINGER,
            settings.max_unregistered,
            timed_out=ControlProtocol.stop_lingering,
            crowded_out=ControlProtocol.stop_lingering,
        )
        self._sources = OpenCounts()
        self._told = Seldom()
        self._sweep: Any = None
        self._last_call: Any = None

    def change(self, settings: Settings) -> None:
        """Go by other settings from now on; TCP keepalive is that of new connections."""
        self.settings = settings
        self.newcomers.change(
            settings.register_timeout, settings.max_unregistered, settings.unregistered_per_source
        )
        self.leaving.change(LINGER, settings.max_unregistered)
        for connection in list(self._connections.values()):
            connection.change(settings)
        if self._sweep is not None:
            self._sweep.reset(self._sweep_interval)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """A connection that has not registered yet."""
        self._next += 1
        return ControlProtocol(self, self._next, getattr(addr, "host", ""))

    def opened(self, connection: ControlProtocol) -> None:
        """A connection is there."""
        self._connections[connection.conn] = connection
        source = connection.source = source_of(connection.address)
        if self._sources.enter(source) > self.settings.per_source:
            self._turn_away(connection)
            return
        self.newcomers.add(connection, source)
        if self._sweep is None:
            self._sweep = self.reactor.callLater(self._sweep_interval, self._look_over)

    def _turn_away(self, connection: ControlProtocol) -> None:
        self.counts.turned_away += 1
        limit, source = self.settings.per_source, connection.source
        if self._told.may(source, self.reactor.seconds()):
            self.events.dropped(
                connection.conn, connection.address,
                f"{limit} control connections are open from {source}, limits.control_per_source",
            )  # fmt: skip
        connection.turn_away()

    def distrusted(self, connection: ControlProtocol, error: PeerError) -> None:
        """A message of a connection is not acted upon; told once a minute for each reason."""
        if self._told.may(f"{connection.conn} {error.code}", self.reactor.seconds()):
            self.events.distrusted(connection.conn, connection.address, error)

    def _no_register(self, connection: ControlProtocol) -> None:
        timeout = self.settings.register_timeout
        error = PeerError(Code.REGISTER_REQUIRED, f"no register within {timeout:g} s")
        self.events.failed_to_register(connection.conn, connection.address, error)

    def lost(self, connection: ControlProtocol) -> None:
        """A connection has ended."""
        self.newcomers.discard(connection)
        self.leaving.discard(connection)
        if self._connections.pop(connection.conn, None) is not None:
            self._sources.leave(connection.source)
            self.counts.log_lines_dropped += connection.outbox.log_lines_dropped
            self.events.control_lost(connection.conn)

    def get(self, conn: int) -> ControlProtocol | None:
        """The connection of that number, None where it has ended."""
        return self._connections.get(conn)

    def encode(self, message: Message | str, trace_id: str = "") -> bytes:
        """One message as a line, with its ``msg_id`` and ``ts_ms``."""
        now = int(time_of_day(self.reactor) * 1000)
        line = encode(message, msg_id=self._names.msg_id(now), ts_ms=now, trace_id=trace_id)
        return self.trust.sign(line)

    def close(self) -> None:
        """Close every connection, and accept no more messages."""
        self.newcomers.close()
        if self._sweep is not None and self._sweep.active():
            self._sweep.cancel()
        self._sweep = None
        for connection in list(self._connections.values()):
            connection.lose()
        if self._connections and self._last_call is None:
            self._last_call = self.reactor.callLater(LINGER, self._abort_the_rest)

    def _abort_the_rest(self) -> None:
        """Those whose end takes an answer, as over TLS, had time for it."""
        for connection in list(self._connections.values()):
            connection.turn_away()

    def release(self) -> None:
        """Nobody is waited for any more: who is left is reset."""
        self._abort_the_rest()
        self.leaving.close()
        if self._last_call is not None and self._last_call.active():
            self._last_call.cancel()
        self._last_call = None

    def open_connections(self) -> int:
        """How many control connections are open."""
        return len(self._connections)

    def log_lines_dropped(self) -> int:
        """``log`` messages that lagging clients did not get, since the start."""
        lagging = sum(one.outbox.log_lines_dropped for one in self._connections.values())
        return self.counts.log_lines_dropped + lagging

    @property
    def _sweep_interval(self) -> float:
        idle, keepalive = self.settings.idle_timeout, self.settings.keepalive
        return min(idle / 4, keepalive / 2) if idle > 0 else keepalive / 2

    def _look_over(self) -> None:
        """Drop clients that have been silent for too long, and those that no longer answer."""
        self._sweep = self.reactor.callLater(self._sweep_interval, self._look_over)
        now = self.reactor.seconds()
        idle, keepalive = self.settings.idle_timeout, self.settings.keepalive
        for connection in list(self._connections.values()):
            sock = connection.tcp_socket
            silent = now - connection.last_heard
            if connection.registered and not connection.closing and 0 < idle <= silent:
                self.events.dropped(
                    connection.conn, connection.address,
                    f"silent for {idle:g} s, control.idle_timeout",
                )  # fmt: skip
                connection.close()
            elif sock is not None and is_dead(sock, 4 * keepalive):
                connection.drop("its peer does not answer any more")
