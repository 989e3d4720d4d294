"""The options for signed control messages: what a command signs with, and whom it believes.

Contract section 2 (``sign``, ``kid``), guide section 4.5.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

import click

from relayx.cli.running import Failed
from relayx.security.errors import KeyFileError
from relayx.security.keydir import signing_key, verifying_keys
from relayx.security.keyfile import parse_public_key, read_private_key, read_public_key
from relayx.security.keys import ANY_KID, is_kid
from relayx.security.policy import Signing
from relayx.security.signing import Signer, Verifier, VerifyingKey
from relayx.security.trust import Trust

Command = Callable[..., Any]

TRUST_OPTIONS: list[Callable[[Command], Command]] = [
    click.option(
        "--sign-with",
        metavar="PATH",
        envvar="RELAYX_SIGN_WITH",
        show_envvar=True,
        help="Sign control messages: a key directory of 'relayx keys', or a file <kid>.key.",
    ),
    click.option(
        "--gateway-keys",
        metavar="PATH",
        envvar="RELAYX_GATEWAY_KEYS",
        show_envvar=True,
        help="Believe only a gateway that signs with one of these: a directory of <kid>.pub, or"
        " one such file. By default relay_public_key of the secret file, where it has one.",
    ),
]


def find_trust(sign_with: str | None, gateway_keys: str | None, public_key: str) -> Trust | None:
    """What the options, and ``relay_public_key`` of the secret file, come to.

    The files are read again for each connection.

    :param public_key: PEM, "" for none.
    :raises Failed: naming the file that cannot be used.
    """
    try:
        signer = _signer(sign_with) if sign_with else None
        believed = _believed(gateway_keys, public_key)
    except KeyFileError as error:
        raise Failed(str(error)) from None
    if signer is None and not believed:
        return None

    def renew(trust: Trust) -> None:
        """Read the files again: keys are rotated while a command goes on."""
        with contextlib.suppress(KeyFileError):  # being changed, or gone: those of before hold
            trust.signer = _signer(sign_with) if sign_with else None
            if trust.verifier is not None:
                trust.verifier.replace(_believed(gateway_keys, public_key))

    return Trust(signer, Verifier(believed, Signing.REQUIRE) if believed else None, renew)


def _signer(path: str) -> Signer:
    if os.path.isdir(path):
        found = signing_key(path)
        return Signer(found.kid, found.private_key, found.expires)
    kid = os.path.splitext(os.path.basename(path))[0]
    if not is_kid(kid):
        raise KeyFileError(path, "is not named by a kid", "<kid>.key")
    return Signer(kid, read_private_key(path))


def _believed(path: str | None, public_key: str) -> tuple[VerifyingKey, ...]:
    if path and os.path.isdir(path):
        found = verifying_keys(path)
        if not found:
            raise KeyFileError(path, "holds no public key", "the gateway's <kid>.pub")
        return found
    if path:
        return (VerifyingKey(ANY_KID, read_public_key(path)),)
    if public_key:
        return (VerifyingKey(ANY_KID, parse_public_key(public_key, "relay_public_key")),)
    return ()
