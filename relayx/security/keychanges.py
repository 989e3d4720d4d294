"""What is different between the keys that were in force and those that are (guide section 3.4).

For the log and the audit log: each change names the kids, and nothing else of a key.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from relayx.security.keys import SigningKey, VerifyingKey, fingerprint


class KeyChange(msgspec.Struct, frozen=True):
    """One of them.

    :ivar text: a sentence for people.
    :ivar kid: the key that is used from now on, "" where none is.
    :ivar kid_before: the key that was used until now, "" where none was.
    """

    text: str
    kid: str
    kid_before: str


def signing_changes(before: SigningKey | None, after: SigningKey | None) -> list[KeyChange]:
    """Of the key that the gateway signs with: one change or none."""
    old, new = "" if before is None else before.kid, "" if after is None else after.kid
    if after is None:
        text = f"the gateway signs no more; it signed with key {old}"
        return [KeyChange(text, "", old)] if before is not None else []
    if before is None:
        return [KeyChange(f"the gateway signs with key {new}", new, "")]
    if old != new:
        text = f"the gateway signs with key {new}, and with key {old} no more"
        return [KeyChange(text, new, old)]
    if _print(before) != _print(after):
        text = f"the gateway signs with another key of the same name, {new}"
        return [KeyChange(text, new, old)]
    return []


def trusted_changes(
    before: Iterable[VerifyingKey], after: Iterable[VerifyingKey]
) -> list[KeyChange]:
    """Of the keys that clients may sign with: one change a kid, new ones first."""
    old, new = {key.kid: key for key in before}, {key.kid: key for key in after}
    changes = [
        KeyChange(f"clients may sign with key {kid}", kid, "") for kid in new if kid not in old
    ]
    for kid, key in new.items():
        if kid in old and _print(old[kid]) != _print(key):
            text = f"clients may sign with another key of the same name, {kid}"
            changes.append(KeyChange(text, kid, kid))
    changes += [
        KeyChange(f"clients may sign with key {kid} no more", "", kid)
        for kid in old
        if kid not in new
    ]
    return changes


def _print(key: SigningKey | VerifyingKey) -> bytes:
    return fingerprint(
        key.public_key if isinstance(key, VerifyingKey) else key.private_key.public_key()
    )
