"""The gateway's keys: loaded, watched until they expire, and loaded again.

Configuration section ``security``, guide sections 3.4 and 4.5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from relayx.config.model import Security
from relayx.security.expiry import Alarm, expiry_alarms, next_alarm
from relayx.security.keychanges import signing_changes, trusted_changes
from relayx.security.keydir import signing_key, verifying_keys
from relayx.security.keys import SigningKey, VerifyingKey
from relayx.security.policy import OnExpired, Signing
from relayx.security.signing import Signer, Verifier
from relayx.security.trust import Trust

LOOK = 3600.0
"""Most seconds between two looks for keys that expire."""

_LEAST = 1.0

Say = Callable[..., None]
"""Takes a level, an event, a text, and fields by name, for the log."""


class Keys(msgspec.Struct, frozen=True):
    """What was read of the key directories.

    :ivar own: the key that signs, None for none.
    :ivar trusted: the keys that clients may sign with.
    """

    security: Security
    own: SigningKey | None = None
    trusted: tuple[VerifyingKey, ...] = ()


def read_keys(security: Security) -> Keys:
    """Read what the configuration names.

    :raises KeyFileError: naming the first file that cannot be used.
    """
    if security.signing == Signing.OFF:
        return Keys(security)
    return Keys(
        security,
        signing_key(security.keys) if security.keys else None,
        verifying_keys(security.trusted_keys) if security.trusted_keys else (),
    )


class KeyWatch:
    """What the gateway signs with and verifies by, and the alarms before keys expire.

    :param reactor: an IReactorTime.
    :param say: takes each alarm once (``key_expiry``), and each key that comes into force or
        goes out of it (``key_changed``).
    :ivar trust: for the control plane.
    """

    def __init__(self, reactor: Any, say: Say) -> None:
        self.trust = Trust()
        self._reactor = reactor
        self._say = say
        self._keys = Keys(Security())
        self._told: set[tuple[str, float, int]] = set()
        self._call: Any = None

    def use(self, keys: Keys) -> None:
        """Sign and verify with these from now on; what was seen already stays seen."""
        own = keys.own
        signing, on_expired = Signing(keys.security.signing), OnExpired(keys.security.on_expired)
        before, self._keys = self._keys, keys
        self.trust.signer = (
            None if own is None else Signer(own.kid, own.private_key, own.expires, on_expired)
        )
        verifier = self.trust.verifier
        if signing is Signing.OFF:
            self.trust.verifier = None
        elif verifier is None:
            self.trust.verifier = Verifier(keys.trusted, signing, on_expired)
        else:
            verifier.signing, verifier.on_expired = signing, on_expired
            verifier.replace(keys.trusted)
        for change in (
            *signing_changes(before.own, own), *trusted_changes(before.trusted, keys.trusted),
        ):  # fmt: skip
            self._say(
                "info", "key_changed", change.text, kid=change.kid, kid_before=change.kid_before
            )

    def start(self) -> None:
        """Look for keys that expire, now, when the next alarm is due, and every hour."""
        self.close()
        keys: list[SigningKey | VerifyingKey] = list(self._keys.trusted)
        if self._keys.own is not None:
            keys.append(self._keys.own)
        now = self._reactor.seconds()
        due = next_alarm(keys, now)
        wait = LOOK if due is None else min(LOOK, max(_LEAST, due))
        self._call = self._reactor.callLater(wait, self.start)
        for alarm in expiry_alarms(keys, now):
            told = (alarm.kid, alarm.expires, alarm.days)
            if told not in self._told:
                self._told.add(told)
                level = "error" if alarm.days <= 1 else "warn"
                self._say(level, "key_expiry", self._text(alarm), kid=alarm.kid)

    def expiring(self) -> list[tuple[str, str, float]]:
        """The keys that expire: what each is for (sign, verify), its kid, and when."""
        own = self._keys.own
        keys: list[tuple[str, SigningKey | VerifyingKey]] = [
            ("verify", key) for key in self._keys.trusted
        ]
        if own is not None:
            keys.append(("sign", own))
        return [(use, key.kid, key.expires) for use, key in keys if key.expires is not None]

    def _text(self, alarm: Alarm) -> str:
        own = self._keys.own
        whose = "the gateway's" if own is not None and own.kid == alarm.kid else "a client's"
        text = f"{whose} {alarm}"
        if alarm.days:
            return text
        rejects = self._keys.security.on_expired == OnExpired.REJECT
        return text + (
            "; it neither signs nor verifies any more, security.on_expired is reject"
            if rejects
            else "; it is used all the same, security.on_expired is warn"
        )

    def close(self) -> None:
        """Look no more."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
