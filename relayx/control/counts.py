"""What is counted on the control plane: plain numbers, which whoever wants them reads."""

from __future__ import annotations

from collections import Counter

from relayx.core.messages import REQUESTS, Message

UNKNOWN = "unknown"
"""Stands for every type that a client made up: what is counted by it is bounded."""


class Counts:
    """The messages of all control connections since the start.

    :ivar received: by type. A message counts once its envelope can be read.
    :ivar sent: by type, each for every client that it was handed on for.
    :ivar errors: messages that were answered with ``error``, by code.
    :ivar rate_limited: messages that were not acted upon since their client sent too many.
    :ivar turned_away: connections that came while too many from their source were open.
    :ivar tls_failures: connections that ended since their TLS was wrong.
    :ivar log_lines_dropped: ``log`` messages that lagging clients, gone by now, did not get.
    """

    __slots__ = (
        "errors", "log_lines_dropped", "rate_limited", "received", "sent", "tls_failures",
        "turned_away",
    )  # fmt: skip

    def __init__(self) -> None:
        self.received: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.rate_limited = 0
        self.tls_failures = 0
        self.turned_away = 0
        self.log_lines_dropped = 0

    def came(self, kind: str) -> None:
        """A message has come; `kind` is whatever its sender wrote."""
        self.received[kind if kind in REQUESTS else UNKNOWN] += 1

    def went(self, message: Message | str, times: int = 1) -> None:
        """A message was handed on for so many clients; a string is a ``log``."""
        self.sent["log" if isinstance(message, str) else message.TYPE] += times
