"""What SRT on the srt ports goes by; made of the configuration elsewhere."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from relayx.core.messages import Role

Value = int | bool | str
"""Of a socket option; its C type goes by the option."""


class Dial(msgspec.Struct, frozen=True):
    """A peer that the gateway calls for a port.

    :ivar port: the srt port that it is on.
    :ivar host: name or address of the peer, an IPv6 one without brackets.
    :ivar peer_port: its UDP port.
    :ivar role: what the peer is.
    :ivar streamid: what it is told, at most 512 bytes of UTF-8; never shown, as it may let one in.
    :ivar rendezvous: whether both sides call, the gateway from `port`.
    """

    port: int
    host: str
    peer_port: int
    role: Role
    streamid: str = ""
    rendezvous: bool = False

    def __repr__(self) -> str:
        return f"Dial({', '.join(f'{name}={value!r}' for name, value in _shown(self))})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # msgspec gives its own, which rich prefers to __repr__ and which shows every field.
        return _shown(self)


class SrtSettings(msgspec.Struct, frozen=True):
    """What the SRT plane goes by.

    :ivar enabled: ``auto``: where libsrt can be loaded; ``yes``: a gateway without it does not
        start; ``no``: it is not looked for.
    :ivar bridge: whether a TCP connection and an SRT one may be paired.
    :ivar fan_out: FEs at once that may watch one BE which publishes.
    :ivar interface: address to listen on; "" every IPv4 address, "::" every one.
    :ivar hello_timeout: seconds that a connection may take to say who it is.
    :ivar idle_timeout: seconds without progress after which a session is ended; 0: never.
    :ivar payloadsize: bytes of a message at most that is made of a TCP peer's bytes.
    :ivar options: of every socket before it is bound, by libsrt's name in small letters and
        without ``SRTO_``, in the order in which they have to be set.
    :ivar passphrase: of every socket, 10 to 79 bytes of UTF-8, "" for no encryption; never shown.
    :ivar dial: peers that the gateway calls.
    """

    enabled: Literal["auto", "yes", "no"] = "auto"
    bridge: bool = False
    fan_out: int = 1
    interface: str = ""
    hello_timeout: float = 2.0
    idle_timeout: float = 0.0
    payloadsize: int = 1316
    options: tuple[tuple[str, Value], ...] = ()
    passphrase: str = ""
    dial: tuple[Dial, ...] = ()

    def __repr__(self) -> str:
        return f"SrtSettings({', '.join(f'{name}={value!r}' for name, value in _shown(self))})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return _shown(self)


_NEVER_SHOWN = {"passphrase", "streamid"}


def _shown(whole: msgspec.Struct) -> list[tuple[str, Any]]:
    """The fields as they may be shown."""
    found = [(name, getattr(whole, name)) for name in whole.__struct_fields__]
    return [(n, "<hidden>" if n in _NEVER_SHOWN and value else value) for n, value in found]
