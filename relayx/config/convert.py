"""One key at a time from what a file holds to what the model says, so that all faults show."""

from __future__ import annotations

from difflib import get_close_matches
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from relayx.config.durations import EXAMPLES, DurationError, format_duration, parse_duration
from relayx.config.faults import Fault, plain, shown
from relayx.config.keys import CREDENTIAL, DURATION, RATE, Section
from relayx.config.model import Config, Secrets
from relayx.config.rates import RateError, parse_rate


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
    def is_rate(self) -> bool:
        """Whether its text may be a number with k, M or G."""
        return (self.meta.extra or {}).get("kind") == RATE

    @property
    def is_credential(self) -> bool:
        """Whether its value is never shown."""
        return (self.meta.extra or {}).get("kind") == CREDENTIAL

    @property
    def entry(self) -> type[Section] | None:
        """The type of the entries of a list of mappings, None where it is none."""
        return self.item if _is_section(self.item) else None

    @property
    def item(self) -> Any:
        """The type of the items of a list, None where it is no list."""
        return get_args(self.type)[0] if get_origin(self.type) is tuple else None

    @property
    def allowed(self) -> str:
        """What its values may be, in words."""
        low, high = self.meta.ge, self.meta.le
        if self.is_rate:
            return "a number of bits/s such as 500k, 20M or 1.5G, or 0 for no limit"
        if low is not None and high is not None:
            if self.is_duration:
                return f"{EXAMPLES}, from {format_duration(low)} to {format_duration(high)}"
            return f"an integer from {low} to {high}"
        if get_origin(self.type) is Literal:
            return " | ".join(map(str, get_args(self.type)))
        if self.entry is not None:
            return "a list of mappings"
        if _is_enum(self.type):
            return " | ".join(self.type)
        if self.item is not None:
            enumerated = issubclass(self.item, StrEnum)
            return f"a list of {' | '.join(self.item) if enumerated else 'texts'}"
        return "true | false" if self.type is bool else "a text"


def section_keys(section: type[Section], above: str = "") -> dict[str, Key]:
    """The keys of a section by their bare name, in the order of the file.

    :param above: what stands before the names; found out for a section of :func:`sections`.
    """
    above = above or next(name for name, kind in sections().items() if kind is section)
    found = {}
    for field in _fields(section):
        if _is_section(field.type):
            continue
        # An optional key is a union of what it is and None.
        described = field.type if get_origin(field.type) is Annotated else get_args(field.type)[0]
        bare, meta = get_args(described)
        found[field.name] = Key(f"{above}.{field.name}", bare, meta, field.default)
    return found


def nested_sections(section: type[Section]) -> dict[str, type[Section]]:
    """The sections right inside of a section, by their bare name."""
    return {field.name: field.type for field in _fields(section) if _is_section(field.type)}


def sections() -> dict[str, type[Section]]:
    """The sections of the file by dotted name, in its order, a nested one after its outer one."""
    found: dict[str, type[Section]] = {}
    for field in _fields(Config):
        if _is_section(field.type):
            found[field.name] = field.type
            for name, inner in nested_sections(field.type).items():
                found[f"{field.name}.{name}"] = inner
    return found


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """The fields of a type. To find out is slow, and a reload must not hold sessions up."""
    return msgspec.structs.fields(kind)


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def convert(file: str, key: Key, value: object) -> tuple[Any, list[Fault]]:
    """The value for the model, or the default and what is wrong with what the file has."""
    if value is None and key.default is None:
        return None, []
    if key.item is not None and isinstance(value, list):
        return _convert_list(file, key, value)
    try:
        return msgspec.convert(_plain(key, value), Annotated[key.type, key.meta]), []
    except (DurationError, RateError) as error:
        problem = str(error)
    except (msgspec.ValidationError, UnicodeEncodeError):  # the latter: half a surrogate pair
        problem = _problem(key, value)
    told = "" if key.is_credential else shown(value)
    return key.default, [Fault(file, key.name, told, problem, key.allowed)]


def _convert_list(file: str, key: Key, value: list[object]) -> tuple[Any, list[Fault]]:
    found, faults = [], []
    for index, item in enumerate(value):
        try:
            found.append(msgspec.convert(item, key.item))
        except (msgspec.ValidationError, UnicodeEncodeError):
            name, problem = f"{key.name}[{index}]", "is not a text"
            if issubclass(key.item, StrEnum):
                problem = f"is none of {' | '.join(key.item)}"
            faults.append(Fault(file, name, shown(item), problem))
    return (key.default, faults) if faults else (tuple(found), [])


_NULL = "null"
"""What YAML takes for nothing, and a key may have as one of its values."""

_BOOLEANS = {"yes": True, "on": True, "no": False, "off": False}


def _plain(key: Key, value: object) -> object:
    """What stands in the file as msgspec takes it."""
    if key.is_duration:
        return _seconds(value)
    if key.is_rate and isinstance(value, str):
        return parse_rate(value)
    if key.type is bool and isinstance(value, str):
        return _BOOLEANS.get(value, value)
    if value is None and _is_enum(key.type) and _NULL in list(key.type):
        return _NULL
    return value


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, StrEnum)


def _seconds(value: object) -> object:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return parse_duration(str(value))  # says that a unit is needed, or takes a bare 0
    raise DurationError("is not a duration")


def _problem(key: Key, value: object) -> str:
    if value is None:
        return "is empty"
    if isinstance(value, str) and (isinstance(key.default, str) or _is_enum(key.type)):
        return "is none of its values"
    if get_origin(key.type) is Literal and type(value) is int:
        return "is none of its values"
    if key.is_duration or (isinstance(value, int) and not isinstance(value, bool)):
        return "is out of range" if key.meta.ge is not None else "is of the wrong type"
    return "is of the wrong type"


_SECRETS = Secrets.__struct_fields__


def unknown(file: str, name: object, section: str, known: dict[str, list[str]]) -> Fault:
    """The fault for a key that there is not, naming the nearest that there is.

    :param section: the section that `name` stands in, "" for the top level.
    :param known: the bare keys of each section; under "" those of the top level.
    """
    bare = str(name) if isinstance(name, str) else shown(name)
    secret = next((s for s in _SECRETS if s in (bare, f"{section}_{bare}")), None)
    if secret and secret not in known[section]:
        problem = f"is not a known key; it is {secret} of the secret file (--env-file)"
        return Fault(file, _dotted(section, plain(name)), "", problem)
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
