"""Which ports the SSH daemon of this machine listens on, so that no firewall rule shuts it out."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping

DEFAULT = 22
SSHD_CONFIG = "/etc/ssh/sshd_config"
_DEEPEST = 8


def ssh_ports(path: str, environ: Mapping[str, str]) -> list[int]:
    """The ports of sshd_config(5), and that of the session that this runs in; else 22.

    ``ListenAddress`` may name a port too, and ``Include`` other files.
    """
    found = set(_of_file(path, 0)) or {DEFAULT}
    session = environ.get("SSH_CONNECTION", "").split()
    if len(session) == 4:
        found.update(_port(session[3]))
    return sorted(found)


def _of_file(path: str, depth: int) -> Iterator[int]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        key, _, value = line.strip().replace("=", " ", 1).replace("\t", " ").partition(" ")
        words = value.split("#")[0].replace('"', "").split()
        if not words:
            continue
        if key.lower() == "port":
            yield from _port(words[0])
        elif key.lower() == "listenaddress":
            yield from _port_of_address(words[0])
        elif key.lower() == "include" and depth < _DEEPEST:
            for pattern in words:
                for name in sorted(glob.glob(os.path.join("/etc/ssh", pattern))):
                    yield from _of_file(name, depth + 1)


def _port_of_address(text: str) -> Iterator[int]:
    _, bracket, port = text.rpartition("]:")
    if bracket:
        yield from _port(port)
    elif text.count(":") == 1:
        yield from _port(text.partition(":")[2])


def _port(text: str) -> Iterator[int]:
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 65535:
        yield int(text)
