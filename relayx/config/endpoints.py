"""Strports strings in the configuration: are they valid, which TCP ports do they take."""

from __future__ import annotations

import msgspec
from twisted.internet.endpoints import serverFromString

_PORT_PLACES = {"tcp": 1, "tcp6": 1, "ssl": 1, "tls": 2}
"""Which word of a listening TCP endpoint is its port, where it is not given as ``port=``."""
_INTERFACE_PLACES = {"tcp": 2, "tcp6": 2, "ssl": 5}
"""Which word is its address, where that is not given as ``interface=``."""
_TLS_PORT = "443"

_SYSTEMD_KEYS = {"domain", "index"}

ALLOWED = "a Twisted strports string such as tcp:5555 or tcp:5555:interface=127.0.0.1"


_SSL_PLACES = {"privateKey": 2, "certKey": 3, "extraCertChain": 7}
"""Which word of an ``ssl:`` endpoint each file is, where it is not given by name."""


class SslFiles(msgspec.Struct, frozen=True):
    """The files that an ``ssl:`` endpoint names; `chain` is "" where it names none."""

    certificate: str
    private_key: str
    chain: str


class EndpointError(ValueError):
    """A text that is no strports string; says why."""


def endpoint_port(text: str) -> int | None:
    """The TCP port that a strports string listens on; None where it names none.

    Port 0, any free one, is None too: it cannot collide with a configured one.

    :raises EndpointError: where Twisted would not take it.
    """
    if not text.isprintable():
        raise EndpointError("holds characters that cannot be printed")
    words, options = _split(text)
    while words and words[0] == "haproxy":
        words = words[1:]
    kind = words[0] if words else ""
    if kind == "systemd" and set(options) == _SYSTEMD_KEYS:
        return None  # Twisted looks for the descriptor at once, which is there at the start only
    try:
        # Nothing is listened on here, and no parser uses the reactor before that.
        serverFromString(object(), text)
    except Exception as error:  # parsers are plugins, and theirs raise whatever they like
        raise EndpointError(f"is no endpoint ({_reason(error)})") from None
    place = _PORT_PLACES.get(kind)
    if place is None:
        return None
    port = int(options.get("port") or (words[place] if place < len(words) else _TLS_PORT))
    if not 0 <= port <= 65535:
        raise EndpointError("has a port outside of 0 to 65535")
    return port or None


def endpoint_interface(text: str) -> str:
    """The address that a strports string listens on, "" for every one of its kind.

    That of ``tcp6`` is ``::``, where Twisted listens unless told.
    """
    words, options = _split(text)
    while words and words[0] == "haproxy":
        words = words[1:]
    kind = words[0] if words else ""
    place = _INTERFACE_PLACES.get(kind, len(words))
    told = options.get("interface") or (words[place] if place < len(words) else "")
    return told or ("::" if kind == "tcp6" else "")


def ssl_files(text: str) -> SslFiles | None:
    """The files of an ``ssl:`` endpoint, with Twisted's defaults; None for any other."""
    words, options = _split(text)
    while words and words[0] == "haproxy":
        words = words[1:]
    if not words or words[0] != "ssl":
        return None
    told = {
        name: options.get(name) or (words[place] if place < len(words) else "")
        for name, place in _SSL_PLACES.items()
    }
    key = told["privateKey"] or "server.pem"
    return SslFiles(told["certKey"] or key, key, told["extraCertChain"])


def is_private(text: str) -> bool:
    """Whether an endpoint can be reached from this machine alone: loopback, or no TCP."""
    kind = text.partition(":")[0]
    if kind not in ("tcp", "tcp6"):
        return kind == "unix"
    interface = endpoint_interface(text)
    return interface.startswith("127.") or interface in ("::1", "localhost")


def _reason(error: Exception) -> str:
    line = " ".join(str(error).split())
    return line if line.isprintable() and line else type(error).__name__


def _split(text: str) -> tuple[list[str], dict[str, str]]:
    """Split at colons into words and ``key=value``; a backslash takes the next as it is."""
    words: list[str] = []
    options: dict[str, str] = {}
    key: str | None = None
    current = ""
    characters = iter(text + ":")
    for character in characters:
        if character == "\\":
            current += next(characters, "")
        elif character == "=" and key is None:
            key, current = current, ""
        elif character == ":":
            if key is None:
                words.append(current)
            else:
                options[key] = current
            key, current = None, ""
        else:
            current += character
    return words, options
