"""Strports strings in the configuration: are they valid, which TCP ports do they take."""

from __future__ import annotations

from twisted.internet.endpoints import serverFromString

_PORT_PLACES = {"tcp": 1, "tcp6": 1, "ssl": 1, "tls": 2}
"""Which word of a listening TCP endpoint is its port, where it is not given as ``port=``."""
_TLS_PORT = "443"

_SYSTEMD_KEYS = {"domain", "index"}

ALLOWED = "a Twisted strports string such as tcp:5555 or tcp:5555:interface=127.0.0.1"


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
    default = "::" if "tcp6" in words[:2] else ""
    return options.get("interface", default)


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
