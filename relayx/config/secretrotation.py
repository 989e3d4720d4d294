"""Changing the secret while clients go on registering (contract section 1).

The file is replaced as a whole, by one rename, with mode 0600; keys that are not changed stay
as they are. Whoever changes it keeps others out meanwhile.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from relayx.config.faults import ConfigError, Fault
from relayx.config.files import mapping, parse_json, read_text
from relayx.security.durable import locked, replace_file, sweep

CURRENT, PREVIOUS = "auth_secret", "auth_secret_previous"
_MODE = 0o600


def rotate_secret(path: str, new: str, *, discard: bool = False) -> None:
    """Move the secret to the previous one, and put a new one in its place.

    :param new: the new secret.
    :param discard: throw away a previous secret that is there.
    :raises ConfigError: where the file cannot be used, has no secret, or has a previous one
        that is not to be discarded: then clients that have not learned the one between would
        be locked out.
    :raises OSError: where it cannot be written. The file is as before then, in both cases.
    """

    def turn(values: dict[Any, Any]) -> None:
        if not isinstance(values.get(CURRENT), str) or not values[CURRENT]:
            raise ConfigError([Fault(path, CURRENT, "", "is no secret to rotate", "a text")])
        if values.get(PREVIOUS) and not discard:
            problem = "is still accepted from the last rotation"
            allowed = "none; 'relayx secret retire' removes it once every client has the new one"
            raise ConfigError([Fault(path, PREVIOUS, "", problem, allowed)])
        values[PREVIOUS] = values[CURRENT]
        values[CURRENT] = new

    _change(path, turn)


def retire_secret(path: str) -> bool:
    """Remove the previous secret; whether there was one. Errors as in :func:`rotate_secret`."""
    had = False

    def drop(values: dict[Any, Any]) -> None:
        nonlocal had
        if not isinstance(values.get(CURRENT), str) or not values[CURRENT]:
            problem = "is no secret, so the previous one is all there is"
            raise ConfigError([Fault(path, CURRENT, "", problem, "a text")])
        had = bool(values.pop(PREVIOUS, ""))

    _change(path, drop)
    return had


def _change(path: str, change: Callable[[dict[Any, Any]], None]) -> None:
    read_text(path, "--env-file")  # says what is wrong with the path before it is resolved
    real = os.path.realpath(path)  # a rename would put a file in the place of a link
    directory = os.path.dirname(real)
    with locked(directory):
        sweep(directory, os.path.basename(real))
        text, _ = read_text(path, "--env-file")
        document, faults = parse_json(path, text)
        values, wrong = mapping(path, "", document)
        if faults or wrong:
            raise ConfigError([*faults, *wrong])
        before = dict(values)
        change(values)
        if values != before:
            data = json.dumps(values, indent=2, ensure_ascii=True) + "\n"
            replace_file(real, data.encode(), _MODE, os.stat(real))
