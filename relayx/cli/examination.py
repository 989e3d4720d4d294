"""The steps of ``relayx doctor``, in their order; each needs the one before."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectError, ConnectionRefusedError, TimeoutError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread

from relayx.cli.dataprobe import probe
from relayx.cli.diagnosis import Report, Status, StepFailed
from relayx.cli.options import SECRET_VARIABLE, Target
from relayx.cli.running import reason
from relayx.cli.status import summary
from relayx.cli.tlsprobe import examine_tls
from relayx.client import (
    ClientError,
    ControlClient,
    Distrusted,
    Ended,
    Refused,
    TlsFailed,
    Unreachable,
)
from relayx.client.events import Connected
from relayx.client.gateway import tcp_endpoints
from relayx.core.errors import Code
from relayx.core.messages import Pong, PortAlloc, PortState, Role
from relayx.core.messages import Protocol as PortProtocol

PINGS = 5
PONG_TIMEOUT = 5.0
SKEW_NOTICED = 1.0
"""Seconds; below that a clock is as good as right."""
SKEW_REFUSED = 30.0
"""Seconds from which on signed messages are refused."""

_COUNTED = ("total", "ready", "busy", "empty", "reserved")
_ADVICE = {
    Code.AUTH_FAILED: f"check {SECRET_VARIABLE}, or the secret file that --env-file names; "
    "a gateway that asks for certificates wants the --client-id of the certificate",
    Code.CAPACITY: "raise relay.max_fe at the gateway, or stop clients that are not needed",
    Code.TAKEN_OVER: "give each client a --client-id of its own, or none",
    Code.SIGNATURE_INVALID: "the gateway wants signed messages: --sign-with a key that it trusts",
    Code.REPLAYED: "set both clocks right: signatures are good for 30 s",
    Code.RATE_LIMITED: "too many attempts came from this address; wait a minute",
    Code.DRAINING: "the gateway is being stopped; try again",
}


class Examination:
    """One look at a gateway, as a front end."""

    def __init__(self, reactor: Any, target: Target, report: Report) -> None:
        self._reactor = reactor
        self._target = target
        self._gateway = target.gateway
        self._report = report
        self._control = ControlClient(reactor, target.gateway, Role.FE, target.client_id)
        self._pong: Deferred[tuple[float, float]] = Deferred()
        self._connected = Connected("", "")
        self._ranges: PortAlloc | None = None

    async def run(self) -> None:
        """Make every step, or say of those behind a failure that they were left out."""
        steps: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("name", self._resolve),
            ("connect", self._connect),
            *([("tls", self._tls)] if self._gateway.tls is not None else []),
            ("register", self._register),
            ("clock", self._clock),
            ("roundtrip", self._round_trip),
            ("ports", self._ports),
            ("data", self._data),
        ]
        failed = ""
        try:
            for name, make in steps:
                if failed:
                    self._report.add(name, Status.SKIPPED, f"needs {failed}")
                    continue
                try:
                    await make()
                except StepFailed as why:
                    self._report.add(name, Status.FAILED, why.text, why.advice, facts=why.facts)
                    failed = name
                except ClientError as error:
                    text = f"the gateway went away: {reason(error)}"
                    self._report.add(name, Status.FAILED, text, "look at the gateway's log")
                    failed = name
        finally:
            await self._control.stop()

    async def _resolve(self) -> None:
        host = self._gateway.host
        try:
            found = await deferToThread(
                socket.getaddrinfo, host, self._gateway.port, 0, socket.SOCK_STREAM
            )
        except (OSError, UnicodeError) as error:
            raise StepFailed(
                f"{host} has no address: {getattr(error, 'strerror', None) or error}",
                "check the spelling, and /etc/resolv.conf; or give an address instead of a name",
            ) from None
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        is_address = addresses == [host]
        text = f"{host} is an address" if is_address else f"{host} is {', '.join(addresses)}"
        self._report.add("name", Status.OK, text, facts={"addresses": addresses})

    async def _connect(self) -> None:
        gateway = self._gateway
        began = self._reactor.seconds()
        endpoint = tcp_endpoints(self._reactor)(gateway.host, gateway.port)
        try:
            made: Any = await endpoint.connect(Factory.forProtocol(Protocol))
        except (ConnectError, OSError) as error:
            raise StepFailed(
                f"no TCP connection to {gateway}: {reason(error)}", _connect_advice(error)
            ) from None
        ours = made.transport.getHost().host
        made.transport.abortConnection()
        took = self._reactor.seconds() - began
        text = f"TCP to {gateway} from {ours} in {took * 1000:.1f} ms"
        facts = {"source": ours, "seconds": took}
        self._report.add("connect", Status.OK, text, facts=facts)

    async def _tls(self) -> None:
        text, facts, advice = await examine_tls(self._reactor, self._gateway)
        self._report.add("tls", Status.WARN if advice else Status.OK, text, advice, facts=facts)

    async def _register(self) -> None:
        control = self._control
        result: Deferred[Connected] = Deferred()

        def failed(event: Unreachable | Ended) -> None:
            if not result.called and event.reason is not None:
                result.errback(event.reason)

        def connected_now(event: Connected) -> None:
            if not result.called:
                result.callback(event)

        control.events.on(Connected, connected_now)
        control.events.on(Unreachable, failed)
        control.events.on(Ended, failed)
        control.events.on(PortAlloc, self._allocated)
        control.events.on(Pong, self._answered)
        control.start()
        try:
            connected = await result
        except Refused as error:
            advice = next((text for code, text in _ADVICE.items() if code == error.code), "")
            raise StepFailed(
                f"the gateway refuses: {error}", advice, error_code=error.code
            ) from None
        except Distrusted as error:
            raise StepFailed(
                f"the gateway is not trusted: {error}",
                "ask its operator for the public key that it signs with: --gateway-keys",
            ) from None
        except TlsFailed as error:
            raise StepFailed(str(error), "see the step before") from None
        except ClientError as error:
            raise StepFailed(
                f"no answer to register: {reason(error)}",
                "is this the control port of a relayx gateway? One that speaks TLS there "
                + ("does not answer without --tls" if self._gateway.tls is None else "does"),
            ) from None
        self._connected = connected
        text = f"registered with {connected.server} as {connected.client_id}"
        facts = {"server": connected.server, "client_id": connected.client_id}
        self._report.add("register", Status.OK, text, facts=facts)

    def _allocated(self, event: PortAlloc) -> None:
        self._ranges = event

    def _answered(self, pong: Pong) -> None:
        """The first answer to one of the pings that every client sends by itself."""
        if not self._pong.called:
            now = self._reactor.seconds()
            half = (now - pong.c_send / 1e9) / 2
            self._pong.callback((pong.s_recv / 1e9 - (pong.c_send / 1e9 + half), half))

    async def _clock(self) -> None:
        try:
            skew, half = await self._pong.addTimeout(PONG_TIMEOUT, self._reactor)
        except DeferredTimeout:
            raise StepFailed(
                f"no answer to a ping within {PONG_TIMEOUT:g} s",
                "look at the gateway's log and load",
            ) from None
        ahead = "ahead of" if skew > 0 else "behind"
        text = f"the gateway's clock is {abs(skew):.3f} s {ahead} ours, give or take {half:.3f} s"
        facts = {"skew_seconds": skew, "error_seconds": half}
        advice = "set the clock that is wrong; NTP keeps it right (timedatectl, chronyc tracking)"
        sure = abs(skew) - half
        if sure > SKEW_REFUSED:
            raise StepFailed(f"{text}: signed messages are refused", advice, **facts)
        if sure > SKEW_NOTICED:
            self._report.add("clock", Status.WARN, text, advice, facts=facts)
        else:
            self._report.add("clock", Status.OK, text, facts=facts)

    async def _round_trip(self) -> None:
        times = [await self._control.ping() for _ in range(PINGS)]
        least, mean, most = min(times), sum(times) / len(times), max(times)
        text = (
            f"{PINGS} pings, min/avg/max {least * 1000:.3f}/{mean * 1000:.3f}/{most * 1000:.3f} ms"
        )
        facts = {"min": least, "avg": mean, "max": most}
        self._report.add("roundtrip", Status.OK, text, facts=facts)

    async def _ports(self) -> None:
        state = await self._control.port_state()
        told = summary(self._target, self._connected, state)["ports"]
        counts = {name: {what: one[what] for what in _COUNTED} for name, one in told.items()}
        text = "; ".join(
            f"{name}: {', '.join(f'{count} {what}' for what, count in one.items())}"
            for name, one in counts.items()
        )
        if not any(one["total"] for one in counts.values()):
            raise StepFailed(
                "the gateway has no data port", "set relay.zmq_start_port and relay.zmq_end_port"
            )
        if any(one["ready"] for one in counts.values()):
            self._report.add("ports", Status.OK, text, facts=counts)
        else:
            advice = "no back end waits: start one (relayx be), or see whether one can connect"
            self._report.add("ports", Status.WARN, text, advice, facts=counts)

    async def _data(self) -> None:
        state = await self._control.port_state()
        port = _to_probe(state, self._ranges)
        text, advice, facts = await probe(
            self._reactor, self._gateway, port, self._control.client_id
        )
        self._report.add("data", Status.WARN if advice else Status.OK, text, advice, facts=facts)


def _connect_advice(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return (
            "nothing listens there: is the gateway running (systemctl status relayx), on that "
            "port (relay.control_port, control.endpoints) and address?"
        )
    if isinstance(error, TimeoutError):
        return (
            "packets get no answer: a firewall drops them (relayx firewall prints the rules that "
            "the gateway needs), or the address is wrong"
        )
    return "see whether the host can be reached at all: ping, ip route get"


def _to_probe(state: PortState, ranges: PortAlloc | None) -> int:
    """An empty port where there is one, else a ready one, else the first of the ranges."""
    for kind in ("empty_ports", "ready_ports"):
        for protocol in PortProtocol:
            found = getattr(state, f"{protocol}_{kind}")
            if found:
                return int(found[0])
    first = ranges and (ranges.zmq_start_port or ranges.srt_start_port)
    if not first:
        raise StepFailed("no data port is free to be asked", "try again when one is")
    return int(first)
