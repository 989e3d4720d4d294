"""The configuration reference: every key of both files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum

import msgspec

from relayx.config.convert import Key, section_keys, sections
from relayx.config.diff import Applies, applies
from relayx.config.durations import format_duration
from relayx.config.keys import UNBOUNDED, Section
from relayx.config.model import ClientPolicy, Secrets

from . import rst

_IVAR = re.compile(r"^\s*:ivar (\w+): (.*)$", re.MULTILINE)
_SECTION = re.compile(r"Section ``[\w.]+``[:.] ?")


def configuration() -> str:
    """Every key of the configuration file."""
    found = [line for name, kind in sections().items() for line in _section(name, kind, name)]
    return "\n".join([*found, *_section("clients", ClientPolicy, "clients[]")])


def secrets() -> str:
    """Every key of the secret file."""
    meanings = dict(_IVAR.findall(Secrets.__doc__ or ""))
    found: list[str] = []
    for field in msgspec.structs.fields(Secrets):
        default = "" if field.required else rst.literal(field.default)
        found += _value(field.name, "a text", default, meanings[field.name])
    return "\n".join(found)


_RELOADED = {
    Applies.NOW: "",
    Applies.NEW_CONNECTIONS: " A reload changes it for new connections.",
    Applies.NEW_SESSIONS: " A reload changes it for new sessions.",
    Applies.RESTART: " To change it takes a restart.",
}


def _section(name: str, section: type[Section], above: str) -> Iterator[str]:
    yield from rst.heading(rst.verbatim(name), f"config-{name.replace('.', '-')}")
    if subject := _SECTION.sub("", rst.docstring(section.__doc__)):
        yield from (rst.sentence(subject), "")
    for key in section_keys(section, above).values():
        meaning = rst.sentence(key.meta.description or "") + _RELOADED[applies(key.name)]
        yield from _value(key.name, _allowed(key), _default(key), meaning)
        if key.entry is not None:
            for inner in section_keys(key.entry, f"{key.name}[]").values():
                about = rst.sentence(inner.meta.description or "")
                yield from _value(inner.name, _allowed(inner), _default(inner), about)


def _value(name: str, allowed: str, default: str, meaning: str) -> Iterator[str]:
    yield from (f".. confval:: {name}", f"   :type: {rst.escaped(allowed)}")
    if default:
        yield f"   :default: {default}"
    yield from ("", f"   {rst.escaped(rst.sentence(meaning))}", "")


def _allowed(key: Key) -> str:
    return f"an integer, {key.meta.ge} or more" if key.meta.le in UNBOUNDED else key.allowed


def _default(key: Key) -> str:
    if key.default is msgspec.NODEFAULT:
        return ""
    if key.default is None:
        return "absent"
    if key.is_duration:
        return rst.verbatim(format_duration(key.default))
    return (
        rst.verbatim(key.default) if isinstance(key.default, StrEnum) else rst.literal(key.default)
    )
