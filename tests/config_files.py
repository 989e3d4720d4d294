"""The two files of a test, and a machine for them: what the tests of configuration share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import TestCase

from relayx.config.faults import Fault
from relayx.config.limits import Machine
from relayx.config.load import ConfigError, Environment, Loaded, Sources, load

BIG = Machine(descriptors=2**63, memory=0)
"""A machine that anything fits on."""

GOOD_SECRET = "7c2f0b6d94e1a85f3d60c7b2e9184fa6"
PEM = "-----BEGIN PUBLIC KEY-----\nTUZrd0V3WUhLb1pJemow\n-----END PUBLIC KEY-----"
PORTS = {"zmq_start_port": 40001, "zmq_end_port": 40002}


class Files(TestCase):
    """Writes the two files of a test and loads them."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.config = self.directory / "config.yaml"
        self.secrets = self.directory / "secrets.json"

    def write(self, config: Any, secrets: Any = None, mode: int = 0o600) -> None:
        text = config if isinstance(config, bytes | str) else yaml.safe_dump(config)
        self.config.write_bytes(text if isinstance(text, bytes) else text.encode())
        secrets = {"auth_secret": GOOD_SECRET} if secrets is None else secrets
        text = secrets if isinstance(secrets, bytes | str) else json.dumps(secrets)
        self.secrets.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.secrets.chmod(mode)

    def sources(self, environment: Environment = Environment.DEV) -> Sources:
        return Sources(environment, str(self.config), str(self.secrets))

    def load(
        self,
        config: Any,
        secrets: Any = None,
        *,
        mode: int = 0o600,
        prod: bool = False,
        machine: Machine = BIG,
    ) -> Loaded:
        self.write(config, secrets, mode)
        return load(self.sources(Environment.PROD if prod else Environment.DEV), machine)

    def faults(self, config: Any, secrets: Any = None, **options: Any) -> list[Fault]:
        error = self.assertRaises(ConfigError, self.load, config, secrets, **options)
        for line in str(error).splitlines():
            self.assertTrue(line.isprintable(), line)
        self.assertEqual(len(str(error).splitlines()), len(error.faults))
        return list(error.faults)

    def fault(self, config: Any, secrets: Any = None, **options: Any) -> Fault:
        (fault,) = self.faults(config, secrets, **options)
        return fault


def with_key(key: str, value: Any) -> dict[str, Any]:
    whole = value
    for name in reversed(key.split(".")):
        whole = {name: whole}
    return whole
