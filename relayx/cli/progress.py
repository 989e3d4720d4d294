"""Progress bars on stderr, where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress


def make_progress() -> Progress | None:
    """Bars with bytes and throughput; None without a terminal to show them on."""
    if not sys.stderr.isatty():
        return None  # and a seventh of the start's time is saved by not importing this
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


@contextmanager
def bar(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """One bar, where there is a terminal; yields what counts more bytes.

    :param total: how many there will be, None where nobody knows.
    """
    progress = make_progress()
    if progress is None:
        yield lambda count: None
        return
    with progress:
        task = progress.add_task(label, total=total)
        yield lambda count: progress.advance(task, count)
