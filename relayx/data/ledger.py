"""What the sessions have moved and how long they stood still, by the protocol of their port."""

from __future__ import annotations

from collections.abc import Iterable

from relayx.core.messages import Protocol
from relayx.core.pairing import Outcome, Stalls

NONE = Stalls()


class Moved:
    """What sessions have moved and how long they stood still, added up.

    :ivar stalls: seconds.
    """

    __slots__ = ("be_to_fe_bytes", "fe_to_be_bytes", "stalls")

    def __init__(self) -> None:
        self.fe_to_be_bytes = 0
        self.be_to_fe_bytes = 0
        self.stalls = Stalls()

    def add(self, fe_to_be_bytes: int, be_to_fe_bytes: int, stalls: Stalls) -> None:
        """Add one session's."""
        self.fe_to_be_bytes += fe_to_be_bytes
        self.be_to_fe_bytes += be_to_fe_bytes
        if stalls != NONE:
            self.stalls += stalls


class Ledger:
    """What all sessions that are over have moved, by the protocol of their port."""

    def __init__(self) -> None:
        self._moved = {protocol: Moved() for protocol in Protocol}
        self.bytes = 0

    def over(self, protocol: Protocol, outcome: Outcome) -> None:
        """A session is over."""
        self.bytes += outcome.fe_to_be_bytes + outcome.be_to_fe_bytes
        self._moved[protocol].add(outcome.fe_to_be_bytes, outcome.be_to_fe_bytes, outcome.stalls)

    def with_running(
        self, running: Iterable[tuple[Protocol, int, int, Stalls]]
    ) -> dict[Protocol, Moved]:
        """The same with what sessions that still run have moved so far.

        :param running: protocol, bytes FE to BE, bytes BE to FE, and stalls of each.
        """
        totals = {}
        for protocol, before in self._moved.items():
            totals[protocol] = Moved()
            totals[protocol].add(before.fe_to_be_bytes, before.be_to_fe_bytes, before.stalls)
        for protocol, to_be, to_fe, stalls in running:
            totals[protocol].add(to_be, to_fe, stalls)
        return totals
