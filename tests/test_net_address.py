"""Addresses in one spelling (contract section 6: mapped IPv6 addresses count as IPv4)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from relayx.net.address import plain


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
