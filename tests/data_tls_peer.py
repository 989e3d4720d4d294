"""A data connection over TLS, by Python's own ssl; each direction ends alone, as over TCP.

``ssl.SSLSocket`` has no half-close, so this drives an ``SSLObject`` with memory BIOs. A sending
and a receiving thread may use it at once.
"""

from __future__ import annotations

import ssl
import threading
from functools import cache
from typing import Any

from tests.data_certificates import NAME, pair
from tests.guide_peer import DEADLINE, EndedError, WasResetError
from tests.live import Data11, Gateway


@cache
def client_context() -> ssl.SSLContext:
    """Trusts the test gateways' certificate alone."""
    return ssl.create_default_context(cafile=str(pair()[0]))


class TruncatedError(WasResetError):
    """TCP ended without a close_notify."""


class TlsData(Data11):
    """A data connection that begins with TLS; the methods are those of a plain one.

    :param context: what to verify by.
    :param first: bytes to send before TLS, such as a PROXY header.
    :param handshake: False to leave it to the caller.
    """

    def __init__(
        self,
        address: tuple[str, int],
        *,
        context: ssl.SSLContext | None = None,
        first: bytes = b"",
        handshake: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(address, **options)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = (context or client_context()).wrap_bio(
            self._incoming, self._outgoing, server_hostname=NAME
        )
        self._taken: list[bytes] = []
        self._ready = self._ended = False
        self._state, self._order = threading.Lock(), threading.Lock()
        if first:
            super().send(first)
        if handshake:
            try:
                self.handshake()
            except BaseException:
                self.socket.close()
                raise

    def handshake(self) -> None:
        """Do the handshake."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._send_made()
                self._receive_some(DEADLINE)
            else:
                self._ready = True
                self._send_made()
                return

    def _send_made(self) -> None:
        super().send(self._outgoing.read())

    def _receive_some(self, within: float) -> None:
        self.socket.settimeout(max(within, 0.001))
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionResetError as error:
            raise WasResetError(str(error)) from None
        finally:
            self.socket.settimeout(DEADLINE)
        if not data:
            raise TruncatedError("TCP ended without close_notify")
        with self._state:
            self._incoming.write(data)
            if self._ready:
                self._take_records()

    def encrypt(self, data: bytes) -> bytes:
        """The records that carry `data`, which are the next to be sent."""
        with self._state:
            left = memoryview(data)
            while left:
                left = left[self.tls.write(left) :]
            return self._outgoing.read()

    def send(self, data: bytes) -> None:
        """Send everything."""
        with self._order:
            for start in range(0, len(data), 1 << 20):
                super().send(self.encrypt(data[start : start + (1 << 20)]))

    def send_raw(self, data: bytes) -> None:
        """Send bytes that are not encrypted."""
        super().send(data)

    def fill(self, within: float = DEADLINE) -> None:
        """Wait for more decrypted bytes.

        :raises EndedError: at the close_notify.
        :raises TruncatedError: where TCP ends without one.
        """
        while not (data := self._decrypted()):
            if self._ended:
                raise EndedError
            self._receive_some(within)
        self.held += data

    def _decrypted(self) -> bytes:
        """All that can be decrypted now.

        Nothing is left in the BIO, since ``unwrap`` would take it for a wrong answer to ours.
        """
        with self._state:
            self._take_records()
            taken, self._taken = self._taken, []
        return b"".join(taken)

    def _take_records(self) -> None:
        try:
            while data := self.tls.read(1 << 18):
                self._taken.append(data)
            self._ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._ended = True

    def shutdown(self) -> None:
        """Say close_notify; go on reading."""
        with self._order:
            with self._state:
                try:
                    self.tls.unwrap()
                except ssl.SSLWantReadError:
                    pass
                made = self._outgoing.read()
            super().send(made)

    def cut(self) -> None:
        """End TCP's stream without a close_notify."""
        super().shutdown()


def pair_over(
    gateway: Gateway, port: int, *, fe_tls: bool = True, be_tls: bool = True, **be_hello: Any
) -> tuple[Data11, Data11]:
    """A session with TLS at either end or both: its FE's and its BE's connection."""
    be = gateway.open(TlsData, port) if be_tls else gateway.dial11(port)
    be.hello("BE", **be_hello)
    be.expect("RLX1OK")
    fe = gateway.open(TlsData, port) if fe_tls else gateway.dial11(port)
    fe.hello("FE", "phone")
    fe.expect("RLX1PAIRED")
    be.expect("RLX1PAIRED")
    return fe, be
