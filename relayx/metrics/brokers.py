"""What brokers have moved, and who is connected to them, collected when somebody asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from relayx.core.messages import Pattern, Side
from relayx.zmq.counts import REASONS, BrokerReport

Reports = Callable[[], Iterable[BrokerReport]]


class Brokers(Collector):
    """Reads the reports of brokers. To be called in the reactor's thread.

    Brokers of one pattern are added up; the admin API tells them apart.

    :param reports: of each broker; where there is none, the metrics have no series.
    """

    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    def collect(self) -> Iterator[Metric]:
        """Every metric with its samples."""
        reports = list(self._reports())
        patterns = [pattern for pattern in Pattern if any(r.pattern == pattern for r in reports)]
        parts = CounterMetricFamily(
            "relayx_broker_parts",
            "Parts of messages that brokers received and sent, by side; a message of one part is "
            "one, and with REQ and REP an identity and an empty part go with each. What a SUB "
            "loses by its own HWM counts as sent",
            labels=("pattern", "side", "direction"),
        )
        size = CounterMetricFamily(
            "relayx_broker_bytes",
            "Bytes of these parts, without the framing of ZMTP",
            labels=("pattern", "side", "direction"),
        )
        live = GaugeMetricFamily(
            "relayx_broker_connections",
            "Connections that are open at brokers, with those whose handshake goes on",
            labels=("pattern", "side"),
        )
        failed = CounterMetricFamily(
            "relayx_broker_handshake_failures",
            "Handshakes of ZMTP that failed: refused (auth), not as the protocol wants it "
            "(protocol), broken off (no_detail), of a socket type that is not for this side or of "
            "ZMTP before 3.0 (unfit), or one too many for max_connections (full)",
            labels=("pattern", "reason"),
        )
        running = GaugeMetricFamily(
            "relayx_brokers",
            "Brokers by what they do: running, stalled (the backend takes nothing), or ended by "
            "themselves",
            labels=("pattern", "state"),
        )
        for pattern in patterns:
            of = [report for report in reports if report.pattern == pattern]
            for side, direction, name in _WAYS:
                moved = [getattr(report.moved, name) for report in of]
                labels = (pattern, side, direction)
                parts.add_metric(labels, sum(one.parts for one in moved))
                size.add_metric(labels, sum(one.bytes for one in moved))
            for index, side in enumerate(Side):
                live.add_metric((pattern, side), sum(report.live[index] for report in of))
            for reason in REASONS:
                count = sum(report.failures.get(reason, 0) for report in of)
                failed.add_metric((pattern, reason), count)
            states = Counter(map(_state, of))
            for state in ("running", "stalled", "ended"):
                running.add_metric((pattern, state), states[state])
        yield from (parts, size, live, failed, running)


_WAYS = tuple(
    (side, direction, f"{side}_{direction}") for side in Side for direction in ("received", "sent")
)
"""Side and direction, and the name of what moved there in ``Statistics``."""


def _state(report: BrokerReport) -> str:
    if not report.running:
        return "ended"
    return "stalled" if report.stalled else "running"


def durations(reports: Reports) -> Iterator[tuple[tuple[str, ...], list[int], float]]:
    """From requests to their answers: labels, counts of the buckets and the sum of seconds."""
    for report in reports():
        told = report.durations
        if told is not None:
            upto = [0, *(count for _, count in told.buckets), told.count]
            counts = [after - before for before, after in pairwise(upto)]
            yield (report.pattern,), counts, told.sum
