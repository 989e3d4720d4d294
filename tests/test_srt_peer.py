"""What the tests' SRT peer says of libsrt is so: the tests of the gateway stand on it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from twisted.trial.unittest import SkipTest, TestCase

try:
    from tests import srt_peer
    from tests.srt_peer import Ended, Rejected, SrtPeer
except ImportError:
    MISSING = "cffi is not installed"
else:
    MISSING = srt_peer.missing()

MESSAGES = [b"%04d" % number * 329 for number in range(20)]


class Peers(TestCase):
    """Two of them with nothing between."""

    maxDiff = 1000

    def setUp(self) -> None:
        """They need libsrt."""
        if MISSING:
            raise SkipTest(MISSING)
        self.executor = ThreadPoolExecutor(1)
        self.addCleanup(self.executor.shutdown)

    def listener(self, **options: Any) -> SrtPeer:
        """One that is closed at the end."""
        made = SrtPeer.listen(**options)
        self.addCleanup(made.close)
        return made

    def pair(self, listener: SrtPeer, **options: Any) -> tuple[SrtPeer, SrtPeer]:
        """A caller and what the listener has accepted."""
        accepting = self.executor.submit(listener.accept)
        caller = SrtPeer.connect("127.0.0.1", listener.address[1], **options)
        self.addCleanup(caller.close)
        accepted = accepting.result()
        self.addCleanup(accepted.close)
        return caller, accepted

    def test_messages(self) -> None:
        """They keep their bounds, and are counted; stream id and latency are those asked for."""
        caller, accepted = self.pair(self.listener(), streamid="#!::u=be", latency=50)
        self.assertEqual(accepted.get("streamid"), b"#!::u=be")
        self.assertEqual(caller.get("peerlatency"), 120)
        for message in MESSAGES:
            self.assertEqual(caller.send(message), len(message))
        self.assertEqual([accepted.receive() for _ in MESSAGES], MESSAGES)
        self.assertEqual(accepted.stats()["pktRecvUniqueTotal"], len(MESSAGES))
        self.assertEqual(accepted.remote, caller.address)
        with self.assertRaises(TimeoutError):
            accepted.receive(0.05)

    def test_finish(self) -> None:
        """Everything arrives where the sender gives the receiver its time."""
        caller, accepted = self.pair(self.listener())
        receiving = self.executor.submit(accepted.receive_all, late=False)
        for message in MESSAGES:
            caller.send(message)
        caller.finish()
        self.assertEqual(receiving.result(), MESSAGES)

    def test_late(self) -> None:
        """What was not yet of age when the sender closed comes after the end."""
        caller, accepted = self.pair(self.listener(), latency=300)
        for message in MESSAGES:
            caller.send(message)
        caller.drain()
        caller.close()
        in_time: list[bytes] = []  # none, unless it has taken a latency to come here
        with self.assertRaises(Ended):
            while True:
                in_time.append(accepted.receive())
        self.assertEqual(in_time + accepted.receive_all(), MESSAGES)

    def test_rejected(self) -> None:
        """The reason that the listener gives is what the caller reads."""
        asked: list[bytes] = []

        def answer(streamid: bytes) -> int:
            asked.append(streamid)
            return 1404

        port = self.listener(answer=answer).address[1]
        for streamid in ("missing", b"\xff\xfe"):
            with self.assertRaises(Rejected) as caught:
                SrtPeer.connect("127.0.0.1", port, streamid=streamid)
            self.assertEqual(caught.exception.code, 1404)
        self.assertEqual(set(asked), {b"missing", b"\xff\xfe"})

    def test_passphrase(self) -> None:
        """Libsrt's own reasons: 11 without one, 10 with another; encrypted with the right one."""
        listener = self.listener(passphrase="0123456789")
        for passphrase, code in (("", 11), ("9876543210", 10)):
            with self.assertRaises(Rejected) as caught:
                SrtPeer.connect("127.0.0.1", listener.address[1], passphrase=passphrase)
            self.assertEqual(caught.exception.code, code)
        caller, accepted = self.pair(listener, passphrase="0123456789", pbkeylen=32)
        caller.send(b"secret")
        self.assertEqual(accepted.receive(), b"secret")

    def test_buffer_mode(self) -> None:
        """Bytes without bounds, to the last."""
        caller, accepted = self.pair(self.listener(live=False), live=False)
        caller.send(b"x" * 5000)
        caller.drain()
        caller.close()
        self.assertEqual(b"".join(accepted.receive_all()), b"x" * 5000)

    def test_nobody(self) -> None:
        """Reason 16 where nobody answers."""
        free = self.listener()
        port = free.address[1]
        free.close()
        with self.assertRaises(Rejected) as caught:
            SrtPeer.connect("127.0.0.1", port, timeout=0.3)
        self.assertEqual(caught.exception.code, 16)

    def test_rendezvous(self) -> None:
        """Both call, and both can send."""
        ends = []
        for host in ("127.0.0.2", "127.0.0.3"):
            probe = SrtPeer.listen(host)
            ends.append(probe.address)
            probe.close()
        meeting = self.executor.submit(SrtPeer.rendezvous, *ends[0], ends[1])
        here = SrtPeer.rendezvous(*ends[1], ends[0])
        self.addCleanup(here.close)
        there = meeting.result()
        self.addCleanup(there.close)
        here.send(b"one")
        there.send(b"two")
        self.assertEqual((there.receive(), here.receive()), (b"one", b"two"))
