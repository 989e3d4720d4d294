"""``python -m bench.zmtp``: what following ZMTP costs, in one process, beside a plain loop.

The plain loop is the least that Python can do to each frame: it knows the size of all and takes
each one's content as a slice. The reader knows nothing and finds the frames; ratios are of bytes
a second, both through the same segments, in turn, in rounds. `count` gives the number of messages
alone, `feed` an event for each. Frames of mixed sizes have no run of equal ones to go by, and
those of *parts* are messages of an empty frame and another, as REQ sends them.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable

import click

from relayx.zmtp import Reader, greeting_bytes

SEGMENT = 65536
"""Bytes in a segment, as much as the gateway reads at once."""

ALL = 1 << 20
"""Bytes of each stream, more than fits in the nearest caches."""

READY = b"\x04\x1a\x05READY\x0bSocket-Type\x00\x00\x00\x04PUSH"


def frame(size: int, flags: int = 0) -> bytes:
    """A frame with that many bytes."""
    long = size > 255
    return bytes([flags | 2 * long]) + size.to_bytes(8 if long else 1, "big") + bytes(size)


def streams() -> dict[str, tuple[bytes, int]]:
    """Streams by name, each with the size of a frame on the mean."""
    chance = random.Random(1)
    made = {
        f"{size} B": (frame(size) * (ALL // len(frame(size))), len(frame(size)))
        for size in (64, 1024, 65536)
    }
    mixed = [frame(chance.randrange(500, 1548)) for _ in range(ALL // 1033)]
    made["1 KiB, mixed"] = (b"".join(mixed), 1033)
    parts = frame(0, 1) + frame(64)
    made["64 B, parts"] = (parts * (ALL // len(parts)), len(parts))
    return made


def slices(segment: bytes, size: int) -> int:
    """The plain loop: how many frames of that size there are, each taken as a slice."""
    found = 0
    for at in range(0, len(segment), size):
        _ = segment[at : at + size]
        found += 1
    return found


def bytes_a_second(one: Callable[[bytes], object], segments: list[bytes]) -> float:
    """How fast `one` goes through the segments."""
    start = time.perf_counter()
    for segment in segments:
        one(segment)
    return sum(map(len, segments)) / (time.perf_counter() - start)


def measure(segments: list[bytes], size: int, rounds: int) -> dict[str, list[float]]:
    """Bytes a second of each way in each round."""
    found: dict[str, list[float]] = {"plain": [], "count": [], "feed": []}
    for _ in range(rounds):
        reader = Reader()
        reader.feed(greeting_bytes() + READY)
        found["plain"].append(bytes_a_second(lambda segment: slices(segment, size), segments))
        found["count"].append(bytes_a_second(reader.count, segments))
        found["feed"].append(bytes_a_second(reader.feed, segments))
    return found


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rounds", default=15, show_default=True, type=click.IntRange(1, 1000))
def main(rounds: int) -> None:
    """Measure what following ZMTP costs. Medians of the rounds, ratios inside each."""
    click.echo(f"{'frames':14} {'way':6} {'MB/s':>8} {'ns/frame':>9} {'x plain':>8}")
    for name, (stream, size) in streams().items():
        segments = [stream[at : at + SEGMENT] for at in range(0, len(stream), SEGMENT)]
        found = measure(segments, size, rounds)
        for way, speeds in found.items():
            speed = statistics.median(speeds)
            ratios = [one / plain for one, plain in zip(speeds, found["plain"], strict=True)]
            click.echo(
                f"{name:14} {way:6} {speed / 1e6:8.0f} {size / speed * 1e9:9.0f} "
                f"{statistics.median(ratios):8.2f}"
            )


if __name__ == "__main__":
    main(prog_name="python -m bench.zmtp")
