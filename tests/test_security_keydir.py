"""A directory of keys, as it is read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relayx.security import keyring
from relayx.security.keycheck import check_directory
from relayx.security.keydir import (
    KeyFileError,
    KeyState,
    expiry_alarms,
    open_directory,
    signing_key,
    verifying_keys,
)
from relayx.security.keys import KeyType, PrivateKey, VerifyingKey, private_pem, public_pem
from relayx.security.times import DAY, from_utc, utc
from tests.security_keys import NO_OPENSSL, NOW, key, openssl


class KeyDirCase(SynchronousTestCase):
    """A directory of the test's own."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir(0o700)
        self.path = str(self.folder)

    def private(self, kid: str, private: PrivateKey | None = None) -> None:
        file = self.folder / f"{kid}.key"
        file.write_bytes(private_pem(private or key()))
        file.chmod(0o600)

    def public(self, kid: str, private: PrivateKey | None = None) -> None:
        (self.folder / f"{kid}.pub").write_bytes(public_pem((private or key()).public_key()))

    def manifest(self, **changes: Any) -> None:
        """One with the keys a, b and c, all made now and good for 180 days."""
        entry = {"type": "p256", "created": utc(NOW), "expires": utc(NOW + 180 * DAY)}
        keys = dict.fromkeys("abc", entry)
        document = {"version": 1, "current": "a", "previous": "b", "keys": keys, **changes}
        (self.folder / "manifest.json").write_text(json.dumps(document))

    def full(self) -> None:
        """The keys a (current), b (previous) and c (spare)."""
        for number, kid in enumerate("abc"):
            self.private(kid, key(number=number))
            self.public(kid, key(number=number))
        self.manifest()

    def verifying(self) -> list[str]:
        return [one.kid for one in verifying_keys(self.path)]

    def states(self) -> dict[str, str]:
        return {row.kid: str(row.state) for row in open_directory(self.path).rows()}

    def refused(self, *texts: str) -> None:
        """By both functions, with these words."""
        for function in (signing_key, verifying_keys):
            with self.assertRaises(KeyFileError) as caught:
                function(self.path)
            for text in texts:
                self.assertIn(text, str(caught.exception))


class WithoutManifestTests(KeyDirCase):
    """Keys that came from elsewhere."""

    def test_guide(self) -> None:
        """What the guide's openssl commands make is the current key and never expires."""
        if NO_OPENSSL:
            self.skipTest(NO_OPENSSL)
        private, public = (str(self.folder / f"relay_ecdsa_p256.{end}") for end in ("key", "pub"))
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private)
        openssl("ec", "-in", private, "-pubout", "-out", public)
        found = signing_key(self.path)
        self.assertEqual((found.kid, found.expires), ("relay_ecdsa_p256", None))
        self.assertEqual(self.verifying(), ["relay_ecdsa_p256"])
        self.assertEqual(self.states(), {"relay_ecdsa_p256": "current"})

    def test_private_alone(self) -> None:
        """Its public half is that of the private key."""
        self.private("a")
        self.assertEqual(self.verifying(), ["a"])
        self.assertEqual(signing_key(self.path).kid, "a")

    def test_several(self) -> None:
        """Which one signs has to be said."""
        self.private("a")
        self.private("b", key(number=1))
        self.refused("2 private keys (a, b)", f"relayx keys rotate --dir {self.path} --to KID")
        self.assertEqual(self.states(), {"a": "spare", "b": "spare"})

    def test_trusted(self) -> None:
        """Public keys alone all verify, and none signs."""
        for number, kid in enumerate("ab"):
            self.public(kid, key(number=number))
        self.assertEqual(self.verifying(), ["a", "b"])
        self.assertEqual(self.states(), {"a": "trusted", "b": "trusted"})
        with self.assertRaisesRegex(KeyFileError, "no private key to sign with"):
            signing_key(self.path)

    def test_public_keys_beside(self) -> None:
        """Others' public keys beside a private one are not trusted for it."""
        self.private("a")
        self.public("b", key(number=1))
        self.assertEqual(self.verifying(), ["a"])
        self.assertEqual(self.states(), {"a": "current", "b": "unlisted"})

    def test_empty(self) -> None:
        """Nobody verifies, nobody signs."""
        (self.folder / "README").write_text("")
        self.assertEqual(self.verifying(), [])
        with self.assertRaisesRegex(KeyFileError, "no private key"):
            signing_key(self.path)

    def test_misnamed(self) -> None:
        """A name that cannot be a kid is told, not passed over."""
        self.public("a b")
        self.refused("a b.pub: is not named by a kid", "1 to 64 of A-Z")

    def test_half_written(self) -> None:
        """What a writer that was killed left is nothing."""
        self.private("a")
        for name in (".b.key.0123456789abcdef.tmp", ".c.key"):
            (self.folder / name).write_bytes(private_pem(key(number=1)))
        self.assertEqual(self.verifying(), ["a"])

    def test_not_a_directory(self) -> None:
        """Missing, a file, a strange name."""
        self.path = str(self.folder / "x")
        self.refused("does not exist; allowed: a directory of keys")
        Path(self.path).write_text("")
        self.refused("cannot be read: Not a directory")
        self.path = "a\0b"
        self.refused("cannot be read")


class WithManifestTests(KeyDirCase):
    """What the manifest says holds."""

    def test_full(self) -> None:
        """Current and previous verify, only the current signs."""
        self.full()
        found = signing_key(self.path)
        self.assertEqual((found.kid, found.expires), ("a", NOW + 180 * DAY))
        self.assertEqual(self.verifying(), ["a", "b"])
        self.assertEqual(verifying_keys(self.path)[1].expires, NOW + 180 * DAY)
        self.private("d")
        self.assertEqual(
            self.states(), {"a": "current", "b": "previous", "c": "spare", "d": "unlisted"}
        )

    def test_copy_without_private_keys(self) -> None:
        """What clients get."""
        self.full()
        for kid in "abc":
            (self.folder / f"{kid}.key").unlink()
        self.assertEqual(self.verifying(), ["a", "b"])
        with self.assertRaisesRegex(KeyFileError, "a.key: does not exist"):
            signing_key(self.path)

    def test_without_public_files(self) -> None:
        """They are made out of the private ones."""
        self.full()
        (self.folder / "a.pub").unlink()
        self.assertEqual(self.verifying(), ["a", "b"])

    def test_of_another(self) -> None:
        """A public file that is not the key's own would make every signature wrong."""
        self.full()
        self.public("a", key(number=1))
        with self.assertRaisesRegex(KeyFileError, r"a\.pub: is not the public half of a\.key"):
            signing_key(self.path)

    def test_no_previous(self) -> None:
        """Nor one that is the current one."""
        self.full()
        for changes in ({"previous": ""}, {"previous": "a"}):
            self.manifest(**changes)
            self.assertEqual(self.verifying(), ["a"])

    def test_broken(self) -> None:
        """Each with the file's name."""
        self.full()
        entry = {"type": "p256", "created": utc(NOW)}
        for changes, text in (
            ({"version": 2}, "version is 2; allowed: 1"),
            ({"current": "x"}, "current key x is not among"),
            ({"previous": "x"}, "previous key x is not among"),
            ({"current": 1}, "current"),
            ({"keys": {"a b": entry}}, "cannot name a key"),
            ({"keys": {"a": {**entry, "created": "yesterday"}}}, "yesterday"),
            ({"keys": {"a": {**entry, "expires": "2026-01-01T00:00:00"}}}, "UTC"),
            ({"keys": {"a": {**entry, "expires": 5}}}, "expires"),
        ):
            self.manifest(**changes)
            self.refused("manifest.json: is no manifest of keys: ", text)
        for data in (b"", b"[]", b"\xff", b"[" * 100_000):
            (self.folder / "manifest.json").write_bytes(data)
            self.refused("manifest.json: is no manifest of keys: ")
        (self.folder / "manifest.json").chmod(0o666)
        self.refused("manifest.json: says which key is current and can be written by others")
        os.unlink(self.folder / "manifest.json")
        os.mkfifo(self.folder / "manifest.json")
        self.refused("is a named pipe")

    @given(
        st.binary(max_size=60)
        | st.fixed_dictionaries(
            {"version": st.just(1), "current": st.sampled_from(["a", ""])},
            optional={
                "previous": st.text(max_size=2) | st.none(),
                "keys": st.dictionaries(
                    st.text(max_size=2) | st.just("a"),
                    st.fixed_dictionaries(
                        {"type": st.text(max_size=4), "created": st.text() | st.just("1-01-01")},
                        optional={"expires": st.text(max_size=5) | st.none()},
                    ),
                ),
            },
        ).map(lambda document: json.dumps(document).encode())
    )
    def test_anything(self, data: bytes) -> None:
        """The one error."""
        (self.folder / "manifest.json").write_bytes(data)
        self.refused("manifest")


class ExpiryTests(SynchronousTestCase):
    """The alarms of guide section 3.4."""

    def test_days(self) -> None:
        """At 14, 7 and 1 days and at the end, the nearest alone."""
        for left, days in (
            (14 * DAY + 1, None),
            (14 * DAY, 14),
            (7 * DAY + 1, 14),
            (7 * DAY, 7),
            (DAY + 1, 7),
            (DAY, 1),
            (1, 1),
            (0, 0),
            (-DAY, 0),
        ):
            alarms = expiry_alarms([VerifyingKey("a", key().public_key(), NOW + left)], NOW)
            self.assertEqual([one.days for one in alarms], [] if days is None else [days])

    def test_texts(self) -> None:
        """They name the key and the time."""
        keys = [
            VerifyingKey("never", key().public_key()),
            VerifyingKey("old", key().public_key(), NOW),
            VerifyingKey("soon", key().public_key(), NOW + DAY),
            VerifyingKey("later", key().public_key(), NOW + 7 * DAY),
        ]
        self.assertEqual(
            [str(one) for one in expiry_alarms(keys, NOW)],
            [
                f"key old has expired, at {utc(NOW)}",
                f"key soon expires in less than 1 day, at {utc(NOW + DAY)}",
                f"key later expires in less than 7 days, at {utc(NOW + 7 * DAY)}",
            ],
        )

    def test_times(self) -> None:
        """RFC 3339, both ways, and the far ends of it."""
        self.assertEqual(utc(0), "1970-01-01T00:00:00Z")
        self.assertEqual(from_utc("1970-01-01T01:00:00+01:00"), 0)
        self.assertEqual(from_utc(utc(NOW)), NOW)
        self.assertEqual(utc(1e300), "9999-12-31T23:59:59Z")
        self.assertEqual(utc(-1), "1970-01-01T00:00:00Z")


class CheckTests(KeyDirCase):
    """``check_directory``: everything that is wrong, at once."""

    def assert_found(self, faults: int, warnings: int, *texts: str) -> None:
        found = check_directory(self.path, NOW)
        said = "\n".join(map(str, [*found.faults, *found.warnings]))
        self.assertEqual((len(found.faults), len(found.warnings)), (faults, warnings), said)
        for text in texts:
            self.assertIn(text, said)

    def test_nothing(self) -> None:
        """There is nothing to say about a good one."""
        self.full()
        self.assert_found(0, 0)
        self.assertEqual(check_directory(self.path, NOW).alarms, [])

    def test_all_at_once(self) -> None:
        """Each file with its own word."""
        self.full()
        (self.folder / "a.key").chmod(0o644)
        (self.folder / "b.pub").write_text("x")
        (self.folder / "c.key").unlink()
        self.private("d")
        self.public("e")
        (self.folder / "f g.pub").write_text("")
        self.folder.chmod(0o777)
        self.assert_found(
            4,
            3,
            "a.key: holds a private key and is open to others",
            "b.pub: is not PEM",
            "f g.pub: is not named by a kid",
            "can be written by others",
            "c.key: does not exist, and is the spare key",
            "d.key: is used by nothing: the manifest does not know it; 'relayx keys rotate --to d'",
            "e.pub: is used by nothing",
        )

    def test_less(self) -> None:
        """What is unwise is no fault."""
        self.full()
        (self.folder / "a.pub").unlink()
        self.folder.chmod(0o770)
        self.assert_found(0, 2, "a.pub: does not exist", "written by its group")

    def test_type(self) -> None:
        """The manifest is wrong about a key."""
        self.full()
        for end in ("key", "pub"):
            (self.folder / f"b.{end}").unlink()
        self.private("b", key(KeyType.RSA2048))
        self.public("b", key(KeyType.RSA2048))
        self.assert_found(1, 0, "is of type rsa2048, and p256 by the manifest")

    def test_gone(self) -> None:
        """A key in use without its files."""
        self.full()
        (self.folder / "b.key").unlink()
        self.assert_found(1, 0, "b.key: does not exist, and is the previous key")

    def test_expired(self) -> None:
        """The current one is a fault, the previous one an alarm."""
        self.full()
        entry = {"type": "p256", "created": utc(NOW), "expires": utc(NOW)}
        self.manifest(keys=dict.fromkeys("abc", entry))
        self.assert_found(1, 0, "is the current key and expired at 2026-11-24T")
        self.assertEqual([one.kid for one in check_directory(self.path, NOW).alarms], ["b"])

    def test_without_manifest(self) -> None:
        """Several, none, and no directory."""
        self.assert_found(0, 1, "holds no private key")
        self.public("t")
        self.assert_found(0, 0)
        self.private("a")
        self.public("a")
        self.assert_found(0, 1, "t.pub: is used by nothing: it is not that of the private key")
        self.private("b", key(number=1))
        self.public("b", key(number=1))
        self.assert_found(1, 1, "no manifest.json")
        (self.folder / "b.key").write_text("x")
        self.assert_found(2, 1, "b.key: is not PEM")
        self.assertEqual(open_directory(self.path).rows()[1].state, KeyState.SPARE)
        self.path += "/missing"
        self.assert_found(1, 0, "does not exist")

    def test_of_ours(self) -> None:
        """What the writer makes has no fault."""
        keyring.rotate(self.path, KeyType.P256, 10, NOW)
        keyring.rotate(self.path, KeyType.P256, 180, NOW)
        self.assert_found(0, 0)
        self.assertEqual([one.days for one in check_directory(self.path, NOW).alarms], [14])
