"""Counting by where connections come from (contract section 1, ``limits``).

A source is an IPv4 address or an IPv6 /64, which is the least that one customer is given.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from functools import lru_cache

from relayx.net.address import plain

IPV6_PREFIX = 64
WINDOW = 60.0
"""Seconds in which failures are counted together."""

MOST_COUNTED = 16384
MOST_BLOCKED = 65536
MOST_TOLD = 1024
"""Sources that are remembered at most, whatever comes."""


@lru_cache(maxsize=4096)
def source_of(host: str) -> str:
    """The source that an address belongs to; what is no IP address is a source of its own."""
    usual = plain(host)
    if ":" not in usual:
        return usual
    try:
        address = ipaddress.IPv6Address(usual.partition("%")[0])
    except ValueError:
        return usual
    return str(ipaddress.IPv6Network((address, IPV6_PREFIX), strict=False))


class OpenCounts:
    """How many connections each source has open."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def enter(self, source: str) -> int:
        """One more; how many they are now."""
        count = self._open[source] = self._open.get(source, 0) + 1
        return count

    def leave(self, source: str) -> None:
        """One less."""
        count = self._open[source] - 1
        if count:
            self._open[source] = count
        else:
            del self._open[source]

    def __len__(self) -> int:
        return len(self._open)


class Failures:
    """Sources that failed too often, and are refused for a while.

    What is remembered is bounded and expires. Sources that are counted push each other out,
    oldest first, and never one that is blocked.

    :param limit: failures within a minute that block a source.
    :param block: seconds.
    """

    def __init__(
        self,
        limit: int,
        block: float,
        most_counted: int = MOST_COUNTED,
        most_blocked: int = MOST_BLOCKED,
    ) -> None:
        self.limit = limit
        self.block = block
        self._most_counted = most_counted
        self._most_blocked = most_blocked
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._blocked: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts) + len(self._blocked)

    def blocked_for(self, source: str, now: float) -> float:
        """Seconds that a source is still refused, 0 where it is not."""
        until = self._blocked.get(source)
        return 0.0 if until is None else max(0.0, until - now)

    def blocked(self, now: float) -> int:
        """How many sources are refused now."""
        self._forget(now)
        return len(self._blocked)

    def failed(self, source: str, now: float) -> bool:
        """Count a failure; whether it is the one that blocks the source."""
        self._forget(now)
        began, count = self._counts.pop(source, (now, 0))
        if now - began >= WINDOW:
            began, count = now, 0
        count += 1
        if count >= self.limit and len(self._blocked) < self._most_blocked:
            news = source not in self._blocked
            self._blocked[source] = now + self.block
            self._blocked.move_to_end(source)
            return news
        self._counts[source] = began, count
        if len(self._counts) > self._most_counted:
            self._counts.popitem(last=False)
        return False

    def _forget(self, now: float) -> None:
        """Forget what has expired; in both tables the oldest is the first."""
        while self._blocked and next(iter(self._blocked.values())) <= now:
            self._blocked.popitem(last=False)
        while self._counts and next(iter(self._counts.values()))[0] + 2 * WINDOW <= now:
            self._counts.popitem(last=False)


class Seldom:
    """Lets the same thing be said once a minute only, each of the newest thousand or so.

    :param interval: seconds.
    """

    def __init__(self, interval: float = 60.0, most: int = MOST_TOLD) -> None:
        self._interval = interval
        self._most = most
        self._said: OrderedDict[str, float] = OrderedDict()

    def may(self, what: str, now: float) -> bool:
        """Whether it may be said now, in which case it counts as said."""
        before = self._said.get(what)
        if before is not None and now - before < self._interval:
            return False
        self._said[what] = now
        self._said.move_to_end(what)
        if len(self._said) > self._most:
            self._said.popitem(last=False)
        return True
