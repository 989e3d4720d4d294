"""TLS for those who listen: what a connection is made with, and how that is replaced.

The files are read when listening begins and again at each reload. What runs keeps the context
that it began with; a new connection takes the newest one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import msgspec
from cryptography import x509
from cryptography.x509.oid import NameOID
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, ISSLTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from relayx.core.errors import RelayError
from relayx.tlsends import EndingTlsFactory

CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: forward secret and authenticated. Those of TLS 1.3 all are."""

_OPTIONS = (
    SSL.OP_NO_COMPRESSION
    | SSL.OP_NO_RENEGOTIATION
    | SSL.OP_NO_TICKET
    | SSL.OP_CIPHER_SERVER_PREFERENCE
)

Wrap = Callable[[Any], Any]
"""Makes the factory to listen with of the one given: what goes below TLS, above TCP."""


class TlsFileError(RelayError):
    """A file of a certificate or a key cannot be used: its `path`, and the `problem` with it."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path, self.problem = path, problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class ServerFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The PEM files of one who listens.

    :ivar certificate: the certificate, and those that complete its chain behind it.
    :ivar private_key: its key, not encrypted.
    :ivar chain: the rest of the chain, where `certificate` holds one certificate alone.
    :ivar client_ca: the CAs of clients' certificates; "" asks clients for none.
    """

    certificate: str
    private_key: str
    chain: str = ""
    client_ca: str = ""


def load_context(files: ServerFiles) -> SSL.Context:
    """Read the files: TLS 1.2 and up, the server's choice of ciphers, no renegotiation.

    :raises TlsFileError: naming the first file that cannot be used.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(_OPTIONS)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_cipher_list(CIPHERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(secrets.token_bytes(16))
    context.set_passwd_cb(lambda *_: b"")  # OpenSSL would ask on the terminal
    _use(context.use_certificate_chain_file, files.certificate, "is no certificate in PEM")
    _use(
        context.use_privatekey_file,
        files.private_key,
        "is no private key in PEM, unencrypted",
        mismatch=f"does not match the certificate {files.certificate}",
    )
    if files.chain:
        for certificate in _certificates(files.chain):
            context.add_extra_chain_cert(crypto.X509.from_cryptography(certificate))
    if files.client_ca:
        _ask_for_certificates(context, files.client_ca)
    return context


def _ask_for_certificates(context: SSL.Context, path: str) -> None:
    store = context.get_cert_store()
    if store is None:
        raise TlsFileError(path, "OpenSSL has no place for it")
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)  # an intermediate CA alone will do
    for certificate in _certificates(path):
        authority = crypto.X509.from_cryptography(certificate)
        store.add_cert(authority)
        context.add_client_ca(authority)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)


def _certificates(path: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError:
        raise TlsFileError(path, "holds no certificate in PEM") from None


def _use(use: Callable[[str], object], path: str, problem: str, mismatch: str = "") -> None:
    _read(path)  # OpenSSL's own word for a missing file is hard to read
    try:
        use(path)
    except SSL.Error as error:
        mismatched = mismatch and "mismatch" in str(error)  # "key values", "key type"
        raise TlsFileError(path, mismatch if mismatched else problem) from None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        text = getattr(error, "strerror", None) or str(error)
        raise TlsFileError(path, f"cannot be read ({text})") from None


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """What TLS connections to a listening port are made with.

    :raises TlsFileError: naming the file that cannot be used.
    """

    def __init__(self, files: ServerFiles) -> None:
        self.files = files
        self._context = load_context(files)

    def replace(self, files: ServerFiles, context: SSL.Context) -> None:
        """Use what was read of the files for the connections that come from now on."""
        self.files, self._context = files, context

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """The TLS of one new connection."""
        return SSL.Connection(self._context, None)


class ListeningReactor:
    """A reactor as endpoints of strports see it, which listens as we want it.

    :param tls: what an ``ssl:`` endpoint makes its connections with; None: there is none.
    :param wrap: makes what TCP is listened on with, of what would have been.
    """

    def __init__(self, reactor: Any, tls: ServerTls | None = None, wrap: Wrap | None = None):
        self._reactor = reactor
        self._tls = tls
        self._wrap = wrap or (lambda factory: factory)

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """See IReactorTCP."""
        return self._reactor.listenTCP(port, self._wrap(factory), backlog, interface)

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> Any:
        """See IReactorSSL; `contextFactory` serves where there is no TLS of our own."""
        creator = self._tls or contextFactory
        secured = EndingTlsFactory(creator, False, factory, clock=self._reactor)
        return self.listenTCP(port, secured, backlog, interface)

    def adoptStreamPort(self, descriptor: int, family: Any, factory: Any) -> Any:
        """See IReactorSocket."""
        return self._reactor.adoptStreamPort(descriptor, family, self._wrap(factory))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


def common_name(transport: Any) -> str | None:
    """The common name in the certificate of a connection's peer, once it has said something.

    None where it was asked for none, "" where its subject has none, or more than one, or cannot
    be read, as a T61String of old with Latin-1 in it.
    """
    if not ISSLTransport.providedBy(transport):
        return None
    certificate: Any = transport.getPeerCertificate()
    if certificate is None:
        return None
    try:
        subject = certificate.to_cryptography().subject
    except ValueError:
        return ""
    found = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(found) != 1 or not isinstance(found[0].value, str):
        return ""
    return found[0].value


def tls_failure(reason: Failure | None) -> str:
    """What went wrong with TLS where that ended a connection, else ""."""
    if reason is None or not isinstance(reason.value, SSL.Error):
        return ""
    return reasons(reason.value)


def reasons(error: SSL.Error) -> str:
    """What OpenSSL says was wrong, in its own words."""
    told = error.args[0] if error.args and isinstance(error.args[0], list) else []
    words = [str(entry[-1]) for entry in told if entry and entry[-1]]
    return "; ".join(words) or str(error) or type(error).__name__
