"""The gateway's keys while it runs: alarms before they expire, and what they are good for after."""

from __future__ import annotations

import json

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relayx.config.model import Security
from relayx.core.codec import decode_envelope, encode
from relayx.core.errors import PeerError
from relayx.core.messages import Ping
from relayx.security.keydir import signing_key
from relayx.security.keyring import add_key, rotate
from relayx.security.keys import KeyType
from relayx.security.policy import OnExpired, Signing
from relayx.security.signing import Signer
from relayx.trust import LOOK, Keys, KeyWatch, read_keys

DAY = 86400.0
START = 1_800_000_000.0


class Watching(SynchronousTestCase):
    """One key that expires after 20 days, made at START."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(START)
        self.said: list[tuple[str, str, str]] = []
        self.fields: list[dict[str, str]] = []
        self.directory = self.mktemp()
        add_key(self.directory, KeyType.P256, 20, START, "gw-1")
        self.watch = KeyWatch(self.clock, self.say)

    def say(self, *line: str, **fields: str) -> None:
        self.said.append((line[0], line[1], line[2]))
        self.fields.append(fields)

    def use(self, on_expired: OnExpired = OnExpired.WARN) -> None:
        security = Security(signing=Signing.ACCEPT, keys=self.directory, on_expired=on_expired)
        self.watch.use(read_keys(security))

    def test_changes(self) -> None:
        """Each key that comes into force or goes out of it is told, by its name."""
        self.use()
        self.use()
        self.assertEqual(self.said, [("info", "key_changed", "the gateway signs with key gw-1")])
        rotate(self.directory, KeyType.P256, 20, START, "gw-2")
        self.use()
        both = Security(signing=Signing.ACCEPT, keys=self.directory, trusted_keys=self.directory)
        self.watch.use(read_keys(both))
        self.watch.use(read_keys(Security()))
        self.assertEqual({event for _, event, _ in self.said}, {"key_changed"})
        self.assertEqual(
            [(fields["kid"], fields["kid_before"]) for fields in self.fields],
            [("gw-1", ""), ("gw-2", "gw-1"), ("gw-2", ""), ("gw-1", ""),
             ("", "gw-2"), ("", "gw-2"), ("", "gw-1")],
        )  # fmt: skip

    def line(self) -> bytes:
        """A message as it would go out now."""
        now = int(self.clock.seconds() * 1000)
        return self.watch.trust.sign(encode(Ping(c_send=1), msg_id=f"m-{now}", ts_ms=now))

    def test_alarms(self) -> None:
        """At 14, 7 and 1 days and at the end, one each, however often it is looked at."""
        self.use()
        self.said.clear()
        self.watch.start()
        self.addCleanup(self.watch.close)
        told = []
        for hour in range(24 * 22):
            self.clock.advance(LOOK)
            told += [(hour + 1, *line) for line in self.said]
            self.said.clear()
        self.assertEqual([(hour, level) for hour, level, _, _ in told], [
            (6 * 24, "warn"), (13 * 24, "warn"), (19 * 24, "error"), (20 * 24, "error"),
        ])  # fmt: skip
        self.assertEqual({event for _, _, event, _ in told}, {"key_expiry"})
        for (*_, text), words in zip(
            told, ("14 days", "7 days", "1 day", "has expired"), strict=True
        ):
            self.assertIn(words, text)
            self.assertIn("gw-1", text)
        self.assertIn("security.on_expired is warn", told[-1][-1])
        self.assertEqual({fields["kid"] for fields in self.fields}, {"gw-1"})

    def test_end_is_told_when_it_comes(self) -> None:
        """Not an hour later, whenever the gateway was started."""
        self.clock.advance(19.5 * DAY + 1234)
        self.use()
        self.watch.start()
        self.addCleanup(self.watch.close)
        self.said.clear()
        self.clock.pump([LOOK] * 11 + [3600 - 1234 - 1])
        self.assertEqual(self.said, [])
        self.clock.advance(2)
        self.assertEqual(
            [(level, event) for level, event, _ in self.said], [("error", "key_expiry")]
        )
        self.assertIn("gw-1 has expired", self.said[0][2])

    def test_near_its_end_at_the_start(self) -> None:
        self.clock.advance(19.5 * DAY)
        self.use()
        self.watch.start()
        self.watch.close()
        self.assertEqual([level for level, _, _ in self.said], ["info", "error"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_expired_warn(self) -> None:
        self.use()
        self.clock.advance(21 * DAY)
        self.assertEqual(json.loads(self.line())["kid"], "gw-1")

    def test_expired_reject(self) -> None:
        """It signs nothing any more, and what a client signs with one is refused."""
        self.use(OnExpired.REJECT)
        self.assertIn("sign", json.loads(self.line()))
        self.clock.advance(20 * DAY)
        self.assertNotIn("sign", json.loads(self.line()))
        self.watch.use(
            Keys(
                Security(signing=Signing.REQUIRE, on_expired=OnExpired.REJECT),
                None,
                read_keys(Security(signing=Signing.REQUIRE, trusted_keys=self.directory)).trusted,
            )
        )
        key = signing_key(self.directory)
        now = self.clock.seconds()
        line = Signer(key.kid, key.private_key).sign_line(
            encode(Ping(c_send=1), msg_id="m", ts_ms=int(now * 1000))
        )
        error = self.assertRaises(
            PeerError, self.watch.trust.check, line, decode_envelope(line), now
        )
        self.assertIn("expired at", error.text)

    def test_turned_off(self) -> None:
        self.use()
        self.watch.use(read_keys(Security(keys=self.directory)))
        self.assertNotIn("sign", json.loads(self.line()))
        self.assertIsNone(self.watch.trust.verifier)
