"""Keys for ZeroMQ's CURVE, and Z85."""

from __future__ import annotations

import stat
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relayx.security import curve, keyring, z85
from relayx.security.errors import KeyFileError
from relayx.security.keycheck import check_directory
from relayx.security.keydir import KeyState, open_directory, signing_key, verifying_keys
from relayx.security.keys import KeyType
from tests.security_keys import NOW

PUBLIC = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
SECRET = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"
"""The pair of libzmq's curve example (``zmq_curve(7)``)."""


class Z85Tests(SynchronousTestCase):
    """ZeroMQ RFC 32"""

    def test_sample(self) -> None:
        """The RFC's own."""
        data = bytes.fromhex("864FD26FB559F75B")
        self.assertEqual(z85.encode(data), "HelloWorld")
        self.assertEqual(z85.decode("HelloWorld"), data)

    @given(st.binary(max_size=64).map(lambda data: data[: len(data) // 4 * 4]))
    def test_thereAndBack(self, data: bytes) -> None:
        """Decoding undoes encoding."""
        self.assertEqual(z85.decode(z85.encode(data)), data)

    def test_refused(self) -> None:
        """Wrong lengths, other characters, more than 32 bits."""
        self.assertRaises(ValueError, z85.encode, b"abc")
        for text in ("Hell", "Hell~", "Hell\n", "#####"):
            self.assertRaises(ValueError, z85.decode, text)


class CurveTests(SynchronousTestCase):
    """Pairs and their files"""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.path = str(self.folder)

    def faults(self) -> list[str]:
        return [str(fault) for fault in check_directory(self.path, NOW).faults]

    def test_pair(self) -> None:
        """The public half belongs to the secret one as libzmq has it; no text shows the latter."""
        pair = curve.pair_of(SECRET)
        self.assertEqual(pair.public, PUBLIC)
        self.assertNotIn(SECRET, repr(pair))
        self.assertNotEqual(curve.generate_pair(), curve.generate_pair())

    def test_made(self) -> None:
        """Two files, the secret one its owner's alone; what is read is what was made."""
        kid, public = keyring.add_curve(self.path, NOW, "broker")
        self.assertEqual(kid, "broker")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in self.folder.iterdir()}
        self.assertEqual(modes, {"broker.curve-key": 0o600, "broker.curve-pub": 0o644})
        self.assertEqual(curve.read_pair(self.path, "broker").public, public)
        self.assertEqual(curve.read_public(self.path, "broker"), public)
        self.assertRaises(KeyFileError, keyring.add_curve, self.path, NOW, "broker")
        self.assertRaises(KeyFileError, keyring.add_curve, self.path, NOW, ".no")
        self.assertEqual(self.faults(), [])

    def test_noSigningKeys(self) -> None:
        """They neither sign nor verify, nor get in the way of those that do."""
        keyring.add_curve(self.path, NOW)
        self.assertRaises(KeyFileError, signing_key, self.path)
        self.assertEqual(verifying_keys(self.path), ())
        kid, current = keyring.add_key(self.path, KeyType.P256, 1, NOW)
        self.assertTrue(current)
        self.assertEqual([key.kid for key in verifying_keys(self.path)], [kid])
        states = [row.state for row in open_directory(self.path).rows()]
        self.assertEqual(states, [KeyState.CURRENT, KeyState.CURVE])

    def test_faults(self) -> None:
        """Open to others, cut off, another's half: each is said, and no key shown."""
        keyring.add_curve(self.path, NOW, "a")
        secret, public = self.folder / "a.curve-key", self.folder / "a.curve-pub"
        text = secret.read_text()
        secret.chmod(0o640)
        self.assertIn("open to its group", self.faults()[0])
        secret.chmod(0o600)
        for wrong in (text[:-5], "~" * 40, "#" * 40, ""):
            secret.write_text(wrong)
            self.assertIn("holds no CURVE key", self.faults()[0])
            self.assertNotIn(wrong or "?", self.faults()[0])
        secret.write_text(text)
        public.write_text(PUBLIC)
        self.assertIn("is not the public half of a.curve-key", self.faults()[0])
        public.unlink()
        self.assertEqual(self.faults(), [])
        self.assertEqual(len(check_directory(self.path, NOW).warnings), 1)

    def test_publicAlone(self) -> None:
        """A client's directory has the public half, and that is no fault."""
        self.folder.mkdir()
        (self.folder / "gw.curve-pub").write_text(PUBLIC + "\n")
        self.assertEqual(self.faults(), [])
        self.assertEqual(curve.read_public(self.path, "gw"), PUBLIC)
        self.assertEqual(curve.read_publics(self.path), (PUBLIC,))

    def test_public_that_anybody_may_write(self) -> None:
        """It says which clients a broker takes (``curve_clients``)."""
        self.folder.mkdir(exist_ok=True)
        path = self.folder / f"gw{curve.PUBLIC}"
        path.write_text(PUBLIC)
        path.chmod(0o646)
        error = self.assertRaises(KeyFileError, curve.read_publics, self.path)
        self.assertIn("says whom to trust and can be written by others", str(error))
