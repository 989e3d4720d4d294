"""``relayx be``: serves sessions by a service near by, a command, or an echo."""

from __future__ import annotations

from typing import Any

import click
from twisted.internet.defer import CancelledError

from relayx.cli.connecting import first_connection, refused, tell_connections
from relayx.cli.execution import Commands
from relayx.cli.options import Target, address, duration, gateway_options, service_option
from relayx.cli.running import run, say
from relayx.cli.serving import Forwarding, Log, Serve, echo
from relayx.client import Backend, Refused

DEFAULT_MARK = 4
NO_PORT_HINT = 3.0
"""Seconds without a waiting port, after which there is something to be said about it."""


@click.command()
@gateway_options
@service_option
@click.option("--zmq", type=click.IntRange(0), help="How many zmq ports shall wait at any time.")
@click.option("--srt", type=click.IntRange(0), help="How many srt ports.")
@click.option(
    "--forward", type=address, metavar="HOST:PORT", help="Dial this for each session, and join."
)
@click.option(
    "--exec", "shell", metavar="CMD", help="Run this by /bin/sh for each: its stdin and stdout."
)
@click.option("--echo", "echoes", is_flag=True, help="Send back what comes.")
@click.option(
    "--proxy",
    type=click.Choice(["v2"]),
    help="Begin each session with a PROXY header that tells the front end's address.",
)
@click.option(
    "--grace",
    type=duration,
    default="2s",
    show_default=True,
    help="How long sessions may go on after Ctrl-C.",
)
def command(
    target: Target,
    service: str,
    zmq: int | None,
    srt: int | None,
    forward: tuple[str, int] | None,
    shell: str | None,
    echoes: bool,
    proxy: str | None,
    grace: float,
) -> None:
    """Be a back end: wait at the gateway, and serve each session.

    Exactly one of --forward, --exec and --echo says how; 4 zmq ports wait unless --zmq or --srt
    say otherwise. A command has RELAYX_PAIRING_ID, RELAYX_SESSION_ID, RELAYX_CLIENT_ID,
    RELAYX_ADDRESS and RELAYX_TRACE_ID in its environment, and is killed where its session is
    reset. Goes on until Ctrl-C, through losses of the gateway.

    With '--zmq 0' and none of the three it only registers, for programs of ZeroMQ on this machine
    that wait themselves.
    """
    if zmq is None and srt is None:
        zmq = DEFAULT_MARK
    ways = (forward is not None) + (shell is not None) + echoes
    if ways != 1 and (ways or zmq or srt):
        raise click.UsageError("exactly one of --forward, --exec and --echo is needed")
    if proxy is not None and (echoes or not ways):
        raise click.UsageError("--proxy goes with --forward or --exec, which get the header")
    if ways and not (zmq or srt):
        raise click.UsageError("there is no port to wait on; --zmq or --srt of 1 or more is needed")

    async def main(reactor: Any) -> None:
        commands = Commands(reactor, shell) if shell is not None else None
        serve: Serve = echo
        if commands is not None:
            serve = commands.serve
        elif forward is not None:
            serve = Forwarding(reactor, *forward).serve
        log = Log(serve)
        backend = Backend(
            reactor,
            target.gateway,
            service,
            zmq or 0,
            srt or 0,
            on_session=log.serve,
            client_id=target.client_id,
            proxy=proxy or "",
        )
        if commands is not None:
            commands.watch(backend)
        try:
            await _wait(reactor, backend, target)
        except CancelledError:
            say(f"stopping, {len(backend.sessions)} sessions run")
        finally:
            backend.done.addErrback(lambda _: None)  # a reason that is known by now
            await backend.stop(grace)
            if commands is not None:
                commands.kill_all()

    run(main, verbose=target.verbose)


async def _wait(reactor: Any, backend: Backend, target: Target) -> None:
    """Register, and serve until the gateway says that this is over."""
    backend.start()
    connected = await first_connection(reactor, backend.control, target.connect_timeout)
    tell_connections(backend, target, connected)
    hint = reactor.callLater(NO_PORT_HINT, _hint, backend)
    try:
        await backend.done
    except Refused as error:
        raise refused(backend.control, error) from None
    finally:
        if hint.active():
            hint.cancel()


def _hint(backend: Backend) -> None:
    if not any(backend.waiting.values()) and not backend.sessions:
        say("no port waits yet: the gateway has no empty one, or refuses us; -vv tells more")
