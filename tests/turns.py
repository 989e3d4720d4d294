"""``twistd``, with a look at how long its reactor stays away from its poll.

``python tests/turns.py FILE ...`` runs twistd with the arguments behind FILE. When the process
ends, FILE has for each turn of the reactor when it ended (``time.monotonic()``, the same in all
processes of a machine), and the seconds since the poll had returned, by the wall clock and of
the thread's own CPU time: what others on the machine do is not in the latter. :func:`read` is
for the test that started it.

The reactor's poll is that of the epoll set that is in no other one; a look at a set inside of
it, which waits for nothing, belongs to the turn. So any reactor on epoll can be looked at, and
what runs is the program as it is.
"""

from __future__ import annotations

import atexit
import select
import sys
import time
from array import array
from pathlib import Path
from typing import Any, NamedTuple


class Turn(NamedTuple):
    """From the return of the reactor's poll to its next one, in seconds."""

    ended: float
    wall: float
    cpu: float


class Turns:
    """All turns so far, in one flat array that costs garbage collection nothing."""

    def __init__(self) -> None:
        self.figures = array("d")
        self.wall = self.cpu = 0.0

    def begin(self) -> None:
        """The poll has returned."""
        self.wall, self.cpu = time.monotonic(), time.thread_time()

    def end(self) -> None:
        """The poll is asked again."""
        if self.wall:
            cpu, now = time.thread_time(), time.monotonic()
            self.figures.extend((now, now - self.wall, cpu - self.cpu))

    def write(self, file: Path) -> None:
        """Write all turns to a file."""
        file.write_bytes(self.figures.tobytes())


def read(file: Path) -> list[Turn]:
    """The turns that a process has written."""
    figures = array("d", file.read_bytes())
    return [Turn(*figures[at : at + 3]) for at in range(0, len(figures), 3)]


def watch(turns: Turns) -> None:
    """Look at every epoll set that is made from now on."""
    make = select.epoll
    sets: dict[int, Epoll] = {}

    class Epoll:
        """An epoll set; one that waits for nothing but what its outer one reports is inner."""

        def __init__(self, *how: Any) -> None:
            self._set = make(*how)
            self._outer: Epoll | None = None
            self.modify = self._set.modify
            self.unregister = self._set.unregister
            self.fileno = self._set.fileno
            self.close = self._set.close
            sets[self.fileno()] = self

        @property
        def closed(self) -> bool:
            return self._set.closed

        def register(self, descriptor: int, *events: int) -> None:
            self._set.register(descriptor, *events)
            inner = sets.get(descriptor)
            if inner is not None and not inner.closed:
                inner._outer = self

        def poll(self, *how: Any) -> list[tuple[int, int]]:
            if self._outer is not None and not self._outer.closed:
                return self._set.poll(*how)
            turns.end()
            try:
                return self._set.poll(*how)
            finally:
                turns.begin()

    select.epoll = Epoll  # type: ignore[assignment,misc]


def main() -> None:
    """Run twistd."""
    turns = Turns()
    watch(turns)
    atexit.register(turns.write, Path(sys.argv.pop(1)).absolute())
    from twisted.scripts.twistd import run

    run()


if __name__ == "__main__":
    main()
