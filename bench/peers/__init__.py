"""What is measured, by name."""

from __future__ import annotations

from pathlib import Path

from bench.peers.base import Pair, Peer, Running
from bench.peers.direct import Direct
from bench.peers.gateway import Gateway
from bench.peers.proxies import Go, Haproxy, Nginx
from bench.peers.twisted_peers import PortForward, Transit

__all__ = ["NAMES", "Pair", "Peer", "Running", "others"]


def others(builds: Path) -> list[Peer]:
    """Every peer but the gateway; `builds` is a folder for what has to be built."""
    return [
        Haproxy(),
        Haproxy("haproxy-splice", "option splice-auto"),
        Nginx(),
        Go(builds),
        PortForward(),
        Transit(),
        Direct(),
    ]


NAMES = [Gateway().name, *(peer.name for peer in others(Path()))]
