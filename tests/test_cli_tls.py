"""--tls and its like on the client commands."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.live import CONTROL_PORT, Gateway
from tests.relayx_process import relayx, run_relayx
from tests.tls_live import NAME, TLS_PORT, Trust, secured


class TlsTests(TestCase):
    """Against a gateway that speaks TLS."""

    @secured()
    def test_ping(self, gateway: Gateway, trust: Trust) -> None:
        """By options, and by the environment."""
        where = f"{gateway.host}:{TLS_PORT}"
        ca = trust.authority.certificate
        options = ["--tls", "--ca", ca, "--server-name", NAME, "--count", "1"]
        done = run_relayx("ping", *options, gateway=where)
        self.assertEqual((done.ended(), done.stderr), (0, ""))
        trust.renew(gateway, trust.authority.issue("address", [gateway.host]))
        done = run_relayx("ping", "--count", "1", gateway=where, RELAYX_CA=ca, RELAYX_TLS="1")
        self.assertEqual((done.ended(), done.stderr), (0, ""))
        plain = f"{gateway.host}:{CONTROL_PORT}"
        done = run_relayx("ping", "--count", "1", gateway=plain, RELAYX_CA=ca)
        self.assertEqual((done.ended(), done.stderr), (0, ""), "a CA alone changes nothing")

    @secured()
    def test_refused(self, gateway: Gateway, trust: Trust) -> None:
        """At once, however long it might try, in one line that says why."""
        tls = f"{gateway.host}:{TLS_PORT}"
        ca = ["--ca", trust.authority.certificate]
        at = f"Error: the gateway at {tls}: "
        for options, expected in (
            (ca, f"{at}the gateway's certificate is for {NAME}, and not for {gateway.host}\n"),
            (["--server-name", NAME], "is signed by CN=CA ca, which is not trusted"),
        ):
            with relayx("ping", "--tls", "--connect-timeout", "1h", *options, gateway=tls) as done:
                self.assertEqual(done.ended(), 1)
                self.assertIn(expected, done.stderr)
                self.assertEqual(done.stderr.count("\n"), 1)
        plain = f"{gateway.host}:{CONTROL_PORT}"
        done = run_relayx("be", "--echo", "--tls", *ca, gateway=plain)
        self.assertEqual(done.ended(), 1)
        self.assertIn(f"the gateway does not speak TLS on {plain}", done.stderr)
        hint = "the gateway may speak TLS there"
        for limit in ("100ms", "10s"):  # the longer where a busy machine did not connect in time
            done = run_relayx("ping", "--connect-timeout", limit, gateway=tls)
            self.assertEqual(done.ended(), 1)
            if hint in done.stderr:
                break
        self.assertIn(hint, done.stderr)

    @secured(client_ca=True)
    def test_client_certificate(self, gateway: Gateway, trust: Trust) -> None:
        """It names the client; without one the gateway's wish for it is told."""
        where = f"{gateway.host}:{TLS_PORT}"
        own = trust.authority.issue("camera-1")
        options = ["--tls", "--ca", trust.authority.certificate, "--server-name", NAME]
        shown = ["--cert", own.certificate, "--key", own.key]
        done = run_relayx("ping", *options, *shown, "--count", "1", gateway=where)
        self.assertEqual((done.ended(), done.stderr), (0, ""))
        self.assertIn(b"as camera-1", done.stdout)
        done = run_relayx("ping", *options, *shown, "--client-id", "other", gateway=where)
        self.assertEqual(done.ended(), 1)
        self.assertIn('AUTH_FAILED: client_id is "other"', done.stderr)
        done = run_relayx("ping", *options, gateway=where)
        self.assertEqual(done.ended(), 1)
        self.assertIn("certificate", done.stderr)


class UsageTests(TestCase):
    """What does not go together is wrong use, and says so."""

    def test_without_tls(self) -> None:
        for options, expected in (
            (["--ca", "ca.pem"], "--ca is of no use without --tls or --data-tls"),
            (["--cert", "own.pem"], "--cert is of no use without"),
            (["--server-name", NAME], "--server-name is of no use without"),
            (["--tls", "--key", "own.key"], "--key is of no use without --cert"),
        ):
            done = run_relayx("ping", *options, RELAYX_SECRET="secret")
            self.assertEqual(done.ended(), 2)
            self.assertIn(expected, done.stderr)

    def test_bad_file(self) -> None:
        """Told before anybody is dialled."""
        done = run_relayx("ping", "--data-tls", "--ca", "/no/ca.pem", RELAYX_SECRET="secret")
        self.assertEqual(done.ended(), 1)
        expected = "Error: /no/ca.pem: cannot be read (No such file or directory)\n"
        self.assertEqual(done.stderr, expected)

    def test_nobody_may_look_away(self) -> None:
        """There is no option that turns verification off."""
        told = run_relayx("ping", "--help").stdout.decode()
        self.assertIn("--data-tls", told)
        self.assertNotIn("insecure", told)
        self.assertEqual(run_relayx("ping", "--tls", "--insecure").ended(), 2)


class CheckTests(TestCase):
    """``relayx check`` names a bad file."""

    def test_missing(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        run_relayx("init", cwd=str(directory))
        config = directory / "configs" / "config.yaml"
        text = config.read_text()
        self.assertIn("endpoints: []", text)
        config.write_text(
            text.replace(
                "endpoints: []", 'endpoints: ["ssl:5556:privateKey=no.key:certKey=no.pem"]'
            )
        )
        done = run_relayx("check", cwd=str(directory))
        self.assertEqual(done.ended(), 1)
        self.assertIn(b"control.endpoints[0] = 'no.pem' cannot be read", done.stdout)
        self.assertIn(b"control.endpoints[0] = 'no.key' cannot be read", done.stdout)
