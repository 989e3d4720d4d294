"""What is counted as it happens, from the notes and effects that the service has anyway."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry

from relayx.core.effects import Pair
from relayx.core.errors import Code
from relayx.core.messages import Cause, Protocol, Role, Side
from relayx.metrics.tally import CounterBy, HistogramBy
from relayx.zmq.counts import BOUNDS

LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
PAIRING = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
LEASE = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)
SESSION = (0.01, 0.1, 1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""Upper bounds of the buckets, in seconds."""

REPLYING = ("req_rep", "dealer_router")
"""Patterns of ZeroMQ in which requests are replied to in order."""

REFUSALS = {
    "register": (
        Code.AUTH_FAILED, Code.REGISTER_REQUIRED, Code.CAPACITY, Code.INVALID_REQUEST,
        Code.SIGNATURE_INVALID, Code.REPLAYED, Code.RATE_LIMITED, Code.DRAINING,
    ),
    "lease": (Code.INVALID_REQUEST, Code.PORT_EXHAUSTED, Code.RATE_LIMITED, Code.DRAINING),
    "data": (
        Code.HELLO_INVALID, Code.DRAINING, Code.NOT_ADMITTED, Code.TTL_EXPIRED, Code.PORT_BUSY,
        Code.PORT_RESERVED, Code.PORT_EMPTY,
    ),
}  # fmt: skip
"""The refusals whose series are there from the start, by what was asked for."""

CONNECTIONS = {
    Protocol.ZMQ: "Data connections on a port labelled zmq that said HELLO, or spoke ZMTP at once, "
    "and those that a broker took",
    Protocol.SRT: "Data connections on a port labelled srt: TCP ones that said HELLO, and SRT ones "
    "that were not turned away in their handshake",
}

Fields = Mapping[str, Any]


class Counted:
    """The counters and histograms; each costs a dictionary look-up or two when it moves.

    :param registry: where they are kept.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> CounterBy:
            made = CounterBy(name, text, *labels)
            registry.register(made)
            return made

        def histogram(
            name: str, text: str, buckets: tuple[float, ...], *labels: str
        ) -> HistogramBy:
            made = HistogramBy(name, text, buckets, *labels)
            registry.register(made)
            return made

        # The guide's names, section 10.4.
        self._connections = {
            protocol: counter(
                f"{protocol}_conn",
                text,
                "role",
            )
            for protocol, text in CONNECTIONS.items()
        }
        self.answers = histogram(
            "zmq_msg_duration_seconds",
            "Seconds from a request of ZeroMQ to its reply as the gateway sees them, by pattern: "
            "of sessions where zmq.inspect is messages, and of brokers",
            BOUNDS,
            "pattern",
        )
        self._registrations = counter(
            "relayx_registrations", "Clients that registered on the control plane", "role"
        )
        self._refusals = counter(
            "relayx_refusals",
            "What was refused: a registration (register), a port_acquire (lease) or a data "
            "connection (data), by error code",
            "stage", "code",
        )  # fmt: skip
        self._granted = counter(
            "relayx_leases_granted", "Leases granted, by the role of the client", "role"
        )
        self._leases_ended = counter(
            "relayx_leases_ended",
            "Leases that ended on one or both of their ports: TTL_EXPIRED, BE_LOST, or released "
            "by their owner or with it",
            "reason",
        )
        self._sessions_ended = counter(
            "relayx_sessions_ended", "Sessions that ended, by cause", "protocol", "cause"
        )
        self._dropped = counter(
            "relayx_control_dropped",
            "Control connections that were closed for what they did or did not do",
        )
        self._takeovers = counter(
            "relayx_takeovers", "Clients whose place another process took", "role"
        )
        self._reaped = counter("relayx_backends_reaped", "Back ends that were lost for good")
        self._blocked = counter(
            "relayx_sources_blocked", "Times that a source was refused for failed registrations"
        )
        self._session_seconds = histogram(
            "relayx_session_duration_seconds", "Seconds that sessions lasted", SESSION, "protocol"
        )
        self._pairing_seconds = histogram(
            "relayx_pairing_latency_seconds",
            "Seconds from an FE's HELLO until it was paired with a BE",
            PAIRING,
            "protocol",
        )
        self._lease_seconds = histogram(
            "relayx_lease_wait_seconds",
            "Seconds from the grant of a lease to the first session under it; a lease that is "
            "never used has no sample",
            LEASE,
        )
        self._lag = histogram(
            "relayx_reactor_lag_seconds",
            "Seconds by which a timer of the reactor came late, looked at four times a second",
            LAG,
        )
        self._begin_at_zero()
        self._on: dict[str, Callable[[Fields], None]] = {
            "registered": lambda said: self._registrations(said["role"]).inc(),
            "register_failed": lambda said: self._refuse("register", said),
            "register_limited": lambda said: self._refuse("register", said),
            "granted": lambda said: self._granted(said["role"]).inc(),
            "refused": lambda said: self._refuse("data" if said.get("port") else "lease", said),
            "lease_ended": lambda said: self._leases_ended(said["error_code"] or "released").inc(),
            "session_end": self._session_ended,
            "dropped": lambda _said: self._dropped().inc(),
            "taken_over": lambda said: self._takeovers(said["role"]).inc(),
            "reaped": lambda _said: self._reaped().inc(),
            "blocked": lambda _said: self._blocked().inc(),
        }

    def _begin_at_zero(self) -> None:
        """Make the series that there can be: what has no series yet has no rate either."""
        for role in Role:
            for by_role in (*self._connections.values(), self._registrations, self._granted,
                            self._takeovers):  # fmt: skip
                by_role(role)
        for pattern in REPLYING:
            self.answers(pattern)
        for protocol in Protocol:
            self._session_seconds(protocol)
            self._pairing_seconds(protocol)
            for cause in Cause:
                self._sessions_ended(protocol, cause)
        for stage, codes in REFUSALS.items():
            for code in codes:
                self._refusals(stage, code)
        for reason in ("released", Code.TTL_EXPIRED, Code.BE_LOST):
            self._leases_ended(reason)

    def noted(self, event: str, fields: Fields) -> None:
        """Something was said for the log, whether or not anybody sees it there."""
        count = self._on.get(event)
        if count is not None:
            count(fields)

    def _refuse(self, stage: str, said: Fields) -> None:
        self._refusals(stage, said["error_code"]).inc()

    def _session_ended(self, said: Fields) -> None:
        protocol = said["protocol"]
        self._sessions_ended(protocol, said["cause"]).inc()
        self._session_seconds(protocol).observe(max(0.0, said["seconds"]))

    def said_hello(self, protocol: Protocol, role: Role) -> None:
        """A data connection has said who it is."""
        self._connections[protocol](role).inc()

    def zmq_replied(self, pattern: str, seconds: list[float]) -> None:
        """Replies of ZeroMQ have gone through, so long after their requests."""
        spread = self.answers(pattern)
        for one in seconds:
            spread.observe(max(0.0, one))

    def broker_connected(self, side: Side, more: int) -> None:
        """So many more connections have come to a side of a broker."""
        self._connections[Protocol.ZMQ](side).value += more

    def paired(self, pair: Pair) -> None:
        """A session begins."""
        self._pairing_seconds(pair.protocol).observe(max(0.0, pair.fe_waited))
        if pair.lease_waited is not None:
            self._lease_seconds().observe(max(0.0, pair.lease_waited))

    def lagged(self, seconds: float) -> None:
        """The reactor was so late."""
        self._lag().observe(seconds)
