"""relayx.net.tls: contexts of files, their replacement, and what is listened with."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from pathlib import Path

from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relayx.net.tls import ListeningReactor, ServerFiles, ServerTls, TlsFileError, load_context
from tests.certificates import Authority, Pair
from tests.guide_peer import DEADLINE
from tests.live import Gateway
from tests.tls_live import NAME, TLS_PORT, Trust, secured

NO_OPENSSL = None if shutil.which("openssl") else "openssl's command line is not installed"


class FilesTests(SynchronousTestCase):
    """Which files are taken, and what is said of the others."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.authority = Authority(self.directory)
        self.pair = self.authority.issue("server", [NAME])

    def files(self, pair: Pair) -> ServerFiles:
        return ServerFiles(certificate=pair.certificate, private_key=pair.key)

    def refused(self, files: ServerFiles) -> str:
        error = self.assertRaises(TlsFileError, ServerTls, files)
        self.assertTrue(str(error).isprintable())
        return str(error)

    def test_refused(self) -> None:
        """The text names the file and what is wrong with it."""
        pair, other = self.pair, self.authority.issue("other", [NAME])
        broken = self.directory / "broken.pem"
        broken.write_bytes(Path(pair.certificate).read_bytes()[:200])
        missing = str(self.directory / "missing.pem")
        for files, expected in (
            ((missing, pair.key), f"{missing}: cannot be read (No such file or directory)"),
            ((pair.certificate, missing), f"{missing}: cannot be read"),
            ((str(broken), pair.key), f"{broken}: is no certificate"),
            ((pair.key, pair.key), f"{pair.key}: is no certificate"),
            ((pair.certificate, pair.certificate), f"{pair.certificate}: is no private key"),
            ((pair.certificate, other.key), f"{other.key}: does not match the certificate"),
        ):
            told = self.refused(ServerFiles(certificate=files[0], private_key=files[1]))
            self.assertIn(expected, told)
        for name in ("chain", "client_ca"):
            files = ServerFiles(
                certificate=pair.certificate, private_key=pair.key, **{name: pair.key}
            )
            self.assertIn(f"{pair.key}: holds no certificate", self.refused(files))

    def test_replaced(self) -> None:
        """What is loaded again counts for new connections, and only once it is used."""
        tls = ServerTls(self.files(self.pair))
        before = tls.serverConnectionForTLS(None).get_context()
        files = self.files(self.authority.issue("other", [NAME]))
        context = load_context(files)
        self.assertIs(tls.serverConnectionForTLS(None).get_context(), before)
        tls.replace(files, context)
        self.assertIs(tls.serverConnectionForTLS(None).get_context(), context)
        self.assertEqual(tls.files, files)

    def test_wrapped(self) -> None:
        """What is to be below TLS gets the factory that speaks it; plain TCP is wrapped too."""
        reactor = MemoryReactorClock()
        wrapped: list[object] = []

        def wrap(factory: object) -> Factory:
            wrapped.append(factory)
            return Factory()

        listening = ListeningReactor(reactor, ServerTls(self.files(self.pair)), wrap)
        inner = Factory()
        listening.listenSSL(1, inner, None, interface="127.0.0.1")
        listening.listenTCP(2, inner)
        self.assertIs(wrapped[0].wrappedFactory, inner)  # type: ignore[attr-defined]
        self.assertIs(wrapped[1], inner)
        self.assertEqual([server[0] for server in reactor.tcpServers], [1, 2])


class ServedTests(TestCase):
    """What is negotiated with other implementations."""

    def s_client(self, gateway: Gateway, trust: Trust, *options: str, said: bytes = b"") -> str:
        command = ["openssl", "s_client", "-connect", f"{gateway.host}:{TLS_PORT}"]
        command += ["-CAfile", trust.authority.certificate, "-verify_return_error"]
        done = subprocess.run(
            [*command, "-verify_hostname", NAME, *options],
            input=said,
            capture_output=True,
            timeout=DEADLINE * 4,
        )
        return (done.stdout + done.stderr).decode(errors="replace")

    @secured()
    def test_openssl(self, gateway: Gateway, trust: Trust) -> None:
        """TLS 1.2 and 1.3, forward secret, nothing compressed; the garbage gets its answer."""
        for version in ("-tls1_2", "-tls1_3"):
            told = self.s_client(gateway, trust, version, "-ign_eof", said=b"garbage\n")
            self.assertIn("Verify return code: 0 (ok)", told)
            self.assertIn("Compression: NONE", told)
            self.assertIn("INVALID_MESSAGE", told)
        told = self.s_client(gateway, trust, "-tls1_2")
        self.assertIn("Cipher is ECDHE-ECDSA-", told)
        refused = self.s_client(gateway, trust, "-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0")
        self.assertIn("handshake failure", refused)

    @secured()
    def test_openssl_old_version(self, gateway: Gateway, trust: Trust) -> None:
        """TLS 1.1 is refused with an alert that says so."""
        told = self.s_client(gateway, trust, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
        self.assertIn("alert protocol version", told)

    @secured()
    def test_openssl_renegotiation(self, gateway: Gateway, trust: Trust) -> None:
        """A client's wish to negotiate anew is refused."""
        told = self.s_client(gateway, trust, "-tls1_2", "-legacy_renegotiation", said=b"R\n")
        self.assertIn("no renegotiation", told)

    for _test in (test_openssl, test_openssl_old_version, test_openssl_renegotiation):
        _test.skip = NO_OPENSSL  # type: ignore[attr-defined]

    @secured()
    def test_python(self, gateway: Gateway, trust: Trust) -> None:
        """The chain and the name verify; another CA does not."""
        with trust.dial(gateway).socket as client:
            self.assertEqual(client.version(), "TLSv1.3")  # type: ignore[attr-defined]
        stranger = trust.context(ca=trust.stranger.certificate)
        with socket.create_connection((gateway.host, TLS_PORT), DEADLINE) as plain:
            with self.assertRaises(ssl.SSLCertVerificationError):
                stranger.wrap_socket(plain, server_hostname=NAME)
