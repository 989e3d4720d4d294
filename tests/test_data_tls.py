"""Corners of TLS on a data connection: counting, records, files."""

from __future__ import annotations

import gc
import socket
import ssl
import subprocess
import weakref
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.task import Clock
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from relayx.data.tlsrecords import RecordCounter
from relayx.data.tlstransport import TlsTransport
from relayx.net.tcp import Failure
from relayx.net.tls import ServerFiles, load_context, reasons
from tests.data_certificates import NAME, pair
from tests.guide_peer import DEADLINE
from tests.security_keys import NO_OPENSSL


class Lower:
    """A TCP transport whose peer acknowledges bytes only when the test says so."""

    def __init__(self) -> None:
        self.reactor = Clock()
        self.failure: Failure | None = None
        self.connected = True
        self.paused = False
        self.received = self.sent = self.settled = self.unsent = self.delivered = 0
        self.wrote = b""
        self.ended = ""
        self.unread: list[bytes] = []
        self.drained: Any = None
        self.protocol: Any = None

    def write(self, data: bytes) -> None:
        self.wrote += data
        self.sent += len(data)

    def taken(self) -> bytes:
        """What was written since the last time."""
        taken, self.wrote = self.wrote, b""
        return taken

    def take_unread(self) -> list[bytes]:
        return self.unread

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def loseConnection(self) -> None:
        self.ended = "closed"

    def loseWriteConnection(self) -> None:
        self.ended = "half closed"

    def abortConnection(self) -> None:
        self.ended = "reset"

    def fail(self, failure: Failure) -> None:
        self.failure = failure
        self.protocol.connection_failed()


class Owner:
    """What is told to the protocol on top."""

    def __init__(self) -> None:
        self.got = b""
        self.heard: list[str] = []
        self.tls: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.got += data

    def readConnectionLost(self) -> None:
        self.heard.append("end")

    def writeConnectionLost(self) -> None:
        self.heard.append("our end")

    def connectionLost(self, reason: object) -> None:
        self.heard.append("closed")

    def connection_failed(self) -> None:
        self.heard.append("failed")

    def end_of_stream_seen(self) -> None:
        self.heard.append("end seen")

    def tls_failed(self, reason: str) -> None:
        self.heard.append(f"tls: {reason}")


class Bed(SynchronousTestCase):
    """A TLS transport and its peer, with no socket between them."""

    def setUp(self) -> None:
        certificate, key = pair()
        self.lower, self.owner = Lower(), Owner()
        self.context = load_context(ServerFiles(certificate=str(certificate), private_key=str(key)))
        self.tls = TlsTransport(self.lower, self.owner, self.context)  # type: ignore[arg-type]
        self.owner.tls = self.tls
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=str(certificate))
        self.peer = context.wrap_bio(self.incoming, self.outgoing, server_hostname=NAME)

    def pass_on(self) -> None:
        """Both sides get what the other has sent."""
        self.lower.received += self.outgoing.pending
        if self.outgoing.pending:
            self.tls.dataReceived(self.outgoing.read())
        self.incoming.write(self.lower.taken())

    def shake_hands(self) -> None:
        for _ in range(3):
            try:
                self.peer.do_handshake()
            except ssl.SSLWantReadError:
                pass
            self.pass_on()
        self.lower.delivered = self.lower.settled = self.lower.sent

    def said_by_peer(self, data: bytes) -> bytes:
        self.peer.write(data)
        return self.outgoing.read()


class Counting(Bed):
    """`sent` and `delivered` count what was written, never too much of it."""

    def test_delivered(self) -> None:
        self.shake_hands()
        self.assertEqual((self.tls.sent, self.tls.delivered, self.tls.unsent), (0, 0, 0))
        begun = self.lower.sent
        self.tls.write(b"x" * 40_000)
        self.assertEqual((self.tls.sent, self.tls.delivered), (40_000, 0))
        self.assertEqual(self.tls.settled, -1)
        self.lower.delivered = begun + 20_000
        self.assertTrue(19_000 < self.tls.delivered <= 20_000)
        before = self.tls.delivered
        self.tls.write(b"y")  # the overhead of a record never takes anything back
        self.assertEqual(self.tls.delivered, before)
        self.lower.delivered = self.lower.settled = self.lower.sent
        self.assertEqual((self.tls.delivered, self.tls.settled), (40_001, 40_001))
        self.pass_on()
        self.assertEqual(len(self.peer.read(16384)), 16384)

    def test_what_tcp_holds(self) -> None:
        self.shake_hands()
        self.tls.write(b"x" * 1000)
        self.lower.sent -= 600  # as if the socket had not taken the last of it
        self.assertEqual((self.tls.sent, self.tls.unsent), (400, 600))

    def test_nothing_before_the_handshake_or_after_the_end(self) -> None:
        self.tls.write(b"early")
        self.assertEqual(self.lower.wrote, b"")
        self.shake_hands()
        self.tls.loseWriteConnection()
        self.lower.taken()
        self.tls.write(b"late")
        self.tls.loseConnection()
        self.assertEqual((self.lower.wrote, self.lower.ended), (b"", "closed"))

    def test_our_end_behind_what_tcp_holds(self) -> None:
        self.shake_hands()
        self.lower.unsent = 5
        self.tls.loseWriteConnection()
        self.assertEqual(self.owner.heard, [])
        self.lower.drained()
        self.assertEqual(self.owner.heard, ["our end"])
        self.assertEqual(self.lower.ended, "")

    def test_no_handshake_no_close_notify(self) -> None:
        self.tls.loseWriteConnection()
        self.assertEqual((self.lower.wrote, self.lower.ended), (b"", "half closed"))


class Ends(Bed):
    """How the peer's stream ends."""

    def test_an_end_that_comes_while_paused(self) -> None:
        """It is told when the connection is read again, and behind what is written then."""
        self.shake_hands()
        self.tls.pauseProducing()
        data = self.said_by_peer(b"last")
        try:
            self.peer.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.tls.dataReceived(data + self.outgoing.read())
        self.assertEqual((self.owner.got, self.owner.heard), (b"last", ["end seen"]))
        self.tls.readConnectionLost()  # TCP's end is nothing new
        self.tls.resumeProducing()
        self.assertEqual(self.owner.heard, ["end seen"])
        self.lower.reactor.advance(0)
        self.assertEqual(self.owner.heard, ["end seen", "end"])
        self.tls.pauseProducing()
        self.assertFalse(self.lower.paused)  # read to see how TCP ends
        self.tls.dataReceived(b"whatever")
        self.assertEqual(self.owner.got, b"last")

    def test_tcp_ends_within_the_handshake(self) -> None:
        self.tls.dataReceived(b"\x16\x03\x01")
        self.tls.readConnectionLost()
        self.assertEqual(self.owner.heard, ["tls: the connection ended within the handshake"])
        self.assertEqual(self.lower.ended, "closed")

    def test_truncated(self) -> None:
        self.shake_hands()
        self.tls.readConnectionLost()
        self.assertEqual((self.owner.heard, self.tls.failure), (["failed"], Failure.RESET))

    def test_answers_that_nobody_reads(self) -> None:
        self.shake_hands()
        self.lower.unsent = 2 << 20
        self.tls.dataReceived(self.said_by_peer(b"x"))
        self.assertIn("reads no answers", self.owner.heard[0])

    def test_nothing_refers_to_itself_after(self) -> None:
        """A connection that is gone is not left to the garbage collector."""
        self.shake_hands()
        gone = weakref.ref(self.owner)
        gc.disable()
        try:
            self.tls.connectionLost(None)  # type: ignore[arg-type]
            self.lower.protocol = None
            self.owner = Owner()
            del self.tls
            self.assertIsNone(gone())
        finally:
            gc.enable()


class Discarding(Bed):
    """What a kept BE sends between two sessions."""

    def test_whole_records(self) -> None:
        self.shake_hands()
        self.lower.unread = [self.said_by_peer(b"stale"), self.said_by_peer(b"too")]
        self.tls.discard_unread()
        self.tls.dataReceived(self.said_by_peer(b"fresh"))
        self.assertEqual(self.owner.got, b"fresh")

    def test_a_record_that_has_begun(self) -> None:
        self.shake_hands()
        for cut in (1, 4, 5, 6, 30):
            self.owner.got = b""
            stale = self.said_by_peer(b"stale" * 10)
            self.lower.unread = [stale[:cut]]
            self.tls.discard_unread()
            self.tls.dataReceived(stale[cut:-1])
            self.tls.dataReceived(stale[-1:] + self.said_by_peer(b"fresh"))
            self.assertEqual(self.owner.got, b"fresh")

    def test_a_record_without_data_that_has_begun(self) -> None:
        """openssl's KeyUpdate, RFC 8446 section 4.6.3: the next record is the session's."""
        if NO_OPENSSL:
            raise SkipTest(NO_OPENSSL)
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            client = subprocess.Popen(
                ["openssl", "s_client", "-tls1_3", "-connect", f"127.0.0.1:{port}"],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                server.settimeout(DEADLINE)
                with server.accept()[0] as wire:
                    wire.settimeout(DEADLINE)
                    self.check_key_update(client, wire)
            finally:
                client.kill()
                client.communicate()

    def check_key_update(self, client: subprocess.Popen[bytes], wire: socket.socket) -> None:
        keyboard: Any = client.stdin

        def type_in(text: bytes) -> None:
            keyboard.write(text)
            keyboard.flush()

        type_in(b"stale\n")
        while b"stale\n" not in self.owner.got:
            self.tls.dataReceived(wire.recv(65536))
            wire.sendall(self.lower.taken())
        type_in(b"K\n")
        update = wire.recv(65536)
        self.lower.unread = [update[:7]]
        self.tls.discard_unread()
        self.owner.got = b""
        type_in(b"fresh\n")
        self.tls.dataReceived(update[7:] + wire.recv(65536))
        self.assertEqual(self.owner.got, b"fresh\n")

    def test_an_end_among_it(self) -> None:
        """It is told a turn later, when the session is there."""
        self.shake_hands()
        try:
            self.peer.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.lower.unread = [self.outgoing.read()]
        self.tls.discard_unread()
        self.assertEqual(self.owner.heard, [])
        self.lower.reactor.advance(0)
        self.assertEqual(self.owner.heard, ["end"])


class Fuzzing(Bed):
    """Whatever comes, it is told as a failure and raises nothing."""

    @given(st.binary(max_size=300), st.integers(0, 400), st.booleans())
    @settings(deadline=None)
    def test_any_bytes(self, noise: bytes, at: int, ready: bool) -> None:
        self.setUp()
        if ready:
            self.shake_hands()
            good = self.said_by_peer(b"x" * 100)
        else:
            self.assertRaises(ssl.SSLWantReadError, self.peer.do_handshake)
            good = self.outgoing.read()
        data = good[:at] + noise + good[at + len(noise) :]
        for start in range(0, len(data), 37):
            self.tls.dataReceived(data[start : start + 37])
        self.tls.readConnectionLost()
        self.assertEqual(self.owner.heard.count("end"), 0)
        self.assertEqual(len(self.owner.heard), 1)
        self.assertIn(self.owner.got, (b"", b"x" * 100))
        self.tls.write(b"never mind")
        self.tls.loseConnection()


class Records(SynchronousTestCase):
    """Counting through records, whatever way they are cut."""

    @given(st.lists(st.integers(0, 400), max_size=6), st.data())
    @settings(deadline=None)
    def test_any_cut(self, sizes: list[int], data: st.DataObject) -> None:
        ends = []
        stream = b""
        for size in sizes:
            stream += b"\x17\x03\x03" + size.to_bytes(2, "big") + bytes(size)
            ends.append(len(stream))
        counter, at = RecordCounter(), 0
        while at < len(stream):
            step = data.draw(st.integers(1, 200))
            counter.feed(stream[at : at + step])
            at = min(at + step, len(stream))
            self.assertEqual(counter.complete, sum(end <= at for end in ends))
            self.assertEqual(counter.inside, at not in ends)


class Reasons(SynchronousTestCase):
    """What OpenSSL says of a failure."""

    def test_reasons(self) -> None:
        self.assertEqual(
            reasons(SSL.Error([("lib", "", "bad"), ("lib", "", "worse")])), "bad; worse"
        )
        self.assertEqual(reasons(SSL.Error()), "Error")
