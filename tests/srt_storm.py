"""Callers that are refused and call again, many at once: ``python -m tests.srt_storm``.

All call from one UDP port, and one thread looks after them, so that the storm costs little and
what it meets is measured. Prints the reasons of the refusals and how often each came, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from typing import Any

from tests.srt_peer import SrtPeer, _library, _sockaddr

AGAIN_AFTER = 0.1
"""Seconds from one call to the next, of each caller."""
_BROKEN = 6


class Caller:
    """One that calls again and again."""

    def __init__(self, target: bytes, local: bytes, streamid: str) -> None:
        self.target, self.local, self.streamid = target, local, streamid
        self.sock = -1
        self.next = 0.0

    def look(self, srt: Any, now: float, met: Counter[int]) -> None:
        """Take the answer to a call, and call where it is time."""
        if self.sock >= 0 and srt.srt_getsockstate(self.sock) >= _BROKEN:
            met[srt.srt_getrejectreason(self.sock)] += 1
            srt.srt_close(self.sock)
            self.sock = -1
        if self.sock < 0 and now >= self.next:
            self.next = now + AGAIN_AFTER
            peer = SrtPeer._opened(
                True, {"rcvsyn": 0, "streamid": self.streamid, "conntimeo": 60_000}
            )
            self.sock, peer._number = peer._number, -1
            srt.srt_bind(self.sock, self.local, len(self.local))
            srt.srt_connect(self.sock, self.target, len(self.target))


def main() -> None:
    """Storm until so many were refused, and no longer than told."""
    host, port, streamid, callers, refusals, seconds = sys.argv[1:7]
    _, srt = _library()
    anchor = SrtPeer.listen()  # has the UDP port that all call from
    local = _sockaddr(*anchor.address)
    target = _sockaddr(host, int(port))
    all_of_them = [Caller(target, local, streamid) for _ in range(int(callers))]
    met: Counter[int] = Counter()
    end = time.monotonic() + float(seconds)
    while met.total() < int(refusals) and (now := time.monotonic()) < end:
        for caller in all_of_them:
            caller.look(srt, now, met)
        time.sleep(0.01)  # the pace of the storm: so many calls, not a wait
    print(json.dumps(met), flush=True)


if __name__ == "__main__":
    main()
