"""``relayx reload``: have a gateway read its configuration again, by the admin API."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from relayx.admin.model import Reload
from relayx.cli.admin import Admin, AdminClient, admin_options
from relayx.cli.running import DONE, FAILED, run
from relayx.logs import clean


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
        told = await client.ask("POST", path, Reload)
    finally:
        await client.close()
    click.echo(msgspec.json.encode(told).decode() if as_json else "\n".join(lines(told)))
    return FAILED if told.problems else DONE


def lines(told: Reload) -> list[str]:
    """A report for a person: a line a thing that there is something to say about."""
    found = [clean(f"{c.key}: {c.old} -> {c.new} ({c.applies})") for c in told.changes]
    for text, ports in (("added", told.ports_added), ("removed", told.ports_removed)):
        if ports:
            found.append(f"ports {text}: {', '.join(map(str, ports))}")
    for text, names in (
        ("sessions on removed ports, which go on", told.sessions),
        ("leases on removed ports, which end", told.leases),
        ("clients that it touches", told.clients),
    ):
        if names:
            found.append(clean(f"{text}: {', '.join(names)}"))
    if told.waiting:
        found.append(f"waiting connections on removed ports, closed: {told.waiting}")
    if not found:
        found.append("nothing is different")
    found += [clean(f"refused: {problem}") for problem in told.problems]
    found.append(
        f"configuration revision {told.revision} is in force"
        if told.applied
        else "nothing was changed"
    )
    return found
