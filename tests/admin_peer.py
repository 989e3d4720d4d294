"""A blocking client of the admin HTTP, for tests that run in a thread."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from tests.guide_peer import DEADLINE
from tests.live import Gateway

HTTP = {"endpoint": "tcp:0:interface=127.0.0.1"}
"""Section ``http`` of a gateway that is looked at: any free port."""

TOKEN = "token-for-the-tests-of-more-than-32-bytes"


T = TypeVar("T")


class Answer:
    """What was answered: status, headers, and the whole body."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

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


def connect(gateway: Gateway) -> http.client.HTTPConnection:
    """A connection to it."""
    return http.client.HTTPConnection(*http_address(gateway), timeout=DEADLINE)


def ask(
    gateway: Gateway, method: str, path: str, *, token: str = "", body: Any = None, **headers: str
) -> Answer:
    """One request, on a connection of its own; ``_`` in a header's name is ``-``."""
    told = {name.replace("_", "-"): value for name, value in headers.items()}
    if token:
        told["Authorization"] = f"Bearer {token}"
    connection = connect(gateway)
    try:
        connection.request(method, path, body, told)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def get(gateway: Gateway, path: str, **more: Any) -> Answer:
    """GET."""
    return ask(gateway, "GET", path, **more)


def change(gateway: Gateway, method: str, path: str, **more: Any) -> Answer:
    """A request that changes something, with the header that it needs."""
    return ask(gateway, method, path, X_Relayx_Request="1", **more)


def until(call: Callable[[], T]) -> T:
    """Make a call, which asks the gateway, again and again until what it returns is true."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if found := call():
            return found
    raise AssertionError("it did not come to be so")


def events(response: http.client.HTTPResponse) -> Iterator[tuple[str, Any]]:
    """Server-sent events as they come: kind and data."""
    kind, data = "", ""
    while line := response.readline():
        text = line.decode().rstrip("\n")
        name, _, value = text.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            data += value
        elif not text and data:
            yield kind, json.loads(data)
            kind, data = "", ""
