"""The rules of contract section 1 that the type and range of one key do not tell."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from itertools import combinations

import msgspec

from relayx.config.clients import client_faults
from relayx.config.durations import format_duration
from relayx.config.endpoints import ALLOWED, EndpointError, endpoint_port
from relayx.config.ephemeral import ephemeral_warnings
from relayx.config.faults import Fault, shown
from relayx.config.http import http_faults
from relayx.config.limits import Machine, descriptor_fault, memory_warning
from relayx.config.model import Admission, Config
from relayx.config.proxies import proxy_faults
from relayx.config.security import security_faults, security_warnings
from relayx.config.srtrules import srt_faults, srt_warnings
from relayx.config.tlsfiles import Looked, look_at_endpoint, look_at_files
from relayx.config.zmq import zmq_faults, zmq_warnings

PROD_REAPER_LEAST = 1.0
"""Seconds."""

PROTOCOLS = ("srt", "zmq")

_HOST = re.compile(r"[A-Za-z0-9._:%-]{0,253}")
_PORT_KEYS = {f"relay.{protocol}_{end}_port" for protocol in PROTOCOLS for end in ("start", "end")}
_SUMMED = _PORT_KEYS | {
    *("relay.max_fe", "relay.max_be", "control.max_unregistered", "data.max_waiting_hello"),
    *("control.endpoints", "http.endpoint", "srt.enabled", "srt.dial", "zmq.brokers"),
}


class Checked(msgspec.Struct, frozen=True):
    """A configuration to be checked as a whole.

    :ivar file: where it is from.
    :ivar config: what could be read of it, defaults for the rest.
    :ivar broken: the dotted keys that could not be read; a rule that looks at one says nothing.
    """

    file: str
    config: Config
    broken: frozenset[str]
    prod: bool
    machine: Machine


class _Claim(msgspec.Struct, frozen=True):
    """Ports that something listens on: who, under which key, with which value."""

    kind: str
    key: str
    value: str
    ports: range


def rule_faults(checked: Checked) -> list[Fault]:
    """Every fault of the configuration as a whole."""
    return [
        *_reaper(checked),
        *_data_texts(checked),
        *_disjoint(checked),
        *_files(checked).faults,
        *_descriptors(checked),
        *proxy_faults(checked.file, checked.config, checked.broken),
        *http_faults(checked.file, checked.config, checked.broken),
        *client_faults(checked.file, checked.config.clients, checked.broken),
        *security_faults(checked.file, checked.config.security, checked.broken),
        *_srt(checked),
        *_zmq(checked),
    ]


def rule_warnings(checked: Checked) -> list[Fault]:
    """What is allowed and yet hardly meant."""
    file, config = checked.file, checked.config
    found = []
    absent = config.relay.srt_start_port is None and config.relay.srt_end_port is None
    absent = absent and config.relay.zmq_start_port is None and config.relay.zmq_end_port is None
    if absent and not checked.broken & _PORT_KEYS:
        problem = "and the other port keys are absent: there is no port that could carry a session"
        found.append(Fault(file, "relay.srt_start_port", "", problem))
    for key, seconds in (
        ("control.register_timeout", config.control.register_timeout),
        ("data.hello_timeout", config.data.hello_timeout),
    ):
        if not seconds:
            found.append(Fault(file, key, "0s", "gives clients no time at all"))
    found += _files(checked).warnings + _endpoint_files(checked).warnings
    curved = any(broker.curve_key for broker in config.zmq.brokers)
    found += security_warnings(file, config.security, curved)
    found += zmq_warnings(file, config.zmq, bool(config.proxy_protocol.trusted))
    if not checked.broken & _PORT_KEYS:
        found += srt_warnings(file, config.srt, config.relay.ports("srt"))
        found += ephemeral_warnings(file, config, checked.machine.local_ports)
    memory = memory_warning(file, config, checked.machine.memory)
    return [*found, memory] if memory else found


def _reaper(checked: Checked) -> Iterator[Fault]:
    seconds = checked.config.relay.reaper_timeout
    if checked.prod and seconds < PROD_REAPER_LEAST:
        allowed = "1s or more in prod"
        value = format_duration(seconds)
        yield Fault(checked.file, "relay.reaper_timeout", value, "is too short", allowed)


def _data_texts(checked: Checked) -> Iterator[Fault]:
    data = checked.config.data
    try:
        if data.interface:
            ipaddress.ip_address(data.interface)
    except ValueError:
        value, problem = shown(data.interface), "is no address"
        allowed = '"" for every IPv4 address, or an IPv4 or IPv6 address of this machine'
        yield Fault(checked.file, "data.interface", value, problem, allowed)
    if not _HOST.fullmatch(data.advertise_host):
        value, problem = shown(data.advertise_host), "is no host"
        allowed = '"" for none, or a host name or an IP address'
        yield Fault(checked.file, "data.advertise_host", value, problem, allowed)


def _files(checked: Checked) -> Looked:
    return look_at_files(checked.file, checked.config, checked.broken, checked.prod)


def _endpoint_files(checked: Checked) -> Looked:
    looked = Looked(checked.file, checked.prod)
    for index, text in enumerate(checked.config.control.endpoints):
        look_at_endpoint(looked, f"control.endpoints[{index}]", text)
    look_at_endpoint(looked, "http.endpoint", checked.config.http.endpoint)
    return looked


def _disjoint(checked: Checked) -> Iterator[Fault]:
    """Faults of every port key: each on its own, then those of different kinds that meet."""
    faults: list[Fault] = []
    claims: list[_Claim] = []
    for protocol in PROTOCOLS:
        _claim_range(checked, protocol, claims.append, faults.append)
    endpoints = checked.config.control.endpoints
    if endpoints:
        for index, text in enumerate(endpoints):
            key = f"control.endpoints[{index}]"
            if text in endpoints[:index]:
                faults.append(Fault(checked.file, key, shown(text), "is there twice"))
                continue
            _claim_endpoint(checked, "control", key, text, claims.append, faults.append)
    elif not checked.broken & {"control.endpoints", "relay.control_port"}:
        port = checked.config.relay.control_port
        claims.append(_Claim("control", "relay.control_port", str(port), range(port, port + 1)))
    if checked.config.http.endpoint and "http.endpoint" not in checked.broken:
        text = checked.config.http.endpoint
        _claim_endpoint(checked, "http", "http.endpoint", text, claims.append, faults.append)
    yield from faults
    for one, other in combinations(claims, 2):
        first = max(one.ports.start, other.ports.start)
        last = min(one.ports.stop, other.ports.stop) - 1
        if one.kind != other.kind and first <= last:
            where = f"port {first}" if first == last else f"ports {first} to {last}"
            problem = f"shares {where} with {one.key} = {one.value}"
            allowed = "srt, zmq, control and http ports apart from each other"
            yield Fault(checked.file, other.key, other.value, problem, allowed)


def _claim_range(
    checked: Checked,
    protocol: str,
    claim: Callable[[_Claim], None],
    fault: Callable[[Fault], None],
) -> None:
    keys = {end: f"relay.{protocol}_{end}_port" for end in ("start", "end")}
    if checked.broken.intersection(keys.values()):
        return
    relay = checked.config.relay
    ends = {
        "srt": {"start": relay.srt_start_port, "end": relay.srt_end_port},
        "zmq": {"start": relay.zmq_start_port, "end": relay.zmq_end_port},
    }[protocol]
    start, end = ends["start"], ends["end"]
    if start is None and end is None:
        return
    if start is None or end is None:
        missing, there = ("start", "end") if start is None else ("end", "start")
        problem = f"stands alone, without {keys[missing]}"
        allowed = f"both for {protocol} ports, neither for none"
        fault(Fault(checked.file, keys[there], str(ends[there]), problem, allowed))
    elif start > end:
        problem = f"is more than {keys['end']} = {end}"
        fault(Fault(checked.file, keys["start"], str(start), problem, f"{end} or less"))
    else:
        value = str(start) if start == end else f"{start} (to {end})"
        claim(_Claim(protocol, keys["start"], value, relay.ports(protocol)))


def _claim_endpoint(
    checked: Checked,
    kind: str,
    key: str,
    text: str,
    claim: Callable[[_Claim], None],
    fault: Callable[[Fault], None],
) -> None:
    looked = Looked(checked.file, checked.prod)
    if not look_at_endpoint(looked, key, text):
        for found in looked.faults:
            fault(found)
        return  # Twisted would say the same, less clearly
    try:
        port = endpoint_port(text)
    except EndpointError as error:
        fault(Fault(checked.file, key, shown(text), str(error), ALLOWED))
    else:
        if port is not None:
            claim(_Claim(kind, key, shown(text), range(port, port + 1)))


def _srt(checked: Checked) -> Iterator[Fault]:
    config = checked.config
    return srt_faults(checked.file, config.srt, config.relay.ports("srt"), checked.broken)


def _zmq(checked: Checked) -> Iterator[Fault]:
    config, ports = checked.config, checked.config.relay.ports("zmq")
    by_ticket = config.data.admission is Admission.TICKET
    by_tls = config.data.tls.required
    return zmq_faults(
        checked.file, config.zmq, ports, config.security.keys, by_ticket, by_tls, checked.broken
    )


def _descriptors(checked: Checked) -> Iterator[Fault]:
    if checked.broken & _SUMMED:
        return
    if fault := descriptor_fault(checked.file, checked.config, checked.machine.descriptors):
        yield fault
