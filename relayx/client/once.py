"""A result that comes once and that any number of callers may wait for."""

from __future__ import annotations

from typing import Generic, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

Result = TypeVar("Result")


class Once(Generic[Result]):
    """Holds a value or a failure, and gives each waiter a Deferred of its own.

    A failure that nobody waits for is not an error.

    :ivar settled: whether the result is there.
    """

    __slots__ = ("_failure", "_value", "_waiters", "settled")

    def __init__(self) -> None:
        self.settled = False
        self._value: list[Result] = []
        self._failure: Failure | None = None
        self._waiters: list[Deferred[Result]] = []

    def wait(self) -> Deferred[Result]:
        """Fire with the result, at once where it is there. Cancelling harms no other waiter."""
        if self._failure is not None:
            return fail(self._failure)
        if self.settled:
            return succeed(self._value[0])
        waiter: Deferred[Result] = Deferred(self._forget)
        self._waiters.append(waiter)
        return waiter

    def _forget(self, waiter: Deferred[Result]) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def fire(self, value: Result) -> None:
        """Settle with a value, unless settled already."""
        if not self.settled:
            self.settled = True
            self._value.append(value)
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                waiter.callback(value)

    def fail(self, failure: Failure) -> None:
        """Settle with a failure, unless settled already."""
        if not self.settled:
            self.settled = True
            self._failure = failure
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                waiter.errback(failure)
