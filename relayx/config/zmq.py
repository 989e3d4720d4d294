"""Section ``zmq``, and what it may say besides the range of each key.

The settings of a broker have the names, units and meanings of libzmq's socket options
(``zmq_setsockopt(3)``).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

from relayx.config import keys
from relayx.config.faults import Fault, shown
from relayx.config.keys import INT64_MOST, Section
from relayx.security.curve import PUBLIC, read_pair, read_publics
from relayx.security.errors import KeyFileError
from relayx.security.keys import KID_ALLOWED, is_kid

LINGER_MOST = 600_000
"""ms: what a stop may wait for a broker's messages. libzmq's -1, for ever, would hold it up."""

MOST = 1_000_000
"""Connections: what a process can have on the largest of machines."""

OWN_DESCRIPTORS = 16
"""Of each broker, for libzmq's and our own sockets within the process."""


_TLS_KEYS = frozenset({"data.tls.required", "data.tls.certificate", "data.tls.private_key"})


class Inspect(StrEnum):
    """How much of ZMTP is read while it goes through."""

    OFF = "off"
    HANDSHAKE = "handshake"
    MESSAGES = "messages"


class Pattern(StrEnum):
    """What a broker does: who connects to its frontend, and who to its backend."""

    PUB_SUB = "pub_sub"
    PUSH_PULL = "push_pull"
    REQ_REP = "req_rep"


class BrokerSecurity(StrEnum):
    """The mechanism of ZMTP that a broker asks for."""

    NULL = "null"
    PLAIN = "plain"
    CURVE = "curve"


class ZmqBroker(Section, frozen=True):
    """An entry of ``zmq.brokers``: a pair of zmq ports on which many meet many."""

    pattern: Annotated[Pattern, keys.text("what is brokered")]
    frontend: Annotated[int, keys.port("the zmq port for PUB, PUSH or REQ")]
    backend: Annotated[int, keys.port("the zmq port for SUB, PULL or REP")]
    sndhwm: Annotated[int, keys.number("messages queued for one peer at most; 0: no limit")] = 1000
    rcvhwm: Annotated[int, keys.number("messages queued from one peer at most; 0: no limit")] = 1000
    linger: Annotated[
        int, keys.number("ms that a stop waits for messages not sent yet", most=LINGER_MOST)
    ] = 0
    reconnect_ivl: Annotated[
        int, keys.number("ms before a connection is made again; -1: it is not", -1)
    ] = 100
    reconnect_ivl_max: Annotated[
        int, keys.number("ms up to which that time doubles; 0: it stays")
    ] = 0
    max_msg_size: Annotated[
        int, keys.number("bytes of a part at most, not 0; -1: no limit", -1, INT64_MOST)
    ] = -1
    immediate: Annotated[bool, keys.text("queue for connections that are complete alone")] = False
    heartbeat_ivl: Annotated[int, keys.number("ms between heartbeats; 0: none")] = 0
    backlog: Annotated[int, keys.number("connections that may wait to be accepted", 1)] = 100
    max_connections: Annotated[
        int, keys.number("connections at each side at most; who comes beyond is closed", 1, MOST)
    ] = 1024
    ipv6: Annotated[bool, keys.text("listen on IPv6 too")] = False
    security: Annotated[BrokerSecurity, keys.text("mechanism that is asked for")] = (
        BrokerSecurity.NULL
    )
    curve_key: Annotated[str, keys.text("for curve: kid of the server's key in security.keys")] = ""
    curve_clients: Annotated[
        str, keys.text('for curve: directory of the clients\' public keys; "": any client')
    ] = ""


def broker_descriptors(broker: ZmqBroker) -> int:
    """How many descriptors a broker may need at once."""
    return OWN_DESCRIPTORS + 2 * (broker.max_connections + broker.backlog)


class Zmq(Section, frozen=True):
    """Section ``zmq``: ZeroMQ on the zmq ports."""

    inspect: Annotated[Inspect, keys.text("how much of ZMTP is read while it goes through")] = (
        Inspect.HANDSHAKE
    )
    max_message_bytes: Annotated[
        int,
        keys.number(
            "a longer message ends its session, with inspect: messages; 0: no limit",
            most=INT64_MOST,
        ),
    ] = 0
    brokers: Annotated[
        tuple[ZmqBroker, ...],
        keys.text(
            "pairs of zmq ports on which many meet many: pattern (pub_sub, push_pull or req_rep),"
            " frontend and backend of each, and where wanted more, as the reference says"
        ),
    ] = ()


def zmq_faults(
    file: str,
    zmq: Zmq,
    ports: range,
    key_directory: str,
    by_ticket: bool,
    by_tls: bool,
    broken: frozenset[str],
) -> Iterator[Fault]:
    """What is wrong with the section as a whole.

    :param ports: the zmq ports.
    :param key_directory: ``security.keys``.
    :param by_ticket: whether ``data.admission`` is ticket.
    :param by_tls: whether ``data.tls.required`` is set.
    :param broken: the dotted keys that could not be read; nothing is said about those.
    """
    if "zmq.brokers" in broken:
        return
    known = not any(key.startswith("relay.zmq_") for key in broken)
    yield from _port_faults(file, zmq, ports if known else None)
    for index, broker in enumerate(zmq.brokers):
        name = f"zmq.brokers[{index}]"
        highest = broker.reconnect_ivl_max
        if highest and highest < broker.reconnect_ivl:
            problem = f"is less than its reconnect_ivl = {broker.reconnect_ivl}"
            yield Fault(file, f"{name}.reconnect_ivl_max", str(highest), problem, "0, or not less")
        if not broker.max_msg_size:
            problem = 'lets no message through that is not empty: libzmq\'s 0 is no "no limit"'
            yield Fault(file, f"{name}.max_msg_size", "0", problem, "-1 for no limit, or 1 or more")
        if by_tls and broker.security is not BrokerSecurity.CURVE and not broken & _TLS_KEYS:
            problem = (
                "moves plain text, and data.tls.required is set: libzmq has no TLS, and encrypts"
                " with CURVE alone"
            )
            yield Fault(file, f"{name}.security", str(broker.security), problem, "curve")
        elif (
            broker.security is BrokerSecurity.NULL and by_ticket and "data.admission" not in broken
        ):
            problem = "asks nobody who comes for anything, and data.admission is ticket"
            yield Fault(file, f"{name}.security", "null", problem, "plain or curve")
        if broker.security is BrokerSecurity.CURVE:
            directory = None if "security.keys" in broken else key_directory
            yield from _curve_faults(file, name, broker, directory)


def zmq_warnings(file: str, zmq: Zmq, by_proxy: bool) -> Iterator[Fault]:
    """What is allowed and yet hardly meant.

    :param by_proxy: whether ``proxy_protocol.trusted`` has an entry.
    """
    if zmq.max_message_bytes and zmq.inspect is not Inspect.MESSAGES:
        problem = f"is not used: zmq.inspect is {zmq.inspect}, not messages"
        yield Fault(file, "zmq.max_message_bytes", str(zmq.max_message_bytes), problem)
    if by_proxy and zmq.brokers:
        problem = (
            "are not for proxies that send a PROXY header, as those of proxy_protocol.trusted do:"
            " libzmq reads none, and takes it for garbage. Their peers have to come directly, or by"
            " a proxy without it, whose address is then theirs"
        )
        yield Fault(file, "zmq.brokers", _frontends(zmq), problem)
    for index, broker in enumerate(zmq.brokers):
        if broker.security is not BrokerSecurity.CURVE:
            for bare in ("curve_key", "curve_clients"):
                if value := getattr(broker, bare):
                    problem = f"is not used: its security is {broker.security}, not curve"
                    yield Fault(file, f"zmq.brokers[{index}].{bare}", shown(value), problem)


def _frontends(zmq: Zmq) -> str:
    return ", ".join(f"{broker.frontend}/{broker.backend}" for broker in zmq.brokers)


def _port_faults(file: str, zmq: Zmq, ports: range | None) -> Iterator[Fault]:
    seen: dict[int, str] = {}
    for index, broker in enumerate(zmq.brokers):
        for bare, port in (("frontend", broker.frontend), ("backend", broker.backend)):
            name = f"zmq.brokers[{index}].{bare}"
            if ports is not None and port not in ports:
                allowed = f"{ports[0]} to {ports[-1]}" if ports else "none: there are no zmq ports"
                yield Fault(file, name, str(port), "is no zmq port", allowed)
            if port in seen:
                problem = f"is {seen[port]} too"
                yield Fault(file, name, str(port), problem, "a port of its own for each")
            seen.setdefault(port, name)


def _curve_faults(
    file: str, name: str, broker: ZmqBroker, key_directory: str | None
) -> Iterator[Fault]:
    if not broker.curve_key:
        allowed = "the kid of a key that relayx keys generate --type curve made"
        yield Fault(file, f"{name}.curve_key", "", "is missing, and security is curve", allowed)
    elif not is_kid(broker.curve_key):
        yield Fault(file, f"{name}.curve_key", shown(broker.curve_key), "is no kid", KID_ALLOWED)
    elif key_directory:
        try:
            read_pair(key_directory, broker.curve_key)
        except KeyFileError as error:
            problem = f"cannot be used: {error}"
            yield Fault(file, f"{name}.curve_key", shown(broker.curve_key), problem)
    if key_directory == "":
        problem = f"is missing, and {name}.security is curve"
        yield Fault(file, "security.keys", "", problem, "the directory of the server's key")
    if broker.curve_clients:
        key, value = f"{name}.curve_clients", shown(broker.curve_clients)
        allowed = f'a directory of <kid>{PUBLIC}, or "" for any client'
        try:
            if not read_publics(broker.curve_clients):
                yield Fault(file, key, value, "holds no key, and admits nobody", allowed)
        except KeyFileError as error:
            yield Fault(file, key, value, f"cannot be used: {error}", allowed)
