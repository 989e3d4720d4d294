"""One session as its FE or its BE has it."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProtocol

from relayx.client.data import DataConnection
from relayx.client.stream import Stream
from relayx.core.hello import Paired
from relayx.core.messages import PortGrant, Protocol, SessionEnd


class Session:
    """A pairing of one FE and one BE on a port.

    :ivar protocol: the port's label.
    :ivar port: its number.
    :ivar paired: ids and the other side's address.
    :ivar connection: the data connection.
    :ivar receiver: the protocol that has the bytes, a `Stream` unless another was asked for.
    :ivar end: the gateway's `session_end` once it came, else None.
    """

    def __init__(
        self,
        protocol: Protocol,
        port: int,
        connection: DataConnection,
        paired: Paired,
        receiver: IProtocol,
    ) -> None:
        self.protocol = protocol
        self.port = port
        self.connection = connection
        self.paired = paired
        self.receiver = receiver
        self.end: SessionEnd | None = None

    @property
    def stream(self) -> Stream:
        """The session's bytes.

        :raises TypeError: where another protocol was asked for.
        """
        if not isinstance(self.receiver, Stream):
            raise TypeError(f"the bytes go to a {type(self.receiver).__name__}, not to a Stream")
        return self.receiver

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.paired.pairing_id} {self.protocol} {self.port}>"


class LeasedSession(Session):
    """An FE's session with the lease that it came by.

    :ivar grant: the lease.
    """

    def __init__(
        self,
        protocol: Protocol,
        port: int,
        connection: DataConnection,
        paired: Paired,
        receiver: IProtocol,
        grant: PortGrant,
        release: Callable[[str], Deferred[None]],
    ) -> None:
        super().__init__(protocol, port, connection, paired, receiver)
        self.grant = grant
        self._release: Callable[[str], Deferred[None]] | None = release

    def release(self) -> Deferred[None]:
        """Give the lease back; a running session goes on to its own end.

        Never fails: a lease that the gateway does not know any more is over too.
        """
        release, self._release = self._release, None
        if release is None:
            return succeed(None)
        return release(self.grant.session_id).addErrback(lambda _: None)
