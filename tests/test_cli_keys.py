"""``relayx keys`` and ``relayx secret`` (contract section 1)."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from relayx.cli.__main__ import cli
from relayx.config.load import read_secrets
from relayx.config.secretrotation import rotate_secret
from relayx.security import secrethash
from relayx.security.keydir import signing_key, verifying_keys
from relayx.security.keys import KeyType, private_pem
from relayx.security.manifest import Entry, Manifest, manifest_text
from relayx.security.times import utc
from tests.relayx_process import environment
from tests.security_keys import key

SECRET = "7c2f0b6d94e1a85f3d60c7b2e9184fa6"
KILLED = """
import os, sys
from relayx.config.secretrotation import rotate_secret
setattr(os, sys.argv[2], lambda *_: os.kill(os.getpid(), 9))
rotate_secret(sys.argv[1], "new" * 11)
"""


class CommandCase(SynchronousTestCase):
    """Runs ``relayx`` in a directory of the test's own."""

    def setUp(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder)

    def relayx(self, *words: str, status: int = 0, data: bytes | None = None, **env: str) -> Result:
        result = CliRunner(env={"RELAY_ENV": None, "RELAY_CONFIG": None, **env}).invoke(
            cli, words, input=data, prog_name="relayx"
        )
        self.assertEqual(result.exit_code, status, result.output)
        self.assertNotIn("Traceback", result.output)
        return result


class KeysTests(CommandCase):
    """``relayx keys``"""

    def test_curve(self) -> None:
        """A key for CURVE is made, listed, and found good; it takes no days."""
        made = self.relayx("keys", "generate", "--type", "curve", "--kid", "broker")
        public = Path("keys/broker.curve-pub").read_text().strip()
        self.assertIn(public, made.output)
        self.assertNotIn(Path("keys/broker.curve-key").read_text().strip(), made.output)
        (row,) = self.rows()
        self.assertEqual((row["kid"], row["type"], row["state"]), ("broker", "curve25519", "curve"))
        self.relayx("keys", "check")
        self.relayx("keys", "generate", "--type", "curve", "--days", "3", status=2)
        self.relayx("keys", "rotate", "--type", "curve", status=2)

    def rows(self, *words: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(
            self.relayx("keys", "list", "--json", *words).stdout
        )
        return found

    def states(self) -> dict[str, str]:
        return {row["kid"]: row["state"] for row in self.rows()}

    def expire(self, kid: str, at: float) -> None:
        entry = Entry("p256", 0, at)
        Path("keys/manifest.json").write_bytes(manifest_text(Manifest(kid, "", {kid: entry})))

    def test_from_first_to_rollback(self) -> None:
        """Generate, generate, rotate, rotate to, back."""
        self.assertIn(
            "the current key of keys", self.relayx("keys", "generate", "--kid", "a").stdout
        )
        output = self.relayx("keys", "generate", "--kid", "b").stdout
        self.assertIn("relayx keys rotate --dir keys --to b", output)
        self.assertEqual(self.states(), {"a": "current", "b": "spare"})
        output = self.relayx("keys", "rotate", "--to", "b").stdout
        self.assertIn("key b is current, a is previous in keys", output)
        self.relayx("keys", "rotate", "--to", "a")
        self.assertEqual(self.states(), {"a": "current", "b": "previous"})
        self.relayx("keys", "rotate", "--kid", "c", "--type", "rsa2048", "--days", "3")
        self.assertEqual(self.states(), {"a": "previous", "b": "spare", "c": "current"})
        self.assertEqual(self.rows()[2]["days_left"], 3)
        self.assertEqual(self.rows()[2]["type"], "rsa2048")
        output = self.relayx("keys", "check").stdout
        self.assertIn("alarm: key c expires in less than 7 days", output)
        self.assertIn("the keys of keys can be used", output)
        self.assertEqual([one.kid for one in verifying_keys("keys")], ["c", "a"])

    def test_rotate_in_an_empty_directory(self) -> None:
        """Is as generating the first."""
        self.assertIn("none is previous", self.relayx("keys", "rotate", "--kid", "a").stdout)
        self.assertEqual(self.states(), {"a": "current"})

    def test_defaults(self) -> None:
        """P-256 for 180 days; in prod the guide's directory."""
        self.relayx("keys", "generate")
        (row,) = self.rows()
        self.assertEqual((row["type"], row["days_left"]), ("p256", 180))
        self.assertRegex(row["kid"], r"^p256-\d{8}-[0-9a-f]{6}$")
        self.assertIn("/etc/relay-x/keys", self.relayx("keys", "list", "--help").stdout)
        output = self.relayx("keys", "list", status=1, RELAY_ENV="staging").output
        self.assertIn("RELAY_ENV", output)
        self.assertEqual(
            self.relayx("keys", "list", "--dir", "keys", RELAY_ENV="prod").exit_code, 0
        )

    def test_prod(self) -> None:
        """``RELAY_ENV=prod`` names a directory that is not made by looking."""
        if os.path.exists("/etc/relay-x/keys"):
            self.skipTest("this machine has keys of a gateway")
        output = self.relayx("keys", "list", status=1, RELAY_ENV="prod").output
        self.assertIn("/etc/relay-x/keys: does not exist", output)

    def test_table(self) -> None:
        """A line a key, whole even where nobody looks."""
        kid = "k" * 64
        self.relayx("keys", "generate", "--kid", kid)
        lines = self.relayx("keys", "list").stdout.splitlines()
        (line,) = [line for line in lines if kid in line]
        for text in ("p256", "current", "180", self.rows()[0]["expires"]):
            self.assertIn(text, line)
        self.expire(kid, 1000)
        self.assertIn("expired", self.relayx("keys", "list").stdout)
        Path("empty").mkdir()
        self.assertIn("holds no keys", self.relayx("keys", "list", "--dir", "empty").stdout)

    def test_from_elsewhere(self) -> None:
        """One that never expires, and one that cannot be read."""
        Path("keys").mkdir()
        Path("keys/a.key").write_bytes(private_pem(key()))
        Path("keys/a.key").chmod(0o600)
        self.assertIn("never", self.relayx("keys", "list").stdout)
        Path("keys/a.key").chmod(0o644)
        self.assertIn("unreadable", self.relayx("keys", "list").stdout)
        (row,) = self.rows()
        self.assertEqual((row["type"], row["expires"], row["days_left"]), ("", None, None))
        for words in (("rotate",), ("generate",)):
            output = self.relayx("keys", *words, status=1).output
            self.assertIn("keys/a.key: holds a private key and is open to others", output)

    def test_check(self) -> None:
        """Every fault, and status 1."""
        self.relayx("keys", "generate", "--kid", "a")
        Path("keys/a.key").chmod(0o640)
        Path("keys/b.key").write_bytes(private_pem(key(KeyType.P256))[:100])
        Path("keys/b.key").chmod(0o600)
        output = self.relayx("keys", "check", status=1).stdout
        self.assertIn("fault: keys/a.key: holds a private key and is open to its group", output)
        self.assertIn("fault: keys/b.key: is cut off", output)
        self.assertIn("2 faults in keys", output)
        self.assertNotIn("MII", output)
        self.assertIn("1 fault in x", self.relayx("keys", "check", "--dir", "x", status=1).stdout)

    def test_expired(self) -> None:
        """Is a fault of the key that signs; there is no way back to it."""
        self.relayx("keys", "generate", "--kid", "a")
        self.expire("a", 1000)
        output = self.relayx("keys", "check", status=1).stdout
        self.assertIn(f"is the current key and expired at {utc(1000)}", output)
        self.relayx("keys", "rotate", "--kid", "b")
        self.assertIn("expired at", self.relayx("keys", "rotate", "--to", "a", status=1).output)
        self.assertEqual(signing_key("keys").kid, "b")

    def test_refused(self) -> None:
        """One line, status 1."""
        self.relayx("keys", "generate", "--kid", "a")
        for words, text in (
            (("generate", "--kid", "a"), "keys: has a key a already"),
            (("rotate", "--to", "x"), "keys: holds no private key x; allowed: one of: a"),
            (("rotate", "--to", "a"), "has a as its current key already"),
            (("list", "--dir", "x"), "x: does not exist"),
            (("generate", "--dir", "a\0b"), "null"),
            (("generate", "--dir", "keys/a.pub"), "File exists"),
        ):
            output = self.relayx("keys", *words, status=1).output
            self.assertIn(text, output)
            self.assertEqual(len(output.splitlines()), 1)

    def test_wrong_use(self) -> None:
        """Status 2."""
        for words in (
            ("generate", "--kid", ".a"),
            ("generate", "--kid", ""),
            ("generate", "--type", "dsa"),
            ("generate", "--days", "0"),
            ("rotate", "--to", "a b"),
            ("rotate", "--to", "a", "--kid", "b"),
            ("nonsense",),
        ):
            self.relayx("keys", *words, status=2)
        self.assertFalse(os.path.exists("keys"))


class SecretCase(CommandCase):
    """A secret file, and what is in it."""

    FILE = ".env.local.json"

    def write(self, document: object, mode: int = 0o600) -> None:
        text = document if isinstance(document, str) else json.dumps(document)
        Path(self.FILE).write_text(text)
        Path(self.FILE).chmod(mode)

    def read(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(Path(self.FILE).read_text())
        return found


class RotateTests(SecretCase):
    """``relayx secret rotate`` and ``retire``"""

    def test_rotate_and_retire(self) -> None:
        """The old one is the previous one until it is retired; all else stays."""
        before = {"relay_public_key": "\u00e9", "auth_secret": SECRET, "mine": [1.5, {"x": None}]}
        self.write(before, 0o644)
        output = self.relayx("secret", "rotate").output
        after = self.read()
        self.assertEqual(after.pop("auth_secret_previous"), SECRET)
        new = after["auth_secret"]
        self.assertGreaterEqual(len(new), 32)
        self.assertEqual(after, {**before, "auth_secret": new})
        self.assertEqual(stat.S_IMODE(os.stat(self.FILE).st_mode), 0o600)
        for secret in (SECRET, new):
            self.assertNotIn(secret, output)
        self.assertIn("no previous secret", self.relayx("secret", "retire").output)
        self.assertEqual(self.read(), {**before, "auth_secret": new})
        self.assertIn("has no previous", self.relayx("secret", "retire").output)

    def test_is_valid(self) -> None:
        """The gateway takes both files in prod."""
        self.relayx("init", RELAY_ENV="prod")
        self.relayx("secret", "rotate", RELAY_ENV="prod")
        secrets, faults, warnings = read_secrets(".env.prod.json", prod=True)
        self.assertEqual((faults, warnings), ([], []))
        self.assertTrue(secrets.auth_secret_previous)
        self.relayx("secret", "retire", RELAY_ENV="prod")
        self.assertFalse(read_secrets(".env.prod.json", prod=True)[0].auth_secret_previous)

    def test_named_file(self) -> None:
        """``--env-file``, also through a link, which stays one."""
        Path("real").mkdir()
        Path("real/s.json").write_text(json.dumps({"auth_secret": SECRET}))
        os.symlink("real/s.json", "link.json")
        self.relayx("secret", "rotate", "--env-file", "link.json")
        self.assertTrue(os.path.islink("link.json"))
        document = json.loads(Path("real/s.json").read_text())
        self.assertEqual(document["auth_secret_previous"], SECRET)

    def test_twice(self) -> None:
        """Would lock out who has not learned the new one; so it has to be asked for."""
        self.write({"auth_secret": SECRET})
        self.relayx("secret", "rotate")
        between = self.read()
        output = self.relayx("secret", "rotate", status=1).output
        self.assertIn("relayx secret retire", output)
        self.assertNotIn(SECRET, output)
        self.assertEqual(self.read(), between)
        self.relayx("secret", "rotate", "--discard-previous")
        self.assertEqual(self.read()["auth_secret_previous"], between["auth_secret"])

    def test_bad_file(self) -> None:
        """Nothing is changed, and no secret is shown."""
        for text in (
            "",
            "[]",
            "null",
            '{"auth_secret": ',
            f'{{"auth_secret": "{SECRET}", "auth_secret": "{SECRET}"}}',
            '{"auth_secret": ""}',
            f'{{"auth_secret": ["{SECRET}"]}}',
            f'{{"auth_secret_previous": "{SECRET}"}}',
        ):
            self.write(text)
            for word in ("rotate", "retire"):
                output = self.relayx("secret", word, status=1).output
                self.assertIn("nothing was changed: .env.local.json", output)
                self.assertNotIn(SECRET, output)
                self.assertEqual(Path(self.FILE).read_text(), text)
        os.unlink(self.FILE)
        self.assertIn("does not exist", self.relayx("secret", "rotate", status=1).output)
        self.assertEqual(os.listdir(), [])
        self.assertIn("RELAY_ENV", self.relayx("secret", "rotate", status=1, RELAY_ENV="x").output)

    def test_cannot_be_written(self) -> None:
        """The old file stays, whole."""
        self.write({"auth_secret": SECRET})

        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        self.patch(os, "fsync", fail)
        output = self.relayx("secret", "rotate", status=1).output
        self.assertIn("nothing was changed: ", output)
        self.assertIn(f"{self.FILE}: No space left on device", output)
        self.assertEqual(self.read(), {"auth_secret": SECRET})
        self.assertEqual(os.listdir(), [self.FILE])

    def test_killed(self) -> None:
        """At any moment there is the old file or the new one, and the next one clears up."""
        for step in ("fchmod", "fsync", "rename"):
            self.write({"auth_secret": SECRET})
            words = [sys.executable, "-c", KILLED, self.FILE, step]
            self.assertEqual(subprocess.run(words, env=environment(), check=False).returncode, -9)
            self.assertEqual(self.read(), {"auth_secret": SECRET})
            self.assertEqual(len(os.listdir()), 2)
            self.relayx("secret", "rotate")
            self.assertEqual(self.read()["auth_secret_previous"], SECRET)
            self.assertEqual(os.listdir(), [self.FILE])

    def test_two_at_once(self) -> None:
        """One of them is refused, and the secret that clients have is never lost."""
        self.write({"auth_secret": SECRET})
        words = [sys.executable, "-m", "relayx.cli", "secret", "rotate"]
        running = [
            subprocess.Popen(
                words, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            for _ in range(3)
        ]
        self.assertEqual(sorted(one.wait(60) for one in running), [0, 1, 1])
        self.assertEqual(self.read()["auth_secret_previous"], SECRET)

    def test_library(self) -> None:
        """The function behind it takes the new secret."""
        self.write({"auth_secret": SECRET})
        rotate_secret(self.FILE, "other")
        self.assertEqual(self.read(), {"auth_secret": "other", "auth_secret_previous": SECRET})


class HashTests(CommandCase):
    """``relayx secret hash``"""

    def hashed(self, data: bytes) -> secrethash.SecretHash:
        output = self.relayx("secret", "hash", data=data).stdout
        self.assertEqual(len(output.splitlines()), 1)
        return secrethash.parse(output.strip())

    def test_standard_input(self) -> None:
        """One line end is not part of it, spaces are."""
        for data, secret in (
            (b"abc", "abc"),
            (b"abc\n", "abc"),
            (b" a\r\n", " a"),
            (b"a\n\n", "a\n"),
        ):
            self.assertTrue(self.hashed(data).matches(secret), data)

    def test_refused(self) -> None:
        """Nothing, no text, too much; and never as an argument."""
        for data, text in (
            (b"", "empty"),
            (b"\n", "empty"),
            (b"\xff", "UTF-8"),
            (b"x" * 5000, "longer"),
        ):
            self.assertIn(text, self.relayx("secret", "hash", status=1, data=data).output)
        self.relayx("secret", "hash", "abc", status=2)

    def test_prompt(self) -> None:
        """Asks twice at a terminal, and shows neither answer."""
        main, terminal = os.openpty()
        self.addCleanup(os.close, main)
        process = subprocess.Popen(
            [sys.executable, "-m", "relayx.cli", "secret", "hash"],
            env=environment(),
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=terminal,
            start_new_session=True,
        )
        os.close(terminal)
        shown = b""
        for question in (b"Secret:", b"confirmation:"):
            while question not in shown:
                shown += os.read(main, 1000)
            os.write(main, b"hunter2\n")
        output, _ = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0)
        self.assertNotIn(b"hunter2", shown)
        self.assertTrue(secrethash.parse(output.decode().strip()).matches("hunter2"))
