"""All brokers, and what they share: the context, the attendant, the ZAP handler."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import zmq
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.python.failure import Failure

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
    two for checks. Nothing waits in the reactor.

    :param reactor: an IReactorTime and IReactorThreads, running.
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

    def start(self) -> Deferred[None]:
        """Listen on every port of every broker; fires then.

        It fails with :exc:`~relayx.zmq.errors.BrokerError` where one cannot be listened on, once
        all the others are closed again; then this can be started again.
        """
        if not self._settings:
            return succeed(None)
        self._context = context = zmq.Context[Socket](self._io_threads)
        self._attendant = attendant = Attendant(context)
        self._zap = Zap(attendant, self._check, self._allow)
        for number, one in enumerate(self._settings):
            self._zap.add(number, one)
        self._zap.start()
        attendant.start()
        ready: Deferred[bytes] = Deferred()
        attendant.call(self._try_words, ready)
        ready.addCallback(self._start_all)
        ready.addErrback(self._undo)
        return ready  # type: ignore[return-value]

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

    def _try_words(self, ready: Deferred[bytes]) -> None:
        """In the attendant's thread."""
        try:
            word = pause_word(self._attendant.context)
        except Exception:
            self._reactor.callFromThread(ready.errback, Failure())
        else:
            self._reactor.callFromThread(ready.callback, word)

    def _start_all(self, word: bytes) -> Deferred[None]:
        self.brokers = tuple(
            Broker(
                self._reactor, self._attendant, one, self._events, number=number, pause_word=word
            )
            for number, one in enumerate(self._settings)
        )
        started = DeferredList([broker.start() for broker in self.brokers], consumeErrors=True)
        started.addCallback(_all_or_failure)
        return started.addCallback(lambda _: self._look())

    def _look(self) -> None:
        for broker in self.brokers:
            broker.look()
        self._looking = self._reactor.callLater(LOOK_EVERY, self._look)

    def _undo(self, failure: Failure) -> Deferred[None]:
        return self.stop().addCallback(lambda _: failure)

    def _close(self) -> None:
        """In a thread of its own: all of these wait."""
        assert self._context is not None
        self._zap.stop()
        self._attendant.stop()
        self._context.term()
        self._reactor.callFromThread(self._closed)

    def _closed(self) -> None:
        self.brokers = ()
        self._context = None
        done, self._stopped = self._stopped, None
        assert done is not None
        done.callback(None)


def _all_or_failure(results: list[tuple[bool, Any]]) -> None:
    for good, result in results:
        if not good:
            result.raiseException()
