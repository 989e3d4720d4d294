"""``relayx doctor``: why a gateway cannot be used from here, step by step."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import click
import msgspec

from relayx.cli.diagnosis import Finding, Report, Status
from relayx.cli.examination import Examination
from relayx.cli.options import Target, address, gateway_options
from relayx.cli.running import DONE, FAILED, run
from relayx.logs import clean

_COLOURS = {Status.OK: "green", Status.WARN: "yellow", Status.FAILED: "red"}


@click.command()
@click.argument("where", metavar="[HOST:PORT]", required=False)
@gateway_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for machines.")
def command(target: Target, where: str | None, as_json: bool) -> None:
    """Find out why a gateway cannot be used from here, and what to do about it.

    HOST:PORT is another way to say --gateway. The steps are those of a front end: the name, TCP,
    TLS with --tls, registration, the clocks, the round trip, the ports, and one data port. Nothing
    is taken from anybody: the data port is asked for a service that nobody has, which the gateway
    refuses in words that show how far it got.

    Exit status 1 where a step fails.
    """
    if where is not None:
        host, port = address(where)
        gateway = replace(target.gateway, host=host, port=port)
        target = replace(target, gateway=gateway)
    run(lambda reactor: _doctor(reactor, target, as_json), verbose=target.verbose)


async def _doctor(reactor: Any, target: Target, as_json: bool) -> int:
    report = Report(_ignore if as_json else _print)
    if not as_json:
        click.echo(f"examining {target.gateway}")
    await Examination(reactor, target, report).run()
    if as_json:
        steps = [msgspec.to_builtins(finding) for finding in report.findings]
        told = {"gateway": str(target.gateway), "healthy": report.healthy, "steps": steps}
        click.echo(json.dumps(told))
    else:
        click.echo(_sum(report))
    return DONE if report.healthy else FAILED


def _sum(report: Report) -> str:
    if not report.healthy:
        return "the gateway cannot be used like this"
    return "it works; see the warnings above" if report.warned else "nothing is wrong"


def _ignore(finding: Finding) -> None:
    """All of them are printed at the end."""


def _print(finding: Finding) -> None:
    mark = click.style(f"{finding.status:<8}", fg=_COLOURS.get(finding.status))
    click.echo(f"{mark}{finding.step:<10}{clean(finding.text)}")
    if finding.advice:
        click.echo(f"{'':<18}-> {clean(finding.advice)}")
