"""The thread of one broker: it makes the sockets, moves messages between them, closes them."""

from __future__ import annotations

import threading
import time

import zmq

from relayx.zmq import sockets, words
from relayx.zmq.attendant import Attendant, Socket
from relayx.zmq.counts import DurationCount
from relayx.zmq.errors import BrokerError
from relayx.zmq.exchange import Exchange, Pending
from relayx.zmq.settings import BrokerSettings, Pattern, Role
from relayx.zmq.watch import Watch

_CLOSE_WITHIN = 5.0


def drain_endpoint(name: str) -> str:
    """Where a backend that waits for peers can be given one that takes everything."""
    return f"inproc://{name}.drain"


class Mover:
    """Listens, then moves as the words say that it finds at ``inproc://NAME``.

    The sockets are made where :meth:`listen` is called, so that what is in the way is known at
    once, and are the thread's alone from :meth:`start` on.

    :param number: of the broker's ZAP domains.
    :ivar endpoints: what is listened on.
    :ivar failure: why it ended by itself; None where it did not.
    :ivar times: from requests to answers.
    :ivar pending: requests without an answer.
    """

    def __init__(
        self,
        attendant: Attendant,
        settings: BrokerSettings,
        name: str,
        number: int,
        watch: Watch,
    ) -> None:
        self.endpoints: dict[Role, str] = {}
        self.failure: BrokerError | None = None
        self.times = DurationCount()
        self.pending = Pending(self.times)
        self._attendant = attendant
        self._settings = settings
        self._name = name
        self._number = number
        self._watch = watch
        self._made: dict[Role, Socket] = {}
        self._control: Socket | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def listen(self) -> None:
        """Listen on both ports.

        :raises BrokerError: where one cannot be listened on; :meth:`close` then.
        """
        for role in Role:
            try:
                made = sockets.make(self._attendant.context, self._settings, role, self._number)
            except zmq.ZMQError as error:
                where = f"{self._settings.pattern} {role}"
                raise BrokerError(where, f"libzmq refuses an option: {error}") from None
            self._made[role] = made
            self._watch.begin(made, role, f"inproc://{self._name}.{role}")
        for role, socket in self._made.items():
            self.endpoints[role] = sockets.bind(socket, self._settings, role)
        if self._settings.pattern in sockets.DRAINS:
            self._made[Role.BACKEND].bind(drain_endpoint(self._name))

    def close(self) -> None:
        """Listen no more; by whoever has the sockets."""
        for role, socket in self._made.items():
            self._close(role, socket)
        self._made.clear()

    def start(self) -> None:
        """Begin to move; what is said from now on is heard."""
        control = self._attendant.context.socket(zmq.PAIR)
        control.connect(f"inproc://{self._name}")
        self._control = control
        self._thread.start()

    def join(self) -> None:
        """Wait for the end, which is near once ``ENDED`` was said."""
        self._thread.join()

    def cpu_seconds(self) -> float:
        """CPU time of the thread; it is running."""
        assert self._thread.ident is not None
        return time.clock_gettime(time.pthread_getcpuclockid(self._thread.ident))

    def _run(self) -> None:
        control = self._control
        assert control is not None
        try:
            frontend, backend = (self._made[role] for role in Role)
            if self._settings.pattern is Pattern.REQ_REP:
                self._exchange(frontend, backend, control)
            else:
                self._proxy(frontend, backend, control)
        except Exception as error:
            self.failure = BrokerError(self._name, str(error))
        finally:
            self.close()
            control.send(words.ENDED)
            control.close()

    def _proxy(self, frontend: Socket, backend: Socket, control: Socket) -> None:
        waiting = self._settings.pattern is Pattern.PUSH_PULL
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
        exchange = Exchange(frontend, backend, self.pending)
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
        # libzmq's own default, for ever, is not for a stop.
        linger = max(0, self._settings.linger)
        socket.linger = linger
        if role in self.endpoints:
            socket.unbind(self.endpoints[role])
            self._watch.closed[role].wait(_CLOSE_WITHIN)  # the port is free then
        socket.disable_monitor()
        socket.close(linger=linger)
