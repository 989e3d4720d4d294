"""``relayx secret``: change the secret that clients register with, and hash one (section 1)."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from relayx.cli.init import SECRET_BYTES
from relayx.cli.running import Failed, reason
from relayx.cli.sources import env_file_option
from relayx.config.faults import ConfigError
from relayx.config.load import locate
from relayx.config.secretrotation import retire_secret, rotate_secret
from relayx.security import secrethash

MOST_BYTES = 4096
"""Of a secret on standard input."""


@click.group()
def command() -> None:
    """Change the secret that clients register with, or hash one for the configuration."""


@command.command()
@env_file_option
@click.option(
    "--discard-previous",
    is_flag=True,
    help="Even where the last rotation's secret is still accepted; clients with it are locked out.",
)
def rotate(env_file: str | None, discard_previous: bool) -> None:
    """Put a new random secret in the secret file; the old one is accepted as the previous.

    Give the new secret to every client, then end with 'relayx secret retire'.
    """
    path = _secret_file(env_file)
    with _told():
        rotate_secret(path, secrets.token_urlsafe(SECRET_BYTES), discard=discard_previous)
    click.echo(f"wrote {path}: a new auth_secret, the old one as auth_secret_previous")
    click.echo("once the gateway and every client have it: relayx secret retire")


@command.command()
@env_file_option
def retire(env_file: str | None) -> None:
    """Remove the previous secret from the secret file."""
    path = _secret_file(env_file)
    with _told():
        had = retire_secret(path)
    click.echo(f"wrote {path}: no previous secret" if had else f"{path} has no previous secret")


@command.command("hash")
def hash_secret() -> None:
    """Hash a secret for 'clients:' in the configuration.

    Asks for it without showing it, or reads it from standard input where that is no terminal.
    """
    try:
        click.echo(str(secrethash.make(_read_secret())))
    except ValueError as error:
        raise Failed(str(error)) from None


def _read_secret() -> str:
    if sys.stdin.isatty():
        asked: str = click.prompt("Secret", hide_input=True, confirmation_prompt=True, err=True)
        return asked
    data = sys.stdin.buffer.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise Failed(f"the secret is longer than {MOST_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Failed("the secret is no text in UTF-8") from None
    return text.removesuffix("\n").removesuffix("\r")


def _secret_file(env_file: str | None) -> str:
    try:
        return locate(os.environ, None, env_file).secrets
    except ConfigError as error:
        raise Failed(str(error)) from None


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        raise Failed(f"nothing was changed: {error}") from None
    except (OSError, ValueError) as error:
        raise Failed(f"nothing was changed: {reason(error)}") from None
