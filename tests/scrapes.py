"""What a scrape says, as tests look at it."""

from __future__ import annotations

import time

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet import reactor, threads
from twisted.trial.unittest import SynchronousTestCase

from relayx.metrics import Metrics
from relayx.service import GatewayService
from tests.guide_peer import DEADLINE
from tests.live import Gateway, Peers, random_host, service_for

Key = tuple[str, tuple[tuple[str, str], ...]]


class Scrape:
    """The samples of one scrape, by name and labels."""

    def __init__(self, text: bytes) -> None:
        self.families = {
            family.name: family for family in text_string_to_metric_families(text.decode())
        }
        self.values: dict[Key, float] = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def __getitem__(self, key: str) -> float:
        """The value of a sample without labels."""
        return self.of(key)

    def of(self, name: str, **labels: str) -> float:
        """The value of a sample; a series that is not there is one that has not begun."""
        return self.values.get((name, tuple(sorted(labels.items()))), 0.0)

    def has(self, name: str, **labels: str) -> bool:
        """Whether there is such a series."""
        return (name, tuple(sorted(labels.items()))) in self.values

    def series(self) -> set[Key]:
        """The names and labels of all samples."""
        return set(self.values)


def unstarted(case: SynchronousTestCase, zmq: int = 1, srt: int = 1) -> GatewayService:
    """A gateway that does not listen, for its metrics."""
    service = service_for(Peers(random_host(), zmq, srt), {})
    case.addCleanup(service.data.release)
    return service


def scrape(metrics: Metrics) -> Scrape:
    """Scrape, in the reactor's thread."""
    return Scrape(metrics.render())


def scrape_of(gateway: Gateway) -> Scrape:
    """Scrape a gateway from a test's thread."""
    text: bytes = threads.blockingCallFromThread(reactor, gateway.service.metrics.render)
    return Scrape(text)


def scrape_until(gateway: Gateway, value: float, name: str, **labels: str) -> Scrape:
    """Scrape until a sample has at least a value; what clients have seen may be counted later."""
    deadline = time.monotonic() + DEADLINE
    while True:
        found = scrape_of(gateway)
        if found.of(name, **labels) >= value:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{name} {labels} is {found.of(name, **labels)}, not {value}")
