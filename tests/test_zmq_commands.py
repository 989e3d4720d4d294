"""The commands of README's "ZeroMQ without open ports", run as they stand there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase

from tests.alone import Alone
from tests.test_setup_commands import count, section

TITLE = "ZeroMQ without open ports"
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
        if importlib.util.find_spec("zmq") is None:
            raise SkipTest("pyzmq is not installed")
        alone = Alone(Path(self.mktemp()))
        try:
            told = alone.run(section("README.rst", TITLE) + AFTER)
        finally:
            alone.close()
        self.assertIn("zmq.yaml and .env.local.json are valid", told)
        # The gateway's log is written between, and within lines.
        self.assertEqual(re.findall(r"work \d", told), ["work 0", "work 1", "work 2"])
