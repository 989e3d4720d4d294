"""The protocol reference: messages, the lines of a data connection, codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from relayx import schema
from relayx.core.errors import Code
from relayx.core.messages import Cause

from . import rst

_NAMED = ((Code, ":ref:`error code <codes>`"), (Cause, ":ref:`cause <codes>`"))
"""Lists of values that are too long for a cell, with what stands there instead."""


def messages() -> str:
    """Every control message: who sends it, its fields, and its JSON Schema."""
    return _all(name for name in schema.names() if name not in schema.HELLO_LINES)


def lines() -> str:
    """The lines that open a data connection, likewise."""
    return _all(iter(schema.HELLO_LINES))


def envelope() -> str:
    """The fields that every control message has."""
    return "\n".join(_fields(schema.wire_schema()["$defs"]["envelope"]))


def codes() -> str:
    """The error codes, and the causes of a session's end."""
    return "\n".join(
        f"{title}: {', '.join(map(rst.verbatim, kind))}.\n"
        for title, kind in (("Error codes", Code), ("Causes of a session's end", Cause))
    )


def _all(names: Iterator[str]) -> str:
    return "\n".join(line for name in names for line in _message(name))


def _message(name: str) -> Iterator[str]:
    whole = schema.definition(name)
    yield from rst.heading(name, f"message-{name}")
    yield from (rst.escaped(whole["description"]), "")
    kind = schema.payload_type(name)
    yield from _fields(schema.payload_schema(kind)) if kind else ("The payload is a string.", "")
    yield from (".. raw:: html", "", f"   <details><summary>JSON Schema of {name}</summary>", "")
    yield from (".. code-block:: json", "")
    yield from rst.indented(json.dumps(whole, indent=2, ensure_ascii=False).splitlines())
    yield from ("", ".. raw:: html", "", "   </details>", "")


def _fields(payload: dict[str, Any]) -> Iterator[str]:
    rows = list(_rows(payload))
    return rst.table(("field", "type", "default", "meaning"), "22 26 12 40", rows)


def _rows(payload: dict[str, Any], of: str = "") -> Iterator[tuple[str, str, str, str]]:
    """A row a field; those of an object that stands in a field follow it, `of` being its name."""
    for name, field in payload["properties"].items():
        if name in payload["required"]:
            default = "required"
        else:
            default = "absent" if field.get("default") is None else rst.literal(field["default"])
        meaning = rst.escaped(field["description"])
        yield rst.verbatim(of + name), _type(field), default, meaning
        if "properties" in field:
            yield from _rows(field, f"{of}{name}.")


def _type(field: dict[str, Any]) -> str:
    """A field's type and limits in words."""
    if values := field.get("enum", [field["const"]] if "const" in field else []):
        for kind, name in _NAMED:
            if set(kind) <= set(values):
                return name
        return " or ".join(map(rst.literal, values))
    if "anyOf" in field:
        limits = {key: value for key, value in field.items() if key != "anyOf"}
        return " or ".join(_type(limits | each) for each in field["anyOf"])
    kind = field.get("type", "any")
    if kind == "array":
        return f"list of: {_type(field['items'])}"
    if kind == "object" and "properties" in field:
        return "object"
    if kind == "object":
        if "properties" in field:
            return f"object: {_inner(field)}"
        return f"object of objects: {_inner(field['additionalProperties'])}"
    least, most, longest = (field.get(key) for key in ("minimum", "maximum", "maxLength"))
    if most is not None:
        return f"{kind}, {least} to {most}"
    if least is not None:
        return f"{kind}, {least} or more"
    if kind == "string" and longest is not None:
        return f"{kind}, at most {longest} long"
    if kind == "string" and "pattern" in field:
        return f"{kind}, {rst.literal(field['pattern'])}"
    return str(kind)


def _inner(field: dict[str, Any]) -> str:
    """The fields of an object, in a cell."""
    fields = field["properties"].items()
    return ", ".join(f"{rst.verbatim(name)} {_type(each)}" for name, each in fields)
