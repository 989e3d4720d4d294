"""Section ``security``: key directories that cannot be used are faults (guide section 3)."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.config_files import Files
from tests.signing import KeyFiles


class Security(Files):
    """Looked at where signing is on."""

    def setUp(self) -> None:
        super().setUp()
        self.keys = KeyFiles(self.mktemp())

    def test_good(self) -> None:
        loaded = self.load({"security": self.keys.section("require")})
        self.assertEqual([w for w in loaded.warnings if "security" in w.key], [])

    def test_unusable(self) -> None:
        Path(self.keys.gateway, "gw-1.key").chmod(0o644)
        Path(self.keys.trusted, "broken.pub").write_text("no key")
        own, trusted = self.faults({"security": self.keys.section("accept")})
        self.assertEqual((own.key, trusted.key), ("security.keys", "security.trusted_keys"))
        self.assertIn("gw-1.key", own.problem)
        self.assertIn("chmod 600", own.problem)
        self.assertIn("broken.pub", trusted.problem)

    def test_nobody_trusted(self) -> None:
        fault = self.fault({"security": self.keys.section("require", trusted_keys="")})
        self.assertEqual(fault.key, "security.trusted_keys")

    def test_own_key_among_the_trusted(self) -> None:
        shutil.copy(Path(self.keys.gateway, "gw-1.pub"), Path(self.keys.trusted, "other.pub"))
        fault = self.fault({"security": self.keys.section("require")})
        self.assertIn("played back", fault.problem)

    def test_warnings(self) -> None:
        loaded = self.load({"security": self.keys.section("off")})
        unused = [w.key for w in loaded.warnings if "is not used" in w.problem]
        self.assertEqual(unused, ["security.keys", "security.trusted_keys"])
        loaded = self.load({"security": self.keys.section("accept", keys="")})
        self.assertIn("signs nothing", str(loaded.warnings))
