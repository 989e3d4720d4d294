"""What a supervisor is told of this process: sd_notify(3), and the watchdog of systemd.service(5).

A datagram each to the socket that ``NOTIFY_SOCKET`` names. Without that variable nothing is sent.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from twisted.logger import Logger

_SEND_LIMIT = 1.0
"""Seconds that a datagram may wait for room in the supervisor's queue."""


class Notifier:
    """Tells the supervisor how far we are.

    :ivar watchdog: seconds within which it wants to hear of us again; 0: it does not.
    """

    _log = Logger(namespace="relayx.systemd")

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        """:param address: a path, or ``@`` and an abstract name (unix(7)); "": nobody listens."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog = watchdog
        self._beat: Any = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], pid: int) -> Notifier:
        """What the environment says; a watchdog for another process is none for us."""
        address = environ.get("NOTIFY_SOCKET", "")
        usec = environ.get("WATCHDOG_USEC", "")
        ours = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        known = ours and usec.isascii() and usec.isdigit()
        return cls(address if address[:1] in ("/", "@") else "", int(usec) / 1e6 if known else 0.0)

    def ready(self, status: str) -> None:
        """We serve, or serve again after :meth:`reloading`."""
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def reloading(self) -> None:
        """The configuration is read again, as ``Type=notify-reload`` wants to know."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now}")

    def stopping(self, status: str, limit: float) -> None:
        """We stop, which may take as long as `limit` seconds."""
        extend = int(limit * 1e6)
        self._send(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={extend}\nSTATUS={_line(status)}")

    def start_watchdog(self, reactor: Any) -> None:
        """Say that the reactor turns, twice in the time that the watchdog allows."""
        if self._address and self.watchdog:
            self._beat = reactor.callLater(self.watchdog / 2, self.start_watchdog, reactor)
            self._send("WATCHDOG=1", wait=False)  # sessions must not stand still for this

    def stop_watchdog(self) -> None:
        """Say so no more."""
        if self._beat is not None and self._beat.active():
            self._beat.cancel()
        self._beat = None

    def _send(self, text: str, *, wait: bool = True) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_SEND_LIMIT if wait else 0.0)
                sender.sendto(text.encode(), self._address)
        except OSError as error:
            what = text.partition("=")[0]
            self._log.warn(
                "{text}", text=f"{what} did not reach NOTIFY_SOCKET: {error}", event="notify"
            )


def notifier_here() -> Notifier:
    """The supervisor of this process."""
    return Notifier.from_environment(os.environ, os.getpid())


def _line(text: str) -> str:
    return " ".join(text.split())
