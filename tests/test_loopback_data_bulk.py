"""Many bytes: digests both ways, and memory while a reader stands still (section 7)."""

from __future__ import annotations

import hashlib
import random
import select
import time

from twisted.trial.unittest import TestCase

from tests.guide_peer import DEADLINE, Data
from tests.live import Gateway, live
from tests.live_process import twistd

MIB = 1 << 20
BLOCK = random.Random(7).randbytes(MIB + 3)


def send_blocks(link: Data, size: int, salt: bytes) -> str:
    """Send `size` bytes that differ from block to block, end the stream, return the digest."""
    digest = hashlib.sha256()
    link.socket.settimeout(2 * DEADLINE)
    number = 0
    while size:
        block = (salt + number.to_bytes(4, "big") + BLOCK)[:size]
        link.socket.sendall(block)
        digest.update(block)
        size -= len(block)
        number += 1
    link.shutdown()
    return digest.hexdigest()


def receive_blocks(link: Data) -> tuple[int, str]:
    """Receive to the end of the stream: how much, and its digest."""
    digest = hashlib.sha256()
    size = len(link.held)
    digest.update(link.held)
    link.held = b""
    link.socket.settimeout(2 * DEADLINE)
    buffer = bytearray(MIB)
    while count := link.socket.recv_into(buffer):
        digest.update(memoryview(buffer)[:count])
        size += count
    return size, digest.hexdigest()


class Digests(TestCase):
    """Bytes in order, unchanged, none lost and none added (section 7)."""

    @live()
    def test_100_mib_both_ways_at_once(self, gateway: Gateway) -> None:
        """Section 7: 100 MiB in both directions at once, and the exact counts at the end."""
        client, _ = gateway.fe11("phone"), gateway.be("worker")
        be = gateway.waiting(gateway.zmq[0], "worker")
        fe = gateway.entering(gateway.zmq[0], "phone")
        fe.expect("RLX1PAIRED")
        be.expect("RLX1PAIRED")
        size = 100 * MIB
        up = gateway.background(send_blocks, fe, size, b"up")
        down = gateway.background(send_blocks, be, size - 1, b"down")
        at_fe = gateway.background(receive_blocks, fe)
        at_be = gateway.background(receive_blocks, be)
        self.assertEqual(at_be.result(), (size, up.result()))
        self.assertEqual(at_fe.result(), (size - 1, down.result()))
        end = client.expect("session_end")
        self.assertEqual((end["fe_to_be_bytes"], end["be_to_fe_bytes"]), (size, size - 1))

    @live(relay={"ring_buffer_size": MIB})
    def test_many_ports_at_once(self, gateway: Gateway) -> None:
        """Section 7: sessions side by side do not mix."""
        gateway.fe(), gateway.be()
        futures = []
        for number, port in enumerate((gateway.zmq[0], gateway.zmq[1], gateway.srt[0])):
            fe, be = gateway.pair(port)
            sent = gateway.background(send_blocks, fe, 4 * MIB + number, b"%d" % number)
            futures.append((sent, gateway.background(receive_blocks, be), 4 * MIB + number))
        for sent, received, size in futures:
            self.assertEqual(received.result(), (size, sent.result()))

    @live(relay={"ring_buffer_size": MIB})
    def test_tiny_pieces(self, gateway: Gateway) -> None:
        """Section 7: many small segments, read slowly, through the smallest buffer."""
        gateway.fe(), gateway.be()
        be = gateway.dial11(gateway.zmq[0], receive_buffer=4096)
        be.hello("BE")
        be.expect("RLX1OK")
        fe = gateway.entering(gateway.zmq[0])
        be.paired()
        fe.expect("RLX1PAIRED")
        pieces = [BLOCK[start : start + 1 + start % 97] for start in range(0, 20000, 50)]
        sending = gateway.background(lambda: [fe.send(piece) for piece in pieces])
        whole = b"".join(pieces)
        received = b""
        while len(received) < len(whole):
            received += be.receive(min(311, len(whole) - len(received)))
        self.assertEqual(received, whole)
        sending.result()


class Memory(TestCase):
    """What the gateway holds, seen from outside its process (section 7)."""

    def test_a_reader_that_stands_still(self) -> None:
        """Section 7: the gateway holds at most ring_buffer_size; nothing is lost after."""
        sections = {"relay": {"ring_buffer_size": MIB}, "data": {"keepalive": 1.0}}
        with twistd(self.mktemp(), **sections) as gateway:
            gateway.fe(), gateway.be()
            gateway.pair(gateway.zmq[1])  # code that is loaded late is loaded now
            fe, be = gateway.pair(gateway.zmq[0])
            before = gateway.resident()
            digest = hashlib.sha256()
            sent = 0
            fe.socket.setblocking(False)
            # The writer stalls when the kernel's buffers and the gateway's are full, and that far
            # longer than 4 x keepalive: a live peer that does not read is not dead.
            while select.select([], [fe.socket], [], 5)[1]:
                count = fe.socket.send(BLOCK)
                digest.update(BLOCK[:count])
                sent += count
                self.assertTrue(sent < 256 * MIB, "nothing slows the writer down")
            held = gateway.resident() - before
            self.assertTrue(held < 8 * MIB, f"the gateway grew by {held} bytes")
            fe.shutdown()
            self.assertEqual(receive_blocks(be), (sent, digest.hexdigest()))


class Backpressure(TestCase):
    """The side that reads slowly slows the side that writes (section 7)."""

    @live(relay={"ring_buffer_size": MIB})
    def test_the_other_direction_goes_on(self, gateway: Gateway) -> None:
        """Section 7: a direction that stands still does not hold up the other."""
        gateway.fe(), gateway.be()
        fe, be = gateway.pair(gateway.zmq[0])
        fe.socket.setblocking(False)
        while select.select([], [fe.socket], [], 0.3)[1]:
            fe.socket.send(BLOCK)
        fe.socket.settimeout(DEADLINE)
        delays = []
        for _ in range(20):
            begun = time.monotonic()
            be.send(b"tick" * 1000)
            self.assertEqual(fe.receive(4000), b"tick" * 1000)
            delays.append(time.monotonic() - begun)
        self.assertTrue(min(delays) < 0.1, delays)

    @live(relay={"ring_buffer_size": MIB})
    def test_the_side_that_stands_still_resets(self, gateway: Gateway) -> None:
        """Section 7: the writer that is held back is reset, too."""
        client, _ = gateway.fe11("phone"), gateway.be("worker")
        be = gateway.waiting(gateway.zmq[0], "worker")
        fe = gateway.entering(gateway.zmq[0], "phone")
        fe.expect("RLX1PAIRED")
        fe.socket.setblocking(False)
        while select.select([], [fe.socket], [], 0.3)[1]:
            fe.socket.send(BLOCK)
        be.reset()
        self.assertEqual(fe.rest(), (b"", "reset"))
        self.assertEqual(client.expect("session_end")["cause"], "be_reset")

    @live(relay={"ring_buffer_size": MIB})
    def test_a_blocked_side_is_still_seen_to_end(self, gateway: Gateway) -> None:
        """Section 7: a connection that is paused is still seen to end."""
        client, _ = gateway.fe11("phone"), gateway.be("worker")
        be = gateway.waiting(gateway.zmq[0], "worker")
        fe = gateway.entering(gateway.zmq[0], "phone")
        fe.expect("RLX1PAIRED")
        be.expect("RLX1PAIRED")
        fe.socket.setblocking(False)
        while select.select([], [fe.socket], [], 0.3)[1]:
            fe.socket.send(BLOCK)
        fe.reset()
        self.assertEqual(gateway.background(be.rest).result()[1], "reset")
        self.assertEqual(client.expect("session_end")["cause"], "fe_reset")
