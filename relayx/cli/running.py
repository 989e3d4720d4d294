"""Runs one command on the reactor and turns its outcome into an exit status (contract section 1).

This is the one place where the commands name the global reactor.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import click
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ReactorNotRunning
from twisted.logger import (
    FilteringLogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    globalLogBeginner,
)
from twisted.python.failure import Failure

from relayx.client import ClientError
from relayx.logs import clean

DONE = 0
FAILED = 1

Main = Callable[[Any], Coroutine[Any, Any, int | None]]
"""What a command does; gets the reactor, and returns its exit status (None: 0).

It is cancelled at the first SIGINT or SIGTERM: the Deferred that it awaits fails with
`CancelledError`, and it may clean up, and still await, from there on.
"""

_LEVELS = (LogLevel.critical, LogLevel.info, LogLevel.debug)


class Failed(click.ClickException):
    """The command was refused or could not be done: one line on stderr, exit status 1."""

    exit_code = FAILED


def say(text: str) -> None:
    """Write one line to stderr, no control character of a peer's raw."""
    click.echo(clean(text), err=True)


def reason(error: BaseException | None) -> str:
    """What an error says, on one line, without the errno that Twisted puts in."""
    if isinstance(error, ConnectError):
        # "Connection was refused by other side: 111: Connection refused."
        return str(error).rsplit(": ", 1)[-1].rstrip(".").lower() or "not reachable"
    if isinstance(error, OSError) and error.strerror:
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def run(main: Main, *, verbose: int = 0) -> NoReturn:
    """Run `main` to its end and exit with its status.

    :param verbose: 0 logs what must never happen, and what lets no port wait; 1 what the client
        library does; 2 all of it.
    """
    from twisted.internet import reactor

    log_to_stderr(verbose)
    sys.exit(Run(reactor, main).status())


class Run:
    """One run of a command.

    :param reactor: an IReactorCore that has not run yet.
    """

    def __init__(self, reactor: Any, main: Main) -> None:
        self._reactor = reactor
        self._begin = main
        self._main: Deferred[int | None] | None = None
        self._status = FAILED
        self._interrupted = False

    def status(self) -> int:
        """Run the reactor until the command is done; its exit status."""
        self._reactor.callWhenRunning(self._start)
        self._reactor.run()
        return self._status

    def _start(self) -> None:
        # Twisted's own handlers would stop the reactor under the command's feet.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._signalled)
        self._main = Deferred.fromCoroutine(self._begin(self._reactor))
        self._main.addBoth(self._ended)

    def _signalled(self, number: int, frame: object) -> None:
        self._reactor.callFromThread(self._interrupt)

    def _interrupt(self) -> None:
        """Let the command clean up; a second time, end without it."""
        if self._interrupted or self._main is None:
            self._stop(FAILED)
            return
        self._interrupted = True
        self._main.cancel()

    def _ended(self, result: Failure | int | None) -> None:
        if isinstance(result, Failure):
            self._stop(report(result))
        else:
            self._stop(result or DONE)

    def _stop(self, status: int) -> None:
        self._status = status
        try:
            self._reactor.stop()
        except ReactorNotRunning:
            pass  # a second signal, while it stops already


def report(failure: Failure) -> int:
    """Say in one line why a command failed, and return the exit status for it."""
    error = failure.value
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    if isinstance(error, CancelledError):
        text = "interrupted"
    elif isinstance(error, ClientError | ConnectError | OSError):
        text = reason(error)
    else:
        text = f"this should not happen: {type(error).__name__}: {reason(error)}"
    Failed(clean(text)).show()
    return FAILED


def log_to_stderr(verbose: int) -> None:
    """Send Twisted's log to stderr, one line an event, from the level that `verbose` says."""
    level = _LEVELS[min(verbose, len(_LEVELS) - 1)]
    shows = LogLevelFilterPredicate(level)
    if verbose <= 0:  # what somebody has to change before anything can work
        shows.setLogLevelForNamespace("relayx.client.waiting", LogLevel.error)
    keep = FilteringLogObserver(_write_line, [shows])  # type: ignore[arg-type]  # a function will do
    globalLogBeginner.beginLoggingTo([keep], redirectStandardIO=False, discardBuffer=True)


def _write_line(event: LogEvent) -> None:
    text = formatEvent(event)
    failure = event.get("log_failure")
    if failure is not None:
        text = f"{text}: {failure.type.__name__}: {reason(failure.value)}"
    level = event["log_level"]
    if text and level is not LogLevel.debug:
        say(f"{level.name}: {text}")
    elif text:
        say(f"{level.name}: {event.get('log_namespace', '')}: {text}")
