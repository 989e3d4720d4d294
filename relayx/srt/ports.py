"""The srt ports: who listens there, by which options, and what those get who are accepted.

A port is a UDP socket of the gateway's own until somebody calls, see :mod:`relayx.srt.udpport`, and
a listener of libsrt's from then on. For the reactor's thread, but where it is said.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from relayx.srt.binding import Library, Peer, SrtError
from relayx.srt.engine import Engine
from relayx.srt.settings import SrtSettings
from relayx.srt.udpport import UdpPort

_log = Logger(namespace="relayx.srt")

BACKLOG = 256


MOST_BESIDE_A_FILTER = 1452
"""Bytes of a message at most where a packet filter has its part of each packet."""


class Ports:
    """All ports that take callers of SRT.

    :param reactor: an IReactorFDSet.
    :param decide: whether a caller may come: with the port's number, the socket that it would have,
        where it is and its stream id, in a thread of libsrt's; 0, or the reason why not.
    :param accepted: told of each that came, with the port's number, in the engine's thread.
    """

    def __init__(
        self,
        reactor: Any,
        engine: Engine,
        library: Library,
        settings: SrtSettings,
        decide: Callable[[int, int, Peer, bytes], int],
        accepted: Callable[[int, int, Peer], None],
    ) -> None:
        self._reactor = reactor
        self._engine = engine
        self._library = library
        self._settings = settings
        self._decide = decide
        self._accepted = accepted
        self._ports: dict[int, UdpPort | None] = {}
        self._had: set[int] = set()  # ports that libsrt has had, and may have still
        self._listeners: dict[int, int] = {}  # of libsrt, where somebody has called
        self._options_of: dict[int, tuple[Any, str]] = {}  # what a listener was made with

    def listen(self, number: int) -> None:
        """Take callers on the UDP port of one data port.

        :raises OSError: where it cannot be bound.
        """
        try:
            self._ports[number] = UdpPort(
                self._reactor, self._settings.interface, number, lambda: self._called(number)
            )
        except OSError:
            if number not in self._had:
                raise
            self._listen_again(number)
            self._ports[number] = None

    def _listen_again(self, number: int) -> None:
        """Listen on a port that libsrt has had, and has still: for seconds, or for sessions there.

        :raises OSError: where somebody else has it.
        """
        library = self._library
        sock = library.create()
        try:
            self.set_options(sock)
            library.bind(sock, self._settings.interface, number)
            library.listen(sock, BACKLOG, lambda *came: self._decide(number, *came))
        except SrtError as error:
            library.close(sock)
            raise OSError(errno.EADDRINUSE, str(error)) from None
        self._accept_on(number, sock)

    def try_listening(self, number: int) -> None:
        """Find out whether :meth:`listen` would work, and listen on nothing.

        :raises OSError: where it would not.
        """
        if number in self._ports:
            return
        try:
            UdpPort(self._reactor, self._settings.interface, number, lambda: None).close()
        except OSError:
            if number not in self._had:
                raise
            library = self._library
            sock = library.create()
            try:
                library.bind(sock, self._settings.interface, number)
            except SrtError as error:
                raise OSError(errno.EADDRINUSE, str(error)) from None
            finally:
                library.close(sock)

    def _called(self, number: int) -> None:
        """Somebody calls on a port: libsrt listens there from now on."""
        library, sock = self._library, None
        port = self._ports[number]
        assert port is not None
        descriptor = port.take()
        try:
            sock = library.create()
            self.set_options(sock)
            library.listen_by(
                sock, descriptor, BACKLOG, lambda *came: self._decide(number, *came)
            )  # fmt: skip
        except SrtError as error:
            _log.error("{text}", text=f"srt port {number} takes no SRT: {error}")
            if sock is None:
                os.close(descriptor)
            else:
                library.close(sock)
            return
        self._accept_on(number, sock)

    def _accept_on(self, number: int, sock: int) -> None:
        settings = self._settings
        self._had.add(number)
        self._listeners[number] = sock
        self._options_of[number] = settings.options, settings.passphrase
        self._engine.order(
            self._engine.add_listener, sock, lambda *came: self._accepted(number, *came)
        )

    def stop_listening_on(self, number: int) -> None:
        """Accept no more on one port; its connections stay."""
        port = self._ports.pop(number, None)
        if port is not None:
            port.close()
        sock = self._listeners.pop(number, None)
        if sock is not None:
            del self._options_of[number]
            self._library.close(sock)  # at once, so that another may listen there
            self._engine.order(self._engine.remove_listener, sock)

    def stop_listening(self) -> None:
        """Accept no more."""
        for number in self.listening:
            self.stop_listening_on(number)

    @property
    def listening(self) -> set[int]:
        """Those that are listened on."""
        return set(self._ports)

    # options

    def change(self, settings: SrtSettings) -> None:
        """Go by other settings from now on.

        What was agreed on in a handshake cannot change. A socket that listens takes no other
        options either, and is not made anew, since its port could be lost over it; those that it
        accepts get them one by one.
        """
        self._settings = settings

    def check_options(self) -> None:
        """See whether libsrt takes the options.

        :raises SrtError: naming the first that it does not.
        """
        sock = self._library.create()
        try:
            self.set_options(sock)
        finally:
            self._library.close(sock)

    def set_options(self, sock: int) -> None:
        """Have a new socket go by the settings in force.

        :raises SrtError: naming the first option that libsrt does not take.
        """
        for name in ("sndsyn", "rcvsyn"):
            self._library.set(sock, name, False)
        self._set_configured(sock)
        if self._settings.passphrase:
            self._library.set(sock, "passphrase", self._settings.passphrase)

    def set_options_of_call(self, sock: int) -> None:
        """As :meth:`set_options`, of one that calls: libsrt leaves it no room for a peer's filter.

        :raises SrtError: naming the first option that libsrt does not take.
        """
        self.set_options(sock)
        if self._library.get(sock, "payloadsize") > MOST_BESIDE_A_FILTER:
            self._library.set(sock, "payloadsize", MOST_BESIDE_A_FILTER)

    def set_new_options(self, number: int, sock: int) -> None:
        """Have a caller's socket go by the settings in force, where its listener has older ones.

        For the thread of libsrt's in which the caller is decided on.
        """
        settings, library = self._settings, self._library
        made_with = self._options_of.get(number)
        if made_with is None or made_with == (settings.options, settings.passphrase):
            return
        new = dict(settings.options)
        for name in dict(made_with[0]).keys() - new:  # those are left out whose default is 0
            library.set(sock, name, 0)
        self._set_configured(sock)
        library.set(sock, "passphrase", settings.passphrase)

    def _set_configured(self, sock: int) -> None:
        for name, value in self._settings.options:
            self._library.set(sock, name, value)
