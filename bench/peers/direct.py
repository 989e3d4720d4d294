"""No relay at all: a loopback connection, the limit of the machine and of the load generator."""

from __future__ import annotations

import platform

from bench.peers.base import Peer, Proxy


class Direct(Peer):
    """Client and server connected to each other."""

    name = "direct"

    def version(self) -> str:
        """The kernel is all there is."""
        return f"Linux {platform.release()}"

    def run(self, sessions: int) -> DirectRunning:
        """Nothing to run."""
        return DirectRunning()


class DirectRunning(Proxy):
    """A proxy whose front is its back."""

    def __init__(self) -> None:
        super().__init__()
        self.front = self.back

    def command(self) -> list[str]:
        """No process."""
        return []

    def start(self) -> None:
        """Listens already."""
