"""What keeps a broker from serving."""

from __future__ import annotations

from relayx.core.errors import RelayError


class BrokerError(RelayError):
    """A broker cannot start, or has ended by itself.

    :ivar where: the endpoint, or which broker.
    :ivar reason: in words.
    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(where, reason)
        self.where = where
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"
