"""``relayx init``: a configuration and a secret file to start from."""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Mapping

import click

from relayx.cli.running import reason
from relayx.cli.sources import source_options
from relayx.config.faults import ConfigError
from relayx.config.load import locate
from relayx.config.template import config_text, secrets_text
from relayx.security.durable import naming

SECRET_BYTES = 32
"""Random bytes of a new secret; its text is longer than the 32 bytes that prod asks for."""

CONFIG_MODE = 0o644
SECRET_MODE = 0o600


@click.command()
@source_options
@click.option(
    "--secret-only", is_flag=True, help="Write the secret file alone, to a configuration there is."
)
def command(config: str | None, env_file: str | None, secret_only: bool) -> None:
    """Write a configuration and a secret file to start from.

    The configuration has every key with a comment, and the values for RELAY_ENV where that is
    set. The secret is random and its file for its owner alone. Where either file exists,
    nothing is written and the exit status is 1.
    """
    try:
        sources = locate(os.environ, config, env_file)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    text = config_text(os.environ.get("RELAY_ENV", ""))
    files = {} if secret_only else {sources.config: (CONFIG_MODE, text)}
    if sources.secrets in files:
        raise click.UsageError("the configuration and the secrets are two files")
    secret, token = (secrets.token_urlsafe(SECRET_BYTES) for _ in range(2))
    files[sources.secrets] = (SECRET_MODE, secrets_text(secret, token))
    existing = [path for path in files if os.path.lexists(path)]
    if existing:
        also = "s" if len(existing) == 1 else ""
        advice = "" if sources.secrets in existing else "; 'relayx init --secret-only' keeps it"
        raise click.ClickException(
            f"{' and '.join(existing)} exist{also}, so nothing was written{advice}"
        )
    try:
        write_all(files)
    except (OSError, ValueError) as error:  # ValueError: a NUL in a path
        raise click.ClickException(f"nothing was written: {reason(error)}") from None
    for path in files:
        click.echo(f"wrote {path}")
    names = shlex.join(["-c", sources.config, "--env-file", sources.secrets])
    click.echo(f"check them: relayx check {names}")
    click.echo(f"start the gateway: twistd -n relayx {names}")


def write_all(files: Mapping[str, tuple[int, str]]) -> None:
    """Write new files of a mode and a text each, all of them or none.

    Each has its mode from its first byte on, and a name that is taken in the meantime, be it
    by a link that leads nowhere, is refused.

    :raises OSError: where one cannot be made; those made before it are gone again.
    """
    made: list[str] = []
    try:
        for path, (mode, text) in files.items():
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            made.append(path)
            with naming(path), open(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
    except BaseException:
        for path in made:
            os.unlink(path)
        raise
