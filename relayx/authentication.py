"""Whether a client that registers has the right secret (contract section 1, secret file)."""

from __future__ import annotations

import hmac

from relayx.config.model import Secrets


class Authentication:
    """Compares what a client says with what is accepted.

    :param secrets: what the secret file holds.
    """

    def __init__(self, secrets: Secrets) -> None:
        self.replace(secrets)

    def replace(self, secrets: Secrets) -> None:
        """Accept these from now on; who is registered stays so."""
        self._accepted = [
            secret.encode()
            for secret in (secrets.auth_secret, secrets.auth_secret_previous)
            if secret
        ]

    def accepts(self, secret: str) -> bool:
        """Compare with every accepted secret, in constant time and in bytes."""
        told = secret.encode("utf-8", "replace")
        matches = [hmac.compare_digest(told, accepted) for accepted in self._accepted]
        return any(matches)
