"""The demo's progress: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from relayx.cli.progress import make_progress
from relayx.cli.running import say

LINE_EVERY = 1.0
"""Seconds between two lines where there is no terminal."""


class Lines:
    """Says now and then how much has come back, and how fast.

    :param clock: seconds that never go back.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._clock = clock
        self._count = 0
        self._begun: float | None = None
        self._said = 0.0

    def add(self, count: int) -> None:
        """Count more bytes."""
        now = self._clock()
        if self._begun is None:
            self._begun = self._said = now
        self._count += count
        if now - self._said >= LINE_EVERY or self._count == self._total:
            self._said = now
            rate = self._count / max(now - self._begun, 1e-9) / 1e6
            share = 100 * self._count / self._total
            say(f"{share:3.0f} %  {self._count} of {self._total} bytes back, {rate:.1f} MB/s")


@contextmanager
def demo_progress(
    sizes: list[int], label: Callable[[int], str]
) -> Iterator[list[Callable[[int], None]]]:
    """Show the progress of several parts; yields for each what counts more of its bytes.

    :param label: what to call the part of that index.
    """
    progress = make_progress()
    if progress is None:
        yield [Lines(sum(sizes)).add] * len(sizes)
        return
    with progress:
        tasks = [
            progress.add_task(f"FE {index + 1} {label(index)}", total=size)
            for index, size in enumerate(sizes)
        ]
        yield [partial(progress.advance, task) for task in tasks]
