"""Certificates for the data ports of test gateways, made once a run and thrown away after it."""

from __future__ import annotations

import atexit
import datetime
import shutil
import tempfile
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from relayx.config.model import DataTls

NAME = "gateway.example"


@cache
def _directory() -> Path:
    made = tempfile.mkdtemp(prefix="relayx-tls-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


def write_pair(directory: Path, label: str) -> tuple[Path, Path]:
    """A self-signed certificate for NAME and its key, as PEM files; `label` is its serial's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, label)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = directory / f"{label}.pem", directory / f"{label}.key"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    key_file.chmod(0o600)
    return certificate_file, key_file


@cache
def pair() -> tuple[Path, Path]:
    """The certificate and key that most tests use."""
    return write_pair(_directory(), "data")


def data_tls(*, required: bool = False) -> DataTls:
    """The section ``data.tls`` with them."""
    certificate, key = pair()
    return DataTls(certificate=str(certificate), private_key=str(key), required=required)
