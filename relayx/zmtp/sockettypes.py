"""Which socket types talk to each other (RFC 37, The Socket-Type Property)."""

from __future__ import annotations

PEERS: dict[str, tuple[str, ...]] = {
    "REQ": ("REP", "ROUTER"),
    "REP": ("REQ", "DEALER"),
    "DEALER": ("REP", "DEALER", "ROUTER"),
    "ROUTER": ("REQ", "DEALER", "ROUTER"),
    "PUB": ("SUB", "XSUB"),
    "XPUB": ("SUB", "XSUB"),
    "SUB": ("PUB", "XPUB"),
    "XSUB": ("PUB", "XPUB"),
    "PUSH": ("PULL",),
    "PULL": ("PUSH",),
    "PAIR": ("PAIR",),
    "CLIENT": ("SERVER",),
    "SERVER": ("CLIENT",),
    "RADIO": ("DISH",),
    "DISH": ("RADIO",),
    "SCATTER": ("GATHER",),
    "GATHER": ("SCATTER",),
    "PEER": ("PEER",),
    "CHANNEL": ("CHANNEL",),
}
"""Each type with those that may be at the other end of its connections."""


PATTERNS = ("req_rep", "push_pull", "pub_sub", "pair", "dealer_router", "other")
"""What two sockets are to each other, for metrics; other: drafts, and where it is encrypted."""

_PATTERN_OF = {
    frozenset(("REQ", "REP")): "req_rep",
    frozenset(("PUSH", "PULL")): "push_pull",
    frozenset(("PAIR",)): "pair",
}
_FAMILIES = (
    (frozenset(("PUB", "XPUB", "SUB", "XSUB")), "pub_sub"),
    (frozenset(("REQ", "REP", "DEALER", "ROUTER")), "dealer_router"),
)


def pattern_of(type_a: str, type_b: str) -> str:
    """Which of `PATTERNS` two socket types that talk to each other make."""
    both = frozenset((type_a, type_b))
    found = _PATTERN_OF.get(both)
    if found is not None:
        return found
    return next((pattern for family, pattern in _FAMILIES if both <= family), "other")


def compatible(type_a: str, type_b: str) -> bool:
    """Whether two socket types may be connected. "" (not told, or encrypted) goes with any."""
    if not type_a or not type_b:
        return all(name in PEERS for name in (type_a, type_b) if name)
    return type_b in PEERS.get(type_a, ())


def incompatibility(type_a: str, type_b: str) -> str:
    """A sentence that says why two socket types are refused, and what goes with them."""
    for name in (type_a, type_b):
        if name and name not in PEERS:
            known = ", ".join(PEERS)
            return f"{name} is not a socket type; those are {known}"
    allowed = " or ".join(PEERS.get(type_a, ()))
    return f"{type_a} does not talk to {type_b}; it does to {allowed}"
