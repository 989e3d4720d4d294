"""The rules for section ``security``: the key directories that it names can be used."""

from __future__ import annotations

from collections.abc import Iterator

from relayx.config.faults import Fault, shown
from relayx.config.model import Security
from relayx.security.keydir import KeyFileError, signing_key, verifying_keys
from relayx.security.keys import fingerprint
from relayx.security.policy import Signing


def security_faults(file: str, security: Security, broken: frozenset[str]) -> Iterator[Fault]:
    """What is wrong with it.

    :param broken: the dotted keys that could not be read; nothing is said about those.
    """
    if security.signing is Signing.OFF or "security.signing" in broken:
        return
    needed = security.signing is Signing.REQUIRE and "security.trusted_keys" not in broken
    if needed and not security.trusted_keys:
        problem = "is missing, and security.signing = require refuses whoever has no key in it"
        yield Fault(file, "security.trusted_keys", "", problem, "a directory of <kid>.pub")
    own: set[bytes] = set()
    trusted: set[bytes] = set()
    for key, path, found in (
        ("security.keys", security.keys, own),
        ("security.trusted_keys", security.trusted_keys, trusted),
    ):
        if not path or key in broken:
            continue
        try:
            if found is own:
                signing_key(path)
            found.update(fingerprint(each.public_key) for each in verifying_keys(path))
        except KeyFileError as error:
            yield Fault(file, key, shown(path), f"cannot be used: {error}")
    if own & trusted:
        problem = "holds the gateway's own key: what it signed could be played back to it"
        allowed = "the public keys of clients alone"
        yield Fault(file, "security.trusted_keys", shown(security.trusted_keys), problem, allowed)


def security_warnings(file: str, security: Security, curved: bool) -> Iterator[Fault]:
    """What is allowed and yet hardly meant.

    :param curved: whether a broker's key of CURVE is among `keys`.
    """
    if security.signing is Signing.OFF:
        for key, path in (
            ("security.keys", security.keys),
            ("security.trusted_keys", security.trusted_keys),
        ):
            if path and not (curved and path == security.keys):
                yield Fault(file, key, shown(path), "is not used: security.signing is off")
    elif not security.keys:
        problem = "is empty: the gateway signs nothing, and clients that verify it refuse it"
        yield Fault(file, "security.keys", "", problem)
