"""A command's connection to the gateway: the first, which it must have, and what is told of it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.python.failure import Failure

from relayx.cli.options import SECRET_VARIABLE, Target
from relayx.cli.running import Failed, reason, say
from relayx.client import (
    ClientError,
    Connected,
    ControlClient,
    Disconnected,
    Distrusted,
    Refused,
    Stopped,
    TlsFailed,
    Unreachable,
)
from relayx.core.errors import Code

ADVICE = {
    Code.AUTH_FAILED: f"; check {SECRET_VARIABLE}, or the secret file that --env-file names",
    Code.RATE_LIMITED: "; the gateway's limits are in its configuration, under limits and clients",
    Code.TAKEN_OVER: "; give each client a --client-id of its own, or none",
}
"""What helps against a refusal."""


async def first_connection(reactor: Any, control: ControlClient, timeout: float) -> Connected:
    """Wait until a client, which was started in this turn of the reactor, is registered.

    Later losses are the library's to mend; one that never was there is most likely a wrong
    address, and to say so helps more than to try for ever.

    :param timeout: seconds.
    :raises Failed: naming the gateway, and why.
    """
    failures: list[Failure] = []
    connected: Deferred[Connected] = Deferred()

    def unreachable(event: Unreachable) -> None:
        failures.append(event.reason)
        if _another_attempt_is_vain(event.reason):
            _fail(connected, event.reason)

    undo = (
        control.events.on(Connected, connected.callback),
        control.events.on(Unreachable, unreachable),
    )
    ended = control.when_connected()
    ended.addCallbacks(lambda _: None, lambda why: _fail(connected, why))
    try:
        return await connected.addTimeout(timeout, reactor)
    except DeferredTimeout:
        why = failures[-1].value if failures else None
        if isinstance(why, Refused):
            raise refused(control, why) from None
        tail = f": {reason(why)}" if why is not None else ""
        raise Failed(f"no gateway at {control.gateway} within {timeout:g} s{tail}") from None
    except Refused as error:
        raise refused(control, error) from None
    except Distrusted as error:
        raise Failed(f"the gateway at {control.gateway} is not trusted: {error}") from None
    except ClientError as error:
        raise Failed(f"the gateway at {control.gateway}: {reason(error)}") from None
    finally:
        ended.cancel()
        for call in undo:
            call()


def _another_attempt_is_vain(why: Failure) -> bool:
    """Whether certificates or keys do not fit: waiting would only hide what is wrong."""
    error = why.value
    unsigned = isinstance(error, Refused) and error.code == Code.SIGNATURE_INVALID
    return unsigned or bool(why.check(TlsFailed, Distrusted))


def _fail(connected: Deferred[Connected], why: Failure) -> None:
    if not connected.called:
        connected.errback(why)


def tell_connections(client: Any, target: Target, connected: Connected) -> None:
    """Say who we are, and when the gateway is lost and found, one line each.

    :param client: a `Backend` or a `Frontend`.
    """
    told: set[str] = set()

    def registered(event: Connected) -> None:
        say(f"registered at {target.gateway} as {event.client_id}")

    def refuses(event: Unreachable) -> None:
        why = event.reason.value
        if isinstance(why, Refused) and why.code not in told:
            told.add(why.code)
            say(f"the gateway refuses for now: {why}")

    def lost(event: Disconnected) -> None:
        told.clear()
        if not event.reason.check(Stopped):
            say(f"lost the gateway: {reason(event.reason.value)}")

    registered(connected)
    client.control.events.on(Connected, registered)
    client.control.events.on(Disconnected, lost)
    client.control.events.on(Unreachable, refuses)


def refused(control: ControlClient, error: Refused) -> Failed:
    """What to say about a refusal that ends the command."""
    advice = next((text for code, text in ADVICE.items() if code == error.code), "")
    return Failed(f"the gateway at {control.gateway} refuses: {error}{advice}")
