"""The texts of ``configs/`` and of ``relayx init``, made from the model.

Kinds are named as ``RELAY_ENV`` names environments, and "" is the one without it.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal, get_origin

import msgspec

from relayx.config.convert import Key, section_keys, sections
from relayx.config.durations import format_duration
from relayx.config.keys import MIB, UNBOUNDED, Section
from relayx.config.model import Config, Level, Log, Relay

_PORTS = Relay(srt_start_port=30000, srt_end_port=30100, zmq_start_port=30101, zmq_end_port=30200)
_WIDTH = 96
_PLAIN = re.compile(r"[a-z0-9][a-z0-9:=./-]*")


def _relay(**changed: Any) -> Relay:
    return msgspec.structs.replace(_PORTS, **changed)


CONFIGS: Mapping[str, Config] = MappingProxyType(
    {
        "": Config(relay=_PORTS),
        "dev": Config(
            relay=_relay(srt_end_port=30020, zmq_end_port=30120), log=Log(level=Level.DEBUG)
        ),
        "test": Config(
            relay=_relay(max_fe=200, max_be=200, ring_buffer_size=64 * MIB, reaper_timeout=5.0)
        ),
        "prod": Config(
            relay=_relay(max_fe=1000, max_be=2000, ring_buffer_size=128 * MIB, reaper_timeout=30.0),
            log=Log(level=Level.WARN),
        ),
    }
)
"""The guide's values, section 1.3, by kind."""

_CLIENTS = (
    "# what holds for clients by their ids: the first entry that matches; see SECURITY.rst",
    "# - match: cam-*            # pattern of client_id, with * and ?",
    '#   secret_hash: ""         # their own secret, as relayx secret hash prints it',
    "#   roles: [BE]",
    "#   protocols: [srt]",
    "#   max_leases: 4",
    "#   bandwidth: 20M          # bits/s over all sessions of each",
    "clients: []",
)

PLACEHOLDER_KEY = "-----BEGIN PUBLIC KEY-----\nREPLACE_ME\n-----END PUBLIC KEY-----"
"""Stands where a public key belongs; see :func:`relayx.config.secretfile.is_placeholder`."""


def config_text(kind: str) -> str:
    """A configuration file with every key, a comment each.

    :param kind: "", "dev", "test" or "prod".
    """
    config = CONFIGS[kind]
    of_kind = f"RELAY_ENV={kind}" if kind else "every key with its default, and ports to start from"
    lines = [
        f"# Configuration of the relayx gateway: {of_kind}.",
        "# Durations are Go style, such as 500ms, 2s or 1m30s. 'relayx check' checks this file.",
    ]
    for name, section in sections().items():
        above, _, bare_name = name.rpartition(".")
        indent = "  " * name.count(".")
        lines.append(f"{indent}# {_subject(section)}" if above else "")
        lines.append(f"{indent}{bare_name}:")
        values = getattr(getattr(config, above), bare_name) if above else getattr(config, name)
        for bare, key in section_keys(section).items():
            lines += [indent + line for line in _comment(key)]
            lines.append(f"{indent}  {bare}: {_scalar(key, getattr(values, bare))}")
    lines += ["", *_CLIENTS]
    return "\n".join(lines) + "\n"


def secrets_text(auth_secret: str, admin_token: str, relay_public_key: str = "") -> str:
    """A secret file."""
    keys = {
        "relay_public_key": relay_public_key,
        "auth_secret": auth_secret,
        "admin_token": admin_token,
    }
    return json.dumps(keys, indent=2) + "\n"


def secrets_example(kind: str) -> str:
    """A secret file with placeholders, which no gateway takes in prod."""
    name = kind or "local"
    return secrets_text(
        f"{name}_secret_replace_me", f"{name}_admin_token_replace_me", PLACEHOLDER_KEY
    )


def _subject(section: type[Section]) -> str:
    """What a section is about, as its docstring says behind its name."""
    text = (section.__doc__ or "").splitlines()[0]
    return text.partition(": ")[2].rstrip(".")


def _comment(key: Key) -> list[str]:
    text = key.meta.description or ""
    low, high = key.meta.ge, key.meta.le
    if isinstance(key.default, StrEnum) or get_origin(key.type) is Literal:
        text += f": {key.allowed}"
    elif low is not None and high is not None:
        if high in UNBOUNDED:
            text += f" ({low} or more)"
        elif not key.is_duration:
            text += f" ({low} to {high})"
        elif low:
            text += f" ({format_duration(low)} to {format_duration(high)})"
    lines = textwrap.wrap(text, _WIDTH, break_on_hyphens=False)
    return [f"  # {line}" for line in lines]


def _scalar(key: Key, value: Any) -> str:
    if key.is_duration:
        return format_duration(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and _PLAIN.fullmatch(value):
        return str(value)
    return json.dumps(value)
