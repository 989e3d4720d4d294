"""Listening on a strports string, at once or not at all."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.python.failure import Failure

from relayx.core.errors import RelayError


class CannotListen(RelayError):
    """An endpoint could not be listened on; the text says why."""


def listen_at_once(reactor: Any, endpoint: str, factory: Any) -> Any:
    """Listen, and return the IListeningPort.

    :param reactor: as endpoints see it, such as a ListeningReactor.
    :raises CannotListen: where that fails, or would only come later.
    """
    outcome: list[Any] = []
    try:
        serverFromString(reactor, endpoint).listen(factory).addBoth(outcome.append)
    except OSError as fault:
        raise CannotListen(str(fault)) from None
    if not outcome:
        raise CannotListen("it did not listen at once")
    if isinstance(outcome[0], Failure):
        error = outcome[0].value
        raise CannotListen(reason(error) if error is not None else "unknown")
    return outcome[0]


def reason(error: BaseException) -> str:
    """Why listening failed, in the system's words."""
    inner = error.socketError if isinstance(error, CannotListenError) else error
    return getattr(inner, "strerror", None) or str(inner)
