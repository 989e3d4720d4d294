"""Addresses that the gateway sees, and where it listens (contract sections 1 and 6)."""

from __future__ import annotations

import socket

from twisted.trial.unittest import TestCase

from tests.live import Gateway, live


def _has_ipv6() -> bool:
    if not socket.has_ipv6:
        return False
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


class Interfaces(TestCase):
    """data.interface (section 1)."""

    @live(data={"interface": ""})
    def test_every_ipv4_address(self, gateway: Gateway) -> None:
        """Section 1: "" is every IPv4 address."""
        gateway.fe(), gateway.be()
        be = gateway.waiting(gateway.zmq[0])
        gateway.host = "127.0.0.1"
        fe = gateway.entering(gateway.zmq[0])
        self.assertEqual(fe.expect("RLX1PAIRED")["address"], "127.0.0.1")
        be.expect("RLX1PAIRED")

    @live(data={"interface": "::"})
    def test_mapped_addresses(self, gateway: Gateway) -> None:
        """Sections 1 and 6: dual stack; an IPv4-mapped address counts as IPv4."""
        gateway.fe(), gateway.be(source="127.0.0.31")
        be = gateway.waiting(gateway.zmq[0], source="127.0.0.31")
        fe = gateway.entering(gateway.zmq[0])
        self.assertEqual(fe.expect("RLX1PAIRED")["address"], "127.0.0.31")
        self.assertEqual(be.expect("RLX1PAIRED")["address"], "127.0.0.1")
        stranger = gateway.entering(gateway.zmq[1], source="127.0.0.32")
        self.assertEqual(stranger.refusal(), "NOT_ADMITTED")

    if not _has_ipv6():
        test_mapped_addresses.skip = "no IPv6 here"  # type: ignore[attr-defined]
