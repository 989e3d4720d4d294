"""A client of the admin HTTP: treq in the reactor, asked from the thread that a test runs in."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Coroutine, Iterator
from email.message import Message
from queue import SimpleQueue
from typing import Any, TypeVar

from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.threads import blockingCallFromThread
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

from tests.guide_peer import DEADLINE
from tests.live import Gateway

HTTP = {"endpoint": "tcp:0:interface=127.0.0.1"}
"""Section ``http`` of a gateway that is looked at: any free port."""

TOKEN = "token-for-the-tests-of-more-than-32-bytes"

UNANSWERED = (ResponseFailed, RequestTransmissionFailed)
"""What is raised where the connection ends before the answer, or within it."""

T = TypeVar("T")


def in_time(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Have something done in the reactor; wait for it, in a test's thread."""

    def begin() -> Deferred[T]:
        return Deferred.fromCoroutine(work()).addTimeout(DEADLINE, reactor)

    found: T = blockingCallFromThread(reactor, begin)  # type: ignore[arg-type]  # typed as a module
    return found


class Answer:
    """What was answered: status, headers, and the whole body."""

    def __init__(self, status: int, headers: Message, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of an error."""
        body = self.json
        if not body["error"]:
            raise AssertionError("an error says in English what was wrong")
        return str(body["error_code"])


def http_address(gateway: Gateway) -> tuple[str, int]:
    """Where a gateway's admin HTTP listens."""
    address = gateway.service.http_address
    return address.host, address.port


def url_of(gateway: Gateway, path: str) -> str:
    """Where a path of it is."""
    host, port = http_address(gateway)
    return f"http://{host}:{port}{path}"


def _headers(token: str, told: dict[str, str]) -> Headers:
    found = Headers()
    for name, value in told.items():
        found.addRawHeader(name.replace("_", "-").encode(), value.encode("latin-1"))
    if token:
        found.addRawHeader(b"Authorization", f"Bearer {token}".encode())
    return found


def told_by(response: Any) -> Message:
    """The headers of a response."""
    message = Message()
    for name, values in response.headers.getAllRawHeaders():
        for value in values:
            message[name.decode()] = value.decode("latin-1")
    return message


async def answer_to(client: HTTPClient, method: str, url: str, **more: Any) -> Answer:
    """Ask, and have the whole answer, in the reactor."""
    response = await client.request(method, url, **more)
    return Answer(response.code, told_by(response), await response.content())


def ask(
    gateway: Gateway, method: str, path: str, *, token: str = "", body: Any = None, **headers: str
) -> Answer:
    """One request, on a connection of its own; ``_`` in a header's name is ``-``."""
    client, url = HTTPClient(Agent(reactor)), url_of(gateway, path)
    told = _headers(token, headers)
    return in_time(lambda: answer_to(client, method, url, headers=told, data=body))


def get(gateway: Gateway, path: str, **more: Any) -> Answer:
    """GET."""
    return ask(gateway, "GET", path, **more)


def change(gateway: Gateway, method: str, path: str, **more: Any) -> Answer:
    """A request that changes something, with the header that it needs."""
    return ask(gateway, method, path, X_Relayx_Request="1", **more)


def on_one_connection(gateway: Gateway, *paths: str) -> tuple[list[int], int]:
    """GET one after the other, on a connection that is kept.

    :returns: the statuses, and how many connections the gateway has open behind the last.
    """

    async def work() -> tuple[list[int], int]:
        pool = HTTPConnectionPool(reactor)
        client = HTTPClient(Agent(reactor, pool=pool))
        urls = [url_of(gateway, path) for path in paths]
        found = [(await answer_to(client, "GET", url)).status for url in urls]
        admin: Any = gateway.service.admin
        count: int = admin.open_connections()
        await pool.closeCachedConnections()
        return found, count

    return in_time(work)


class Reading(Protocol):
    """The body of an answer, as it comes: its parts, and then why it ended."""

    def __init__(self) -> None:
        self.parts: SimpleQueue[bytes | Failure] = SimpleQueue()
        self.ended: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """A part has come."""
        self.parts.put(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """There is no more."""
        self.parts.put(reason)
        self.ended.callback(None)


class Asking:
    """A GET whose answer is waited for, or read while it comes."""

    def __init__(self, gateway: Gateway, path: str, *, token: str = "") -> None:
        self._response: Deferred[Any] = Deferred()
        self._reading: Reading | None = None

        def begin() -> None:
            client = HTTPClient(Agent(reactor))
            url, told = url_of(gateway, path), _headers(token, {})
            self._response = client.get(url, headers=told, unbuffered=True)

        blockingCallFromThread(reactor, begin)

    def begun(self) -> tuple[int, Message]:
        """Status and headers, as soon as they are there."""

        async def work() -> tuple[int, Message]:
            response = await self._response
            self._response = Deferred()
            self._reading = Reading()
            told = response.code, told_by(response)
            response.deliverBody(self._reading)
            return told

        return in_time(work)

    def parts(self) -> Iterator[bytes]:
        """The body as it comes, until it ends; what it breaks with is raised."""
        reading = self._reading
        if reading is None:
            raise AssertionError("the answer has not begun")
        while not isinstance(part := reading.parts.get(timeout=DEADLINE), Failure):
            yield part
        reading.parts.put(part)
        part.trap(ResponseDone, PotentialDataLoss)

    def answer(self) -> Answer:
        """The whole answer."""
        status, headers = self.begun()
        return Answer(status, headers, b"".join(self.parts()))

    def lines(self) -> Iterator[bytes]:
        """The whole lines of the body."""
        rest = b""
        for part in self.parts():
            *whole, rest = (rest + part).split(b"\n")
            yield from whole

    def events(self) -> Iterator[tuple[str, Any]]:
        """Server-sent events as they come: kind and data."""
        kind, data = "", ""
        for line in self.lines():
            text = line.decode()
            name, _, value = text.partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                data += value
            elif not text and data:
                yield kind, json.loads(data)
                kind, data = "", ""

    def close(self) -> None:
        """Close the connection, wherever it is."""

        async def work() -> None:
            reading = self._reading
            if reading is None:
                self._response.addErrback(lambda _: None)
                self._response.cancel()
            elif not reading.ended.called:
                transport: Any = reading.transport
                transport.loseConnection()
                await reading.ended

        in_time(work)


def until(call: Callable[[], T]) -> T:
    """Make a call, which asks the gateway, again and again until what it returns is true."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if found := call():
            return found
    raise AssertionError("it did not come to be so")
