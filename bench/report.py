"""A run as text: tables that the terminal and reStructuredText both read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.measured import Figure
from bench.summary import Summary
from bench.targets import Judged
from bench.workloads import Workload

BASE = "haproxy"
"""What ratios are to."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A simple reStructuredText table."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    rule = "  ".join("=" * width for width in widths)
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, *rows]
    ]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])


def cell(summary: Summary, workload: str, peer: str, figure: Figure, *, spread: bool) -> str:
    """A median, with its least and most where asked."""
    value = summary.spread(workload, peer, figure.key)
    if value is None:
        return "-"
    text = f"{value.median:,.{figure.digits}f}"
    if spread and value.rounds > 1:
        text += f" ({value.least:,.{figure.digits}f}..{value.most:,.{figure.digits}f})"
    return text


def workload_table(summary: Summary, workload: Workload, peers: Sequence[str]) -> str:
    """A row a peer: its figures, the first with its spread and its ratio to HAProxy."""
    first = workload.figures[0]
    arrow = "more" if first.higher_is_better else "less"
    head = ["peer", f"{first.title} ({arrow} is better)", f"x {BASE}"]
    head += [figure.title for figure in workload.figures[1:]]
    rows = []
    for peer in peers:
        if not summary.measured(workload.name, peer):
            continue
        ratio = summary.ratio(workload.name, peer, BASE, first.key) if first.compared else None
        row = [peer + (" (!)" if summary.faults(workload.name, peer) else "")]
        row.append(cell(summary, workload.name, peer, first, spread=True))
        row.append(f"{ratio.median:.2f}" if ratio else "-")
        for figure in workload.figures[1:]:
            row.append(cell(summary, workload.name, peer, figure, spread=False))
        rows.append(row)
    return table(head, rows)


def fault_lines(summary: Summary, workload: Workload, peers: Sequence[str]) -> list[str]:
    """Everything that went wrong, a line a fault."""
    return [
        f"* (!) {peer}: {fault}" for peer in peers for fault in summary.faults(workload.name, peer)
    ]


def heading(text: str, line: str) -> list[str]:
    """A title and its underline."""
    return [text, line * len(text), ""]


def render(
    title: str,
    facts: Sequence[str],
    summary: Summary,
    workloads: Sequence[Workload],
    peers: Sequence[str],
    judged: Mapping[str, Sequence[Judged]],
) -> str:
    """The whole report."""
    lines = [*heading(title, "="), *(f"* {fact}" for fact in facts), ""]
    for workload in workloads:
        if not any(summary.measured(workload.name, peer) for peer in peers):
            continue
        lines += [*heading(f"{workload.name}: {workload.title}", "-")]
        lines += [workload_table(summary, workload, peers), ""]
        faults = fault_lines(summary, workload, peers)
        lines += [*faults, ""] if faults else []
    for gateway, targets in judged.items():
        if not targets:
            continue
        lines += heading(f"To reach: {gateway}", "-")
        head = ["workload", "figure", "to reach", "median (spread)", "verdict"]
        lines += [table(head, [one.row() for one in targets]), ""]
    return "\n".join(lines)
