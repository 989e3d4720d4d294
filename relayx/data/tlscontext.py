"""The certificate and key of the data ports, ready for use (``data.tls``)."""

from __future__ import annotations

from OpenSSL import SSL

from relayx.core.errors import RelayError

CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:!aNULL"
"""For TLS 1.2; those of TLS 1.3 are all as good."""


class TlsFilesError(RelayError):
    """A file that ``data.tls`` names cannot be used.

    :ivar key: the configuration key that names it, its `path`, and the `problem` with it.
    """

    def __init__(self, key: str, path: str, problem: str) -> None:
        super().__init__(f"{path} {problem}")
        self.key, self.path, self.problem = key, path, problem


def load_context(certificate: str, private_key: str) -> SSL.Context:
    """TLS 1.2 and later, without renegotiation and without compression.

    :param certificate: PEM file of the certificate, and of its chain behind it.
    :param private_key: PEM file of its key, without a passphrase.
    :raises TlsFilesError: naming the file that cannot be used, and why.
    """
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(
        SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE
    )
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # thousands of waiting connections
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_cipher_list(CIPHERS)
    context.set_passwd_cb(lambda *_: b"")  # OpenSSL would ask on the terminal
    told = {"data.tls.certificate": certificate, "data.tls.private_key": private_key}
    for key, path in told.items():
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise TlsFilesError(key, path, f"cannot be read: {error.strerror}") from None
    try:
        context.use_certificate_chain_file(certificate)
    except SSL.Error as error:
        problem = f"holds no certificate that can be used: {reasons(error)}"
        raise TlsFilesError("data.tls.certificate", certificate, problem) from None
    try:
        context.use_privatekey_file(private_key)
        context.check_privatekey()
    except SSL.Error as error:
        problem = f"holds no private key of {certificate}: {reasons(error)}"
        raise TlsFilesError("data.tls.private_key", private_key, problem) from None
    return context


def reasons(error: SSL.Error) -> str:
    """What OpenSSL says was wrong, in its own words."""
    told = error.args[0] if error.args and isinstance(error.args[0], list) else []
    words = [str(entry[-1]) for entry in told if entry and entry[-1]]
    return "; ".join(words) or str(error) or type(error).__name__
