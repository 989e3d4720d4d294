"""What is known of one SRT link: round trips, rates, losses (libsrt's srt_bstats)."""

from __future__ import annotations

from typing import Any

import msgspec


class LinkState(msgspec.Struct, frozen=True):
    """One side's connection, as libsrt measures it; "send" is from the gateway to the peer.

    :ivar send_loss_percent: of the packets sent, those reported lost, over the last second.
    :ivar dropped: packets given up since the connection began: too late to be sent, or to be
        played; `retransmitted` likewise, of packets sent again.
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


class Gauge:
    """Measures one link; rates are since the measurement before."""

    __slots__ = ("_acks", "_at", "_bytes_in", "_bytes_out", "heard", "state")

    def __init__(self, now: float) -> None:
        self.state = LinkState()
        self.heard = now
        self._at = now
        self._bytes_in = self._bytes_out = self._acks = 0

    def measure(self, now: float, stats: Any) -> None:
        """Take a measurement.

        :param now: seconds.
        :param stats: SRT_TRACEBSTATS.
        """
        before, seconds = self.state, max(now - self._at, 1e-6)
        heard = stats.pktRecvTotal + stats.pktRecvACKTotal + stats.pktRecvNAKTotal
        if heard != self._acks:
            self._acks, self.heard = heard, now
        elif stats.pktFlightSize == 0 and stats.pktSentTotal == before.sent_packets:
            self.heard = now  # nothing was to be heard, which libsrt finds out by itself
        sent, received = int(stats.byteSentTotal), int(stats.byteRecvTotal)
        self.state = LinkState(
            rtt_ms=float(stats.msRTT),
            send_rate_bps=(sent - self._bytes_out) * 8 / seconds,
            recv_rate_bps=(received - self._bytes_in) * 8 / seconds,
            send_loss_percent=_percent(
                stats.pktSndLossTotal - before.lost_sent,
                stats.pktSentTotal - before.sent_packets,
            ),
            recv_loss_percent=_percent(
                stats.pktRcvLossTotal - before.lost_received,
                stats.pktRecvTotal - before.received_packets
                + stats.pktRcvLossTotal - before.lost_received,
            ),
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
        )  # fmt: skip
        self._at, self._bytes_out, self._bytes_in = now, sent, received


def _percent(part: int, whole: int) -> float:
    return min(100.0, 100.0 * part / whole) if part > 0 and whole > 0 else 0.0
