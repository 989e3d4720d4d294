"""The admin HTTP over TLS, and the commands that speak it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS

from tests.admin_peer import TOKEN, answer_to, http_address, in_time
from tests.certificates import Authority
from tests.guide_peer import DEADLINE
from tests.live import Gateway, live
from tests.relayx_process import run_relayx
from tests.reloading import in_the_reactor


class Tls(TestCase):
    """An ``ssl:`` endpoint."""

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        self.authority = Authority(directory)
        self.pair = self.authority.issue("server", ["localhost"])

    def served(self, scenario: Any) -> Deferred[None]:
        """Run a scenario with a gateway that has the certificate, and asks clients for theirs."""
        endpoint = f"ssl:0:interface=127.0.0.1:{self.pair.strports}"
        control = {"client_ca": self.authority.certificate}
        run = live(http={"endpoint": endpoint}, control=control, secrets={"admin_token": TOKEN})(
            scenario
        )
        return run(self)

    def test_certificate(self) -> Deferred[None]:
        """Verified by its CA, without one of the client's; a reload reads it again."""
        root = Certificate.loadPEM(Path(self.authority.certificate).read_bytes())
        trusting = BrowserLikePolicyForHTTPS(trustRootFromCertificates([root]))
        client = HTTPClient(Agent(reactor, trusting))

        def scenario(case: Tls, gateway: Gateway) -> None:
            url = f"https://localhost:{http_address(gateway)[1]}/healthz"
            self.assertEqual(in_time(lambda: answer_to(client, "GET", url)).status, 200)
            before = ssl.get_server_certificate(http_address(gateway), timeout=DEADLINE)
            new = self.authority.issue("other", ["localhost"])
            for old, path in ((self.pair.certificate, new.certificate), (self.pair.key, new.key)):
                Path(old).write_bytes(Path(path).read_bytes())
            service = gateway.service
            in_the_reactor(service.reload, service.config, service.secrets)
            after = ssl.get_server_certificate(http_address(gateway), timeout=DEADLINE)
            self.assertNotEqual(before, after)
            self.assertEqual(in_time(lambda: answer_to(client, "GET", url)).status, 200)

        return self.served(scenario)

    def test_commands(self) -> Deferred[None]:
        """With the CA it works, without it is refused, and so is a name that is not in it."""

        def scenario(case: Tls, gateway: Gateway) -> None:
            port = http_address(gateway)[1]
            known = {"RELAYX_ADMIN_TOKEN": TOKEN}
            for url, ca, status, said in (
                (f"https://localhost:{port}", self.authority.certificate, 0, "ready"),
                (f"https://localhost:{port}", "", 1, "not to be trusted; --ca"),
                (
                    f"https://127.0.0.1:{port}",
                    self.authority.certificate,
                    1,
                    "is not for 127.0.0.1",
                ),
                (f"http://localhost:{port}", "", 1, "say https://"),
                (f"https://localhost:{port}", "absent.pem", 1, "--ca"),
                (f"https://localhost:{port}", self.pair.key, 1, "--ca"),
            ):
                told = ("--ca", ca) if ca else ()
                ran = run_relayx("top", "--once", "--admin", url, *told, **known)
                text = ran.stdout.decode() + ran.stderr
                self.assertEqual(ran.ended(), status, text)
                self.assertIn(said, text)
                self.assertNotIn("Traceback", text)
                self.assertNotIn("this should not happen", text)

        return self.served(scenario)
