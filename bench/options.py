"""What options mean: names out of a list, and variants of the gateway."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from bench.peers.gateway import Gateway


def choose(text: str, known: Sequence[str], option: str) -> list[int]:
    """Indices of the names in `text`, a comma between them, in the order of `known`."""
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise click.UsageError(f"{option}: {unknown[0]} is none of {', '.join(known)}")
    return [i for i, name in enumerate(known) if not wanted or name in wanted]


def key_value(text: str, option: str) -> tuple[str, str]:
    """Both sides of the first "="."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise click.UsageError(f"{option}: {text} is not KEY=VALUE")
    return key.strip(), value.strip()


def gateways_of(
    reactor: str, data: Sequence[str], variants: Sequence[str], profiles: Path | None = None
) -> list[Gateway]:
    """The gateway, and its variants, whose keys come on top of its own."""
    own = dict(key_value(text, "--data") for text in data)
    made = [Gateway("relayx", own, reactor, profiles=profiles)]
    for text in variants:
        name, _, keys = text.partition(":")
        told = dict(key_value(pair, "--variant") for pair in keys.split(",") if pair)
        chosen, path = told.pop("reactor", reactor), told.pop("path", "")
        made.append(Gateway(f"relayx-{name}", own | told, chosen, path, profiles))
    return made
