"""``relayx keys``: the keys that sign control messages (contract section 1, guide section 3)."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console
from rich.table import Table
from rich.text import Text

from relayx.cli.running import Failed, reason
from relayx.config.faults import ConfigError
from relayx.config.load import Environment, locate
from relayx.security import keyring
from relayx.security.errors import KeyFileError
from relayx.security.keycheck import check_directory
from relayx.security.keydir import KeyRow, KeyState, open_directory
from relayx.security.keys import KID_ALLOWED, KeyType, is_kid
from relayx.security.times import DAY, utc

DEFAULT_DIRECTORY, PROD_DIRECTORY = "keys", "/etc/relay-x/keys"
DEFAULT_DAYS = 180
MOST_DAYS = 3650
CURVE = "curve"
"""Beside the kinds of keys that sign."""

Command = Callable[..., Any]


def kid_name(text: str) -> str:
    """The name of a key."""
    if not is_kid(text):
        raise click.BadParameter(f"{text!r} cannot name a key; allowed: {KID_ALLOWED}")
    return text


def default_directory() -> str:
    """Where the keys are unless ``--dir`` says it.

    :raises Failed: where ``RELAY_ENV`` is not one of the three.
    """
    try:
        prod = locate(os.environ).environment is Environment.PROD
    except ConfigError as error:
        raise Failed(str(error)) from None
    return PROD_DIRECTORY if prod else DEFAULT_DIRECTORY


directory_option = click.option(
    "--dir",
    "path",
    metavar="PATH",
    default=default_directory,
    show_default=f"{DEFAULT_DIRECTORY}, with RELAY_ENV=prod {PROD_DIRECTORY}",
    help="Directory of the keys.",
)
_kid_option = click.option(
    "--kid",
    type=kid_name,
    metavar="NAME",
    help="Name of the key; of type, date and chance by default.",
)
_type_option = click.option(
    "--type",
    "kind",
    type=click.Choice([str(kind) for kind in KeyType]),
    default=str(KeyType.P256),
    show_default=True,
    help="Kind of the new key.",
)
_days_option = click.option(
    "--days",
    type=click.IntRange(1, MOST_DAYS),
    default=DEFAULT_DAYS,
    show_default=True,
    help="Until the new key expires.",
)


@click.group()
def command() -> None:
    """Make, list, rotate and check the keys that sign control messages, and ZeroMQ's.

    The gateway signs with the current key of a directory. Who verifies takes the current and
    the previous one, and needs a copy of the .pub files and of manifest.json, or of the .pub
    files alone.
    """


@command.command()
@directory_option
@click.option(
    "--type",
    "kind",
    type=click.Choice([*map(str, KeyType), CURVE]),
    default=str(KeyType.P256),
    show_default=True,
    help=f"Kind of the new key; {CURVE}: for ZeroMQ, signs nothing and never expires.",
)
@_kid_option
@_days_option
@click.pass_context
def generate(context: click.Context, path: str, kind: str, kid: str | None, days: int) -> None:
    """Make a key.

    In a directory without one it is the current key. Otherwise it is a spare one, which can be
    given to those who verify before 'relayx keys rotate --to' makes it current.
    """
    if kind == CURVE:
        if context.get_parameter_source("days") is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"a key of type {CURVE} never expires: --days is for the others")
        with _told():
            made, public = keyring.add_curve(path, time.time(), kid or "")
        click.echo(f"made key {made}, {CURVE}, for ZeroMQ in {path}; its public half: {public}")
        return
    with _told():
        made, current = keyring.add_key(path, KeyType(kind), days, time.time(), kid or "")
    state = KeyState.CURRENT if current else KeyState.SPARE
    click.echo(f"made key {made}, {kind}, {days} days: the {state} key of {path}")
    if not current:
        click.echo(f"make it current: relayx keys rotate --dir {path} --to {made}")


@command.command()
@directory_option
@click.option("--to", type=kid_name, metavar="KID", help="Key that is there; a new one by default.")
@_type_option
@_kid_option
@_days_option
def rotate(path: str, to: str | None, kind: str, kid: str | None, days: int) -> None:
    """Make another key the current one; the one that was goes on verifying as the previous.

    '--to' the previous key undoes a rotation.
    """
    if to and kid:
        raise click.UsageError("--to names a key that is there, --kid a new one; not both")
    with _told():
        if to:
            keyring.rotate_to(path, to, time.time())
        else:
            to = keyring.rotate(path, KeyType(kind), days, time.time(), kid or "")
        manifest = open_directory(path).listed
    previous = manifest.previous if manifest else ""
    click.echo(f"key {to} is current, {previous or 'none'} is previous in {path}")


@command.command("list")
@directory_option
@click.option("--json", "as_json", is_flag=True, help="One JSON list, for machines.")
def list_keys(path: str, as_json: bool) -> None:
    """Show the keys of a directory and what each is there for."""
    with _told():
        rows = open_directory(path).rows()
    now = time.time()
    if as_json:
        click.echo(json.dumps([_as_json(row, now) for row in rows], indent=2))
    else:
        _print_table(path, rows, now)


@command.command()
@directory_option
def check(path: str) -> None:
    """Say everything that is wrong with the keys of a directory.

    Exit status 1 where there is a fault. A key that is about to expire is none: an alarm comes
    14, 7 and 1 days before.
    """
    found = check_directory(path, time.time())
    console = Console(highlight=False)
    _print(console, "fault", "bold red", found.faults)
    _print(console, "alarm", "yellow", found.alarms)
    _print(console, "warning", "yellow", found.warnings)
    if found.faults:
        count = len(found.faults)
        _line(console, f"{count} fault{'' if count == 1 else 's'} in {path}")
        raise click.exceptions.Exit(1)
    _line(console, f"the keys of {path} can be used")


@contextmanager
def _told() -> Iterator[None]:
    """Turn what may be wrong with a directory into one line and exit status 1."""
    try:
        yield
    except KeyFileError as error:
        raise Failed(str(error)) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise Failed(reason(error)) from None


def _days_left(row: KeyRow, now: float) -> int | None:
    """Days, begun ones counted; 0 or less where it has expired."""
    return None if row.expires is None else math.ceil((row.expires - now) / DAY)


def _as_json(row: KeyRow, now: float) -> dict[str, Any]:
    return {
        "kid": row.kid,
        "type": row.type,
        "state": str(row.state),
        "created": None if row.created is None else utc(row.created),
        "expires": None if row.expires is None else utc(row.expires),
        "days_left": _days_left(row, now),
    }


def _print_table(path: str, rows: list[KeyRow], now: float) -> None:
    console = Console(highlight=False)
    if not rows:
        _line(console, f"{path} holds no keys; 'relayx keys generate --dir {path}' makes one")
        return
    table = Table("kid", "type", "state", "created", "expires")
    table.add_column("days left", justify="right")
    for row in rows:
        days = _days_left(row, now)
        table.add_row(
            Text(row.kid),
            row.type or "unreadable",
            str(row.state),
            "" if row.created is None else utc(row.created),
            "never" if row.expires is None else utc(row.expires),
            "" if days is None else "expired" if days <= 0 else str(days),
        )
    # A pipe has no width that a table would have to keep to.
    console = console if console.is_terminal else Console(highlight=False, width=160)
    console.print(table)


def _print(console: Console, label: str, style: str, lines: Iterable[object]) -> None:
    for line in lines:
        _line(console, Text.assemble((f"{label}: ", style), str(line)))


def _line(console: Console, text: str | Text) -> None:
    console.print(text, markup=False, soft_wrap=True)
