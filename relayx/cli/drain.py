"""``relayx drain``: have a gateway take nobody new, by the admin API."""

from __future__ import annotations

from typing import Any

import click

from relayx.admin.model import Draining
from relayx.cli.admin import Admin, AdminClient, admin_options
from relayx.cli.running import run


@click.command()
@admin_options
def command(admin: Admin) -> None:
    """Have the gateway take nobody new; it ends when its sessions have, as on SIGTERM."""
    run(lambda reactor: _drain(reactor, admin))


async def _drain(reactor: Any, admin: Admin) -> None:
    client = AdminClient(reactor, admin)
    try:
        told = await client.ask("POST", "/api/v1/drain", Draining)
    finally:
        await client.close()
    run_on = "1 session still runs" if told.sessions == 1 else f"{told.sessions} sessions still run"
    click.echo(f"draining; {run_on}")
