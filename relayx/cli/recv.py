"""``relayx recv``: waits as a BE for one session and keeps what it brings."""

from __future__ import annotations

from typing import Any

import click
from twisted.internet.defer import Deferred

from relayx.cli.connecting import first_connection
from relayx.cli.landing import STANDARD_STREAM, Landing
from relayx.cli.options import Target, gateway_options, protocol_option, service_option
from relayx.cli.progress import bar
from relayx.cli.running import Failed, reason, run, say
from relayx.cli.transfer import Tally, encode_receipt
from relayx.client import Backend, Session
from relayx.client.errors import ClientError
from relayx.core.messages import Protocol


@click.command()
@click.argument("file", default=STANDARD_STREAM)
@gateway_options
@service_option
@protocol_option
@click.option("--force", is_flag=True, help="Replace FILE where it exists.")
def command(target: Target, file: str, service: str, protocol: str, force: bool) -> None:
    """Wait as a back end for one session, and write what it brings to FILE or standard output.

    FILE has another name until all has come; a transfer that broke leaves nothing of it, and
    the exit status is 1. 'relayx send' gets bytes and SHA-256 back as a receipt.
    """

    async def main(reactor: Any) -> None:
        landing = Landing(reactor, file, force=force)
        once = _Once()
        backend = Backend(
            reactor,
            target.gateway,
            service,
            zmq=int(protocol == Protocol.ZMQ),
            srt=int(protocol == Protocol.SRT),
            on_session=once.take,
            client_id=target.client_id,
        )
        once.backend = backend
        backend.start()
        try:
            connected = await first_connection(reactor, backend.control, target.connect_timeout)
            backend.done.addErrback(once.fail)
            say(f"waiting at {target.gateway} as {connected.client_id}")
            tally = await _receive(await once.session, landing)
            click.echo(tally.summary(), err=file == STANDARD_STREAM)
        finally:
            landing.drop()
            once.over.callback(None)
            backend.done.addErrback(lambda _: None)  # a reason that is known by now
            await backend.stop()

    run(main, verbose=target.verbose)


class _Once:
    """Takes the first session and no other.

    :ivar session: fires with it.
    :ivar over: fired by the owner when it is done with it.
    """

    def __init__(self) -> None:
        self.backend: Backend
        self.session: Deferred[Session] = Deferred()
        self.over: Deferred[None] = Deferred()

    def take(self, session: Session) -> Deferred[None] | None:
        self.backend.set_marks(0, 0)
        if self.session.called:
            session.stream.abort()
            return None
        self.session.callback(session)
        return self.over

    def fail(self, reason: Any) -> None:
        if not self.session.called:
            self.session.errback(reason)


async def _receive(session: Session, landing: Landing) -> Tally:
    stream = session.stream
    tally = Tally()
    try:
        with bar("receiving", None) as came:
            while data := await stream.read():
                tally.add(data)
                await landing.write(data)
                came(len(data))
        landing.keep()
        await stream.write(encode_receipt(tally.receipt))
        stream.end()
    except ClientError as error:
        if not landing.kept:
            raise Failed(f"not all came, {tally.bytes} bytes: {reason(error)}") from None
        say("all came, but the sender did not wait for the receipt")
        return tally
    except BaseException:
        stream.abort()
        raise
    try:
        await stream.closed()
    except ClientError:
        say("all came, but the sender did not wait for the receipt")
    return tally
