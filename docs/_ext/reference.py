"""The directive ``relayx``: a part of the reference, made from relayx's own types at build time.

``.. relayx:: messages`` stands for what the function of that name in :data:`PARTS` returns. The
HTML gets the whole schema beside its pages, as ``schema.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from relayx.schema import wire_schema

from . import commands, metrics, settings, wire

PARTS = {
    make.__name__: make
    for make in (
        wire.messages, wire.lines, wire.envelope, wire.codes,
        settings.configuration, settings.secrets,
        commands.commands, commands.gateway, metrics.metrics,
    )
}  # fmt: skip
"""Every part by its name."""


class Part(SphinxDirective):
    """One part, named by the argument."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        make = PARTS.get(self.arguments[0])
        if make is None:
            raise self.error(f"no such part; there are {', '.join(PARTS)}")
        return self.parse_text_to_nodes(make(), allow_section_headings=True)


def _write_schema(app: Sphinx, failure: Exception | None) -> None:
    if failure is None and app.builder.format == "html":
        text = json.dumps(wire_schema(), indent=2, ensure_ascii=False)
        Path(app.outdir, "schema.json").write_text(text + "\n")


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.add_directive("relayx", Part)
    app.connect("build-finished", _write_schema)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
