"""A reactor that serves sessions first: ``twistd --reactor relayx -n relayx ...`` (Linux).

It is Twisted's epoll reactor, turned around: it waits on the :class:`~relayx.data.road.Road`,
in which its own epoll set is one descriptor among those of the sessions. A session's event goes
to its lane without a turn of the reactor's main loop. Under any other reactor the road is one of
its readers, and a little slower.

Everything else happens as before, a little at a time: Twisted's reactor serves all that is ready
before it looks again, which takes a hundred milliseconds where a thousand clients come at once
or hundreds of ports change. Here it is a few of them at a time, in turn with sessions and timers.
"""

from __future__ import annotations

import socket
import time
from typing import Any

from twisted.internet import tcp
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.python import log

from relayx.data.road import Road
from relayx.net.steady import Steady

FEW, MORE = 2, 8
"""Descriptors that are served before the clock is looked at: more of them as long as all go
quickly, since each look at what is ready costs as much as serving one. One may take milliseconds:
a lease that is granted is told to every client of the other role."""

QUICK = 0.002
"""Seconds in which they have gone quickly."""

TURN = 0.005
"""Seconds for which descriptors are served before sessions and timers get their turn. What is
left is at the head of epoll's list, so that each comes round."""

ACCEPTS = 8
"""Connections that one listening socket takes at a time. More than that, and newcomers would
pile up faster than what they say is read."""


class Door(tcp.Port):
    """A listening socket of Twisted's that takes a few connections at a time."""

    def doRead(self) -> None:
        """Accept; Twisted takes more each time where many come."""
        self.numberAccepts = ACCEPTS
        super().doRead()


class RelayxReactor(EPollReactor):
    """The epoll reactor, waiting on a road where there is one.

    :ivar steady: what its timers go by.
    """

    _road: Road | None = None
    _at_once = FEW
    steady = Steady()
    seconds = staticmethod(steady.seconds)

    def adopt_road(self, road: Road) -> bool:
        """Wait on this road from now on; False where there is another already."""
        if self._road is not None:
            return False
        self._road = road
        road.host(self._poller.fileno())
        return True

    def release_road(self, road: Road) -> None:
        """Wait on this road no longer."""
        if self._road is road:
            self._road = None

    def doPoll(self, timeout: Any) -> None:
        """Serve sessions until the reactor itself has something to do."""
        if self._road is None:
            self._serve(-1 if timeout is None else timeout)
            return
        left: float | None = timeout
        while self._road is not None and not self._road.wait(-1 if left is None else left):
            left = self.timeout()
            if left == 0 or not self.running:
                return
        self._serve(0)

    doIteration = doPoll

    def _serve(self, timeout: float) -> None:
        """Wait for descriptors of the reactor's own and serve them, until it is enough."""
        until = 0.0
        while True:
            at_once = self._at_once
            ready = self._poller.poll(timeout, at_once)
            began = time.monotonic()
            until = until or began + TURN
            for descriptor, events in ready:
                selectable = self._selectables.get(descriptor)
                if selectable is not None:
                    log.callWithLogger(
                        selectable, self._doReadOrWrite, selectable, descriptor, events
                    )
            ended = time.monotonic()
            self._at_once = MORE if ended - began < QUICK else FEW
            if len(ready) < at_once or ended >= until:
                return
            timeout = 0
            if self._road is not None:
                self._road.wait(0)  # sessions do not wait for the rest of them

    def listenTCP(
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> tcp.Port:
        """See twisted.internet.interfaces.IReactorTCP."""
        door = Door(port, factory, backlog, interface, self)
        door.startListening()
        return door

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: Any, factory: Any) -> Any:
        """See twisted.internet.interfaces.IReactorSocket."""
        if addressFamily not in (socket.AF_INET, socket.AF_INET6):
            return super().adoptStreamPort(fileDescriptor, addressFamily, factory)
        door = Door._fromListeningDescriptor(self, fileDescriptor, addressFamily, factory)
        door.startListening()
        return door


def install() -> None:
    """Make it the reactor of this process; must come before any other is."""
    installReactor(RelayxReactor())
