"""``relayx check``: everything wrong with the two files, and what they ask of the machine."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable

import click
from rich.console import Console
from rich.text import Text

from relayx.cli.sources import source_options
from relayx.config.faults import ConfigError, Fault
from relayx.config.limits import descriptor_line, memory_line
from relayx.config.listeners import opened_line
from relayx.config.load import Loaded, load, locate


@click.command()
@source_options
def command(config: str | None, env_file: str | None) -> None:
    """Say everything that is wrong with the configuration.

    Prints every fault with its file, key and value, then what is allowed but unwise, then how
    many descriptors and how much memory the gateway may need, and which ports a firewall has to
    let through. Exit status 1 where there is a
    fault.
    """
    console = Console(highlight=False)
    try:
        loaded = load(locate(os.environ, config, env_file))
    except ConfigError as error:
        _print(console, "fault", "bold red", error.faults)
        _print(console, "warning", "yellow", error.warnings)
        count = len(error.faults)
        _line(console, f"{count} fault{'' if count == 1 else 's'}; the gateway would not start")
        raise click.exceptions.Exit(1) from None
    _print(console, "warning", "yellow", loaded.warnings)
    _summary(console, loaded)


def _summary(console: Console, loaded: Loaded) -> None:
    soft, hard = (
        "no" if limit == resource.RLIM_INFINITY else str(limit)
        for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    sources = loaded.sources
    _line(console, f"{descriptor_line(loaded.config)}; soft limit {soft}, hard limit {hard}")
    _line(console, memory_line(loaded.config))
    _line(console, opened_line(loaded.config))
    _line(console, f"{sources.config} and {sources.secrets} are valid for {sources.environment}")


def _print(console: Console, label: str, style: str, faults: Iterable[Fault]) -> None:
    for fault in faults:
        _line(console, Text.assemble((f"{label}: ", style), str(fault)))


def _line(console: Console, text: str | Text) -> None:
    console.print(text, markup=False, soft_wrap=True)
