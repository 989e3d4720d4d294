"""One SRT connection as the rules see it: who it is, where it waits, what it is paired with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relayx.core.hello import Hello
from relayx.core.ports import Way
from relayx.net.proxy import Address
from relayx.srt.binding import Peer

if TYPE_CHECKING:
    from relayx.srt.dialing import Caller


class SrtConnection:
    """An accepted connection, or one that was dialled.

    :ivar link: its number to the rules.
    :ivar sock: libsrt's.
    :ivar address: the peer's.
    :ivar route: where the peer is, and where it connected to.
    :ivar way: how it came, for the rules.
    :ivar caller: who called it, None of one that came by itself.
    :ivar came: when, by time.monotonic(): before the peer knows that it is connected.
    :ivar waiting: it is in no session.
    :ivar served: it is in one, or has been.
    """

    __slots__ = (
        "address", "caller", "came", "hello", "link", "port", "route", "served", "sock", "waiting",
        "way",
    )  # fmt: skip

    def __init__(
        self,
        link: int,
        sock: int,
        port: int,
        peer: Peer,
        here: str,
        hello: Hello,
        came: float,
        way: Way,
        caller: Caller | None = None,
    ) -> None:
        self.link = link
        self.sock = sock
        self.port = port
        self.address = peer.host
        self.route = Address(peer.host, peer.port), Address(here, port)
        self.hello = hello
        self.way = way
        self.caller = caller
        self.came = came
        self.waiting = False
        self.served = False
