"""Reading the two files: bytes to plain mappings, with every way it can fail as a fault."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator

import yaml

from relayx.config.faults import ConfigError, Fault, plain

MOST_BYTES = 1 << 20
"""A longer file is no configuration; keeps a device or a log from being read whole."""


def read_text(path: str, flag: str) -> tuple[str, int]:
    """The text of a file and its mode bits.

    :param flag: the option that names such a file, for the advice where it is missing.
    :raises ConfigError: where it cannot be read.
    """
    try:
        with open(path, "rb", opener=_open) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError([Fault(path, "", "", "is not a regular file")])
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        advice = f"does not exist; make one with 'relayx init', or name another with {flag}"
        raise ConfigError([Fault(path, "", "", advice)]) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError([Fault(path, "", "", f"cannot be read: {reason}")]) from None
    if len(data) > MOST_BYTES:
        raise ConfigError([Fault(path, "", "", "is too long", f"up to {MOST_BYTES} bytes")])
    try:
        return data.decode("utf-8-sig"), status.st_mode
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 at byte {error.start}"
        raise ConfigError([Fault(path, "", "", problem)]) from None


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # otherwise, a named pipe would be waited for


class _Loader(yaml.SafeLoader):
    """YAML where only null, ``true``, ``false`` and plain numbers are not text.

    YAML 1.1, which PyYAML reads, takes ``off`` for false, ``10:30`` for a number in base 60 and
    ``2024-01-01`` for a date. The first is a value of `log.stream`, the others are surprises.
    """


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag in ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, _pattern, _first in (
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,39})$", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)$", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(_pattern), list(_first))


def parse_yaml(path: str, text: str) -> tuple[object, list[Fault]]:
    """The document of a YAML file, and a fault for each repeated key.

    :raises ConfigError: where it is not YAML, with line and column.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            faults = list(_repeated(path, node))
            return (None if node is None else loader.construct_document(node)), faults
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = f"is not YAML{where}: {error.problem or error.context}"
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        problem = f"is not YAML at line {line}, column {column}: a character that YAML has not"
    except RecursionError:
        problem = "is nested too deeply"
    except Exception as error:  # PyYAML lets out anything for `!!bool x`, `!!timestamp x`, ...
        problem = f"is not YAML: a tag on a text that does not fit it ({type(error).__name__})"
    raise ConfigError([Fault(path, "", "", " ".join(problem.split()))])


def _repeated(
    path: str, node: yaml.Node | None, above: str = "", depth: int = 2
) -> Iterator[Fault]:
    """Faults for the keys that a mapping, or one of the mappings right in it, has twice."""
    if not isinstance(node, yaml.MappingNode) or not depth:
        return
    seen = set()
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            name = above + plain(key.value)
            if name in seen:
                problem = f"is there twice, again in line {key.start_mark.line + 1}"
                yield Fault(path, name, "", problem)
            seen.add(name)
            yield from _repeated(path, value, f"{name}.", depth - 1)


def parse_json(path: str, text: str) -> tuple[object, list[Fault]]:
    """The document of a JSON file, and a fault for each repeated key. No value is ever shown.

    :raises ConfigError: where it is not JSON, with line and column.
    """
    faults: list[Fault] = []

    def collect(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        names = [name for name, _ in pairs]
        faults.extend(
            Fault(path, plain(name), "", "is there twice")
            for name in found
            if names.count(name) > 1
        )
        return found

    try:
        return json.loads(text, object_pairs_hook=collect), faults
    except json.JSONDecodeError as error:
        problem = f"is not JSON at line {error.lineno}, column {error.colno}: {error.msg}"
    except RecursionError:
        problem = "is nested too deeply"
    except ValueError:  # an integer of thousands of digits
        problem = "is not JSON: a number of thousands of digits"
    raise ConfigError([Fault(path, "", "", problem)])


def mapping(path: str, key: str, value: object) -> tuple[dict[object, object], list[Fault]]:
    """`value` as a mapping, empty where it is null; a fault where it is something else."""
    if value is None:
        return {}, []
    if isinstance(value, dict):
        return value, []
    kind = "a list" if isinstance(value, list) else "a single value"
    problem = f"is {kind}" if key else f"holds {kind} at its top level"
    return {}, [Fault(path, key, "", problem, "a mapping of keys to values")]
