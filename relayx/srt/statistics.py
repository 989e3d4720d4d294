"""What is known of one SRT link: round trips, rates, losses (libsrt's srt_bstats)."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec


class LinkState(msgspec.Struct, frozen=True):
    """One side's connection, as libsrt measures it; "send" is from the gateway to the peer.

    :ivar send_loss_percent: of the packets sent, those reported lost, over the last second.
    :ivar recv_loss_percent: of the packets that were to come, those that did not at first.
    :ivar send_dropped: packets given up since the connection began, being too late to be sent;
        `recv_dropped` too late to be handed on; `retransmitted` those sent again.
    :ivar send_buffer_ms: how much time the packets span that are not acknowledged yet.
    :ivar send_latency_ms: what was agreed for the peer to delay by; `receive_latency_ms` for us.
    """

    rtt_ms: float = 0.0
    send_rate_bps: float = 0.0
    recv_rate_bps: float = 0.0
    send_loss_percent: float = 0.0
    recv_loss_percent: float = 0.0
    retransmitted: int = 0
    sent_packets: int = 0
    received_packets: int = 0
    lost_sent: int = 0
    lost_received: int = 0
    send_dropped: int = 0
    recv_dropped: int = 0
    undecrypted: int = 0
    send_buffer_bytes: int = 0
    send_buffer_ms: int = 0
    recv_buffer_ms: int = 0
    send_latency_ms: int = 0
    receive_latency_ms: int = 0


def described(link: LinkState) -> str:
    """What a link to a slow peer is like, for people."""
    return (
        f"RTT {link.rtt_ms:.0f} ms, loss {link.send_loss_percent:.1f} %, "
        f"latency {link.send_latency_ms} ms"
    )


LEAST_SPAN = 0.5
"""Seconds over which a rate is taken, at least: a measurement sooner only counts."""


class Gauge:
    """Measures one link; rates and losses are since the measurement before.

    :param now: seconds.
    :param stats: SRT_TRACEBSTATS to begin with, None where the connection has ended: what a
        link did before somebody looked, such as a BE that waited, is no rate.
    """

    __slots__ = ("_at", "_before", "_heard", "heard", "state")

    def __init__(self, now: float, stats: Any = None) -> None:
        self.state = LinkState()
        self.heard = now
        self._at = now
        self._heard = 0
        self._before = _Traffic(0, 0, 0, 0, 0, 0)
        if stats is not None:
            self._heard = _heard(stats)
            self._before = _traffic(stats)
            self.state = _state(stats, LinkState())

    def measure(self, now: float, stats: Any) -> None:
        """Take a measurement.

        :param now: seconds.
        :param stats: SRT_TRACEBSTATS.
        """
        heard = _heard(stats)
        if heard != self._heard:
            self._heard, self.heard = heard, now
        elif stats.pktFlightSize == 0 and stats.pktSentTotal == self.state.sent_packets:
            self.heard = now  # nothing was to be heard, which libsrt finds out by itself
        seconds = now - self._at
        if seconds < LEAST_SPAN:
            self.state = _state(stats, self.state)
            return
        after, before = _traffic(stats), self._before
        self._at, self._before = now, after
        lost_received = after.lost_received - before.lost_received
        rated = LinkState(
            send_rate_bps=(after.sent - before.sent) * 8 / seconds,
            recv_rate_bps=(after.received - before.received) * 8 / seconds,
            send_loss_percent=_percent(
                after.lost_sent - before.lost_sent, after.sent_packets - before.sent_packets
            ),
            recv_loss_percent=_percent(
                lost_received, after.received_packets - before.received_packets + lost_received
            ),
        )
        self.state = _state(stats, rated)


class _Traffic(NamedTuple):
    sent: int
    received: int
    sent_packets: int
    received_packets: int
    lost_sent: int
    lost_received: int


def _traffic(stats: Any) -> _Traffic:
    return _Traffic(
        int(stats.byteSentTotal), int(stats.byteRecvTotal), stats.pktSentTotal, stats.pktRecvTotal,
        stats.pktSndLossTotal, stats.pktRcvLossTotal,
    )  # fmt: skip


def _heard(stats: Any) -> int:
    return int(stats.pktRecvTotal + stats.pktRecvACKTotal + stats.pktRecvNAKTotal)


def _state(stats: Any, rated: LinkState) -> LinkState:
    """What is so now, with the rates and losses of another."""
    return LinkState(
        rtt_ms=float(stats.msRTT),
        send_rate_bps=rated.send_rate_bps,
        recv_rate_bps=rated.recv_rate_bps,
        send_loss_percent=rated.send_loss_percent,
        recv_loss_percent=rated.recv_loss_percent,
        retransmitted=stats.pktRetransTotal,
        sent_packets=stats.pktSentTotal,
        received_packets=stats.pktRecvTotal,
        lost_sent=stats.pktSndLossTotal,
        lost_received=stats.pktRcvLossTotal,
        send_dropped=stats.pktSndDropTotal,
        recv_dropped=stats.pktRcvDropTotal,
        undecrypted=stats.pktRcvUndecryptTotal,
        send_buffer_bytes=stats.byteSndBuf,
        send_buffer_ms=stats.msSndBuf,
        recv_buffer_ms=stats.msRcvBuf,
        send_latency_ms=stats.msSndTsbPdDelay,
        receive_latency_ms=stats.msRcvTsbPdDelay,
    )


def _percent(part: int, whole: int) -> float:
    return min(100.0, 100.0 * part / whole) if part > 0 and whole > 0 else 0.0
