"""A directory of keys, as the gateway and clients read it (guide sections 3.2 and 3.4).

``<kid>.key`` holds a private key (mode 0600), ``<kid>.pub`` its public half (0644), and
``manifest.json`` says which is current, which was before, and when each expires. Current and
previous verify, and only the current one signs. Without a manifest:

* one private key, such as the guide's openssl commands make: it is current and never expires;
* only public keys, such as a client's or ``security.trusted_keys``: all of them verify;
* several private keys: which one signs has to be said first, with ``relayx keys rotate``.

``<kid>.curve-key`` and ``<kid>.curve-pub`` are ZeroMQ's (:mod:`relayx.security.curve`): listed,
and of no part in any of this. Names that begin with a dot are files half written.
:mod:`relayx.security.keyring` writes.
"""

from __future__ import annotations

import os
from enum import StrEnum

import msgspec

from relayx.security import curve
from relayx.security.errors import KeyFileError, plain
from relayx.security.expiry import Alarm, expiry_alarms
from relayx.security.keyfile import read_private_key, read_public_key
from relayx.security.keys import (
    KID_ALLOWED,
    PrivateKey,
    PublicKey,
    SigningKey,
    VerifyingKey,
    fingerprint,
    is_kid,
    type_of,
)
from relayx.security.manifest import NAME, Entry, Manifest, read_manifest

__all__ = [
    "Alarm",
    "KeyDirectory",
    "KeyFileError",
    "KeyRow",
    "KeyState",
    "expiry_alarms",
    "open_directory",
    "signing_key",
    "verifying_keys",
]

PRIVATE, PUBLIC = ".key", ".pub"


class KeyState(StrEnum):
    """What a key in a directory is there for."""

    CURRENT = "current"
    PREVIOUS = "previous"
    SPARE = "spare"
    """Neither signs nor verifies until it is made current."""
    TRUSTED = "trusted"
    """A public key that verifies, in a directory without manifest and private keys."""
    UNLISTED = "unlisted"
    """The manifest does not know it; nothing uses it."""
    CURVE = "curve"
    """For ZeroMQ's CURVE; it signs nothing."""


class KeyRow(msgspec.Struct, frozen=True):
    """One key as it is listed.

    :ivar type: "" where its file cannot be read.
    :ivar created: seconds since the epoch; None where nobody wrote it down.
    :ivar expires: likewise, None: never.
    """

    kid: str
    type: str
    state: KeyState
    created: float | None
    expires: float | None


class KeyDirectory(msgspec.Struct, frozen=True):
    """What is in a key directory, at one moment.

    :ivar manifest: None where there is none.
    :ivar private: the kids of its private keys.
    :ivar public: the kids of its public keys.
    :ivar misnamed: files of keys whose name is no kid.
    :ivar curve: the kids of CURVE keys, whichever half is there.
    """

    path: str
    manifest: Manifest | None
    private: frozenset[str]
    public: frozenset[str]
    misnamed: tuple[str, ...] = ()
    curve: frozenset[str] = frozenset()

    @property
    def listed(self) -> Manifest | None:
        """The manifest, or what stands for it where one private key is all there is."""
        if self.manifest is None and len(self.private) == 1 and not self.misnamed:
            (kid,) = self.private
            return Manifest(kid, "", {kid: self.found_entry(kid)})
        return self.manifest

    def file(self, kid: str, suffix: str) -> str:
        """The path of a key's file.

        :param suffix: `PRIVATE` or `PUBLIC`.
        """
        return os.path.join(self.path, kid + suffix)

    def private_key(self, kid: str) -> PrivateKey:
        """The private key of a kid.

        :raises KeyFileError: where it cannot be read, or its public half is another's.
        """
        key = read_private_key(self.file(kid, PRIVATE))
        if kid in self.public:
            public = read_public_key(self.file(kid, PUBLIC))
            if fingerprint(public) != fingerprint(key.public_key()):
                whose = plain(kid + PRIVATE)
                raise KeyFileError(
                    self.file(kid, PUBLIC), f"is not the public half of {whose}", "that, or no file"
                )
        return key

    def public_key(self, kid: str) -> PublicKey:
        """The public key of a kid, out of the private one where it has no file of its own.

        :raises KeyFileError: where neither can be read.
        """
        if kid in self.private and kid not in self.public:
            return self.private_key(kid).public_key()
        return read_public_key(self.file(kid, PUBLIC))

    def found_entry(self, kid: str) -> Entry:
        """What a manifest would say of a key that none says anything of.

        :raises KeyFileError: where the key cannot be read.
        """
        kind = type_of(self.private_key(kid))
        try:
            created = os.stat(self.file(kid, PRIVATE)).st_mtime
        except OSError as error:
            path = self.file(kid, PRIVATE)
            raise KeyFileError(path, f"cannot be read: {error.strerror}") from None
        return Entry(kind, created)

    def rows(self) -> list[KeyRow]:
        """Every key, those of the manifest first."""
        listed = self.manifest.keys if self.manifest else {}
        rows = [
            KeyRow(kid, entry.type, self._state(kid), entry.created, entry.expires)
            for kid, entry in listed.items()
        ]
        for kid in sorted((self.private | self.public) - listed.keys()):
            rows.append(KeyRow(kid, self._type(kid), self._state(kid), None, None))
        for kid in sorted(self.curve):
            rows.append(KeyRow(kid, curve.TYPE, KeyState.CURVE, None, None))
        return rows

    def _state(self, kid: str) -> KeyState:
        if self.manifest is not None:
            if kid in (self.manifest.current, self.manifest.previous):
                current = kid == self.manifest.current
                return KeyState.CURRENT if current else KeyState.PREVIOUS
            return KeyState.SPARE if kid in self.manifest.keys else KeyState.UNLISTED
        if not self.private:
            return KeyState.TRUSTED
        if kid not in self.private:
            return KeyState.UNLISTED
        return KeyState.CURRENT if len(self.private) == 1 else KeyState.SPARE

    def _type(self, kid: str) -> str:
        try:
            return type_of(self.public_key(kid))
        except KeyFileError:
            return ""

    def check_names(self) -> None:
        """:raises KeyFileError: for a key whose file's name is no kid."""
        for name in self.misnamed:
            path = os.path.join(self.path, name)
            raise KeyFileError(path, "is not named by a kid", KID_ALLOWED)

    def undecided(self) -> KeyFileError:
        """The error of a directory in which no key is the current one."""
        if not self.private:
            return KeyFileError(
                self.path,
                "holds no private key to sign with",
                f"one of 'relayx keys generate --dir {plain(self.path)}'",
            )
        kids = ", ".join(sorted(self.private)[:8])
        return KeyFileError(
            self.path,
            f"holds {len(self.private)} private keys ({kids}) and no {NAME} that says which one"
            " is current",
            f"one chosen with 'relayx keys rotate --dir {plain(self.path)} --to KID'",
        )


def open_directory(path: str) -> KeyDirectory:
    """What is in a key directory; no key is read yet.

    :raises KeyFileError: where it cannot be listed, or its manifest is broken.
    """
    try:
        names = sorted(name for name in os.listdir(path) if not name.startswith("."))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        missing = isinstance(error, FileNotFoundError)
        problem = "does not exist" if missing else f"cannot be read: {reason}"
        raise KeyFileError(path, problem, "a directory of keys") from None
    kids: dict[str, set[str]] = {PRIVATE: set(), PUBLIC: set()}
    of_curve = set()
    misnamed = []
    for name in names:
        stem, suffix = os.path.splitext(name)
        if suffix in kids:
            if is_kid(stem):
                kids[suffix].add(stem)
            else:
                misnamed.append(name)
        elif suffix in (curve.SECRET, curve.PUBLIC) and is_kid(stem):
            of_curve.add(stem)
    manifest = read_manifest(os.path.join(path, NAME)) if NAME in names else None
    private, public = (frozenset(kids[suffix]) for suffix in (PRIVATE, PUBLIC))
    return KeyDirectory(path, manifest, private, public, tuple(misnamed), frozenset(of_curve))


def signing_key(path: str) -> SigningKey:
    """The key of a directory that signs.

    :raises KeyFileError: where there is none, it is not clear which, or it cannot be used.
    """
    directory = open_directory(path)
    manifest = directory.listed
    if manifest is None:
        directory.check_names()
        raise directory.undecided()
    kid = manifest.current
    return SigningKey(kid, directory.private_key(kid), manifest.keys[kid].expires)


def verifying_keys(path: str) -> tuple[VerifyingKey, ...]:
    """The keys of a directory that verify, the current one first.

    :raises KeyFileError: where it is not clear which, or one cannot be used.
    """
    directory = open_directory(path)
    manifest = directory.listed
    if manifest is not None:
        kids = [kid for kid in (manifest.current, manifest.previous) if kid]
        return tuple(
            VerifyingKey(kid, directory.public_key(kid), manifest.keys[kid].expires) for kid in kids
        )
    directory.check_names()
    if directory.private:
        raise directory.undecided()
    return tuple(VerifyingKey(kid, directory.public_key(kid)) for kid in sorted(directory.public))
