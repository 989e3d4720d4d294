"""``relayx be``: serves sessions by a service near by, a command, or an echo."""

from __future__ import annotations

from typing import Any

import click
import msgspec
from twisted.internet.defer import CancelledError

from relayx.cli.connecting import first_connection, refused, tell_connections
from relayx.cli.execution import Commands
from relayx.cli.options import Target, address, duration, gateway_options, service_option
from relayx.cli.running import run, say
from relayx.cli.serving import Forwarding, Log, Serve, echo
from relayx.client import Backend, Refused
from relayx.core.messages import FrontEndLink

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
    "--link-telemetry",
    is_flag=True,
    help="Show how the SRT links of the sessions' front ends are, once a second.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Show them on stdout, one JSON object a line."
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
    link_telemetry: bool,
    as_json: bool,
    grace: float,
) -> None:
    """Be a back end: wait at the gateway, and serve each session.

    Exactly one of --forward, --exec and --echo says how; 4 zmq ports wait unless --zmq or --srt
    say otherwise. A command has RELAYX_PAIRING_ID, RELAYX_SESSION_ID, RELAYX_CLIENT_ID,
    RELAYX_ADDRESS and RELAYX_TRACE_ID in its environment, and is killed where its session is
    reset. Goes on until Ctrl-C, through losses of the gateway.

    With --link-telemetry, none of the three and no port, it only registers and tells of the
    links: of the sessions of an encoder that connects by SRT under the same --client-id. With
    '--zmq 0' and none of the three it only registers, for programs of ZeroMQ on this machine
    that wait themselves.
    """
    if as_json and not link_telemetry:
        raise click.UsageError("--json goes with --link-telemetry")
    ways = (forward is not None) + (shell is not None) + echoes
    if zmq is None and srt is None:
        zmq = 0 if link_telemetry and not ways else DEFAULT_MARK
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
            on_link=(_print_json if as_json else _say_link) if link_telemetry else None,
        )
        if commands is not None:
            commands.watch(backend)
        try:
            await _wait(reactor, backend, target, (zmq or 0) + (srt or 0))
        except CancelledError:
            say(f"stopping, {len(backend.sessions)} sessions run")
        finally:
            backend.done.addErrback(lambda _: None)  # a reason that is known by now
            await backend.stop(grace)
            if commands is not None:
                commands.kill_all()

    run(main, verbose=target.verbose)


async def _wait(reactor: Any, backend: Backend, target: Target, marks: int) -> None:
    """Register, and serve until the gateway says that this is over.

    :param marks: how many ports shall wait.
    """
    backend.start()
    connected = await first_connection(reactor, backend.control, target.connect_timeout)
    tell_connections(backend, target, connected)
    hint = reactor.callLater(NO_PORT_HINT, _hint, backend, marks)
    try:
        await backend.done
    except Refused as error:
        raise refused(backend.control, error) from None
    finally:
        if hint.active():
            hint.cancel()


def _print_json(link: FrontEndLink) -> None:
    click.echo(msgspec.json.encode(link).decode())


def _say_link(link: FrontEndLink) -> None:
    say(
        f"session {link.pairing_id} on srt port {link.port}: RTT {link.rtt_ms:.1f} ms, loss "
        f"{link.loss_percent:.1f} %, {link.retransmitted} packets sent again, {link.dropped} "
        f"messages dropped, {link.send_buffer_ms} of {link.latency_ms} ms wait to be "
        f"acknowledged, {link.send_rate_bps / 1e6:.2f} Mbit/s"
    )


def _hint(backend: Backend, marks: int) -> None:
    if marks and not any(backend.waiting.values()) and not backend.sessions:
        say("no port waits yet: the gateway has no empty one, or refuses us; -vv tells more")
