"""Signatures made by openssl's own command line, and ours verified by it."""

from __future__ import annotations

import base64
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from relayx.core.codec import encode
from relayx.core.messages import Ping
from relayx.security.canonical import parse
from relayx.security.keyfile import read_private_key, read_public_key
from relayx.security.keys import VerifyingKey
from relayx.security.signing import Signer, signed_bytes
from tests.security_keys import KID, NO_OPENSSL, NOW_MS, check, openssl, refusal, verifier

PSS = ("rsa_padding_mode:pss", "rsa_pss_saltlen:32")
BODY = (
    b'{"msg_id":"m1","payload":{"c_send":1795549346441182947},"trace_id":"t","ts_ms":%d,'
    b'"type":"ping"}'
)
LINE = (
    b'{"type":"ping", "payload":{"c_send":1795549346441182947}, "msg_id":"m1", "ts_ms":%d,'
    b' "trace_id":"t", "sign":"%b", "kid":"k1"}\n'
)


class OpensslTests(SynchronousTestCase):
    """The guide's keys, both ways."""

    if NO_OPENSSL:
        skip = NO_OPENSSL

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.private = str(self.folder / "k1.key")
        self.public = str(self.folder / "k1.pub")

    def make_rsa(self, bits: int) -> None:
        """Guide, section 3.1.1."""
        bits_option = f"rsa_keygen_bits:{bits}"
        openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", bits_option, "-out", self.private)
        openssl("rsa", "-in", self.private, "-pubout", "-out", self.public)

    def make_p256(self) -> None:
        """Guide, section 3.1.2."""
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.private)
        openssl("ec", "-in", self.private, "-pubout", "-out", self.public)

    def write(self, name: str, data: bytes) -> str:
        path = self.folder / name
        path.write_bytes(data)
        return str(path)

    def verified(self, signature: bytes) -> None:
        """A message with that signature is taken, and another is not."""
        key = VerifyingKey(KID, read_public_key(self.public))
        raw = LINE % (NOW_MS, base64.b64encode(signature))
        refusal(verifier(key), raw.replace(b"947", b"946"))
        self.assertEqual(check(verifier(key), raw), KID)

    def both_ways(self, *options: str) -> None:
        """``openssl dgst`` signs for us, and verifies what we signed."""
        words = [word for option in options for word in ("-sigopt", option)]
        body = self.write("body", BODY % NOW_MS)
        self.verified(openssl("dgst", "-sha256", *words, "-sign", self.private, body))
        self.digest_both_ways(*options)
        line = encode(Ping(c_send=2**60 + 1), msg_id="m", ts_ms=NOW_MS)
        document = parse(Signer(KID, read_private_key(self.private)).sign_line(line))
        data = self.write("ours", signed_bytes(document))
        signature = self.write("signature", base64.b64decode(document["sign"]))
        words += ["-verify", self.public, "-signature", signature]
        self.assertIn(b"Verified OK", openssl("dgst", "-sha256", *words, data))

    def digest_both_ways(self, *options: str) -> None:
        """``openssl pkeyutl``, which signs a digest."""
        digest = self.write("digest", openssl("dgst", "-sha256", "-binary", data=BODY % NOW_MS))
        words = [word for option in ("digest:sha256", *options) for word in ("-pkeyopt", option)]
        key = ("-inkey", self.private)
        self.verified(openssl("pkeyutl", "-sign", *key, "-in", digest, *words))

    def test_p256(self) -> None:
        """ECDSA, the signature in DER."""
        self.make_p256()
        self.both_ways()

    def test_rsa_2048(self) -> None:
        """PSS with a salt of the digest's length."""
        self.make_rsa(2048)
        self.both_ways(*PSS)

    def test_rsa_3072(self) -> None:
        """Likewise."""
        self.make_rsa(3072)
        self.both_ways(*PSS)

    def test_other_padding(self) -> None:
        """PKCS #1 v1.5, another salt and another digest are other signatures."""
        self.make_rsa(2048)
        body = self.write("body", BODY % NOW_MS)
        one = verifier(VerifyingKey(KID, read_public_key(self.public)))
        for digest, options in (
            ("-sha256", ()),
            ("-sha256", (PSS[0], "rsa_pss_saltlen:20")),
            ("-sha384", PSS),
        ):
            words = [word for option in options for word in ("-sigopt", option)]
            signature = openssl("dgst", digest, *words, "-sign", self.private, body)
            error = refusal(one, LINE % (NOW_MS, base64.b64encode(signature)))
            self.assertIn("not the signature", error.text)
