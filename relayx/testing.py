"""A gateway for the tests of those who build on relayx.

It is the real one, on real sockets, in the process of the test: it listens on a loopback
address of its own (one of the 16 million of 127.0.0.0/8), so that no test depends on a free
port, and gateways of tests that run at the same time never meet. ::

    local = LocalGateway(reactor, zmq=2)
    local.start()
    self.addCleanup(local.stop)
    frontend = Frontend(reactor, local.gateway)
"""

from __future__ import annotations

import random
import secrets as tokens
from collections.abc import Iterable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred

from relayx.client import Gateway
from relayx.config.model import ClientPolicy, Config, Secrets
from relayx.listening import BindError
from relayx.service import GatewayService

CONTROL_PORT = 5555
FIRST_ZMQ_PORT = 30101
FIRST_SRT_PORT = 30000

_TRIES = 8


class LocalGateway:
    """One gateway on a loopback address of its own.

    :param reactor: the reactor that the test runs on.
    :param zmq: how many zmq ports it has; `srt` likewise; together at least one.
    :param secrets: keys of the secret file besides ``auth_secret``.
    :param clients: entries of ``clients``, such as ``{"match": "cam-*", "roles": ("BE",)}``.
    :param sections: configuration keys by section; durations in seconds, as in
        ``LocalGateway(reactor, data={"hello_timeout": 0.2})``.
    :ivar gateway: where clients find it, with the secret.
    :ivar service: the gateway itself.
    """

    gateway: Gateway
    service: GatewayService

    def __init__(
        self,
        reactor: Any,
        *,
        zmq: int = 2,
        srt: int = 2,
        secrets: dict[str, str] | None = None,
        clients: Iterable[dict[str, Any]] = (),
        **sections: dict[str, Any],
    ) -> None:
        self._reactor = reactor
        self.zmq_ports = range(FIRST_ZMQ_PORT, FIRST_ZMQ_PORT + zmq)
        self.srt_ports = range(FIRST_SRT_PORT, FIRST_SRT_PORT + srt)
        self._secrets = Secrets(**{"auth_secret": tokens.token_hex(16), **(secrets or {})})
        self._clients = tuple(ClientPolicy(**entry) for entry in clients)
        self._sections = sections

    @property
    def host(self) -> str:
        """The address that it listens on."""
        return self.gateway.host

    def start(self) -> None:
        """Listen.

        :raises BindError: where no address could be had.
        """
        for attempt in range(_TRIES):
            host = "127." + ".".join(str(random.randint(1, 254)) for _ in range(3))
            service = GatewayService(self._config(host), self._secrets, self._reactor)
            try:
                service.privilegedStartService()
            except BindError:
                if attempt == _TRIES - 1:
                    raise
                continue
            service.startService()
            self.service = service
            self.gateway = Gateway(host, CONTROL_PORT, self._secrets.auth_secret)
            return

    def stop(self) -> Deferred[None]:
        """Drain and close; the Deferred fires when nothing is left."""
        return self.service.stopService()

    def _config(self, host: str) -> Config:
        told: dict[str, dict[str, Any]] = {
            "relay": {"control_port": CONTROL_PORT},
            "control": {"endpoints": (f"tcp:{CONTROL_PORT}:interface={host}",)},
            "data": {"interface": host, "drain_timeout": 0.5},
            "http": {"endpoint": ""},
        }
        for name, ports in (("zmq", self.zmq_ports), ("srt", self.srt_ports)):
            if ports:
                told["relay"][f"{name}_start_port"] = ports[0]
                told["relay"][f"{name}_end_port"] = ports[-1]
        for section, keys in self._sections.items():
            told.setdefault(section, {}).update(keys)
        whole = Config(clients=self._clients)
        changed = {
            section: msgspec.structs.replace(getattr(whole, section), **keys)
            for section, keys in told.items()
        }
        return msgspec.structs.replace(whole, **changed)
