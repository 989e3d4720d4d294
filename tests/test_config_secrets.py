"""The secret file (contract section 1)."""

from __future__ import annotations

import json

from relayx.config.load import ConfigError, load
from relayx.config.model import Secrets
from relayx.config.template import secrets_example
from tests.config_files import BIG, GOOD_SECRET, PEM, PORTS, Files


class SecretFile(Files):
    """The secret file: its keys, its mode, and that its values stay in it."""

    def test_keys(self) -> None:
        every = {
            "auth_secret": GOOD_SECRET,
            "auth_secret_previous": GOOD_SECRET[::-1],
            "relay_public_key": PEM,
            "admin_token": GOOD_SECRET.upper(),
        }
        loaded = self.load({"relay": PORTS}, every, prod=True)
        self.assertEqual(loaded.secrets, Secrets(**every))
        self.assertEqual(loaded.warnings, ())

    def test_optional_keys(self) -> None:
        for value in ("", None):
            secrets = {"auth_secret": "x", "auth_secret_previous": value, "relay_public_key": value}
            self.assertEqual(self.load("", secrets).secrets, Secrets("x"))
        self.assertEqual(self.load("", {"auth_secret": "x"}).secrets, Secrets("x"))

    def test_no_secret(self) -> None:
        for secrets, problem in (
            ({}, "is missing"),
            ({"auth_secret": ""}, "is empty"),
            ({"auth_secret": None}, "is empty"),
            ("null", "is missing"),
        ):
            fault = self.fault("", secrets)
            self.assertEqual((fault.key, fault.problem), ("auth_secret", problem))
            self.assertEqual(fault.file, str(self.secrets))

    def test_wrong_types(self) -> None:
        for key in ("auth_secret", "auth_secret_previous", "relay_public_key", "admin_token"):
            for value in (5123, True, ["5123"], {"5123": 1}):
                fault = self.fault("", {"auth_secret": GOOD_SECRET, key: value})
                self.assertEqual((fault.key, fault.value), (key, ""))
                self.assertNotIn("5123", str(fault))

    def test_prod_asks_for_32_bytes(self) -> None:
        for key in ("auth_secret", "auth_secret_previous", "admin_token"):
            short = {"auth_secret": GOOD_SECRET, key: "short-" + "x" * 25}
            self.load("", short)
            fault = self.fault("", short, prod=True)
            self.assertEqual(fault.key, key)
            self.assertIn("31 bytes", fault.problem)
            self.assertNotIn("short-", str(fault))
        self.load("", {"auth_secret": "é" * 16}, prod=True)

    def test_token_is_another_secret(self) -> None:
        """Who may register may not drive the gateway."""
        same = {"auth_secret": GOOD_SECRET, "admin_token": GOOD_SECRET}
        self.assertEqual(
            [fault.key for fault in self.load({"relay": PORTS}, same).warnings], ["admin_token"]
        )
        self.assertEqual(self.fault("", same, prod=True).key, "admin_token")

    def test_token_that_no_header_holds(self) -> None:
        for token in ("ü☃" * 20, " ", "a\tb", " ends", "ends ", "two\nlines"):
            fault = self.fault("", {"auth_secret": GOOD_SECRET, "admin_token": token})
            self.assertEqual((fault.key, fault.value), ("admin_token", ""))
            self.assertIn("header", fault.problem)
        self.load("", {"auth_secret": GOOD_SECRET, "admin_token": "two words"})

    def test_placeholder_secret(self) -> None:
        for value in ("dev_secret_replace_me", "REPLACE-ME" * 4, "changeme", "dummy_secret"):
            long = value.ljust(32, "x")
            loaded = self.load({"relay": PORTS}, {"auth_secret": long})
            self.assertEqual([w.key for w in loaded.warnings], ["auth_secret"])
            fault = self.fault("", {"auth_secret": long}, prod=True)
            self.assertIn("placeholder", fault.problem)
            self.assertNotIn(value, str(fault))

    def test_placeholder_public_key(self) -> None:
        dots = PEM.replace("TUZrd0V3WUhLb1pJemow", "...")
        for key in (json.loads(secrets_example(""))["relay_public_key"], dots):
            secrets = {"auth_secret": GOOD_SECRET, "relay_public_key": key}
            (warning,) = self.load({"relay": PORTS}, secrets).warnings
            self.assertEqual(warning.key, "relay_public_key")
            self.assertEqual(self.fault("", secrets, prod=True).key, "relay_public_key")

    def test_public_key_is_pem(self) -> None:
        private = PEM.replace("PUBLIC", "PRIVATE")
        for key in ("x", PEM[:-1], PEM.replace("TUZ", "!!!"), PEM.replace("TUZ", "TU"), private):
            fault = self.fault("", {"auth_secret": "x", "relay_public_key": key})
            self.assertEqual(fault.key, "relay_public_key")
            self.assertNotIn("rd0V3", str(fault))
        self.assertIn("private key", fault.problem)
        rsa = PEM.replace("PUBLIC", "RSA PUBLIC") + "\n"
        self.load("", {"auth_secret": "x", "relay_public_key": rsa})

    def test_mode(self) -> None:
        for mode in (0o604, 0o602, 0o644):
            (warning,) = self.load({"relay": PORTS}, mode=mode).warnings
            self.assertIn(f"{mode:04o}", warning.problem)
            self.assertIn("chmod 600", warning.allowed)
            self.assertIn("others", self.fault("", mode=mode, prod=True).problem)
        (warning,) = self.load({"relay": PORTS}, mode=0o640, prod=True).warnings
        self.assertIn("group", warning.problem)
        self.assertEqual(self.load({"relay": PORTS}, mode=0o400, prod=True).warnings, ())

    def test_warnings_come_with_faults(self) -> None:
        self.write({"relay": {"max_fe": 0}}, mode=0o644)
        error = self.assertRaises(ConfigError, load, self.sources(), BIG)
        self.assertIn("others", "".join(map(str, error.warnings)))

    def test_half_a_surrogate_pair(self) -> None:
        self.assertIn("surrogate", self.fault("", '{"auth_secret": "\\ud800"}').problem)
