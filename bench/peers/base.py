"""What the bench asks of everything it measures."""

from __future__ import annotations

import socket
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.processes import Child
from bench.sockets import accept, dial, fresh_host, listen, until_it_listens

FRONT_PORT = 7000
BACK_PORT = 7001

Pair = tuple[socket.socket, socket.socket]
"""A client's and a server's end of one session, ready for its bytes."""


class Peer(ABC):
    """Something that joins two connections, or stands for it.

    :ivar name: how it is called in tables.
    :ivar descriptors_each: how many descriptors it needs for a session.
    """

    name: str
    descriptors_each = 2

    def missing(self) -> str:
        """Why it cannot be measured here, or ""."""
        return ""

    @abstractmethod
    def version(self) -> str:
        """What exactly is measured."""

    @abstractmethod
    def run(self, sessions: int) -> Running:
        """Start it, ready for that many sessions at once."""

    @contextmanager
    def running(self, sessions: int) -> Iterator[Running]:
        """A fresh instance, stopped in the end whatever happens."""
        instance = self.run(sessions)
        instance.sessions = sessions
        try:
            instance.start()
            yield instance
        finally:
            instance.stop()


class Running(ABC):
    """One instance of a peer on a loopback address of its own.

    :ivar host: that address.
    :ivar sessions: how many it is to be ready for.
    :ivar directory: for its configuration and output; gone after :meth:`stop`.
    """

    child: Child | None = None
    sessions = 0

    def __init__(self) -> None:
        self.host = fresh_host()
        self._temporary = tempfile.TemporaryDirectory(prefix="relayx-bench-")
        self.directory = Path(self._temporary.name)

    @abstractmethod
    def start(self) -> None:
        """Start it, and wait until it listens."""

    @abstractmethod
    def pair(self, index: int) -> Pair:
        """Set up the session of number `index`."""

    @abstractmethod
    def churn(self) -> list[str]:
        """What ``load churn`` is told of it (see load/churn.c)."""

    def descriptors(self) -> list[int]:
        """Descriptors that the load generator inherits for :meth:`churn`."""
        return []

    def pids(self) -> list[int]:
        """The processes whose CPU time and memory count."""
        return self.child.pids() if self.child else []

    def stop(self) -> None:
        """End its processes and remove its files."""
        if self.child:
            self.child.stop()
        self._temporary.cleanup()


class Proxy(Running):
    """A proxy between a port that clients dial and one that the bench listens on.

    :ivar front: where clients connect.
    :ivar back: where the proxy connects to.
    """

    def __init__(self) -> None:
        super().__init__()
        self.front = (self.host, FRONT_PORT)
        self.back = (self.host, BACK_PORT)
        self._listener = listen(self.back)

    @abstractmethod
    def command(self) -> list[str]:
        """Write its configuration, and tell how it is run."""

    def start(self) -> None:
        """Run it, and try one connection through it."""
        self.child = Child(self.command(), self.directory)
        for end in until_it_listens(self.child, lambda: self.pair(0)):
            end.close()

    def pair(self, index: int) -> Pair:
        """Connect, and accept what the proxy makes of it."""
        client = dial(self.front)
        try:
            return client, accept(self._listener)
        except BaseException:
            client.close()
            raise

    def churn(self) -> list[str]:
        """The load generator's server side accepts here."""
        front = f"connect={self.front[0]}:{self.front[1]}"
        return [front, "spread=0", f"listen={self._listener.fileno()}"]

    def descriptors(self) -> list[int]:
        """The listening socket, which does not block."""
        self._listener.setblocking(False)
        return [self._listener.fileno()]

    def stop(self) -> None:
        """Close the listening socket too."""
        super().stop()
        self._listener.close()
