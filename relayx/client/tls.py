"""TLS to the gateway: the files it takes, whom it trusts, and what it says where it fails."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cryptography import x509
from OpenSSL import SSL, crypto
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    TLSVersion,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from relayx.client.errors import TlsFailed
from relayx.tlsends import EndingTlsFactory

_NOT_TLS = ("wrong version number", "packet length too long", "record layer failure")
_NO_VERSION = ("protocol version", "unsupported protocol", "no protocols available")
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)
_ALERT = re.compile(r"\balert (.+)")
_OURS = ("unknown ca", "bad certificate", "certificate ", "access denied", "unsupported cert")
"""Alerts that are about the certificate of a client."""


@dataclass(frozen=True)
class ClientTls:
    """How a client verifies the gateway, and what it shows of itself. TLS 1.2 and up.

    The files are PEM; where they have changed they are read again for the next connection.

    :ivar ca: file of the CAs, or of the gateway's own certificate, to trust; None: those that
        the system trusts.
    :ivar certificate: file of our certificate and the rest of its chain, where the gateway asks
        for one.
    :ivar private_key: file of its key, not encrypted; None: `certificate` holds it too.
    :ivar server_name: the name, or address, that the gateway's certificate must have; None: the
        host that is dialled.
    """

    ca: str | None = None
    certificate: str | None = None
    private_key: str | None = None
    server_name: str | None = None

    def check(self) -> None:
        """Read the files.

        :raises TlsFailed: naming the file that cannot be used, and why.
        """
        self._options()

    def creator(self, host: str) -> IOpenSSLClientConnectionCreator:
        """What connections to `host` are made with.

        :raises TlsFailed: where a file cannot be used, or the name could be in no certificate.
        """
        return _Verifying(self._options(), self.server_name or host)

    def _options(self) -> CertificateOptions:
        key = (self.private_key or self.certificate) if self.certificate else None
        stamps = tuple(_stamp(path) for path in (self.ca, self.certificate, key))
        return _load(self.ca, self.certificate, key, stamps)


@implementer(IStreamClientEndpoint)
class TlsEndpoint:
    """Dials by another endpoint and speaks TLS from the first byte on.

    :param reactor: an IReactorTime.
    :param host: whom the certificate must name, unless `tls` says another.
    """

    def __init__(
        self, reactor: IReactorTime, tls: ClientTls, host: str, endpoint: IStreamClientEndpoint
    ) -> None:
        self._reactor = reactor
        self._tls = tls
        self._host = host
        self._endpoint = endpoint

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Fire once TCP is connected; how the handshake goes, `connectionLost` tells."""
        try:
            creator = self._tls.creator(self._host)
        except TlsFailed:
            return fail()
        factory = EndingTlsFactory(creator, True, protocolFactory, clock=self._reactor)
        dialled: Deferred[Any] = self._endpoint.connect(factory)
        return dialled.addCallback(lambda secured: secured.wrappedProtocol)


@implementer(IOpenSSLClientConnectionCreator)
class _Verifying:
    """Verifies as Twisted's optionsForClientTLS does, and can say what it did not like.

    OpenSSL verifies the chain; service-identity verifies that the certificate is the host's.
    """

    def __init__(self, options: CertificateOptions, name: str) -> None:
        self._options = options
        self._name = name
        bare = name.partition("%")[0]
        try:
            address = isIPAddress(bare) or isIPv6Address(bare)
            self._identity = IPAddress_ID(bare) if address else DNS_ID(name.rstrip("."))
        except ValueError:
            text = f"{name!r} is no name that a certificate could have"
            raise TlsFailed(text) from None

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """The TLS of one new connection."""
        connection: SSL.Connection = self._options.clientConnectionForTLS(tlsProtocol)
        if isinstance(self._identity, DNS_ID):  # RFC 6066: no addresses
            connection.set_tlsext_host_name(self._identity.hostname)

        def verify(_: object, certificate: crypto.X509, code: int, depth: int, ok: int) -> bool:
            try:
                why = self._fault(certificate, code, depth, bool(ok))
            except Exception as error:  # must not get lost in OpenSSL, and is a no
                why = f"the gateway's certificate cannot be read: {error}"
            if why:
                connection.get_app_data().failVerification(Failure(TlsFailed(why)))
            return not why

        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
        return connection

    def _fault(self, certificate: crypto.X509, code: int, depth: int, ok: bool) -> str:
        """Why this certificate of the chain will not do, "" where it will."""
        if not ok:
            whose = "the gateway's certificate" if depth == 0 else "a CA of the gateway's"
            return f"{whose} {_chain_fault(certificate.to_cryptography(), code)}"
        if depth:
            return ""
        patterns = extract_patterns(certificate)
        try:
            verify_service_identity(patterns, [self._identity], [])
        except Exception:
            names = ", ".join(_names(certificate.to_cryptography())) or "nobody"
            return f"the gateway's certificate is for {names}, and not for {self._name}"
        return ""


def _chain_fault(certificate: x509.Certificate, code: int) -> str:
    codes = SSL.X509VerificationCodes
    if code == codes.ERR_CERT_HAS_EXPIRED:
        return f"has expired, on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    if code == codes.ERR_CERT_NOT_YET_VALID:
        return f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    if code == codes.ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return "is self-signed, and not among those that are trusted"
    issuer = certificate.issuer.rfc4514_string() or "nobody"
    if code in (
        codes.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
        codes.ERR_UNABLE_TO_GET_ISSUER_CERT,
        codes.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
        codes.ERR_SELF_SIGNED_CERT_IN_CHAIN,
    ):
        return f"is signed by {issuer}, which is not trusted"
    return f"does not verify; OpenSSL's X509 verification code is {code}"


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    found = extension.value
    addresses = found.get_values_for_type(x509.IPAddress)
    return [*found.get_values_for_type(x509.DNSName), *map(str, addresses)]


def tls_failure(reason: Failure, transport: Any) -> TlsFailed | None:
    """Why TLS could not begin on a connection that has ended; None where that is not why."""
    error = reason.value
    if isinstance(error, TlsFailed):
        return error
    if not isinstance(error, SSL.Error):
        return None
    queue = error.args[0] if error.args else ()
    text = "; ".join(entry[-1] for entry in queue if isinstance(entry, tuple)).lower()
    if any(mark in text for mark in _NO_VERSION):
        return TlsFailed("the gateway speaks no version of TLS that is allowed: 1.2 and up")
    if any(mark in text for mark in _NOT_TLS):
        peer = transport.getPeer()
        host = f"[{peer.host}]" if ":" in peer.host else peer.host
        return TlsFailed(f"the gateway does not speak TLS on {host}:{peer.port}")
    alert = _ALERT.search(text)
    if alert and "certificate required" in alert[1]:
        return TlsFailed("the gateway asks for a client's certificate, and we have none")
    if alert and alert[1].startswith(_OURS):
        return TlsFailed(f"the gateway does not accept our certificate: {alert[1]}")
    if alert and alert[1] == "handshake failure":
        tail = "; it may ask for a client's certificate"
        return TlsFailed(f"the gateway refused TLS: {alert[1]}{tail}")
    return TlsFailed(f"TLS with the gateway failed: {text or 'for no reason that OpenSSL tells'}")


# the files


def _stamp(path: str | None) -> tuple[int, int, int] | None:
    """What is another once a file has another content."""
    if path is None:
        return None
    try:
        told = os.stat(path)
    except (OSError, ValueError):
        return None  # reading it will say why
    return told.st_ino, told.st_mtime_ns, told.st_size


@lru_cache(maxsize=16)
def _load(
    ca: str | None, certificate: str | None, private_key: str | None, stamps: object
) -> CertificateOptions:
    """Read the files; `stamps` change with them."""
    shown: dict[str, Any] = {}
    if certificate is not None and private_key is not None:
        own, *chain = _certificates(certificate)
        shown["certificate"] = own
        shown["extraCertChain"] = chain
        shown["privateKey"] = _private_key(private_key)
        _check_match(certificate, private_key, own, shown["privateKey"])
    trusted = platformTrust()
    if ca is not None:
        trusted = trustRootFromCertificates([Certificate(one) for one in _certificates(ca)])
    return CertificateOptions(trustRoot=trusted, raiseMinimumTo=TLSVersion.TLSv1_2, **shown)


def _certificates(path: str) -> list[crypto.X509]:
    # By OpenSSL, which takes what some CAs of the system's have and cryptography warns of.
    try:
        found = [
            crypto.load_certificate(crypto.FILETYPE_PEM, block)
            for block in _CERTIFICATE.findall(_read(path))
        ]
    except crypto.Error:
        found = []
    if not found:
        raise TlsFailed(f"{path}: holds no certificate in PEM")
    return found


def _private_key(path: str) -> crypto.PKey:
    try:
        return crypto.load_privatekey(crypto.FILETYPE_PEM, _read(path), b"")
    except (crypto.Error, ValueError):
        raise TlsFailed(f"{path}: holds no private key in PEM, unencrypted") from None


def _check_match(certificate: str, private_key: str, own: crypto.X509, key: crypto.PKey) -> None:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.use_certificate(own)
    try:
        context.use_privatekey(key)
        context.check_privatekey()
    except SSL.Error:
        text = f"{private_key}: does not match the certificate {certificate}"
        raise TlsFailed(text) from None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        text = getattr(error, "strerror", None) or str(error)
        raise TlsFailed(f"{path}: cannot be read ({text})") from None
