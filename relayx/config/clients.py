"""The rules for ``clients`` that the type and range of one key do not tell."""

from __future__ import annotations

from collections.abc import Iterator

from relayx.config.faults import Fault, shown
from relayx.config.model import ClientPolicy
from relayx.security import secrethash

MAX_CLIENT_ID = 128
"""Characters of an id at most (contract section 2)."""


def client_faults(
    file: str, entries: tuple[ClientPolicy, ...], broken: frozenset[str]
) -> Iterator[Fault]:
    """What is wrong with the entries.

    :param broken: the dotted keys that could not be read; with "clients" among them, an empty
        pattern may be one of these, and nothing is said about it.
    """
    seen: dict[str, int] = {}
    for index, entry in enumerate(entries):
        name = f"clients[{index}]"
        if not entry.match and "clients" in broken:
            continue
        yield from _match_faults(file, f"{name}.match", entry.match)
        if entry.match in seen:
            problem = f"is the pattern of clients[{seen[entry.match]}] too, which holds for all"
            yield Fault(file, f"{name}.match", shown(entry.match), problem)
        seen.setdefault(entry.match, index)
        for bare, values in (("roles", entry.roles), ("protocols", entry.protocols)):
            if not values:
                yield Fault(file, f"{name}.{bare}", "[]", "is empty", "one or more of a list")
        if entry.secret_hash:
            try:
                secrethash.parse(entry.secret_hash)
            except ValueError as error:
                yield Fault(file, f"{name}.secret_hash", "", str(error))


def _match_faults(file: str, key: str, match: str) -> Iterator[Fault]:
    problem = ""
    if not match:
        problem = "is empty"
    elif not match.isprintable():
        problem = "has characters that are not printable"
    elif len(match) > MAX_CLIENT_ID:
        problem = "is too long"
    if problem:
        allowed = f"a pattern of client_id, 1 to {MAX_CLIENT_ID} printable characters"
        yield Fault(file, key, shown(match), problem, allowed)
