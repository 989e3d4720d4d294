"""Moves the bytes of a session without taking them into Python (Linux).

Each direction is ``splice`` from one socket into a pipe and from there into the other. One pipe
serves every session in turn, since it is empty again after each step; only where the receiving
side takes less than was read does the pipe stay with that direction, and the next step takes
another from the pool. So a session owns a pipe only while bytes are stuck in it.

The receiving side pushes back as everywhere in Twisted: its lane pauses the other transport
(``pauseProducing``), and resumes it once the pipe is empty.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from relayx.data.pipes import PAGE, Pipe, PipePool
from relayx.data.road import IN, OUT, Road
from relayx.data.stall import Stopwatch
from relayx.data.transport import DataTransport

if TYPE_CHECKING:
    from relayx.data.splicepump import SplicePump

STEP = 1 << 20
"""Most bytes moved for one lane before the next has its turn."""

_FLAGS = getattr(os, "SPLICE_F_MOVE", 1) | getattr(os, "SPLICE_F_NONBLOCK", 2)
_SCRATCH = bytearray(1 << 16)
_log = Logger(namespace="relayx.data")


class Splicer:
    """What all spliced sessions share: the road, the pipes, and whether splice works here.

    :param reactor: an IReactorFDSet and IReactorTime.
    :param most: bytes that the gateway may hold per direction, ``relay.ring_buffer_size``.
    :ivar shared: the pipe that all use in turn; usable while it holds nothing.
    :ivar clock: the reactor.
    """

    def __init__(self, reactor: Any, most: int) -> None:
        self.clock = reactor
        self.road = Road(reactor)
        self.pool = PipePool(most)
        self.works = True
        self._told = False
        self.shared: Pipe | None = None

    def pipe(self) -> Pipe:
        """The empty pipe that all share.

        :raises OSError: where no descriptors are left.
        """
        shared = self.shared
        if shared is not None and not shared.held:
            return shared
        if shared is not None:  # never lent again, whatever left bytes in it
            self.pool.give_back(shared)
            self.shared = None
        self.shared = self.pool.take()
        return self.shared

    def change(self, most: int) -> None:
        """Hold other amounts from now on; what is in pipes stays there."""
        if self.shared is not None:
            self.pool.give_back(self.shared)
            self.shared = None
        self.pool.change(most)

    def keep_pipe(self) -> None:
        """The shared pipe has bytes stuck in it and is its lane's from now on."""
        self.shared = None

    def give_up(self, reason: str) -> None:
        """Splice does not work after all: the buffered path serves from now on."""
        if self.works:
            self.works = False
            _log.warn("{text}", text=f"sessions take the buffered path from now on: {reason}")

    def no_pipe(self, reason: str) -> None:
        """There is no pipe for a session: it takes the buffered path, which is said once."""
        if not self._told:
            self._told = True
            _log.warn("{text}", text=f"some sessions take the buffered path: {reason}")

    def close(self) -> None:
        """Give everything back to the system."""
        self.road.close()
        if self.shared is not None:
            self.pool.give_back(self.shared)
            self.shared = None
        self.pool.close()


class SpliceLane:
    """One side of a spliced session: reads its own socket, fills the other's.

    :ivar stuck: the pipe with what this side sent and the other has not taken yet.
    :ivar stalled: runs while this side is not read because of that.
    """

    __slots__ = (
        "_descriptor", "_interest", "_pump", "_reading", "_splicer", "discarding", "ending",
        "other", "stalled", "stuck", "transport",
    )  # fmt: skip

    other: SpliceLane

    def __init__(self, transport: DataTransport, splicer: Splicer, pump: SplicePump) -> None:
        self.transport = transport
        self.stuck: Pipe | None = None
        self.stalled = Stopwatch(splicer.clock)
        self._descriptor = transport.fileno()
        self._splicer = splicer
        self._pump = pump
        self._interest = 0
        self._reading = False
        self.discarding = False
        self.ending = False

    # the transport's producer side

    def pause(self) -> None:
        """Read no more until :meth:`resume`."""
        self._reading = False
        self.update()

    def resume(self) -> None:
        """Read on, unless the stream has ended."""
        self._reading = not self.transport.read_ended
        self.update()

    def update(self) -> None:
        """Wait on the road for what this side can use now."""
        if self._descriptor < 0:
            return
        wanted = (IN if self._reading else 0) | (OUT if self.other.stuck is not None else 0)
        if wanted != self._interest:
            self._splicer.road.set(self._descriptor, self, self._interest, wanted)
            self._interest = wanted

    def discard(self) -> None:
        """Throw away what this side sends from now on, and what is stuck of it."""
        self.discarding = True
        self._drop_stuck()
        self.stalled.end()
        self.transport.resumeProducing()

    def end(self) -> None:
        """Pass this side's end of stream on, behind all its bytes."""
        if self.stuck is not None:
            self.ending = True
        elif self.other.transport.connected and self.other.transport.failure is None:
            self.other.transport.loseWriteConnection()

    def leave(self, closing: bool = True) -> None:
        """Off the road for good, with what is stuck thrown away.

        The descriptor may be another connection's soon; nothing is ever written to it again.
        """
        self._drop_stuck()
        self.stalled.end()
        self._reading = False
        if self._interest:
            if closing:
                self._splicer.road.drop(self._descriptor)
            else:
                self._splicer.road.set(self._descriptor, self, self._interest, 0)
            self._interest = 0
        self._descriptor = -1

    def take_stuck(self) -> bytes:
        """Take what is stuck out of its pipe."""
        pipe = self.stuck
        if pipe is None:
            return b""
        taken = b""
        while pipe.held:
            some = os.read(pipe.end_out, pipe.held)
            taken += some
            pipe.held -= len(some)
        self._drop_stuck()
        return taken

    def _drop_stuck(self) -> None:
        if self.stuck is not None:
            self.other.transport.in_pipe = 0
            self._splicer.pool.give_back(self.stuck)
            self.stuck = None
            self.other.update()

    # the road

    def ready(self, events: int) -> None:
        """See road.Lane."""
        if events != IN and self.other.stuck is not None:
            self.other.flush()
        if self._reading and events != OUT:
            self._read()

    def crashed(self) -> None:
        """See road.Lane."""
        for side in (self, self.other):
            side.leave()
            side.transport.fail_with(errno.EIO)
            side.transport.abortConnection()

    def _read(self) -> None:
        """Move what has come, at most a step."""
        if self.discarding:
            self._read_and_drop()
            return
        transport = self.transport
        try:
            pipe = self._splicer.shared
            if pipe is None or pipe.held:
                pipe = self._splicer.pipe()
            try:
                count = os.splice(self._descriptor, pipe.end_in, STEP, None, None, _FLAGS)
            except BlockingIOError:
                count = 0
            if not count:
                count = self._read_past_mark(pipe)
        except BlockingIOError:
            transport.lose_if_spent()
            return
        except OSError as failed:
            self._cannot_read(failed)
            return
        if not count:
            transport.end_of_input()
            return
        transport.received += count
        pipe.held = count
        self._fill(pipe)
        if pipe.held and self.stuck is None and transport.lane is self:
            self._splicer.keep_pipe()
            self.stuck = pipe
            self.other.transport.in_pipe = pipe.held
            self.stalled.begin()
            transport.pauseProducing()
            self.other.update()
        if transport.failure is not None:
            transport.lose_if_spent()

    def _read_past_mark(self, pipe: Pipe) -> int:
        """Splice has nothing: at the end of the stream, or before an urgent byte (RFC 9293).

        It never gets past such a byte, and tells the end there; recv does get past.
        """
        page = memoryview(_SCRATCH)[:PAGE]  # which even the smallest pipe holds
        count = self.transport.socket.recv_into(page)
        return os.write(pipe.end_in, page[:count]) if count else 0

    def _fill(self, pipe: Pipe) -> None:
        """Give the other side what is in the pipe, as much as it takes."""
        taker = self.other.transport
        descriptor = self.other._descriptor
        while pipe.held:
            try:
                count = os.splice(pipe.end_out, descriptor, pipe.held, None, None, _FLAGS)
            except BlockingIOError:
                return
            except OSError as failed:
                self._cannot_write(pipe, failed)
                return
            pipe.held -= count
            taker.sent += count

    def push_back(self) -> None:
        """Read no more until the other side has taken what its transport holds."""
        self.stalled.begin()
        self.transport.pauseProducing()
        self.other.transport.drained = self._drained

    def _drained(self) -> None:
        self.stalled.end()
        self.transport.resumeProducing()

    def flush(self) -> None:
        """The other side takes bytes again."""
        pipe = self.stuck
        if pipe is None:
            return
        self._fill(pipe)
        if self.stuck is None:  # dropped, since the other side failed meanwhile
            return
        self.other.transport.in_pipe = pipe.held
        if pipe.held:
            return
        self.stuck = None
        self.stalled.end()
        self._splicer.pool.give_back(pipe)
        self.other.update()
        if self.ending:
            self.ending = False
            self.end()
        else:
            self.transport.resumeProducing()
            self.transport.lose_if_spent()

    @property
    def holding(self) -> bool:
        """Whether bytes of this side are still on their way to the other."""
        return self.stuck is not None

    def _cannot_read(self, failed: OSError) -> None:
        if failed.errno == errno.EINVAL:
            self._splicer.give_up(f"splice: {failed.strerror}")
            self._pump.fall_back()
        elif failed.errno in (errno.EMFILE, errno.ENFILE):
            self._splicer.no_pipe(f"no pipe: {failed.strerror}")
            self._pump.fall_back()
        else:
            self.transport.fail_with(failed.errno or 0)
            self.transport.lose_at_once()

    def _cannot_write(self, pipe: Pipe, failed: OSError) -> None:
        taker = self.other.transport
        if self.stuck is None:
            self._splicer.keep_pipe()
            self.stuck = pipe
        if failed.errno == errno.EINVAL:
            self._splicer.give_up(f"splice: {failed.strerror}")
            self._pump.fall_back()
        else:
            taker.fail_with(failed.errno or 0)  # ends in discard, which drops the pipe
            self._drop_stuck()

    def _read_and_drop(self) -> None:
        transport = self.transport
        try:
            count = transport.socket.recv_into(_SCRATCH)
        except BlockingIOError:
            transport.lose_if_spent()
            return
        except OSError as failed:
            transport.fail_with(failed.errno or 0)
            transport.lose_at_once()
            return
        if count:
            transport.received += count
        else:
            transport.end_of_input()
