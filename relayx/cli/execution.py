"""A command for each session: its standard input and output are the session's bytes."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import suppress
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from relayx.cli.options import SECRET_VARIABLE
from relayx.cli.serving import Account, NotServed
from relayx.client import Backend, Session
from relayx.core.messages import Cause, SessionEnd

SHELL = "/bin/sh"
IN_ORDER = frozenset({Cause.FE_CLOSED, Cause.BE_CLOSED})
"""Ends of a session that are no reset."""


class Commands:
    """Runs a shell command for each session.

    :param shell: the command, for ``/bin/sh -c``.
    """

    def __init__(self, reactor: Any, shell: str) -> None:
        self._reactor = reactor
        # In a session of its own, so that all of it can be killed, and Ctrl-C is ours alone.
        own_session = shutil.which("setsid")
        self._arguments = [*([own_session] if own_session else []), SHELL, "-c", shell]
        self._running: set[Command] = set()

    def watch(self, backend: Backend) -> None:
        """Have a session that the gateway knows to be broken end here too.

        While a command reads nothing, nothing is read of the session, and its reset is not
        seen on the connection.
        """

        def ended(end: SessionEnd) -> None:
            session = backend.sessions.get(end.pairing_id)
            if session is not None and end.cause not in IN_ORDER:
                session.stream.abort()

        backend.control.events.on(SessionEnd, ended)

    async def serve(self, session: Session, account: Account) -> None:
        """Serve one session."""
        command = Command(session)
        try:
            self._reactor.spawnProcess(
                command,
                self._arguments[0],
                self._arguments,
                env=environment(session),
                childFDs={0: "w", 1: "r", 2: 2},
            )
        except OSError as error:
            raise NotServed(f"{self._arguments[0]} cannot be run: {error.strerror}") from None
        self._running.add(command)
        try:
            account.note = await command.run()
        finally:
            self._running.discard(command)

    def kill_all(self) -> None:
        """Leave no command running."""
        for command in tuple(self._running):
            command.kill()


def environment(session: Session) -> dict[str, str]:
    """What a command finds in its environment: ours without the secret, and whose session it is."""
    paired = session.paired
    ours = {name: value for name, value in os.environ.items() if name != SECRET_VARIABLE}
    return ours | {
        "RELAYX_PAIRING_ID": paired.pairing_id,
        "RELAYX_SESSION_ID": paired.session_id,
        "RELAYX_CLIENT_ID": paired.client_id,
        "RELAYX_ADDRESS": paired.address,
        "RELAYX_TRACE_ID": paired.trace_id,
    }


@implementer(IPushProducer)
class Command(ProcessProtocol):
    """One command and its session; the producer of the command's standard input."""

    transport: Any

    def __init__(self, session: Session) -> None:
        self._stream = session.stream
        self._room: Deferred[None] | None = None
        self._paused = False
        self._takes_input = True
        self._over: Deferred[str] = Deferred()
        self._output_ended = False
        self._status: str | None = None

    async def run(self) -> str:
        """Serve until the command has ended its output and itself; fail where the session broke."""
        feeding = Deferred.fromCoroutine(self._feed())
        feeding.addErrback(self._broken)
        closed = self._stream.closed()
        closed.addErrback(self._broken)
        try:
            return await self._over
        finally:
            self.kill()  # nothing to do where it has ended
            feeding.cancel()
            closed.cancel()

    async def _feed(self) -> None:
        with suppress(CancelledError):
            while data := await self._stream.read():
                if not self._takes_input:
                    break
                self.transport.write(data)
                if self._paused:
                    self._room = Deferred()
                    await self._room
            if self._takes_input:
                self.transport.closeStdin()
            else:
                self._stream.discard()

    def _broken(self, failure: Failure) -> None:
        """The session was reset, or the code failed: so does `run`."""
        if not failure.check(CancelledError) and not self._over.called:
            self._over.errback(failure)

    # standard input

    def pauseProducing(self) -> None:
        """The command reads slower than bytes come."""
        self._paused = True

    def resumeProducing(self) -> None:
        """There is room again."""
        self._paused = False
        room, self._room = self._room, None
        if room is not None:
            room.callback(None)

    def stopProducing(self) -> None:
        """The command's standard input is closed."""
        self.resumeProducing()

    def inConnectionLost(self) -> None:
        """The command takes no more; what comes is thrown away."""
        self._takes_input = False
        self.resumeProducing()

    # standard output

    def connectionMade(self) -> None:
        """The command runs."""
        self.transport.registerProducer(self, True)

    def outReceived(self, data: bytes) -> None:
        """Send on what the command writes, and make it wait where the session is slow."""
        written = self._stream.write(data)
        if not written.called:
            self.transport.pauseProducing()
            written.addCallback(self._written)
        written.addErrback(self._broken)

    def _written(self, _: None) -> None:
        self.transport.resumeProducing()

    def outConnectionLost(self) -> None:
        """The command has ended its output."""
        self._output_ended = True
        self._stream.end()
        self._finish()

    def processExited(self, reason: Failure) -> None:
        """The command has ended."""
        status = reason.value
        self._status = ""
        if isinstance(status, ProcessTerminated):
            by_signal = status.signal is not None
            self._status = (
                f"the command was killed by signal {status.signal}"
                if by_signal
                else f"the command's exit status was {status.exitCode}"
            )
        self._finish()

    def _finish(self) -> None:
        if self._output_ended and self._status is not None and not self._over.called:
            self._over.callback(self._status)

    def kill(self) -> None:
        """Kill the command, and what it has started, where it has not ended."""
        if self._status is not None or self.transport is None or self.transport.pid is None:
            return
        pid = self.transport.pid
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:  # it has no session of its own, or not yet
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        except PermissionError:
            pass  # nothing of it is ours any more
