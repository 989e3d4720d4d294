"""The ports of one protocol where a BE waits (contract sections 4, 6 and 8)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from relayx.client.backoff import Backoff
from relayx.client.data import DataConnection
from relayx.client.errors import Refused, TlsFailed
from relayx.core.errors import Code
from relayx.core.messages import Protocol

PORT_CODES = frozenset({Code.PORT_BUSY, Code.PORT_RESERVED, Code.PORT_EMPTY})
"""Refusals that say something of one port, and nothing of the others."""


STALE = 2.0
"""Seconds after which no `port_state` can be from before a port was ready."""


class Wait:
    """One port that is being dialled or waited on."""

    __slots__ = ("connection", "given_up", "ready", "ready_at", "task")

    def __init__(self) -> None:
        self.connection: DataConnection | None = None
        self.task: Deferred[None] | None = None
        self.ready = False
        self.ready_at = 0.0
        self.given_up = False


class WaitingPorts:
    """Keeps a water mark of waiting connections, and nothing more.

    Which ports are empty comes from `port_state`; among those the choice is random, so that
    several BEs seldom meet on one. A port that refuses is left alone for a while, longer
    each time; what is wrong with all of them makes it wait with all.

    A waiting port that an FE leases still counts. Should the lease outlast the session, its
    port is waited on again beyond the mark, for the FE may come back under it.

    :param dial: opens a connection to a port that says HELLO.
    :param paired: gets each port and connection that is paired.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorTime,
        protocol: Protocol,
        dial: Callable[[int], Deferred[DataConnection]],
        paired: Callable[[Protocol, int, DataConnection], None],
        rng: random.Random,
    ) -> None:
        self._reactor = reactor
        self._protocol = protocol
        self._dial = dial
        self._paired = paired
        self._rng = rng
        self._backoff = Backoff(rng.random)
        self._mark = 0
        self._open = False
        self._held: dict[int, Wait] = {}
        self._in_session: set[int] = set()
        self._empty: set[int] = set()
        self._leases: dict[int, str] = {}
        self._beyond: set[int] = set()
        self._refusals: dict[int, tuple[int, float]] = {}
        self._all_until = 0.0
        self._told = ""
        self._timer: IDelayedCall | None = None
        self._filling = False
        self._fill_more = False

    @property
    def ready(self) -> tuple[int, ...]:
        """The ports where a connection waits now, sorted."""
        return tuple(sorted(port for port, wait in self._held.items() if wait.ready))

    # what is asked of it

    def set_mark(self, mark: int) -> None:
        """Wait on `mark` ports from now on; those above it are given up, the newest first."""
        self._mark = mark
        self._lower()
        self._fill()

    def open(self) -> None:
        """The control connection is there: ports may be dialled."""
        self._open = True
        self._leases.clear()
        self._beyond.clear()
        self._refusals.clear()
        self._all_until = 0.0
        self._backoff.reset()
        self._empty.clear()

    def shut(self) -> None:
        """The control connection is gone: what waits goes on waiting, nothing new is dialled."""
        self._open = False
        self._stop_timer()

    def give_up_all(self) -> None:
        """Close all that waits, and dial nothing more."""
        self._mark = 0
        self.shut()
        for port in tuple(self._held):
            self._give_up(port)

    def empty_ports(self, ports: Iterable[int]) -> None:
        """The ports that are empty now, from the newest `port_state`.

        One that we think to wait on, and not only since a moment ago, has lost its connection
        on the way without our being told; it is dialled anew.
        """
        self._empty = set(ports)
        before = self._reactor.seconds() - STALE
        for port in self._empty.intersection(self._held):
            wait = self._held[port]
            if wait.ready and wait.ready_at < before:
                self._give_up(port)
        self._fill()

    def granted(self, port: int, session_id: str) -> None:
        """An FE has leased a port; it matters where we wait on it."""
        if port in self._held:
            self._leases[port] = session_id

    def released(self, session_id: str) -> None:
        """A lease has ended; what was waited on for it alone is above the mark now."""
        for port in [port for port, lease in self._leases.items() if lease == session_id]:
            del self._leases[port]
            self._beyond.discard(port)
        self._lower()

    def session_over(self, port: int) -> None:
        """A session's connection is gone, so that its port may be waited on again."""
        self._in_session.discard(port)
        self._fill()

    # the mark

    def _missing(self) -> int:
        return self._mark - sum(1 for port in self._held if port not in self._beyond)

    def _lower(self) -> None:
        surplus = -self._missing()
        for port in reversed(tuple(self._held)):
            if surplus <= 0:
                return
            if port not in self._leases:
                self._give_up(port)
                surplus -= 1

    def _give_up(self, port: int) -> None:
        wait = self._held.pop(port)
        wait.given_up = True
        if wait.connection is not None:
            wait.connection.abort()
        elif wait.task is not None:
            wait.task.cancel()

    def _fill(self) -> None:
        """Dial what is missing to the mark; a dial that fails at once comes back here."""
        if self._filling:
            self._fill_more = True
            return
        self._filling = self._fill_more = True
        while self._fill_more:
            self._fill_more = False
            self._dial_missing(self._reactor.seconds())
        self._filling = False

    def _dial_missing(self, now: float) -> None:
        self._stop_timer()
        if not self._open or self._all_until > now:
            self._try_later(now)
            return
        free = self._empty.difference(self._held, self._in_session)
        allowed = [port for port in sorted(free) if self._refusals.get(port, (0, 0.0))[1] <= now]
        for port in [port for port in allowed if port in self._leases and self._mark]:
            allowed.remove(port)
            self._beyond.add(port)
            self._wait_on(port)
        missing = min(self._missing(), len(allowed))
        if missing > 0:
            for port in self._rng.sample(allowed, missing):
                self._wait_on(port)
        self._try_later(now)

    def _try_later(self, now: float) -> None:
        """Come back when the first port that refused may be tried again."""
        if not self._open or self._missing() <= 0:
            return
        times = [
            until
            for port, (_, until) in self._refusals.items()
            if until > now and port in self._empty
        ]
        if self._all_until > now:
            times = [self._all_until]
        if times and self._timer is None:
            self._timer = self._reactor.callLater(min(times) - now, self._fill_again)

    def _fill_again(self) -> None:
        self._timer = None
        self._fill()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # one port

    def _wait_on(self, port: int) -> None:
        wait = self._held[port] = Wait()
        wait.task = Deferred.fromCoroutine(self._hold(port, wait))
        wait.task.addErrback(self._unforeseen, port)

    def _unforeseen(self, failure: object, port: int) -> None:
        self._log.error("port {port}: {failure}", port=port, failure=failure)

    async def _hold(self, port: int, wait: Wait) -> None:
        try:
            wait.connection = await self._dial(port)
            if wait.given_up:
                wait.connection.abort()
            await wait.connection.when_waiting()
            wait.ready = True
            self._told = ""
            wait.ready_at = self._reactor.seconds()
            self._backoff.reset()
            await wait.connection.when_paired()
        except CancelledError:
            return
        except Exception as error:
            if not wait.given_up:
                self._failed(port, wait, error)
            return
        if wait.given_up:
            return
        del self._held[port]
        self._beyond.discard(port)
        self._refusals.pop(port, None)
        self._empty.discard(port)
        self._in_session.add(port)
        self._paired(self._protocol, port, wait.connection)
        self._fill()

    def _failed(self, port: int, wait: Wait, error: Exception) -> None:
        del self._held[port]
        self._beyond.discard(port)
        tell = self._log.error if self._is_news(error) else self._log.debug
        tell(
            "{protocol} port {port}: {error}", protocol=self._protocol, port=port, error=str(error)
        )
        now = self._reactor.seconds()
        if wait.ready or (isinstance(error, Refused) and error.code in PORT_CODES):
            times = self._refusals.get(port, (0, 0.0))[0] + 1
            self._refusals[port] = (times, now + self._backoff.delay(times))
        else:
            self._all_until = now + self._backoff.next()
        self._fill()

    def _is_news(self, error: Exception) -> bool:
        """Whether somebody has to change something, and has not been told of it yet."""
        ours = isinstance(error, Refused) and error.code == Code.HELLO_INVALID
        if not ours and not isinstance(error, TlsFailed):
            return False
        told, self._told = self._told, str(error)
        return told != self._told
