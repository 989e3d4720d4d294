"""The reference of metrics, from the registry of a gateway that never runs."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric
from twisted.internet.testing import MemoryReactorClock

from relayx.config.model import Config, Secrets
from relayx.service import GatewayService

from . import rst

NOT_OURS = ("process_", "python_")


def metrics() -> str:
    """Every metric of relayx's own: its name, type, labels, and what it means."""
    rows = ((name, f.type, labels, rst.escaped(f.documentation)) for name, labels, f in families())
    return "\n".join(rst.table(("Metric", "Type", "Labels", "What it says"), "35 10 20 60", rows))


def families() -> Iterator[tuple[str, str, Metric]]:
    """Name and labels, as the table has them, and the metric."""
    service = GatewayService(Config(), Secrets(auth_secret="-"), MemoryReactorClock())
    try:
        found = list(service.metrics.registry.collect())
    finally:
        service.data.release()
    for family in found:
        if not family.name.startswith(NOT_OURS):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = {key for sample in family.samples for key in sample.labels} - {"le"}
            shown = ", ".join(map(rst.verbatim, sorted(labels)))
            yield rst.verbatim(name), shown, family
