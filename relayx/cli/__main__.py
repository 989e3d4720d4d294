"""``relayx``: a group of sub-commands, each in a module that is imported when it is run.

A module ``relayx/cli/<name>.py`` has a click command named ``command``. Its one line of help
stands here, so that ``relayx --help`` imports none of them. Exit status: 0 done, 1 refused or
failed, 2 wrong use (contract section 1).
"""

from __future__ import annotations

import importlib
import importlib.util

import click

from relayx import __version__

COMMANDS = {
    "init": "Write a configuration and a secret file to start from.",
    "check": "Say everything that is wrong with the configuration.",
    "firewall": "Print firewall rules for the configuration.",
    "systemd": "Print systemd units for the configuration.",
    "keys": "Make, list, rotate and check the keys that sign messages.",
    "secret": "Change the secret that clients register with, or hash one.",
    "demo": "Start a gateway and send a file through it both ways.",
    "be": "Be a back end: forward, run a command or echo.",
    "fe": "Be a front end: a local port that leads to a back end.",
    "send": "Send one FILE, or standard input ('-'), to a back end.",
    "recv": "Wait as a back end for what somebody sends.",
    "doctor": "Find out why a gateway cannot be used from here.",
    "ping": "Measure the way to the gateway and back.",
    "status": "Show the ports of the gateway.",
    "top": "Watch clients, ports, sessions and throughput in a terminal.",
    "reload": "Have the gateway read its configuration again.",
    "drain": "Have the gateway take nobody new, and end with its sessions.",
    "schema": "Print the JSON Schema of the messages.",
}
"""Every sub-command, in the order of the help, with its line in it."""


class Commands(click.Group):
    """A group whose sub-commands are the modules of this package that exist."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if importlib.util.find_spec(_module(name))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(_module(cmd_name)).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


def _module(name: str) -> str:
    return f"relayx.cli.{name}"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="relayx")
def cli() -> None:
    """Gateway for services and clients that can only dial out."""


def main() -> None:
    """Run the command line of this process, and end it."""
    cli.main(prog_name="relayx")


if __name__ == "__main__":
    main()
