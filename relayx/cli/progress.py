"""Progress bars on stderr, where that is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


def make_progress() -> Progress:
    """Bars with bytes and throughput; without a terminal, nothing is shown."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


@contextmanager
def bar(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """One bar; yields what counts more bytes.

    :param total: how many there will be, None where nobody knows.
    """
    with make_progress() as progress:
        task = progress.add_task(label, total=total)
        yield lambda count: progress.advance(task, count)
