"""What a data connection may begin with, and in which order that is told apart.

This is the one place that says so::

    first bytes                    where                                          then
    1   "PROXY " (version 1),      required from an address in                    2 or 3
        CR LF CR LF NUL ... (2)    proxy_protocol.trusted; else refused
    2   0x16                       where data.tls is configured; else refused     3, inside TLS
    3   "RLX1HELLO "               inside TLS, and outside it unless              waiting
                                   data.tls.required
    4   0xff                       a zmq port: a greeting of ZMTP (RFC 23), in    waiting
                                   the same places as HELLO

All of it has ``data.hello_timeout``, and whatever is refused is ``HELLO_INVALID`` (contract
section 6). Where neither TLS nor a trusted proxy is configured, a connection reads HELLO alone
and has no :class:`Opening`.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from relayx.core.hello import Hello, HelloError, HelloReader
from relayx.net.proxy import Header, ProxyError, ProxyReader

TLS_HANDSHAKE = b"\x16"
"""Content type of the first record of a TLS connection (RFC 8446 section 5.1)."""


ZMTP = b"\xff"
"""First byte of a greeting of ZMTP (RFC 23)."""


class Told(NamedTuple):
    """A PROXY header has come; `rest` is to be fed next."""

    header: Header
    rest: bytes


class TlsBegins(NamedTuple):
    """TLS begins, with `rest`; what it decrypts is to be fed next."""

    rest: bytes


class Said(NamedTuple):
    """HELLO has come, and `rest` is session data."""

    hello: Hello
    rest: bytes


Step = Told | TlsBegins | Said


class _Stage(Enum):
    PROXY = auto()
    FIRST_BYTE = auto()
    HELLO = auto()


class Opening:
    """Takes what opens a connection out of a byte stream, whatever way it is cut into segments.

    :param proxied: whether it comes from a trusted proxy, whose header is required then.
    :param tls: whether TLS may begin here.
    :param tls_required: whether it must.
    """

    __slots__ = ("_hello", "_proxy", "_stage", "_tls", "_tls_required")

    def __init__(self, *, proxied: bool, tls: bool, tls_required: bool = False) -> None:
        self._tls = tls
        self._tls_required = tls_required
        self._proxy = ProxyReader() if proxied else None
        self._hello = HelloReader()
        self._stage = _Stage.PROXY if proxied else _Stage.FIRST_BYTE

    def may_be_zmtp(self, data: bytes) -> bool:
        """Whether what comes next begins with a greeting of ZMTP, where HELLO may begin too."""
        at_start = self._proxy is None and self._hello.is_new
        return at_start and data.startswith(ZMTP) and not self._tls_required

    def feed(self, data: bytes) -> Step | None:
        """Return the next step that is complete, or None where more bytes are needed.

        :raises HelloError: as soon as the bytes cannot become what is allowed here.
        """
        if self._proxy is not None:
            try:
                told = self._proxy.feed(data)
            except ProxyError as error:
                raise HelloError(
                    f"a connection from an address in proxy_protocol.trusted: {error}"
                ) from None
            if told is None:
                return None
            self._proxy = None
            self._stage = _Stage.FIRST_BYTE
            return Told(*told)
        if self._stage is _Stage.FIRST_BYTE and data:
            self._stage = _Stage.HELLO
            if self._tls and data.startswith(TLS_HANDSHAKE):
                self._tls_required = False
                return TlsBegins(data)
        return self._read_hello(data)

    def _read_hello(self, data: bytes) -> Said | None:
        said = self._hello.feed(data)
        if said is None:
            return None
        if self._tls_required:
            text = "this gateway wants TLS on its data ports (data.tls.required)"
            raise HelloError(text, ack=said[0].ack)
        return Said(*said)
