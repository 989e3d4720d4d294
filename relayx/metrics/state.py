"""The state of the gateway, collected when somebody asks, and never kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from relayx import __version__
from relayx.control.factory import ControlFactory
from relayx.core.messages import REPLIES, REQUESTS, Protocol, Role
from relayx.core.ports import Port
from relayx.core.switchboard import Switchboard
from relayx.planes import Planes
from relayx.zmq.counts import BrokerReport

DAY = 86400.0

Labels = tuple[str, ...]


class Sources(NamedTuple):
    """Where the numbers come from; calls return what is so now, or since the start.

    :ivar clock: an IReactorTime.
    :ivar expiring_keys: for each key that expires: what for (sign, verify), its kid, and when,
        in seconds since the epoch.
    :ivar blocked: how many sources are refused now.
    """

    clock: Any
    switchboard: Switchboard
    control: ControlFactory
    data: Planes
    expiring_keys: Callable[[], Iterable[tuple[str, str, float]]]
    blocked: Callable[[], int]
    previous_secret_used: Callable[[], int]
    stream_lines_dropped: Callable[[], int]
    audit_lines_lost: Callable[[], int]
    repeated_lines: Callable[[], int]
    brokers: Callable[[], Iterable[BrokerReport]] = tuple


def gauge(name: str, text: str, labels: Labels = ()) -> GaugeMetricFamily:
    """A gauge without samples."""
    return GaugeMetricFamily(name, text, labels=labels)


def counter(name: str, text: str, labels: Labels = ()) -> CounterMetricFamily:
    """A counter without samples, ``_total`` left out of its name."""
    return CounterMetricFamily(name, text, labels=labels)


class State(Collector):
    """Reads what there is. To be called in the reactor's thread."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """Every metric with its samples."""
        yield from self._gateway()
        yield from self._ports()
        yield from self._sessions()
        yield from self._zmtp()
        yield from self._messages()
        yield from self._security()
        yield from self._lines()

    def _gateway(self) -> Iterator[Metric]:
        sources, board = self._sources, self._sources.switchboard.board
        build = gauge("relayx_build_info", "The version that runs", ("version",))
        build.add_metric((__version__,), 1)
        yield build
        draining = gauge("relayx_draining", "1 while the gateway takes nobody new, else 0")
        draining.add_metric((), board.draining)
        yield draining
        clients = gauge("relayx_control_clients", "Clients that are registered", ("role",))
        limits = gauge("relayx_control_clients_limit", "Most of them at once", ("role",))
        for role, limit in ((Role.FE, board.rules.max_fe), (Role.BE, board.rules.max_be)):
            clients.add_metric((role,), board.roster.count(role))
            limits.add_metric((role,), limit)
        yield clients
        yield limits
        connections = gauge(
            "relayx_connections", "Open connections, of whatever kind, by plane", ("plane",)
        )
        connections.add_metric(("control",), sources.control.open_connections())
        connections.add_metric(("data",), sources.data.open_connections())
        yield connections
        leases = gauge("relayx_leases", "Live leases, by the role of their owner", ("role",))
        held = Counter(lease.role for lease in board.leases)
        for role in Role:
            leases.add_metric((role,), held[role])
        yield leases

    def _ports(self) -> Iterator[Metric]:
        ports = gauge(
            "relay_port_state",
            "Data ports by state; a ready or empty one that a lease keeps is reserved",
            ("protocol", "state"),
        )
        table = self._sources.switchboard.board.ports
        found = Counter((port.protocol, _state(port)) for port in table)
        for protocol in Protocol:
            for state in ("ready", "empty", "busy", "reserved"):
                ports.add_metric((protocol, state), found[protocol, state])
        yield ports

    def _sessions(self) -> Iterator[Metric]:
        data = self._sources.data
        running = gauge("relayx_sessions", "Sessions that run", ("protocol",))
        counts = data.sessions_by_protocol()
        moved = counter(
            "relay_pipe_bytes",
            "Bytes of sessions that the receiving side's TCP has acknowledged",
            ("direction", "protocol"),
        )
        stalled = counter(
            "relayx_session_stall_seconds",
            "Seconds for which the side named took nothing, so that the other was not read",
            ("protocol", "side"),
        )
        throttled = counter(
            "relayx_session_throttled_seconds",
            "Seconds for which the side named was not read because of a bandwidth limit",
            ("protocol", "side"),
        )
        for protocol, total in data.moved().items():
            running.add_metric((protocol,), counts[protocol])
            moved.add_metric(("fe_to_be", protocol), total.fe_to_be_bytes)
            moved.add_metric(("be_to_fe", protocol), total.be_to_fe_bytes)
            stalled.add_metric((protocol, "FE"), total.stalls.fe)
            stalled.add_metric((protocol, "BE"), total.stalls.be)
            throttled.add_metric((protocol, "FE"), total.stalls.fe_throttled)
            throttled.add_metric((protocol, "BE"), total.stalls.be_throttled)
        yield from (running, moved, stalled, throttled)
        held = data.held()
        buffers = gauge(
            "relayx_session_buffer_bytes",
            "Bytes that the gateway holds for data connections: unsent ones in memory, those "
            "stuck in pipes of the kernel, and early ones of BEs that wait for a session",
            ("kind",),
        )
        for kind, size in zip(("early", "memory", "pipe"), held, strict=True):
            buffers.add_metric((kind,), size)
        yield buffers

    def _zmtp(self) -> Iterator[Metric]:
        data = self._sources.data
        messages = counter(
            "relayx_zmq_messages",
            "Whole messages of ZeroMQ that went through, where zmq.inspect is messages",
            ("pattern", "direction"),
        )
        size = counter(
            "relayx_zmq_bytes",
            "Content of these messages, without what ZMTP adds",
            ("pattern", "direction"),
        )
        for pattern, moved in data.messages_moved().items():
            messages.add_metric((pattern, "fe_to_be"), moved.fe_to_be)
            messages.add_metric((pattern, "be_to_fe"), moved.be_to_fe)
            size.add_metric((pattern, "fe_to_be"), moved.fe_to_be_bytes)
            size.add_metric((pattern, "be_to_fe"), moved.be_to_fe_bytes)
        faults = counter(
            "relayx_zmtp_faults",
            "ZeroMQ connections that were closed for what they said, by kind of mistake; ended: "
            "they left in the handshake, or took too long",
            ("reason",),
        )
        for reason, count in data.zmtp_faults.items():
            faults.add_metric((reason,), count)
        yield from (messages, size, faults)

    def _messages(self) -> Iterator[Metric]:
        counts = self._sources.control.counts
        messages = counter(
            "relayx_control_messages",
            "Messages of the control plane, by type and by direction as the gateway sees it; "
            "what has a type that is none of the protocol's is unknown",
            ("direction", "type"),
        )
        for kind in (*REQUESTS, "unknown"):
            messages.add_metric(("received", kind), counts.received[kind])
        for kind in (*REPLIES, "log"):
            messages.add_metric(("sent", kind), counts.sent[kind])
        yield messages
        errors = counter(
            "relayx_message_errors", "Messages that were answered with error, by code", ("code",)
        )
        for code, count in sorted(counts.errors.items()):
            errors.add_metric((code,), count)
        yield errors
        limited = counter(
            "relayx_messages_rate_limited",
            "Messages that were not acted upon, since their client sent too many",
        )
        limited.add_metric((), counts.rate_limited)
        yield limited
        turned_away = counter(
            "relayx_control_turned_away",
            "Control connections that were closed at once, too many being open from their source",
        )
        turned_away.add_metric((), counts.turned_away)
        yield turned_away

    def _security(self) -> Iterator[Metric]:
        sources = self._sources
        tls = counter(
            "relayx_tls_failures", "Connections whose TLS was wrong or broke off", ("plane",)
        )
        tls.add_metric(("control",), sources.control.counts.tls_failures)
        tls.add_metric(("data",), sources.data.tls_failures)
        yield tls
        previous = counter("relayx_previous_secret_used", "Registrations with auth_secret_previous")
        previous.add_metric((), sources.previous_secret_used())
        yield previous
        private = counter(
            "relayx_private_keys_dropped", "Private keys that a BE sent, which went nowhere"
        )
        private.add_metric((), sources.switchboard.board.private_keys_dropped)
        yield private
        blocked = gauge(
            "relayx_blocked_sources", "Sources that are refused for failed registrations, now"
        )
        blocked.add_metric((), sources.blocked())
        yield blocked
        expiry = gauge(
            "relayx_key_expiry_days",
            "Days until a key (kid) that messages are signed or verified with (use) expires, "
            "negative where it has; a key that never does is left out",
            ("use", "kid"),
        )
        now = sources.clock.seconds()
        for use, kid, expires in sources.expiring_keys():
            expiry.add_metric((use, kid), (expires - now) / DAY)
        yield expiry

    def _lines(self) -> Iterator[Metric]:
        sources = self._sources
        dropped = counter(
            "relayx_log_lines_dropped",
            "Log lines that were left out: lost on their way to all of log.stream (stream), or to "
            "one client that lagged (client), or repeated too often (repeated)",
            ("where",),
        )
        dropped.add_metric(("stream",), sources.stream_lines_dropped())
        dropped.add_metric(("client",), sources.control.log_lines_dropped())
        dropped.add_metric(("repeated",), sources.repeated_lines())
        yield dropped
        lost = counter("relayx_audit_lines_lost", "Lines of audit.file that could not be written")
        lost.add_metric((), sources.audit_lines_lost())
        yield lost


def _state(port: Port) -> str:
    return "reserved" if port.reserved else port.status.value
