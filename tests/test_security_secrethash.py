"""Hashed secrets: made, read, compared, and bounded."""

from __future__ import annotations

import base64
import hashlib

from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr
from twisted.trial.unittest import SynchronousTestCase

from relayx.security.secrethash import MOST_MEMORY, SecretHash, make, parse

SALT = base64.b64encode(b"s" * 16).decode()
HASH = base64.b64encode(b"h" * 32).decode()


class SecretHashTests(SynchronousTestCase):
    """scrypt as a line of text."""

    def test_round_trip(self) -> None:
        """The text of a hash is one that matches the secret, and no other."""
        made = make("p\u00e4ss")
        again = parse(str(made))
        self.assertEqual(again, made)
        self.assertTrue(again.matches("p\u00e4ss"))
        for other in ("", "p\u00e4s", "p\u00e4ss\n", "\ud800"):
            self.assertFalse(again.matches(other))
        self.assertNotEqual(str(make("p\u00e4ss")), str(made))

    def test_is_scrypt(self) -> None:
        """RFC 7914: the same as anyone's."""
        log2_n, r, p, salt, digest = str(make("x")).split("$")[1:]
        expected = hashlib.scrypt(
            b"x", salt=base64.b64decode(salt), n=2 ** int(log2_n), r=int(r), p=int(p), dklen=32
        )
        self.assertEqual(base64.b64decode(digest), expected)

    def test_published_vector(self) -> None:
        """RFC 7914, section 12."""
        digest = bytes.fromhex(
            "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
            "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"
        )
        hashed = SecretHash(14, 8, 1, b"SodiumChloride", digest)
        self.assertTrue(hashed.matches("pleaseletmein"))
        self.assertFalse(hashed.matches("pleaseletmeout"))

    def test_nothing_is_shown(self) -> None:
        """By whatever prints it."""
        made = make("x")
        for text in (repr(made), pretty_repr(made), pretty_repr([made])):
            self.assertNotIn(str(made).split("$")[4], text)
            self.assertNotIn(repr(made.salt), text)
            self.assertNotIn(repr(made.digest), text)

    def test_not_made(self) -> None:
        """Of nothing, and of what no text is."""
        with self.assertRaisesRegex(ValueError, "empty"):
            make("")
        with self.assertRaisesRegex(ValueError, "UTF-8"):
            make("\ud800")

    def test_refused(self) -> None:
        """Each with its reason, and none with what was in it."""
        for text, reason in (
            ("", "no hash"),
            ("secret", "no hash"),
            (f"bcrypt$14$8$1${SALT}${HASH}", "no hash"),
            (f"scrypt$14$8$1${SALT}", "no hash"),
            (f"scrypt$14$8$1${SALT}${HASH}$", "no hash"),
            (f"scrypt$14$8$1${SALT}${'A' * 600}", "no hash"),
            (f"scrypt$x$8$1${SALT}${HASH}", "no number"),
            (f"scrypt$014$8$1${SALT}${HASH}", "no number"),
            (f"scrypt$14$8$0${SALT}${HASH}", "no number"),
            (f"scrypt$\u0661\u0664$8$1${SALT}${HASH}", "no number"),
            (f"scrypt$9$8$1${SALT}${HASH}", "log2 N 9"),
            (f"scrypt$20$1$1${SALT}${HASH}", "log2 N 20"),
            (f"scrypt$14$33$1${SALT}${HASH}", "r 33"),
            (f"scrypt$14$8$5${SALT}${HASH}", "p 5"),
            (f"scrypt$17$8$1${SALT}${HASH}", "128 MiB"),
            (f"scrypt$14$8$1$?${HASH}", "not base64"),
            (f"scrypt$14$8$1${SALT}$YQ==", "1 bytes"),
            (f"scrypt$14$8$1$YQ==${HASH}", "a salt of 1"),
            (f"scrypt$14$8$1${SALT}${base64.b64encode(bytes(65)).decode()}", "65 bytes"),
        ):
            with self.assertRaisesRegex(ValueError, reason) as caught:
                parse(text)
            self.assertNotIn(HASH, str(caught.exception))

    def test_the_most_that_is_taken(self) -> None:
        """What may be asked for can be computed."""
        hashed = parse(f"scrypt$16$8$1${SALT}${HASH}")
        self.assertEqual(128 * hashed.r << hashed.log2_n, MOST_MEMORY)
        self.assertFalse(hashed.matches("x"))

    @given(st.text(max_size=80) | st.from_regex(r"scrypt\$[0-9]{1,3}\$[0-9]\$[0-9]\$.*\$.*"))
    def test_any_text(self, text: str) -> None:
        """A hash or a ValueError."""
        try:
            parsed = parse(text)
        except ValueError:
            return
        self.assertEqual(parse(str(parsed)), parsed)
