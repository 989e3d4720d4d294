"""``relayx ping``: how long the way to the gateway and back takes."""

from __future__ import annotations

from typing import Any

import click
from twisted.internet.defer import CancelledError, Deferred

from relayx.cli.connecting import first_connection
from relayx.cli.options import Target, duration, gateway_options
from relayx.cli.running import DONE, FAILED, reason, run
from relayx.client import ClientError, ControlClient
from relayx.core.messages import Role


@click.command()
@gateway_options
@click.option(
    "-c", "--count", type=click.IntRange(0), default=4, show_default=True, help="0: without end."
)
@click.option("-i", "--interval", type=duration, default="1s", show_default=True)
def command(target: Target, count: int, interval: float) -> None:
    """Measure the way to the gateway and back, over the control plane.

    Exit status 1 where no ping is answered, also where Ctrl-C comes before the first answer.
    """
    run(lambda reactor: _ping(reactor, target, count, interval), verbose=target.verbose)


async def _ping(reactor: Any, target: Target, count: int, interval: float) -> int:
    control = ControlClient(reactor, target.gateway, Role.FE, target.client_id)
    control.start()
    sent = 0
    times: list[float] = []
    try:
        connected = await first_connection(reactor, control, target.connect_timeout)
        click.echo(f"PING {target.gateway} {connected.server} as {connected.client_id}")
        while not count or sent < count:
            if sent:
                await _pause(reactor, interval)
            sent += 1
            try:
                times.append(await control.ping())
            except ClientError as error:
                click.echo(f"seq={sent} {reason(error)}")
            else:
                click.echo(f"seq={sent} time={times[-1] * 1000:.3f} ms")
    except CancelledError:  # Ctrl-C: as ping(8) does, the sums all the same
        if not sent:
            raise
    finally:
        await control.stop()
    return _sums(sent, times)


def _pause(reactor: Any, seconds: float) -> Deferred[None]:
    pause: Deferred[None] = Deferred(lambda _: timer.cancel())
    timer = reactor.callLater(seconds, pause.callback, None)
    return pause


def _sums(sent: int, times: list[float]) -> int:
    lost = 100 * (sent - len(times)) / sent
    click.echo(f"{sent} sent, {len(times)} answered, {lost:.0f} % lost")
    if not times:
        return FAILED
    least, mean, most = (t * 1000 for t in (min(times), sum(times) / len(times), max(times)))
    click.echo(f"round trip min/avg/max = {least:.3f}/{mean:.3f}/{most:.3f} ms")
    return DONE
