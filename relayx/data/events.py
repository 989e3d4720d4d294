"""What happens on the data plane, told to whoever has the rules."""

from __future__ import annotations

from typing import Protocol

from relayx.core.hello import Hello
from relayx.core.messages import Role
from relayx.core.pairing import Outcome


class Events(Protocol):
    """Who is told what happens on the data plane."""

    def said_hello(self, link: int, port: int, address: str, hello: Hello) -> None:
        """A connection has said who it is."""

    def takes_zmtp(self, port: int) -> bool:
        """Whether somebody may come to a port without HELLO, by ZMTP."""

    def role_by_state(self, port: int, address: str, kind: str, shown: bool) -> Role:
        """Which role somebody has who comes without HELLO.

        :param kind: of socket, "" if not known.
        :param shown: whether it has shown credentials of PLAIN.
        """

    def said_zmtp(
        self, link: int, port: int, address: str, credentials: tuple[str, str] | None, kind: str
    ) -> None:
        """A connection has come without HELLO, and what it says of itself by PLAIN.

        Told again of one that was taken for a BE and then shows credentials, while it waits.
        """

    def hello_failed(self, port: int, address: str, text: str) -> None:
        """A connection was closed because of its HELLO, or for want of one."""

    def link_lost(self, link: int) -> None:
        """A connection that waited has ended."""

    def session_draining(self, pairing_id: str) -> None:
        """The FE of a kept BE has ended its stream."""

    def session_over(self, pairing_id: str, outcome: Outcome) -> None:
        """A session's port leaves ``busy``."""

    def zmq_replied(self, pattern: str, seconds: list[float]) -> None:
        """Replies of ZeroMQ have gone through, so long after their requests."""
