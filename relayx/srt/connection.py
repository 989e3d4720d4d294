"""One SRT connection as the rules see it: who it is, where it waits, what it is paired with."""

from __future__ import annotations

from relayx.core.hello import Hello
from relayx.net.proxy import Address
from relayx.srt.binding import Peer


class SrtConnection:
    """An accepted connection, or one that was dialled.

    :ivar link: its number to the rules.
    :ivar sock: libsrt's.
    :ivar address: the peer's.
    :ivar route: where the peer is, and where it connected to.
    :ivar publishes: its stream id said ``m=publish``.
    :ivar waiting: it is in no session.
    """

    __slots__ = ("address", "hello", "link", "port", "publishes", "route", "sock", "waiting")

    def __init__(
        self, link: int, sock: int, port: int, peer: Peer, here: str, hello: Hello, publishes: bool
    ) -> None:
        self.link = link
        self.sock = sock
        self.port = port
        self.address = peer.host
        self.route = Address(peer.host, peer.port), Address(here, port)
        self.hello = hello
        self.publishes = publishes
        self.waiting = False
