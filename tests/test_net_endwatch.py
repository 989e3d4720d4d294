"""Ends that are seen although nobody reads (contract section 7, the paused connection)."""

from __future__ import annotations

import select
import socket
import struct
from unittest import skipUnless

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from relayx.net import endwatch
from relayx.net.endwatch import EndWatch
from tests.test_net_tcp import tcp_pair


class Watching:
    """A connection that writes down what is seen of its end."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.seen: list[bool] = []

    def fileno(self) -> int:
        return self.sock.fileno()

    def end_seen(self, broken: bool) -> None:
        self.seen.append(broken)


@skipUnless(hasattr(select, "epoll"), "needs epoll")
class Ends(SynchronousTestCase):
    """End of stream, reset, and neither, of connections that nobody reads."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.watch = EndWatch(self.reactor)
        self.addCleanup(self.watch.close)
        self.mine, self.peer = tcp_pair(self)
        self.watched = Watching(self.mine)
        self.watch.add(self.watched)

    def look(self, watch: EndWatch | None = None) -> list[bool]:
        """What the reactor would have it do, once its descriptor is readable."""
        self.watched.seen.clear()
        one = watch or self.watch
        if select.select([one], [], [], 0.1)[0]:
            one.doRead()
        return list(self.watched.seen)

    def test_is_a_reader_of_the_reactor(self) -> None:
        self.assertEqual(self.reactor.getReaders(), [self.watch])
        self.assertEqual(self.watch.logPrefix(), "relayx ends")

    def test_nothing(self) -> None:
        self.assertEqual(self.look(), [])

    def test_bytes_are_no_end(self) -> None:
        self.peer.sendall(b"data")
        self.assertEqual(self.look(), [])

    def test_end_of_stream(self) -> None:
        self.peer.shutdown(socket.SHUT_WR)
        self.assertEqual(self.look(), [False])

    def test_end_of_stream_behind_unread_bytes(self) -> None:
        self.peer.sendall(b"data")
        self.peer.shutdown(socket.SHUT_WR)
        self.assertEqual(self.look(), [False])
        self.assertEqual(self.mine.recv(10), b"data")

    def test_once(self) -> None:
        self.peer.shutdown(socket.SHUT_WR)
        self.look()
        self.assertEqual(self.look(), [])

    def test_reset(self) -> None:
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.close()
        self.assertEqual(self.look(), [True])

    def test_both_ends(self) -> None:
        self.mine.shutdown(socket.SHUT_WR)
        self.peer.close()
        self.assertEqual(self.look(), [True])

    def test_several(self) -> None:
        mine, peer = tcp_pair(self)
        other = Watching(mine)
        self.watch.add(other)
        peer.shutdown(socket.SHUT_WR)
        self.assertEqual((self.look(), other.seen), ([], [False]))

    def test_removed(self) -> None:
        self.watch.forget(self.watched)
        self.peer.shutdown(socket.SHUT_WR)
        self.assertEqual(self.look(), [])

    def test_removed_twice_or_never_added(self) -> None:
        self.watch.forget(Watching(self.mine))  # another one with the same descriptor
        self.peer.shutdown(socket.SHUT_WR)
        self.assertEqual(self.look(), [False])
        self.watch.forget(self.watched)
        self.watch.forget(self.watched)
        self.assertEqual(self.look(), [])

    def test_removed_by_another_that_is_seen_first(self) -> None:
        """An end that is told may remove the next one whose end is due."""
        mine, peer = tcp_pair(self)
        other = Watching(mine)

        def remove(broken: bool) -> None:
            for one in (self.watched, other):
                self.watch.forget(one)

        self.watched.end_seen = other.end_seen = remove
        self.watch.add(other)
        self.peer.shutdown(socket.SHUT_WR)
        peer.shutdown(socket.SHUT_WR)
        self.assertEqual((self.look(), self.look()), ([], []))

    def test_closed(self) -> None:
        self.watch.close()
        self.watch.close()
        self.assertEqual(self.reactor.getReaders(), [])
        self.assertEqual(self.watch.fileno(), -1)
        self.watch.doRead()
        self.watch.add(self.watched)
        self.watch.connectionLost(None)
        self.assertEqual(self.watched.seen, [])

    def test_without_epoll(self) -> None:
        """Nothing is watched then; the periodic look at each connection is left."""
        self.patch(endwatch, "select", socket)  # a module without epoll
        reactor = MemoryReactorClock()
        watch = EndWatch(reactor)
        watch.add(self.watched)
        watch.doRead()
        watch.forget(self.watched)
        watch.close()
        self.assertEqual((reactor.getReaders(), watch.fileno()), ([], -1))
