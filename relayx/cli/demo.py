"""``relayx demo``: the whole of it on one machine (contract section 10)."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import click
import yaml
from rich.console import Console
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from relayx.cli.demo_data import FileSource, MadeSource, Source, parts, whole_sha256
from relayx.cli.demo_progress import demo_progress
from relayx.cli.demo_result import Trip, differences, print_result
from relayx.cli.demo_work import marks, protocol_of, round_trips
from relayx.cli.gateway_child import HOST, GatewayChild, free_ports
from relayx.cli.running import DONE, FAILED, Failed, run
from relayx.client import Gateway

PORT_ATTEMPTS = 5
MOST_SESSIONS = 64

Result = TypeVar("Result")


@click.command()
@click.option("--file", "path", metavar="PATH", help="What to send; otherwise 256 MiB made up.")
@click.option(
    "--sessions",
    type=click.IntRange(1, MOST_SESSIONS),
    default=2,
    show_default=True,
    help="How many front ends share the work, over zmq and srt ports by turns.",
)
@click.option("-v", "--verbose", count=True, help="Log to stderr what the clients do.")
def command(path: str | None, sessions: int, verbose: int) -> None:
    """Start a gateway and send a file through it, to a back end and back.

    All of it on this machine and over its loopback ports: a gateway as a process of its own,
    with files in a temporary directory that is removed at the end; a back end that sends back
    what it gets; front ends that send a part of the file each, all at once. Exit status 0
    where SHA-256 of what was sent, of what the back end got and of what came back are equal,
    otherwise 1.
    """
    source = _source(path)
    with tempfile.TemporaryDirectory(prefix="relayx-demo-") as directory:
        children: list[GatewayChild] = []
        try:
            run(
                lambda reactor: _demo(reactor, Path(directory), source, sessions, children),
                verbose=verbose,
            )
        finally:
            for child in children:
                child.kill()  # nothing to do where it has ended


def _source(path: str | None) -> Source:
    if path is None:
        return MadeSource()
    try:
        if not os.path.isfile(path) and os.path.exists(path):
            raise Failed(f"{path} is not a regular file")
        return FileSource(path)
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error.strerror}") from None


async def _demo(
    reactor: Any, directory: Path, source: Source, sessions: int, children: list[GatewayChild]
) -> int:
    given_up = Event()
    hashing = deferToThread(whole_sha256, source, given_up)
    try:
        for _ in range(PORT_ATTEMPTS - 1):
            child = GatewayChild(reactor)
            children.append(child)
            try:
                trips = await _try(reactor, directory, source, sessions, child)
                break
            except Failed:
                # Somebody may have taken a port between our look and the gateway's.
                if not child.could_not_listen:
                    raise
        else:
            children.append(GatewayChild(reactor))
            trips = await _try(reactor, directory, source, sessions, children[-1])
        return conclude(Console(), trips, await hashing)
    finally:
        given_up.set()


async def _try(
    reactor: Any, directory: Path, source: Source, sessions: int, child: GatewayChild
) -> list[Trip]:
    """Start the gateway, do the work, and stop it."""
    gateway = write_files(directory, sessions)
    shares = parts(source.size, sessions)
    child.start(directory)
    try:
        with demo_progress([part.size for part in shares], protocol_of) as counts:
            work = round_trips(reactor, gateway, source, shares, counts)
            return await _while_it_runs(child, Deferred.fromCoroutine(work))
    finally:
        await child.stop()


def write_files(directory: Path, sessions: int) -> Gateway:
    """Write a configuration on free ports and a secret file of mode 0600; where it will be."""
    zmq, srt = marks(sessions)
    found = list(free_ports(1 + zmq + srt))
    relay = {"control_port": found[0], "zmq_start_port": found[1], "zmq_end_port": found[zmq]}
    if srt:
        relay |= {"srt_start_port": found[zmq + 1], "srt_end_port": found[zmq + srt]}
    relay |= {"max_fe": max(50, sessions)}
    config = {
        "relay": relay,
        "control": {"endpoints": [f"tcp:{found[0]}:interface={HOST}"]},
        "data": {"interface": HOST, "drain_timeout": "1s"},
        "http": {"endpoint": ""},
    }
    secret = secrets.token_urlsafe(32)
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    secret_file = directory / "secrets.json"
    secret_file.unlink(missing_ok=True)
    descriptor = os.open(secret_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        json.dump({"auth_secret": secret}, file)
    return Gateway(HOST, found[0], secret)


async def _while_it_runs(child: GatewayChild, work: Deferred[Result]) -> Result:
    """The result of `work`, which is given up when the gateway ends."""
    ended: list[str] = []

    def gateway_ended(why: str) -> str:
        ended.append(why)
        work.cancel()
        return why

    child.ended.addCallback(gateway_ended)
    try:
        return await work
    except Exception:
        if ended:
            raise Failed(ended[0]) from None
        raise


def conclude(console: Console, trips: list[Trip], whole: str) -> int:
    """Print the result and return the exit status: 1 where anything differs."""
    print_result(console, trips, whole)
    found = differences(trips)
    for sentence in found:
        click.echo(f"Error: {sentence}", err=True)
    if not found:
        click.echo("All digests are equal.")
    return FAILED if found else DONE
