"""What the SRT links of each port have come to, for metrics: running ones and those that ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from relayx.core.messages import Role
from relayx.srt.statistics import LinkState


class Drops(NamedTuple):
    """What only grows.

    :ivar retransmitted: packets sent again.
    :ivar sent_late: packets given up since they would have come too late to the peer.
    :ivar received_late: packets of the peer that did not come in time to be handed on.
    """

    retransmitted: int = 0
    sent_late: int = 0
    received_late: int = 0

    def plus(self, other: Drops) -> Drops:
        """Both together."""
        return Drops(*(one + two for one, two in zip(self, other, strict=True)))

    def at_least(self, other: Drops) -> Drops:
        """The larger of each."""
        return Drops(*map(max, self, other))


class PortLinks(msgspec.Struct, frozen=True):
    """All links of one role on one port: of watchers of a stream there are several.

    :ivar links: how many are in a session now.
    :ivar rtt_ms: of the worst; `loss_percent`, of either direction, and `latency_ms`, of the
        longer one, likewise. 0 where there is none.
    :ivar send_rate_bps: of all together; `recv_rate_bps` likewise.
    :ivar drops: since the start, with links that are gone.
    :ivar messages_dropped: likewise, messages that this side did not get, its send buffer being
        full or libsrt having given them up.
    """

    links: int = 0
    rtt_ms: float = 0.0
    send_rate_bps: float = 0.0
    recv_rate_bps: float = 0.0
    loss_percent: float = 0.0
    latency_ms: int = 0
    drops: Drops = Drops()
    messages_dropped: int = 0


Key = tuple[int, Role]
"""A port's number, and whose links there."""


class Totals:
    """Follows the links of one gateway; what it adds up never gets less."""

    def __init__(self) -> None:
        self._links: dict[int, tuple[Key, Drops]] = {}
        self._running: dict[int, LinkState] = {}
        self._ended: dict[Key, Drops] = {}
        self._dropped: dict[Key, int] = {}
        self._dropped_in: dict[str, dict[Key, int]] = {}

    def measured(self, link: int, port: int, role: Role, state: LinkState) -> None:
        """A link in a session has been measured."""
        found = Drops(state.retransmitted, state.send_dropped, state.recv_dropped)
        known = self._links.get(link)
        self._links[link] = (port, role), found if known is None else found.at_least(known[1])
        self._running[link] = state

    def rests(self, link: int) -> None:
        """A link is in no session any more; what it has counted may go on later."""
        self._running.pop(link, None)

    def ended(self, link: int) -> None:
        """A link is gone."""
        self.rests(link)
        found = self._links.pop(link, None)
        if found is not None:
            key, drops = found
            self._ended[key] = self._ended.get(key, Drops()).plus(drops)

    def dropped(self, name: str, port: int, counts: Mapping[Role, int]) -> None:
        """So many messages have been dropped so far in a session, on the way to each side.

        :param name: of the session, or of its one SRT link.
        """
        self._dropped_in[name] = {(port, role): count for role, count in counts.items()}

    def session_over(self, name: str) -> None:
        """A session is over."""
        for key, count in self._dropped_in.pop(name, {}).items():
            self._dropped[key] = self._dropped.get(key, 0) + count

    def by_port(self) -> Mapping[Key, PortLinks]:
        """The numbers of each port and role on which there has been a link in a session."""
        drops, dropped = dict(self._ended), dict(self._dropped)
        running: dict[Key, list[LinkState]] = {}
        for link, (key, counted) in self._links.items():
            drops[key] = drops.get(key, Drops()).plus(counted)
            if link in self._running:
                running.setdefault(key, []).append(self._running[link])
        for of_session in self._dropped_in.values():
            for key, count in of_session.items():
                dropped[key] = dropped.get(key, 0) + count
        return {
            key: _aggregated(running.get(key, []), drops[key], dropped.get(key, 0))
            for key in sorted(drops)
        }


def _aggregated(links: list[LinkState], drops: Drops, dropped: int) -> PortLinks:
    if not links:
        return PortLinks(drops=drops, messages_dropped=dropped)
    return PortLinks(
        links=len(links),
        rtt_ms=max(link.rtt_ms for link in links),
        send_rate_bps=sum(link.send_rate_bps for link in links),
        recv_rate_bps=sum(link.recv_rate_bps for link in links),
        loss_percent=max(max(link.send_loss_percent, link.recv_loss_percent) for link in links),
        latency_ms=max(max(link.send_latency_ms, link.receive_latency_ms) for link in links),
        drops=drops,
        messages_dropped=dropped,
    )
