"""``manifest.json`` of a key directory: which key is which, from when and until when."""

from __future__ import annotations

import json

import msgspec

from relayx.security.errors import KeyFileError, plain
from relayx.security.files import check_not_open_to_all, read_file
from relayx.security.keys import checked_kid
from relayx.security.times import from_utc, utc

NAME = "manifest.json"
_VERSION = 1
_MOST_BYTES = 1 << 20


class Entry(msgspec.Struct, frozen=True):
    """One key.

    :ivar type: of :func:`relayx.security.keys.type_of`.
    :ivar created: seconds since the epoch.
    :ivar expires: likewise, None: never.
    """

    type: str
    created: float
    expires: float | None = None


class Manifest(msgspec.Struct, frozen=True):
    """What a key directory's manifest says.

    :ivar current: the kid that signs.
    :ivar previous: the kid that signed before and still verifies, "" for none.
    :ivar keys: every key by kid, these two among them.
    """

    current: str
    previous: str
    keys: dict[str, Entry]

    def with_key(self, kid: str, entry: Entry) -> Manifest:
        """The same with one key more, or another entry for it."""
        return msgspec.structs.replace(self, keys={**self.keys, kid: entry})

    def turned_to(self, kid: str) -> Manifest:
        """The same with another of its keys as the current one, and the current as previous."""
        return msgspec.structs.replace(self, current=kid, previous=self.current)


class _WrittenEntry(msgspec.Struct, frozen=True):
    type: str
    created: str
    expires: str | None = None


class _Written(msgspec.Struct, frozen=True):
    version: int
    current: str
    keys: dict[str, _WrittenEntry]
    previous: str = ""


def read_manifest(path: str) -> Manifest:
    """The manifest of a file.

    :raises KeyFileError: where there is none, anybody may write it, or it does not say what one
        has to say.
    """
    data, mode = read_file(path, _MOST_BYTES)
    check_not_open_to_all(path, mode, "says which key is current")
    try:
        written = msgspec.json.decode(data, type=_Written)
        if written.version != _VERSION:
            raise ValueError(f"its version is {written.version}; allowed: {_VERSION}")
        keys = {checked_kid(kid): _entry(entry) for kid, entry in written.keys.items()}
        if written.current not in keys:
            raise ValueError(f"its current key {plain(written.current)} is not among its keys")
        if written.previous and written.previous not in keys:
            raise ValueError(f"its previous key {plain(written.previous)} is not among its keys")
    except (ValueError, RecursionError, OverflowError) as error:
        # msgspec's errors are ValueErrors.
        raise KeyFileError(path, f"is no manifest of keys: {error}") from None
    previous = written.previous if written.previous != written.current else ""
    return Manifest(written.current, previous, keys)


def manifest_text(manifest: Manifest) -> bytes:
    """The file of a manifest, times as RFC 3339 in UTC."""
    document = {
        "version": _VERSION,
        "current": manifest.current,
        "previous": manifest.previous,
        "keys": {
            kid: {
                "type": entry.type,
                "created": utc(entry.created),
                "expires": None if entry.expires is None else utc(entry.expires),
            }
            for kid, entry in manifest.keys.items()
        },
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def _entry(written: _WrittenEntry) -> Entry:
    expires = None if written.expires is None else from_utc(written.expires)
    return Entry(written.type, from_utc(written.created), expires)
