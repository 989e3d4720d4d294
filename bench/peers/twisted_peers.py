"""Relays on stock Twisted: its own port forwarding, and magic-wormhole-transit-relay."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import secrets
import socket
import sys
from pathlib import Path

from bench.peers.base import FRONT_PORT, Pair, Peer, Proxy, Running
from bench.processes import Child, PeerError
from bench.sockets import dial, read_line, until_it_listens

TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n")


class PortForward(Peer):
    """``twisted.protocols.portforward`` on the default reactor."""

    name = "twisted"

    def version(self) -> str:
        """Twisted's."""
        return f"Twisted {importlib.metadata.version('twisted')} portforward"

    def run(self, sessions: int) -> Proxy:
        """A child process of its own."""
        return PortForwardRunning()


class PortForwardRunning(Proxy):
    """portforward.py."""

    def command(self) -> list[str]:
        """With this interpreter."""
        program = str(Path(__file__).with_name("portforward.py"))
        front, back = self.front, self.back
        return [sys.executable, program, front[0], str(front[1]), back[0], str(back[1])]


class Transit(Peer):
    """Two clients dial out and meet, as with the gateway."""

    name = "transit"

    def missing(self) -> str:
        """It comes from PyPI."""
        found = importlib.util.find_spec("wormhole_transit_relay")
        return "" if found else "PyPI package magic-wormhole-transit-relay"

    def version(self) -> str:
        """The package's."""
        version = importlib.metadata.version("magic-wormhole-transit-relay")
        return f"magic-wormhole-transit-relay {version}"

    def run(self, sessions: int) -> TransitRunning:
        """``twistd transitrelay``."""
        return TransitRunning()


class TransitRunning(Running):
    """One relay; every session has a token, and each of its sides a name."""

    def start(self) -> None:
        """Run it, without its usage log and database."""
        endpoint = f"tcp:{FRONT_PORT}:interface={self.host}:backlog=4096"
        told = ["--pidfile=twistd.pid", "--logfile=twistd.log", "transitrelay", "--port", endpoint]
        self.child = Child([*TWISTD, *told], self.directory)
        until_it_listens(self.child, lambda: dial((self.host, FRONT_PORT))).close()

    def pair(self, index: int) -> Pair:
        """Both sides dial, the server's first, and are told that they have met."""
        token = secrets.token_hex(32)
        ends: list[socket.socket] = []
        try:
            for side in ("b" * 16, "a" * 16):
                line = f"please relay {token} for side {side}\n".encode()
                ends.append(dial((self.host, FRONT_PORT), line))
            for end in ends:
                answer = read_line(end)
                if answer != b"ok\n":
                    raise PeerError(f"transit relay answered {answer!r}")
        except BaseException:
            for end in ends:
                end.close()
            raise
        return ends[1], ends[0]

    def churn(self) -> list[str]:
        """Both sides dial one port under a number that they share."""
        line = "please relay " + "0" * 48 + "#" * 16 + " for side "
        return [
            *(f"connect={self.host}:{FRONT_PORT}", "spread=0", "dial=1", "slots=200"),
            *(f"client_prefix={line}{'a' * 16}\n", f"server_prefix={line}{'b' * 16}\n"),
            *("client_lines=1", "server_lines=1"),
        ]
