"""JSON Schema 2020-12 of what is on the wire, made from the types that read and write it.

The types say which fields there are, of what kind and with which default; the limits are those
that the rules check (contract sections 2, 3 and 6). A schema is narrower than a parser in one
way: it names every value that is allowed, also where a wrong one gets an answer instead of a
closed connection. Unknown fields are allowed throughout, since both sides ignore them.

Each definition says under ``x-direction`` who sends it, in the words of :class:`Direction`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any, get_args

import msgspec

from relayx.core.codec import MAX_CLIENT_ID, MAX_ID_BYTES, Envelope
from relayx.core.errors import Code
from relayx.core.hello import PREFIX, SERVICE, Hello, Paired, Refused, Waiting
from relayx.core.leasing import MAX_TTL
from relayx.core.messages import (
    PROTOCOL_VERSION,
    REPLIES,
    REQUESTS,
    Auth,
    Cause,
    Message,
    Pattern,
    PortAcquire,
    Protocol,
    Role,
    Side,
    Transport,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"
IDENTITY = f"urn:relayx:wire:{PROTOCOL_VERSION}"

Schema = dict[str, Any]


class Direction(StrEnum):
    """Who sends a message to whom."""

    REQUEST = "client -> gateway"
    REPLY = "gateway -> client"


LOG = "log"
"""The one message whose payload is no object, and which has no type of its own."""

HELLO_LINES: dict[str, type[msgspec.Struct]] = {
    PREFIX.decode().strip(): Hello,
    **{kind.WORD.decode(): kind for kind in (Waiting, Paired, Refused)},
}
"""The lines before a session's bytes, by their first word; a JSON object stands behind it."""

_ID: Schema = {"maxLength": MAX_ID_BYTES}
_CLIENT_ID: Schema = {"maxLength": MAX_CLIENT_ID, "pattern": r"^[^\u0000-\u001f\u007f]*$"}
_SERVICE: Schema = {"pattern": f"^{SERVICE.pattern}$"}
_PORT: Schema = {"minimum": 0, "maximum": 65535}
_COUNT: Schema = {"minimum": 0}
_LISTENS: Schema = {"minimum": 1, "maximum": 65535}
_PORTS: Schema = {"items": {"type": "integer", "minimum": 1, "maximum": 65535}}

_LIMITS: dict[str, Schema] = {
    **dict.fromkeys(("msg_id", "trace_id", "request_id", "instance", "session_id", "ticket"), _ID),
    **dict.fromkeys(("client_id", "be"), _CLIENT_ID),
    "service": _SERVICE,
    "services": {"propertyNames": _SERVICE},
    **{
        f"{protocol}_{name}": limit
        for protocol in Protocol
        for name, limit in {
            "port": _PORT, "start_port": _PORT, "end_port": _PORT, "total": _COUNT,
            "busy": _COUNT, "ready": _COUNT, "ready_ports": _PORTS, "empty_ports": _PORTS,
            "native_ready": _COUNT, "native_ready_ports": _PORTS,
        }.items()
    },
    "port": _PORT,
    "ttl_seconds": {"minimum": 0, "maximum": MAX_TTL},
    **dict.fromkeys(
        ("ts_ms", "expires_at", "c_send", "s_recv", "s_send", "current_speed", "seconds",
         "fe_to_be_bytes", "be_to_fe_bytes", "rtt_ms", "retransmitted", "dropped",
         "send_buffer_bytes", "send_buffer_ms", "send_rate_bps", "latency_ms"),
        _COUNT,
    ),
    "loss_percent": {"minimum": 0, "maximum": 100},
    "role": {"enum": list(Role)},
    "cause": {"enum": list(Cause)},
    "error_code": {"enum": list(Code)},
    "on_fe_close": {"enum": ["", "close", "keep"]},
    "proxy": {"enum": ["", "v2"]},
    "state": {"const": "ready"},
    "transport": {"enum": list(Transport)},
    "pattern": {"enum": list(Pattern)},
    "broker": {"enum": ["", *Pattern]},
    "side": {"enum": ["", *Side]},
    **dict.fromkeys(("frontend", "backend"), _LISTENS),
    **dict.fromkeys(("clients_frontend", "clients_backend"), _COUNT),
}  # fmt: skip
"""What a field is limited to, by its name, which means the same wherever it stands."""

_LIMITS_IN: dict[type[msgspec.Struct], dict[str, Schema]] = {
    Auth: {"status": {"enum": ["ok", "error"]}},
    REPLIES["session_end"]: {"protocol": {"enum": list(Protocol)}},
}
"""The same for fields whose names mean something in one type alone."""


def _has(**fields: object) -> Schema:
    return {
        "properties": {name: {"const": value} for name, value in fields.items()},
        "required": list(fields),
    }


_RULES: dict[type[msgspec.Struct], Schema] = {
    PortAcquire: {
        "anyOf": [
            _has(need_zmq=True),
            _has(need_srt=True),
            {"properties": {"broker": {"enum": list(Pattern)}}, "required": ["broker"]},
        ],
        "if": _has(transport="srt"),
        "then": _has(need_srt=True),
    },
    Hello: {
        "not": {
            "anyOf": [
                _has(role="BE", ack=True, on_fe_close="keep"),
                _has(role="FE", proxy="v2"),
            ]
        }
    },
}
"""What the fields of a type must be together."""

_SOURCE = re.compile(r"\s*\((?:contract|guide) sections? [^)]*\)")


def names() -> list[str]:
    """Everything that there is a schema of: messages, then the lines of a data connection."""
    return [*_kinds(), LOG, *HELLO_LINES]


def directions(name: str) -> list[Direction]:
    """Who sends a message or line."""
    if name in HELLO_LINES:
        return [Direction.REQUEST if HELLO_LINES[name] is Hello else Direction.REPLY]
    found = [Direction.REQUEST] if name in REQUESTS else []
    return [*found, Direction.REPLY] if name in REPLIES or name == LOG else found


def payload_type(name: str) -> type[msgspec.Struct] | None:
    """The type of a message's payload or of a line's object; None for ``log``, a string.

    :raises KeyError: where there is no such message.
    """
    return None if name == LOG else (HELLO_LINES | _kinds())[name]


def wire_schema() -> Schema:
    """The whole: valid is any one control message; under ``$defs`` stands one of each.

    ``from_client`` and ``from_gateway`` there are the messages of one direction. The lines of a
    data connection are there under their first words, and are not control messages.
    """
    messages = [name for name in names() if name not in HELLO_LINES]
    ways = {"from_client": Direction.REQUEST, "from_gateway": Direction.REPLY}
    definitions: Schema = {
        way: {
            "description": f"A control message, {direction}.",
            "oneOf": [_ref(name) for name in messages if direction in directions(name)],
        }
        for way, direction in ways.items()
    }
    definitions["envelope"] = _envelope()
    for name in names():
        definitions[name] = definition(name)
    return {
        "$schema": DIALECT,
        "$id": IDENTITY,
        "title": "relayx control plane",
        "description": "One JSON object of the control plane. Unknown fields are ignored.",
        "anyOf": [_ref(way) for way in ways],
        "$defs": definitions,
    }


def message_schema(name: str) -> Schema:
    """One message, or one line's object, with all that it needs.

    :raises KeyError: where there is no such message.
    """
    found = definition(name)
    head = {"$schema": DIALECT, "$id": f"{IDENTITY}:{name}"}
    return {**head, **found} if name in HELLO_LINES else {
        **head, **found, "$defs": {"envelope": _envelope()}
    }  # fmt: skip


def definition(name: str) -> Schema:
    """A message as it stands in ``$defs``; it needs ``envelope`` beside it.

    :raises KeyError: where there is no such message.
    """
    kind = payload_type(name)
    way: Schema = {"x-direction": [str(direction) for direction in directions(name)]}
    if kind is None:
        text = "gateway -> clients that log.stream names: one line of the gateway's log."
        return _message(name, {"description": text} | way, {"type": "string"}, required=True)
    payload = payload_schema(kind)
    about = {"description": payload.pop("description")} | way
    if name in HELLO_LINES:
        return {"title": name, **about, **payload}
    return _message(name, about, payload, required=bool(payload["required"]) or kind in _RULES)


def _message(name: str, about: Schema, payload: Schema, *, required: bool) -> Schema:
    """A whole message. A payload that needs no field may be null, or left out."""
    return {
        "title": name,
        **about,
        "$ref": "#/$defs/envelope",
        "properties": {
            "type": {"const": name},
            "payload": payload if required else {"anyOf": [payload, {"type": "null"}]},
        },
        "required": ["type", "payload"] if required else ["type"],
    }


def payload_schema(kind: type[msgspec.Struct]) -> Schema:
    """The schema of one type, with its limits, complete in itself."""
    (found,), components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    schema: Schema = _inlined(found, components)
    schema.pop("title", None)
    schema["description"] = described(kind)
    _limit(schema, kind)
    return {**schema, **_RULES.get(kind, {})}


def described(kind: type[msgspec.Struct]) -> str:
    """What a type is for: its docstring without the sections that it is from."""
    paragraphs = _SOURCE.sub("", kind.__doc__ or "").replace("``", "").replace("`", "")
    return " ".join(paragraphs.split())


def _inlined(schema: Any, components: Schema) -> Any:
    """A schema with every reference replaced by what it refers to; our types have no cycles."""
    if isinstance(schema, list):
        return [_inlined(item, components) for item in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: _inlined(value, components) for key, value in schema.items()}
    reference = inner.pop("$ref", None)
    if reference is None:
        return inner
    return {**_inlined(components[reference.rpartition("/")[2]], components), **inner}


def _limit(schema: Schema, kind: type[msgspec.Struct]) -> None:
    for name, field in schema["properties"].items():
        limit = _LIMITS_IN.get(kind, {}).get(name, _LIMITS.get(name))
        if limit is None:
            continue
        if field.get("default") == "" and "" not in limit.get("enum", [""]):
            limit = {"enum": ["", *limit["enum"]]}  # "" is what is left out
        field.update(limit)
        if name == "services":
            _limit_inner(field["additionalProperties"])
    if "link" in schema["properties"]:
        _limit_inner(schema["properties"]["link"])


def _limit_inner(schema: Schema) -> None:
    """Limit the fields of an object that stands in another."""
    for name, field in schema["properties"].items():
        field.update(_LIMITS.get(name, {}))


def _envelope() -> Schema:
    # A Raw has no schema; on the wire it is any value.
    fields: Iterable[Any] = [
        (field.name, Annotated[Any, *get_args(field.type)[1:]], None)
        if field.name == "payload"
        else (field.name, field.type, field.default)
        for field in msgspec.structs.fields(Envelope)
    ]
    schema = payload_schema(msgspec.defstruct("Envelope", fields))
    return schema | {"description": "What every control message has."}


def _kinds() -> dict[str, type[Message]]:
    return REQUESTS | REPLIES


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}
