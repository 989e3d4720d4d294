"""A reactor that serves sessions first: ``twistd --reactor relayx -n relayx ...`` (Linux).

It is Twisted's epoll reactor, turned around: it waits on the :class:`~relayx.data.road.Road`,
in which its own epoll set is one descriptor among those of the sessions. A session's event goes
to its lane without a turn of the reactor's main loop; everything else happens as before. Under
any other reactor the road is one of its readers, and a little slower.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor

from relayx.data.road import Road


class RelayxReactor(EPollReactor):
    """The epoll reactor, waiting on a road where there is one."""

    _road: Road | None = None

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
            super().doPoll(timeout)
            return
        left: float | None = timeout
        while self._road is not None and not self._road.wait(-1 if left is None else left):
            left = self.timeout()
            if left == 0 or not self.running:
                return
        super().doPoll(0)

    doIteration = doPoll


def install() -> None:
    """Make it the reactor of this process; must come before any other is."""
    installReactor(RelayxReactor())
