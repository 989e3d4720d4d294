"""Keys for ZeroMQ's CURVE (RFC 26): Curve25519, in Z85, a file for each half.

They live in a key directory beside those that sign, under suffixes of their own, so that
neither is taken for the other. They neither expire nor rotate.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from relayx.security import z85
from relayx.security.errors import KeyFileError
from relayx.security.files import check_not_open_to_all, read_file
from relayx.security.keyfile import check_owner_only

TYPE = "curve25519"
SECRET, PUBLIC = ".curve-key", ".curve-pub"
"""Suffixes, behind the kid."""

LENGTH = 40
"""Characters of either half."""

_DIRECTORY = f"a directory of <kid>{PUBLIC}"
_ALLOWED = f"a CURVE key: {LENGTH} characters of Z85"


class CurvePair(msgspec.Struct, frozen=True):
    """Both halves, in Z85."""

    public: str
    secret: str

    def __repr__(self) -> str:
        return f"CurvePair(public={self.public!r}, secret=hidden)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # msgspec gives its own, which rich prefers to __repr__ and which shows every field.
        return [("public", self.public)]


def generate_pair() -> CurvePair:
    """A new one."""
    return _pair(X25519PrivateKey.generate())


def pair_of(secret: str) -> CurvePair:
    """The pair of a secret half.

    :raises ValueError: where it is none.
    """
    return _pair(X25519PrivateKey.from_private_bytes(z85.decode(secret)))


def read_pair(directory: str, kid: str) -> CurvePair:
    """A pair of a key directory, by its secret half.

    :raises KeyFileError: where it cannot be read, others may read it, or a public half that is
        there is another's.
    """
    path = os.path.join(directory, kid + SECRET)
    data, mode = read_file(path)
    check_owner_only(path, mode)
    secret = _key(path, data)
    public = os.path.join(directory, kid + PUBLIC)
    pair = pair_of(secret)
    if os.path.lexists(public) and read_public(directory, kid) != pair.public:
        problem = f"is not the public half of {kid + SECRET}"
        raise KeyFileError(public, problem, "that, or no file")
    return pair


def read_public(directory: str, kid: str) -> str:
    """A public half of a key directory, by its own file.

    :raises KeyFileError: where it cannot be read, or anybody may write it.
    """
    path = os.path.join(directory, kid + PUBLIC)
    data, mode = read_file(path)
    check_not_open_to_all(path, mode, "says whom to trust")
    return _key(path, data)


def read_publics(directory: str) -> tuple[str, ...]:
    """Every public half of a directory, in the order of their kids.

    :raises KeyFileError: where one cannot be read, or the directory cannot be listed.
    """
    try:
        names = sorted(os.listdir(directory))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise KeyFileError(directory, f"cannot be read: {reason}", _DIRECTORY) from None
    stems = [os.path.splitext(name) for name in names]
    return tuple(read_public(directory, stem) for stem, suffix in stems if suffix == PUBLIC)


def _pair(secret: X25519PrivateKey) -> CurvePair:
    public = z85.encode(secret.public_key().public_bytes_raw())
    return CurvePair(public, z85.encode(secret.private_bytes_raw()))


def _key(path: str, data: bytes) -> str:
    text = data.decode("ascii", "replace").strip()
    if len(text) != LENGTH:
        raise KeyFileError(path, "holds no CURVE key", _ALLOWED)
    try:
        z85.decode(text)
    except ValueError as error:
        raise KeyFileError(path, f"holds no CURVE key: {error}", _ALLOWED) from None
    return text
