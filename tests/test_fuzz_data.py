"""Anything on the data ports of a gateway that takes PROXY headers and TLS (contract section 6).

Each connection waits, is answered or is closed; once its own stream has ended, it ends. Random
sessions over TLS and under a bandwidth limit deliver what was sent.
"""

from __future__ import annotations

import json
import ssl
import time
from typing import Any, ClassVar

from hypothesis import example, given, note
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.threads import blockingCallFromThread
from twisted.trial.unittest import TestCase

from relayx.net.proxy import SIGNATURE
from tests.data_certificates import data_tls
from tests.data_tls_peer import TlsData, pair_over
from tests.fuzzing import clean_log, examples
from tests.guide_peer import DEADLINE, Data, EndedError, WasResetError, hello_line
from tests.live import Data11, Gateway, live
from tests.test_loopback_data_property import Sessions, descriptors
from tests.test_loopback_proxy import BALANCER, CLIENT, TRUSTED, version_1, version_2

TICKET = "ticket-that-no-log-line-may-hold"
STRANGER = "127.0.0.1"

FIELDS = st.fixed_dictionaries(
    {"role": st.sampled_from(["FE", "BE", "BE", "XE"])},
    optional={
        "client_id": st.sampled_from(["", "a"]) | st.text(max_size=8),
        "service": st.sampled_from(["", "web", "Not!"]),
        "session_id": st.text(max_size=4),
        "ticket": st.just(TICKET),
        "ack": st.booleans() | st.integers(0, 1),
        "on_fe_close": st.sampled_from(["keep", "close", "x"]),
        "proxy": st.sampled_from(["v2", "v1"]),
    },
)
HELLOS = st.one_of(
    FIELDS.map(lambda fields: b"RLX1HELLO " + json.dumps(fields).encode() + b"\n"),
    st.sampled_from([hello_line("BE"), hello_line("FE", ack=True), hello_line("BE", ack=True)]),
)
HEADERS = st.sampled_from([
    version_1(CLIENT), version_2(CLIENT), version_1("2001:db8::7"), version_2("2001:db8::7"),
    b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x20\x00\x00\x00", SIGNATURE + b"\x21\x11\xff\xff",
    SIGNATURE + b"\x21\x00\x00\x02ab", b"PROXY TCP4 1.2.3.4 1.2.3.4 0 99999\r\n",
])  # fmt: skip
OTHERS = st.sampled_from([b"\x16\x03\x01\x02\x00\x01", b"\x16", b"\xff", b"\n", b"PROXY "])
PIECES = st.lists(st.one_of(HELLOS, HELLOS, HEADERS, OTHERS, st.binary(max_size=9)), max_size=4)
CHANGES = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=2)
ZMTP_3 = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03"


def changed(pieces: list[bytes], changes: list[tuple[int, int]]) -> bytes:
    """The pieces in one, with some bytes changed."""
    whole = bytearray(b"".join(pieces))
    for at, byte in changes:
        if at < len(whole):
            whole[at] = byte
    return bytes(whole)


class Openings(TestCase):
    """What a connection may begin with, mixed and broken."""

    def ended(self, gateway: Gateway, link: Data) -> bytes:
        """End our stream, and wait for the gateway's end; what was below TLS or without it."""
        raw = link.socket
        try:
            raw.shutdown(1)
        except OSError:
            return b""
        found = b""
        try:
            while data := raw.recv(65536):
                found += data
        except ConnectionResetError:
            pass
        return found

    def check_answers(self, said: bytes) -> None:
        """What a connection without a session is told: a line, or two."""
        for line in said.splitlines():
            self.assertRegex(line, rb'^RLX1(OK|PAIRED|ERR) \{".*\}$')
            self.assertNotIn(TICKET.encode(), line)

    @live(
        data={"tls": data_tls(), "hello_timeout": 0.5, "admission": "open"},
        proxy_protocol=TRUSTED,
        limits={"waiting_hello_per_source": 8},
        log={"level": "debug"},
    )
    def test_any_opening(self, gateway: Gateway) -> None:
        """A trusted proxy's and a stranger's, with TLS and without, cut anyhow."""
        data = gateway.service.data

        @given(
            st.sampled_from([BALANCER, STRANGER]), st.booleans(), HEADERS,
            PIECES, CHANGES, st.integers(0, 500), st.booleans(),
        )  # fmt: skip
        @example(STRANGER, False, b"", [ZMTP_3[:10]], [], 0, False)
        @examples(120)
        def check(
            source: str, tls: bool, header: bytes, pieces: list[bytes],
            changes: list[tuple[int, int]], cut: int, reset: bool,
        ) -> None:  # fmt: skip
            said = changed(pieces, changes)
            link: Data
            try:
                if tls:
                    first = header if source == BALANCER else b""
                    link = gateway.open(TlsData, gateway.zmq[0], source=source, first=first)
                else:
                    link = gateway.dial(gateway.zmq[0], source=source)
                for piece in (said[:cut], said[cut:]):
                    if piece:
                        link.send(piece)
            except (WasResetError, EndedError, ssl.SSLError):
                return
            if reset:
                link.reset()
                return
            answer = self.ended(gateway, link)
            if answer.startswith(b"\xff"):  # of ZMTP
                self.assertIn(b"\xff", said)
                self.assertTrue(answer.startswith(ZMTP_3), answer)
            elif not tls and not answer.startswith(b"\x15\x03"):  # an alert of TLS
                self.check_answers(answer)
            link.close()

        check()
        witness = gateway.fe()
        witness.state(lambda state: len(state["zmq_empty_ports"]) == len(gateway.zmq))
        deadline = time.monotonic() + DEADLINE
        while blockingCallFromThread(reactor, data.open_connections):
            self.assertLess(time.monotonic(), deadline, "a connection does not end")
            witness.ping()

    def run(self, result: Any) -> Any:
        """Nothing that is logged meanwhile is wrong."""
        with clean_log(self, TICKET):
            return super().run(result)


class Throttled(Sessions, TestCase):
    """Random sessions under a limit that they meet."""

    hello: ClassVar[dict[str, str]] = {"client_id": "witness"}

    @live(
        zmq=1, srt=0, data={"admission": "open"},
        clients=[{"match": "*", "bandwidth": 1_600_000_000}],
    )  # fmt: skip
    def test_random_sessions(self, gateway: Gateway) -> None:
        """Section 1, clients: what arrives is what was sent, and every session ends."""
        self.property(gateway)


class OverTls(TestCase):
    """Random sessions with TLS at either end or both."""

    @live(zmq=1, srt=0, data={"admission": "open", "tls": data_tls()})
    def test_random_sessions(self, gateway: Gateway) -> None:
        """Section 7: all that was sent arrives, and the end behind it."""
        witness = gateway.fe11("witness")
        port = gateway.zmq[0]
        before: list[int] = []

        @given(
            fe_tls=st.booleans(), be_tls=st.booleans(),
            up=st.lists(st.integers(1, 300_000), max_size=4),
            down=st.lists(st.integers(1, 300_000), max_size=4),
        )  # fmt: skip
        @examples(20)
        def check(fe_tls: bool, be_tls: bool, up: list[int], down: list[int]) -> None:
            note(f"{fe_tls=} {be_tls=} {up=} {down=}")
            fe, be = pair_over(gateway, port, fe_tls=fe_tls, be_tls=be_tls)
            work = [
                gateway.background(self.send, fe, up), gateway.background(self.send, be, down),
            ]  # fmt: skip
            ends = [gateway.background(fe.rest), gateway.background(be.rest)]
            sent_up, sent_down = (each.result() for each in work)
            self.assertEqual(ends[1].result(), (sent_up, "end"))
            self.assertEqual(ends[0].result(), (sent_down, "end"))
            fe.close(), be.close()
            witness.state(lambda state: port in state["zmq_empty_ports"])
            before.append(descriptors())

        with clean_log(self):
            check()
        self.assertLessEqual(before[-1], before[0] + 4)

    def send(self, link: Data11, sizes: list[int]) -> bytes:
        """Send pieces of these sizes and end the stream; what was sent."""
        whole = b""
        for number, size in enumerate(sizes):
            piece = bytes([number + 1]) * size
            link.send(piece)
            whole += piece
        link.shutdown()
        return whole
