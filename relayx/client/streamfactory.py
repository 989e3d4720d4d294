"""Streams over connections that are no sessions: a service's, or a local client's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IStreamClientEndpoint
from twisted.internet.protocol import Factory

from relayx.client.stream import Stream


class StreamFactory(Factory):
    """Makes a `Stream` of each connection to a listening port and passes it on."""

    noisy = False

    def __init__(self, on_stream: Callable[[Stream], object]) -> None:
        self._on_stream = on_stream

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """A stream that is passed on as soon as it has its transport."""
        return AnnouncedStream(self._on_stream)


class AnnouncedStream(Stream):
    """A stream that tells when it has its transport."""

    __slots__ = ("_on_stream",)

    def __init__(self, on_stream: Callable[[Stream], object]) -> None:
        super().__init__()
        self._on_stream = on_stream

    def connectionMade(self) -> None:
        """The transport is there: tell."""
        self._on_stream(self)


def connect_stream(endpoint: IStreamClientEndpoint) -> Deferred[Stream]:
    """Dial any TCP service and have its connection as a `Stream` (`paired` is None).

    Fails with the endpoint's error.
    """
    made: Deferred[Any] = endpoint.connect(StreamFactory(lambda _: None))
    return made
