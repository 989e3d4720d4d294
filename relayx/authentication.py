"""Whether a client that registers has the right secret (contract section 1, secret file).

A client whose policy has a secret of its own must give that one; it is kept as a scrypt hash,
which takes tens of milliseconds to compare with and is done in a thread. What was right once
is known again by an HMAC under a key of this process, so that coming back costs nothing.
"""

from __future__ import annotations

import hmac
import secrets as tokens
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from twisted.internet.defer import Deferred, succeed

from relayx.config.model import ClientPolicy, Secrets
from relayx.core.codec import shown
from relayx.core.messages import Register
from relayx.core.policy import Policy
from relayx.net.sources import Seldom
from relayx.security import secrethash

SlowCheck = Callable[[Callable[[], bool]], Deferred[bool]]
"""Does what takes long somewhere else."""

Say = Callable[..., None]
"""Takes a level, an event, a text, and fields by name, for the log."""


class Authentication:
    """Compares what a client says with what is accepted.

    :param secrets: what the secret file holds.
    :param entries: ``clients`` of the configuration.
    :param clock: an IReactorTime.
    :param say: writes a line in the log: each secret that is another after :meth:`replace`
        (``secret_changed``), and who still uses the previous one (``previous_secret``).
    :ivar previous_used: how often ``auth_secret_previous`` was the right one.
    """

    def __init__(
        self, secrets: Secrets, entries: Iterable[ClientPolicy], clock: Any, say: Say
    ) -> None:
        self.previous_used = 0
        self._say = say
        self._clock = clock
        self._told = Seldom()
        self._key = tokens.token_bytes(32)
        self._known: dict[str, bytes] = {}
        self._own: dict[str, secrethash.SecretHash] = {}
        self._current = self._previous = b""
        self._accept(secrets, entries)

    def replace(self, secrets: Secrets, entries: Iterable[ClientPolicy] | None = None) -> None:
        """Accept other secrets from now on; who is registered stays so.

        :param entries: None: those of before.
        :raises ValueError: where a hash is none; the old secrets hold then.
        """
        current, previous, own = self._current, self._previous, self._own
        self._accept(secrets, entries)
        for text in (*self._shared_changes(current, previous), *_own_changes(own, self._own)):
            self._say("info", "secret_changed", text)

    def _accept(self, secrets: Secrets, entries: Iterable[ClientPolicy] | None) -> None:
        if entries is not None:
            self._own = {e.match: secrethash.parse(e.secret_hash) for e in entries if e.secret_hash}
            texts = {str(hashed) for hashed in self._own.values()}
            self._known = {text: known for text, known in self._known.items() if text in texts}
        self._current = secrets.auth_secret.encode("utf-8", "replace")
        self._previous = secrets.auth_secret_previous.encode("utf-8", "replace")

    def _shared_changes(self, current: bytes, previous: bytes) -> Iterator[str]:
        """What is different from the secrets that were accepted before."""
        turned = self._current != current
        kept = turned and bool(current) and self._previous == current
        if kept:
            yield "auth_secret is another; the one before it is accepted as auth_secret_previous"
        elif turned:
            yield "auth_secret is another; the one before it is not accepted any more"
        if previous and previous not in (self._previous, self._current):
            yield "the auth_secret_previous of before is not accepted any more"
        if self._previous not in (b"", previous) and not kept:
            yield "auth_secret_previous is another, and accepted"

    def check(
        self,
        asked: Register,
        policy: Policy,
        slowly: SlowCheck,
        trace_id: str = "",
        address: str = "",
    ) -> Deferred[bool]:
        """Compare, in constant time and in bytes; fires at once where nothing is slow.

        :param policy: what holds for the client.
        :param address: of the client, for the log.
        """
        if policy.own_secret:
            return self._check_own(asked.secret, self._own.get(policy.match), slowly)
        return succeed(self._check_shared(asked, trace_id, address))

    def _check_shared(self, asked: Register, trace_id: str, address: str) -> bool:
        told = asked.secret.encode("utf-8", "replace")
        current = bool(self._current) and hmac.compare_digest(told, self._current)
        previous = bool(self._previous) and hmac.compare_digest(told, self._previous)
        if previous and not current:
            self.previous_used += 1
            who = f"{shown(asked.role)} {shown(asked.client_id)}"
            if self._told.may(who, self._clock.seconds()):
                text = (
                    f"{who} still registers with auth_secret_previous, "
                    f"which was used {self.previous_used} times so far"
                )
                self._say(
                    "info", "previous_secret", text,
                    role=shown(asked.role)[1:-1], client_id=shown(asked.client_id)[1:-1],
                    address=address, trace_id=trace_id,
                )  # fmt: skip
        return current or previous

    def _check_own(
        self, told: str, hashed: secrethash.SecretHash | None, slowly: SlowCheck
    ) -> Deferred[bool]:
        if hashed is None:
            return succeed(False)
        digest = hmac.digest(self._key, told.encode("utf-8", "replace"), "sha256")
        text = str(hashed)
        known = self._known.get(text)
        if known is not None and hmac.compare_digest(known, digest):
            return succeed(True)

        def remember(right: bool) -> bool:
            if right and hashed in self._own.values():
                self._known[text] = digest
            return right

        return slowly(lambda: hashed.matches(told)).addCallback(remember)


def _own_changes(
    old: Mapping[str, secrethash.SecretHash], new: Mapping[str, secrethash.SecretHash]
) -> Iterator[str]:
    """Whose own secret is another, by the pattern of its entry in ``clients``."""
    for match in new:
        if match not in old:
            yield f"clients[{match}] has a secret of its own"
        elif old[match] != new[match]:
            yield f"the secret of clients[{match}] is another"
    for match in old:
        if match not in new:
            yield f"clients[{match}] has no secret of its own any more"
