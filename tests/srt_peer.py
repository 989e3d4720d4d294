"""A blocking SRT client, listener and rendezvous peer, by libsrt itself, for tests.

It has declarations of its own, so that a mistake in those of the code under test is not made
twice. Every call blocks for a bounded time, and is for a thread (``live`` tests, or
``deferToThread``); libsrt keeps the last error a thread, so one peer is used by one thread at a
time. Sources: libsrt's ``srt.h`` of 1.5, and its "API functions" and "socket options" documents.
"""

from __future__ import annotations

import atexit
import ctypes.util
import functools
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from cffi import FFI

DEADLINE = 60.0
"""Seconds that a call waits unless told; a busy machine needs many."""

NAMES = ("libsrt.so.1.5", "libsrt-gnutls.so.1.5", "libsrt.so.1.4", "libsrt.1.5.dylib")
"""Of the library, where the system's own search does not find it."""

_DECLARATIONS = """
typedef int32_t SRTSOCKET;
typedef struct {
    int flags; int msgttl; int inorder; int boundary;
    int64_t srctime; int32_t pktseq; int32_t msgno;
    void *grpdata; size_t grpdata_size;
} SRT_MSGCTRL;
typedef struct { SRTSOCKET fd; int events; } SRT_EPOLL_EVENT;
typedef struct {
    int64_t msTimeStamp, pktSentTotal, pktRecvTotal;
    int pktSndLossTotal, pktRcvLossTotal, pktRetransTotal;
    int pktSentACKTotal, pktRecvACKTotal, pktSentNAKTotal, pktRecvNAKTotal;
    int64_t usSndDurationTotal;
    int pktSndDropTotal, pktRcvDropTotal, pktRcvUndecryptTotal;
    uint64_t byteSentTotal, byteRecvTotal, byteRcvLossTotal, byteRetransTotal;
    uint64_t byteSndDropTotal, byteRcvDropTotal, byteRcvUndecryptTotal;
    int64_t pktSent, pktRecv;
    int pktSndLoss, pktRcvLoss, pktRetrans, pktRcvRetrans;
    int pktSentACK, pktRecvACK, pktSentNAK, pktRecvNAK;
    double mbpsSendRate, mbpsRecvRate;
    int64_t usSndDuration;
    int pktReorderDistance;
    double pktRcvAvgBelatedTime;
    int64_t pktRcvBelated;
    int pktSndDrop, pktRcvDrop, pktRcvUndecrypt;
    uint64_t byteSent, byteRecv, byteRcvLoss, byteRetrans;
    uint64_t byteSndDrop, byteRcvDrop, byteRcvUndecrypt;
    double usPktSndPeriod;
    int pktFlowWindow, pktCongestionWindow, pktFlightSize;
    double msRTT, mbpsBandwidth;
    int byteAvailSndBuf, byteAvailRcvBuf;
    double mbpsMaxBW;
    int byteMSS;
    int pktSndBuf, byteSndBuf, msSndBuf, msSndTsbPdDelay;
    int pktRcvBuf, byteRcvBuf, msRcvBuf, msRcvTsbPdDelay;
    int pktSndFilterExtraTotal, pktRcvFilterExtraTotal;
    int pktRcvFilterSupplyTotal, pktRcvFilterLossTotal;
    int pktSndFilterExtra, pktRcvFilterExtra, pktRcvFilterSupply, pktRcvFilterLoss;
    int pktReorderTolerance;
    int64_t pktSentUniqueTotal, pktRecvUniqueTotal;
    uint64_t byteSentUniqueTotal, byteRecvUniqueTotal;
    int64_t pktSentUnique, pktRecvUnique;
    uint64_t byteSentUnique, byteRecvUnique;
} SRT_TRACEBSTATS;

int srt_startup(void);
int srt_cleanup(void);
uint32_t srt_getversion(void);
SRTSOCKET srt_create_socket(void);
int srt_bind(SRTSOCKET u, const void *name, int namelen);
int srt_listen(SRTSOCKET u, int backlog);
SRTSOCKET srt_accept(SRTSOCKET u, void *addr, int *addrlen);
typedef int srt_listen_callback_fn(
    void *opaque, SRTSOCKET ns, int hsversion, const void *peer, const char *streamid);
int srt_listen_callback(SRTSOCKET lsn, srt_listen_callback_fn *hook, void *opaque);
int srt_connect(SRTSOCKET u, const void *name, int namelen);
int srt_rendezvous(SRTSOCKET u, const void *local, int local_len, const void *remote, int len);
int srt_close(SRTSOCKET u);
int srt_getsockname(SRTSOCKET u, void *name, int *namelen);
int srt_getpeername(SRTSOCKET u, void *name, int *namelen);
int srt_getsockflag(SRTSOCKET u, int option, void *value, int *length);
int srt_setsockflag(SRTSOCKET u, int option, const void *value, int length);
int srt_sendmsg2(SRTSOCKET u, const char *buf, int len, SRT_MSGCTRL *control);
int srt_recvmsg2(SRTSOCKET u, char *buf, int len, SRT_MSGCTRL *control);
int srt_getlasterror(int *system_error);
const char *srt_getlasterror_str(void);
int srt_getrejectreason(SRTSOCKET u);
int srt_setrejectreason(SRTSOCKET u, int value);
const char *srt_rejectreason_str(int id);
int srt_bistats(SRTSOCKET u, SRT_TRACEBSTATS *into, int clear, int instantaneous);
int srt_getsockstate(SRTSOCKET u);
int srt_getsndbuffer(SRTSOCKET u, size_t *blocks, size_t *bytes);
int srt_epoll_create(void);
int srt_epoll_add_usock(int eid, SRTSOCKET u, const int *events);
int srt_epoll_uwait(int eid, SRT_EPOLL_EVENT *found, int room, int64_t ms);
int srt_epoll_release(int eid);
void srt_setloglevel(int level);
"""

OPTIONS = {
    "mss": (0, "i"),
    "sndsyn": (1, "i"),
    "rcvsyn": (2, "i"),
    "fc": (4, "i"),
    "sndbuf": (5, "i"),
    "rcvbuf": (6, "i"),
    "sndtimeo": (13, "i"),
    "rcvtimeo": (14, "i"),
    "reuseaddr": (15, "i"),
    "maxbw": (16, "q"),
    "tsbpdmode": (22, "i"),
    "latency": (23, "i"),
    "inputbw": (24, "q"),
    "oheadbw": (25, "i"),
    "passphrase": (26, "s"),
    "pbkeylen": (27, "i"),
    "tlpktdrop": (31, "i"),
    "snddropdelay": (32, "i"),
    "conntimeo": (36, "i"),
    "lossmaxttl": (42, "i"),
    "rcvlatency": (43, "i"),
    "peerlatency": (44, "i"),
    "streamid": (46, "s"),
    "messageapi": (48, "i"),
    "payloadsize": (49, "i"),
    "transtype": (50, "i"),
    "enforcedencryption": (53, "i"),
    "ipv6only": (54, "i"),
    "peeridletimeo": (55, "i"),
    "packetfilter": (60, "s"),
}
"""Number and kind of libsrt's options, under its names: i and q are integers, s is a string."""

_LIVE, _FILE = 0, 1
_IN, _ERR = 1, 8
_REJECTED, _NO_SERVER = 1002, 1001
_OVER = (2001, 2002, 5004)
"""A connection is lost, was none, or its socket is no longer known."""
_NOTHING_THERE, _TIMEOUT = 6002, 6003
_CONNECTED = 5
_MOMENT = 0.05
_LARGEST = 1456
"""Bytes of a live message at most; buffer mode reads this many at once too."""


class SrtError(Exception):
    """What libsrt says of a failure.

    :ivar code: its error number, such as 2001.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text} ({code})")
        self.code = code


class Rejected(SrtError):
    """The other side refused the connection, or it could not be set up.

    :ivar code: libsrt's reason (1..99), or the application's (1000 and more: 1404 and so on).
    """


class Ended(SrtError):
    """The connection is over."""


@functools.cache
def _library() -> tuple[Any, Any]:
    ffi: Any = FFI()
    ffi.cdef(_DECLARATIONS)
    for name in (*NAMES, ctypes.util.find_library("srt"), ctypes.util.find_library("srt-gnutls")):
        if name is None:
            continue
        try:
            opened = ffi.dlopen(name)
        except OSError:
            continue
        opened.srt_startup()
        opened.srt_setloglevel(2)  # a refusal is no news here
        atexit.register(opened.srt_cleanup)
        return ffi, opened
    raise OSError("no libsrt")


def missing() -> str:
    """Why a test that needs libsrt is skipped, or "" where it is there."""
    try:
        _library()
    except OSError:
        return "libsrt is not installed (Debian package libsrt1.5-openssl)"
    return ""


def version() -> str:
    """Of libsrt, such as 1.5.1."""
    number = _library()[1].srt_getversion()
    return f"{number >> 16}.{number >> 8 & 255}.{number & 255}"


class SrtPeer:
    """One SRT socket: of a caller, a listener, a connection it has accepted, or a rendezvous.

    Made by :meth:`connect`, :meth:`listen`, :meth:`accept` or :meth:`rendezvous`; a context
    manager that closes it.
    """

    def __init__(self, number: int) -> None:
        self._ffi, self._srt = _library()
        self._number = number
        self._buffer = self._ffi.new("char[]", _LARGEST)
        self._keep: Any = None
        self._remote: tuple[str, int] | None = None

    @classmethod
    def connect(
        cls,
        address: str,
        port: int,
        streamid: str | bytes = "",
        latency: int = 120,
        passphrase: str = "",
        pbkeylen: int = 0,
        live: bool = True,
        timeout: float = DEADLINE,
        local: tuple[str, int] | None = None,
        **options: int | str | bytes,
    ) -> Self:
        """Call a listener.

        :param streamid: at most 512 bytes; as bytes it goes out whatever they are.
        :param latency: in ms, of both directions.
        :param live: live mode; False: buffer mode (``transtype`` file, without messages).
        :param local: from where, by default a free port; another socket's that is one of this
            process's may be shared, which saves libsrt two threads.
        :param options: more of libsrt's, in its units (:data:`OPTIONS`).
        :raises Rejected: with the reason that the other side gave; 16 is a timeout.
        """
        told = {"latency": latency, "passphrase": passphrase, "pbkeylen": pbkeylen, **options}
        peer = cls._opened(live, {**told, "streamid": streamid, "conntimeo": int(timeout * 1000)})
        try:
            if local is not None:
                here = _sockaddr(*local)
                peer._check(peer._srt.srt_bind(peer._number, here, len(here)))
            name = _sockaddr(address, port)
            if peer._srt.srt_connect(peer._number, name, len(name)) < 0:
                peer._refused()
        except BaseException:
            peer.close()
            raise
        return peer

    @classmethod
    def listen(
        cls,
        address: str = "127.0.0.1",
        port: int = 0,
        latency: int = 120,
        passphrase: str = "",
        pbkeylen: int = 0,
        live: bool = True,
        answer: Callable[[bytes], int] | None = None,
        **options: int | str | bytes,
    ) -> Self:
        """Wait for callers on a UDP port, by default a free one.

        :param answer: called in a thread of libsrt's with the stream id of a caller; what it
            returns is the reason of the refusal, 0 to take it.
        """
        told = {"latency": latency, "passphrase": passphrase, "pbkeylen": pbkeylen, **options}
        peer = cls._opened(live, told)
        try:
            if answer is not None:
                peer._answer_with(answer)
            name = _sockaddr(address, port)
            peer._check(peer._srt.srt_bind(peer._number, name, len(name)))
            peer._check(peer._srt.srt_listen(peer._number, 64))
        except BaseException:
            peer.close()
            raise
        return peer

    @classmethod
    def rendezvous(
        cls,
        address: str,
        port: int,
        local: tuple[str, int],
        latency: int = 120,
        passphrase: str = "",
        pbkeylen: int = 0,
        timeout: float = DEADLINE,
        **options: int | str | bytes,
    ) -> Self:
        """Meet a peer that does the same towards `local`, live mode only.

        libsrt 1.5.1 says that it is connected a moment before the other side takes data, and does
        not send again what is lost then; so this returns a moment later.

        :raises Rejected: where nobody came.
        """
        told = {"latency": latency, "passphrase": passphrase, "pbkeylen": pbkeylen, **options}
        # libsrt multiplies it by ten for a rendezvous
        peer = cls._opened(True, {**told, "conntimeo": max(1, int(timeout * 100))})
        try:
            here, there = _sockaddr(*local), _sockaddr(address, port)
            made = peer._srt.srt_rendezvous(peer._number, here, len(here), there, len(there))
            if made < 0:
                peer._refused()
        except BaseException:
            peer.close()
            raise
        peer._remote = (address, port)  # libsrt 1.5.1 has no name for the peer of a rendezvous
        time.sleep(0.05)  # see above: nothing tells of it
        return peer

    @classmethod
    def _opened(cls, live: bool, options: Mapping[str, int | str | bytes]) -> Self:
        _, srt = _library()
        peer = cls(srt.srt_create_socket())
        try:
            peer.set("transtype", _LIVE if live else _FILE)
            if live:
                peer.set("snddropdelay", -1)  # what a busy machine has not sent is not too late
            for name, value in options.items():
                if value not in ("", b"") and (name, value) != ("pbkeylen", 0):
                    peer.set(name, value)
        except BaseException:
            peer.close()
            raise
        return peer

    def _answer_with(self, answer: Callable[[bytes], int]) -> None:
        def asked(_: Any, number: int, _version: int, _peer: Any, streamid: Any) -> int:
            code = answer(self._ffi.string(streamid))
            if not code:
                return 0
            self._srt.srt_setrejectreason(number, code)
            return -1

        self._keep = self._ffi.callback("srt_listen_callback_fn", asked, error=-1)
        self._check(self._srt.srt_listen_callback(self._number, self._keep, self._ffi.NULL))

    def accept(self, timeout: float = DEADLINE) -> Self:
        """The next caller.

        :raises TimeoutError: where nobody comes in time.
        """
        self.set("rcvsyn", 0)
        none = self._ffi.NULL
        deadline = time.monotonic() + timeout
        while True:
            number = self._srt.srt_accept(self._number, none, none)
            if number >= 0 or self._srt.srt_getlasterror(none) != _NOTHING_THERE:
                return type(self)(self._check(number))
            if not self._look_again(deadline):
                raise TimeoutError("nobody called")

    def _look_again(self, deadline: float) -> bool:
        """Wait until there is something to receive or to accept, or for a moment.

        libsrt 1.5.1 can miss an event that happens while a socket is added to an epoll.
        """
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        waiting = self._check(self._srt.srt_epoll_create())
        try:
            events = self._ffi.new("int *", _IN | _ERR)
            self._check(self._srt.srt_epoll_add_usock(waiting, self._number, events))
            found = self._ffi.new("SRT_EPOLL_EVENT[1]")
            self._srt.srt_epoll_uwait(waiting, found, 1, 1 + int(min(left, _MOMENT) * 1000))
        finally:
            self._srt.srt_epoll_release(waiting)
        return True

    def send(self, message: bytes, timeout: float = DEADLINE) -> int:
        """Send one message (live mode), or as many of these bytes as there is room for.

        :returns: how many bytes were taken.
        :raises TimeoutError: where there was no room in time.
        :raises Ended: where the connection is over.
        """
        self._set_unless_over("sndtimeo", int(timeout * 1000))
        sent = self._srt.srt_sendmsg2(self._number, message, len(message), self._ffi.NULL)
        return self._moved(sent)

    def receive(self, timeout: float = DEADLINE) -> bytes:
        """The next message (live mode), or the bytes that are there, at most 1456.

        :raises TimeoutError: where none comes in time.
        :raises Ended: where the connection is over, which comes before messages that still wait
            for their time (:meth:`receive_all`); in buffer mode b"" tells it first.
        """
        none = self._ffi.NULL
        deadline = time.monotonic() + timeout
        self._set_unless_over("rcvsyn", 0)  # a receive that waits loses a message to an end
        while True:
            got = self._srt.srt_recvmsg2(self._number, self._buffer, _LARGEST, none)
            if got >= 0 or self._srt.srt_getlasterror(none) != _NOTHING_THERE:
                return bytes(self._ffi.buffer(self._buffer, self._moved(got)))
            if not self._look_again(deadline):
                raise TimeoutError("nothing arrived")

    def _set_unless_over(self, option: str, value: int) -> None:
        try:
            self.set(option, value)
        except SrtError as error:
            if error.code not in _OVER:
                raise
            # what has arrived can be received all the same

    def _moved(self, count: int) -> int:
        if count >= 0:
            return count
        error = self._error()
        if error.code == _TIMEOUT:
            raise TimeoutError(str(error))
        if error.code in _OVER:
            raise Ended(*error.parts)
        raise error

    def receive_all(self, timeout: float = DEADLINE, late: bool = True) -> list[bytes]:
        """Every message until the end of the connection.

        When the sender closes, libsrt says at once that the connection is broken, also while
        messages still wait for their time to be played: ffmpeg and srt-live-transmit end there
        and lose up to a latency's worth. They can be had from the broken socket as they come of
        age, which this does unless told.

        :param timeout: seconds for each.
        :param late: take those too.
        """
        got: list[bytes] = []
        deadline = None
        latency = self.get("rcvlatency") if late else 0
        assert isinstance(latency, int)
        while True:
            looked = time.monotonic()
            try:
                message = self.receive(timeout)
            except Ended:
                deadline = deadline or time.monotonic() + latency / 1000 + 0.1
                if looked >= deadline:  # all is due that is to come, and there is no more
                    return got
                time.sleep(0.005)  # libsrt has no event of a broken socket
                continue
            if not message:
                return got
            got.append(message)

    def unacknowledged(self) -> int:
        """Bytes in the send buffer, which the other side has not acknowledged."""
        blocks, size = self._ffi.new("size_t *"), self._ffi.new("size_t *")
        self._check(self._srt.srt_getsndbuffer(self._number, blocks, size))
        return int(size[0])

    def drain(self, timeout: float = DEADLINE) -> None:
        """Wait until the other side has acknowledged everything: libsrt's close drops the rest.

        :raises TimeoutError: where it has not in time.
        """
        deadline = time.monotonic() + timeout
        while self.unacknowledged():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.unacknowledged()} bytes are not acknowledged")
            time.sleep(0.002)  # libsrt has no event for it

    def finish(self, timeout: float = DEADLINE) -> None:
        """Close it when the other side has had the time to play everything."""
        self.drain(timeout)
        latency = self.get("peerlatency")
        assert isinstance(latency, int)
        time.sleep(latency / 1000 + 0.05)  # nothing tells what the other side has played
        self.close()

    def stats(self) -> dict[str, int | float]:
        """The fields of ``SRT_TRACEBSTATS`` under their names, since the connection's begin."""
        found = self._ffi.new("SRT_TRACEBSTATS *")
        self._check(self._srt.srt_bistats(self._number, found, 0, 1))
        fields = self._ffi.typeof("SRT_TRACEBSTATS").fields
        return {name: getattr(found, name) for name, _ in fields}

    @property
    def connected(self) -> bool:
        """Whether it is."""
        return bool(self._srt.srt_getsockstate(self._number) == _CONNECTED)

    @property
    def address(self) -> tuple[str, int]:
        """Its own address and port."""
        return self._name(self._srt.srt_getsockname)

    @property
    def remote(self) -> tuple[str, int]:
        """The other side's."""
        return self._remote or self._name(self._srt.srt_getpeername)

    def _name(self, function: Any) -> tuple[str, int]:
        room = self._ffi.new("char[]", 128)
        length = self._ffi.new("int *", 128)
        self._check(function(self._number, room, length))
        return _address(bytes(self._ffi.buffer(room, length[0])))

    def set(self, name: str, value: int | str | bytes) -> None:
        """Set one of :data:`OPTIONS`."""
        number, kind = OPTIONS[name]
        if kind == "s":
            told = value.encode() if isinstance(value, str) else value
            assert isinstance(told, bytes)
        else:
            told = struct.pack("=" + kind, value)
        self._check(self._srt.srt_setsockflag(self._number, number, told, len(told)))

    def get(self, name: str) -> int | bytes:
        """One of :data:`OPTIONS` as it is in force."""
        number, kind = OPTIONS[name]
        room = self._ffi.new("char[]", 1024)
        length = self._ffi.new("int *", 1024)
        self._check(self._srt.srt_getsockflag(self._number, number, room, length))
        found = bytes(self._ffi.buffer(room, length[0]))
        return found if kind == "s" else int.from_bytes(found, sys.byteorder, signed=True)

    def close(self) -> None:
        """Close it; what was not acknowledged is dropped in live mode. May be repeated.

        libsrt keeps the UDP port for about a second more; no other process can have it meanwhile.

        What the other side has acknowledged but not yet played is lost too at most receivers
        (:meth:`receive_all`): :meth:`finish` is for that.
        """
        if self._number >= 0:
            self._srt.srt_close(self._number)
            self._number = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check(self, result: int) -> int:
        if result < 0:
            raise self._error()
        return result

    def _error(self) -> _Failure:
        code = self._srt.srt_getlasterror(self._ffi.NULL)
        return _Failure(code, self._ffi.string(self._srt.srt_getlasterror_str()).decode())

    def _refused(self) -> None:
        error = self._error()
        if error.code not in (_REJECTED, _NO_SERVER):
            raise error
        reason = self._srt.srt_getrejectreason(self._number)
        text = self._ffi.string(self._srt.srt_rejectreason_str(reason)).decode()
        raise Rejected(reason, f"{error}: {text}")


class _Failure(SrtError):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.parts = (code, text)


_FAMILY = "=BB" if sys.platform == "darwin" else "=H"


def _sockaddr(address: str, port: int) -> bytes:
    """``sockaddr_in`` or ``sockaddr_in6`` as C has it."""
    version = socket.AF_INET6 if ":" in address else socket.AF_INET
    host = socket.inet_pton(version, address)
    length = 28 if version is socket.AF_INET6 else 16
    head = struct.pack(_FAMILY, *([length] if _FAMILY == "=BB" else []), int(version))
    head += struct.pack("!H", port)
    return head + (b"\0" * 4 + host + b"\0" * 4 if length == 28 else host + b"\0" * 8)


def _address(raw: bytes) -> tuple[str, int]:
    (port,) = struct.unpack_from("!H", raw, 2)
    if len(raw) >= 28:
        return socket.inet_ntop(socket.AF_INET6, raw[8:24]), port
    return socket.inet_ntop(socket.AF_INET, raw[4:8]), port
