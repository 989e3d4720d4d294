"""A data connection: HELLO, the gateway's answers, then the session (contract section 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint

from relayx.core.hello import Hello, Paired

ReceiverMaker = Callable[[Paired], IProtocol]
"""Makes the protocol that a session's bytes go to; `Stream` is one."""


class DataConnection:
    """One connection to a data port, from HELLO to the end of its session.

    :ivar paired: the gateway's answer, None before the pairing.
    :ivar receiver: what `build` made for the session, None before the pairing.
    """

    def when_waiting(self) -> Deferred[None]:
        """Fire at ``RLX1OK`` or at once when paired; fail as `when_paired` does."""
        raise NotImplementedError

    def when_paired(self) -> Deferred[IProtocol]:
        """Fire with the receiver; fail with `Refused` (``RLX1ERR``) or `DataLost`."""
        raise NotImplementedError

    def when_closed(self) -> Deferred[None]:
        """Fire when the connection is gone, for whatever reason."""
        raise NotImplementedError

    def abort(self) -> None:
        """Reset the connection."""


def open_data(
    reactor: Any,
    endpoint: IStreamClientEndpoint,
    hello: Hello,
    *,
    build: ReceiverMaker | None = None,
    answer_timeout: float = 10.0,
) -> Deferred[DataConnection]:
    """Dial a data port and say `hello`, which must ask for answers (``ack``).

    Fires once connected, before any answer. A first answer that has not come within
    `answer_timeout` seconds fails the connection with `DataLost`.
    """
    raise NotImplementedError
