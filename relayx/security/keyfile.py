"""Keys from PEM files, with a word of its own for each mistake (guide sections 3.1 and 3.2).

Private keys as PKCS #8 (RFC 5958), SEC 1 (RFC 5915; also behind ``EC PARAMETERS``) and
traditional RSA (RFC 8017); public ones as SubjectPublicKeyInfo (RFC 5280) and RSA PUBLIC KEY.
No error shows any of a key.
"""

from __future__ import annotations

import base64
import re
from typing import cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from relayx.security.errors import KeyFileError, plain
from relayx.security.files import MOST_BYTES, check_not_open_to_all, read_file
from relayx.security.keys import KEYS_ALLOWED, PrivateKey, PublicKey, problem_of

__all__ = [
    "KeyFileError",
    "check_owner_only",
    "parse_public_key",
    "read_private_key",
    "read_public_key",
]

_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,64})-----")
_DER = 0x30
_PARAMETERS = "EC PARAMETERS"
_PRIVATE = ("PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY")
_PUBLIC = ("PUBLIC KEY", "RSA PUBLIC KEY")
_PRIVATE_ALLOWED = f"a private key in PEM, not encrypted, {KEYS_ALLOWED}"
_PUBLIC_ALLOWED = f"a public key in PEM, {KEYS_ALLOWED}"
_OTHERS_BITS = 0o077


def read_private_key(path: str) -> PrivateKey:
    """The private key of a file that is its owner's alone.

    :raises KeyFileError: where others may read, write or run the file, or it holds no such key.
    """
    data, mode = read_file(path)
    check_owner_only(path, mode)
    return _private(path, data)


def check_owner_only(path: str, mode: int) -> None:
    """:raises KeyFileError: where others may read, write or run the file of a private key."""
    if mode & _OTHERS_BITS:
        who = "others" if mode & 0o007 else "its group"
        raise KeyFileError(
            path,
            f"holds a private key and is open to {who}, its mode is {mode:04o}",
            f"mode 0600 (chmod 600 {plain(path)})",
        )


def read_public_key(path: str) -> PublicKey:
    """The public key of a file.

    :raises KeyFileError: where anybody may write the file, or it holds no such key.
    """
    data, mode = read_file(path)
    check_not_open_to_all(path, mode, "says whom to trust")
    return parse_public_key(data, path)


def parse_public_key(pem: str | bytes, name: str) -> PublicKey:
    """The public key of a PEM text, such as ``relay_public_key``.

    :param name: what errors call it.
    :raises KeyFileError: where it is none.
    """
    data = pem.encode("utf-8", "replace") if isinstance(pem, str) else pem
    if len(data) > MOST_BYTES:
        raise KeyFileError(name, "is too long for a key", f"up to {MOST_BYTES} bytes")
    block = _block(name, data, _PUBLIC, _PUBLIC_ALLOWED)
    try:
        key = serialization.load_pem_public_key(block)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _damaged(name, _PUBLIC_ALLOWED) from None
    _check(name, key)
    return cast(PublicKey, key)


def _private(name: str, data: bytes) -> PrivateKey:
    block = _block(name, data, _PRIVATE, _PRIVATE_ALLOWED)
    try:
        key = serialization.load_pem_private_key(block, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise _damaged(name, _PRIVATE_ALLOWED) from None
    _check(name, key)
    return cast(PrivateKey, key)


def _check(name: str, key: object) -> None:
    problem = problem_of(key)
    if problem:
        raise KeyFileError(name, problem, KEYS_ALLOWED)


def _damaged(name: str, allowed: str) -> KeyFileError:
    return KeyFileError(name, "is PEM, but what is in it is damaged or no key", allowed)


def _block(name: str, data: bytes, wanted: tuple[str, ...], allowed: str) -> bytes:
    """The one PEM block of a wanted kind that a file has.

    :raises KeyFileError: where it has another, none, several, or the end is missing.
    """
    labels = [(found.start(), found[1].decode()) for found in _BEGIN.finditer(data)]
    labels = [(start, label) for start, label in labels if label != _PARAMETERS]
    if not labels:
        raise KeyFileError(name, _no_pem(data), allowed)
    start, label = labels[0]
    if label not in wanted:
        raise KeyFileError(name, _unwanted(label), allowed)
    if len(labels) > 1:
        raise KeyFileError(name, f"holds {len(labels)} keys or certificates", "one key")
    ending = b"-----END " + label.encode() + b"-----"
    end = data.find(ending, start)
    if end < 0:
        problem = f"is cut off: its {label} has a first line and no last one"
        raise KeyFileError(name, problem, allowed)
    body = data[start:end]
    if b",ENCRYPTED" in body:
        raise KeyFileError(name, _unwanted("ENCRYPTED PRIVATE KEY"), allowed)
    first, _, base = body.partition(b"-----\n" if b"-----\n" in body else b"-----\r\n")
    try:
        base64.b64decode(b"".join(base.split()), validate=True)
    except ValueError:
        raise KeyFileError(name, f"is damaged: its {label} is not base64", allowed) from None
    return first + b"-----\n" + b"\n".join(base.split()) + b"\n" + ending + b"\n"


def _no_pem(data: bytes) -> str:
    if not data.strip():
        return "is empty"
    if _BEGIN.search(data):
        return f"holds {_PARAMETERS} and no key"
    if b"-----BEGIN" in data:
        return "is cut off in its first line, or that line is damaged"
    return "is DER and not PEM" if data[0] == _DER else "is not PEM"


def _unwanted(label: str) -> str:
    if label in _PUBLIC:
        return "holds a public key where a private one belongs"
    if "ENCRYPTED" in label:
        return (
            "holds an encrypted private key, and nobody is there to ask for its passphrase;"
            " 'openssl pkey -in FILE -out NEW' takes it off"
        )
    if label in _PRIVATE:
        return "holds a private key where a public one belongs"
    if label.startswith("OPENSSH "):
        return "holds a key of OpenSSH's own kind; 'ssh-keygen -p -m PKCS8 -f FILE' changes it"
    if "CERTIFICATE" in label:
        return f"holds a {label.lower()} where a key belongs"
    return f"holds a {label}, which is not known here"
