"""Ends connections that libzmq has accepted, and would keep."""

from __future__ import annotations

import os
import socket


class Hangup:
    """Shuts TCP connections down by their descriptors, which are libzmq's to close.

    libzmq may do that at any time, and the number be another thread's then. So the connection
    is held under a number of our own while it is looked at and shut down; that is taken from
    the start, so that it works where there is no descriptor left.
    """

    def __init__(self) -> None:
        self._idle = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._held = os.dup(self._idle)

    def end(self, descriptor: int, port: int) -> bool:
        """Shut a connection down, as if its peer had; False where it is none any more.

        :param port: its local port; a connection with another one is left alone.
        """
        try:
            os.dup2(descriptor, self._held, inheritable=False)
        except OSError:
            return False
        try:
            return _shut(self._held, port)
        except OSError:  # no socket, or one that is not connected
            return False
        finally:
            os.dup2(self._idle, self._held, inheritable=False)

    def close(self) -> None:
        """Give the own descriptors back."""
        os.close(self._idle)
        os.close(self._held)


def _shut(descriptor: int, port: int) -> bool:
    held = socket.socket(fileno=descriptor)
    try:
        held.getpeername()  # whoever listens has none, and can be shut down too
        if held.family not in (socket.AF_INET, socket.AF_INET6) or held.getsockname()[1] != port:
            return False
        held.shutdown(socket.SHUT_RDWR)
        return True
    finally:
        held.detach()
