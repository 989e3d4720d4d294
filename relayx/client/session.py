"""One session as its FE or its BE has it."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from relayx.client.data import DataConnection
from relayx.client.stream import Stream
from relayx.core.hello import Paired
from relayx.core.messages import PortGrant, Protocol, SessionEnd


class Session:
    """A pairing of one FE and one BE on a port.

    :ivar protocol: the port's label.
    :ivar port: its number.
    :ivar paired: ids and the other side's address.
    :ivar end: the gateway's `session_end` once it came, else None.
    """

    def __init__(self, protocol: Protocol, port: int, connection: DataConnection) -> None:
        self.protocol = protocol
        self.port = port
        self.connection = connection
        self.end: SessionEnd | None = None

    @property
    def paired(self) -> Paired:
        """The gateway's ``RLX1PAIRED`` answer."""
        raise NotImplementedError

    @property
    def stream(self) -> Stream:
        """The session's bytes.

        :raises TypeError: where another protocol was given for them.
        """
        raise NotImplementedError


class LeasedSession(Session):
    """An FE's session with the lease that it came by.

    :ivar grant: the lease.
    """

    grant: PortGrant

    def release(self) -> Deferred[None]:
        """Give the lease back; a running session goes on to its own end. Never fails."""
        raise NotImplementedError
