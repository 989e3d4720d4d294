"""What section ``http`` and the token for it may say."""

from __future__ import annotations

import re
from collections.abc import Iterator

from relayx.config.endpoints import is_private, ssl_files
from relayx.config.faults import Fault, shown
from relayx.config.model import Config, Secrets

_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")


def http_faults(file: str, config: Config, broken: frozenset[str]) -> Iterator[Fault]:
    """Names that are none; the port is not looked at, and belongs to none.

    :param broken: keys of which nothing is said.
    """
    if "http.hosts" in broken:
        return
    for index, name in enumerate(config.http.hosts):
        if len(name) > 253 or not _NAME.fullmatch(name):
            allowed = "a host name without a port, such as gateway.example"
            yield Fault(file, f"http.hosts[{index}]", shown(name), "is no host name", allowed)


def http_warnings(file: str, config: Config, secrets: Secrets) -> Iterator[Fault]:
    """What an operator hardly means, where the endpoint can be reached from elsewhere."""
    endpoint = config.http.endpoint
    if not endpoint or is_private(endpoint) or endpoint.startswith("systemd:"):
        return
    if not secrets.admin_token:
        problem = "can be reached from elsewhere, and without admin_token in the secret file"
        problem += " answers /healthz, /readyz and /metrics alone"
        yield Fault(file, "http.endpoint", shown(endpoint), problem)
    elif ssl_files(endpoint) is None:
        problem = "can be reached from elsewhere, and the admin_token goes there without TLS"
        yield Fault(file, "http.endpoint", shown(endpoint), problem, "an ssl: endpoint")
