"""``relayx reload``: have a gateway read its configuration again, by the admin API."""

from __future__ import annotations

import json
from typing import Any

import click

from relayx.cli.admin import Admin, AdminClient, admin_options
from relayx.cli.running import DONE, FAILED, run


@click.command()
@admin_options
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="The whole report, for machines.")
def command(admin: Admin, dry_run: bool, as_json: bool) -> None:
    """Have the gateway read its files again, and take all of what they say or none of it.

    Exit status 1 where it is refused, by --dry-run too.
    """
    run(lambda reactor: _reload(reactor, admin, dry_run, as_json))


async def _reload(reactor: Any, admin: Admin, dry_run: bool, as_json: bool) -> int:
    client = AdminClient(reactor, admin)
    try:
        path = "/api/v1/reload" + ("?dry_run=true" if dry_run else "")
        told = await client.ask("POST", path, dict[str, Any])
    finally:
        await client.close()
    click.echo(json.dumps(told) if as_json else "\n".join(lines(told)))
    return FAILED if told.get("problems") else DONE


def lines(told: dict[str, Any]) -> list[str]:
    """A report for a person: a line a thing that there is something to say about."""
    return [
        f"{name.replace('_', ' ')}: {_shown(value)}"
        for name, value in told.items()
        if value not in (None, [], {}, "")
    ]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    if isinstance(value, dict):
        return " ".join(f"{name}={_shown(inner)}" for name, inner in value.items())
    return str(value)
