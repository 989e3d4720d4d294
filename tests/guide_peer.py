"""A client of the gateway written from the guide alone (backend_dev_guide, sections 2 and 4).

Plain blocking sockets, every wait with a deadline, and nothing of relayx: what works with
these peers works for somebody who has only read the guide. :class:`Control` is a control
connection, :class:`Data` a data connection, :class:`EchoBackEnd` the guide's back end that
connects each empty port once and answers with what it gets.
"""

from __future__ import annotations

import fcntl
import json
import select
import socket
import struct
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

DEADLINE = 60.0
"""Seconds that a peer waits for anything before the test fails; a busy machine needs many."""


class EndedError(Exception):
    """The gateway ended its stream."""


class WasResetError(Exception):
    """The gateway reset the connection."""


class Peer:
    """A connected socket on which every wait has a deadline.

    :param address: host and port of the gateway.
    :param source: local address to come from, "" for the system's choice.
    :param receive_buffer: bytes of the socket's receive buffer, 0 for the system's choice.
    """

    def __init__(
        self, address: tuple[str, int], *, source: str = "", receive_buffer: int = 0
    ) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.held = b""
        try:
            self.socket.settimeout(DEADLINE)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if receive_buffer:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            if source:
                self.socket.bind((source, 0))
            self.socket.connect(address)
        except BaseException:
            self.socket.close()
            raise

    def send(self, data: bytes) -> None:
        """Send everything, in as few segments as the system makes of it."""
        try:
            self.socket.sendall(data)
        except (ConnectionResetError, BrokenPipeError) as error:
            raise WasResetError(str(error)) from None

    def send_bytewise(self, data: bytes) -> None:
        """Send one byte a segment."""
        for index in range(len(data)):
            self.send(data[index : index + 1])

    def fill(self, within: float = DEADLINE) -> None:
        """Wait for more bytes.

        :raises EndedError: at the end of the stream.
        :raises WasResetError: after a reset.
        :raises TimeoutError: where nothing came.
        """
        self.socket.settimeout(max(within, 0.001))
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionResetError as error:
            raise WasResetError(str(error)) from None
        finally:
            self.socket.settimeout(DEADLINE)
        if not data:
            raise EndedError
        self.held += data

    def shutdown(self) -> None:
        """End the stream in our direction only."""
        self.socket.shutdown(socket.SHUT_WR)

    def wait_until_acknowledged(self) -> None:
        """Wait until the gateway's system has everything that was sent.

        Only so does a reset that follows not destroy bytes on our own side.
        """
        deadline = time.monotonic() + DEADLINE
        while struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, bytes(4)))[0]:
            if time.monotonic() > deadline:
                raise TimeoutError("what was sent is not acknowledged")
            select.select([self.socket], [], [], 0.002)

    def close(self) -> None:
        """Close, as a program that is done with the connection does."""
        self.socket.close()

    def reset(self) -> None:
        """Close with a reset (SO_LINGER with no time)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class Control(Peer):
    """A control connection. Every message read is kept in `log`, oldest first."""

    _decoder = json.JSONDecoder()

    def __init__(self, address: tuple[str, int], **options: Any) -> None:
        super().__init__(address, **options)
        self.log: list[dict[str, Any]] = []
        self.auth: dict[str, Any] = {}
        self._beats = 0
        self._complete: deque[dict[str, Any]] = deque()

    def say(self, kind: str, payload: Any = None, **envelope: Any) -> None:
        """Send one message as the guide's examples have it, on a line of its own."""
        self.send(message(kind, payload, **envelope) + b"\n")

    def read(self, within: float = DEADLINE) -> dict[str, Any]:
        """The next message, the way Go's json.Decoder reads a stream of objects."""
        deadline = time.monotonic() + within
        while not self._complete:
            self.fill(deadline - time.monotonic())
            self._split()
        found = self._complete.popleft()
        self.log.append(found)
        return found

    def _split(self) -> None:
        """Take the complete objects out of what is held."""
        try:
            text, cut = self.held.decode(), b""
        except UnicodeDecodeError as error:
            text, cut = self.held[: error.start].decode(), self.held[error.start :]
        start = self._begin(text, 0)
        while start < len(text):
            try:
                found, end = self._decoder.raw_decode(text, start)
            except ValueError:
                break  # the rest of it is still to come
            self._complete.append(found)
            start = self._begin(text, end)
        self.held = text[start:].encode() + cut

    def _begin(self, text: str, start: int) -> int:
        """Where the next object begins."""
        while start < len(text) and text[start].isspace():
            start += 1
        return start

    def find(
        self, kind: str, where: Callable[[dict[str, Any]], bool] = lambda payload: True
    ) -> dict[str, Any]:
        """Read on to the first message of a type whose payload is as asked; the message."""
        deadline = time.monotonic() + DEADLINE
        while True:
            found = self.read(deadline - time.monotonic())
            if found["type"] == kind and where(found.get("payload") or {}):
                return found

    def expect(self, kind: str, **wanted: Any) -> dict[str, Any]:
        """Read on to the first message of a type that has these values; its payload."""
        found = self.find(
            kind, lambda payload: all(payload.get(key) == wanted[key] for key in wanted)
        )
        return found["payload"]

    def rest(self) -> list[dict[str, Any]]:
        """All messages up to the end of the stream."""
        found = []
        while True:
            try:
                found.append(self.read())
            except EndedError:
                return found

    def register(self, role: str, secret: str, client_id: str = "") -> dict[str, Any]:
        """Register and return the payload of ``auth``, good or bad."""
        self.say("register", {"role": role, "secret": secret, "client_id": client_id})
        self.auth = self.expect("auth")
        return self.auth

    def ping(self) -> list[dict[str, Any]]:
        """Ping, wait for the answer, and return the messages that came before it."""
        self._beats += 1
        before = len(self.log)
        self.say("ping", {"c_send": self._beats})
        self.expect("pong", c_send=self._beats)
        return self.log[before:-1]

    def state(self, where: Callable[[dict[str, Any]], bool] = lambda state: True) -> dict[str, Any]:
        """Ask for the port state and read on until it is as asked.

        The answer is known by its trace_id: what was pushed before it is out of date.
        """
        self._beats += 1
        trace_id = f"state-{self._beats}"
        self.say("port_state_q", {"need_zmq": False, "need_srt": False}, trace_id=trace_id)
        found = self.find("port_state")
        while found.get("trace_id") != trace_id:
            found = self.find("port_state")
        if not where(found["payload"]):
            found = self.find("port_state", where)
        return found["payload"]

    def acquire(self, **wanted: Any) -> dict[str, Any]:
        """Acquire and return the payload of the grant, good or bad.

        The request id is found again in the answer; a zmq port is asked for unless told else.
        """
        request_id = wanted.setdefault("request_id", f"request-{id(self)}-{len(self.log)}")
        if "need_zmq" not in wanted and "need_srt" not in wanted:
            wanted["need_zmq"] = True
        self.say("port_acquire", wanted)
        return self.expect("port_grant", request_id=request_id)


class Data(Peer):
    """A data connection."""

    def hello(self, role: str, client_id: str = "", *, first: bytes = b"", **fields: Any) -> None:
        """Say HELLO, with the session's first bytes in the same segment."""
        self.send(hello_line(role, client_id, **fields) + first)

    def receive(self, size: int) -> bytes:
        """Exactly `size` bytes."""
        deadline = time.monotonic() + DEADLINE
        pieces, missing = [], size
        while len(self.held) < missing:
            missing -= len(self.held)
            pieces.append(self.held)
            self.held = b""
            self.fill(deadline - time.monotonic())
        pieces.append(self.held[:missing])
        self.held = self.held[missing:]
        return b"".join(pieces)

    def receive_line(self) -> bytes:
        """Up to and without the next newline."""
        deadline = time.monotonic() + DEADLINE
        while b"\n" not in self.held:
            self.fill(deadline - time.monotonic())
        line, _, self.held = self.held.partition(b"\n")
        return line

    def rest(self) -> tuple[bytes, str]:
        """Everything up to the connection's end, and how that was: "end" or "reset"."""
        deadline = time.monotonic() + DEADLINE
        pieces = []
        while True:
            pieces.append(self.held)
            self.held = b""
            try:
                self.fill(deadline - time.monotonic())
            except (EndedError, WasResetError) as ended:
                return b"".join(pieces), "end" if isinstance(ended, EndedError) else "reset"


class EchoBackEnd:
    """The guide's back end: one connection to each empty port, for good; it echoes.

    :param dial: opens a data connection to a port.
    :param ports: where to wait.
    :param client_id: what HELLO carries, whatever was said at registration.
    """

    def __init__(
        self, dial: Callable[[int], Data], ports: Iterable[int], client_id: str = ""
    ) -> None:
        self.links: dict[int, Data] = {}
        self.threads: list[threading.Thread] = []
        self.ended: dict[int, str] = {}
        for port in ports:
            link = self.links[port] = dial(port)
            link.hello("BE", client_id)
            thread = threading.Thread(target=self._echo, args=(port, link), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _echo(self, port: int, link: Data) -> None:
        while True:
            try:
                link.fill(60)
                answer, link.held = link.held, b""
                link.send(answer)
            except (EndedError, WasResetError, OSError) as ended:
                self.ended[port] = type(ended).__name__
                return

    def stop(self) -> None:
        """Close every connection and wait for the threads."""
        for link in self.links.values():
            try:
                link.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the gateway was first
            link.close()
        for thread in self.threads:
            thread.join(DEADLINE)


def message(kind: str, payload: Any = None, **envelope: Any) -> bytes:
    """One control message without a newline."""
    return json.dumps({"type": kind, "payload": payload, **envelope}).encode()


def hello_line(role: str, client_id: str = "", **fields: Any) -> bytes:
    """The line that begins a data connection, newline included."""
    return (
        b"RLX1HELLO "
        + json.dumps({"role": role, "client_id": client_id, **fields}).encode()
        + b"\n"
    )
