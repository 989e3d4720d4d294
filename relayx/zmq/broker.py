"""One broker: two sockets of libzmq's and the thread that moves messages between them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import zmq
from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.python.failure import Failure

from relayx.zmq import sockets, words
from relayx.zmq.attendant import Attendant, Socket
from relayx.zmq.counts import REASONS, Connections, DurationCount, Durations, Statistics
from relayx.zmq.errors import BrokerError
from relayx.zmq.exchange import Exchange, Pending
from relayx.zmq.settings import BrokerSettings, Pattern, Role

ANSWER_WITHIN, END_WITHIN = 1.0, 0.25
"""Seconds, after which a proxy is taken to wait for its backend."""
_CLOSE_WITHIN = 5.0
_BUSY = 0.005

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
    :ivar connections: by side; likewise `handshake_failures` by the reasons in
        :data:`~relayx.zmq.counts.REASONS`.
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
        self.connections = {role: Connections() for role in Role}
        self.handshake_failures = dict.fromkeys(REASONS, 0)
        self._reactor = reactor
        self._attendant = attendant
        self._events = events
        self._number = number
        self._pause_word = pause_word
        self._name = f"relayx.broker.{next(_numbers)}"
        self._times = DurationCount()
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._closed = {role: threading.Event() for role in Role}
        self._endpoints: dict[Role, str] = {}
        self._changed = False
        self._failure: BrokerError | None = None
        self._drains: list[Socket] = []
        self._turns = DeferredLock()
        self._unanswered = self._looking = False
        self._used = 0.0
        self._busy_at: Statistics | None = None
        self._before = self._last = Statistics()
        self._started: Deferred[None] = Deferred()
        self._control: Socket | None = None
        self._asked: list[Deferred[Statistics]] = []
        self._turn: tuple[bytes, Deferred[None]] | None = None
        self._stopping: list[Deferred[None]] = []
        self._held = self._ended = False
        self._late: Any = None

    def port(self, role: Role) -> int:
        """The port of a side, while it listens."""
        return sockets.port_of(self._endpoints[role])

    @property
    def durations(self) -> Durations | None:
        """From a REQ's request to its answer; None where the pattern is another."""
        return self._times.read() if self.settings.pattern is Pattern.REQ_REP else None

    @property
    def moved(self) -> Statistics:
        """What it had moved when it was asked last."""
        return self._before + self._last

    def start(self) -> Deferred[None]:
        """Listen on both ports; fires then, once.

        It fails with :exc:`BrokerError` where one cannot be listened on, and then none is.
        """
        control = self._attendant.context.socket(zmq.PAIR)
        control.bind(f"inproc://{self._name}")
        self._control = control
        self._attendant.call(self._attendant.adopt, control, self._heard)
        self._thread.start()
        return self._started

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
        """
        if not self._started.called or self._held or self._ended or self._thread.ident is None:
            return
        used = time.clock_gettime(time.pthread_getcpuclockid(self._thread.ident))
        busy, self._used = used - self._used > _BUSY, used
        if not busy:
            self._busy_at = None
        elif not self._looking:
            self._looking = True
            self.statistics().addCallback(self._looked)

    def stop(self) -> Deferred[None]:
        """End; fires once its thread has, and its ports are free. What it holds is lost."""
        if self._ended:
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
        self._thread.join()  # it has said its last word
        self._ended = True
        if self._late is not None and self._late.active():
            self._late.cancel()
        for socket in (self._control, *self._drains):
            self._attendant.call(self._attendant.release, socket)
        self._answer_asked()
        self._turned(words.HELD, words.RUNNING)
        stopping, self._stopping = self._stopping, []
        if self._failure is not None and not self._started.called:
            self._started.errback(Failure(self._failure))
        elif self._failure is not None and not stopping:
            self._events.brokerEnded(self, self._failure)
        for done in stopping:
            done.callback(None)

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
        drain.connect(f"inproc://{self._name}.drain")
        self._attendant.adopt(drain, lambda _: None)
        self._reactor.callFromThread(self._drained, drain)

    def _watched(self, role: Role, reader: Socket) -> Callable[[list[zmq.Frame]], None]:
        """What counts the events of one side's monitor."""
        counts = self.connections[role]

        def received(frames: list[zmq.Frame]) -> None:
            event = sockets.event_of(frames)
            if event == zmq.EVENT_ACCEPTED:
                counts.live += 1
            elif event == zmq.EVENT_DISCONNECTED:
                counts.live -= 1
            elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                counts.accepted += 1
            elif event in sockets.FAILURES:
                self.handshake_failures[sockets.FAILURES[event]] += 1
            else:
                self._closed[role].set()
                if event == zmq.EVENT_MONITOR_STOPPED:
                    counts.live = 0
                    self._attendant.release(reader)
            if not self._changed:
                self._changed = True
                self._reactor.callFromThread(self._tell_changes)

        return received

    # The broker's thread

    def _run(self) -> None:
        control = self._attendant.context.socket(zmq.PAIR)
        control.connect(f"inproc://{self._name}")
        made: dict[Role, Socket] = {}
        try:
            self._listen(made)
            self._reactor.callFromThread(self._started.callback, None)
            frontend, backend = (made[role] for role in Role)
            if self.settings.pattern is Pattern.REQ_REP:
                self._exchange(frontend, backend, control)
            else:
                self._proxy(frontend, backend, control)
        except BrokerError as error:
            self._failure = error
        except Exception as error:
            self._failure = BrokerError(self._name, str(error))
        finally:
            for role, socket in made.items():
                self._close(role, socket)
            control.send(words.ENDED)
            control.close()

    def _listen(self, made: dict[Role, Socket]) -> None:
        for role in Role:
            socket = made[role] = sockets.make(
                self._attendant.context, self.settings, role, self._number
            )
            address = f"inproc://{self._name}.{role}"
            socket.monitor(address, sockets.WATCHED)
            # A monitor waits for who reads it, and libzmq with it: so it is read from its start.
            reader = self._attendant.context.socket(zmq.PAIR)
            reader.rcvhwm = 0
            reader.connect(address)
            self._attendant.call(self._attendant.adopt, reader, self._watched(role, reader))
        for role, socket in made.items():
            self._endpoints[role] = sockets.bind(socket, self.settings, role)
        if self.settings.pattern in sockets.DRAINS:
            made[Role.BACKEND].bind(f"inproc://{self._name}.drain")

    def _proxy(self, frontend: Socket, backend: Socket, control: Socket) -> None:
        waiting = self.settings.pattern is Pattern.PUSH_PULL
        if waiting and not self._wait_for(backend, control):
            return
        while True:
            try:
                zmq.proxy_steerable(frontend, backend, None, control)
            except zmq.Again:
                # A peer went between the proxy's look and its read; the numbers begin anew.
                control.send(words.AGAIN)
                continue
            control.send(words.HELD)
            if not self._held_back(control) or (waiting and not self._wait_for(backend, control)):
                return

    def _exchange(self, frontend: Socket, backend: Socket, control: Socket) -> None:
        exchange = Exchange(frontend, backend, Pending(self._times))
        while True:
            exchange.run(control)
            control.send(words.HELD)
            if not self._held_back(control):
                return

    def _held_back(self, control: Socket) -> bool:
        """Wait for the word to go on; False for the one to end."""
        while (word := control.recv()) != words.RUN:
            if word == words.END:
                return False
        control.send(words.RUNNING)
        return True

    def _wait_for(self, backend: Socket, control: Socket) -> bool:
        """Wait for a backend that takes something, as a proxy that has nothing to move.

        libzmq's proxy would not wait, but spin, where there are messages and nobody to take them.

        :return: False where the thread is to end.
        """
        poller = zmq.Poller()
        poller.register(backend, zmq.POLLOUT)
        poller.register(control, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if control not in ready:
                return True
            word = control.recv()
            if word == words.STATISTICS:
                control.send_multipart(words.NOTHING)
            elif word == words.TERMINATE:
                control.send(words.HELD)
                if not self._held_back(control):
                    return False
            elif word == words.END:
                return False

    def _close(self, role: Role, socket: Socket) -> None:
        socket.linger = 0
        if role in self._endpoints:
            socket.unbind(self._endpoints[role])
            self._closed[role].wait(_CLOSE_WITHIN)  # the port is free then
        socket.disable_monitor()
        socket.close(linger=0)


def _cancelled(result: Any, late: Any) -> Any:
    if late.active():
        late.cancel()
    return result
