"""libsrt for Python, by cffi in ABI mode: nothing is compiled, and nothing here relays.

A call that fails raises :class:`SrtError` with libsrt's own reason. Sockets are numbers, as in
libsrt. Every call releases the GIL, and libsrt may be called from any thread.
"""

from __future__ import annotations

import ctypes.util
import os
import socket
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from relayx.core.errors import RelayError
from relayx.net.address import plain
from relayx.srt.declared import declarations
from relayx.srt.options import OPTIONS, Kind

NAMES = ("libsrt.so.1.5", "libsrt-gnutls.so.1.5", "libsrt.so.1.4", "libsrt-gnutls.so.1.4",
         "libsrt.1.5.dylib", "libsrt.dylib")  # fmt: skip
PACKAGES = "Debian: libsrt1.5-openssl, Fedora: srt-libs, Homebrew: srt"
LEAST_VERSION = 0x010404

ASYNC_SEND, ASYNC_RECEIVE, TIMED_OUT = 6001, 6002, 6003
"""Error codes that only mean: not now."""

EPOLL_IN, EPOLL_OUT, EPOLL_ERR = 1, 4, 8
CONNECTED, BROKEN, CLOSED = 5, 6, 8
"""Some of a socket's states, see :meth:`Library.state`."""

_FATAL_ONLY = 2
_ADDRESS_ROOM = 128


class LibraryMissingError(RelayError):
    """libsrt or cffi is not there, or too old; the text says which package has it."""


class SrtError(RelayError):
    """A call of libsrt failed.

    :ivar code: libsrt's number of it.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Peer(NamedTuple):
    """Where somebody is."""

    host: str
    port: int


class Library:
    """libsrt, loaded and started; see :func:`load`.

    :ivar version: for example "1.5.1".
    """

    def __init__(self, ffi: Any, lib: Any) -> None:
        self.ffi = ffi
        self.lib = lib
        number = lib.srt_getversion()
        self.version = f"{number >> 16}.{number >> 8 & 255}.{number & 255}"
        self._callbacks: dict[int, Any] = {}
        self._started = False

    def start(self) -> None:
        """Have libsrt make its threads; nothing is written to standard error but what is fatal."""
        if not self._started:
            self._started = True
            self.lib.srt_setloglevel(_FATAL_ONLY)
            self.lib.srt_startup()

    def stop(self) -> None:
        """Close whatever is open and end libsrt's threads."""
        if self._started:
            self._started = False
            self.lib.srt_cleanup()
            self._callbacks.clear()

    # errors

    def error(self, what: str) -> SrtError:
        """What went wrong in the last call of this thread."""
        text = self.ffi.string(self.lib.srt_getlasterror_str()).decode(errors="replace")
        return SrtError(self.lib.srt_getlasterror(self.ffi.NULL), f"{what}: {text.rstrip('.')}")

    def _check(self, result: int, what: str) -> int:
        if result == -1:
            raise self.error(what)
        return result

    def reject_text(self, code: int) -> str:
        """What libsrt says of a reason for a rejection."""
        return str(self.ffi.string(self.lib.srt_rejectreason_str(code)).decode(errors="replace"))

    # sockets

    def create(self) -> int:
        """A socket, not bound to anything.

        :raises SrtError: where there is no room for it.
        """
        return self._check(self.lib.srt_create_socket(), "no socket can be made")

    def close(self, sock: int) -> None:
        """Close a socket, its unsent data lost; one that is closed already stays so."""
        self.lib.srt_close(sock)  # which waits for a callback that is under way
        self._callbacks.pop(sock, None)

    def set(self, sock: int, name: str, value: bool | int | str | bytes) -> None:
        """Set an option of :data:`~relayx.srt.options.OPTIONS`.

        :raises SrtError: naming the option; the value is left out, which may be a passphrase.
        """
        option = OPTIONS[name]
        if option.kind is Kind.TEXT:
            packed = value.encode() if isinstance(value, str) else bytes(value)
        elif option.kind is Kind.BOOL:
            packed = struct.pack("?", value)
        elif option.kind is Kind.LINGER:
            packed = struct.pack("ii", int(value) > 0, int(value))
        else:
            packed = struct.pack("q" if option.kind is Kind.INT64 else "i", int(value))
        done = self.lib.srt_setsockflag(sock, option.number, packed, len(packed))
        self._check(done, f"option {name}")

    def get(self, sock: int, name: str) -> int:
        """Read an option whose value is a number.

        :raises SrtError: naming the option.
        """
        option = OPTIONS[name]
        room = self.ffi.new("char[8]")
        size = self.ffi.new("int *", 8)
        done = self.lib.srt_getsockflag(sock, option.number, room, size)
        self._check(done, f"option {name}")
        return int.from_bytes(self.ffi.buffer(room, size[0])[:], "little", signed=True)

    def get_text(self, sock: int, name: str) -> bytes:
        """Read an option whose value is a text.

        :raises SrtError: naming the option.
        """
        room = self.ffi.new("char[520]")
        size = self.ffi.new("int *", 520)
        done = self.lib.srt_getsockflag(sock, OPTIONS[name].number, room, size)
        self._check(done, f"option {name}")
        return bytes(self.ffi.buffer(room, size[0])[:])

    def bind(self, sock: int, host: str, port: int) -> None:
        """Bind to an address; "" is every IPv4 address, "::" all of both kinds.

        :raises SrtError: where the UDP port is taken.
        """
        if ":" in host:
            self.set(sock, "ipv6only", 0)
        packed = pack_address(host or "0.0.0.0", port)
        self._check(self.lib.srt_bind(sock, packed, len(packed)), "it cannot be bound")

    def listen_by(
        self, sock: int, descriptor: int, backlog: int, decide: Callable[[int, Peer, bytes], int]
    ) -> None:
        """Take connections by a UDP socket that is bound already, and libsrt's from then on.

        What has come to it already may be a caller's first packet, which a thread of libsrt's reads
        as soon as it has the socket, and drops where nobody listens yet. So nothing stands between
        the two calls.

        :param decide: see :meth:`listen`.
        :param descriptor: closed with the socket, or at once where this fails.
        :raises SrtError: where libsrt does not take it.
        """
        self._decide_by(sock, decide)
        bind, listen = self.lib.srt_bind_acquire, self.lib.srt_listen
        bound = bind(sock, descriptor)
        listens = listen(sock, backlog)
        if bound == -1:
            os.close(descriptor)
        if bound == -1 or listens == -1:
            raise self.error("it cannot listen")

    def bound_to(self, sock: int) -> Peer:
        """The address that a socket has."""
        room, size = self._address_room()
        self._check(self.lib.srt_getsockname(sock, room, size), "no address")
        return unpack_address(bytes(self.ffi.buffer(room, size[0])))

    def listen(
        self, sock: int, backlog: int, decide: Callable[[int, Peer, bytes], int] | None = None
    ) -> None:
        """Take connections.

        :param decide: called in a thread of libsrt's for each that comes, with the socket that it
            would have, where it comes from and its stream id; its answer is 0, or the reason
            (SRT_REJX) for which the peer is turned away.
        :raises SrtError: where the socket cannot listen.
        """
        if decide is not None:
            self._decide_by(sock, decide)
        self._check(self.lib.srt_listen(sock, backlog), "it cannot listen")

    def _decide_by(self, sock: int, decide: Callable[[int, Peer, bytes], int]) -> None:
        callback = self._callback(decide)
        self._callbacks[sock] = callback
        hooked = self.lib.srt_listen_callback(sock, callback, self.ffi.NULL)
        self._check(hooked, "no listen callback")

    def _callback(self, decide: Callable[[int, Peer, bytes], int]) -> Any:
        ffi, lib = self.ffi, self.lib

        def called(_opaque: Any, sock: int, _version: int, address: Any, streamid: Any) -> int:
            family = int.from_bytes(ffi.buffer(address, 2)[:], "little")
            size = 28 if family == socket.AF_INET6 else 16
            peer = unpack_address(bytes(ffi.buffer(address, size)))
            reason = decide(sock, peer, ffi.string(streamid))
            if reason:
                lib.srt_setrejectreason(sock, reason)
                return -1
            return 0

        return ffi.callback("srt_listen_callback_fn", called, error=-1)

    def accept(self, listener: int) -> tuple[int, Peer] | None:
        """Take one connection that has come, None where there is none."""
        room, size = self._address_room()
        sock = self.lib.srt_accept(listener, room, size)
        if sock == -1:
            return None
        return sock, unpack_address(bytes(self.ffi.buffer(room, size[0])))

    def connect(self, sock: int, host: str, port: int) -> None:
        """Connect; on a socket that does not block this only begins.

        :raises SrtError: where it fails at once.
        """
        packed = pack_address(host, port)
        self._check(self.lib.srt_connect(sock, packed, len(packed)), f"connecting to {host}:{port}")

    def rendezvous(self, sock: int, local: Peer, remote: Peer) -> None:
        """Meet a peer that does the same; on a socket that does not block this only begins.

        :raises SrtError: where it fails at once.
        """
        one, two = pack_address(*local), pack_address(*remote)
        done = self.lib.srt_rendezvous(sock, one, len(one), two, len(two))
        self._check(done, f"meeting {remote.host}:{remote.port}")

    def state(self, sock: int) -> int:
        """SRT_SOCKSTATUS of a socket: 5 is connected, above it is broken or closed."""
        return int(self.lib.srt_getsockstate(sock))

    def reject_reason(self, sock: int) -> int:
        """Why a connection was turned away."""
        return int(self.lib.srt_getrejectreason(sock))

    def unsent(self, sock: int) -> int:
        """Bytes that were sent and not acknowledged yet."""
        blocks, size = self.ffi.new("size_t *"), self.ffi.new("size_t *")
        if self.lib.srt_getsndbuffer(sock, blocks, size) == -1:
            return 0
        return int(size[0])

    def statistics(self, sock: int) -> Any:
        """SRT_TRACEBSTATS of a connected socket, None of one that is not."""
        room = self.ffi.new("SRT_TRACEBSTATS *")
        return None if self.lib.srt_bstats(sock, room, 0) == -1 else room

    def address_of(self, name: str) -> int:
        """Where a function of libsrt is in memory, for code in C."""
        return int(self.ffi.cast("uintptr_t", self.ffi.addressof(self.lib, name)))

    def _address_room(self) -> tuple[Any, Any]:
        return self.ffi.new(f"char[{_ADDRESS_ROOM}]"), self.ffi.new("int *", _ADDRESS_ROOM)


def load(path: str = "") -> Library:
    """Load libsrt.

    :param path: a library file; "": what the system has.
    :raises LibraryMissingError: naming the packages that have it.
    """
    try:
        from cffi import FFI
    except ImportError:
        raise LibraryMissingError(
            "the Python package cffi is missing: pip install 'relayx[srt]'"
        ) from None
    ffi = FFI()
    ffi.cdef(declarations())
    found = ctypes.util.find_library("srt") or ctypes.util.find_library("srt-gnutls")
    failures = []
    for name in [path] if path else [*NAMES, *([found] if found else [])]:
        try:
            lib: Any = ffi.dlopen(name)
        except OSError as error:
            failures.append(str(error))
            continue
        library = Library(ffi, lib)
        if lib.srt_getversion() < LEAST_VERSION:
            raise LibraryMissingError(f"libsrt {library.version} is too old; 1.4.4 is needed")
        return library
    where = f" at {path}: {failures[0]}" if path else ""
    raise LibraryMissingError(f"libsrt is not installed{where} ({PACKAGES})")


def pack_address(host: str, port: int) -> bytes:
    """A struct sockaddr.

    :raises OSError: where the host is no address.
    """
    if ":" in host:
        family = struct.pack("@H", socket.AF_INET6)
        return family + struct.pack("!HI", port, 0) + socket.inet_pton(
            socket.AF_INET6, host.partition("%")[0]
        ) + struct.pack("@I", 0)  # fmt: skip
    family = struct.pack("@H", socket.AF_INET)
    return family + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)


def unpack_address(raw: bytes) -> Peer:
    """Where a struct sockaddr points; IPv4-mapped IPv6 addresses count as IPv4."""
    family, port = struct.unpack_from("@H", raw)[0], struct.unpack_from("!H", raw, 2)[0]
    if family == socket.AF_INET6:
        return Peer(plain(socket.inet_ntop(socket.AF_INET6, raw[8:24])), port)
    return Peer(socket.inet_ntop(socket.AF_INET, raw[4:8]), port)
