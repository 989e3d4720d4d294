"""All metrics of one gateway, as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import Metric

from relayx.core.effects import Pair
from relayx.core.messages import Protocol, Role, Side
from relayx.metrics.brokers import Brokers, durations
from relayx.metrics.counted import Counted
from relayx.metrics.lag import LoopLag
from relayx.metrics.srtlinks import SrtLinks
from relayx.metrics.state import Sources, State

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""Of what :meth:`Metrics.render` returns."""


class Registry(CollectorRegistry):
    """Leaves out when each counter was made, which would nearly double what there is to read."""

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client.registry.Collector."""
        for metric in super().collect():
            metric.samples = [one for one in metric.samples if not one.name.endswith("_created")]
            yield metric


class Metrics:
    """What one gateway tells Prometheus; others in the same process have their own.

    :param sources: the gateway's parts.
    """

    def __init__(self, sources: Sources) -> None:
        self._clock = sources.clock
        self.registry = Registry()
        self._counted = Counted(self.registry)
        self._lag = LoopLag(sources.clock, self._counted.lagged)
        self._revision = Gauge(
            "relayx_config_revision",
            "The configuration in force: 1 at the start, one more with each that took its place",
            registry=self.registry,
        )
        self._reload_worked = Gauge(
            "relayx_config_last_reload_successful",
            "1 where the last reload was taken, 0 where it was refused as a whole",
            registry=self.registry,
        )
        self._reload_time = Gauge(
            "relayx_config_last_reload_success_timestamp_seconds",
            "When the configuration in force was read, in seconds since the epoch",
            registry=self.registry,
        )
        self._reloads = Counter(
            "relayx_config_reloads", "Reloads, by result", ["result"], registry=self.registry
        )
        for result in ("success", "failure"):
            self._reloads.labels(result)
        self._in_force(1)
        self._counted.answers.elsewhere = lambda: durations(sources.brokers)
        self.registry.register(State(sources))
        self.registry.register(SrtLinks(sources.data))
        self.registry.register(Brokers(sources.brokers))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def render(self) -> bytes:
        """Everything in the text format of Prometheus; to be called in the reactor's thread."""
        return generate_latest(self.registry)

    def start(self) -> None:
        """Time the reactor from now on."""
        self._lag.start()

    def close(self) -> None:
        """Time it no more; what was counted stays."""
        self._lag.close()

    # what happens

    def noted(self, event: str, fields: Mapping[str, Any]) -> None:
        """Something was said for the log."""
        self._counted.noted(event, fields)

    def said_hello(self, protocol: Protocol, role: Role) -> None:
        """A data connection has said who it is."""
        self._counted.said_hello(protocol, role)

    def zmq_replied(self, pattern: str, seconds: list[float]) -> None:
        """Replies of ZeroMQ have gone through, so long after their requests."""
        self._counted.zmq_replied(pattern, seconds)

    def broker_connected(self, side: Side, more: int) -> None:
        """So many more connections have come to a side of a broker."""
        self._counted.broker_connected(side, more)

    def paired(self, pair: Pair) -> None:
        """A session begins."""
        self._counted.paired(pair)

    def reloaded(self, revision: int) -> None:
        """Another configuration is in force from now on.

        :param revision: its number; the one at the start is 1.
        """
        self._reloads.labels("success").inc()
        self._in_force(revision)

    def reload_refused(self) -> None:
        """A configuration was read and refused; the one before it stays in force."""
        self._reloads.labels("failure").inc()
        self._reload_worked.set(0)

    def _in_force(self, revision: int) -> None:
        self._revision.set(revision)
        self._reload_worked.set(1)
        self._reload_time.set(self._clock.seconds())
