"""What clients may do by their ids: ``clients`` of the configuration (contract section 1).

The first entry that matches a client's id holds for it alone. The id that counts is the one
that the client asked for, or had before where its instance comes back; for a name that the
gateway made up it is "".
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from functools import lru_cache

import msgspec

from relayx.core.codec import MAX_CLIENT_ID
from relayx.core.errors import Code, PeerError
from relayx.core.messages import Protocol, Role

_CACHED = 4096


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for the clients whose ids match a pattern.

    :ivar match: the pattern, with ``*`` for any characters and ``?`` for one.
    :ivar max_leases: most leases of each client at once, None for no limit.
    :ivar bandwidth: bits/s of each over all its sessions, both directions; 0 for no limit.
    :ivar own_secret: its clients have a secret of their own.
    """

    match: str = "*"
    roles: tuple[Role, ...] = tuple(Role)
    protocols: tuple[Protocol, ...] = tuple(Protocol)
    max_leases: int | None = None
    bandwidth: int = 0
    own_secret: bool = False

    def check_role(self, role: Role) -> None:
        """:raises PeerError: ``AUTH_FAILED`` where the clients may not register in that role."""
        if role not in self.roles:
            allowed = " and ".join(self.roles)
            raise PeerError(
                Code.AUTH_FAILED, f"this client may not register as {role}; allowed: {allowed}"
            )

    def check_protocol(self, protocol: Protocol, code: Code) -> None:
        """:raises PeerError: with `code` where the clients may not use ports of a protocol."""
        if protocol not in self.protocols:
            allowed = " and ".join(self.protocols)
            raise PeerError(
                code, f"this client may not use {protocol} ports; allowed: {allowed} ports"
            )


ANYBODY = Policy()
"""What holds for a client that no entry matches."""


class Policies:
    """The entries in their order.

    :ivar by_protocol: whether any of them leaves a protocol out.
    :ivar by_bandwidth: whether any of them limits the bandwidth.
    """

    def __init__(self, entries: Iterable[Policy] = ()) -> None:
        self._entries = [(compiled(entry.match), entry) for entry in entries]
        self.by_protocol = any(len(set(e.protocols)) < len(Protocol) for _, e in self._entries)
        self.by_bandwidth = any(entry.bandwidth for _, entry in self._entries)
        self._cached = lru_cache(_CACHED)(self._find)

    def of(self, client_id: str) -> Policy:
        """The policy of a client's id, "" for one whose name the gateway made up."""
        if not self._entries:
            return ANYBODY
        if len(client_id) > MAX_CLIENT_ID:  # nobody's, and as long as a message may be
            return self._find(client_id)
        return self._cached(client_id)

    def _find(self, client_id: str) -> Policy:
        for pattern, entry in self._entries:
            if pattern.match(client_id):
                return entry
        return ANYBODY


def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern of ids as a regular expression that looks at each character a few times at most.

    ``*`` and ``?`` alone mean something; upper and lower case differ.
    """
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]")))
