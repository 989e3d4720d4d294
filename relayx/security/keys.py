"""The two kinds of keys, and what is done with them (guide sections 3.1 and 4.5).

RSA signs with PSS, SHA-256 and a salt of the digest's length (RFC 8017 section 8.1); P-256
with ECDSA and SHA-256, the signature in DER (RFC 3279 section 2.2.3), as openssl writes it.
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from relayx.security.errors import plain

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

RSA_LEAST, RSA_MOST = 2048, 4096
"""Bits."""

KEYS_ALLOWED = f"RSA of {RSA_LEAST} to {RSA_MOST} bits, or ECDSA P-256"

KID_ALLOWED = "1 to 64 of A-Z a-z 0-9 . _ -, not beginning with . or -"
_KID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")

ANY_KID = "*"
"""Stands for every kid: the one key of ``relay_public_key``, whatever name its owner gave it."""

_SHA256 = hashes.SHA256()
_ECDSA = ec.ECDSA(_SHA256)
_PSS = padding.PSS(mgf=padding.MGF1(_SHA256), salt_length=_SHA256.digest_size)


class KeyType(StrEnum):
    """What ``relayx keys generate`` makes."""

    RSA2048 = "rsa2048"
    RSA3072 = "rsa3072"
    P256 = "p256"


class VerifyingKey(msgspec.Struct, frozen=True):
    """A public key that messages are verified with.

    :ivar kid: its name, or :data:`~relayx.security.keys.ANY_KID`.
    :ivar expires: seconds since the epoch, None: never.
    """

    kid: str
    public_key: PublicKey
    expires: float | None = None


class SigningKey(msgspec.Struct, frozen=True):
    """A private key that messages are signed with.

    :ivar kid: its name.
    :ivar expires: seconds since the epoch, None: never.
    """

    kid: str
    private_key: PrivateKey
    expires: float | None = None


def is_kid(text: str) -> bool:
    """Whether `text` may name a key: see `KID_ALLOWED`."""
    return _KID.fullmatch(text) is not None


def checked_kid(text: str) -> str:
    """`text` where it may name a key.

    :raises ValueError: where it may not, with what is allowed.
    """
    if not is_kid(text):
        raise ValueError(f"{plain(text)} cannot name a key; allowed: {KID_ALLOWED}")
    return text


def generate(kind: KeyType) -> PrivateKey:
    """A new key."""
    if kind is KeyType.P256:
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(65537, 2048 if kind is KeyType.RSA2048 else 3072)


def problem_of(key: object) -> str:
    """Why a key cannot be used here; "" where it can."""
    if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        good = RSA_LEAST <= key.key_size <= RSA_MOST
        return "" if good else f"is an RSA key of {key.key_size} bits"
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        good = isinstance(key.curve, ec.SECP256R1)
        return "" if good else f"is a key on the curve {key.curve.name}"
    return "is neither an RSA nor an ECDSA key"


def type_of(key: PrivateKey | PublicKey) -> str:
    """``p256``, or ``rsa`` with the bits: ``rsa2048``."""
    if isinstance(key, rsa.RSAPrivateKey | rsa.RSAPublicKey):
        return f"rsa{key.key_size}"
    return "p256"


def sign(key: PrivateKey, data: bytes) -> bytes:
    """The signature of `data`, raw."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, _PSS, _SHA256)
    return key.sign(data, _ECDSA)


def matches(key: PublicKey, signature: bytes, data: bytes) -> bool:
    """Whether `signature` is one of `data` by the owner of `key`."""
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, _PSS, _SHA256)
        else:
            key.verify(signature, data, _ECDSA)
    except InvalidSignature:
        return False
    return True


def fingerprint(key: PublicKey) -> bytes:
    """SHA-256 of the key's SubjectPublicKeyInfo: what a key is called whatever its kid."""
    spki = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).digest()


def private_pem(key: PrivateKey) -> bytes:
    """The key as PKCS #8 in PEM, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def public_pem(key: PublicKey) -> bytes:
    """The key as SubjectPublicKeyInfo in PEM."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
