"""What memory was allocated where, by Python's own tracing (tracemalloc).

Tracing costs memory and a third of the speed, so it is on only where ``http.heap`` or
``PYTHONTRACEMALLOC`` says so; and a snapshot holds the gateway up, by a tenth of a second and more
where a hundred thousand blocks are traced.
"""

from __future__ import annotations

import tracemalloc

from relayx.admin.errors import Refusal
from relayx.admin.profile import Frame, speedscope
from relayx.admin.queries import HeapFormat

FRAMES = 12
"""Kept of each allocation where ``http.heap`` turns tracing on."""

MOST_STACKS = 5000
MOST_LINES = 100

_OURS = tracemalloc.Filter(False, tracemalloc.__file__)


def start_tracing() -> None:
    """Trace from now on, unless something does already."""
    if not tracemalloc.is_tracing():
        tracemalloc.start(FRAMES)


def heap(form: HeapFormat) -> bytes:
    """Everything that is traced now.

    :raises Refusal: 404 where nothing is.
    """
    if not tracemalloc.is_tracing():
        text = "allocations are not traced; http.heap or PYTHONTRACEMALLOC turns that on"
        raise Refusal(404, "HEAP_OFF", text)
    now, peak = tracemalloc.get_traced_memory()
    snapshot = tracemalloc.take_snapshot().filter_traces([_OURS])
    if form is HeapFormat.TEXT:
        lines = [f"{now} bytes traced, {peak} at most"]
        lines += [str(found) for found in snapshot.statistics("lineno")[:MOST_LINES]]
        return ("\n".join(lines) + "\n").encode()
    weights: list[tuple[tuple[Frame, ...], float]] = []
    for found in snapshot.statistics("traceback")[:MOST_STACKS]:
        stack = tuple(
            (f"{at.filename}:{at.lineno}", at.filename, at.lineno) for at in found.traceback
        )
        weights.append((stack, found.size))
    return speedscope("relayx heap", "bytes", weights)
