"""Programs of ZeroMQ in C and for Node, those of docs/zmq.rst, through the gateway's brokers."""

from __future__ import annotations

from tests.zmq_gateway import BROKERS, NO_ZMQ, Brokered, brokered
from tests.zmq_programs import PATTERNS, Recipe


def sides(gateway: Brokered) -> dict[str, str]:
    """The endpoint of each role: the frontend or the backend of its pattern's broker."""
    pairs = ("push pull", "pub sub", "req rep")  # in the order of BROKERS
    roles = [role for pair in pairs for role in pair.split()]
    return {
        role: f"tcp://{gateway.host}:{port}" for role, port in zip(roles, gateway.zmq, strict=False)
    }


class Languages(Recipe):
    """Each pattern, both sides in one language, and in two."""

    skip = NO_ZMQ

    @brokered(*BROKERS)
    def test_c(self, gateway: Brokered) -> None:
        self.patterns(sides(gateway), "c")

    @brokered(*BROKERS)
    def test_node(self, gateway: Brokered) -> None:
        self.patterns(sides(gateway), "javascript")

    @brokered(*BROKERS)
    def test_mixed(self, gateway: Brokered) -> None:
        """C at one side, Node at the other."""
        at = sides(gateway)
        for one, two, expected in PATTERNS.values():
            self.pair(at[one], f"{one}.c", f"{two}.mjs", expected, at[two])
            self.pair(at[one], f"{one}.mjs", f"{two}.c", expected, at[two])
