"""Pairs of zmq ports that a broker has: many meet many there, without HELLO and sessions.

Contract section 4: a brokered port is ready as long as its broker runs, for any number of
clients and of leases. The lists of ``port_state`` leave it out, since whoever dials from those
says HELLO; 1.1 clients find it in ``brokers``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from relayx.core.errors import Code, PeerError
from relayx.core.messages import BrokerState, Pattern, Role, Side

if TYPE_CHECKING:
    from collections.abc import Iterable

    from relayx.core.messages import PortAcquire

USUAL = {Role.FE: Side.FRONTEND, Role.BE: Side.BACKEND}
"""The side that a client of a role uses, where it names none."""


class BrokerPorts(msgspec.Struct, frozen=True):
    """One entry of ``zmq.brokers``, as far as the rules go.

    :ivar frontend: port that PUB, PUSH or REQ connect to.
    :ivar backend: port that SUB, PULL or REP connect to.
    """

    pattern: Pattern
    frontend: int
    backend: int


class Broker:
    """One broker, as the rules see it.

    :ivar running: False once it has ended by itself.
    :ivar clients: connections that are open, by side, as they were told of last.
    """

    __slots__ = ("clients", "ports", "running")

    def __init__(self, ports: BrokerPorts) -> None:
        self.ports = ports
        self.running = True
        self.clients = dict.fromkeys(Side, 0)

    def port(self, side: Side) -> int:
        """The number of a side's port."""
        return self.ports.frontend if side is Side.FRONTEND else self.ports.backend

    def state(self) -> BrokerState:
        """As ``port_state`` has it."""
        return BrokerState(
            pattern=self.ports.pattern,
            frontend=self.ports.frontend,
            backend=self.ports.backend,
            clients_frontend=self.clients[Side.FRONTEND],
            clients_backend=self.clients[Side.BACKEND],
        )


def choose(brokers: Iterable[Broker], asked: PortAcquire, role: Role) -> tuple[Broker, Side]:
    """The broker and the side that a ``port_acquire`` with `broker` asks for.

    Of several of a pattern it is the first that is configured, for everybody: those who would
    meet have to come to the same one.

    :raises PeerError: ``INVALID_REQUEST``, or ``PORT_EXHAUSTED`` where none of that pattern runs.
    """
    fault = ""
    if asked.broker not in list(Pattern):
        fault = f"broker is not one of {', '.join(Pattern)}"
    elif asked.side and asked.side not in list(Side):
        fault = f"side is not one of {', '.join(Side)}"
    elif asked.need_srt or asked.service or asked.be:
        fault = "broker goes with neither need_srt, service nor be"
    if fault:
        raise PeerError(Code.INVALID_REQUEST, fault)
    for broker in brokers:
        if broker.running and broker.ports.pattern == asked.broker:
            return broker, Side(asked.side) if asked.side else USUAL[role]
    raise PeerError(Code.PORT_EXHAUSTED, f"no broker of pattern {asked.broker} runs")
