"""``relayx send``: a file, or standard input, over one session."""

from __future__ import annotations

import errno
import os
import stat
from typing import Any

import click
from twisted.internet.defer import Deferred

from relayx.cli.connecting import first_connection
from relayx.cli.files import Source
from relayx.cli.landing import STANDARD_STREAM
from relayx.cli.options import (
    Target,
    client_name,
    duration,
    gateway_options,
    protocol_option,
    service_option,
)
from relayx.cli.progress import bar
from relayx.cli.running import Failed, reason, run
from relayx.cli.transfer import MOST_ANSWER, Tally, decode_receipt
from relayx.client import ClientError, Frontend, LeasedSession, Stream


@click.command()
@click.argument("file", default=STANDARD_STREAM)
@gateway_options
@service_option
@protocol_option
@click.option("--be", type=client_name, default=None, help="To this back end alone, by its id.")
@click.option(
    "--wait",
    type=duration,
    default="10s",
    show_default=True,
    help="How long to try for a session, where no back end is ready.",
)
def command(
    target: Target, file: str, service: str, protocol: str, be: str | None, wait: float
) -> None:
    """Send FILE, or standard input, to a back end.

    'relayx recv' is the back end to receive it: it proves by SHA-256 what it has, and where
    that is something else, the exit status is 1. Any other back end will do as well; what it
    answers is thrown away.
    """
    descriptor = open_source(file)

    async def main(reactor: Any) -> None:
        source = Source(reactor, descriptor)
        frontend = Frontend(reactor, target.gateway, target.client_id)
        frontend.start()
        try:
            await first_connection(reactor, frontend.control, target.connect_timeout)
            session = await open_session(frontend, protocol, service, be, wait)
            await _send(session, source, file)
            await session.release()
        finally:
            await frontend.stop()

    run(main, verbose=target.verbose)


def open_source(file: str) -> int:
    """A descriptor of what is to be sent, or `Failed` where there is nothing to be read."""
    try:
        descriptor = 0 if file == STANDARD_STREAM else os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except OSError as error:
        raise _unread(file, error) from None
    return descriptor


def _unread(file: str, error: OSError) -> Failed:
    name = "standard input" if file == STANDARD_STREAM else file
    return Failed(f"{name} cannot be read: {error.strerror or error}")


async def open_session(
    frontend: Frontend, protocol: str, service: str, be: str | None, wait: float
) -> LeasedSession:
    """A session, or `Failed` with what was asked for and why there is none."""
    try:
        return await frontend.open_session(protocol, service, be, timeout=wait)
    except (ClientError, OSError) as error:
        wanted = f"{protocol} session" + (f" with service {service!r}" if service else "")
        wanted += f" of {be!r}" if be is not None else ""
        raise Failed(f"no {wanted} within {wait:g} s: {reason(error)}") from None


async def _send(session: LeasedSession, source: Source, file: str) -> None:
    stream = session.stream
    tally = Tally()
    answer = Deferred.fromCoroutine(_answer(stream))
    answer.addErrback(lambda _: b"")  # what broke the stream is told by `closed`
    try:
        with bar("sending", source.size) as sent:
            while data := await _read(source, file):
                tally.add(data)
                await stream.write(data)
                sent(len(data))
            stream.end()
            await stream.closed()
    except ClientError as error:
        raise Failed(
            f"the session broke after {tally.bytes} bytes, and the receiver has not confirmed"
            f" that it has them: {reason(error)}"
        ) from None
    finally:
        stream.abort()  # nothing to do where it is closed
    click.echo(tally.summary())
    _check(tally, await answer)


async def _read(source: Source, file: str) -> bytes:
    try:
        return await source.read()
    except OSError as error:
        raise _unread(file, error) from None


async def _answer(stream: Stream) -> bytes:
    """Read all of the answer, however long, and keep what may be a receipt."""
    kept = b""
    while data := await stream.read():
        kept += data[: MOST_ANSWER + 1 - len(kept)]
    return kept


def _check(tally: Tally, answer: bytes) -> None:
    receipt = decode_receipt(answer)
    if receipt is None:
        click.echo("no receipt: the other side is not 'relayx recv'", err=True)
    elif receipt != tally.receipt:
        raise Failed(
            f"the receiver has something else: {receipt.bytes} bytes, sha256 {receipt.sha256}"
        )
    else:
        click.echo("the receiver has the same", err=True)
