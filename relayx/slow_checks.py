"""What takes too long for the reactor, a few at once in threads, and no source before another."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from relayx.core.errors import Code, PeerError

AT_ONCE = 2
PER_SOURCE = 32
MOST = 128
"""Checks under way, waiting for one source, and waiting altogether: some three seconds' worth."""

Check = Callable[[], bool]


class SlowChecks:
    """A bounded queue by source; sources have their turns, and each has one thread at most.

    :param reactor: an IReactorThreads.
    """

    def __init__(self, reactor: Any, per_source: int = PER_SOURCE, most: int = MOST) -> None:
        self._reactor = reactor
        self._per_source = per_source
        self._most = most
        self._waiting: OrderedDict[str, deque[tuple[Check, Deferred[bool]]]] = OrderedDict()
        self._count = 0
        self._running: set[str] = set()

    def run(self, source: str, check: Check) -> Deferred[bool]:
        """Have a check done in a thread; fires with what it returns, in the reactor's thread.

        :raises PeerError: ``RATE_LIMITED`` where too many wait.
        """
        waiting = self._waiting.get(source)
        if self._count >= self._most or (waiting is not None and len(waiting) >= self._per_source):
            raise PeerError(
                Code.RATE_LIMITED, "too many clients are registering at once; try again later"
            )
        done: Deferred[bool] = Deferred()
        self._waiting.setdefault(source, deque()).append((check, done))
        self._count += 1
        self._begin()
        return done

    def _begin(self) -> None:
        while len(self._running) < AT_ONCE:
            source = next((s for s in self._waiting if s not in self._running), None)
            if source is None:
                return
            waiting = self._waiting[source]
            check, done = waiting.popleft()
            self._count -= 1
            if waiting:
                self._waiting.move_to_end(source)
            else:
                del self._waiting[source]
            self._running.add(source)
            pool = self._reactor.getThreadPool()
            began: Deferred[bool] = deferToThreadPool(self._reactor, pool, check)
            began.addBoth(self._ended, source)
            began.chainDeferred(done)

    def _ended(self, result: Any, source: str) -> Any:
        self._running.discard(source)
        self._begin()
        return result
