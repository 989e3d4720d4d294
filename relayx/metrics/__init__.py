"""What Prometheus is told of a gateway: counters, and its state at the time of a scrape.

Nothing that a client chooses is a label, so that there are as many series after a million
clients as after one; but for ``kid``, the names of the operator's own key files.
"""

from relayx.metrics.exposition import CONTENT_TYPE, Metrics
from relayx.metrics.state import Sources

__all__ = ["CONTENT_TYPE", "Metrics", "Sources"]
