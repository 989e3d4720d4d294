"""The bench runs: its load generator compiles, moves bytes, and the results are written."""

from __future__ import annotations

import importlib
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


class Operations(TestCase):
    """What is read out of what wrk says."""

    def test_wrk(self) -> None:
        """Its rate, and what went wrong; where it says nothing of use, that is a fault."""
        if importlib.util.find_spec("bench") is None:
            raise SkipTest("bench/ is not where the tests run")
        read_wrk = importlib.import_module("bench.operations").read_wrk
        self.assertEqual(read_wrk("\nRequests/sec:   1234.50\n"), (1234.5, []))
        said = "  Socket errors: connect 0, read 1, write 0, timeout 0\nRequests/sec: 7\n"
        rate, faults = read_wrk(said)
        self.assertEqual((rate, len(faults)), (7, 1))
        self.assertEqual(len(read_wrk("unable to connect")[1]), 1)
