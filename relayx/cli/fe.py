"""``relayx fe``: a local port whose every connection becomes a session."""

from __future__ import annotations

from typing import Any

import click
from twisted.internet.abstract import isIPv6Address
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.error import CannotListenError

from relayx.cli.connecting import first_connection, refused, tell_connections
from relayx.cli.options import (
    Target,
    duration,
    gateway_options,
    listen_address,
    protocol_option,
    service_option,
)
from relayx.cli.running import Failed, reason, run, say
from relayx.client import ClientError, Frontend, Refused, Stream, StreamFactory, join


@click.command()
@gateway_options
@service_option
@protocol_option
@click.option(
    "--listen",
    type=listen_address,
    metavar="[HOST:]PORT",
    required=True,
    help="The local port; on 127.0.0.1 where no host is named, and any free one for port 0.",
)
@click.option(
    "--wait",
    type=duration,
    default="10s",
    show_default=True,
    help="How long a connection may wait for a session.",
)
@click.option(
    "--grace",
    type=duration,
    default="2s",
    show_default=True,
    help="How long connections may go on after Ctrl-C.",
)
def command(
    target: Target,
    service: str,
    protocol: str,
    listen: tuple[str, int],
    wait: float,
    grace: float,
) -> None:
    """Be a front end: a local port whose every connection leads to a back end.

    With 'relayx be --forward' at the other side this exposes a service through the gateway. A
    connection for which there is no session is reset. Goes on until Ctrl-C, through losses of
    the gateway.
    """

    async def main(reactor: Any) -> None:
        frontend = Frontend(reactor, target.gateway, target.client_id)
        door = Door(reactor, frontend, protocol, service, wait)
        frontend.start()
        try:
            connected = await first_connection(reactor, frontend.control, target.connect_timeout)
            tell_connections(frontend, target, connected)
            say(f"listening on {await door.listen(*listen)}")
            await frontend.control.when_stopped()
        except Refused as error:
            raise refused(frontend.control, error) from None
        except CancelledError:
            say(f"stopping, {len(door.open)} connections are open")
        finally:
            await door.close(grace)
            await frontend.stop()

    run(main, verbose=target.verbose)


class Door:
    """The local port.

    :ivar open: the tasks of its connections, each with its stream.
    """

    def __init__(
        self, reactor: Any, frontend: Frontend, protocol: str, service: str, wait: float
    ) -> None:
        self._reactor = reactor
        self._frontend = frontend
        self._protocol = protocol
        self._service = service
        self._wait = wait
        self._port: Any = None
        self.open: dict[Deferred[None], Stream] = {}

    async def listen(self, host: str, port: int) -> str:
        """Open the port, and return its address.

        :raises Failed: where it cannot be listened on.
        """
        kind = TCP6ServerEndpoint if isIPv6Address(host) else TCP4ServerEndpoint
        endpoint = kind(self._reactor, port, interface=host)
        try:
            self._port = await endpoint.listen(StreamFactory(self._accepted))
        except (CannotListenError, OSError) as error:
            inner = getattr(error, "socketError", error)
            raise Failed(f"cannot listen on {_name(host, port)}: {reason(inner)}") from None
        where = self._port.getHost()
        return _name(where.host, where.port)

    async def close(self, grace: float) -> None:
        """Take nobody new, let connections end for `grace` seconds, and reset the rest."""
        if self._port is not None:
            await self._port.stopListening()
        if self.open and grace:
            over = DeferredList([_follow(task) for task in self.open], consumeErrors=True)
            over.addTimeout(grace, self._reactor)
            await over.addErrback(lambda _: None)
        for task, stream in tuple(self.open.items()):
            stream.abort()
            task.cancel()

    def _accepted(self, stream: Stream) -> None:
        # Nothing is read before there is somebody to pass it on to, so that TCP tells the
        # client to wait.
        stream.transport.pauseProducing()
        peer = stream.transport.getPeer()
        task = Deferred.fromCoroutine(self._serve(stream, _name(peer.host, peer.port)))
        self.open[task] = stream
        task.addBoth(self._over, task)

    def _over(self, result: Any, task: Deferred[None]) -> Any:
        self.open.pop(task, None)
        return result

    async def _serve(self, stream: Stream, peer: str) -> None:
        try:
            session = await self._frontend.open_session(
                self._protocol, self._service, timeout=self._wait
            )
        except CancelledError:
            return
        except (ClientError, OSError) as error:
            stream.abort()
            say(f"connection from {peer} is reset, no session for it: {reason(error)}")
            return
        try:
            stream.transport.resumeProducing()
            await join(self._reactor, stream, session.stream)
        except ClientError as error:
            say(f"connection from {peer} broke: {reason(error)}")
        except CancelledError:
            pass
        finally:
            await session.release()


def _follow(task: Deferred[None]) -> Deferred[None]:
    """A Deferred that fires with another, and may be cancelled without it."""
    follower: Deferred[None] = Deferred()

    def over(result: Any) -> Any:
        if not follower.called:
            follower.callback(None)
        return result

    task.addBoth(over)
    return follower


def _name(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
