"""Everything that is wrong with a key directory, at once (``relayx keys check``)."""

from __future__ import annotations

import os
import stat

import msgspec

from relayx.security import curve
from relayx.security.errors import KeyFileError, plain
from relayx.security.expiry import Alarm, expiry_alarms
from relayx.security.keydir import (
    PRIVATE,
    PUBLIC,
    KeyDirectory,
    KeyRow,
    KeyState,
    open_directory,
)
from relayx.security.keyfile import read_public_key
from relayx.security.keys import type_of
from relayx.security.times import utc

_IN_USE = (KeyState.CURRENT, KeyState.PREVIOUS, KeyState.TRUSTED)


class Findings(msgspec.Struct, frozen=True):
    """What there is to say about a key directory.

    :ivar faults: what keeps it, or a key of it, from being used.
    :ivar warnings: what is unwise or of no use.
    :ivar alarms: keys in use that expire soon, or have.
    """

    faults: list[KeyFileError]
    warnings: list[KeyFileError]
    alarms: list[Alarm]


def check_directory(path: str, now: float) -> Findings:
    """Look at every file of a key directory.

    :param now: seconds since the epoch.
    """
    found = Findings([], [], [])
    try:
        directory = open_directory(path)
        _check_openness(path, found)
    except KeyFileError as error:
        found.faults.append(error)
        return found
    for kid in sorted(directory.curve):
        _check_curve(directory, kid, found)
    for row in directory.rows():
        if row.state is KeyState.CURVE:
            continue
        _check_row(directory, row, found)
        if row.state is KeyState.CURRENT and row.expires is not None and row.expires <= now:
            problem = f"is the current key and expired at {utc(row.expires)}"
            found.faults.append(KeyFileError(directory.file(row.kid, PRIVATE), problem))
        elif row.state in _IN_USE:
            found.alarms.extend(expiry_alarms([row], now))
    try:
        directory.check_names()
        if directory.manifest is None and len(directory.private) > 1:
            raise directory.undecided()
    except KeyFileError as error:
        found.faults.append(error)
    if not directory.private and not directory.public and not directory.curve:
        found.warnings.append(directory.undecided())
    return found


def _check_openness(path: str, found: Findings) -> None:
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError as error:
        raise KeyFileError(path, f"cannot be read: {error.strerror}") from None
    allowed = f"mode 0700 or 0755 (chmod 700 {plain(path)})"
    if mode & 0o002:
        problem = f"can be written by others, its mode is {mode:04o}"
        found.faults.append(KeyFileError(path, problem, allowed))
    elif mode & 0o020:
        problem = f"can be written by its group, its mode is {mode:04o}"
        found.warnings.append(KeyFileError(path, problem, allowed))


def _check_curve(directory: KeyDirectory, kid: str, found: Findings) -> None:
    has_secret = os.path.lexists(directory.file(kid, curve.SECRET))
    has_public = os.path.lexists(directory.file(kid, curve.PUBLIC))
    try:
        if has_secret:
            curve.read_pair(directory.path, kid)
        else:
            curve.read_public(directory.path, kid)
    except KeyFileError as error:
        found.faults.append(error)
        return
    if not has_public:
        problem = "does not exist; clients of CURVE need it"
        found.warnings.append(KeyFileError(directory.file(kid, curve.PUBLIC), problem))


def _check_row(directory: KeyDirectory, row: KeyRow, found: Findings) -> None:
    private, public = directory.file(row.kid, PRIVATE), directory.file(row.kid, PUBLIC)
    has_private, has_public = row.kid in directory.private, row.kid in directory.public
    kinds = set()
    try:
        if has_private:
            kinds.add(type_of(directory.private_key(row.kid)))
        if has_public:
            kinds.add(type_of(read_public_key(public)))
    except KeyFileError as error:
        found.faults.append(error)
        return
    where = found.faults if row.state in _IN_USE else found.warnings
    if not has_private and row.state not in (KeyState.TRUSTED, KeyState.UNLISTED):
        where.append(KeyFileError(private, f"does not exist, and is the {row.state} key"))
    if row.state is KeyState.UNLISTED:
        file = private if has_private else public
        known = directory.manifest is not None
        advice = f"; 'relayx keys rotate --to {row.kid}' makes it current" if has_private else ""
        why = "the manifest does not know it" if known else "it is not that of the private key"
        found.warnings.append(KeyFileError(file, f"is used by nothing: {why}{advice}"))
    elif has_private and not has_public:
        problem = "does not exist; clients need it, and 'relayx keys rotate' writes it"
        found.warnings.append(KeyFileError(public, problem))
    if kinds - {row.type}:
        problem = f"is of type {', '.join(kinds)}, and {row.type or 'none'} by the manifest"
        found.faults.append(KeyFileError(private if has_private else public, problem))
