"""What ClientService connects to: a gateway that has taken the registration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from relayx.client.errors import Stopped
from relayx.client.link import Link
from relayx.core.messages import Auth


class OneProtocol(Factory):
    """A factory of the one protocol given, for a connection that is dialled once."""

    noisy = False

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """The protocol given."""
        return self._protocol


@implementer(IStreamClientEndpoint)
class RegisteringEndpoint:
    """Connects only once the gateway has taken the registration.

    ClientService learns of nothing before that: to it, a connection that ends or is refused
    while it registers is an attempt that failed, and the backoff begins anew only after a
    successful `auth`. (ClientService's own `prepareConnection` is of no use for this: where
    the connection ends meanwhile, its state machine has no arrow for it and raises.)

    :param endpoint: makes the endpoint to dial, anew each time.
    :param make_link: makes a `Link` that calls the function given when it is lost.
    :param registered: called with each link that is registered, and its `auth`.
    :param failed: called with the reason of each attempt that failed.
    """

    def __init__(
        self,
        endpoint: Callable[[], IStreamClientEndpoint],
        make_link: Callable[[Callable[[Failure], None]], Link],
        registered: Callable[[Link, Auth], None],
        failed: Callable[[Failure], None],
    ) -> None:
        self._endpoint = endpoint
        self._make_link = make_link
        self._registered = registered
        self._failed = failed

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Dial, register, and only then make the service's protocol."""
        service_side: list[Any] = []

        def lost(reason: Failure) -> None:
            for protocol in service_side:
                protocol.connectionLost(reason)

        link = self._make_link(lost)

        def registered(auth: Auth) -> Any:
            protocol = protocolFactory.buildProtocol(None)  # type: ignore[arg-type]  # it has no one address
            service_side.append(protocol)
            protocol.makeConnection(link)  # type: ignore[union-attr,arg-type]  # as an ITransport
            self._registered(link, auth)
            if link.over:  # whoever was told has stopped the client
                service_side.clear()
                raise Stopped("the client was stopped as it connected")
            return protocol

        def failed(reason: Failure) -> Failure:
            self._failed(reason)
            return reason

        attempt: Deferred[Any] = self._endpoint().connect(OneProtocol(link))
        attempt.addCallback(lambda _: link.auth)
        attempt.addErrback(failed)
        attempt.addCallback(registered)
        return attempt
