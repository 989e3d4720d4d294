"""``relayx systemd``: the units of a gateway that systemd runs."""

from __future__ import annotations

import os
import sys

import click

from relayx.cli.sources import source_options
from relayx.cli.systemdunits import Paths, service_unit, socket_unit
from relayx.config.faults import ConfigError
from relayx.config.load import Environment, load, locate


@click.command()
@source_options
@click.option("--service", "which", flag_value="service", default="service", help="The default.")
@click.option("--sockets", "which", flag_value="sockets", help="Every port that clients dial.")
def command(config: str | None, env_file: str | None, which: str) -> None:
    """Print a systemd unit for the configuration in force; nothing is installed.

    relayx.service runs the gateway of this installation on these two files. relayx.socket has
    systemd listen for it, so that a restart refuses no connection.
    """
    try:
        loaded = load(locate(os.environ, config, env_file))
    except ConfigError as error:
        raise click.ClickException(
            "the configuration is not valid\n" + "\n".join(map(str, error.faults))
        ) from None
    sources = loaded.sources
    if which == "sockets":
        click.echo(socket_unit(sources.config, loaded.config), nl=False)
        return
    named = sources.environment if os.environ.get("RELAY_ENV") else ""
    paths = Paths(
        twistd=os.path.join(os.path.dirname(sys.executable), "twistd"),
        config=os.path.abspath(sources.config),
        secrets=os.path.abspath(sources.secrets),
        directory=os.getcwd(),
        environment=str(Environment(named)) if named else "",
    )
    click.echo(service_unit(paths, loaded.config), nl=False)
