"""How a BE serves a session: an echo, or a connection to a service near by."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError

from relayx.cli.running import reason, say
from relayx.client import ClientError, Session, connect_stream, join, tcp_endpoints


@dataclass
class Account:
    """What is told of a session when it has ended.

    :ivar note: anything worth telling, "" where there is nothing.
    :ivar bytes_out: how many have been sent so far.
    """

    bytes_out: Callable[[], int]
    note: str = ""


Serve = Callable[[Session, Account], Awaitable[None]]
"""Serves a session until there is nothing more to be sent."""


class NotServed(Exception):
    """A session that cannot be served, and is reset; the text says why."""


class Log:
    """Serves sessions, and tells of each when it begins and when it ends.

    :param serve: does the work.
    :param clock: seconds that never go back.
    """

    def __init__(self, serve: Serve, clock: Callable[[], float] = time.monotonic) -> None:
        self._serve = serve
        self._clock = clock

    async def serve(self, session: Session) -> None:
        """Serve one session; never fails, a session that does is aborted."""
        begun = self._clock()
        paired = session.paired
        name = f"session {paired.pairing_id}"
        trace = f" trace_id={paired.trace_id}" if paired.trace_id else ""
        say(
            f"{name} begins: {paired.client_id or '(no id)'} at {paired.address} "
            f"on {session.protocol} port {session.port}{trace}"
        )
        stream = session.stream
        account = Account(lambda: stream.sent)
        try:
            await self._serve(session, account)
            stream.end()
            stream.discard()
            await stream.closed()
            outcome = "ended" + (f", {account.note}" if account.note else "")
        except NotServed as error:
            outcome = f"reset: {error}"
        except (ClientError, CancelledError) as error:
            outcome = f"broke: {reason(error)}"
        except Exception as error:  # one session's trouble, whatever it is, is not another's
            outcome = f"failed: {type(error).__name__}: {reason(error)}"
        finally:
            stream.abort()  # nothing to do where it is closed
        seconds = self._clock() - begun
        moved = f"{stream.received} bytes in, {account.bytes_out()} bytes out"
        say(f"{name} {outcome}; {moved}, {seconds:.3f} s{trace}")


async def echo(session: Session, account: Account) -> None:
    """Send back what comes."""
    stream = session.stream
    while data := await stream.read():
        await stream.write(data)


class Forwarding:
    """Dials a service for each session and joins both.

    :param host: a name or an address.
    """

    def __init__(self, reactor: Any, host: str, port: int) -> None:
        self._reactor = reactor
        self._name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._dial = lambda: tcp_endpoints(reactor)(host, port)

    async def serve(self, session: Session, account: Account) -> None:
        """Serve one session."""
        try:
            local = await connect_stream(self._dial())
        except Exception as error:
            raise NotServed(f"{self._name} cannot be reached: {reason(error)}") from None
        account.bytes_out = lambda: local.received
        await join(self._reactor, session.stream, local)
