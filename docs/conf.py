"""How Sphinx builds the documentation: ``tox -e docs``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import relayx

sys.path.insert(0, str(Path(__file__).parent))  # for _ext; behind the import of what is installed

project = "relayx"
release = relayx.__version__
copyright = "the authors of relayx"

extensions = ["sphinx.ext.autodoc", "_ext.reference"]
exclude_patterns = ["_build"]
smartquotes = False
html_theme = "furo"
html_title = f"relayx {release}"
html_copy_source = False

autodoc_member_order = "bysource"

nitpick_ignore_regex = [
    # documented elsewhere; no page but this machine's is needed for a build
    ("py:.*", r"(twisted|zope|collections|contextlib|cryptography|random)\..*"),
    ("py:class", r"I[A-Z]\w+"),
    ("py:class", r"relayx\.client\.events\.Event"),  # a type variable
]

# How Python shows an interface or a bound method, and names of documents in a docstring.
SHOWN = re.compile(r"<(?:InterfaceClass|built-in method) (?:[\w.]*\.)?(\w+)(?: of [\w. ]+)?>")
SOURCE = re.compile(r"\s*\((?:contract|guide)[ ,][^)]*\)")


def plain_signature(*event: Any) -> tuple[str | None, str | None]:
    """The same signature with names that a reader can look up."""
    signature, returned = (text and SHOWN.sub(r"\1", text) for text in event[-2:])
    return signature, returned


def without_source(*event: Any) -> None:
    """Take out of a docstring where its rule is from."""
    lines: list[str] = event[-1]
    lines[:] = SOURCE.sub("", "\n".join(lines)).split("\n")


def setup(app: Any) -> None:
    """What Sphinx calls."""
    app.connect("autodoc-process-signature", plain_signature)
    app.connect("autodoc-process-docstring", without_source)
