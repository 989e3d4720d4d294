"""CAs and certificates for tests: made with a P-256 key each, written as PEM files."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)
_ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")


class Pair:
    """A certificate and its key, as files.

    :ivar certificate: path of the certificate; `key` likewise.
    """

    def __init__(self, directory: Path, name: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.certificate = str(directory / f"{name}.pem")
        self.key = str(directory / f"{name}.key")
        self.x509: x509.Certificate
        self.private_key = ec.generate_private_key(ec.SECP256R1())

    def write(self, certificate: x509.Certificate, *above: x509.Certificate) -> None:
        """Write the files, the certificate with its chain."""
        self.x509 = certificate
        pem = serialization.Encoding.PEM
        chain = b"".join(one.public_bytes(pem) for one in (certificate, *above))
        Path(self.certificate).write_bytes(chain)
        key = Path(self.key)
        key.touch(0o600)
        key.write_bytes(
            self.private_key.private_bytes(
                pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    @property
    def serial(self) -> int:
        """The certificate's serial number, by which it is known again."""
        return self.x509.serial_number

    @property
    def strports(self) -> str:
        """What an ``ssl:`` endpoint says of it."""
        return f"privateKey={self.key}:certKey={self.certificate}"


class Authority(Pair):
    """A CA of its own."""

    def __init__(self, directory: Path, name: str = "ca", above: Authority | None = None) -> None:
        super().__init__(directory, name)
        self._directory = directory
        self._above = above
        subject = named(f"CA {name}")
        builder = _builder(subject, above.x509.subject if above else subject, self, -1, 1)
        limits = x509.BasicConstraints(ca=True, path_length=None)
        builder = builder.add_extension(limits, critical=True)
        self.write(builder.sign((above or self).private_key, hashes.SHA256()))

    def issue(
        self,
        file: str,
        names: Sequence[str] = (),
        *,
        subject: x509.Name | None = None,
        days: tuple[float, float] = (-1, 1),
    ) -> Pair:
        """A certificate signed by this CA, with the chain above it that clients may lack.

        :param names: host names and addresses that it is for.
        :param subject: its subject, with the common name `file` by default.
        :param days: from when to when it is valid, from now.
        """
        pair = Pair(self._directory, file)
        builder = _builder(
            named(file) if subject is None else subject, self.x509.subject, pair, *days
        )
        if names:
            builder = builder.add_extension(alternatives(names), critical=False)
        above = (self.x509,) if self._above else ()
        pair.write(builder.sign(self.private_key, hashes.SHA256()), *above)
        return pair

    def spell(self, pair: Pair, before: bytes, after: bytes) -> None:
        """Replace some bytes of a certificate by as many others, and sign it again."""
        signed = pair.x509.tbs_certificate_bytes.replace(before, after)
        signature = self.private_key.sign(signed, ec.ECDSA(hashes.SHA256()))
        body = signed + _ECDSA_SHA256 + b"\x03%c\x00" % (len(signature) + 1) + signature
        der = b"\x30\x82" + len(body).to_bytes(2, "big") + body
        Path(pair.certificate).write_text(ssl.DER_cert_to_PEM_cert(der))


def self_signed(directory: Path, file: str, names: Sequence[str]) -> Pair:
    """A certificate that nobody vouches for."""
    pair = Pair(directory, file)
    builder = _builder(named(file), named(file), pair, -1, 1)
    builder = builder.add_extension(alternatives(names), critical=False)
    pair.write(builder.sign(pair.private_key, hashes.SHA256()))
    return pair


def named(*common_names: str) -> x509.Name:
    """A subject with these common names."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in common_names])


def alternatives(names: Sequence[str]) -> x509.SubjectAlternativeName:
    """Host names and addresses as the extension has them."""
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return x509.SubjectAlternativeName(found)


def _builder(
    subject: x509.Name, issuer: x509.Name, pair: Pair, first: float, last: float
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(pair.private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + first * DAY)
        .not_valid_after(now + last * DAY)
    )
