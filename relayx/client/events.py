"""What a control client tells those who asked: messages and the state of its connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from twisted.logger import Logger
from twisted.python.failure import Failure

Event = TypeVar("Event")


@dataclass(frozen=True, slots=True)
class LogLine:
    """One log line of the gateway's (contract section 3, `log`)."""

    text: str


@dataclass(frozen=True, slots=True)
class Connected:
    """The gateway has taken the registration; `client_id` is what it calls this client."""

    client_id: str
    server: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """An attempt to connect or to register failed; another follows by itself."""

    reason: Failure


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A registered control connection has ended; another is tried unless `Ended` follows."""

    reason: Failure


@dataclass(frozen=True, slots=True)
class Ended:
    """The client has stopped for good; `reason` is None where it was told to."""

    reason: Failure | None


class Events:
    """Callbacks by the type of what they are told.

    The types are the message types of `relayx.core.messages` that a gateway sends, and
    `LogLine`, `Connected`, `Unreachable`, `Disconnected` and `Ended`. A `PortGrant` comes here
    only where it answers none of this client's own requests.
    """

    _log = Logger()

    def __init__(self) -> None:
        self._callbacks: dict[type, dict[object, Callable[[Any], object]]] = {}

    def on(self, kind: type[Event], callback: Callable[[Event], object]) -> Callable[[], None]:
        """Call `callback` with each event of exactly this type; returns what undoes it."""
        callbacks = self._callbacks.setdefault(kind, {})
        key = object()
        callbacks[key] = callback

        def undo() -> None:
            callbacks.pop(key, None)

        return undo

    def emit(self, event: object) -> None:
        """Tell all who asked; one callback's exception is logged and stops no other."""
        for callback in tuple(self._callbacks.get(type(event), {}).values()):
            try:
                callback(event)
            except Exception:
                self._log.failure("a callback for {kind} failed", kind=type(event).__name__)
