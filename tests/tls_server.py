"""A gateway's data port that speaks TLS, played by Python's own, for one connection."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

from relayx.core.hello import Waiting, encode_answer
from tests.certificates import Pair
from tests.guide_peer import DEADLINE
from tests.live import random_host
from tests.test_client_fakes import PAIRED

ANSWERS = encode_answer(Waiting()) + encode_answer(PAIRED)


def server_context(pair: Pair) -> ssl.SSLContext:
    """A server's context of Python's own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    return context


class Served:
    """Plays the gateway to one connection, in a thread, by Python's own TLS."""

    def __init__(self, context: ssl.SSLContext | None, script: Callable[[Any], object]) -> None:
        self._context = context
        self._script = script
        self._listening = socket.create_server((random_host(), 0))
        self._listening.settimeout(DEADLINE)
        self.host, self.port = self._listening.getsockname()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Served:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(2 * DEADLINE)
        self._listening.close()

    def _serve(self) -> None:
        peer: Any = self._listening.accept()[0]
        peer.settimeout(DEADLINE)
        try:
            if self._context is not None:
                peer = self._context.wrap_socket(peer, server_side=True)
            self._script(peer)
        except (ssl.SSLError, ConnectionError):
            pass  # the client is what is tested
        finally:
            peer.close()


def paired(peer: Any) -> None:
    """Read HELLO, and answer that the session has begun."""
    held = b""
    while not held.endswith(b"\n"):
        held += peer.recv(1)
    peer.sendall(ANSWERS)


def rest(peer: ssl.SSLSocket) -> bytes:
    """All up to the client's close_notify."""
    found = b""
    while data := peer.recv(65536):
        found += data
    return found
