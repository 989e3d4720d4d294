"""relayx.config.tlsfiles: what is said of certificates, keys and CAs, without reading on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization

from relayx.config.endpoints import SslFiles, is_private, ssl_files
from relayx.config.faults import Fault
from tests.certificates import Authority, Pair
from tests.config_files import Files

NAME = "gateway.example"


class TlsFiles(Files):
    """Faults and warnings of the files that a configuration names."""

    def setUp(self) -> None:
        super().setUp()
        self.authority = Authority(self.directory)
        self.pair = self.authority.issue("server", [NAME])

    def endpoint(self, certificate: str, key: str, **more: str) -> dict[str, Any]:
        tail = "".join(f":{name}={value}" for name, value in more.items())
        text = f"ssl:5556:privateKey={key}:certKey={certificate}{tail}"
        return {"control": {"endpoints": [text]}}

    def of(self, pair: Pair) -> dict[str, Any]:
        return self.endpoint(pair.certificate, pair.key)

    def warned(self, config: Any, key: str, **options: Any) -> list[str]:
        found = [one for one in self.load(config, **options).warnings if one.key == key]
        return [one.problem for one in found]

    def told(self, config: Any, key: str, **options: Any) -> list[str]:
        found: list[Fault] = self.faults(config, **options)
        self.assertEqual({fault.key for fault in found}, {key})
        return [f"{fault.value} {fault.problem}" for fault in found]

    def test_good(self) -> None:
        key = "control.endpoints[0]"
        self.assertEqual(self.warned(self.of(self.pair), key, prod=False), [])

    def test_bad_endpoint(self) -> None:
        """Each file is named, all of them at once, and once each."""
        pair, other = self.pair, self.authority.issue("other", [NAME])
        key = "control.endpoints[0]"
        missing = str(self.directory / "missing.pem")
        told = self.told(self.endpoint(missing, missing), key)
        self.assertEqual(len(told), 2)
        self.assertIn("cannot be read (No such file or directory)", told[0])
        for config, expected in (
            (self.endpoint(pair.key, pair.key), "holds no certificate"),
            (self.endpoint(pair.certificate, pair.certificate), "holds no private key"),
            (self.endpoint(pair.certificate, other.key), "does not match the certificate"),
            (
                self.endpoint(pair.certificate, pair.key, extraCertChain=pair.key),
                "holds no certificate",
            ),
        ):
            (text,) = self.told(config, key)
            self.assertIn(expected, text)

    def test_bad_keys(self) -> None:
        """Encrypted, or a public one."""
        pem = serialization.Encoding.PEM
        sealed = serialization.BestAvailableEncryption(b"passphrase")
        private = self.pair.private_key
        for data, expected in (
            (private.private_bytes(pem, serialization.PrivateFormat.PKCS8, sealed), "is encrypted"),
            (
                private.public_key().public_bytes(
                    pem, serialization.PublicFormat.SubjectPublicKeyInfo
                ),
                "holds a public key",
            ),
        ):
            Path(self.pair.key).write_bytes(data)
            (text,) = self.told(self.of(self.pair), "control.endpoints[0]")
            self.assertIn(expected, text)

    def test_modes(self) -> None:
        """Readable by others: a warning, in prod a fault; by the group: a warning."""
        key = "control.endpoints[0]"
        Path(self.pair.key).chmod(0o644)
        (text,) = self.warned(self.of(self.pair), key)
        self.assertIn("by others, its mode is 0644", text)
        (text,) = self.told(self.of(self.pair), key, prod=True)
        self.assertIn("by others", text)
        Path(self.pair.key).chmod(0o640)
        (text,) = self.warned(self.of(self.pair), key, prod=True)
        self.assertIn("by its group, its mode is 0640", text)

    def test_dates(self) -> None:
        """Expired, or not yet valid, is a warning."""
        for days, expected in (((-3, -1), "expired on"), ((1, 3), "not valid before")):
            pair = self.authority.issue("dated", [NAME], days=days)
            (text,) = self.warned(self.of(pair), "control.endpoints[0]", prod=True)
            self.assertIn(expected, text)

    def test_data_tls(self) -> None:
        """Both or neither, and a pair."""
        pair = self.pair
        good = {"certificate": pair.certificate, "private_key": pair.key, "required": True}
        self.load({"data": {"tls": good}})
        for told, key, expected in (
            ({"certificate": pair.certificate}, "certificate", "without data.tls.private_key"),
            ({"private_key": pair.key}, "private_key", "without data.tls.certificate"),
            ({"required": True}, "required", "without data.tls.certificate"),
            ({**good, "private_key": "/no.key"}, "private_key", "cannot be read"),
            ({**good, "certificate": pair.key}, "certificate", "holds no certificate"),
        ):
            (text,) = self.told({"data": {"tls": told}}, f"data.tls.{key}")
            self.assertIn(expected, text)

    def test_client_ca(self) -> None:
        """A CA's certificate, on endpoints that can ask."""
        tls = self.of(self.pair)["control"]["endpoints"][0]
        key = "control.client_ca"

        def config(ca: str, *endpoints: str) -> dict[str, Any]:
            return {"control": {"endpoints": list(endpoints), "client_ca": ca}}

        ca = self.authority.certificate
        local = "tcp:5555:interface=127.0.0.1"
        self.assertEqual(self.warned(config(ca, tls, local), key), [])
        (text,) = self.warned(config(ca, tls, "tcp:5555"), key)
        self.assertIn("clients register without TLS", text)
        (text,) = self.warned(config(ca, local), key)
        self.assertIn("no control endpoint is an ssl: one", text)
        (text,) = self.warned(config(self.pair.certificate, tls), key)
        self.assertIn("holds a certificate that is no CA's: CN=server", text)
        (text,) = self.told(config(self.pair.key, tls), key)
        self.assertIn("holds no certificate", text)

    def test_endpoint_texts(self) -> None:
        """Twisted's defaults, and files without a name before them."""
        for text, expected in (
            ("ssl:1", SslFiles("server.pem", "server.pem", "")),
            ("ssl:1:k", SslFiles("k", "k", "")),
            ("ssl:1:k:c", SslFiles("c", "k", "")),
            ("haproxy:ssl:port=1:privateKey=k:extraCertChain=x", SslFiles("k", "k", "x")),
            ("tcp:1", None),
            ("", None),
        ):
            self.assertEqual(ssl_files(text), expected)
        for text, private in (
            ("tcp:1", False),
            ("tcp:1:127.0.0.1", True),
            ("tcp6:1:interface=\\:\\:1", True),
            ("unix:/run/relayx", True),
            ("tls:1", False),
        ):
            self.assertEqual(is_private(text), private, text)
