"""The bench runs: its load generator compiles, moves bytes, and the results are written."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, TestCase


class Quick(TestCase):
    """One short round over a direct connection, which needs neither gateway nor peers."""

    def test_direct(self) -> None:
        """Figures in all three files, and everything sent was received."""
        found = importlib.util.find_spec("bench")
        if found is None or not found.origin:
            raise SkipTest("bench/ is not where the tests run")
        if not shutil.which(os.environ.get("CC") or "cc"):
            raise SkipTest("no C compiler")
        folder = Path(self.mktemp()).absolute()
        root = str(Path(found.origin).parent.parent)
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "bench", "--quick", "--only", "bulk1,churn"),
                *("--peers", "direct", "--out", str(folder), "--name", "quick"),
            ],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(ended.returncode, 0, ended.stdout + ended.stderr)
        told = json.loads((folder / "quick.json").read_text())
        bulk, churn = told["measurements"]
        self.assertEqual(bulk["raw"]["sent"], bulk["raw"]["got"])
        self.assertGreater(bulk["values"]["gb_per_s"], 0.01)
        self.assertGreater(churn["values"]["pairs_per_s"], 10)
        self.assertIn("GB/s", (folder / "quick.rst").read_text())
        self.assertTrue((folder / "quick.svg").read_text().startswith("<svg"))
