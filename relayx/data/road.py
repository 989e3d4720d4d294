"""The fast road: the sockets of running sessions in an epoll set of their own.

What the stock reactor does for each event (looking the descriptor up, a logging context, a turn
of its main loop per batch) costs more than moving a small message. Here a paired socket's
readiness goes straight to its :class:`Lane`. The set itself is one reader of whatever reactor
runs, so that everything else stays ordinary Twisted; ``relayx.reactor`` waits on the set itself,
which saves that last step too.
"""

from __future__ import annotations

import contextlib
import select
from typing import Any, Protocol

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

IN = getattr(select, "EPOLLIN", 1)
OUT = getattr(select, "EPOLLOUT", 4)
BROKEN = getattr(select, "EPOLLERR", 8) | getattr(select, "EPOLLHUP", 16)

BATCH = 32
"""Lanes that are served before the next look: to end a session costs as much as many messages."""

TURN = 0.002
"""Seconds for which sessions may be served before the reactor gets its turn."""

_log = Logger(namespace="relayx.data")


class Lane(Protocol):
    """One paired socket, as the road sees it."""

    def ready(self, events: int) -> None:
        """Its descriptor is ready for what `events` says."""

    def crashed(self) -> None:
        """Its own code failed; the session cannot go on."""


@implementer(IReadDescriptor)
class Road:
    """One epoll set for all lanes.

    :param reactor: an IReactorFDSet and IReactorTime.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._lanes: dict[int, Lane] = {}
        self._epoll: Any = select.epoll()
        self._guest = -1
        adopt = getattr(reactor, "adopt_road", None)
        self._adopted = adopt is not None and adopt(self)
        if not self._adopted:
            reactor.addReader(self)

    def set(self, descriptor: int, lane: Lane, before: int, interest: int) -> None:
        """Change what a lane waits for; 0 takes it off the road.

        A lane that waits for nothing must be off: epoll reports a broken connection for as long
        as it is in the set.
        """
        if not before:
            self._lanes[descriptor] = lane
            self._epoll.register(descriptor, interest)
        elif interest:
            self._epoll.modify(descriptor, interest)
        else:
            self._epoll.unregister(descriptor)
            del self._lanes[descriptor]

    def drop(self, descriptor: int) -> None:
        """Forget a lane whose descriptor is closed next, which takes it out of the set."""
        del self._lanes[descriptor]

    def serve(self) -> None:
        """Serve ready lanes until none is, or until it is the reactor's turn."""
        poll, find, seconds = self._epoll.poll, self._lanes.get, self._reactor.seconds
        until = 0.0
        while not self._epoll.closed:
            events = poll(0, BATCH)
            if not events:
                return
            for descriptor, what in events:
                lane = find(descriptor)
                if lane is not None:
                    try:
                        lane.ready(what)
                    except Exception:
                        self._crashed(lane)
                else:
                    self._remove(descriptor)
            now = seconds()
            if not until:
                until = now + TURN
            elif now >= until:
                return

    def host(self, descriptor: int) -> None:
        """Take the reactor's own epoll set in, as its guest from now on waits here."""
        self._guest = descriptor
        self._epoll.register(descriptor, IN)

    def wait(self, timeout: float) -> bool:
        """Wait for one batch and serve it.

        :param timeout: seconds, negative for no limit.
        :returns: whether the reactor's own set is ready, or the time has passed.
        """
        events = self._epoll.poll(timeout, BATCH)
        guest_ready = not events
        find = self._lanes.get
        for descriptor, what in events:
            lane = find(descriptor)
            if lane is not None:
                try:
                    lane.ready(what)
                except Exception:
                    self._crashed(lane)
            elif descriptor == self._guest:
                guest_ready = True
            else:
                self._remove(descriptor)
        return guest_ready

    def _remove(self, descriptor: int) -> None:
        """Take a descriptor out that was dropped and is not closed yet."""
        with contextlib.suppress(OSError, ValueError):
            self._epoll.unregister(descriptor)

    def _crashed(self, lane: Lane) -> None:
        _log.failure("a session failed")
        lane.crashed()

    def close(self) -> None:
        """Give the set back to the system."""
        if not self._epoll.closed:
            if self._adopted:
                self._reactor.release_road(self)
            else:
                self._reactor.removeReader(self)
            self._epoll.close()
            self._lanes.clear()

    # IReadDescriptor

    def fileno(self) -> int:
        """The set's own descriptor."""
        return -1 if self._epoll.closed else int(self._epoll.fileno())

    def doRead(self) -> None:
        """Some lane is ready."""
        self.serve()

    def logPrefix(self) -> str:
        """Name for the reactor's log."""
        return "relayx road"

    def connectionLost(self, reason: object) -> None:
        """Nothing to do: the set ends when it is closed."""
