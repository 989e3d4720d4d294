"""What stands behind the question mark, as the type that a route asks for."""

from __future__ import annotations

from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec

from relayx.admin.errors import bad_query

MOST_FIELDS = 32

T = TypeVar("T", bound=msgspec.Struct)


def read_query(text: str, wanted: type[T]) -> T:
    """Read a query.

    :raises Refusal: 400 where it is not as `wanted` says.
    """
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=MOST_FIELDS,
            errors="strict",
        )  # fmt: skip
    except ValueError:
        raise bad_query("the query is not name=value, joined by &") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise bad_query(f"{name[:64]!r} is there twice")
        found[name] = value
    try:
        return msgspec.convert(found, wanted, strict=False)
    except msgspec.ValidationError as error:
        allowed = ", ".join(field.name for field in msgspec.structs.fields(wanted))
        raise bad_query(f"{error}; allowed: {allowed or 'nothing'}") from None
