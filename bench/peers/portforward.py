"""Stock Twisted port forwarding as a process: ``portforward.py HOST PORT TO_HOST TO_PORT``."""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor
from twisted.protocols.portforward import ProxyFactory


def main() -> None:
    """Forward until killed."""
    host, port, to_host, to_port = sys.argv[1:5]
    factory: Any = ProxyFactory(to_host, int(to_port))
    reactor.listenTCP(int(port), factory, backlog=4096, interface=host)
    reactor.run()


if __name__ == "__main__":
    main()
