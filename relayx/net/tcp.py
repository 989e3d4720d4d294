"""What the kernel knows of a TCP connection (Linux; elsewhere nothing is known).

The figures decide two things of contract section 7: when bytes are *delivered* (nothing left
in the socket's send queue), and when a peer is dead although the kernel still tries.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
import sys
from array import array
from enum import StrEnum

if sys.platform == "linux":
    import fcntl

_SIOCOUTQ = 0x5411  # bytes not yet acknowledged, linux/sockios.h
_FIONREAD = 0x541B  # bytes that can be read, asm-generic/ioctls.h
_PROBES = 2
_INFO = struct.Struct("=8B13I")  # the first members of struct tcp_info, linux/tcp.h
_RETRANSMITS, _PROBES_OUT, _LAST_ACK_RECV = 2, 3, 20


class Failure(StrEnum):
    """Why a connection cannot go on."""

    RESET = "reset"
    DEAD = "dead"


_DEAD_ERRORS = frozenset(
    {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN}
)


def failure_of(error_number: int) -> Failure:
    """What a socket error says of the peer."""
    return Failure.DEAD if error_number in _DEAD_ERRORS else Failure.RESET


def set_keepalive(sock: socket.socket, seconds: float) -> None:
    """Have the kernel find a silent dead peer within 4 x `seconds` (contract section 7).

    The kernel counts whole seconds: idle, then two probes an interval apart, and the end one
    interval after the last.
    """
    interval = max(1, int(seconds))
    with contextlib.suppress(OSError):  # the peer may be gone already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, interval)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)


def unacknowledged(sock: socket.socket) -> int:
    """Bytes in the send queue that the peer's TCP has not acknowledged; a FIN counts as one."""
    return _count(sock, _SIOCOUTQ)


def unread(sock: socket.socket) -> int:
    """Bytes that have come and were not read yet."""
    return _count(sock, _FIONREAD)


def _count(sock: socket.socket, request: int) -> int:
    if sys.platform != "linux":
        return 0
    answer = array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), request, answer)
    except OSError:
        return 0
    return answer[0]


def is_dead(sock: socket.socket, seconds: float) -> bool:
    """Whether a peer with bytes on their way to it has stopped answering.

    True where nothing was acknowledged for `seconds` and at least two retransmissions or
    window probes in a row are unanswered. A peer that keeps its window closed answers the
    probes, and so is alive however long it does not read.
    """
    if sys.platform != "linux" or not unacknowledged(sock):
        return False
    try:
        raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    except OSError:
        return False
    if len(raw) < _INFO.size:
        return False
    info = _INFO.unpack(raw)
    silent: bool = info[_LAST_ACK_RECV] >= seconds * 1000
    unanswered: bool = max(info[_RETRANSMITS], info[_PROBES_OUT]) >= _PROBES
    return silent and unanswered
