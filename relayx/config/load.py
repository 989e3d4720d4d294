"""From files and environment to a configuration, or to everything wrong with it.

Contract section 1. :func:`locate` says which files, :func:`load` reads and checks both of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from relayx.config.convert import (
    Key,
    convert,
    nested_sections,
    section_keys,
    sections,
    unknown,
)
from relayx.config.faults import ConfigError, Fault, shown
from relayx.config.files import mapping, parse_yaml, read_text
from relayx.config.http import http_warnings
from relayx.config.keys import Section
from relayx.config.limits import Machine
from relayx.config.model import ClientPolicy, Config, Secrets
from relayx.config.rules import Checked, rule_faults, rule_warnings
from relayx.config.secretfile import read_secrets
from relayx.config.srtrules import passphrase_warnings

__all__ = ["ConfigError", "Environment", "Fault", "Loaded", "Sources", "load", "locate"]

DEFAULT_CONFIG = "configs/config.yaml"
DEFAULT_SECRETS = ".env.local.json"


class Environment(StrEnum):
    """What ``RELAY_ENV`` may say. `PROD` turns some warnings into faults."""

    DEV = "dev"
    TEST = "test"
    PROD = "prod"


class Sources(msgspec.Struct, frozen=True):
    """Which files, and for which environment. Paths are relative to the working directory."""

    environment: Environment
    config: str
    secrets: str


class Loaded(msgspec.Struct, frozen=True):
    """A configuration that may be used, what it is from, and what is unwise about it."""

    config: Config
    secrets: Secrets
    sources: Sources
    warnings: tuple[Fault, ...] = ()

    @classmethod
    def given(cls, config: Config, secrets: Secrets) -> Loaded:
        """What is from no file and is known to be right."""
        return cls(config, secrets, Sources(Environment.DEV, "the configuration", "the secrets"))


def locate(
    environ: Mapping[str, str], config: str | None = None, env_file: str | None = None
) -> Sources:
    """The files to read: a flag beats ``RELAY_CONFIG``, that beats ``RELAY_ENV``.

    An environment variable that is empty is as one that is not set.

    :param config: what the flag for the configuration file said, None where it was not given.
    :param env_file: likewise for the secret file.
    :raises ConfigError: where ``RELAY_ENV`` is not one of the three.
    """
    named = environ.get("RELAY_ENV", "")
    if named and named not in list(Environment):
        allowed = " | ".join(Environment)
        raise ConfigError(
            [Fault("environment", "RELAY_ENV", shown(named), "is no environment", allowed)]
        )
    by_environment = f"configs/config.{named}.yaml" if named else DEFAULT_CONFIG
    return Sources(
        environment=Environment(named) if named else Environment.DEV,
        config=config or environ.get("RELAY_CONFIG") or by_environment,
        secrets=env_file or (f".env.{named}.json" if named else DEFAULT_SECRETS),
    )


def load(sources: Sources, machine: Machine | None = None) -> Loaded:
    """Read and check both files.

    :param machine: what the configuration has to fit on; None: this one.
    :raises ConfigError: with every fault of both files.
    """
    machine = Machine.here() if machine is None else machine
    prod = sources.environment is Environment.PROD
    faults: list[Fault] = []
    warnings: list[Fault] = []
    config, secrets = Config(), Secrets("")
    try:
        values, wrong = _read_config(sources.config)
        faults += wrong
        config = _build(values)
        broken = frozenset(fault.key.partition("[")[0] for fault in wrong)
        checked = Checked(sources.config, config, broken, prod, machine)
        faults += rule_faults(checked)
        warnings += rule_warnings(checked)
    except ConfigError as error:
        faults += error.faults
    try:
        secrets, wrong, unwise = read_secrets(sources.secrets, prod=prod)
        faults += wrong
        warnings += unwise
    except ConfigError as error:
        faults += error.faults
    if faults:
        raise ConfigError(faults, warnings)
    warnings += http_warnings(sources.config, config, secrets)
    warnings += passphrase_warnings(sources.config, config.srt, secrets.srt_passphrase)
    return Loaded(config, secrets, sources, tuple(warnings))


def _read_config(path: str) -> tuple[dict[str, Any], list[Fault]]:
    """The values of each section that a file has, and what is wrong with the others.

    Under "clients" is a list: the values of each of its entries.
    """
    text, _ = read_text(path, "--config")
    document, faults = parse_yaml(path, text)
    top, wrong = mapping(path, "", document)
    faults += wrong
    keys = {name: section_keys(section) for name, section in sections().items()}
    known = {"": [name for name in keys if "." not in name] + ["clients"]}
    for name, section in sections().items():
        known[name] = [*keys[name], *nested_sections(section)]
    faults += _unknown(path, top, "", known)
    values: dict[str, Any] = {}
    for name, section_of in keys.items():
        above, _, bare = name.rpartition(".")
        outer = top if not above else (top.get(above) or {})
        found, wrong = mapping(path, name, outer.get(bare) if isinstance(outer, dict) else None)
        faults += wrong
        values[name], wrong = _read_section(path, found, name, section_of, known)
        faults += wrong
    values["clients"], wrong = _read_clients(path, top.get("clients"), known)
    return values, faults + wrong


def _read_section(
    path: str,
    found: dict[object, object],
    name: str,
    keys: dict[str, Key],
    known: dict[str, list[str]],
) -> tuple[dict[str, Any], list[Fault]]:
    faults = _unknown(path, found, name, known)
    values: dict[str, Any] = {}
    for bare, key in keys.items():
        if bare not in found:
            continue
        value = found[bare]
        if key.entry is not None and isinstance(value, list):
            entries, wrong = _read_entries(path, key.name, value, key.entry, known)
            made = () if wrong else tuple(key.entry(**told) for told in entries)
            values[bare] = made
        else:
            values[bare], wrong = convert(path, key, value)
        faults += wrong
    return values, faults


def _read_entries(
    path: str, above: str, entries: list[object], kind: type[Section], known: dict[str, list[str]]
) -> tuple[list[dict[str, Any]], list[Fault]]:
    """The values of each entry of a list, NODEFAULT for what it needs and could not be read."""
    values: list[dict[str, Any]] = []
    faults: list[Fault] = []
    for index, entry in enumerate(entries):
        name = f"{above}[{index}]"
        keys = section_keys(kind, name)
        found, wrong = mapping(path, name, entry)
        faults += wrong
        needed = {bare: key for bare, key in keys.items() if key.default is msgspec.NODEFAULT}
        if not wrong:
            faults += [
                Fault(path, key.name, "", "is missing", key.allowed)
                for bare, key in needed.items()
                if bare not in found
            ]
        told, wrong = _read_section(path, found, name, keys, {**known, name: list(keys)})
        faults += wrong
        values.append({**dict.fromkeys(needed, msgspec.NODEFAULT), **told})
    return values, faults


def _read_clients(
    path: str, entries: object, known: dict[str, list[str]]
) -> tuple[list[dict[str, Any]], list[Fault]]:
    if entries is None:
        return [], []
    if not isinstance(entries, list):
        problem = "is not a list"
        return [], [Fault(path, "clients", shown(entries), problem, "a list of mappings")]
    values, faults = _read_entries(path, "clients", entries, ClientPolicy, known)
    for told in values:
        if told["match"] is msgspec.NODEFAULT:
            told["match"] = ""
    return values, faults


def _unknown(
    path: str, names: Iterable[object], section: str, known: dict[str, list[str]]
) -> list[Fault]:
    return [
        unknown(path, name, section, known)
        for name in names
        if not isinstance(name, str) or name not in known[section]
    ]


def _build(values: dict[str, Any]) -> Config:
    made: dict[str, Any] = {}
    for name, section in sections().items():
        if "." not in name:
            inner = {
                bare: kind(**values[f"{name}.{bare}"])
                for bare, kind in nested_sections(section).items()
            }
            made[name] = section(**values[name], **inner)
    clients = tuple(ClientPolicy(**told) for told in values["clients"])
    return Config(**made, clients=clients)
