"""Copies what the tests need to a folder of their own: ``python tests/copy_to.py FOLDER``.

Run from there, they find relayx only where it is installed.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

NEEDED = ("tests", "configs", "bench", "docs", "ops")
FILES = (
    *("README.rst", "SECURITY.rst", "LICENSE", "setup.cfg", "setup.py", "pyproject.toml"),
    *("Dockerfile", ".dockerignore", "docker-compose.yml"),
)


def main(target: Path) -> None:
    """Put the files that the tests read into `target`."""
    root = Path(__file__).resolve().parent.parent
    target.mkdir(parents=True, exist_ok=True)
    unwanted = shutil.ignore_patterns("__pycache__")
    for name in FILES:
        shutil.copy(root / name, target)
    for name in NEEDED:
        shutil.copytree(root / name, target / name, ignore=unwanted, dirs_exist_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
