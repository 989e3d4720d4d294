"""How late the reactor is: what waits for its turn waits so long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

INTERVAL = 0.25
"""Seconds between two looks: seldom enough to cost nothing, often enough to meet a long turn."""


class LoopLag:
    """A timer that tells how much later than asked for it was called.

    :param reactor: an IReactorTime.
    :param observe: takes seconds.
    """

    def __init__(self, reactor: Any, observe: Callable[[float], None]) -> None:
        self._reactor = reactor
        self._observe = observe
        self._call: Any = None

    def start(self) -> None:
        """Look from now on."""
        self._call = self._reactor.callLater(INTERVAL, self._look, self._reactor.seconds())

    def close(self) -> None:
        """Look no more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self, asked: float) -> None:
        self._observe(max(0.0, self._reactor.seconds() - asked - INTERVAL))
        self.start()
