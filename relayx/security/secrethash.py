"""A client's secret as a scrypt hash (RFC 7914), for ``clients:`` in the configuration.

Its text is ``scrypt$<log2 N>$<r>$<p>$<salt>$<hash>``, salt and hash in base64. Computing one
takes tens of milliseconds and 16 MiB, and releases the interpreter's lock meanwhile: a server
does it in a thread.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from typing import Any

import msgspec

LOG2_N, R, P = 14, 8, 1
"""What :func:`make` uses; 128 * r * N bytes of memory."""

MOST_MEMORY = 64 * 1024 * 1024
"""Bytes that a hash may ask for; a configuration cannot make the gateway take more."""

_LOG2_N_LEAST, _LOG2_N_MOST = 10, 19
_R_MOST, _P_MOST = 32, 4
_SALT_BYTES = 16
_HASH_BYTES = 32
_HASH_MOST = 64
_MOST_TEXT = 512
_FORM = "scrypt$<log2 N>$<r>$<p>$<salt>$<hash>"
_NUMBER = re.compile(r"[1-9][0-9]?")

ALLOWED = f"a text of 'relayx secret hash': {_FORM}"


class SecretHash(msgspec.Struct, frozen=True):
    """One hashed secret. str() is the text that a configuration holds; repr() shows nothing.

    :ivar log2_n: cost, the base 2 logarithm of scrypt's N.
    :ivar r: block size.
    :ivar p: parallelisation.
    """

    log2_n: int
    r: int
    p: int
    salt: bytes
    digest: bytes

    def __str__(self) -> str:
        salt, digest = (base64.b64encode(part).decode() for part in (self.salt, self.digest))
        return f"scrypt${self.log2_n}${self.r}${self.p}${salt}${digest}"

    def __repr__(self) -> str:
        return "SecretHash(<hidden>)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []

    def matches(self, secret: str) -> bool:
        """Whether `secret` is the one that was hashed; the comparison takes constant time."""
        try:
            given = secret.encode()
        except UnicodeEncodeError:  # half of a surrogate pair, which no secret holds
            return False
        digest = _scrypt(given, self.salt, self.log2_n, self.r, self.p, len(self.digest))
        return hmac.compare_digest(digest, self.digest)


def make(secret: str) -> SecretHash:
    """The hash of a secret with a salt of its own.

    :raises ValueError: where the secret is empty or holds half of a surrogate pair.
    """
    if not secret:
        raise ValueError("the secret is empty")
    salt = os.urandom(_SALT_BYTES)
    try:
        given = secret.encode()
    except UnicodeEncodeError:
        raise ValueError("the secret is no text in UTF-8") from None
    return SecretHash(LOG2_N, R, P, salt, _scrypt(given, salt, LOG2_N, R, P, _HASH_BYTES))


def parse(text: str) -> SecretHash:
    """The hash of its text.

    :raises ValueError: where it is none, or asks for more than it may; no word of it is shown.
    """
    parts = text.split("$") if len(text) <= _MOST_TEXT else []
    if len(parts) != 6 or parts[0] != "scrypt":
        raise ValueError(f"is no hash of a secret; allowed: {ALLOWED}")
    if not all(_NUMBER.fullmatch(part) for part in parts[1:4]):
        raise ValueError(f"has a parameter that is no number; allowed: {ALLOWED}")
    log2_n, r, p = map(int, parts[1:4])
    if not _LOG2_N_LEAST <= log2_n <= _LOG2_N_MOST or r > _R_MOST or p > _P_MOST:
        raise ValueError(
            f"has log2 N {log2_n}, r {r}, p {p}; allowed: log2 N {_LOG2_N_LEAST} to"
            f" {_LOG2_N_MOST}, r up to {_R_MOST}, p up to {_P_MOST}"
        )
    if 128 * r << log2_n > MOST_MEMORY:
        raise ValueError(
            f"asks for {128 * r << log2_n >> 20} MiB; allowed: up to {MOST_MEMORY >> 20} MiB"
        )
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in parts[4:])
    except ValueError:
        raise ValueError(f"has a salt or a hash that is not base64; allowed: {ALLOWED}") from None
    if len(salt) < _SALT_BYTES or not _HASH_BYTES <= len(digest) <= _HASH_MOST:
        raise ValueError(
            f"has a salt of {len(salt)} and a hash of {len(digest)} bytes; allowed: {_SALT_BYTES}"
            f" or more, and {_HASH_BYTES} to {_HASH_MOST}"
        )
    return SecretHash(log2_n, r, p, salt, digest)


def _scrypt(secret: bytes, salt: bytes, log2_n: int, r: int, p: int, size: int) -> bytes:
    return hashlib.scrypt(
        secret, salt=salt, n=1 << log2_n, r=r, p=p, maxmem=2 * MOST_MEMORY, dklen=size
    )
