"""The rules for the secret file; no fault ever carries one of its values (contract section 1)."""

from __future__ import annotations

import base64
import binascii
import re
import stat

import msgspec

from relayx.config.convert import unknown
from relayx.config.faults import Fault, plain
from relayx.config.files import mapping, parse_json, read_text
from relayx.config.model import Secrets

PROD_SECRET_LEAST = 32
"""Bytes."""

PASSPHRASE_LEAST, PASSPHRASE_MOST = 10, 79
"""Bytes of a passphrase for SRT, as libsrt takes it."""

PLACEHOLDERS = ("replaceme", "changeme", "dummysecret", "yoursecret", "placeholder")
"""What marks a template's value, in small letters and without what separates words."""

_SEPARATORS = re.compile(r"[^a-z0-9]+")
_PEM = re.compile(
    r"\s*-----BEGIN ((?:[A-Z0-9]+ )*PUBLIC KEY)-----\s(.+?)-----END \1-----\s*", re.DOTALL
)
_SENDABLE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_NO_KEY_YET = re.compile(r"\s*\.\.\.\s*")


def is_placeholder(value: str) -> bool:
    """Whether a value is still that of a template."""
    bare = _SEPARATORS.sub("", value.lower())
    return any(mark in bare for mark in PLACEHOLDERS)


def read_secrets(path: str, *, prod: bool) -> tuple[Secrets, list[Fault], list[Fault]]:
    """The secrets of a file, what is wrong with it, and what is unwise.

    :raises ConfigError: where there is nothing to read them from.
    """
    text, mode = read_text(path, "--env-file")
    document, faults = parse_json(path, text)
    found, wrong = mapping(path, "", document)
    faults += wrong
    warnings: list[Fault] = []
    strict = faults if prod else warnings
    _check_mode(path, mode, strict, warnings)
    known = [field.name for field in msgspec.structs.fields(Secrets)]
    faults += [unknown(path, name, "", {"": known}) for name in found if name not in known]
    values = {name: _text(path, name, found.get(name), faults) for name in known}
    if not any(fault.key == "auth_secret" for fault in faults) and not values["auth_secret"]:
        where = "is empty" if "auth_secret" in found else "is missing"
        allowed = "a text that clients register with, in prod of 32 bytes or more"
        faults.append(Fault(path, "auth_secret", "", where, allowed))
    for name in ("auth_secret", "auth_secret_previous", "admin_token"):
        _check_secret(path, name, values[name], strict, faults if prod else [])
    if values["admin_token"] and values["admin_token"] == values["auth_secret"]:
        problem, allowed = "is auth_secret, which every client knows", "a random text of its own"
        strict.append(Fault(path, "admin_token", "", problem, allowed))
    if values["admin_token"] and not _SENDABLE.fullmatch(values["admin_token"]):
        problem = "cannot be sent in a header, so that nobody could ever show it"
        allowed = "characters of ASCII that print, with no space at either end"
        faults.append(Fault(path, "admin_token", "", problem, allowed))
    _check_public_key(path, values["relay_public_key"], strict, faults)
    _check_passphrase(path, values["srt_passphrase"], strict, faults)
    return Secrets(**values), faults, warnings


def _text(path: str, name: str, value: object, faults: list[Fault]) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        faults.append(Fault(path, name, "", "is of the wrong type", "a text"))
        return ""
    try:
        value.encode()
    except UnicodeEncodeError:
        faults.append(Fault(path, name, "", "holds half of a surrogate pair", "a text"))
        return ""
    return value


def _check_mode(path: str, mode: int, strict: list[Fault], warnings: list[Fault]) -> None:
    bits = oct(stat.S_IMODE(mode))[2:].rjust(4, "0")
    allowed = f"mode 0600 (chmod 600 {plain(path)})"
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        problem = f"can be read or written by others, its mode is {bits}"
        strict.append(Fault(path, "", "", problem, allowed))
    elif mode & (stat.S_IRGRP | stat.S_IWGRP):
        problem = f"can be read or written by its group, its mode is {bits}"
        warnings.append(Fault(path, "", "", problem, allowed))


def _check_secret(
    path: str, name: str, value: str, strict: list[Fault], prod_faults: list[Fault]
) -> None:
    if not value:
        return
    if is_placeholder(value):
        problem = "is still the placeholder of a template"
        strict.append(Fault(path, name, "", problem, "a random text"))
    if len(value.encode()) < PROD_SECRET_LEAST:
        problem = f"is {len(value.encode())} bytes long"
        allowed = f"{PROD_SECRET_LEAST} bytes or more in prod"
        prod_faults.append(Fault(path, name, "", problem, allowed))


def _check_passphrase(path: str, value: str, strict: list[Fault], faults: list[Fault]) -> None:
    name, least, most = "srt_passphrase", PASSPHRASE_LEAST, PASSPHRASE_MOST
    if value and not least <= len(value.encode()) <= most:
        allowed = f'{least} to {most} bytes, or "" for none'
        faults.append(Fault(path, name, "", "is too short or too long for SRT", allowed))
    elif is_placeholder(value):
        problem = "is still the placeholder of a template"
        strict.append(Fault(path, name, "", problem, "a random text"))


def _check_public_key(path: str, value: str, strict: list[Fault], faults: list[Fault]) -> None:
    name = "relay_public_key"
    allowed = 'a public key in PEM, or "" for none'
    if not value:
        return
    pem = _PEM.fullmatch(value)
    if is_placeholder(value) or (pem and _NO_KEY_YET.fullmatch(pem[2])):
        problem = "is still the placeholder of a template"
        strict.append(Fault(path, name, "", problem, allowed))
    elif "PRIVATE KEY" in value:
        faults.append(Fault(path, name, "", "holds a private key", allowed))
    elif not pem or not _is_base64(pem[2]):
        faults.append(Fault(path, name, "", "is not PEM", allowed))


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode("".join(text.split()), validate=True))
    except (binascii.Error, ValueError):
        return False
