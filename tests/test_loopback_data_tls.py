"""TLS on data ports: the same sessions, with Python's ssl and openssl at the ends (section 7)."""

from __future__ import annotations

import hashlib
import select
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor, threads
from twisted.trial.unittest import TestCase

from relayx.config.faults import ConfigError
from relayx.config.model import DataTls
from relayx.listening import StartError
from tests.data_certificates import NAME, data_tls, pair, write_pair
from tests.data_tls_peer import TlsData, pair_over
from tests.guide_peer import DEADLINE, Data, hello_line
from tests.live import LATE, NEVER, Gateway, live, random_host, service_for
from tests.live import Peers as Unstarted
from tests.live_process import twistd
from tests.test_loopback_data_bulk import BLOCK, MIB

TLS = {"tls": data_tls()}
REQUIRED = {"tls": data_tls(required=True)}
ENDS = ((True, True), (True, False), (False, True))
"""Which of FE and BE speak TLS."""


def send_digest(link: Data, size: int, salt: bytes) -> str:
    """Send `size` bytes, end the stream, return their digest."""
    digest = hashlib.sha256()
    number = 0
    while size:
        block = (salt + number.to_bytes(4, "big") + BLOCK)[:size]
        link.send(block)
        digest.update(block)
        size -= len(block)
        number += 1
    link.shutdown()
    return digest.hexdigest()


def receive_digest(link: Data) -> tuple[int, str]:
    """Receive to the end of the stream, which must be one: how much, and its digest."""
    data, how = link.rest()
    if how != "end":
        raise AssertionError(f"the stream ended with a {how}")
    return len(data), hashlib.sha256(data).hexdigest()


def in_the_reactor(call: Any) -> Any:
    """Make a call where the gateway lives."""
    return threads.blockingCallFromThread(reactor, call)


class Sessions(TestCase):
    """Bytes and ends, with TLS at either end or both."""

    @live(data=TLS)
    def test_20_mib_both_ways_at_once(self, gateway: Gateway) -> None:
        """Section 7: in order, unchanged, counted exactly."""
        client = gateway.fe11("phone")
        gateway.be("worker")
        size = 20 * MIB
        for fe_tls, be_tls in ENDS:
            fe, be = pair_over(gateway, gateway.zmq[0], fe_tls=fe_tls, be_tls=be_tls)
            up = gateway.background(send_digest, fe, size, b"up")
            down = gateway.background(send_digest, be, size - 1, b"down")
            at_fe = gateway.background(receive_digest, fe)
            at_be = gateway.background(receive_digest, be)
            self.assertEqual(at_be.result(), (size, up.result()))
            self.assertEqual(at_fe.result(), (size - 1, down.result()))
            end = client.expect("session_end")
            self.assertEqual((end["fe_to_be_bytes"], end["be_to_fe_bytes"]), (size, size - 1))
            client.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)

    @live(data=TLS)
    def test_half_close_both_ways(self, gateway: Gateway) -> None:
        """Section 7: an end is passed on behind its bytes; the other direction goes on."""
        client = gateway.fe11("phone")
        gateway.be("worker")
        for fe_tls, be_tls in ENDS:
            for fe_first in (True, False):
                fe, be = pair_over(gateway, gateway.zmq[0], fe_tls=fe_tls, be_tls=be_tls)
                one, other = (fe, be) if fe_first else (be, fe)
                one.send(b"question" * 5000)
                one.shutdown()
                self.assertEqual(other.rest(), (b"question" * 5000, "end"))
                for number in range(3):
                    other.send(b"answer %d" % number)
                    self.assertEqual(one.receive(8), b"answer %d" % number)
                other.send(b"x" * 300_000)
                other.shutdown()
                self.assertEqual(one.rest(), (b"x" * 300_000, "end"))
                end = client.expect("session_end")
                self.assertEqual(end["cause"], "fe_closed" if fe_first else "be_closed")
                counts = (end["fe_to_be_bytes"], end["be_to_fe_bytes"])
                self.assertEqual(counts, (40000, 300024) if fe_first else (300024, 40000))

    @live(data=TLS)
    def test_an_end_with_hello(self, gateway: Gateway) -> None:
        """Sections 6 and 7: HELLO, data and end in one go."""
        gateway.fe(), gateway.be()
        be = gateway.waiting(gateway.zmq[0])
        fe = gateway.open(TlsData, gateway.zmq[0])
        said = fe.encrypt(hello_line("FE") + b"all there is")
        fe.send_raw(said)
        fe.shutdown()
        be.expect("RLX1PAIRED")
        self.assertEqual(be.rest(), (b"all there is", "end"))
        be.send(b"thanks")
        be.close()
        self.assertEqual(fe.rest(), (b"thanks", "end"))

    @live(data=TLS)
    def test_a_slow_reader_is_waited_for(self, gateway: Gateway) -> None:
        """Section 7: the end comes behind the last byte, however slowly that is taken."""
        gateway.fe(), gateway.be()
        be = gateway.open(TlsData, gateway.zmq[0], receive_buffer=8192)
        be.hello("BE")
        be.expect("RLX1OK")
        fe = gateway.open(TlsData, gateway.zmq[0])
        fe.hello("FE")
        be.expect("RLX1PAIRED")
        fe.expect("RLX1PAIRED")
        sending = gateway.background(send_digest, fe, MIB, b"slow")
        received = b""
        while len(received) < MIB:
            received += be.receive(min(50_000, MIB - len(received)))
        self.assertEqual(hashlib.sha256(received).hexdigest(), sending.result())
        self.assertEqual(be.rest(), (b"", "end"))

    @live(data=TLS)
    def test_truncation_is_a_reset(self, gateway: Gateway) -> None:
        """TCP's end without close_notify: the bytes before it, then a reset."""
        client = gateway.fe11("phone")
        gateway.be("worker")
        for fe_tls, be_tls, who in ((True, False, "fe"), (True, True, "fe"), (False, True, "be")):
            fe, be = pair_over(gateway, gateway.zmq[0], fe_tls=fe_tls, be_tls=be_tls)
            one, other = (fe, be) if who == "fe" else (be, fe)
            one.send(b"half an ans")
            one.cut()
            self.assertEqual(other.rest(), (b"half an ans", "reset"))
            self.assertEqual(client.expect("session_end")["cause"], f"{who}_reset")

    @live(data=TLS)
    def test_a_reset_is_passed_on(self, gateway: Gateway) -> None:
        """Section 7: in both directions."""
        client = gateway.fe11("phone")
        gateway.be("worker")
        for fe_tls, be_tls in ENDS:
            fe, be = pair_over(gateway, gateway.zmq[0], fe_tls=fe_tls, be_tls=be_tls)
            fe.send(b"last words")
            self.assertEqual(be.receive(10), b"last words")
            fe.reset()
            self.assertEqual(be.rest(), (b"", "reset"))
            self.assertEqual(client.expect("session_end")["cause"], "fe_reset")

    @live(data=TLS)
    def test_garbage_in_a_session(self, gateway: Gateway) -> None:
        """What is no TLS ends the session as a reset does, behind the bytes before it."""
        client = gateway.fe11("phone")
        gateway.be("worker")
        fe, be = pair_over(gateway, gateway.zmq[0], be_tls=False)
        fe.send_raw(fe.encrypt(b"good") + b"\x17\x03\x03\x00\x20" + b"bad!" * 8)
        self.assertEqual(be.rest(), (b"good", "reset"))
        self.assertEqual(client.expect("session_end")["cause"], "fe_reset")

    @live(data={**TLS, "half_close_timeout": 0.4})
    def test_half_close_timeout(self, gateway: Gateway) -> None:
        """Section 7: one direction ended and no progress in the other."""
        client = gateway.fe11("phone")
        gateway.be("worker")
        fe, be = pair_over(gateway, gateway.zmq[0])
        fe.shutdown()
        self.assertEqual(be.rest(), (b"", "end"))
        self.assertEqual(client.expect("session_end")["cause"], "half_close_timeout")
        self.assertEqual(fe.rest()[1], "reset")


class KeptBackEnds(TestCase):
    """Keep mode over TLS (section 7)."""

    @live(data={**TLS, "drain_quiet": 0.1})
    def test_several_sessions(self, gateway: Gateway) -> None:
        """Section 7: one TLS connection, session after session, nothing carried over."""
        witness = gateway.fe()
        gateway.be()
        be = gateway.open(TlsData, gateway.zmq[0])
        be.send(hello_line("BE"))
        for number in range(4):
            witness.state(lambda state: gateway.zmq[0] in state["zmq_ready_ports"])
            if number == 2:  # a record that comes in part between two sessions is thrown away
                record = be.encrypt(b"stale" * 100)
                be.send_raw(record[:50])
                self.assertRaises(TimeoutError, be.fill, 0.1)
            fe = gateway.open(TlsData, gateway.zmq[0]) if number % 2 else gateway.dial11(
                gateway.zmq[0]
            )  # fmt: skip
            fe.hello("FE")
            fe.expect("RLX1PAIRED")
            if number == 2:
                be.send_raw(record[50:])
            fe.send(b"session %d" % number)
            self.assertEqual(be.receive(9), b"session %d" % number)
            be.send(b"answer %d" % number)
            self.assertEqual(fe.receive(8), b"answer %d" % number)
            fe.shutdown()
            self.assertEqual(fe.rest(), (b"", "end"))
            fe.close()

    @live(data={**TLS, "drain_quiet": 0.1})
    def test_its_own_end(self, gateway: Gateway) -> None:
        """Section 7: a kept BE's own end is passed on; the port is then empty."""
        witness = gateway.fe()
        gateway.be()
        be = gateway.open(TlsData, gateway.zmq[0])
        be.send(hello_line("BE"))
        witness.state(lambda state: gateway.zmq[0] in state["zmq_ready_ports"])
        fe = gateway.entering(gateway.zmq[0])
        fe.expect("RLX1PAIRED")
        be.send(b"bye")
        be.shutdown()
        self.assertEqual(fe.rest(), (b"bye", "end"))
        fe.close()
        self.assertEqual(be.rest(), (b"", "end"))
        witness.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)


class Waiting(TestCase):
    """Connections that wait, over TLS (sections 5, 6 and 8)."""

    @live(data=TLS)
    def test_a_waiting_be_that_ends(self, gateway: Gateway) -> None:
        """Section 6: it is gone; behind more than is kept for it, once TCP ends."""
        witness = gateway.fe()
        gateway.be()
        for early, ends in (
            (b"", (TlsData.shutdown, TlsData.cut, TlsData.reset)),
            (b"early" * 20000, (TlsData.cut, TlsData.reset)),
        ):
            for end in ends:
                be = gateway.open(TlsData, gateway.zmq[0])
                be.hello("BE", first=early)
                be.expect("RLX1OK")
                end(be)
                witness.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)

    @live(data=TLS)
    def test_early_bytes(self, gateway: Gateway) -> None:
        """Section 6: what a BE sends before its session is kept for it."""
        gateway.fe(), gateway.be()
        be = gateway.open(TlsData, gateway.zmq[0])
        be.hello("BE", first=b"e" * 100_000)
        be.expect("RLX1OK")
        fe = gateway.open(TlsData, gateway.zmq[0])
        fe.hello("FE", first=b"f" * 100_000)
        fe.expect("RLX1PAIRED")
        be.expect("RLX1PAIRED")
        self.assertEqual(fe.receive(100_000), b"e" * 100_000)
        self.assertEqual(be.receive(100_000), b"f" * 100_000)

    @live(data=TLS)
    def test_an_fe_that_waits(self, gateway: Gateway) -> None:
        """Section 5: an FE with a lease waits for the BE; its end of stream does not end that."""
        client, _ = gateway.fe("phone"), gateway.be("worker")
        be = gateway.waiting(gateway.zmq[0], "worker")
        grant = client.acquire(ttl_seconds=30)
        be.close()
        client.state(lambda state: gateway.zmq[0] in state["zmq_empty_ports"])
        fe = gateway.open(TlsData, gateway.zmq[0])
        fe.hello("FE", "phone", session_id=grant["session_id"], first=b"early")
        fe.shutdown()
        be = gateway.open(TlsData, gateway.zmq[0])
        be.hello("BE", "worker")
        fe.expect("RLX1PAIRED")
        be.paired()
        self.assertEqual(be.rest(), (b"early", "end"))
        be.send(b"late")
        be.shutdown()
        self.assertEqual(fe.rest(), (b"late", "end"))

    @live(data=TLS)
    def test_refusals_are_readable(self, gateway: Gateway) -> None:
        """Section 6: RLX1ERR and an orderly end, though more bytes are on their way."""
        gateway.fe(), gateway.be()
        fe = gateway.open(TlsData, gateway.zmq[0])
        fe.hello("FE", first=b"x" * 500_000)
        self.assertEqual(fe.refusal(), "PORT_EMPTY")
        for said in ({"role": "XX"}, {"role": "BE", "proxy": "v1"}, {"role": "FE", "proxy": "v2"}):
            link = gateway.open(TlsData, gateway.zmq[0])
            link.hello(**{"client_id": "", **said})
            self.assertEqual(link.refusal(), "HELLO_INVALID")

    @live(data=TLS, relay={"reaper_timeout": 0.3})
    def test_reaped(self, gateway: Gateway) -> None:
        """Section 8: a lost BE's session is closed at both ends."""
        client = gateway.fe11("phone")
        worker = gateway.be11("worker")
        be = gateway.open(TlsData, gateway.zmq[0])
        be.hello("BE", "worker")
        be.expect("RLX1OK")
        fe = gateway.open(TlsData, gateway.zmq[0])
        fe.hello("FE", "phone")
        fe.expect("RLX1PAIRED")
        worker.close()
        self.assertEqual(client.expect("session_end")["cause"], "be_lost")
        self.assertEqual(fe.rest()[1], "reset")

    @live(data=TLS)
    def test_taken_over(self, gateway: Gateway) -> None:
        """Section 3: another instance of a BE has the waiting connections of the old one closed."""
        gateway.be11("worker")
        be = gateway.open(TlsData, gateway.zmq[0])
        be.hello("BE", "worker")
        be.expect("RLX1OK")
        gateway.be11("worker")
        be.dropped()

    @live(data={**TLS, "drain_timeout": NEVER})
    def test_drained(self, gateway: Gateway) -> None:
        """Section 9: a running session gets its time when the gateway stops."""
        gateway.fe(), gateway.be()
        waiting = gateway.open(TlsData, gateway.zmq[1])
        waiting.hello("BE")
        waiting.expect("RLX1OK")
        fe, be = pair_over(gateway, gateway.zmq[0])
        stopped = gateway.stop()
        waiting.dropped()
        fe.send(b"still here")
        self.assertEqual(be.receive(10), b"still here")
        fe.shutdown()
        self.assertEqual(be.rest(), (b"", "end"))
        be.shutdown()
        self.assertEqual(fe.rest(), (b"", "end"))
        stopped.result(DEADLINE)


class Opening(TestCase):
    """How a connection begins (section 6)."""

    @live(data=TLS)
    def test_byte_by_byte(self, gateway: Gateway) -> None:
        """Section 6: HELLO one byte a record, and records one byte a segment."""
        gateway.fe(), gateway.be()
        be = gateway.open(TlsData, gateway.zmq[0])
        be.send_bytewise(hello_line("BE", ack=True))
        be.expect("RLX1OK")
        fe = gateway.open(TlsData, gateway.zmq[0])
        for byte in fe.encrypt(hello_line("FE", ack=True) + b"data"):
            fe.send_raw(bytes([byte]))
        fe.expect("RLX1PAIRED")
        be.expect("RLX1PAIRED")
        self.assertEqual(be.receive(4), b"data")

    @live(data=TLS)
    def test_silence(self, gateway: Gateway) -> None:
        """Section 6: hello_timeout holds before, within and after the handshake."""
        client, _ = gateway.fe(), gateway.be()
        silent, halfway = gateway.dial(gateway.zmq[0]), gateway.dial(gateway.zmq[0])
        halfway.send(b"\x16\x03\x01\x02\x00\x01")
        ready = gateway.open(TlsData, gateway.zmq[0])
        client.ping()  # the end of that handshake has been read, too
        begun = time.monotonic()
        change = gateway.service.data.data._newcomers.change
        threads.blockingCallFromThread(reactor, change, 0.5, 256, 256)
        for link in (silent, halfway, ready):
            self.assertEqual(link.rest(), (b"", "end"))
        self.assertLess(time.monotonic() - begun, 0.5 + LATE)

    @live(data=TLS)
    def test_garbage(self, gateway: Gateway) -> None:
        """What begins as TLS and is none gets an alert at most, and a close."""
        gateway.fe(), gateway.be()
        for said in (
            b"\x16" + b"garbage" * 1000,
            b"\x16\x03\x01\x00\x05hello",
            b"\x16RLX1HELLO {}",
        ):
            link = gateway.dial(gateway.zmq[0])
            link.send(said)
            told, how = link.rest()
            self.assertEqual((told[:1] in (b"", b"\x15"), how), (True, "end"), told)
        plain = gateway.waiting(gateway.zmq[0])
        plain.close()

    @live(data=TLS)
    def test_versions(self, gateway: Gateway) -> None:
        """TLS 1.2 and 1.3, and nothing below."""
        gateway.fe(), gateway.be()
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = ssl.create_default_context(cafile=str(pair()[0]))
            context.minimum_version = context.maximum_version = version
            be = gateway.open(TlsData, gateway.zmq[0], context=context)
            be.hello("BE")
            be.expect("RLX1OK")
            self.assertEqual(be.tls.version(), version.name.replace("_", "."))
            be.shutdown()
            be.rest()
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with self.assertRaises(ssl.SSLError) as caught:
            gateway.open(TlsData, gateway.zmq[0], context=old)
        self.assertIn("PROTOCOL_VERSION", str(caught.exception).upper().replace(" ", "_"))

    @live(data=REQUIRED)
    def test_required(self, gateway: Gateway) -> None:
        """``data.tls.required``: a plain HELLO is refused with what to do."""
        gateway.fe(), gateway.be()
        link = gateway.dial11(gateway.zmq[0])
        link.hello("BE")
        fields = link.expect("RLX1ERR")
        self.assertEqual(fields["error_code"], "HELLO_INVALID")
        self.assertIn("data.tls.required", fields["error"])
        self.assertEqual(link.rest(), (b"", "end"))
        silent = gateway.dial(gateway.zmq[0])
        silent.hello("BE")
        self.assertEqual(silent.rest(), (b"", "end"))
        be = gateway.open(TlsData, gateway.zmq[0])
        be.hello("BE")
        be.expect("RLX1OK")

    @live()
    def test_not_configured(self, gateway: Gateway) -> None:
        """Section 6: without ``data.tls`` it is HELLO_INVALID as anything else."""
        link = gateway.dial(gateway.zmq[0])
        link.send(b"\x16\x03\x01")
        self.assertEqual(link.rest(), (b"", "end"))

    @live(data=TLS)
    def test_openssl(self, gateway: Gateway) -> None:
        """``openssl s_client`` as the FE, to the last byte and the close_notify."""
        gateway.fe(), gateway.be()
        be = gateway.waiting(gateway.zmq[0])
        client = subprocess.Popen(
            [
                *("openssl", "s_client", "-quiet", "-verify_return_error", "-servername", NAME),
                *("-verify_hostname", NAME, "-CAfile", str(pair()[0])),
                *("-connect", f"{gateway.host}:{gateway.zmq[0]}"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            client.stdin.write(hello_line("FE", ack=True) + b"from openssl\n")  # type: ignore
            client.stdin.flush()  # type: ignore
            be.expect("RLX1PAIRED")
            self.assertEqual(be.receive_line(), b"from openssl")
            be.send(b"and back\n" * 20_000)
            be.close()
            told, errors = client.communicate(timeout=DEADLINE)
        finally:
            client.kill()
        line, _, rest = told.partition(b"\n")
        self.assertTrue(line.startswith(b"RLX1PAIRED "), (told[:200], errors))
        self.assertEqual(rest, b"and back\n" * 20_000)


class Files(TestCase):
    """The certificate and key, at start and at run time."""

    def test_at_start(self) -> None:
        """A file that cannot be used is one clear error, and nothing listens."""
        directory = Path(self.mktemp())
        directory.mkdir()
        certificate, key = write_pair(directory, "one")
        _, other_key = write_pair(directory, "other")
        (directory / "cut.pem").write_bytes(certificate.read_bytes()[:300])
        for told, named in (
            ((certificate, directory / "absent.key"), "absent.key: cannot be read"),
            ((directory / "cut.pem", key), "cut.pem: is no certificate"),
            ((certificate, other_key), "other.key: does not match the certificate"),
            ((certificate, certificate), "one.pem: is no private key"),
        ):
            peers = Unstarted(random_host(), 1, 0)
            tls = DataTls(certificate=str(told[0]), private_key=str(told[1]))
            service = service_for(peers, {"data": {"tls": tls}})
            with self.assertRaises(StartError) as caught:
                service.privilegedStartService()
            self.assertIn(named, str(caught.exception))
            peers.close_all()

    @live(data=TLS)
    def test_loaded_again(self, gateway: Gateway) -> None:
        """New connections have the new certificate; running sessions go on with the old."""
        gateway.fe(), gateway.be()
        fe, be = pair_over(gateway, gateway.zmq[0])
        certificate, key = (Path(p) for p in (data_tls().certificate, data_tls().private_key))
        before = certificate.read_bytes(), key.read_bytes()
        directory = Path(self.mktemp())
        directory.mkdir()
        new = write_pair(directory, "new")

        def reload() -> None:
            gateway.service.reload(gateway.service.config, gateway.service.secrets)

        try:
            certificate.write_bytes(b"broken")
            self.assertRaises(ConfigError, in_the_reactor, reload)
            self.assertEqual(pair_over(gateway, gateway.zmq[1])[0].tls.version(), "TLSv1.3")
            certificate.write_bytes(new[0].read_bytes())
            key.write_bytes(new[1].read_bytes())
            in_the_reactor(reload)
        finally:
            certificate.write_bytes(before[0])
            key.write_bytes(before[1])
        fe.send(b"goes on")
        self.assertEqual(be.receive(7), b"goes on")
        self.assertRaises(ssl.SSLError, gateway.open, TlsData, gateway.zmq[2])
        context = ssl.create_default_context(cafile=str(new[0]))
        link = gateway.open(TlsData, gateway.zmq[2], context=context)
        link.hello("BE")
        link.expect("RLX1OK")


class Memory(TestCase):
    """What the gateway holds (section 7)."""

    def test_a_reader_that_stands_still(self) -> None:
        """Section 7: a TLS reader slows the writer down; nothing is lost after."""
        certificate, key = pair()
        tls = {"certificate": str(certificate), "private_key": str(key)}
        sections: dict[str, Any] = {"relay": {"ring_buffer_size": MIB}, "data": {"tls": tls}}
        with twistd(self.mktemp(), **sections) as gateway:
            gateway.fe(), gateway.be()
            pair_over(gateway, gateway.zmq[1])  # code that is loaded late is loaded now
            be = gateway.open(TlsData, gateway.zmq[0])
            be.hello("BE")
            be.expect("RLX1OK")
            fe = gateway.dial11(gateway.zmq[0])
            fe.hello("FE")
            fe.expect("RLX1PAIRED")
            before = gateway.resident()
            digest = hashlib.sha256()
            sent = 0
            fe.socket.setblocking(False)
            while select.select([], [fe.socket], [], 0.7)[1]:
                count = fe.socket.send(BLOCK)
                digest.update(BLOCK[:count])
                sent += count
                self.assertTrue(sent < 256 * MIB, "nothing slows the writer down")
            held = gateway.resident() - before
            self.assertTrue(held < 8 * MIB, f"the gateway grew by {held} bytes")
            fe.socket.settimeout(DEADLINE)
            fe.shutdown()
            be.paired()
            self.assertEqual(receive_digest(be), (sent, digest.hexdigest()))
