"""A short life of the SRT engine, for valgrind to look at: ``python -m tests.srt_memcheck``.

Prints how many messages went from one peer to the other.
"""

from __future__ import annotations

import queue
import time

from relayx.core.pairing import Outcome
from relayx.srt.binding import Peer, load
from relayx.srt.engine import Engine, Waiting
from relayx.srt.session import Paired, Report, Sessions
from tests.srt_peer import SrtPeer

MESSAGES = 50


def main() -> None:
    """Accept two, move messages between them, end, and stop."""
    told: queue.Queue[tuple[object, ...]] = queue.Queue()
    library = load()
    engine = Engine(library, lambda *call: told.put(call))
    outcomes: list[Outcome] = []
    reports: list[Report] = []
    sessions = Sessions(
        engine,
        lambda _, outcome: outcomes.append(outcome),
        reports.extend,
        lambda sock: None,
        reports.append,
    )
    listener = library.create()
    for name in ("sndsyn", "rcvsyn"):
        library.set(listener, name, False)
    library.bind(listener, "127.0.0.1", 0)
    library.listen(listener, 5, lambda *came: 0)
    port = library.bound_to(listener).port
    came: list[int] = []

    def accepted(sock: int, _peer: Peer) -> None:
        came.append(sock)
        engine.add(sock)
        engine.wait(sock, Waiting(keeps=len(came) == 1), lambda: None, reads=len(came) == 1)
        if len(came) == 2:
            now = time.monotonic()
            sessions.begin(Paired("p", came[1], came[0], now, now, keep=False, shared=False))

    engine.start()
    engine.order(engine.add_listener, listener, accepted)
    with SrtPeer.connect("127.0.0.1", port) as be, SrtPeer.connect("127.0.0.1", port) as fe:
        for number in range(MESSAGES):
            be.send(number.to_bytes(4, "big"))
        got = [fe.receive() for _ in range(MESSAGES)]
        be.drain()
    while not outcomes:
        function, *rest = told.get(timeout=60)
        function(*rest)  # type: ignore[operator]  # what the engine tells is a call
    engine.stop()
    print(f"{len(got)} messages", flush=True)


if __name__ == "__main__":
    main()
