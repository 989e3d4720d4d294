"""Messages that were verified a moment ago, so that none is taken twice (guide section 4.5).

Only as long as a message's time is inside the clock's window can it come again, so no entry
has to live longer than that. Nothing is forgotten earlier, however many come: a key whose
table is full is refused new messages.
"""

from __future__ import annotations

import hashlib
import heapq
from enum import Enum, auto

WINDOW_MS = 30_000
"""How far a message's time may be from the clock, either way (guide section 4.5)."""

MOST_PER_KEY = 65_536
"""Entries; about 10 MB a key, and a thousand messages a second for a minute."""

_BUCKET_MS = 1000
_DIGEST_BYTES = 16


class Seen(Enum):
    """What the table says of a message."""

    NEW = auto()
    AGAIN = auto()
    FULL = auto()
    FORGOTTEN = auto()
    """Its time is one that the table has let go already: the clock was set back."""


class ReplayTable:
    """The ids of verified messages inside the window, apart by key.

    An entry lives until its message's time plus `WINDOW_MS`, and up to a second longer. Ids are
    held as digests of 16 bytes, in buckets of one second.

    :param most_per_key: most entries of one key.
    """

    def __init__(self, most_per_key: int = MOST_PER_KEY) -> None:
        self._most = most_per_key
        self._ids: dict[bytes, set[bytes]] = {}
        self._buckets: dict[int, list[tuple[bytes, bytes]]] = {}
        self._order: list[int] = []
        self._forgotten_ms = 0

    def __len__(self) -> int:
        return sum(map(len, self._ids.values()))

    def enter(self, key: bytes, msg_id: str, ts_ms: int, now_ms: int) -> Seen:
        """Note a verified message, unless it is there or cannot be noted.

        :param key: whose message, such as a key's fingerprint; not its kid, which is no part
            of what is signed.
        :param ts_ms: the message's time, inside the window around `now_ms`; unix ms.
        """
        self._expire(now_ms)
        if ts_ms < self._forgotten_ms - WINDOW_MS:
            return Seen.FORGOTTEN
        digest = hashlib.blake2b(msg_id.encode(), digest_size=_DIGEST_BYTES).digest()
        ids = self._ids.setdefault(key, set())
        if digest in ids:
            return Seen.AGAIN
        if len(ids) >= self._most:
            return Seen.FULL
        ids.add(digest)
        number = (ts_ms + WINDOW_MS) // _BUCKET_MS
        bucket = self._buckets.get(number)
        if bucket is None:
            bucket = self._buckets[number] = []
            heapq.heappush(self._order, number)
        bucket.append((key, digest))
        return Seen.NEW

    def _expire(self, now_ms: int) -> None:
        """Let go of the buckets whose last entry's time is over."""
        while self._order and (self._order[0] + 1) * _BUCKET_MS <= now_ms:
            number = heapq.heappop(self._order)
            self._forgotten_ms = (number + 1) * _BUCKET_MS
            for key, digest in self._buckets.pop(number):
                ids = self._ids[key]
                ids.discard(digest)
                if not ids:
                    del self._ids[key]
