"""Blocking loopback sockets with which the bench sets its sessions up."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from typing import TypeVar

from bench.processes import PATIENCE, Child, PeerError

Address = tuple[str, int]
T = TypeVar("T")


def fresh_host() -> str:
    """One of the 16 million addresses of 127.0.0.0/8, so that no port is ever taken."""
    return "127." + ".".join(str(random.randint(1, 254)) for _ in range(3))


def dial(address: Address, first: bytes = b"") -> socket.socket:
    """Connect, without delay of small segments, and send `first`."""
    made = socket.create_connection(address, PATIENCE)
    try:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if first:
            made.sendall(first)
    except BaseException:
        made.close()
        raise
    return made


def listen(address: Address) -> socket.socket:
    """Listen with a backlog that never fills."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(4096)
        made.settimeout(PATIENCE)
    except BaseException:
        made.close()
        raise
    return made


def accept(listener: socket.socket) -> socket.socket:
    """Take the next connection."""
    made, _ = listener.accept()
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def read_line(connection: socket.socket) -> bytes:
    """One line and not a byte more: what follows is the session's.

    :raises PeerError: where the stream ends first.
    """
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            raise PeerError(f"the relay closed the connection after {bytes(line)!r}")
        line += byte
    return bytes(line)


def until_it_listens(child: Child, attempt: Callable[[], T]) -> T:
    """Try `attempt` until no connection is refused.

    :raises PeerError: where the child ends, or does not listen in time.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return attempt()
        except ConnectionRefusedError:
            if not child.running:
                raise PeerError(f"it ended: {child.said}") from None
            if time.monotonic() > deadline:
                raise PeerError(f"it does not listen: {child.said}") from None
            time.sleep(0.02)
