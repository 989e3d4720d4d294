"""``relayx firewall``: rules that let through what the gateway needs, and nothing else."""

from __future__ import annotations

import os

import click

from relayx.cli.firewallrules import FORMATS, Whitelist
from relayx.cli.sources import source_options
from relayx.cli.sshports import SSHD_CONFIG, ssh_ports
from relayx.config.faults import ConfigError
from relayx.config.listeners import listeners
from relayx.config.load import load, locate


@click.command()
@source_options
@click.option(
    "--format",
    "how",
    type=click.Choice(list(FORMATS)),
    default="nft",
    show_default=True,
    help="nft: for nft -f; iptables: for iptables-restore and ip6tables-restore, with --noflush.",
)
@click.option(
    "--ssh-port",
    type=click.IntRange(1, 65535),
    multiple=True,
    help="Keep this port open for SSH; may be given more than once."
    f" Otherwise those of {SSHD_CONFIG}, or 22.",
)
def command(config: str | None, env_file: str | None, how: str, ssh_port: tuple[int, ...]) -> None:
    """Print firewall rules for the configuration in force; nothing is changed.

    Let through: the control endpoints and the data ports, the HTTP endpoint where it is not on
    loopback, SSH, loopback, ICMP, and answers to what this machine asked. The rest is dropped.
    """
    try:
        loaded = load(locate(os.environ, config, env_file))
    except ConfigError as error:
        raise click.ClickException(
            "the configuration is not valid\n" + "\n".join(map(str, error.faults))
        ) from None
    ssh = list(ssh_port) or ssh_ports(SSHD_CONFIG, os.environ)
    whitelist = Whitelist(loaded.sources.config, ssh, listeners(loaded.config))
    click.echo(FORMATS[how](whitelist), nl=False)
