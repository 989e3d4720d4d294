"""``relayx status``: the gateway's ports, over the control plane."""

from __future__ import annotations

import json
from typing import Any

import click
import msgspec
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text
from twisted.internet.defer import CancelledError, Deferred

from relayx.cli.connecting import first_connection
from relayx.cli.options import Target, gateway_options
from relayx.cli.running import run
from relayx.client import ControlClient
from relayx.client.events import Connected, Ended
from relayx.core.messages import PortState, Protocol, Role, ServiceCount


@click.command()
@gateway_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for machines.")
@click.option("--watch", is_flag=True, help="Go on, and show every change, until Ctrl-C.")
def command(target: Target, as_json: bool, watch: bool) -> None:
    """Show the ports of the gateway, by protocol and service.

    A ready port is counted under its service. Reserved are those under a lease that nobody
    uses yet.
    """
    show = _print_json if as_json else _print_tables
    run(lambda reactor: _status(reactor, target, show, watch), verbose=target.verbose)


async def _status(reactor: Any, target: Target, show: Any, watch: bool) -> None:
    control = ControlClient(reactor, target.gateway, Role.FE, target.client_id)
    control.start()
    try:
        connected = await first_connection(reactor, control, target.connect_timeout)
        show(summary(target, connected, await control.port_state()))
        if watch:
            control.events.on(PortState, lambda state: show(summary(target, connected, state)))
            await _until_ended(control)
    except CancelledError:
        if not watch:
            raise
    finally:
        await control.stop()


def _until_ended(control: ControlClient) -> Deferred[None]:
    over: Deferred[None] = Deferred()

    def ended(event: Ended) -> None:
        if event.reason is not None:
            over.errback(event.reason)

    control.events.on(Ended, ended)
    return over


def summary(target: Target, connected: Connected, state: PortState) -> dict[str, Any]:
    """The numbers that are shown, as JSON has them.

    Per protocol `total`, `ready`, `busy`, `empty` and `reserved` add up (contract section 4);
    `ready` counts every service's and the two of each broker, and on srt ports also those whose
    BE waits by SRT; these are in `native_ready_ports`, and by service in `srt_native_ready`, which
    is left out where 0.
    """
    named: Any = {} if state.services is msgspec.UNSET else state.services
    found = state.srt_native_ready_ports
    native = () if found is msgspec.UNSET else found
    brokers = () if state.brokers is msgspec.UNSET else state.brokers
    ports = {}
    for protocol in Protocol:
        total, busy, free, empty = (
            getattr(state, f"{protocol}_{field}")
            for field in ("total", "busy", "ready_ports", "empty_ports")
        )
        ready = len(free) + sum(getattr(count, f"{protocol}_ready") for count in named.values())
        if protocol is Protocol.ZMQ:
            ready += 2 * len(brokers)
        if protocol is Protocol.SRT:
            ready += len(native) + sum(count.srt_native_ready for count in named.values())
        ports[str(protocol)] = {
            "total": total,
            "ready": ready,
            "busy": busy,
            "empty": len(empty),
            "reserved": total - ready - busy - len(empty),
            "ready_ports": list(free),
            "empty_ports": list(empty),
        }
    ports["srt"]["native_ready_ports"] = list(native)
    unnamed = ServiceCount(len(state.zmq_ready_ports), len(state.srt_ready_ports), len(native))
    services = {
        name: msgspec.to_builtins(count) for name, count in sorted({"": unnamed, **named}.items())
    }
    return {
        "gateway": str(target.gateway),
        "server": connected.server,
        "client_id": connected.client_id,
        "ports": ports,
        "services": services,
        "brokers": [msgspec.to_builtins(broker) for broker in brokers],
    }


def _print_json(told: dict[str, Any]) -> None:
    click.echo(json.dumps(told))


def _print_tables(told: dict[str, Any]) -> None:
    Console(highlight=False).print(tables(told))


def tables(told: dict[str, Any]) -> RenderableType:
    """The same numbers for a person."""
    states = ("total", "ready", "busy", "empty", "reserved")
    ports = Table("protocol", title="ports", title_justify="left")
    for state in states:
        ports.add_column(state, justify="right")
    for protocol, counts in told["ports"].items():
        ports.add_row(protocol, *(str(counts[state]) for state in states))
    services = Table("service", title="ready ports by service", title_justify="left")
    for protocol in Protocol:
        services.add_column(str(protocol), justify="right")
    kinds = [f"{protocol}_ready" for protocol in Protocol]
    if any("srt_native_ready" in counts for counts in told["services"].values()):
        kinds.append("srt_native_ready")
        services.add_column("srt by SRT", justify="right")
    for name, counts in told["services"].items():
        label = Text(name) if name else Text("(none)", style="dim")
        services.add_row(label, *(str(counts.get(kind, 0)) for kind in kinds))
    shown: list[RenderableType] = [Text(f"{told['server']} at {told['gateway']}"), ports, services]
    if told["brokers"]:
        shown.append(_brokers(told["brokers"]))
    return Group(*shown)


def _brokers(told: list[dict[str, Any]]) -> Table:
    brokers = Table("broker", title="brokers", title_justify="left")
    for name in ("frontend", "clients", "backend", "clients"):
        brokers.add_column(name, justify="right")
    for one in told:
        numbers = ("frontend", "clients_frontend", "backend", "clients_backend")
        brokers.add_row(one["pattern"], *(str(one[number]) for number in numbers))
    return brokers
