"""The sessions that run between two SRT connections, as the reactor's thread knows them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from relayx.core.messages import Protocol, Role
from relayx.core.pairing import Stalls
from relayx.srt.connection import SrtConnection
from relayx.srt.pump import Counts
from relayx.srt.session import Report
from relayx.srt.statistics import LinkState
from relayx.srt.totals import Totals


class Running(NamedTuple):
    """A session that runs.

    :ivar started: in the reactor's seconds.
    """

    pairing_id: str
    fe: SrtConnection
    be: SrtConnection
    keep: bool
    started: float


class RunningSessions:
    """All that run, with the newest report of each.

    :param totals: the sums of each port, to which reports are added.
    """

    def __init__(self, totals: Totals) -> None:
        self._totals = totals
        self._running: dict[str, Running] = {}
        self._reports: dict[str, Report] = {}

    def __iter__(self) -> Iterator[Running]:
        return iter(self._running.values())

    def __len__(self) -> int:
        return len(self._running)

    def begin(self, running: Running) -> None:
        """One begins."""
        self._running[running.pairing_id] = running

    def over(self, pairing_id: str) -> Running | None:
        """One is over; None where it did not run."""
        running = self._running.pop(pairing_id, None)
        self._reports.pop(pairing_id, None)
        if running is not None:
            self._totals.session_over(pairing_id)
        return running

    def reported(self, reports: list[Report]) -> bool:
        """What sessions have moved by now; whether the state of a link is new."""
        measured = False
        for report in reports:
            before = self._reports.get(report.pairing_id)
            if before is not None and before.fe is not report.fe:
                measured = True
            self.note(report)
        return measured

    def note(self, report: Report) -> None:
        """What one session has moved by now."""
        running = self._running.get(report.pairing_id)
        if running is None:
            return
        self._reports[report.pairing_id] = report
        fe, be, totals = running.fe, running.be, self._totals
        totals.measured(fe.link, fe.port, Role.FE, report.fe)
        totals.measured(be.link, be.port, Role.BE, report.be)
        totals.dropped(report.pairing_id, be.port, report.dropped)

    def session(self, pairing_id: str) -> tuple[Running, Report] | None:
        """One that runs, and what it has moved so far."""
        running = self._running.get(pairing_id)
        return None if running is None else (running, self.report(pairing_id))

    def report(self, pairing_id: str) -> Report:
        """What a session has moved up to a tenth of a second ago, and the state of its links."""
        found = self._reports.get(pairing_id)
        return found or Report(pairing_id, Counts(), Counts(), LinkState(), LinkState())

    def moved(self) -> Iterable[tuple[Protocol, int, int, Stalls]]:
        """Of each session that runs: protocol, bytes FE to BE, bytes BE to FE, and stalls."""
        for pairing_id in self._running:
            report = self.report(pairing_id)
            stalls = Stalls(fe=report.to_fe.stalled, be=report.to_be.stalled)
            yield Protocol.SRT, report.to_be.bytes, report.to_fe.bytes, stalls
