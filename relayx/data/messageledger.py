"""How many messages of ZMTP have gone through, by the pattern of their sockets."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from relayx.data.inspected import Inspection
from relayx.zmtp import PATTERNS


class MessagesMoved(msgspec.Struct, frozen=True):
    """Whole messages, and the content of all their frames; with CURVE that is ciphertext.

    Subscriptions are commands in ZMTP 3.1, and messages in 3.0.
    """

    fe_to_be: int = 0
    fe_to_be_bytes: int = 0
    be_to_fe: int = 0
    be_to_fe_bytes: int = 0

    def plus(self, inspection: Inspection) -> MessagesMoved:
        """These with those of a session."""
        fe, be = inspection.fe, inspection.be
        return MessagesMoved(
            self.fe_to_be + fe.messages, self.fe_to_be_bytes + fe.message_bytes,
            self.be_to_fe + be.messages, self.be_to_fe_bytes + be.message_bytes,
        )  # fmt: skip


NONE = MessagesMoved()


class MessageLedger:
    """How many messages and bytes of them the sessions that are over have moved, by pattern."""

    def __init__(self) -> None:
        self._moved: dict[str, MessagesMoved] = {}

    def over(self, inspection: Inspection) -> None:
        """A session is over."""
        if inspection.counts:
            self._moved[inspection.pattern] = self._of(inspection.pattern).plus(inspection)

    def _of(self, pattern: str) -> MessagesMoved:
        return self._moved.get(pattern, NONE)

    def with_running(self, running: Iterable[Inspection]) -> dict[str, MessagesMoved]:
        """The same with what sessions that still run have moved so far."""
        totals = {pattern: self._of(pattern) for pattern in PATTERNS}
        for inspection in running:
            if inspection.counts:
                totals[inspection.pattern] = totals[inspection.pattern].plus(inspection)
        return totals
