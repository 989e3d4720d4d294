"""Addresses in one spelling (contract section 6: mapped IPv6 addresses count as IPv4)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from relayx.net.address import Networks, plain


class Plain(SynchronousTestCase):
    """One spelling an address."""

    def test_ipv4(self) -> None:
        self.assertEqual(plain("192.0.2.1"), "192.0.2.1")

    def test_mapped(self) -> None:
        for spelling in ("::ffff:192.0.2.1", "::FFFF:192.0.2.1", "::ffff:c000:201"):
            self.assertEqual(plain(spelling), "192.0.2.1")

    def test_ipv6(self) -> None:
        for spelling in ("2001:db8::1", "2001:DB8::1", "2001:0db8:0:0:0:0:0:1"):
            self.assertEqual(plain(spelling), "2001:db8::1")
        self.assertEqual(plain("::1"), "::1")

    def test_something_else(self) -> None:
        self.assertEqual((plain(""), plain("socket")), ("", "socket"))


class Sets(SynchronousTestCase):
    """Sets of addresses, as proxy_protocol.trusted names them."""

    def test_addresses_and_networks(self) -> None:
        some = Networks(["10.0.0.1", "192.168.4.0/22", "2001:db8::/32", "::ffff:172.16.0.0/108"])
        for host in (
            "10.0.0.1", "::ffff:10.0.0.1", "192.168.7.255", "2001:db8:1::1", "172.16.0.9",
            "::ffff:172.31.255.255",
        ):  # fmt: skip
            self.assertIn(host, some)
            self.assertIn(host, some)  # as it is known by now
        for host in ("10.0.0.2", "192.168.8.0", "2001:db9::1", "172.32.0.1", "", "nonsense"):
            self.assertNotIn(host, some)

    def test_many_hosts(self) -> None:
        some = Networks(["10.0.0.0/9"])
        for number in range(5000):
            self.assertIn(f"10.0.{number // 256}.{number % 256}", some)

    def test_empty(self) -> None:
        self.assertFalse(Networks([]))
        self.assertNotIn("10.0.0.1", Networks([]))

    def test_not_an_address(self) -> None:
        self.assertRaises(ValueError, Networks, ["10.0.0.1/8"])
        self.assertRaises(ValueError, Networks, ["balancer"])
