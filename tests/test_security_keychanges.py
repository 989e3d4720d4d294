"""What is told of keys that come into force and go out of it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from relayx.security.keychanges import KeyChange, signing_changes, trusted_changes
from relayx.security.keys import SigningKey, VerifyingKey
from tests.security_keys import key, verifying


def signing(kid: str, number: int = 0) -> SigningKey:
    return SigningKey(kid, key(number=number))


def trusted(kid: str, number: int = 0) -> VerifyingKey:
    return verifying(key(number=number), kid)


def kids(changes: list[KeyChange]) -> list[tuple[str, str]]:
    for change in changes:
        for kid in filter(None, (change.kid, change.kid_before)):
            assert kid in change.text, change
    return [(change.kid, change.kid_before) for change in changes]


class SigningTests(SynchronousTestCase):
    """The key that the gateway signs with."""

    def test_each(self) -> None:
        for before, after, expected in (
            (None, None, []),
            (None, signing("a"), [("a", "")]),
            (signing("a"), signing("a"), []),
            (signing("a"), signing("b", 1), [("b", "a")]),
            (signing("a"), signing("b"), [("b", "a")]),
            (signing("a"), signing("a", 1), [("a", "a")]),
            (signing("a"), None, [("", "a")]),
        ):
            self.assertEqual(kids(signing_changes(before, after)), expected, (before, after))

    def test_text(self) -> None:
        (change,) = signing_changes(signing("spring"), signing("autumn", 1))
        self.assertEqual(
            change.text, "the gateway signs with key autumn, and with key spring no more"
        )


class TrustedTests(SynchronousTestCase):
    """The keys that clients may sign with."""

    def test_each(self) -> None:
        before = [trusted("a"), trusted("b"), trusted("c")]
        after = [trusted("d"), trusted("c"), trusted("b", 1)]
        self.assertEqual(kids(trusted_changes(before, after)), [("d", ""), ("b", "b"), ("", "a")])
        self.assertEqual(trusted_changes(after, after), [])
