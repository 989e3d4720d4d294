"""The run as an SVG picture: for each workload, a bar a peer, as a ratio to HAProxy."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from bench.measured import Figure
from bench.report import BASE, cell
from bench.summary import Summary
from bench.workloads import Workload

WIDTH, LABEL, BAR_ROOM, VALUE = 560, 130, 270, 150
ROW, HEAD, GAP = 18, 42, 22
MOST = 3.0
"""Ratios beyond are cut off; the figure beside the bar still tells."""
COLOURS = {"gateway": "#1f6f8b", "direct": "#c9ccd1", "": "#9fb8c4"}
STYLE = (
    "text{font-family:system-ui,-apple-system,'Segoe UI',sans-serif;font-size:12px;fill:#2b2f36;"
    "paint-order:stroke;stroke:#fff;stroke-width:4px;stroke-linejoin:round}"
    ".t{font-size:13px;font-weight:600}.s{font-size:11px;fill:#6b7280}"
    ".h{font-size:17px;font-weight:600}"
)


def panel(
    summary: Summary,
    workload: Workload,
    figure: Figure,
    peers: Sequence[str],
    gateways: Sequence[str],
    x: int,
    y: int,
) -> tuple[list[str], int]:
    """The marks of one workload at `x`, `y`, and how high they are."""
    arrow = "longer is better" if figure.higher_is_better else "shorter is better"
    marks = [
        f'<text class="t" x="{x}" y="{y + 14}">{escape(workload.title)}</text>',
        f'<text class="s" x="{x}" y="{y + 30}">{escape(figure.title)}, {arrow}</text>',
    ]
    row = y + HEAD
    unit = BAR_ROOM / MOST
    for peer in peers:
        ratio = summary.ratio(workload.name, peer, BASE, figure.key)
        if ratio is None:
            continue
        kind = "gateway" if peer in gateways else peer if peer == "direct" else ""
        length = max(1.0, min(ratio.median, MOST) * unit)
        middle = row + ROW / 2 + 4
        told = cell(summary, workload.name, peer, figure, spread=False)
        beyond = " &gt;" if ratio.median > MOST else ""
        weight = ' font-weight="600"' if peer in gateways else ""
        marks += [
            f'<text x="{x + LABEL - 8}" y="{middle}" text-anchor="end"{weight}>'
            f"{escape(peer)}</text>",
            f'<rect x="{x + LABEL}" y="{row + 2}" width="{length:.1f}" height="{ROW - 5}" '
            f'rx="2" fill="{COLOURS[kind]}"/>',
            f'<text x="{x + LABEL + length + 6:.1f}" y="{middle}"{weight}>'
            f"{ratio.median:.2f} x{beyond}"
            f'<tspan class="s" dx="6">{escape(told)}</tspan></text>',
        ]
        if ratio.rounds > 1:
            low, high = (min(value, MOST) * unit for value in (ratio.least, ratio.most))
            marks.append(
                f'<path d="M{x + LABEL + low:.1f} {row + ROW / 2 - 0.5}H{x + LABEL + high:.1f}" '
                'stroke="#2b2f36" stroke-opacity=".45"/>'
            )
        row += ROW
    one = x + LABEL + unit
    marks.insert(
        2, f'<path d="M{one} {y + HEAD - 4}V{row + 2}" stroke="#b4552d" stroke-dasharray="3 3"/>'
    )
    return marks, row - y


def draw(
    title: str,
    subtitle: str,
    summary: Summary,
    workloads: Sequence[Workload],
    peers: Sequence[str],
    gateways: Sequence[str],
) -> str:
    """The picture, in two columns."""
    marks: list[str] = []
    bottoms = [70, 70]
    for workload in workloads:
        chosen = [figure for figure in workload.figures[:2] if figure.key == "cpu_s_per_gb"]
        for figure in (workload.figures[0], *chosen):
            if not figure.compared or not summary.ratio(workload.name, BASE, BASE, figure.key):
                continue
            column = 0 if bottoms[0] <= bottoms[1] else 1
            left = 20 + column * (WIDTH + 20)
            drawn, height = panel(summary, workload, figure, peers, gateways, left, bottoms[column])
            marks += drawn
            bottoms[column] += height + GAP
    width, height = 2 * WIDTH + 60, max(bottoms)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}">',
            f"<style>{STYLE}</style>",
            f'<rect width="{width}" height="{height}" fill="#fff"/>',
            f'<text class="h" x="20" y="30">{escape(title)}</text>',
            f'<text class="s" x="20" y="50">{escape(subtitle)}</text>',
            *marks,
            "</svg>",
            "",
        ]
    )
