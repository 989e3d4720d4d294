"""The data plane: every data port, connection and session, and the effects on them."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

from OpenSSL.SSL import Context
from twisted.logger import Logger

from relayx.core import effects as fx
from relayx.core.hello import Hello, HelloError, Waiting
from relayx.core.messages import Cause, Role
from relayx.core.pairing import BY_GATEWAY, nothing_moved
from relayx.data.connection import DataConnection
from relayx.data.direct import Direct
from relayx.data.events import Events
from relayx.data.opening import Opening
from relayx.data.ports import DataPorts
from relayx.data.sessions import Sessions
from relayx.data.settings import Settings
from relayx.net.address import Networks
from relayx.net.endwatch import EndWatch
from relayx.net.newcomers import LINGER, Newcomers
from relayx.net.proxy import encode_v2
from relayx.net.sources import source_of
from relayx.net.tcp import Failure

_log = Logger(namespace="relayx.data")


class Held(NamedTuple):
    """Bytes that the gateway holds for somebody.

    :ivar early: what waiting BEs have sent before their first session.
    :ivar unsent: what sockets have not taken yet, in memory; `pipes`: in pipes of the kernel.
    """

    early: int
    unsent: int
    pipes: int


class DataPlane:
    """Carries out what the rules want of data connections, and tells them what happens.

    :ivar sessions: those that run, and what all of them have moved.
    :ivar direct: the connections that say no HELLO, of ZeroMQ.
    :ivar tls_failures: connections whose TLS was wrong or broke off.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        events: Events,
        links: Iterator[int] | None = None,
    ) -> None:
        """:param reactor: an IReactorTime and IReactorFDSet.

        :param links: numbers of connections, of which no other plane takes the same.
        """
        self.reactor = reactor
        self.watch = EndWatch(reactor)
        self._settings = settings
        self._events = events
        self.tls: Context | None = None
        self._trusted = Networks(settings.trusted) if settings.trusted else None
        self._links = links or itertools.count(1)
        self._connections: dict[int, DataConnection] = {}
        self._newcomers: Newcomers[DataConnection] = Newcomers(
            reactor,
            settings.hello_timeout,
            settings.max_waiting_hello,
            timed_out=self._no_hello,
            crowded_out=DataConnection.close,
            per_source=settings.waiting_hello_per_source,
        )
        self.leaving: Newcomers[DataConnection] = Newcomers(
            reactor,
            LINGER,
            settings.max_waiting_hello,
            timed_out=DataConnection.stop_lingering,
            crowded_out=DataConnection.stop_lingering,
        )
        self._ports = DataPorts(reactor, settings, self.build, self.watch)
        self.sessions = Sessions(reactor, settings, events, self.adopted_lost)
        self.direct = Direct(
            reactor, settings, events, self.sessions, self._newcomers, self._connections
        )
        self.tls_failures = 0
        self._sweep: Any = None

    # ports

    def listen(self, number: int, adopted: socket.socket | None = None) -> None:
        """Listen on one data port.

        :param adopted: a socket that listens there already.
        :raises twisted.internet.error.CannotListenError: where it cannot be bound.
        """
        self._ports.listen(number, adopted)
        if self._sweep is None:
            self._sweep = self.reactor.callLater(self._settings.keepalive, self._find_dead)

    def try_listening(self, number: int) -> None:
        """Find out whether :meth:`listen` would work, and listen on nothing.

        :raises OSError: where it would not.
        """
        self._ports.try_listening(number)

    def leave_adopted(self) -> None:
        """Accept no more on sockets that were adopted: the next process will."""
        self._ports.leave_adopted()

    def stop_listening(self) -> list[Any]:
        """Accept no more; return the Deferreds of ports that are not closed yet."""
        return self._ports.stop_listening()

    def stop_listening_on(self, number: int) -> None:
        """Accept no more on one port; its connections stay."""
        self._ports.stop_listening_on(number)

    @property
    def listening(self) -> set[int]:
        """The ports that are listened on."""
        return self._ports.listening

    def change(self, settings: Settings) -> None:
        """Go by other settings from now on; ``interface`` and ``splice`` stay as they were.

        TCP keepalive is that of new connections; ``ring_buffer_size``, `inspect` and
        `max_message_bytes` are those of new sessions.
        """
        before, self._settings = self._settings, settings
        self._trusted = Networks(settings.trusted) if settings.trusted else None
        self._newcomers.change(
            settings.hello_timeout, settings.max_waiting_hello, settings.waiting_hello_per_source
        )
        self.leaving.change(LINGER, settings.max_waiting_hello)
        self._ports.change(settings)
        self.sessions.change(settings)
        self.direct.change(settings)
        if before.keepalive != settings.keepalive and self._sweep is not None:
            self._sweep.reset(settings.keepalive / 2)

    def close(self) -> None:
        """Close every connection that is left."""
        for connection in list(self._connections.values()):
            connection.close()
        self._newcomers.close()
        if self._sweep is not None and self._sweep.active():
            self._sweep.cancel()
        self._sweep = None

    def release(self) -> None:
        """Every connection is gone: give the rest back to the system."""
        self.leaving.close()
        self.watch.close()
        self.sessions.release()

    def open_connections(self) -> int:
        """How many data connections are open, of whatever kind."""
        return len(self._connections)

    def adopt(self, connection: Any) -> None:
        """Take a connection of another kind for a session; it is as a DataConnection to it."""
        self._connections[connection.link] = connection

    def adopted_lost(self, link: int) -> None:
        """A connection that was adopted has ended."""
        self._connections.pop(link, None)

    def set_tls(self, context: Context | None) -> None:
        """Take TLS with this certificate from now on; running connections keep theirs."""
        self.tls = context

    # connections

    def build(self, number: int, host: str) -> DataConnection:
        """Make the protocol of an accepted connection."""
        proxied = self._trusted is not None and host in self._trusted
        opening = None
        if proxied or self.tls is not None:
            opening = Opening(
                proxied=proxied,
                tls=self.tls is not None,
                tls_required=self._settings.tls_required,
            )
        return DataConnection(self, next(self._links), number, host, opening)

    def connected(self, connection: DataConnection) -> None:
        """A connection is there; it has ``hello_timeout`` to say HELLO."""
        self._connections[connection.link] = connection
        self._newcomers.add(connection, source_of(connection.address))

    def address_told(self, connection: DataConnection) -> None:
        """A trusted proxy has told whose a connection is, which was the proxy's until now."""
        self._newcomers.move(connection, source_of(connection.address))

    def tls_broke(self, connection: DataConnection, reason: str) -> None:
        """A connection that has said HELLO sends what is no TLS."""
        _log.info(
            "{text}", text=f"port {connection.port}: TLS with {connection.address} broke: {reason}",
            event="tls_failed", port=connection.port, address=connection.address,
        )  # fmt: skip

    def _no_hello(self, connection: DataConnection) -> None:
        timeout = self._settings.hello_timeout
        if connection.raw is not None:
            text = f"it did not say what it is within {timeout:g} s"
            self.direct.failed(connection, text)
            return
        self.hello_failed(connection, HelloError(f"no HELLO within {timeout:g} s"))

    def hello_failed(self, connection: DataConnection, error: HelloError) -> None:
        """A connection's HELLO is wrong or missing."""
        self._newcomers.discard(connection)
        self._events.hello_failed(connection.port, connection.address, error.text)
        connection.refuse(error.code, error.text, ack=error.ack)

    def said_hello(self, connection: DataConnection, hello: Hello) -> None:
        """A connection has said who it is."""
        self._newcomers.discard(connection)
        self._events.said_hello(connection.link, connection.port, connection.address, hello)

    def lost(self, connection: DataConnection) -> None:
        """A connection is closed, or as good as closed."""
        self._newcomers.discard(connection)
        self.leaving.discard(connection)
        self._connections.pop(connection.link, None)
        self.direct.lost(connection)
        if connection.waiting:
            connection.waiting = False
            self._events.link_lost(connection.link)

    # effects

    def wait(self, effect: fx.Wait) -> None:
        """Keep a connection until it is paired."""
        connection = self._connections.get(effect.link)
        if connection is None:
            self._events.link_lost(effect.link)
            return
        connection.wait()
        self.direct.waits(connection)
        if connection.hello is not None and connection.hello.role is Role.BE:
            connection.answer(Waiting())

    def refuse(self, effect: fx.Refuse) -> None:
        """Turn a connection away."""
        connection = self._connections.get(effect.link)
        if connection is not None:
            connection.refuse(effect.code, effect.text)

    def close_link(self, effect: fx.CloseLink) -> None:
        """Close a connection that waits."""
        connection = self._connections.get(effect.link)
        if connection is not None:
            connection.leave()

    def pair(self, effect: fx.Pair) -> None:
        """Make a session of two connections."""
        fe, be = self._connections.get(effect.fe), self._connections.get(effect.be)
        if fe is None or be is None:
            cause = Cause.FE_CLOSED if fe is None else Cause.BE_CLOSED
            nothing = nothing_moved(cause, "one side was gone before the session began")
            for left in (fe, be):
                if left is not None:
                    left.waiting = False
                    left.close()
            self._events.session_over(effect.pairing_id, nothing)
            return
        fe.chosen()
        be.chosen()
        fe.answer(effect.to_fe)
        be.answer(effect.to_be)
        if be.hello is not None and be.hello.proxy:
            be.transport.write(encode_v2(*fe.route))
        if fe.greeted or be.greeted:
            self.direct.negotiate(effect, fe, be)
        else:
            self.sessions.start(effect, fe, be)

    def end_session(self, effect: fx.EndSession) -> None:
        """Close both sides of a session at once."""
        text = BY_GATEWAY.get(effect.cause, str(effect.cause))
        self.direct.end(effect.pairing_id)
        session = self.sessions.get(effect.pairing_id)
        if session is not None:
            session.finish(effect.cause, text)
        else:  # something went wrong with it before; the rules must not wait for it
            self._events.session_over(effect.pairing_id, nothing_moved(effect.cause, text))

    def held(self) -> Held:
        """How many bytes the gateway holds for all connections."""
        early = unsent = pipes = 0
        for connection in self._connections.values():
            transport = connection.transport
            early += len(connection.held)
            unsent += transport.unsent
            pipes += transport.in_pipe
        return Held(early, unsent - pipes, pipes)

    # dead peers

    def _find_dead(self) -> None:
        """Look at every connection for a peer that no longer answers (contract section 7)."""
        keepalive = self._settings.keepalive
        self._sweep = self.reactor.callLater(keepalive / 2, self._find_dead)
        for connection in list(self._connections.values()):
            transport = connection.transport
            # Most have nothing in flight; asking each of thousands would cost an idle gateway.
            if transport.sent != transport.settled and transport.is_dead(4 * keepalive):
                transport.fail(Failure.DEAD)
