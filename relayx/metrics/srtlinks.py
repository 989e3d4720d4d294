"""SRT links by port and role, and SRT callers that were turned away.

A port has series once an SRT connection was in a session there, and keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from relayx.core.streamid import Reject
from relayx.planes import Planes
from relayx.srt.totals import PortLinks

_LABELS = ("port", "role")
_OF = (
    " of the SRT connections of one role in sessions on a port, between them and the gateway. "
    "Measured once a second"
)

_GAUGES: dict[str, tuple[str, Callable[[PortLinks], float]]] = {
    "srt_links": ("How many there are" + _OF, lambda found: found.links),
    "srt_rtt_ms": ("Round-trip time in ms, the longest" + _OF, lambda found: found.rtt_ms),
    "srt_send_rate_bps": (
        "Bits a second sent, with packets sent again, the sum" + _OF,
        lambda found: found.send_rate_bps,
    ),
    "srt_recv_rate_bps": (
        "Bits a second received, the sum" + _OF,
        lambda found: found.recv_rate_bps,
    ),
    "srt_loss_percent": (
        "Packets lost in the last second, sent again or not, the worst" + _OF,
        lambda found: found.loss_percent,
    ),
    "srt_latency_ms": (
        "Latency in force in ms, as was agreed on in the handshake, the longest" + _OF,
        lambda found: found.latency_ms,
    ),
}

_COUNTERS: dict[str, tuple[str, Callable[[PortLinks], int]]] = {
    "srt_retrans_packets": (
        "Packets that the gateway sent again on SRT connections of one role on a port",
        lambda found: found.drops.retransmitted,
    ),
    "srt_sent_late_packets": (
        "Packets that the gateway gave up since they would have come too late, on SRT connections "
        "of one role on a port",
        lambda found: found.drops.sent_late,
    ),
    "srt_received_late_packets": (
        "Packets that did not come to the gateway in time to be handed on, on SRT connections of "
        "one role on a port",
        lambda found: found.drops.received_late,
    ),
    "relayx_srt_messages_dropped": (
        "Messages that the SRT connections of one role on a port did not get: their send buffer "
        "was full, as that of a slow watcher, or they would have come too late",
        lambda found: found.messages_dropped,
    ),
}


class SrtLinks(Collector):
    """Reads what there is. To be called in the reactor's thread."""

    def __init__(self, planes: Planes) -> None:
        self._planes = planes

    def collect(self) -> Iterator[Metric]:
        """Every metric with its samples."""
        found = [
            ((str(port), role), links) for (port, role), links in self._planes.srt_links().items()
        ]
        for name, (text, value) in _GAUGES.items():
            gauge = GaugeMetricFamily(name, text, labels=_LABELS)
            for labels, links in found:
                gauge.add_metric(labels, value(links))
            yield gauge
        for name, (text, count) in _COUNTERS.items():
            counter = CounterMetricFamily(name, text, labels=_LABELS)
            for labels, links in found:
                counter.add_metric(labels, count(links))
            yield counter
        rejected = CounterMetricFamily(
            "srt_rejected",
            "SRT callers that were turned away in their handshake, by the code that they read",
            labels=("code",),
        )
        counts = {int(code): 0 for code in Reject} | self._planes.srt_rejected()
        for code, times in sorted(counts.items()):
            rejected.add_metric((str(code),), times)
        yield rejected
