"""Joins two streams into one connection (contract section 7, as the gateway does it)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred

from relayx.client.stream import Stream


@dataclass(frozen=True, slots=True)
class Joined:
    """How many bytes went each way."""

    a_to_b: int
    b_to_a: int


def join(reactor: Any, a: Stream, b: Stream) -> Deferred[Joined]:
    """Relay between two streams until both are over.

    What waits to be read goes first. Each end of stream is passed on after the last byte,
    and the other direction goes on; a reset is passed on as a reset, after what came
    before it. Whoever reads slowly slows the other. Neither stream may be read or written
    from here on, but each may be aborted, which resets both.

    Fails with `StreamReset` where either side broke.
    """
    raise NotImplementedError
