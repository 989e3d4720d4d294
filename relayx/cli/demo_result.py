"""What the demo has found, and the tables that show it (contract section 10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from relayx.cli.transfer import Receipt

WIDTH = 80
"""Columns that the tables need: 64 of them for a digest."""


@dataclass(frozen=True)
class Trip:
    """One session, FE -> BE -> FE.

    :ivar port: where, such as ``zmq 30101``.
    :ivar wanted: how many bytes it was to carry.
    :ivar begun: when it was paired; `ended`: when the end of what came back was there. Seconds.
    :ivar sent: what the FE sent; `at_be`: what the BE got; `back`: what the FE got back.
    """

    port: str
    wanted: int
    begun: float
    ended: float
    sent: Receipt
    at_be: Receipt
    back: Receipt


def differences(trips: Sequence[Trip]) -> list[str]:
    """What did not come through as it should, one sentence each; [] where all did."""
    found = []
    for number, trip in enumerate(trips, 1):
        if trip.sent.bytes != trip.wanted:
            found.append(f"FE {number} sent {trip.sent.bytes} bytes instead of {trip.wanted}")
        for what, receipt in (("the BE got", trip.at_be), ("the FE got back", trip.back)):
            if receipt != trip.sent:
                found.append(
                    f"FE {number}: {what} {receipt.bytes} bytes with sha256 {receipt.sha256}, "
                    f"not the {trip.sent.bytes} bytes with {trip.sent.sha256} that were sent"
                )
    return found


def print_result(console: Console, trips: Sequence[Trip], whole: str) -> None:
    """Print the closing tables. No digest is ever cut, however narrow the output is.

    :param whole: SHA-256 of all that was to be sent, in hex.
    """
    console = Console(file=console.file, width=max(console.width, WIDTH), highlight=False)
    console.print(throughput_table(trips))
    console.print(digest_table(trips, whole))


def throughput_table(trips: Sequence[Trip]) -> Table:
    """Bytes, seconds and GB/s of each session, and of all from the first to the last."""
    table = Table("FE", "port", box=box.SIMPLE, title="FE -> BE -> FE", title_justify="left")
    for name in ("bytes", "seconds", "GB/s"):
        table.add_column(name, justify="right")
    for number, trip in enumerate(trips, 1):
        table.add_row(str(number), trip.port, *_numbers(trip.back.bytes, trip.ended - trip.begun))
    table.add_section()
    seconds = max(trip.ended for trip in trips) - min(trip.begun for trip in trips)
    table.add_row("all", "", *_numbers(sum(trip.back.bytes for trip in trips), seconds))
    return table


def _numbers(count: int, seconds: float) -> tuple[str, str, str]:
    rate = count / seconds / 1e9 if seconds > 0 else 0.0
    return f"{count:,}", f"{seconds:.3f}", f"{rate:.3f}"


def digest_table(trips: Sequence[Trip], whole: str) -> Table:
    """SHA-256 at both ends; one that differs from what was sent stands out."""
    table = Table("FE", "what", box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("SHA-256", min_width=64, no_wrap=True, overflow="ignore")
    for number, trip in enumerate(trips, 1):
        for what, receipt in (("sent", trip.sent), ("at BE", trip.at_be), ("back", trip.back)):
            style = "" if receipt == trip.sent else "bold red"
            first = str(number) if what == "sent" else ""
            table.add_row(first, what, Text(receipt.sha256, style))
        table.add_section()
    table.add_row("all", "file", whole)
    return table
