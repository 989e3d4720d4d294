"""The options that name the two files, for the commands that read or write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from relayx.config.load import DEFAULT_CONFIG, DEFAULT_SECRETS

Command = Callable[..., Any]


def env_file_option(command: Command) -> Command:
    """Give a command ``--env-file``, as `env_file`; None where it is not given."""
    return click.option(
        "--env-file",
        metavar="PATH",
        help=f"Secret file; otherwise RELAY_ENV picks it, or it is {DEFAULT_SECRETS}.",
    )(command)


def source_options(command: Command) -> Command:
    """Give a command ``--config`` and ``--env-file``, as `config` and `env_file`."""
    return click.option(
        "-c",
        "--config",
        metavar="PATH",
        help="Configuration; otherwise RELAY_CONFIG names it, RELAY_ENV picks it,"
        f" or it is {DEFAULT_CONFIG}.",
    )(env_file_option(command))
