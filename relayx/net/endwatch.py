"""Sees the end of connections that nobody reads (contract section 7).

A paused transport is not in the reactor's poll set, so that its peer's end of stream, reset
or death goes unseen until somebody resumes it. Here every data connection stays in an epoll
set of its own, edge triggered and for its ends alone, and that set is one reader of the
reactor's. Without epoll nothing is watched: the periodic look at each connection is left.
"""

from __future__ import annotations

import select
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from zope.interface import implementer


class Watched(Protocol):
    """A connection whose end is watched for."""

    def fileno(self) -> int:
        """Its descriptor."""

    def end_seen(self, broken: bool) -> None:
        """Its peer has ended the stream, or (`broken`) the whole connection is over."""


@implementer(IReadDescriptor)
class EndWatch:
    """One epoll set for the ends of many connections."""

    def __init__(self, reactor: IReactorFDSet) -> None:
        self._reactor = reactor
        self._watched: dict[int, Watched] = {}
        self._epoll: Any = select.epoll() if hasattr(select, "epoll") else None
        if self._epoll is not None:
            reactor.addReader(self)

    def add(self, connection: Watched) -> None:
        """Watch a connection until :meth:`forget`."""
        if self._epoll is None:
            return
        descriptor = connection.fileno()
        self._watched[descriptor] = connection
        self._epoll.register(descriptor, select.EPOLLRDHUP | select.EPOLLET)

    def forget(self, connection: Watched) -> None:
        """Watch a connection no longer whose descriptor is closed next.

        Closing it takes it out of the epoll set.
        """
        descriptor = connection.fileno()
        if self._watched.get(descriptor) is connection:
            del self._watched[descriptor]

    def close(self) -> None:
        """Give the set back to the system."""
        if self._epoll is not None:
            self._reactor.removeReader(self)
            self._epoll.close()
            self._epoll = None
            self._watched.clear()

    def fileno(self) -> int:
        """The set's own descriptor."""
        return self._epoll.fileno() if self._epoll is not None else -1

    def doRead(self) -> None:
        """Tell each connection whose end was seen."""
        if self._epoll is None:
            return
        for descriptor, events in self._epoll.poll(0, 512):
            connection = self._watched.get(descriptor)
            if connection is not None:
                connection.end_seen(bool(events & (select.EPOLLERR | select.EPOLLHUP)))

    def logPrefix(self) -> str:
        """Name for the reactor's log."""
        return "relayx ends"

    def connectionLost(self, reason: object) -> None:
        """Nothing to do: the set ends when it is closed."""
