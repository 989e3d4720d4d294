"""The rules for section ``proxy_protocol``."""

from __future__ import annotations

from tests.config_files import Files


class Proxies(Files):
    """``proxy_protocol.trusted``: addresses and networks."""

    def test_good(self) -> None:
        trusted = ["10.0.0.1", "10.1.0.0/16", "2001:db8::/32", "::1", "::ffff:10.0.0.1"]
        loaded = self.load({"proxy_protocol": {"trusted": trusted}})
        self.assertEqual(loaded.config.proxy_protocol.trusted, tuple(trusted))

    def test_each_that_is_wrong(self) -> None:
        for entry, words in (
            ("balancer", "neither an address nor a network"),
            ("10.0.0.0/33", "neither"),
            ("", "neither"),
            ("10.1.2.3/16", "an address within 10.1.0.0/16"),
        ):
            fault = self.fault({"proxy_protocol": {"trusted": ["10.0.0.1", entry]}})
            self.assertEqual(fault.key, "proxy_protocol.trusted[1]")
            self.assertIn(words, fault.problem)
