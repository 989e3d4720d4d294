"""In-memory gateways for the client's tests: no sockets, no waiting, the real wire."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from relayx.client import Gateway
from relayx.core.codec import ObjectStream, decode_envelope, decode_payload, encode
from relayx.core.hello import Hello, HelloReader, Paired, Waiting, encode_answer
from relayx.core.messages import REQUESTS, Auth, Message, Ping, Pong, PortState, Register

GATEWAY = Gateway("127.0.0.1", 5555, "a-secret")
PAIRED = Paired(
    pairing_id="p-1", session_id="s-1", client_id="other", address="10.0.0.9", trace_id="t-1"
)


class MemoryTransport(StringTransport):
    """A transport that can half-close, and remembers what was asked of it.

    :ivar aborted: whether `abortConnection` was called.
    :ivar write_ended: whether `loseWriteConnection` was called.
    """

    aborted = False
    write_ended = False

    def abortConnection(self) -> None:
        """Remember."""
        self.aborted = True

    def loseWriteConnection(self) -> None:
        """Remember."""
        self.write_ended = True

    def taken(self) -> bytes:
        """What was written since the last call."""
        data: bytes = self.value()
        self.clear()
        return data


def reset() -> Failure:
    """The reason of a connection that broke."""
    return Failure(ConnectionLost())


def done() -> Failure:
    """The reason of a connection that was closed in order."""
    return Failure(ConnectionDone())


class Dialled:
    """The gateway's end of the newest connection that a client made on a memory reactor."""

    def __init__(self, reactor: MemoryReactorClock) -> None:
        self.host, self.port, factory, self.timeout, _ = reactor.tcpClients.pop()
        self.transport = MemoryTransport()
        self.protocol: Any = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    def receive(self, data: bytes) -> None:
        """The client gets `data`."""
        self.protocol.dataReceived(data)

    def lose(self, reason: Failure | None = None) -> None:
        """The connection ends."""
        self.protocol.connectionLost(reason or reset())


class ControlPeer(Dialled):
    """The gateway's end of a control connection."""

    def __init__(self, reactor: MemoryReactorClock) -> None:
        super().__init__(reactor)
        self._objects = ObjectStream(65536)
        self.msg_ids: dict[Message, str] = {}
        self.trace_ids: dict[Message, str] = {}

    def heard(self, *, pings: bool = False) -> list[Message]:
        """The messages that the client sent since the last call, pings left out."""
        messages = []
        for raw in self._objects.feed(self.transport.taken()):
            envelope = decode_envelope(raw)
            message = decode_payload(envelope, REQUESTS)
            self.msg_ids[message] = envelope.msg_id
            self.trace_ids[message] = envelope.trace_id
            if pings or not isinstance(message, Ping):
                messages.append(message)
        return messages

    def answer_pings(self) -> None:
        """Send a pong for each ping since the last call."""
        for message in self.heard(pings=True):
            if isinstance(message, Ping):
                self.say(Pong(c_send=message.c_send, s_recv=1, s_send=2))

    def say(self, message: Message | str, trace_id: str = "") -> None:
        """Send one message."""
        self.receive(encode(message, trace_id=trace_id))

    def admit(self, client_id: str = "c-1") -> Register:
        """Answer `register` with yes, and return it."""
        (register,) = self.heard()
        assert isinstance(register, Register)
        self.say(Auth(status="ok", client_id=client_id, server="gw", protocol="1.1"))
        return register

    def refuse(self, code: str) -> None:
        """Answer `register` with no, and close."""
        self.say(Auth(status="error", error_code=code, error="no"))
        self.lose(done())


class DataPeer(Dialled):
    """The gateway's end of a data connection."""

    def hello(self) -> Hello:
        """The HELLO that the client said."""
        read = HelloReader().feed(self.transport.taken())
        assert read is not None
        return read[0]

    def answer(self, *answers: Any) -> None:
        """Send answers in one segment."""
        self.receive(b"".join(encode_answer(answer) for answer in answers))

    def wait(self) -> None:
        """Let a BE wait."""
        self.answer(Waiting())

    def pair(self, pairing_id: str = "p-1") -> None:
        """Pair the connection."""
        self.answer(
            Paired(
                pairing_id=pairing_id,
                session_id="s-1",
                client_id="other",
                address="10.0.0.9",
                trace_id="t-1",
            )
        )


def refuse_dial(reactor: MemoryReactorClock) -> None:
    """Let the newest dialling fail: nobody listens."""
    *_, factory, _, _ = reactor.tcpClients.pop()
    factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))


def port_state(zmq: Any = (), srt: Any = (), total: int = 100) -> PortState:
    """A `port_state` with these empty ports."""
    return PortState(
        zmq_total=total,
        srt_total=total,
        zmq_busy=0,
        srt_busy=0,
        zmq_ready_ports=(),
        srt_ready_ports=(),
        zmq_empty_ports=tuple(zmq),
        srt_empty_ports=tuple(srt),
    )
