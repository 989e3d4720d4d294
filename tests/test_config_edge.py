"""The rules for ``data.tls`` and ``proxy_protocol``."""

from __future__ import annotations

from tests.config_files import Files


class Tls(Files):
    """Section ``data.tls``: both files or neither."""

    def test_one_file_alone(self) -> None:
        for key, other in (("certificate", "private_key"), ("private_key", "certificate")):
            fault = self.fault({"data": {"tls": {key: "x.pem"}}})
            self.assertEqual(fault.key, f"data.tls.{other}")
            self.assertIn(f"data.tls.{key}", fault.problem)

    def test_required_without_files(self) -> None:
        fault = self.fault({"data": {"tls": {"required": True}}})
        self.assertEqual((fault.key, fault.value), ("data.tls.required", "true"))

    def test_a_broken_key_is_reported_once(self) -> None:
        fault = self.fault({"data": {"tls": {"certificate": 5, "required": True}}})
        self.assertEqual(fault.key, "data.tls.certificate")


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
