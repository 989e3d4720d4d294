"""One key at a time from what a file holds to what the model says, so that all faults show."""

from __future__ import annotations

from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated, Any, get_args, get_origin

import msgspec
from msgspec import Meta

from relayx.config.durations import EXAMPLES, DurationError, format_duration, parse_duration
from relayx.config.faults import Fault, plain, shown
from relayx.config.model import DURATION, Config, Section


class Key(msgspec.Struct, frozen=True):
    """One key of the file: `name` dotted, `type` bare, `meta` with range and meaning.

    A `default` of None is that of a key which may be absent.
    """

    name: str
    type: Any
    meta: Meta
    default: Any

    @property
    def is_duration(self) -> bool:
        """Whether its text is a Go style duration."""
        return (self.meta.extra or {}).get("kind") == DURATION

    @property
    def allowed(self) -> str:
        """What its values may be, in words."""
        low, high = self.meta.ge, self.meta.le
        if low is not None and high is not None:
            if self.is_duration:
                return f"{EXAMPLES}, from {format_duration(low)} to {format_duration(high)}"
            return f"an integer from {low} to {high}"
        if isinstance(self.type, type) and issubclass(self.type, StrEnum):
            return " | ".join(self.type)
        return "a list of texts" if get_origin(self.type) is tuple else "a text"


def section_keys(section: type[Section]) -> dict[str, Key]:
    """The keys of a section by their bare name, in the order of the file."""
    above = next(f.name for f in msgspec.structs.fields(Config) if f.type is section)
    found = {}
    for field in msgspec.structs.fields(section):
        # An optional key is a union of what it is and None.
        described = field.type if get_origin(field.type) is Annotated else get_args(field.type)[0]
        bare, meta = get_args(described)
        found[field.name] = Key(f"{above}.{field.name}", bare, meta, field.default)
    return found


def sections() -> dict[str, type[Section]]:
    """The sections of the file by name, in its order."""
    return {field.name: field.type for field in msgspec.structs.fields(Config)}


def convert(file: str, key: Key, value: object) -> tuple[Any, list[Fault]]:
    """The value for the model, or the default and what is wrong with what the file has."""
    if value is None and key.default is None:
        return None, []
    if get_origin(key.type) is tuple and isinstance(value, list):
        faults = [
            Fault(file, f"{key.name}[{index}]", shown(item), "is not a text")
            for index, item in enumerate(value)
            if not isinstance(item, str)
        ]
        return (key.default, faults) if faults else (tuple(value), [])
    try:
        converted = _seconds(value) if key.is_duration else value
        return msgspec.convert(converted, Annotated[key.type, key.meta]), []
    except DurationError as error:
        problem = str(error)
    except (msgspec.ValidationError, UnicodeEncodeError):  # the latter: half a surrogate pair
        problem = _problem(key, value)
    return key.default, [Fault(file, key.name, shown(value), problem, key.allowed)]


def _seconds(value: object) -> object:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return parse_duration(str(value))  # says that a unit is needed, or takes a bare 0
    raise DurationError("is not a duration")


def _problem(key: Key, value: object) -> str:
    if value is None:
        return "is empty"
    if isinstance(value, str) and isinstance(key.default, str):
        return "is none of its values"
    if key.is_duration or (isinstance(value, int) and not isinstance(value, bool)):
        return "is out of range" if key.meta.ge is not None else "is of the wrong type"
    return "is of the wrong type"


def unknown(file: str, name: object, section: str, known: dict[str, list[str]]) -> Fault:
    """The fault for a key that there is not, naming the nearest that there is.

    :param section: the section that `name` stands in, "" for the top level.
    :param known: the bare keys of each section; under "" those of the top level.
    """
    bare = str(name) if isinstance(name, str) else shown(name)
    near = get_close_matches(bare, known[section], 1, 0.6)
    nearest = _dotted(section, near[0]) if near else ""
    if not near:
        by_name = {key: _dotted(above, key) for above, keys in known.items() for key in keys}
        near = get_close_matches(bare, by_name, 1, 0.6)
        fallback = get_close_matches(bare, known[section], 1, 0.0)[0]
        nearest = by_name[near[0]] if near else _dotted(section, fallback)
    return Fault(
        file, _dotted(section, plain(name)), "", f"is not a known key; the nearest is {nearest}"
    )


def _dotted(section: str, key: str) -> str:
    return f"{section}.{key}" if section else key
