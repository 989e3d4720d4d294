"""What the kernel knows of a connection, on real sockets over loopback (contract section 7)."""

from __future__ import annotations

import errno
import select
import socket
import struct
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from relayx.net import tcp
from relayx.net.tcp import (
    Failure,
    failure_of,
    is_dead,
    set_keepalive,
    unacknowledged,
    unread,
)

ON_LINUX = hasattr(select, "epoll")


def tcp_pair(case: SynchronousTestCase, buffer: int = 0) -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection over loopback; the second with a small receive buffer."""
    with socket.socket() as server:
        if buffer:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        server.bind(("127.0.0.1", 0))
        server.listen()
        one = socket.create_connection(server.getsockname())
        two, _ = server.accept()
    case.addCleanup(one.close)
    case.addCleanup(two.close)
    return one, two


def fill(sock: socket.socket) -> int:
    """Write until the kernel takes no more; return how many bytes it took."""
    sock.setblocking(False)
    taken = 0
    while select.select([], [sock], [], 0.05)[1]:
        try:
            taken += sock.send(b"x" * 65536)
        except BlockingIOError:
            continue
    return taken


def await_true(what: object, seconds: float = 10.0) -> bool:
    """Look at what the kernel does by itself until it has done it."""
    for _ in range(int(seconds / 0.02)):
        if what():
            return True
        select.select([], [], [], 0.02)
    return False


class Errors(SynchronousTestCase):
    """What a socket error says of the peer."""

    def test_dead(self) -> None:
        for number in (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN):
            self.assertIs(failure_of(number), Failure.DEAD)

    def test_reset(self) -> None:
        for number in (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, 0):
            self.assertIs(failure_of(number), Failure.RESET)


@skipUnless(ON_LINUX, "Linux only")
class Counts(SynchronousTestCase):
    """Bytes on their way, and bytes that have come."""

    def setUp(self) -> None:
        self.one, self.two = tcp_pair(self)

    def test_nothing(self) -> None:
        self.assertEqual((unacknowledged(self.one), unread(self.one)), (0, 0))

    def test_unread(self) -> None:
        self.one.sendall(b"hello")
        self.assertTrue(await_true(lambda: unread(self.two) == 5))
        self.two.recv(2)
        self.assertEqual(unread(self.two), 3)

    def test_acknowledged_though_unread(self) -> None:
        """Delivered means acknowledged by the receiver's TCP, not read."""
        self.one.sendall(b"hello")
        self.assertTrue(await_true(lambda: unacknowledged(self.one) == 0))
        self.assertEqual(unread(self.two), 5)

    def test_a_closed_window_leaves_the_rest_unacknowledged(self) -> None:
        one, two = tcp_pair(self, buffer=4096)
        taken = fill(one)
        self.assertTrue(await_true(lambda: unread(two) + unacknowledged(one) == taken))
        self.assertTrue(unacknowledged(one) > 0)

    def test_end_of_stream_counts_as_one(self) -> None:
        one, two = tcp_pair(self, buffer=4096)
        taken = fill(one)
        self.assertTrue(await_true(lambda: unread(two) + unacknowledged(one) == taken))
        one.shutdown(socket.SHUT_WR)
        self.assertEqual(unread(two) + unacknowledged(one), taken + 1)

    def test_listening(self) -> None:
        """The kernel has no such counts."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.assertEqual((unacknowledged(server), unread(server)), (0, 0))

    def test_elsewhere_nothing_is_known(self) -> None:
        self.patch(tcp.sys, "platform", "darwin")
        self.one.sendall(b"hello")
        self.assertEqual((unread(self.two), unacknowledged(self.one)), (0, 0))
        self.assertFalse(is_dead(self.one, 0.0))


class Keepalive(SynchronousTestCase):
    """A silent dead peer is found within 4 x keepalive where nothing is in flight."""

    def options(self, seconds: float) -> tuple[int, int, int, int]:
        one, _ = tcp_pair(self)
        set_keepalive(one, seconds)
        get = one.getsockopt
        return (
            get(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            get(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
            get(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
            get(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
        )

    def test_on(self) -> None:
        for seconds in (1.0, 2.5, 15.0, 75.0):
            on, idle, interval, count = self.options(seconds)
            self.assertEqual(on, 1)
            self.assertTrue(idle + interval * count <= 4 * seconds, (idle, interval, count))

    def test_at_least_a_second(self) -> None:
        """The kernel counts whole seconds."""
        self.assertEqual(self.options(0.2)[:3], (1, 1, 1))

    def test_closed(self) -> None:
        one, _ = tcp_pair(self)
        one.close()
        set_keepalive(one, 15.0)


@skipUnless(ON_LINUX, "Linux only")
class Alive(SynchronousTestCase):
    """A live peer is never taken for dead; for one that is, see test_net_dead."""

    def test_idle(self) -> None:
        one, _ = tcp_pair(self)
        self.assertFalse(is_dead(one, 0.0))

    def test_reading(self) -> None:
        one, two = tcp_pair(self)
        one.sendall(b"x" * 1000)
        two.recv(1000)
        self.assertFalse(is_dead(one, 0.0))

    def test_not_reading(self) -> None:
        """Its window is closed, and it answers the probes: alive however short the limit is."""
        one, two = tcp_pair(self, buffer=4096)
        taken = fill(one)
        self.assertTrue(unacknowledged(one) > 0)
        self.assertFalse(await_true(lambda: is_dead(one, 0.0), seconds=1.5))
        self.assertTrue(unread(two) < taken)

    def test_reading_on_after_that(self) -> None:
        one, two = tcp_pair(self, buffer=4096)
        left = fill(one)
        while left:
            left -= len(two.recv(65536))
        self.assertTrue(await_true(lambda: unacknowledged(one) == 0))
        self.assertFalse(is_dead(one, 0.0))

    def test_reset(self) -> None:
        """Nothing is on its way to it any more: that is no dead peer but a reset one."""
        one, two = tcp_pair(self)
        two.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        two.close()
        self.assertTrue(await_true(lambda: select.select([one], [], [], 0)[0]))
        self.assertFalse(is_dead(one, 0.0))
