"""The ten commands of README and SECURITY.rst, run as they stand there."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase

from tests.alone import Alone

ROOT = Path(__file__).resolve().parent.parent
FIRST = "    openssl req"
AFTER = "\nkill $!\nwait $!\n"
"""The gateway runs in the background, and ends with status 0."""


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
        if shutil.which("openssl") is None:
            raise SkipTest("needs openssl")
        alone = Alone(Path(self.mktemp()))
        try:
            told = alone.run(commands("SECURITY.rst") + AFTER)
        finally:
            alone.close()
        self.assertIn("secure.yaml and .env.local.json are valid", told)
        self.assertIn("3 sent, 3 answered, 0 % lost", told)
        self.assertIn('"event":"registered"', (alone.folder / "audit.jsonl").read_text())
