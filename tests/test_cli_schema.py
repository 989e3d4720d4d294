"""``relayx schema``."""

from __future__ import annotations

import json

from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator
from twisted.trial.unittest import SynchronousTestCase

from relayx import schema
from relayx.cli.__main__ import cli


class Command(SynchronousTestCase):
    """What it prints, and its exit status."""

    def run_cli(self, *arguments: str) -> Result:
        """Run it in this process."""
        return CliRunner().invoke(cli, ["schema", *arguments])

    def test_whole(self) -> None:
        """JSON and nothing else."""
        result = self.run_cli()
        self.assertEqual(result.exit_code, 0)
        self.assertEqual(json.loads(result.output), schema.wire_schema())

    def test_one(self) -> None:
        """Each can be had alone, and validates by itself."""
        for name in schema.names():
            result = self.run_cli("--message", name)
            self.assertEqual(result.exit_code, 0)
            Draft202012Validator.check_schema(json.loads(result.output))
        ping = Draft202012Validator(json.loads(self.run_cli("--message", "ping").output))
        self.assertTrue(ping.is_valid({"type": "ping", "payload": {"c_send": 1}}))
        self.assertFalse(ping.is_valid({"type": "pong", "payload": {"c_send": 1}}))

    def test_unknown(self) -> None:
        """Wrong use, with the names that there are."""
        result = self.run_cli("--message", "hello")
        self.assertEqual(result.exit_code, 2)
        self.assertIn("RLX1HELLO", result.output)
        self.assertIn("port_state_q", result.output)
