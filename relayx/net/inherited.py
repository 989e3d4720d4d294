"""Sockets that listen already when this process starts: systemd's socket activation.

sd_listen_fds(3): ``LISTEN_PID`` is the process that they are for, ``LISTEN_FDS`` how many there
are from descriptor 3 on, ``LISTEN_FDNAMES`` what the socket unit calls them. Who opened them keeps
them open, so that the kernel queues connections while no gateway runs. Each is used for what is
configured at its own address and port; their order, and their names, mean nothing.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FIRST = 3
"""The first descriptor that is passed on (SD_LISTEN_FDS_START)."""

_FAMILIES = (socket.AF_INET, socket.AF_INET6)


class Inherited:
    """The sockets that were passed on and are not in use yet.

    :ivar refused: a sentence for each descriptor that is no listening TCP socket.
    """

    def __init__(self, descriptors: Mapping[int, str] | None = None) -> None:
        """:param descriptors: names by descriptor; each is this object's from now on."""
        self.refused: list[str] = []
        self._unused: dict[socket.socket, str] = {}
        for descriptor, name in (descriptors or {}).items():
            label = f"descriptor {descriptor} ({name})" if name else f"descriptor {descriptor}"
            try:
                found = socket.socket(fileno=descriptor)
            except OSError as error:
                self.refused.append(f"{label} is no socket: {error.strerror}")
                continue
            if not _listens(found):
                self.refused.append(f"{label} is no listening TCP socket")
                found.detach()  # it may be of use to somebody else in this process
                continue
            found.setblocking(False)
            found.set_inheritable(False)
            self._unused[found] = label

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], pid: int) -> Inherited:
        """What the environment says is for this process; nothing where it is for another."""
        count = environ.get("LISTEN_FDS", "")
        if environ.get("LISTEN_PID") != str(pid) or not (count.isascii() and count.isdigit()):
            return cls()
        names = environ.get("LISTEN_FDNAMES", "").split(":")
        names += [""] * int(count)
        return cls({FIRST + index: names[index] for index in range(int(count))})

    def take(self, port: int, interface: str) -> socket.socket | None:
        """The socket that listens where `port` of `interface` would, None where there is none.

        "" is every IPv4 address; a socket of "::" that takes IPv4 too is as good.
        """
        wanted = _address(interface or "0.0.0.0")
        at_port = [found for found in self._unused if found.getsockname()[1] == port]
        for found in at_port:
            if _address(found.getsockname()[0]) == wanted:
                return self._used(found)
        for found in at_port:
            if wanted == _address("0.0.0.0") and _is_dual_stack(found):
                return self._used(found)
        return None

    def took(self, descriptor: int) -> None:
        """Somebody else uses a descriptor, a ``systemd:`` endpoint for one."""
        for found in list(self._unused):
            if found.fileno() == descriptor:
                self._used(found).detach()

    def unused(self) -> list[str]:
        """A sentence for each socket that matches nothing that is configured."""
        return [
            f"{label} listens on {_spelled(found)}, where the configuration has nothing"
            for found, label in self._unused.items()
        ]

    def close(self) -> None:
        """Let go of what is not used; whoever passed it on still has it."""
        for found in list(self._unused):
            self._used(found).close()

    def _used(self, found: socket.socket) -> socket.socket:
        del self._unused[found]
        return found


class AdoptingReactor:
    """A reactor as endpoints of strports see it, which listens with inherited sockets first.

    :ivar adopted: the ports that listen with one.
    """

    def __init__(self, reactor: Any, inherited: Inherited) -> None:
        self._reactor = reactor
        self._inherited = inherited
        self.adopted: list[Any] = []

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """See IReactorTCP."""
        found = self._inherited.take(port, interface)
        if found is None:
            return self._reactor.listenTCP(port, factory, backlog, interface)
        with found:  # the reactor takes a duplicate
            return self._adopt(found.fileno(), found.family, factory)

    def adoptStreamPort(self, descriptor: int, family: Any, factory: Any) -> Any:
        """See IReactorSocket; ``systemd:`` endpoints call it."""
        self._inherited.took(descriptor)
        return self._adopt(descriptor, family, factory)

    def _adopt(self, descriptor: int, family: Any, factory: Any) -> Any:
        port = self._reactor.adoptStreamPort(descriptor, family, factory)
        self.adopted.append(port)
        return port

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)


def inherited_here(started_with: str = "/proc/self/environ") -> Inherited:
    """What this process was given at its start.

    Twisted takes the variables out of ``os.environ`` as soon as its endpoints are imported, so
    that the environment is asked for that the process was started with (proc(5)).
    """
    try:
        entries = Path(started_with).read_bytes().split(b"\0")
    except OSError:
        return Inherited.from_environment(os.environ, os.getpid())
    pairs = (os.fsdecode(entry).partition("=") for entry in entries)
    return Inherited.from_environment({name: value for name, _, value in pairs}, os.getpid())


def _listens(found: socket.socket) -> bool:
    return (
        found.family in _FAMILIES
        and found.type == socket.SOCK_STREAM
        and bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    )


def _is_dual_stack(found: socket.socket) -> bool:
    return (
        found.family == socket.AF_INET6
        and _address(found.getsockname()[0]) == _address("::")
        and not found.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    )


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | str:
    """An address in a form that can be compared; a name as the address that bind(2) would take."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.ip_address(socket.gethostbyname(host))
    except (OSError, ValueError):
        return host


def _spelled(found: socket.socket) -> str:
    host, port = found.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
