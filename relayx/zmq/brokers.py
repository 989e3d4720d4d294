"""All brokers, and what they share: the context, the attendant, the ZAP handler."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import msgspec
import zmq
from twisted.internet.defer import Deferred, DeferredList, succeed

from relayx.zmq.attendant import Attendant, Socket
from relayx.zmq.broker import Broker, BrokerEvents
from relayx.zmq.settings import BrokerSettings
from relayx.zmq.words import pause_word
from relayx.zmq.zap import Allow, Check, Zap

LOOK_EVERY = 0.1
"""Seconds between looks at whether a broker spins."""


class Brokers:
    """Started and stopped once, all together.

    One thread for each broker (two for ``req_rep``), one for all, libzmq's own two, and up to
    two for checks. Nothing waits in the reactor but :meth:`listen`.

    :param reactor: an IReactorTime and IReactorThreads, running from :meth:`start` on.
    :param events: of every broker.
    :param check: who may connect with PLAIN; None refuses all.
    :param allow: which addresses may, whatever the mechanism; None: all.
    :param io_threads: libzmq's; one for a gigabyte a second, as it says itself.
    :ivar brokers: in the order of the settings; none before the start and after the stop.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Sequence[BrokerSettings],
        events: BrokerEvents,
        *,
        check: Check | None = None,
        allow: Allow | None = None,
        io_threads: int = 1,
    ) -> None:
        self.brokers: tuple[Broker, ...] = ()
        self._reactor = reactor
        self._settings = tuple(settings)
        self._events = events
        self._check = check
        self._allow = allow
        self._io_threads = io_threads
        self._context: zmq.Context[Socket] | None = None
        self._looking: Any = None
        self._stopped: Deferred[None] | None = None

    def listen(self) -> None:
        """Listen on every port of every broker, or on none; takes milliseconds.

        Handshakes are answered from then on; messages wait for :meth:`start`.

        :raises BrokerError: where one cannot be listened on, once all the others are closed
            again; then this can be called again.
        """
        if not self._settings:
            return
        self._context = context = zmq.Context[Socket](self._io_threads)
        self._attendant = attendant = Attendant(context)
        self._zap = Zap(attendant, self._check, self._allow)
        for number, one in enumerate(self._settings):
            self._zap.add(number, one)
        self._zap.start()
        attendant.start()
        try:
            word = pause_word(context)
            self.brokers = tuple(
                Broker(self._reactor, attendant, one, self._events, number=number, pause_word=word)
                for number, one in enumerate(self._settings)
            )
            for number, broker in enumerate(self.brokers):
                self._zap.before(number, broker.catch_up)
                broker.listen()
        except BaseException:
            self.unlisten()
            raise

    def unlisten(self) -> None:
        """Take :meth:`listen` back, before a start; waits until all is closed."""
        if self._context is None:
            return
        for broker in self.brokers:
            broker.unlisten()
        self._release()
        self.brokers = ()
        self._context = None

    def start(self) -> None:
        """Move messages from now on; once, and after :meth:`listen`."""
        for broker in self.brokers:
            broker.start()
        if self.brokers:
            self._look()

    def admit_keys(self, number: int, clients: tuple[str, ...] | None) -> None:
        """Admit other keys of CURVE from now on; who is connected stays so.

        :param number: of the broker, in the order of the settings.
        :param clients: see :attr:`~relayx.zmq.settings.BrokerSettings.curve_clients`.
        """
        one = msgspec.structs.replace(self._settings[number], curve_clients=clients)
        self._zap.add(number, one)

    def stop(self) -> Deferred[None]:
        """End all; fires once their threads have ended and their ports are free."""
        if self._context is None:
            return succeed(None)
        done: Deferred[None] = Deferred()
        if self._stopped is None:
            self._stopped = done
            if self._looking is not None:
                self._looking.cancel()
                self._looking = None
            ended = DeferredList([broker.stop() for broker in self.brokers])
            ended.addCallback(lambda _: threading.Thread(target=self._close, daemon=True).start())
        else:
            self._stopped.chainDeferred(done)
        return done

    def _look(self) -> None:
        for broker in self.brokers:
            broker.look()
        self._looking = self._reactor.callLater(LOOK_EVERY, self._look)

    def _close(self) -> None:
        """In a thread of its own, since it waits."""
        self._release()
        self._reactor.callFromThread(self._closed)

    def _release(self) -> None:
        assert self._context is not None
        self._zap.stop()
        self._attendant.stop()
        self._context.term()

    def _closed(self) -> None:
        self.brokers = ()
        self._context = None
        done, self._stopped = self._stopped, None
        assert done is not None
        done.callback(None)
