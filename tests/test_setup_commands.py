"""The ten commands of README and SECURITY.rst, run as they stand there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase

from tests.relayx_process import environment

ROOT = Path(__file__).resolve().parent.parent
FIRST = "    openssl req"
DEADLINE = 180.0
"""Seconds for all of them: eight processes of Python, one after another."""

BEFORE = "set -e\nip link set lo up\n"
AFTER = "\nkill $!\nwait $!\n"
"""The gateway runs in the background, and ends with status 0."""

PROGRAMS = {
    "relayx": "from relayx.cli.__main__ import main; main()",
    "twistd": "from twisted.scripts.twistd import run; run()",
}


def commands(page: str) -> str:
    """The block of commands in a page."""
    text = (ROOT / page).read_text()
    block = text[text.index(FIRST) :].split("\n\n", 1)[0]
    return textwrap.dedent(block)


def section(page: str, title: str) -> str:
    """The first block of commands under a title of a page."""
    text = (ROOT / page).read_text()
    under = text[text.index(f"\n{title}\n") :].split("::\n\n", 1)[1]
    lines = []
    for line in under.splitlines():
        if line and not line.startswith("    "):
            break
        lines.append(line)
    return textwrap.dedent("\n".join(lines)).strip() + "\n"


def count(block: str) -> int:
    """How many commands there are; what is between two END is part of one."""
    lines, inside = 0, False
    for line in block.splitlines():
        lines += not inside
        inside = line.endswith("<<'END'") or (inside and line != "END")
    return lines


class Commands(TestCase):
    """In a network of their own, since their ports are fixed."""

    def test_same_and_few(self) -> None:
        """Both pages have the same, ten at most."""
        self.assertEqual(commands("README.rst"), commands("SECURITY.rst"))
        self.assertLessEqual(count(commands("README.rst")), 10)

    def test_run(self) -> object:
        """A ping goes through TLS, signed both ways."""
        return deferToThread(self.scenario)

    def scenario(self) -> None:
        for program in ("unshare", "ip", "openssl", "bash"):
            if shutil.which(program) is None:
                raise SkipTest(f"needs {program}")
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
            (programs / name).chmod(0o755)
        path = f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"
        done = subprocess.run(
            [*alone, "bash", "-c", BEFORE + commands("SECURITY.rst") + AFTER],
            cwd=folder,
            env=environment(PATH=path),
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("secure.yaml and .env.local.json are valid", done.stdout)
        self.assertIn("3 sent, 3 answered, 0 % lost", done.stdout)
        self.assertIn('"event":"registered"', (folder / "audit.jsonl").read_text())
