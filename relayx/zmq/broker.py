"""One broker: two sockets of libzmq's and the thread that moves messages between them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from typing import Any, Protocol

import zmq
from twisted.internet.defer import Deferred, DeferredLock, succeed

from relayx.zmq import sockets, words
from relayx.zmq.attendant import Attendant, Socket
from relayx.zmq.counts import Connections, Durations, Statistics
from relayx.zmq.errors import BrokerError
from relayx.zmq.mover import Mover, drain_endpoint
from relayx.zmq.settings import BrokerSettings, Pattern, Role
from relayx.zmq.watch import Watch

ANSWER_WITHIN, END_WITHIN = 1.0, 0.25
"""Seconds, after which a proxy is taken to wait for its backend."""
_BUSY = 0.005
"""Seconds of CPU time between two looks."""

_numbers = itertools.count(1)


class BrokerEvents(Protocol):
    """What a broker tells, in the reactor's thread."""

    def connectionsChanged(self, broker: Broker) -> None:
        """Its counts of connections or failures are others than before; several at once."""

    def brokerEnded(self, broker: Broker, reason: BrokerError) -> None:
        """It has ended, and nobody had told it to."""


class Broker:
    """Real ZeroMQ on two ports: many meet many.

    The thread has the sockets, and is in ``zmq_proxy_steerable`` all the time, without Python's
    lock. The reactor sends words to it by the attendant and waits for nothing.

    While paused the thread is out of the proxy, since 4.3.5's spins while it is paused; nobody
    reads, and peers wait or lose messages by their own HWM.

    :param attendant: running, its ZAP handler bound.
    :param number: of its ZAP domains.
    :param pause_word: of :func:`relayx.zmq.words.pause_word`.
    """

    def __init__(
        self,
        reactor: Any,
        attendant: Attendant,
        settings: BrokerSettings,
        events: BrokerEvents,
        *,
        number: int,
        pause_word: bytes,
    ) -> None:
        self.settings = settings
        self._reactor = reactor
        self._attendant = attendant
        self._events = events
        self._number = number
        self._pause_word = pause_word
        self._name = f"relayx.broker.{next(_numbers)}"
        self._watch = Watch(attendant, settings.max_connections, self._watch_changed)
        self._mover = Mover(attendant, settings, self._name, number, self._watch)
        self._changed = False
        self._drains: list[Socket] = []
        self._turns = DeferredLock()
        self._unanswered = self._looking = False
        self._used = 0.0
        self._busy_at: Statistics | None = None
        self._before = self._last = Statistics()
        self._control: Socket | None = None
        self._asked: list[Deferred[Statistics]] = []
        self._turn: tuple[bytes, Deferred[None]] | None = None
        self._stopping: list[Deferred[None]] = []
        self._held = self._ended = False
        self._late: Any = None

    def port(self, role: Role) -> int:
        """The port of a side, while it listens."""
        return sockets.port_of(self._mover.endpoints[role])

    @property
    def connections(self) -> Mapping[Role, Connections]:
        """By side."""
        return self._watch.connections

    @property
    def handshake_failures(self) -> Mapping[str, int]:
        """How many, by the reasons in :data:`~relayx.zmq.counts.REASONS`."""
        return self._watch.failures

    @property
    def durations(self) -> Durations | None:
        """From a REQ's request to its answer; None where the pattern is another."""
        return self._mover.times.read() if self.settings.pattern is Pattern.REQ_REP else None

    def owes_answers(self, seconds: float) -> bool:
        """Whether it has taken requests within so many seconds that have no answer yet."""
        return not self._ended and self._mover.pending.any_since(time.monotonic() - seconds)

    @property
    def moved(self) -> Statistics:
        """What it had moved when it was asked last."""
        return self._before + self._last

    def catch_up(self) -> None:
        """Hear of all connections that there are; in the attendant's thread."""
        self._watch.catch_up()

    def listen(self) -> None:
        """Listen on both ports; whoever comes has to wait for :meth:`start`.

        :raises BrokerError: where one cannot be listened on; :meth:`unlisten` then.
        """
        self._mover.listen()

    def unlisten(self) -> None:
        """Take :meth:`listen` back, before a start; waits until the ports are free."""
        self._mover.close()

    def start(self) -> None:
        """Move messages from now on, once."""
        control = self._attendant.context.socket(zmq.PAIR)
        control.bind(f"inproc://{self._name}")
        self._control = control
        self._attendant.call(self._attendant.adopt, control, self._heard)
        self._mover.start()

    def pause(self) -> Deferred[None]:
        """Move nothing more; fires once that is so.

        Where the backend takes nothing, that is when it has taken what is on its way.
        """
        return self._turns.run(self._pause)

    def resume(self) -> Deferred[None]:
        """Move messages again, once a pause that is on its way is there; fires when that is so."""
        return self._turns.run(self._resume)

    def statistics(self) -> Deferred[Statistics]:
        """What it has moved; fires within a second."""
        if self._held or self._ended:
            return succeed(self.moved)
        done: Deferred[Statistics] = Deferred()
        self._asked.append(done)
        if not self._unanswered:
            self._unanswered = True
            self._say(words.STATISTICS)
        late = self._reactor.callLater(ANSWER_WITHIN, self._answer_stalled, done)
        done.addBoth(_cancelled, late)
        return done

    def look(self) -> None:
        """Have the thread wait where its proxy spins; to be called some times in a second.

        The proxy asks again and again where there are messages and the backend takes none. It is
        known by the thread's CPU time, with nothing moved meanwhile.

        Handshakes are looked at too, whose failure time alone tells.
        """
        if self._watch.unsettled:
            self._attendant.call(self._watch.settle)
        if self._control is None or self._held or self._stopping or self._ended:
            return
        used = self._mover.cpu_seconds()
        busy, self._used = used - self._used > _BUSY, used
        if not busy:
            self._busy_at = None
        elif not self._looking:
            self._looking = True
            self.statistics().addCallback(self._looked)

    def stop(self) -> Deferred[None]:
        """End; fires once its thread has, and its ports are free. What it holds is lost."""
        if self._ended or self._control is None:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._stopping.append(done)
        if len(self._stopping) == 1:
            self._say(self._pause_word, words.STATISTICS, words.TERMINATE, words.END)
            self._late = self._reactor.callLater(END_WITHIN, self._drain)
        return done

    # The reactor's thread

    def _pause(self) -> Deferred[None]:
        if self._held or self._ended:
            return succeed(None)
        self._say(self._pause_word, words.STATISTICS, words.TERMINATE)
        return self._wait(words.HELD)

    def _resume(self) -> Deferred[None]:
        if not self._held or self._ended:
            return succeed(None)
        self._say(words.RUN)
        return self._wait(words.RUNNING)

    def _looked(self, now: Statistics) -> None:
        self._looking = False
        if not now.stalled and self._busy_at == now and not self._turns.locked:
            self._turns.run(self._hold_back)
        self._busy_at = now

    def _hold_back(self) -> Deferred[None]:
        """Out of the proxy, and at once into the wait before it."""
        if self._held or self._ended:
            return succeed(None)
        self._say(self._pause_word, words.STATISTICS, words.TERMINATE, words.RUN)
        return self._wait(words.RUNNING)

    def _wait(self, word: bytes) -> Deferred[None]:
        self._turn = word, Deferred[None]()
        return self._turn[1]

    def _say(self, *said: bytes) -> None:
        assert self._control is not None
        for word in said:
            self._attendant.call(self._control.send, word, zmq.DONTWAIT)

    def _answer_stalled(self, done: Deferred[Statistics]) -> None:
        self._asked.remove(done)
        moved = self.moved
        done.callback(
            Statistics(
                moved.frontend_received,
                moved.frontend_sent,
                moved.backend_received,
                moved.backend_sent,
                stalled=True,
            )
        )

    def _told(self, message: list[bytes]) -> None:
        """What the thread or its proxy said."""
        word = message[0]
        if len(message) == 8:
            self._last = Statistics.read(message)
            self._answer_asked()
        elif word in (words.AGAIN, words.HELD):
            self._before, self._last = self.moved, Statistics()
            if word == words.HELD:
                self._held = True
                self._answer_asked()
                self._turned(words.HELD)
        elif word == words.RUNNING:
            self._held = False
            self._turned(words.RUNNING)
        elif word == words.ENDED:
            self._end()

    def _turned(self, *said: bytes) -> None:
        """Answer whoever waits for one of these words."""
        if self._turn is not None and self._turn[0] in said:
            (_, done), self._turn = self._turn, None
            done.callback(None)

    def _answer_asked(self) -> None:
        self._unanswered = False
        asked, self._asked = self._asked, []
        for done in asked:
            done.callback(self.moved)

    def _end(self) -> None:
        self._mover.join()  # it has said its last word
        self._ended = True
        if self._late is not None and self._late.active():
            self._late.cancel()
        for socket in (self._control, *self._drains):
            self._attendant.call(self._attendant.release, socket)
        self._answer_asked()
        self._turned(words.HELD, words.RUNNING)
        stopping, self._stopping = self._stopping, []
        if self._mover.failure is not None and not stopping:
            self._events.brokerEnded(self, self._mover.failure)
        for done in stopping:
            done.callback(None)

    def _watch_changed(self) -> None:
        if not self._changed:
            self._changed = True
            self._reactor.callFromThread(self._tell_changes)

    def _tell_changes(self) -> None:
        self._changed = False
        self._events.connectionsChanged(self)

    def _drain(self) -> None:
        """Take what the proxy waits to hand to a backend that takes nothing."""
        if self.settings.pattern in sockets.DRAINS:
            self._attendant.call(self._connect_drain)

    def _drained(self, drain: Socket) -> None:
        self._drains.append(drain)
        if self._ended:
            self._attendant.call(self._attendant.release, drain)

    # The attendant's thread

    def _heard(self, frames: list[zmq.Frame]) -> None:
        self._reactor.callFromThread(self._told, [frame.bytes for frame in frames])

    def _connect_drain(self) -> None:
        drain = self._attendant.context.socket(sockets.DRAINS[self.settings.pattern])
        drain.rcvhwm = 0
        drain.connect(drain_endpoint(self._name))
        self._attendant.adopt(drain, lambda _: None)
        self._reactor.callFromThread(self._drained, drain)


def _cancelled(result: Any, late: Any) -> Any:
    if late.active():
        late.cancel()
    return result
