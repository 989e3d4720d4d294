"""A data connection: HELLO, the gateway's answers, then the session (contract section 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocol,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from relayx.client.errors import ClientError, DataLost, Refused
from relayx.client.halfclose import pass_end_of_stream
from relayx.client.once import Once
from relayx.client.registering import OneProtocol
from relayx.client.sockets import set_up
from relayx.client.stream import Stream
from relayx.client.tls import tls_failure
from relayx.core import hello as wire
from relayx.core.errors import PeerError
from relayx.core.hello import Hello, Paired

ANSWER_TIMEOUT = 10.0
MAX_ANSWER = 16 * 1024

ReceiverMaker = Callable[[Paired], IProtocol]
"""Makes the protocol that a session's bytes go to; `Stream` is one."""


@implementer(IProtocol, IHalfCloseableProtocol)
class DataConnection:
    """One connection to a data port, from HELLO to the end of its session.

    :ivar paired: the gateway's answer, None before the pairing.
    :ivar receiver: what `build` made for the session, None before the pairing.
    """

    __slots__ = (
        "_answer_timeout",
        "_build",
        "_closed",
        "_held",
        "_hello",
        "_paired",
        "_reactor",
        "_timer",
        "_waiting",
        "paired",
        "receiver",
        "transport",
    )

    def __init__(
        self, reactor: IReactorTime, hello: Hello, build: ReceiverMaker, answer_timeout: float
    ) -> None:
        self._reactor = reactor
        self._hello = hello
        self._build = build
        self._answer_timeout = answer_timeout
        self._timer: IDelayedCall | None = None
        self._held = b""
        self._waiting: Once[None] = Once()
        self._paired: Once[IProtocol] = Once()
        self._closed: Once[None] = Once()
        self.transport: Any = None
        self.paired: Paired | None = None
        self.receiver: IProtocol | None = None

    def when_waiting(self) -> Deferred[None]:
        """Fire at ``RLX1OK`` or at once when paired; fail as `when_paired` does."""
        return self._waiting.wait()

    def when_paired(self) -> Deferred[IProtocol]:
        """Fire with the receiver; fail with `Refused` (``RLX1ERR``) or `DataLost`."""
        return self._paired.wait()

    def when_closed(self) -> Deferred[None]:
        """Fire when the connection is gone, for whatever reason."""
        return self._closed.wait()

    def abort(self) -> None:
        """Reset the connection."""
        if not self._closed.settled:
            self.transport.abortConnection()

    # what the transport calls

    def makeConnection(self, transport: Any) -> None:
        """Take the transport, and wait for the answer to HELLO no longer than allowed."""
        self.transport = transport
        set_up(transport)
        self._timer = self._reactor.callLater(self._answer_timeout, self._no_answer)
        self.connectionMade()

    def connectionMade(self) -> None:
        """Say HELLO."""
        self.transport.write(wire.encode_hello(self._hello))

    def dataReceived(self, data: bytes) -> None:
        """Read the answers, and pass on what comes after the pairing."""
        if self.receiver is not None:
            self.receiver.dataReceived(data)
            return
        self._held += data
        while self.receiver is None and not self._paired.settled:
            line, newline, rest = self._held.partition(b"\n")
            if not newline:
                if len(line) > MAX_ANSWER:
                    self._fail(DataLost(f"the gateway's answer is longer than {MAX_ANSWER} bytes"))
                return
            self._held = rest
            self._answered(line)
        held, self._held = self._held, b""
        if held and self.receiver is not None:
            self.receiver.dataReceived(held)

    def _answered(self, line: bytes) -> None:
        self._stop_timer()
        try:
            answer = wire.decode_answer(line)
        except PeerError as error:
            self._fail(DataLost(error.text))
            return
        if isinstance(answer, wire.Refused):
            self._fail(Refused(answer.error_code, answer.error))
        elif isinstance(answer, Paired):
            self._begin(answer)
        else:
            self._waiting.fire(None)

    def _begin(self, paired: Paired) -> None:
        self.paired = paired
        try:
            receiver = self._build(paired)
            receiver.makeConnection(self.transport)
        except Exception:
            self._settle(Failure())
            self.transport.abortConnection()
            return
        self.receiver = receiver
        self._waiting.fire(None)
        self._paired.fire(receiver)

    def _no_answer(self) -> None:
        self._fail(DataLost(f"the gateway did not answer HELLO in {self._answer_timeout:g} s"))

    def _fail(self, error: ClientError) -> None:
        self._settle(Failure(error))
        self.transport.loseConnection()

    def _settle(self, failure: Failure) -> None:
        self._stop_timer()
        self._waiting.fail(failure)
        self._paired.fail(failure)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def readConnectionLost(self) -> None:
        """The gateway has ended its direction."""
        if self.receiver is not None:
            pass_end_of_stream(self.receiver, self.transport)
        else:
            self._fail(DataLost("the gateway closed the connection before it was paired"))

    def writeConnectionLost(self) -> None:
        """Our direction has ended."""
        half = IHalfCloseableProtocol(self.receiver, None)
        if half is not None:
            half.writeConnectionLost()

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone."""
        why = DataLost(f"lost before the pairing: {reason.getErrorMessage()}")
        self._settle(Failure(tls_failure(reason, self.transport) or why))
        if self.receiver is not None:
            self.receiver.connectionLost(reason)
        self._closed.fire(None)


def open_data(
    reactor: IReactorTime,
    endpoint: IStreamClientEndpoint,
    hello: Hello,
    *,
    build: ReceiverMaker | None = None,
    answer_timeout: float = ANSWER_TIMEOUT,
) -> Deferred[DataConnection]:
    """Dial a data port and say `hello`, which must ask for answers (``ack``).

    Fires once connected, before any answer. A first answer that has not come within
    `answer_timeout` seconds fails the connection with `DataLost`.

    :param build: makes the protocol for the bytes; `Stream` by default.
    :raises ValueError: where `hello` does not ask for answers.
    """
    if not hello.ack:
        raise ValueError("HELLO must ask for answers: ack is false")
    connection = DataConnection(reactor, hello, build or Stream, answer_timeout)
    dialled: Deferred[Any] = endpoint.connect(OneProtocol(connection))
    return dialled.addCallback(lambda _: connection)
