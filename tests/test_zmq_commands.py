"""The commands of README's "ZeroMQ without open ports", run as they stand there."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase

from tests.relayx_process import environment
from tests.test_setup_commands import BEFORE, PROGRAMS, count, section

TITLE = "ZeroMQ without open ports"
DEADLINE = 100.0
"""Seconds for all of them."""
AFTER = "\nset -- $(jobs -p)\nkill $1\nwait $1\n"
"""The gateway is the first that runs in the background, and ends with status 0."""


class Commands(TestCase):
    """In a network of their own, since their ports are fixed."""

    def test_few(self) -> None:
        self.assertLessEqual(count(section("README.rst", TITLE)), 10)

    def test_run(self) -> object:
        """What one program pushes the other prints, and both have connected."""
        return deferToThread(self.scenario)

    def scenario(self) -> None:
        for program in ("unshare", "ip", "bash"):
            if shutil.which(program) is None:
                raise SkipTest(f"needs {program}")
        if importlib.util.find_spec("zmq") is None:
            raise SkipTest("pyzmq is not installed")
        alone = ["unshare", "--net"]
        if os.geteuid() != 0:
            alone += ["--user", "--map-root-user"]
        if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
            raise SkipTest("no network namespace can be made here")
        folder, programs = (Path(self.mktemp()).absolute() for _ in range(2))
        folder.mkdir()
        programs.mkdir()
        for name, code in PROGRAMS.items():
            (programs / name).write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}' \"$@\"\n")
        (programs / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        for program in programs.iterdir():
            program.chmod(0o755)
        path = f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"
        done = subprocess.run(
            [*alone, "bash", "-c", BEFORE + section("README.rst", TITLE) + AFTER],
            cwd=folder,
            env=environment(PATH=path),
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("zmq.yaml and .env.local.json are valid", done.stdout)
        printed = [line for line in done.stdout.splitlines() if line.startswith("work ")]
        self.assertEqual(printed, ["work 0", "work 1", "work 2"])
