"""A broker's own two sockets, made from its settings."""

from __future__ import annotations

from typing import NamedTuple

import zmq
from zmq.utils.monitor import parse_monitor_message

from relayx.zmq.attendant import Socket
from relayx.zmq.counts import AUTH, NO_DETAIL, PROTOCOL
from relayx.zmq.errors import BrokerError
from relayx.zmq.settings import BrokerSettings, Pattern, Role, Security
from relayx.zmq.zap import domain

_TYPES = {
    Pattern.PUB_SUB: {Role.FRONTEND: zmq.XSUB, Role.BACKEND: zmq.XPUB},
    Pattern.PUSH_PULL: {Role.FRONTEND: zmq.PULL, Role.BACKEND: zmq.PUSH},
    Pattern.REQ_REP: {Role.FRONTEND: zmq.ROUTER, Role.BACKEND: zmq.DEALER},
}
DRAINS = {Pattern.PUSH_PULL: zmq.PULL}
"""What takes the messages of a backend that a thread waits for; the others do not wait."""

FAILURES: dict[int, str] = {
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: NO_DETAIL,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: PROTOCOL,
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: AUTH,
}
WATCHED = (
    zmq.EVENT_ACCEPTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_MONITOR_STOPPED
)


def make(context: zmq.Context[Socket], settings: BrokerSettings, role: Role, number: int) -> Socket:
    """A socket with every option set, not bound yet.

    :param number: of the broker, for its ZAP domain.
    :raises zmq.ZMQError: where an option cannot be what it is to be.
    """
    socket = context.socket(_TYPES[settings.pattern][role])
    try:
        _set(socket, settings, role, number)
    except zmq.ZMQError:
        socket.close(linger=0)
        raise
    return socket


def _set(socket: Socket, settings: BrokerSettings, role: Role, number: int) -> None:
    socket.sndhwm = settings.sndhwm
    socket.rcvhwm = settings.rcvhwm
    socket.linger = settings.linger
    socket.reconnect_ivl = settings.reconnect_ivl
    socket.reconnect_ivl_max = settings.reconnect_ivl_max
    socket.maxmsgsize = settings.max_msg_size
    socket.immediate = settings.immediate
    socket.heartbeat_ivl = settings.heartbeat_ivl
    socket.backlog = settings.backlog
    socket.ipv6 = settings.ipv6
    if settings.pattern is Pattern.REQ_REP and role is Role.FRONTEND:
        socket.router_mandatory = True  # so that it says when it would drop an answer
    socket.zap_domain = domain(number, role).encode()
    if settings.security is Security.PLAIN:
        socket.plain_server = True
    elif settings.security is Security.CURVE:
        socket.curve_server = True
        socket.curve_secretkey = settings.curve_server_secret.encode()
        socket.curve_publickey = settings.curve_server_public.encode()


def bind(socket: Socket, settings: BrokerSettings, role: Role) -> str:
    """Listen.

    :return: the endpoint, with the port that it is.
    :raises BrokerError: where that cannot be.
    """
    interface = settings.interface or "*"
    host = f"[{interface}]" if ":" in interface else interface
    endpoint = f"tcp://{host}:{settings.side(role).port}"
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise BrokerError(endpoint, zmq.strerror(error.errno or 0)) from None
    return socket.get_string(zmq.LAST_ENDPOINT)


def port_of(endpoint: str) -> int:
    """The port of an endpoint."""
    return int(endpoint.rpartition(":")[2])


class Event(NamedTuple):
    """What a monitor tells.

    :ivar kind: one of ``zmq.EVENT_...``.
    :ivar value: the descriptor, where a connection comes or goes; with others something else.
    :ivar endpoint: the local one.
    """

    kind: int
    value: int
    endpoint: str


def event_of(frames: list[zmq.Frame]) -> Event:
    """What a message of a monitor tells."""
    told = parse_monitor_message([frame.bytes for frame in frames])
    return Event(int(told["event"]), told["value"], told["endpoint"].decode())
