"""The files of certificates, keys and CAs: can they be used, and for how long (contract section 1).

Each is looked at on its own, so that everything that is wrong is told at once.
"""

from __future__ import annotations

import datetime
import os
import stat

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from relayx.config.endpoints import SslFiles, is_private, ssl_files
from relayx.config.faults import Fault, plain, shown
from relayx.config.model import Config

_PUBLIC = serialization.PublicFormat.SubjectPublicKeyInfo
_DER = serialization.Encoding.DER


class Looked(msgspec.Struct):
    """What was found of the files that a configuration names.

    :ivar file: the configuration.
    :ivar prod: whether a key that others can read is a fault.
    """

    file: str
    prod: bool
    faults: list[Fault] = []
    warnings: list[Fault] = []

    def wrong(self, key: str, path: str, problem: str, allowed: str = "") -> None:
        """Note that a file cannot be used."""
        self.faults.append(Fault(self.file, key, shown(path), problem, allowed))

    def unwise(self, key: str, path: str, problem: str, allowed: str = "") -> None:
        """Note what is allowed and yet hardly meant."""
        self.warnings.append(Fault(self.file, key, shown(path), problem, allowed))


def look_at_endpoint(looked: Looked, key: str, text: str) -> bool:
    """Look at the files of an endpoint; return whether they can be used, True without any."""
    before = len(looked.faults)
    files = ssl_files(text)
    if files is not None:
        _pair(looked, files, certificate_key=key, private_key_key=key)
        if files.chain:
            _certificates(looked, key, files.chain)
    return len(looked.faults) == before


def look_at_files(file: str, config: Config, broken: frozenset[str], prod: bool) -> Looked:
    """Look at the files of ``control.client_ca`` and ``data.tls``.

    :param broken: the keys that could not be read, of which nothing is said.
    """
    looked = Looked(file, prod)
    if config.control.client_ca and "control.client_ca" not in broken:
        _client_ca(looked, config)
    if not any(key.startswith("data.tls") for key in broken):
        _data_tls(looked, config)
    return looked


def _client_ca(looked: Looked, config: Config) -> None:
    key, path = "control.client_ca", config.control.client_ca
    for certificate in _certificates(looked, key, path):
        if not _is_ca(certificate):
            problem = f"holds a certificate that is no CA's: {certificate.subject.rfc4514_string()}"
            looked.unwise(key, path, plain(problem), "certificates with CA:TRUE")
    endpoints = config.control.endpoints or (f"tcp:{config.relay.control_port}",)
    if not any(ssl_files(text) for text in endpoints):
        looked.unwise(key, path, "is of no use, for no control endpoint is an ssl: one")
    for text in endpoints:
        if ssl_files(text) is None and not is_private(text):
            problem = f"does not hold for {shown(text)}, where clients register without TLS"
            allowed = "ssl: endpoints, and plain ones on loopback"
            looked.unwise(key, path, problem, allowed)


def _data_tls(looked: Looked, config: Config) -> None:
    told = config.data.tls
    both = ("certificate", told.certificate), ("private_key", told.private_key)
    there = [name for name, path in both if path]
    if len(there) == 1:
        name = there[0]
        other = "private_key" if name == "certificate" else "certificate"
        allowed = "both for TLS on data ports, neither for none"
        problem = f"stands alone, without data.tls.{other}"
        looked.wrong(f"data.tls.{name}", dict(both)[name], problem, allowed)
    elif there:
        files = SslFiles(told.certificate, told.private_key, "")
        _pair(
            looked,
            files,
            certificate_key="data.tls.certificate",
            private_key_key="data.tls.private_key",
        )
    elif told.required:
        problem = "cannot be, without data.tls.certificate and data.tls.private_key"
        looked.faults.append(Fault(looked.file, "data.tls.required", "true", problem))


def _pair(looked: Looked, files: SslFiles, *, certificate_key: str, private_key_key: str) -> None:
    certificates = _certificates(looked, certificate_key, files.certificate)
    private_key = _private_key(looked, private_key_key, files.private_key)
    if certificates and private_key is not None:
        theirs = certificates[0].public_key().public_bytes(_DER, _PUBLIC)
        if private_key.public_key().public_bytes(_DER, _PUBLIC) != theirs:
            problem = f"does not match the certificate {plain(files.certificate)}"
            looked.wrong(private_key_key, files.private_key, problem)


def _certificates(looked: Looked, key: str, path: str) -> list[x509.Certificate]:
    """The certificates of a file, [] where it cannot be used; their dates are looked at."""
    data = _read(looked, key, path)
    if data is None:
        return []
    try:
        found = x509.load_pem_x509_certificates(data)
    except ValueError:
        looked.wrong(key, path, "holds no certificate that can be read", "certificates in PEM")
        return []
    now = datetime.datetime.now(datetime.UTC)
    for certificate in found:
        whose = plain(certificate.subject.rfc4514_string() or "nobody")
        if certificate.not_valid_after_utc < now:
            date = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
            looked.unwise(key, path, f"holds the certificate of {whose}, expired on {date}")
        elif certificate.not_valid_before_utc > now:
            date = f"{certificate.not_valid_before_utc:%Y-%m-%d}"
            looked.unwise(key, path, f"holds the certificate of {whose}, not valid before {date}")
    return found


def _private_key(looked: Looked, key: str, path: str) -> PrivateKeyTypes | None:
    """The key of a file, None where it cannot be used; who may read it is looked at."""
    data = _read(looked, key, path)
    if data is None:
        return None
    _mode(looked, key, path)
    allowed = "a private key in PEM, not encrypted"
    try:
        return serialization.load_pem_private_key(data, None)
    except TypeError:
        looked.wrong(key, path, "is encrypted", allowed)
    except (ValueError, UnsupportedAlgorithm):
        public = b"PRIVATE KEY" not in data and b"PUBLIC KEY" in data
        problem = "holds a public key" if public else "holds no private key that can be read"
        looked.wrong(key, path, problem, allowed)
    return None


def _mode(looked: Looked, key: str, path: str) -> None:
    mode = stat.S_IMODE(os.stat(path).st_mode)
    allowed = f"mode 0600 (chmod 600 {plain(path)})"
    tell = looked.wrong if looked.prod else looked.unwise
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        tell(key, path, f"can be read or written by others, its mode is {mode:04o}", allowed)
    elif mode & (stat.S_IRGRP | stat.S_IWGRP):
        problem = f"can be read or written by its group, its mode is {mode:04o}"
        looked.unwise(key, path, problem, allowed)


def _read(looked: Looked, key: str, path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        looked.wrong(key, path, f"cannot be read ({reason})")
        return None


def _is_ca(certificate: x509.Certificate) -> bool:
    try:
        told = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except (x509.ExtensionNotFound, ValueError):
        return False
    return told.value.ca
