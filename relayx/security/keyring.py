"""Making keys and changing which one is current, in a key directory (guide section 3.4).

Whoever writes holds the directory's lock. A key's files are there before the manifest names
it, each by one rename, and none is ever removed or written over: a writer that is killed
leaves at most a key that nothing uses.
"""

from __future__ import annotations

import os
import secrets

from relayx.security import curve
from relayx.security.durable import locked, replace_file, sweep
from relayx.security.errors import KeyFileError, plain
from relayx.security.keydir import PRIVATE, PUBLIC, KeyDirectory, open_directory
from relayx.security.keys import (
    KID_ALLOWED,
    KeyType,
    PrivateKey,
    generate,
    is_kid,
    private_pem,
    public_pem,
)
from relayx.security.manifest import NAME, Entry, Manifest, manifest_text
from relayx.security.times import DAY, utc, utc_day

PRIVATE_MODE, PUBLIC_MODE, DIRECTORY_MODE = 0o600, 0o644, 0o700


def default_kid(kind: KeyType, now: float) -> str:
    """A kid of type, day and chance: ``p256-20261124-3fa9c1``."""
    return f"{kind}-{utc_day(now)}-{secrets.token_hex(3)}"


def add_key(path: str, kind: KeyType, days: float, now: float, kid: str = "") -> tuple[str, bool]:
    """Make a key: the current one where there is none, else a spare one.

    :param path: the directory, made with its parents where it does not exist.
    :param days: until it expires.
    :param now: seconds since the epoch.
    :param kid: its name, "" for one of :func:`default_kid`.
    :return: its kid, and whether it is the current one.
    :raises KeyFileError: where the name is taken or none, or the directory is not one for that.
    :raises OSError: where it cannot be written.
    """
    return _add(path, kind, days, now, kid, turn=False)


def add_curve(path: str, now: float, kid: str = "") -> tuple[str, str]:
    """Make a key for ZeroMQ's CURVE.

    Parameters and errors are those of :func:`add_key`.

    :return: its kid, and its public half in Z85.
    """
    kid = kid or f"curve-{utc_day(now)}-{secrets.token_hex(3)}"
    _check_kid(path, kid)
    pair = curve.generate_pair()
    os.makedirs(path, DIRECTORY_MODE, exist_ok=True)
    with locked(path):
        sweep(path)
        directory = open_directory(path)
        if kid in directory.curve:
            raise KeyFileError(path, f"has a CURVE key {kid} already", "another name")
        _write(directory.file(kid, curve.SECRET), pair.secret.encode() + b"\n", PRIVATE_MODE)
        _write(directory.file(kid, curve.PUBLIC), pair.public.encode() + b"\n", PUBLIC_MODE)
    return kid, pair.public


def rotate(path: str, kind: KeyType, days: float, now: float, kid: str = "") -> str:
    """Make a key and make it the current one; the one that was is the previous one.

    Parameters and errors are those of :func:`add_key`.

    :return: its kid.
    """
    return _add(path, kind, days, now, kid, turn=True)[0]


def rotate_to(path: str, kid: str, now: float) -> str:
    """Make a key that is there the current one; the one that was is the previous one.

    :return: the kid of the previous one, "" where there is none.
    :raises KeyFileError: where it is not there, cannot be used, has expired, or is current.
    :raises OSError: where the manifest cannot be written.
    """
    if not os.path.isdir(path):
        raise KeyFileError(path, "is no directory", "a directory of keys")
    with locked(path):
        sweep(path)
        directory = open_directory(path)
        if kid not in directory.private:
            there = ", ".join(sorted(directory.private)) or "none"
            raise KeyFileError(path, f"holds no private key {plain(kid)}", f"one of: {there}")
        found = directory.found_entry(kid)
        manifest = directory.listed
        if manifest is None:
            changed = Manifest(kid, "", {kid: found})
        else:
            if manifest.current == kid:
                raise KeyFileError(path, f"has {kid} as its current key already")
            entry = manifest.keys.get(kid, found)
            if entry.expires is not None and entry.expires <= now:
                raise KeyFileError(
                    directory.file(kid, PRIVATE),
                    f"expired at {utc(entry.expires)}",
                    "a key that has not expired, such as 'relayx keys rotate' makes",
                )
            changed = manifest.with_key(kid, entry).turned_to(kid)
        _write_public(directory, kid, directory.private_key(kid))
        _write_manifest(path, changed)
        return changed.previous


def _add(
    path: str, kind: KeyType, days: float, now: float, kid: str, *, turn: bool
) -> tuple[str, bool]:
    kid = kid or default_kid(kind, now)
    _check_kid(path, kid)
    key = generate(kind)
    os.makedirs(path, DIRECTORY_MODE, exist_ok=True)
    with locked(path):
        sweep(path)
        directory = open_directory(path)
        manifest = directory.listed
        if manifest is None and (directory.private or directory.misnamed):
            directory.check_names()
            raise directory.undecided()
        if manifest is None and directory.public:
            raise KeyFileError(
                path,
                "holds the public keys of others, which a key of one's own would end",
                "another",
            )
        if kid in {*directory.private, *directory.public, *(manifest.keys if manifest else ())}:
            raise KeyFileError(path, f"has a key {kid} already", "another name")
        _write(directory.file(kid, PRIVATE), private_pem(key), PRIVATE_MODE)
        _write_public(directory, kid, key)
        entry = Entry(kind, now, now + days * DAY)
        if manifest is None:
            changed = Manifest(kid, "", {kid: entry})
        else:
            changed = manifest.with_key(kid, entry)
            changed = changed.turned_to(kid) if turn else changed
            _write_public(directory, manifest.current, None)
        _write_manifest(path, changed)
        return kid, changed.current == kid


def _check_kid(path: str, kid: str) -> None:
    if not is_kid(kid):
        raise KeyFileError(path, f"cannot have a key of the name {plain(kid)}", KID_ALLOWED)


def _write_public(directory: KeyDirectory, kid: str, key: PrivateKey | None) -> None:
    """Give a key its public file, where it has none.

    :param key: the private key, None: read it where it is needed.
    """
    if kid in directory.public:
        return
    key = directory.private_key(kid) if key is None else key
    _write(directory.file(kid, PUBLIC), public_pem(key.public_key()), PUBLIC_MODE)


def _write_manifest(path: str, manifest: Manifest) -> None:
    _write(os.path.join(path, NAME), manifest_text(manifest), PUBLIC_MODE)


def _write(path: str, data: bytes, mode: int) -> None:
    """Write one file; where root does, it belongs to whom the directory belongs to."""
    replace_file(path, data, mode, os.stat(os.path.dirname(path) or "."))
