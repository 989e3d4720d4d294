"""relayx.client over TLS: whom it trusts, and what it says of the rest."""

from __future__ import annotations

import ssl
from pathlib import Path

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relayx.client import ClientTls, TlsFailed
from relayx.client import Gateway as Where
from tests.certificates import Authority, self_signed
from tests.live import CONTROL_PORT, SECRET, Gateway
from tests.tls_live import NAME, TLS_PORT, Trust, outcome, secured
from tests.tls_server import Served, server_context


class FilesTests(SynchronousTestCase):
    """The files of ClientTls."""

    def setUp(self) -> None:
        self.authority = Authority(Path(self.mktemp()))
        self.own = self.authority.issue("own")

    def test_good(self) -> None:
        """Those that go together; the key may be in the file of the certificate."""
        ca, own = self.authority.certificate, self.own
        both = Path(own.certificate).with_suffix(".both")
        both.write_bytes(Path(own.key).read_bytes() + Path(own.certificate).read_bytes())
        ClientTls().check()
        ClientTls(ca).check()
        ClientTls(ca, own.certificate, own.key).check()
        ClientTls(ca, str(both)).check()

    def test_bad(self) -> None:
        """The text names the file."""
        own, other = self.own, self.authority.issue("other")
        for tls, expected in (
            (ClientTls("/no/ca.pem"), "/no/ca.pem: cannot be read (No such file or directory)"),
            (ClientTls(own.key), f"{own.key}: holds no certificate in PEM"),
            (ClientTls(None, own.key), f"{own.key}: holds no certificate"),
            (ClientTls(None, own.certificate), f"{own.certificate}: holds no private key"),
            (ClientTls(None, own.certificate, other.key), f"{other.key}: does not match"),
        ):
            error = self.assertRaises(TlsFailed, tls.check)
            self.assertIn(expected, str(error))

    def test_read_again(self) -> None:
        """A file that has changed is read for the next connection."""
        tls = ClientTls(self.authority.certificate)
        tls.check()
        Path(self.authority.certificate).write_bytes(b"broken")
        self.assertRaises(TlsFailed, tls.check)


class VerifyTests(TestCase):
    """The control connection: what is trusted, and what is said of the rest."""

    def failed(self, gateway: Gateway, tls: ClientTls, port: int = TLS_PORT) -> str:
        found = outcome(Where(gateway.host, port, SECRET, tls=tls))
        self.assertIsInstance(found, TlsFailed, found)
        return str(found)

    @secured()
    def test_trusted(self, gateway: Gateway, trust: Trust) -> None:
        """A name, and after a renewal the address that was dialled."""
        found = outcome(Where(gateway.host, TLS_PORT, SECRET, tls=trust.tls()))
        self.assertIsInstance(found, str, found)
        by_address = Where(gateway.host, TLS_PORT, SECRET, tls=trust.tls(server_name=None))
        self.assertIn(f"for {NAME}, and not for {gateway.host}", str(outcome(by_address)))
        trust.renew(gateway, trust.authority.issue("address", [gateway.host]))
        self.assertIsInstance(outcome(by_address), str)

    @secured()
    def test_own_certificate(self, gateway: Gateway, trust: Trust) -> None:
        """One that is self-signed is trusted where it is the CA that was given, and else not."""
        own = self_signed(trust.directory, "self", [NAME])
        trust.renew(gateway, own)
        where = Where(
            gateway.host, TLS_PORT, SECRET, tls=ClientTls(own.certificate, None, None, NAME)
        )
        self.assertIsInstance(outcome(where), str)
        self.assertIn("is self-signed", self.failed(gateway, trust.tls()))

    @secured()
    def test_refused(self, gateway: Gateway, trust: Trust) -> None:
        """Which name, which date, which CA."""
        told = self.failed(gateway, trust.tls(server_name="other.example"))
        self.assertEqual(
            told, f"the gateway's certificate is for {NAME}, and not for other.example"
        )
        told = self.failed(gateway, trust.tls(server_name="192.0.2.7"))
        self.assertIn("not for 192.0.2.7", told)
        told = self.failed(gateway, ClientTls(trust.stranger.certificate, server_name=NAME))
        self.assertIn("signed by CN=CA ca, which is not trusted", told)
        self.assertIn("is not trusted", self.failed(gateway, ClientTls(server_name=NAME)))
        self.assertIn("no name", self.failed(gateway, trust.tls(server_name="a b")))
        trust.renew(gateway, trust.authority.issue("old", [NAME], days=(-3, -1)))
        self.assertIn("certificate has expired, on 20", self.failed(gateway, trust.tls()))
        trust.renew(gateway, trust.authority.issue("new", [NAME], days=(1, 3)))
        self.assertIn("certificate is not valid before 20", self.failed(gateway, trust.tls()))
        trust.renew(gateway, trust.authority.issue("nameless"))
        self.assertIn("is for nobody, and not", self.failed(gateway, trust.tls()))

    @secured()
    def test_not_tls(self, gateway: Gateway, trust: Trust) -> None:
        """TLS said to a plain port, and nothing of it to the one that speaks it."""
        told = self.failed(gateway, trust.tls(), CONTROL_PORT)
        self.assertEqual(told, f"the gateway does not speak TLS on {gateway.host}:{CONTROL_PORT}")
        lost = outcome(Where(gateway.host, TLS_PORT, SECRET))
        self.assertIn("the gateway may speak TLS there", str(lost))

    def test_old_version(self) -> None:
        """A gateway that speaks TLS 1.1 alone."""

        def scenario() -> None:
            pair = Authority(Path(self.mktemp()).absolute()).issue("server", [NAME])
            context = server_context(pair)
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = ssl.TLSVersion.TLSv1_1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
            with Served(context, lambda peer: None) as served:
                found = outcome(Where(served.host, served.port, SECRET, tls=ClientTls()))
            self.assertIsInstance(found, TlsFailed)
            self.assertIn("no version of TLS that is allowed: 1.2 and up", str(found))

        return deferToThread(scenario)
