"""A gateway whose control plane speaks TLS, with a CA of its own, for plain linear tests."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread

from relayx.client import ClientTls, Connected, ControlClient, Ended, Unreachable
from relayx.client import Gateway as Where
from relayx.core.messages import Role
from tests.certificates import Authority, Pair
from tests.guide_peer import Control
from tests.live import CONTROL_PORT, SECRET, Control11, Gateway, live

TLS_PORT = 5556
NAME = "gateway.example"
PLAIN = f"tcp:{CONTROL_PORT}:interface={{host}}"


class Trust:
    """The files of a test: the gateway's certificate, its CA, and another CA that nobody knows.

    :ivar server: the gateway's certificate, for NAME.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority(directory)
        self.stranger = Authority(directory, "stranger")
        self.server: Pair = self.authority.issue("server", [NAME])

    @property
    def endpoint(self) -> str:
        """The strports string of the gateway's TLS."""
        return f"ssl:{TLS_PORT}:interface={{host}}:{self.server.strports}"

    def renew(self, gateway: Gateway, pair: Pair) -> None:
        """Put another certificate in the place of the gateway's, and have it read again."""
        for old, new in (
            (self.server.certificate, pair.certificate),
            (self.server.key, pair.key),
        ):
            Path(old).write_bytes(Path(new).read_bytes())
        reload_tls(gateway)

    def context(self, shown: Pair | None = None, ca: str | None = None) -> ssl.SSLContext:
        """A client's context that trusts the CA, and may show a certificate of its own."""
        found = ssl.create_default_context(cafile=ca or self.authority.certificate)
        if shown is not None:
            found.load_cert_chain(shown.certificate, shown.key)
        return found

    def dial(
        self,
        gateway: Gateway,
        shown: Pair | None = None,
        *,
        kind: type[Control] = Control,
        context: ssl.SSLContext | None = None,
    ) -> Control:
        """A control connection through TLS that has not registered."""
        peer = gateway.open(kind, TLS_PORT)
        context = context or self.context(shown)
        peer.socket = context.wrap_socket(peer.socket, server_hostname=NAME)
        return peer

    def register(
        self, gateway: Gateway, client_id: str = "", shown: Pair | None = None, **more: Any
    ) -> dict[str, Any]:
        """The answer to a registration through TLS."""
        return self.dial(gateway, shown, kind=Control11).register("FE", SECRET, client_id, **more)

    def tls(self, shown: Pair | None = None, **more: Any) -> ClientTls:
        """What a client of the library needs."""
        own = (shown.certificate, shown.key) if shown else (None, None)
        return ClientTls(self.authority.certificate, *own, **{"server_name": NAME, **more})


def reload_tls(gateway: Gateway) -> None:
    """Have the gateway read its files again."""
    service = gateway.service
    blockingCallFromThread(reactor, service.reload, service.config, service.secrets)


def secured(
    *, client_ca: bool = False, plain: bool = True, **control: Any
) -> Callable[[Callable[..., None]], Callable[[Any], Any]]:
    """Run a test in a thread, with a gateway and its :class:`Trust` as arguments.

    :param client_ca: have clients show a certificate of the CA.
    :param plain: listen without TLS too, on the usual port.
    :param control: keys of ``control``.
    """

    def decorate(scenario: Callable[..., None]) -> Callable[[Any], Any]:
        @functools.wraps(scenario)
        def run(case: Any) -> Any:
            trust = Trust(Path(case.mktemp()).absolute())
            control["endpoints"] = [*([PLAIN] if plain else []), trust.endpoint]
            if client_ca:
                control["client_ca"] = trust.authority.certificate

            def body(case: Any, gateway: Gateway) -> None:
                scenario(case, gateway, trust)

            return live(control=control)(body)(case)

        return run

    return decorate


def outcome(where: Where, client_id: str = "") -> str | BaseException:
    """What becomes of the library's first attempt: the client's id, or why it failed."""

    def begin() -> Deferred[Any]:
        over: Deferred[Any] = Deferred()

        def told(result: Any) -> None:
            if not over.called:
                over.callback(result)

        client = ControlClient(reactor, where, Role.FE, client_id)
        client.events.on(Connected, lambda event: told(event.client_id))
        client.events.on(Unreachable, lambda event: told(event.reason.value))
        client.events.on(Ended, lambda event: told(event.reason and event.reason.value))
        client.start()

        def stop(result: Any) -> Deferred[Any]:
            return client.stop().addBoth(lambda _: result)

        return over.addBoth(stop)

    found: str | BaseException = blockingCallFromThread(reactor, begin)
    return found
