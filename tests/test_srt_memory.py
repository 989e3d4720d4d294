"""The pump in C gives back what it takes, as valgrind sees it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase

from relayx.srt import pump
from tests.srt_memcheck import MESSAGES
from tests.srt_peer import missing

DEADLINE = 300.0
"""Seconds: valgrind is some thirty times slower."""


class Memcheck(TestCase):
    """A short run of the engine under memcheck."""

    timeout = DEADLINE + 60

    def test_nothing_is_definitely_lost(self) -> object:
        """Nor read or written where it should not be, in any frame of the pump's."""
        return deferToThread(self.scenario)

    def scenario(self) -> None:
        if missing():
            raise SkipTest(missing())
        if not pump.is_compiled():
            raise SkipTest("there is no pump in C here")
        if shutil.which("valgrind") is None:
            raise SkipTest("valgrind is not installed")
        log = Path(self.mktemp()).absolute()
        root = Path(__file__).resolve().parent.parent
        path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
        done = subprocess.run(
            [
                *("valgrind", "--leak-check=full", "--show-leak-kinds=definite"),
                *("--num-callers=30", f"--log-file={log}"),
                *(sys.executable, "-m", "tests.srt_memcheck"),
            ],
            env={**os.environ, "PYTHONMALLOC": "malloc", "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        self.assertIn(f"{MESSAGES} messages", done.stdout, done.stderr)
        report = log.read_text()
        self.assertIn("LEAK SUMMARY", report)
        found = re.split(r"^==\d+== \n", report, flags=re.MULTILINE)
        ours = [one for one in found if "relayx_" in one]
        self.assertEqual(ours, [], "\n".join(ours))
