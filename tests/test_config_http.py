"""Section ``http``: names, and what an operator hardly means."""

from __future__ import annotations

from tests.config_files import GOOD_SECRET, PORTS, Files

TOKEN = {"auth_secret": GOOD_SECRET, "admin_token": GOOD_SECRET[::-1]}


class Http(Files):
    """Faults and warnings."""

    def test_hosts(self) -> None:
        self.load({"http": {"hosts": ["gateway", "gateway.example", "a-b.c_d.example"]}})
        for name in (
            "",
            "gateway:8080",
            "http://gateway",
            "-x",
            "a..b",
            "*.example",
            "x" * 64,
            "é",
        ):
            fault = self.fault({"http": {"hosts": ["gateway", name]}})
            self.assertEqual(fault.key, "http.hosts[1]")

    def test_beyond_loopback(self) -> None:
        """A warning without a token, and with one that goes without TLS."""
        for endpoint, secrets, said in (
            ("tcp:8080", None, "/healthz, /readyz and /metrics alone"),
            ("tcp:8080:interface=10.0.0.1", TOKEN, "without TLS"),
            ("tcp:8080:interface=127.0.0.1", None, ""),
            ("tcp6:8080:interface=\\:\\:1", TOKEN, ""),
            ("unix:/run/relayx.sock", None, ""),
            ("", None, ""),
        ):
            config = {"relay": PORTS, "http": {"endpoint": endpoint}}
            found = [w for w in self.load(config, secrets).warnings if w.key == "http.endpoint"]
            self.assertEqual(len(found), bool(said), (endpoint, found))
            if said:
                self.assertIn(said, str(found[0]))
