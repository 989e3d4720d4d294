"""Small pieces of reStructuredText."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

_SPECIAL = re.compile(r"([\\*`|<>_])")
_SOURCE = re.compile(r"\s*\((?:contract|guide)[ ,][^)]*\)")


def escaped(text: str) -> str:
    """Plain text that shows as it is."""
    return _SPECIAL.sub(r"\\\1", text)


def literal(value: object) -> str:
    """A value as JSON and YAML have it."""
    return verbatim(json.dumps(value, ensure_ascii=False))


def verbatim(text: str) -> str:
    """Text in the font of code."""
    return f"``{text}``"


def sentence(text: str) -> str:
    """A phrase with a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def docstring(text: str | None) -> str:
    """A docstring as one paragraph, without the sections that it is from."""
    bare = _SOURCE.sub("", " ".join((text or "").split()))
    return re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", bare)


def heading(title: str, target: str, underline: str = "~") -> Iterator[str]:
    """A heading that :rst:`:ref:` finds under `target`."""
    yield from (f".. _{target}:", "", title, underline * max(len(title), 4), "")


def table(head: tuple[str, ...], widths: str, rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """A table whose cells are one line each."""
    yield from (".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", "")
    for row in (head, *rows):
        for index, cell in enumerate(row):
            yield f"   {' ' if index else '*'} - {cell}"
    yield ""


def indented(lines: Iterable[str]) -> Iterator[str]:
    """The same inside of a directive."""
    return (f"   {line}" if line else "" for line in lines)
