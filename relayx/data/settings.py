"""What the data plane goes by."""

from __future__ import annotations

import msgspec

from relayx.data.session import Limits


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the data plane goes by (contract section 1, ``data``); seconds.

    :ivar inspect: how much of ZMTP is read: off, handshake, messages.
    :ivar max_message_bytes: with messages, the most bytes in one of ZMTP; 0 for no limit.
    :ivar zmtp_credentials: whether those of PLAIN are asked of FEs without HELLO.
    """

    interface: str = ""
    hello_timeout: float = 2.0
    max_waiting_hello: int = 1024
    waiting_hello_per_source: int = 512
    keepalive: float = 15.0
    ring_buffer_size: int = 33554432
    splice: bool = True
    tls_required: bool = False
    trusted: tuple[str, ...] = ()
    limits: Limits = Limits()
    inspect: str = "handshake"
    max_message_bytes: int = 0
    zmtp_credentials: bool = False
