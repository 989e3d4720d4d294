"""HELLO on a data port: framing, limits and answers (contract section 6)."""

from __future__ import annotations

import fcntl
import json
import select
import socket
import struct
import sys
import termios
import time
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.guide_peer import DEADLINE, Data, EndedError, Peer, WasResetError, hello_line
from tests.live import LATE, NEVER, Data11, Gateway, live
from tests.reloading import Filed, filed, in_the_reactor


def unacknowledged(peer: Data) -> int:
    """Bytes that were sent and that the gateway's system does not have yet."""
    return int(struct.unpack("i", fcntl.ioctl(peer.socket, termios.TIOCOUTQ, bytes(4)))[0])


def at_the_gateway(peer: Peer) -> list[str]:
    """What the system tells of the gateway's end of a connection, a line of /proc/net/tcp."""
    wanted = [_in_hex(peer.socket.getpeername()), _in_hex(peer.socket.getsockname())]
    for line in Path("/proc/net/tcp").read_text().splitlines():
        words = line.split()
        if words[1:3] == wanted:
            return words
    raise AssertionError("the connection is not there")


def unread_by_the_gateway(peer: Data) -> int:
    """Bytes that the gateway's system has, and that the gateway has not read."""
    return int(at_the_gateway(peer)[4].partition(":")[2], 16)


def an_fe_waits(gateway: Gateway, port: int) -> None:
    """Wait until an FE waits on a port: its HELLO has been read, and it is read no more."""
    waiting, deadline = gateway.service.switchboard.board.ports[port], time.monotonic() + DEADLINE
    while not in_the_reactor(lambda: waiting.waiting_fe):
        if time.monotonic() > deadline:
            raise TimeoutError("no FE waits")


def _in_hex(address: tuple[str, int]) -> str:
    host = int.from_bytes(socket.inet_aton(address[0]), sys.byteorder)
    return f"{host:08X}:{address[1]:04X}"


class Saying(TestCase):
    """Every way of sending HELLO (section 6)."""

    @live()
    def test_byte_by_byte(self, gateway: Gateway) -> None:
        """Section 6: one byte at a time, the first data behind it."""
        gateway.fe(), gateway.be()
        be, fe = gateway.dial11(gateway.zmq[0]), gateway.dial11(gateway.zmq[0])
        be.send_bytewise(hello_line("BE", "é", ack=True))
        self.assertEqual(be.expect("RLX1OK"), {"state": "ready"})
        fe.send_bytewise(hello_line("FE", ack=True) + b"data\n")
        fe.expect("RLX1PAIRED")
        be.expect("RLX1PAIRED")
        self.assertEqual(be.receive(5), b"data\n")

    @live()
    def test_with_the_first_data(self, gateway: Gateway) -> None:
        """Section 6: what follows the newline in one segment is session data."""
        gateway.fe(), gateway.be()
        be, fe = gateway.dial11(gateway.zmq[0]), gateway.dial11(gateway.zmq[0])
        be.hello("BE", first=b"\x00early\nRLX1HELLO {}\n")
        be.expect("RLX1OK")
        fe.hello("FE", first=b"RLX1HELLO {}\n\xff" * 1000)
        fe.expect("RLX1PAIRED")
        be.expect("RLX1PAIRED")
        self.assertEqual(fe.receive(20), b"\x00early\nRLX1HELLO {}\n")
        self.assertEqual(be.receive(14000), b"RLX1HELLO {}\n\xff" * 1000)
        fe.shutdown()
        self.assertEqual(be.rest(), (b"", "end"))

    @live()
    def test_unknown_fields(self, gateway: Gateway) -> None:
        """Section 6: JSON of any shape round the fields that are known."""
        gateway.be()
        be = gateway.dial11(gateway.zmq[0])
        be.send(b'RLX1HELLO \t{ "colour" : [1, {"a": null}], "role":"BE", "ack" : true }\r\n')
        self.assertEqual(be.expect("RLX1OK"), {"state": "ready"})

    @live()
    def test_longest(self, gateway: Gateway) -> None:
        """Section 6: a line of 4096 bytes is allowed, of 4097 it is not."""
        gateway.be()
        pad = 4096 - len(hello_line("BE", ack=True, pad=""))
        for size, answer in ((pad, "RLX1OK"), (pad + 1, None)):
            be = gateway.dial11(gateway.zmq[0])
            be.send(hello_line("BE", ack=True, pad="x" * size))
            if answer:
                be.expect(answer)
                be.close()
            else:
                self.assertEqual(be.rest()[0].count(b"RLX1OK"), 0)

    @live()
    def test_without_end(self, gateway: Gateway) -> None:
        """Section 6: over 4096 bytes without a newline is refused at once, not at the time-out."""
        gateway.be()
        link = gateway.dial(gateway.zmq[0])
        link.send(b'RLX1HELLO {"role":"BE","pad":"' + b"x" * 4096)
        self.assertNotIn(b"RLX1OK", link.rest()[0])


class Invalid(TestCase):
    """HELLO_INVALID (section 6)."""

    @live()
    def test_with_ack(self, gateway: Gateway) -> None:
        """Section 6: a HELLO that asked for an answer gets RLX1ERR HELLO_INVALID."""
        gateway.fe(), gateway.be()
        for fields in (
            {"role": "XX"}, {"role": "be"}, {"role": None},
            {"role": "BE", "client_id": "x" * 129}, {"role": "BE", "client_id": "a\nb"},
            {"role": "BE", "client_id": 5}, {"role": "BE", "service": "No Good"},
            {"role": "BE", "service": "x" * 65}, {"role": "BE", "on_fe_close": "maybe"},
            {"role": "BE", "on_fe_close": "keep"}, {"role": "FE", "session_id": 7},
        ):  # fmt: skip
            link = gateway.dial11(gateway.zmq[0])
            link.send(b"RLX1HELLO " + json.dumps({**fields, "ack": True}).encode() + b"\n")
            self.assertEqual(link.refusal(), "HELLO_INVALID", fields)

    @live()
    def test_without_ack(self, gateway: Gateway) -> None:
        """Section 6: without ack a refusal is a close, with nothing said."""
        gateway.fe(), gateway.be()
        for line in (
            b"GET / HTTP/1.1\r\n\r\n", b"\n", b'RLX1HELLO {"role":"XX"}\n', b"RLX1HELLO \n",
            b'RLX1HELLO ["BE"]\n', b'RLX1HELLO {"role":"BE"\n', b'rlx1hello {"role":"BE"}\n',
            b'RLX1HELLO {"role":"BE","client_id":"\xff"}\n', b'RLX1HELLO{"role":"BE"}\n',
            b'RLX1HELLO {"client_id":"x"}\n', b'RLX1HELLO {"role":"BE","ack":"yes"}\n',
        ):  # fmt: skip
            link = gateway.dial(gateway.zmq[0])
            link.send(line)
            self.assertEqual(link.rest()[0], b"", line)

    @live()
    def test_on_a_busy_port(self, gateway: Gateway) -> None:
        """Section 6: HELLO_INVALID goes before every other refusal."""
        gateway.fe(), gateway.be()
        gateway.pair(gateway.zmq[0])
        link = gateway.dial11(gateway.zmq[0], source="127.0.0.99")
        link.hello("XX")
        self.assertEqual(link.refusal(), "HELLO_INVALID")

    @live()
    def test_more_on_the_way(self, gateway: Gateway) -> None:
        """Section 6: what still comes in is dropped, so that the line is not lost to a reset."""
        gateway.fe(), gateway.be()
        in_the_reactor(gateway.service.data.data.leaving.change, NEVER, 256)
        link = gateway.dial11(gateway.zmq[0])
        link.hello("FE", first=b"x" * 400000)
        self.assertEqual(link.refusal(), "PORT_EMPTY")
        for _ in range(3):
            self.assertRaises(TimeoutError, gateway.dial(gateway.zmq[1]).fill, 0.1)
            link.send(b"x" * 10000)


class Timing(TestCase):
    """hello_timeout and max_waiting_hello (sections 1 and 6)."""

    @filed()
    def test_hello_timeout(self, gateway: Filed) -> None:
        """Section 6: who does not say HELLO in time is closed, dripping or silent."""
        gateway.fe(), gateway.be()
        begun = time.monotonic()
        silent, half = gateway.dial(gateway.zmq[0]), gateway.dial(gateway.zmq[0])
        half.send(b'RLX1HELLO {"role":')
        good = gateway.waiting(gateway.zmq[0])
        gateway.reload(data={"hello_timeout": 0.4})
        for link in (silent, half):
            self.assertEqual(link.rest()[0], b"")
        self.assertTrue(0.35 < time.monotonic() - begun < 0.4 + LATE, time.monotonic() - begun)
        gateway.reload()
        gateway.entering(gateway.zmq[0]).expect("RLX1PAIRED")
        good.expect("RLX1PAIRED")

    @live()
    def test_a_silent_client_delays_nobody(self, gateway: Gateway) -> None:
        """Section 6: silent clients on a port do not delay others on the same port."""
        client, _ = gateway.fe(), gateway.be()
        silent = [gateway.dial(gateway.zmq[0]) for _ in range(20)]
        silent[3].send(b"RLX1HEL")
        fe, be = gateway.pair(gateway.zmq[0])
        client.state(lambda state: state["zmq_busy"] == 1)
        fe.close(), be.close()
        client.state(lambda state: state["zmq_busy"] == 0)
        silent[0].hello("BE")
        client.state(lambda state: gateway.zmq[0] in state["zmq_ready_ports"])

    @live(data={"max_waiting_hello": 2})
    def test_max_waiting_hello(self, gateway: Gateway) -> None:
        """Section 1: past it the oldest is closed; who has said HELLO does not count."""
        gateway.fe(), gateway.be()
        fe, be = gateway.pair(gateway.zmq[1])
        oldest = gateway.dial(gateway.zmq[0])
        second, third = gateway.dial11(gateway.zmq[0]), gateway.dial11(gateway.srt[0])
        self.assertRaises((EndedError, WasResetError), oldest.fill)
        for link in (second, third):
            link.hello("BE")
            link.expect("RLX1OK")
        fe.send(b"still here")
        self.assertEqual(be.receive(10), b"still here")


class Answering(TestCase):
    """RLX1OK and RLX1PAIRED (section 6)."""

    @live()
    def test_paired(self, gateway: Gateway) -> None:
        """Section 6: each side is told the other's id and address."""
        gateway.fe(source="127.0.0.11"), gateway.be(source="127.0.0.12")
        be = gateway.waiting(gateway.zmq[0], "the be", source="127.0.0.12")
        fe = gateway.entering(gateway.zmq[0], "the fe", source="127.0.0.11")
        to_fe, to_be = fe.expect("RLX1PAIRED"), be.expect("RLX1PAIRED")
        self.assertEqual((to_fe["client_id"], to_fe["address"]), ("the be", "127.0.0.12"))
        self.assertEqual((to_be["client_id"], to_be["address"]), ("the fe", "127.0.0.11"))
        self.assertEqual(to_fe["pairing_id"], to_be["pairing_id"])
        self.assertTrue(to_fe["pairing_id"])
        for fields in (to_fe, to_be):
            self.assertEqual(
                set(fields), {"pairing_id", "session_id", "client_id", "address", "trace_id"}
            )
            self.assertFalse(fields["session_id"])

    @live()
    def test_paired_under_a_lease(self, gateway: Gateway) -> None:
        """Section 6: the session_id, and the trace_id of the acquire that caused it."""
        client, _ = gateway.fe(), gateway.be()
        be = gateway.waiting(gateway.zmq[0])
        client.say("port_acquire", {"need_zmq": True}, trace_id="trace-of-acquire")
        session_id = client.find("port_grant")["payload"]["session_id"]
        fe = gateway.entering(gateway.zmq[0], session_id=session_id)
        for link in (fe, be):
            fields = link.expect("RLX1PAIRED")
            self.assertEqual(fields["session_id"], session_id)
            self.assertEqual(fields["trace_id"], "trace-of-acquire")

    @live()
    def test_only_who_asked(self, gateway: Gateway) -> None:
        """Section 6: without ack not a byte but the session's reaches a side."""
        client = gateway.fe()
        gateway.be()
        for kind_of_fe, kind_of_be in ((Data, Data11), (Data11, Data)):
            be = gateway.open(kind_of_be, gateway.zmq[0])
            be.hello("BE", on_fe_close="close")
            client.state(lambda state: state["zmq_ready_ports"] == gateway.zmq[:1])
            fe = gateway.open(kind_of_fe, gateway.zmq[0])
            fe.hello("FE")
            fe.send(b"to be")
            be.send(b"to fe")
            for link, sent in ((fe, b"to fe"), (be, b"to be")):
                if isinstance(link, Data11):
                    link.paired()
                self.assertEqual(link.receive(5), sent)
            fe.close(), be.close()
            client.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)


class WaitingBE(TestCase):
    """A BE that waits on its port (section 6)."""

    @live()
    def test_early_bytes_are_kept(self, gateway: Gateway) -> None:
        """Section 6: up to 64 KiB that it sends before its first session."""
        client, _ = gateway.fe(), gateway.be()
        early = bytes(range(256)) * 256
        for kept in (True, False):
            be = gateway.dial(gateway.zmq[0])
            be.hello("BE", first=early[:1000], **({} if kept else {"on_fe_close": "close"}))
            be.send(early[1000:])
            client.state(lambda state: state["zmq_ready_ports"] == gateway.zmq[:1])
            fe = gateway.entering(gateway.zmq[0])
            fe.expect("RLX1PAIRED")
            self.assertEqual(fe.receive(65536), early)
            be.send(b"and later")
            self.assertEqual(fe.receive(9), b"and later")
            be.close(), fe.close()
            client.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)

    @live()
    def test_more_than_that_is_not_lost(self, gateway: Gateway) -> None:
        """Sections 6 and 7: a BE that goes on sending is held back, not cut."""
        gateway.fe(), gateway.be()
        be = gateway.waiting(gateway.zmq[0])
        sending = gateway.background(be.send, b"0123456789" * 30000)
        fe = gateway.entering(gateway.zmq[0])
        fe.expect("RLX1PAIRED")
        self.assertEqual(fe.receive(300000), b"0123456789" * 30000)
        sending.result()

    @live()
    def test_more_than_that_is_not_read(self, gateway: Gateway) -> None:
        """Section 6: past 64 KiB its socket blocks; paired, nothing of what it sent is missing."""
        gateway.fe(), gateway.be()
        be = gateway.waiting(gateway.zmq[0])
        pattern = bytes(range(251)) * 261
        sent = 0
        be.socket.setblocking(False)
        read, deadline = 0, time.monotonic() + DEADLINE
        while read < 1 << 16 and time.monotonic() < deadline:
            while select.select([], [be.socket], [], 0.3)[1]:
                sent += be.socket.send(pattern[sent % 251 :])
                self.assertTrue(sent < 64 << 20, "a waiting BE is read without end")
            read = sent - unacknowledged(be) - unread_by_the_gateway(be)
        self.assertTrue(1 << 16 <= read <= 2 << 16, read)  # the last read may bring 64 KiB
        fe = gateway.entering(gateway.zmq[0])
        fe.expect("RLX1PAIRED")
        found = fe.receive(sent)
        self.assertTrue(found == (pattern * (sent // len(pattern) + 1))[:sent])
        be.socket.settimeout(DEADLINE)
        be.send(b"and later")
        self.assertEqual(fe.receive(9), b"and later")

    @live()
    def test_gone_by_end_or_reset(self, gateway: Gateway) -> None:
        """Section 6: one that ends its stream, or resets, is gone; its bytes are dropped."""
        client, _ = gateway.fe(), gateway.be()
        for leave in (Data.shutdown, Data.close, Data.reset):
            for size in (3, 100000):
                be = gateway.waiting(gateway.zmq[0])
                be.send(b"x" * size)
                leave(be)
                client.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)
                fe = gateway.entering(gateway.zmq[0])
                self.assertEqual(fe.refusal(), "PORT_EMPTY", (leave, size))
        be, fe = gateway.waiting(gateway.zmq[0]), gateway.entering(gateway.zmq[0])
        fe.expect("RLX1PAIRED")
        be.expect("RLX1PAIRED")
        be.send(b"fresh")
        self.assertEqual(fe.receive(5), b"fresh")
