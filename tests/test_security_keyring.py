"""Making and rotating keys: what is written, in which order, and what a kill leaves."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from relayx.security import keyring
from relayx.security.durable import locked, replace_file, sweep
from relayx.security.keycheck import check_directory
from relayx.security.keydir import KeyFileError, open_directory, signing_key, verifying_keys
from relayx.security.keys import KeyType, is_kid, private_pem, type_of
from relayx.security.times import DAY, utc
from tests.relayx_process import environment
from tests.security_keys import NOW, key

LEFT = ".x.key.0123456789abcdef.tmp"
KILLED = """
import os, sys
from relayx.security import keyring
from relayx.security.keys import KeyType
left = int(sys.argv[2])
def rename(source, target, real=os.rename):
    global left
    if not left:
        os.kill(os.getpid(), 9)
    left -= 1
    real(source, target)
os.rename = rename
keyring.rotate(sys.argv[1], KeyType.P256, 180, 1795549346.0, "new")
"""


class RingCase(SynchronousTestCase):
    """A directory that is not there yet."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()) / "etc" / "keys"
        self.path = str(self.folder)

    def add(self, kid: str = "", kind: KeyType = KeyType.P256) -> tuple[str, bool]:
        return keyring.add_key(self.path, kind, 180, NOW, kid)

    def in_use(self) -> tuple[str, list[str]]:
        """The kid that signs and those that verify."""
        return signing_key(self.path).kid, [one.kid for one in verifying_keys(self.path)]

    def refused(self, text: str, function: object = None, *arguments: object) -> None:
        before = self.everything()
        with self.assertRaises(KeyFileError) as caught:
            function(*arguments)  # type: ignore[operator]
        self.assertIn(text, str(caught.exception))
        self.assertEqual(self.everything(), before)

    def everything(self) -> dict[str, bytes]:
        if not self.folder.is_dir():
            return {}
        return {file.name: file.read_bytes() for file in self.folder.iterdir()}


class AddTests(RingCase):
    """``relayx keys generate``"""

    def test_first(self) -> None:
        """Is current; files and directory have their modes whatever the umask."""
        for mask in (0o000, 0o077):
            self.addCleanup(os.umask, os.umask(mask))
            self.assertEqual(self.add("a" + oct(mask)[2:])[1], not mask)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in self.folder.iterdir()}
        self.assertEqual(
            modes,
            {"a0.key": 0o600, "a0.pub": 0o644, "a77.key": 0o600, "a77.pub": 0o644}
            | {"manifest.json": 0o644},
        )
        self.assertEqual(stat.S_IMODE(self.folder.stat().st_mode), 0o700)

    def test_kinds(self) -> None:
        """Each is made and named by type and day."""
        for kind in KeyType:
            kid, _ = self.add(kind=kind)
            self.assertTrue(kid.startswith(f"{kind}-20261124-"))
            self.assertEqual(type_of(open_directory(self.path).private_key(kid)), kind)

    def test_manifest(self) -> None:
        """Says when and until when."""
        self.add("a")
        document = json.loads((self.folder / "manifest.json").read_text())
        entry = {"type": "p256", "created": utc(NOW), "expires": utc(NOW + 180 * DAY)}
        expected = {"version": 1, "current": "a", "previous": "", "keys": {"a": entry}}
        self.assertEqual(document, expected)

    def test_further(self) -> None:
        """Are spare: they neither sign nor verify."""
        self.assertEqual(self.add("a"), ("a", True))
        self.assertEqual(self.add("b"), ("b", False))
        self.assertEqual(self.in_use(), ("a", ["a"]))

    def test_refused(self) -> None:
        """And nothing is changed."""
        self.add("a")
        self.refused("has a key a already", self.add, "a")
        for kid in (".a", "-a", "a/b", "a\n", "x" * 65, "\u00e4"):
            self.refused("cannot have a key of the name", self.add, kid)
            self.assertFalse(is_kid(kid))

    def test_of_others(self) -> None:
        """A directory of others' public keys stays one."""
        self.add("a")
        for name in ("a.key", "manifest.json"):
            (self.folder / name).unlink()
        self.refused("public keys of others", self.add, "b")

    def test_adopts(self) -> None:
        """A key from elsewhere stays the current one, and never expires."""
        self.private("mine")
        self.assertEqual(self.add("b"), ("b", False))
        self.assertEqual(self.in_use(), ("mine", ["mine"]))
        self.assertIsNone(signing_key(self.path).expires)
        self.assertIn("mine.pub", self.everything())
        self.assertEqual(check_directory(self.path, NOW).warnings, [])

    def test_several_from_elsewhere(self) -> None:
        """Which one is current has to be said first."""
        self.private("a")
        self.private("b")
        self.refused("relayx keys rotate", self.add, "c")
        self.assertEqual(keyring.rotate_to(self.path, "b", NOW), "")
        self.assertEqual(self.in_use(), ("b", ["b"]))
        self.assertEqual(keyring.rotate_to(self.path, "a", NOW), "b")
        self.assertEqual(self.in_use(), ("a", ["a", "b"]))

    def test_misnamed(self) -> None:
        """A key whose name is none is not passed over."""
        self.private("a b")
        self.refused("not named by a kid", self.add, "c")

    def private(self, kid: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{kid}.key"
        file.write_bytes(private_pem(key()))
        file.chmod(0o600)


class RotateTests(RingCase):
    """``relayx keys rotate``"""

    def test_new(self) -> None:
        """The current one becomes the previous one, which verifies; the one before does not."""
        for kid, verifying in (("a", ["a"]), ("b", ["b", "a"]), ("c", ["c", "b"])):
            self.assertEqual(keyring.rotate(self.path, KeyType.P256, 180, NOW, kid), kid)
            self.assertEqual(self.in_use(), (kid, verifying))

    def test_back(self) -> None:
        """To the previous one."""
        keyring.rotate(self.path, KeyType.P256, 180, NOW, "a")
        keyring.rotate(self.path, KeyType.P256, 180, NOW, "b")
        self.assertEqual(keyring.rotate_to(self.path, "a", NOW), "b")
        self.assertEqual(self.in_use(), ("a", ["a", "b"]))

    def test_refused(self) -> None:
        """What is not there, is current, has expired, or cannot be read."""
        rotate = keyring.rotate_to
        self.refused("is no directory", rotate, self.path, "a", NOW)
        self.add("a")
        self.add("b")
        self.refused("one of: a, b", rotate, self.path, "x", NOW)
        self.refused("a as its current key already", rotate, self.path, "a", NOW)
        self.refused("expired at", rotate, self.path, "b", NOW + 180 * DAY)
        (self.folder / "b.key").chmod(0o644)
        self.refused("chmod 600", rotate, self.path, "b", NOW)

    def test_unlisted(self) -> None:
        """A key that the manifest does not know yet."""
        self.add("a")
        (self.folder / "b.key").write_bytes(private_pem(key()))
        (self.folder / "b.key").chmod(0o600)
        keyring.rotate_to(self.path, "b", NOW)
        self.assertEqual(self.in_use(), ("b", ["b", "a"]))


class KilledTests(RingCase):
    """A writer that ends anywhere loses nothing."""

    def test_killed(self) -> None:
        """Before each of its renames: the old keys go on, and the next writer clears up."""
        self.add("a")
        for renames in range(4):
            words = [sys.executable, "-c", KILLED, self.path, str(renames)]
            code = subprocess.run(words, env=environment(), check=False).returncode
            self.assertEqual(code, -9 if renames < 3 else 0)
            if renames < 3:
                self.assertEqual(self.in_use(), ("a", ["a"]))
                self.assertEqual(check_directory(self.path, NOW).faults, [])
                names = list(self.everything())
                self.assertEqual(len([name for name in names if name.endswith(".tmp")]), 1)
            for end in ("key", "pub"):
                if renames < 3 and (self.folder / f"new.{end}").exists():
                    (self.folder / f"new.{end}").unlink()
        self.assertEqual(self.in_use(), ("new", ["new", "a"]))
        self.assertEqual([name for name in self.everything() if name.endswith(".tmp")], [])

    def test_left_over(self) -> None:
        """What a killed writer left is no key, and goes with the next one."""
        self.add("a")
        (self.folder / LEFT).write_bytes(private_pem(key()))
        (self.folder / ".mine").write_text("")
        self.assertEqual(self.in_use(), ("a", ["a"]))
        self.add("b")
        self.assertNotIn(LEFT, self.everything())
        self.assertIn(".mine", self.everything())

    def test_two_writers(self) -> None:
        """Many at once all get their key in."""
        kids = [f"k{number}" for number in range(8)]
        threads = [threading.Thread(target=self.add, args=(kid,)) for kid in kids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        manifest = open_directory(self.path).manifest
        self.assertEqual(set(manifest.keys if manifest else ()), set(kids))
        self.assertEqual(check_directory(self.path, NOW).faults, [])


class DurableTests(SynchronousTestCase):
    """One file in the place of another."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.file = self.folder / "f"

    def test_mode_from_the_first_byte(self) -> None:
        """No moment at which others may read it."""
        seen = []

        def rename(source: str, target: str) -> None:
            seen.append(stat.S_IMODE(os.stat(source).st_mode))
            real(source, target)

        real = os.rename
        self.patch(os, "rename", rename)
        self.addCleanup(os.umask, os.umask(0))
        replace_file(str(self.file), b"x", 0o600)
        replace_file(str(self.file), b"y", 0o644, os.stat(self.folder))
        self.assertEqual(seen, [0o600, 0o644])
        self.assertEqual(self.file.read_bytes(), b"y")

    def test_fails(self) -> None:
        """What was there is there as before, and nothing else."""
        self.file.write_bytes(b"old")

        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        for name in ("fsync", "rename"):
            self.patch(os, name, fail)
            error = self.assertRaises(OSError, replace_file, str(self.file), b"new", 0o600)
            if name == "fsync":
                self.assertEqual(error.filename, str(self.file))
            self.assertEqual(os.listdir(self.folder), ["f"])
            self.assertEqual(self.file.read_bytes(), b"old")

    def test_sweep_of_one_name(self) -> None:
        """Leaves what belongs to another file."""
        for name in (LEFT, ".f.0123456789abcdef.tmp", ".f.0123.tmp", "f"):
            (self.folder / name).write_text("")
        sweep(str(self.folder), "f")
        self.assertEqual(set(os.listdir(self.folder)), {LEFT, ".f.0123.tmp", "f"})

    def test_lock(self) -> None:
        """The second waits for the first."""
        order = []
        inside, go = threading.Event(), threading.Event()

        def second() -> None:
            go.set()
            with locked(str(self.folder)):
                order.append("second")
            inside.set()

        thread = threading.Thread(target=second)
        with locked(str(self.folder)):
            thread.start()
            go.wait(10)
            self.assertFalse(inside.is_set())
            order.append("first")
        self.assertTrue(inside.wait(10))
        thread.join()
        self.assertEqual(order, ["first", "second"])
