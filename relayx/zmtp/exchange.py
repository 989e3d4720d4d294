"""How long replies take (RFC 28), from the messages of both directions."""

from __future__ import annotations

from collections import deque

MAX_WAITING = 1024
"""Moments at which unanswered requests came that are kept; those that come on top are not timed."""

_IN_ORDER = {("REQ", "REP"), ("REQ", "ROUTER"), ("DEALER", "REP")}
"""Who asks and who replies, where replies come in the order of their requests."""


class Exchange:
    """Times a connection's requests, each from when it was whole to when its reply was.

    A REQ asks once and waits; a DEALER may ask many times, and a REP replies in order. A request
    that is dropped instead of replied to (a REP drops what has no empty frame) shifts the rest.

    :ivar fe_asks: whether the FE asks and the BE replies, or the other way round.
    :ivar waiting: requests without a reply.
    """

    def __init__(self, fe_asks: bool) -> None:
        self.fe_asks = fe_asks
        self.waiting = 0
        # When how many came; None for those that came while too many moments were kept.
        self._asked: deque[tuple[float | None, int]] = deque()

    @classmethod
    def between(cls, fe_type: str, be_type: str) -> Exchange | None:
        """One for two socket types, or None where replies are none or in no order.

        None as well where the types are not known, as with CURVE.
        """
        if (fe_type, be_type) in _IN_ORDER:
            return cls(True)
        return cls(False) if (be_type, fe_type) in _IN_ORDER else None

    def from_fe(self, messages: int, now: float) -> list[float]:
        """Tell of messages that came from the FE; return the seconds of each reply among them.

        :param messages: how many, such as :meth:`Reader.count` returns.
        :param now: seconds on any clock that never goes back.
        """
        return self._came(self.fe_asks, messages, now)

    def from_be(self, messages: int, now: float) -> list[float]:
        """The same for messages that came from the BE."""
        return self._came(not self.fe_asks, messages, now)

    def _came(self, asked: bool, messages: int, now: float) -> list[float]:
        if not messages:
            return []
        if asked:
            self._ask(messages, now)
            return []
        return self._reply(messages, now)

    def _ask(self, messages: int, now: float) -> None:
        self.waiting += messages
        when = now if len(self._asked) < MAX_WAITING else None
        if self._asked and self._asked[-1][0] == when:
            messages += self._asked.pop()[1]
        self._asked.append((when, messages))

    def _reply(self, messages: int, now: float) -> list[float]:
        """Replies that nobody asked for are passed over."""
        seconds: list[float] = []
        while messages and self._asked:
            when, asked = self._asked.popleft()
            these = min(messages, asked)
            messages -= these
            self.waiting -= these
            if when is not None:
                seconds += [now - when] * these
            if asked > these:
                self._asked.appendleft((when, asked - these))
        return seconds
