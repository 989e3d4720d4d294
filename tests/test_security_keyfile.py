"""Keys from files: those of openssl are read, and each mistake has a word of its own."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relayx.security.keyfile import (
    KeyFileError,
    parse_public_key,
    read_private_key,
    read_public_key,
)
from relayx.security.keys import KeyType, fingerprint, private_pem, public_pem, type_of
from tests.security_keys import NO_OPENSSL, key, openssl

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
TRADITIONAL = serialization.PrivateFormat.TraditionalOpenSSL
PLAIN = serialization.NoEncryption()
LOCKED = serialization.BestAvailableEncryption(b"passphrase")


def label(name: str, body: str = "AAAA") -> str:
    """A PEM block."""
    return f"-----BEGIN {name}-----\n{body}\n-----END {name}-----\n"


class KeyFileCase(SynchronousTestCase):
    """Writes files and asks for the errors."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()

    def write(self, name: str, data: str | bytes, mode: int = 0o600) -> str:
        path = self.folder / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        path.chmod(mode)
        return str(path)

    def refused(self, path: str, text: str, *, public: bool = False) -> None:
        """The file's name and `text`, and nothing of what is in it."""
        with self.assertRaises(KeyFileError) as caught:
            (read_public_key if public else read_private_key)(path)
        said = str(caught.exception)
        self.assertTrue(said.startswith(path), said)
        self.assertIn(text, said)
        self.assertNotIn("MII", said)


class OpensslTests(KeyFileCase):
    """What openssl's command line writes."""

    if NO_OPENSSL:
        skip = NO_OPENSSL

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def pair(self, private: str, public: str, kind: str) -> None:
        found, other = read_private_key(self.path(private)), read_public_key(self.path(public))
        self.assertEqual((type_of(found), type_of(other)), (kind, kind))
        self.assertEqual(fingerprint(found.public_key()), fingerprint(other))

    def test_rsa(self) -> None:
        """Guide, section 3.1.1, and the traditional forms of the same key."""
        for bits in (2048, 3072):
            private, public = self.path("r.key"), self.path("r.pub")
            size = f"rsa_keygen_bits:{bits}"
            openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", size, "-out", private)
            openssl("rsa", "-in", private, "-pubout", "-out", public)
            self.pair("r.key", "r.pub", f"rsa{bits}")
        self.write("t.key", openssl("rsa", "-in", private, "-traditional"))
        self.write("t.pub", openssl("rsa", "-in", private, "-RSAPublicKey_out"))
        self.assertIn(b"BEGIN RSA PRIVATE KEY", Path(self.path("t.key")).read_bytes())
        self.assertIn(b"BEGIN RSA PUBLIC KEY", Path(self.path("t.pub")).read_bytes())
        self.pair("t.key", "t.pub", "rsa3072")

    def test_p256(self) -> None:
        """Guide, section 3.1.2, with parameters in front, and as PKCS #8."""
        private, public = self.path("e.key"), self.path("e.pub")
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private)
        openssl("ec", "-in", private, "-pubout", "-out", public)
        self.assertIn(b"BEGIN EC PRIVATE KEY", Path(private).read_bytes())
        self.pair("e.key", "e.pub", "p256")
        self.write("p.key", openssl("pkey", "-in", private))
        self.pair("p.key", "e.pub", "p256")
        with_parameters = self.path("w.key")
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-out", with_parameters)
        self.assertIn(b"BEGIN EC PARAMETERS", Path(with_parameters).read_bytes())
        self.assertEqual(type_of(read_private_key(with_parameters)), "p256")

    def test_not_plain(self) -> None:
        """Encrypted, DER, a certificate, a request for one."""
        private = self.write("e.key", private_pem(key()))
        for words in (("ec", "-aes128"), ("pkcs8", "-topk8")):
            locked = openssl(*words, "-in", private, "-passout", "pass:xxxx")
            self.refused(self.write("l.key", locked), "encrypted")
        der = openssl("pkey", "-in", private, "-outform", "der")
        self.refused(self.write("d.key", der), "DER")
        for word, text in (("-x509", "a certificate"), ("-new", "a certificate request")):
            made = self.write("c", openssl("req", word, "-key", private, "-subj", "/CN=x"))
            self.refused(made, text)
            self.refused(made, text, public=True)


class ContentsTests(KeyFileCase):
    """What a file may hold instead."""

    def test_line_ends_and_surroundings(self) -> None:
        """CR LF, text around, no last newline: all read."""
        for kind in (KeyType.P256, KeyType.RSA2048):
            pem = private_pem(key(kind))
            for data in (pem.replace(b"\n", b"\r\n"), b"a key\n" + pem + b"end\n", pem.strip()):
                self.assertEqual(type_of(read_private_key(self.write("k", data))), kind)
            text = public_pem(key(kind).public_key()).decode()
            for read in (text, text.encode(), text.strip(), text.replace("\n", "\r\n")):
                self.assertEqual(type_of(parse_public_key(read, "relay_public_key")), kind)

    def test_the_other_half(self) -> None:
        """A public key where a private one belongs, and the other way round."""
        for private, public in (
            (PKCS8, serialization.PublicFormat.SubjectPublicKeyInfo),
            (TRADITIONAL, serialization.PublicFormat.PKCS1),
        ):
            rsa_key = key(KeyType.RSA2048)
            wrong = self.write("k", rsa_key.public_key().public_bytes(PEM, public))
            self.refused(wrong, "holds a public key where a private one belongs")
            wrong = self.write("k.pub", rsa_key.private_bytes(PEM, private, PLAIN))
            self.refused(wrong, "holds a private key where a public one belongs", public=True)

    def test_encrypted(self) -> None:
        """In both forms, whichever half is wanted."""
        for form in (PKCS8, TRADITIONAL):
            locked = self.write("k", key().private_bytes(PEM, form, LOCKED))
            self.refused(locked, "encrypted")
        self.refused(self.write("k", label("ENCRYPTED PRIVATE KEY")), "encrypted", public=True)

    def test_wrong_keys(self) -> None:
        """Another curve, another size, another kind."""
        p384 = ec.generate_private_key(ec.SECP384R1())
        weak = rsa.generate_private_key(65537, 1024)
        other = ed25519.Ed25519PrivateKey.generate()
        for private, text in (
            (p384, "on the curve secp384r1"),
            (weak, "RSA key of 1024 bits"),
            (other, "neither an RSA nor an ECDSA key"),
        ):
            path = self.write("k", private.private_bytes(PEM, PKCS8, PLAIN))
            self.refused(path, f"{text}; allowed: RSA of 2048 to 4096 bits, or ECDSA P-256")
            spki = serialization.PublicFormat.SubjectPublicKeyInfo
            path = self.write("k", private.public_key().public_bytes(PEM, spki))
            self.refused(path, text, public=True)

    def test_not_a_key(self) -> None:
        """Other PEM, other text, nothing."""
        for data, text in (
            ("", "is empty"),
            ("\n \n", "is empty"),
            ("hello", "is not PEM"),
            (b"\xff\xfe\x00", "is not PEM"),
            (b"\x30\x82\x01", "is DER"),
            (label("OPENSSH PRIVATE KEY"), "ssh-keygen -p -m PKCS8"),
            (label("DH PARAMETERS"), "holds a DH PARAMETERS"),
            (label("EC PARAMETERS"), "holds EC PARAMETERS and no key"),
            (label("TRUSTED CERTIFICATE"), "trusted certificate"),
        ):
            self.refused(self.write("k", data), text)
            self.refused(self.write("k", data), text, public=True)
        self.refused(self.write("k", label("PRIVATE KEY")), "damaged or no key")
        self.refused(self.write("k", label("PRIVATE KEY", "AA!A")), "not base64")
        self.refused(self.write("k", label("PUBLIC KEY")), "damaged or no key", public=True)
        self.refused(self.write("k", private_pem(key()) * 2), "holds 2 keys")

    def test_truncated(self) -> None:
        """At every line and inside each, the file is named."""
        for kind in (KeyType.P256, KeyType.RSA2048):
            for pem, public in (
                (private_pem(key(kind)).strip(), False),
                (public_pem(key(kind).public_key()).strip(), True),
            ):
                for size in range(1, len(pem), 37):
                    self.refused(self.write("k", pem[:size]), "", public=public)
                self.refused(self.write("k", pem[:-1]), "is cut off: its", public=public)
                self.refused(self.write("k", pem[: len(pem) // 2]), "is cut off", public=public)
                self.refused(self.write("k", pem[:20]), "cut off in its first line", public=public)
                lines = pem.split(b"\n")
                without = b"\n".join(lines[:1] + lines[2:])
                self.refused(self.write("k", without), "damaged", public=public)

    def test_text_of_a_configuration(self) -> None:
        """``relay_public_key``: errors name it and not a file."""
        for text, said in (("", "is empty"), ("x" * 70_000, "too long"), ("\ud800", "not PEM")):
            with self.assertRaisesRegex(KeyFileError, f"^relay_public_key: .*{said}"):
                parse_public_key(text, "relay_public_key")


class FileTests(KeyFileCase):
    """What a path may lead to."""

    def test_permissions(self) -> None:
        """A private key is its owner's alone; a public one is everybody's."""
        path = self.write("k", private_pem(key()))
        for mode in (0o640, 0o604, 0o644, 0o610, 0o602, 0o777):
            os.chmod(path, mode)
            self.refused(path, f"its mode is {mode:04o}; allowed: mode 0600 (chmod 600 {path})")
        for mode in (0o600, 0o400, 0o700):
            os.chmod(path, mode)
            read_private_key(path)
        path = self.write("k.pub", public_pem(key().public_key()))
        for mode in (0o646, 0o666, 0o777):
            os.chmod(path, mode)
            text = f"its mode is {mode:04o}; allowed: mode 0644 (chmod 644 {path})"
            self.refused(path, text, public=True)
        for mode in (0o644, 0o400, 0o664):
            os.chmod(path, mode)
            read_public_key(path)

    def test_not_a_file(self) -> None:
        """Directories, pipes and devices, at once."""
        fifo = str(self.folder / "fifo")
        os.mkfifo(fifo, 0o600)
        missing = str(self.folder / "missing")
        for public in (False, True):
            self.refused(str(self.folder), "is a directory", public=public)
            self.refused(fifo, "is a named pipe", public=public)
            self.refused("/dev/null", "is a device", public=public)
            self.refused(missing, "does not exist", public=public)
            self.refused(self.write("big", b" " * 65_537), "too long", public=public)
        self.refused(self.write("file", "") + "/x", "cannot be read: Not a directory")

    def test_strange_names(self) -> None:
        """A name that would break a line is shown quoted."""
        for name in ("a\0b", "a\nb", "a\x1bb", "x" * 5000):
            with self.assertRaises(KeyFileError) as caught:
                read_private_key(name)
            self.assertTrue(str(caught.exception).isprintable())

    def test_link(self) -> None:
        """As secrets are mounted into containers."""
        path = self.write("k", private_pem(key()))
        link = self.folder / "link"
        link.symlink_to(Path(path).absolute())
        self.assertEqual(type_of(read_private_key(str(link))), "p256")

    @given(st.data())
    def test_anything(self, data: st.DataObject) -> None:
        """Bytes, and keys with bytes changed: a key or the one error."""
        kind = data.draw(st.sampled_from([KeyType.P256, KeyType.RSA2048]))
        public = data.draw(st.booleans())
        pem = bytearray(public_pem(key(kind).public_key()) if public else private_pem(key(kind)))
        if data.draw(st.booleans()):
            pem = bytearray(data.draw(st.binary(max_size=300)))
        for at, byte in data.draw(
            st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=5)
        ):
            if at < len(pem):
                pem[at] = byte
        path = str(self.folder / "any")
        with open(path, "wb") as file:
            file.write(pem)
        os.chmod(path, 0o600)
        try:
            (read_public_key if public else read_private_key)(path)
        except KeyFileError as error:
            self.assertTrue(str(error).startswith(path))
