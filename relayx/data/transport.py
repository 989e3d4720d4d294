"""The transport of a data connection: Twisted's, less what would lose bytes.

Twisted's own server transport closes its socket when a write fails or when epoll reports a
hang-up while it is paused, and what the peer had sent before is lost with it. Contract
section 7 wants those bytes delivered. Here a failed direction ends alone: writes are thrown
away, reading goes on to its end, and only then is the connection lost.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from twisted.internet import error, main, tcp
from twisted.internet.address import IPv6Address
from twisted.python.failure import Failure as TwistedFailure

from relayx.net.address import plain
from relayx.net.proxy import Address
from relayx.net.tcp import Failure, failure_of, is_dead, unacknowledged, unread

_ENDED = TwistedFailure(main.CONNECTION_DONE)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_WOULD_BLOCK = (BlockingIOError, InterruptedError)


class Ends(Protocol):
    """What the transport tells its protocol beyond Twisted's own interface."""

    def connection_failed(self) -> None:
        """The peer takes no more bytes; what it sent may still be on its way up."""

    def end_of_stream_seen(self) -> None:
        """The peer has ended its stream, though not all of it may have been read."""


class Lane(Protocol):
    """Another way to read this transport's socket than the reactor's."""

    def pause(self) -> None:
        """Read no more until :meth:`resume`."""

    def resume(self) -> None:
        """Read on."""

    def leave(self) -> None:
        """The socket is about to be closed."""

    @property
    def holding(self) -> bool:
        """Whether it holds bytes that came from the socket."""


class DataTransport(tcp.Server):
    """One accepted data connection.

    :ivar failure: why the connection cannot go on, None while it can.
    :ivar received: bytes read so far.
    :ivar sent: bytes given to the kernel so far.
    :ivar settled: how many they were when all were last known to be acknowledged.
    :ivar lane: who reads the socket instead of the reactor, if anybody.
    :ivar in_pipe: bytes on their way to the peer that a lane holds.
    :ivar drained: called once when the transport holds nothing any more.
    """

    whole = False
    protocol: Any
    server: Any
    reactor: Any
    client: Any
    failure: Failure | None = None
    lane: Lane | None = None
    drained: Callable[[], None] | None = None
    in_pipe = 0
    read_ended = False
    paused = False
    received = 0
    sent = 0
    _final = False
    _left_unacknowledged = 0
    settled = 0
    _watched = False
    logstr = "relayx data"
    repstr = "<a data connection of relayx>"

    def __init__(
        self, accepted: socket.socket, protocol: Any, client: Any, server: Any, reactor: Any
    ) -> None:
        """Take an accepted socket over; reading it begins with :meth:`begin`.

        :param client: the peer's address as ``accept`` gives it.
        :param server: the listening port, whose factory has the EndWatch.
        """
        # Not tcp.Server's: it makes names for each connection, and reads at once.
        tcp.Connection.__init__(self, accepted, protocol, reactor)
        if len(client) != 2:
            self._addressType = IPv6Address
        self.server = server
        self.client = client
        self.hostname = client[0]
        self.connected = 1

    @property
    def route(self) -> tuple[Address, Address]:
        """The addresses and ports of the peer and of the gateway."""
        host, port = self.socket.getsockname()[:2]
        return Address(plain(self.client[0]), self.client[1]), Address(plain(host), port)

    def begin(self) -> None:
        """Read: at once what has come with the connection, and later by the reactor."""
        ended = self.doRead()
        if self.disconnected or self._aborting:
            return
        if ended is main.CONNECTION_DONE:
            self.protocol.readConnectionLost()
        elif ended is not None:
            self.connectionLost(TwistedFailure(ended))
        elif self.lane is None and not self.paused and not self.disconnecting:
            self.startReading()

    def start_watching(self) -> None:
        """Have the end seen from now on, though nobody reads the connection."""
        if not self._watched and self.connected:
            self._watched = True
            self.server.factory.watch.add(self)

    # reading

    def doRead(self) -> Any:
        """Read once; a failed connection is lost only when nothing is left to read."""
        if self.lane is not None:
            return None
        try:
            data = self.socket.recv(self.bufferSize)
        except _WOULD_BLOCK:
            return self._lose() if self.failure is not None else None
        except OSError as failed:
            if self.failure is None:
                self.failure = failure_of(failed.errno or 0)
            return self._lose()
        if data:
            self.received += len(data)
            self.protocol.dataReceived(data)
            if self.failure is Failure.DEAD and not self.has_unread():
                return self._lose()
            return None
        if self.failure is not None:
            return self._lose()
        self.read_ended = True
        return main.CONNECTION_DONE

    def _lose(self) -> Exception:
        self._final = True
        return main.CONNECTION_LOST

    def lose_at_once(self) -> None:
        """Nothing is left to read and the connection has failed: it is lost."""
        if not self.disconnected:
            self.connectionLost(TwistedFailure(self._lose()))

    @property
    def _spent(self) -> bool:
        """Whether a dead peer has sent nothing more; its socket never tells so by itself."""
        holding = self.lane is not None and self.lane.holding
        return self.failure is Failure.DEAD and not holding and not self.has_unread()

    def lose_if_spent(self) -> None:
        """A dead peer's connection is lost once all that it had sent is handed on."""
        if self._spent:
            self.lose_at_once()

    def end_of_input(self) -> None:
        """The stream has been read to its end, by another way than :meth:`doRead`."""
        if self.failure is not None:
            self.lose_at_once()
            return
        self.read_ended = True
        if self.lane is not None:
            self.lane.pause()
        self.protocol.readConnectionLost()

    def discard_unread(self) -> None:
        """Throw away what has come so far; what comes from now on stays."""
        for _ in self.take_unread():
            pass

    def take_unread(self) -> Iterator[bytes]:
        """What has come so far, and nothing that comes from now on."""
        left = unread(self.socket)
        while left > 0:
            try:
                data = self.socket.recv(min(left, self.bufferSize))
            except OSError:
                return
            if not data:
                return
            left -= len(data)
            yield data

    def has_unread(self) -> bool:
        """Whether bytes have come that were not read yet."""
        return bool(self.connected and unread(self.socket))

    def limit_reads(self, size: int) -> None:
        """Read at most so many bytes at once."""
        self.bufferSize = size

    def pauseProducing(self) -> None:
        """Stop reading; the end of the connection is still seen."""
        self.paused = True
        self.start_watching()
        if self.lane is not None:
            self.lane.pause()
        else:
            super().pauseProducing()

    def resumeProducing(self) -> None:
        """Read on, unless the stream has ended."""
        self.paused = False
        if self.read_ended or self._aborting or self.disconnected:
            return
        if self.lane is not None:
            self.lane.resume()
        else:
            super().resumeProducing()

    # writing

    def write(self, data: bytes) -> None:
        """Send, or throw away where the peer takes no more.

        The socket takes most writes at once, which saves the reactor's two turns.
        """
        if self.failure is not None or self.disconnected or self._writeDisconnected:
            return
        if not self.unsent and not self.disconnecting:
            count = self.writeSomeData(data)
            if count == len(data) or self.failure is not None:
                return
            data = data[count:]
        super().write(data)

    def doWrite(self) -> Any:
        """Send what is held; tell once who waits for that."""
        result = super().doWrite()
        if self.drained is not None and not self.unsent:
            told, self.drained = self.drained, None
            told()
        return result

    def loseWriteConnection(self) -> None:
        """End our own stream, at once where nothing is held."""
        if self.unsent or self.producer is not None or self._writeDisconnecting:
            super().loseWriteConnection()
            return
        self._writeDisconnecting = self._writeDisconnected = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def writeSomeData(self, data: bytes) -> Any:
        """Send some; a failure ends this direction alone."""
        try:
            count = self.socket.send(memoryview(data)[: self.SEND_LIMIT])
        except _WOULD_BLOCK:
            return 0
        except OSError as failed:
            self.fail(failure_of(failed.errno or 0))
            return 0
        self.sent += count
        return count

    def fail_with(self, error_number: int) -> None:
        """The peer takes no more bytes, as a system call said."""
        self.fail(failure_of(error_number))

    def fail(self, failure: Failure) -> None:
        """The peer takes no more bytes: keep what it has sent, drop what it was to get."""
        if self.failure is not None or self.disconnected:
            return
        self.failure = failure
        self.drained = None
        self._tempDataBuffer = []
        self._tempDataLen = 0
        self.dataBuffer = b""
        self.offset = 0
        self.stopWriting()
        self.unregisterProducer()
        self.protocol.connection_failed()
        if self.disconnected or self._aborting:
            return
        if self.read_ended or self.disconnecting or self._spent:
            self._final = True
            self.reactor.callLater(0, self.connectionLost, TwistedFailure(main.CONNECTION_LOST))
        elif not self.paused:
            self.resumeProducing()

    @property
    def unsent(self) -> int:
        """Bytes that the gateway itself still holds for the peer."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen + self.in_pipe

    @property
    def delivered(self) -> int:
        """Bytes that the peer's TCP has acknowledged, since the connection began."""
        if self.sent == self.settled:
            return self.sent
        if self.connected:
            waiting = unacknowledged(self.socket)
            if self._writeDisconnected and waiting:
                waiting -= 1  # the FIN counts as one
        else:
            waiting = self._left_unacknowledged
        if not waiting:
            self.settled = self.sent  # saves asking again while nothing more is sent
        return self.sent - waiting

    def is_dead(self, seconds: float) -> bool:
        """Whether the peer has left bytes unanswered for that long (contract section 7)."""
        if not self.connected or self.sent == self.delivered:
            return False
        return is_dead(self.socket, seconds)

    @property
    def all_delivered(self) -> bool:
        """Whether nothing is left, neither here nor in the socket, our end of stream included."""
        if not self.connected or self.failure is not None:
            return True
        return not self.unsent and not self._end_pending and not unacknowledged(self.socket)

    @property
    def _end_pending(self) -> bool:
        return self._writeDisconnecting and not self._writeDisconnected

    # ends

    def end_seen(self, broken: bool) -> None:
        """The watch saw the peer's end of stream, or that the connection is over."""
        if self.disconnected or self._aborting:
            return
        if not broken:
            self.protocol.end_of_stream_seen()
            return
        pending = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if pending:
            self.fail(failure_of(pending))
        else:  # both directions have ended in order
            self.protocol.end_of_stream_seen()

    def connectionLost(self, reason: TwistedFailure) -> None:
        """Close, unless the peer's last bytes are still to be read."""
        if not hasattr(self, "socket"):
            return
        unforeseen = not self._aborting and isinstance(reason.value, error.ConnectionLost)
        early = unforeseen and not self._final
        if early and not self.disconnecting and not self.read_ended:
            pending = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self.fail(failure_of(pending))
            return
        if unforeseen and self.failure is None:
            self.failure = Failure.RESET
        self.unregisterProducer()
        if self.lane is not None:
            self.lane.leave()
        self._left_unacknowledged = max(0, unacknowledged(self.socket) - self._writeDisconnected)
        if self._watched:
            self.server.factory.watch.forget(self)
        self._close(reason)

    def _close(self, reason: TwistedFailure) -> None:
        """What Twisted's own ends with, less two system calls and a search of the reason."""
        self.disconnected = 1
        self.connected = 0
        self.stopReading()
        self.stopWriting()
        if self._aborting:
            with contextlib.suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.socket.close()
        protocol = self.protocol
        del self.protocol, self.socket, self.fileno
        protocol.connectionLost(reason)

    def close_ended(self) -> None:
        """Close, where both streams have ended already; otherwise once ours has."""
        if self.read_ended and self._writeDisconnected:
            self.connectionLost(_ENDED)
        else:
            self.loseConnection()
