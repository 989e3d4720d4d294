"""Messages of registered clients that are not about leases (contract section 3)."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.threads import blockingCallFromThread
from twisted.logger import Logger
from twisted.trial.unittest import TestCase

from tests.guide_peer import DEADLINE, Control
from tests.live import Gateway, live


def of(kind: str, messages: list[dict[str, Any]]) -> list[Any]:
    """The payloads of one type."""
    return [m["payload"] for m in messages if m["type"] == kind]


def _read_until_pong(client: Control, stamp: int) -> tuple[int, list[int]]:
    """Read on to a pong: how many log lines came, and which pongs."""
    lines, pongs = 0, []
    while stamp not in pongs:
        found = client.read()
        if found["type"] == "log":
            lines += 1
        elif found["type"] == "pong":
            pongs.append(found["payload"]["c_send"])
    return lines, pongs


class PingTests(TestCase):
    """ping and pong (section 3)."""

    @live()
    def test_pong(self, gateway: Gateway) -> None:
        """Section 3: c_send as it was, and two unix times in nanoseconds."""
        client = gateway.be()
        before = time.time_ns()
        client.say("ping", {"c_send": 2**62 + 1})
        pong = client.expect("pong")
        after = time.time_ns()
        self.assertEqual(pong["c_send"], 2**62 + 1)
        slack = 10**9
        self.assertTrue(before - slack <= pong["s_recv"] <= pong["s_send"] <= after + slack, pong)


class PortAllocTests(TestCase):
    """port_alloc from a BE, and telemetry (section 3)."""

    @live()
    def test_ranges_to_every_fe(self, gateway: Gateway) -> None:
        """Section 3: a BE's own numbers are not used; every FE gets the configured ranges."""
        fes = [gateway.fe(), gateway.fe11()]
        be, other = gateway.be(), gateway.be()
        for fe in fes:
            fe.expect("port_state")
        be.say("port_alloc", {"zmq_start_port": 1, "zmq_end_port": 2, "srt_start_port": 3,
                              "srt_end_port": 4})  # fmt: skip
        for fe in fes:
            self.assertEqual(
                fe.find("port_alloc")["payload"],
                {"zmq_start_port": gateway.zmq[0], "zmq_end_port": gateway.zmq[-1],
                 "srt_start_port": gateway.srt[0], "srt_end_port": gateway.srt[-1]},
            )  # fmt: skip
        self.assertEqual(of("port_alloc", other.ping()), [])

    @live(srt=0)
    def test_a_protocol_without_ports(self, gateway: Gateway) -> None:
        """Section 1: a protocol without its two port keys has no ports."""
        fe = gateway.fe()
        alloc = fe.expect("port_alloc")
        self.assertFalse(alloc.get("srt_start_port"))
        state = fe.expect("port_state")
        self.assertEqual((state["srt_total"], state["srt_empty_ports"]), (0, []))
        found = fe.acquire(need_srt=True)
        self.assertEqual((found["session_id"], found["error_code"]), ("", "PORT_EXHAUSTED"))

    @live()
    def test_telemetry(self, gateway: Gateway) -> None:
        """Section 3: every 100 ms to who subscribed, in Mbps; to nobody else."""
        subscribed, other, fe = gateway.be(), gateway.be(), gateway.fe()
        subscribed.say("port_alloc", {})
        stamps = [subscribed.find("telemetry")["ts_ms"] for _ in range(6)]
        begun = time.monotonic()
        while not 350 <= stamps[-1] - stamps[-6] <= 1200:  # the machine may have stood still
            self.assertTrue(time.monotonic() - begun < DEADLINE, stamps)
            stamps.append(subscribed.find("telemetry")["ts_ms"])
        self.assertEqual(subscribed.expect("telemetry")["current_speed"], 0)
        for client in (other, fe):
            self.assertEqual(of("telemetry", client.ping()), [])

    @live()
    def test_speed(self, gateway: Gateway) -> None:
        """Section 3: over both directions of every session, ended ones included."""
        client, _ = gateway.be(), gateway.fe()
        client.say("port_alloc", {})
        before = client.find("telemetry")["ts_ms"]
        for port in gateway.zmq[:2]:
            fe, be = gateway.pair(port)
            for source, sink, size in ((fe, be, 1_000_000), (be, fe, 500_000)):
                sending = gateway.background(source.send, b"x" * size)
                self.assertEqual(len(sink.receive(size)), size)
                sending.result()
            fe.close(), be.close()
        megabits, quiet = 0.0, 0
        begun = time.monotonic()
        while quiet < 3:
            self.assertTrue(time.monotonic() - begun < DEADLINE, megabits)
            told = client.find("telemetry")
            speed = told["payload"]["current_speed"]
            self.assertTrue(speed >= 0, told)
            megabits += speed * (told["ts_ms"] - before) / 1000
            before = told["ts_ms"]
            quiet = quiet + 1 if speed == 0 and megabits > 21 else 0
        self.assertTrue(21 < megabits < 27, megabits)  # it is 24, less what the clocks differ


class KeyExchangeTests(TestCase):
    """key_exchange (section 3)."""

    @live()
    def test_forwarded_to_every_fe(self, gateway: Gateway) -> None:
        """Section 3: to every FE with the BE's client_id; not to a BE."""
        fes = [gateway.fe(), gateway.fe11()]
        be, other = gateway.be("sender"), gateway.be()
        be.say("key_exchange", {"public_key": "-----BEGIN é"})
        for fe in fes:
            self.assertEqual(
                fe.expect("key_exchange"), {"public_key": "-----BEGIN é", "client_id": "sender"}
            )
        self.assertEqual(of("key_exchange", other.ping()), [])
        self.assertEqual(of("key_exchange", be.ping()), [])

    @live(log={"stream": "all", "level": "debug"})
    def test_private_key_dropped(self, gateway: Gateway) -> None:
        """Section 3: a private key is warned of, never forwarded or logged."""
        fe, be = gateway.fe(), gateway.be("careless")
        be.say("key_exchange", {"public_key": "PUBLIC", "private_key": "PRIVATE-abc"})
        self.assertEqual(
            fe.expect("key_exchange"), {"public_key": "PUBLIC", "client_id": "careless"}
        )
        warned = fe.find("log", lambda line: "private" in str(line).lower())
        self.assertIn("careless", warned["payload"])
        later = gateway.fe()
        later.expect("key_exchange")
        later.ping(), fe.ping(), be.ping()
        for client in (fe, be, later):
            self.assertNotIn("PRIVATE-abc", repr(client.log))

    @live(control={"max_outbox_bytes": 65536})
    def test_more_keys_than_the_outbox_holds(self, gateway: Gateway) -> None:
        """Section 1: max_outbox_bytes is for what a client does not read; nobody is late here."""
        keys = {f"be-{number}": f"{number} " + "k" * 50000 for number in range(12)}
        for client_id, key in keys.items():
            be = gateway.be(client_id)
            be.say("key_exchange", {"public_key": key})
            be.ping()
        fe = gateway.fe()
        self.assertEqual(fe.auth["status"], "ok")
        found = of("key_exchange", fe.ping())
        self.assertEqual({told["client_id"]: told["public_key"] for told in found}, keys)

    @live(relay={"reaper_timeout": 0.3})
    def test_latest_until_reaped(self, gateway: Gateway) -> None:
        """Section 3: later FEs get the latest of each BE, until that BE is reaped."""
        watcher = gateway.fe()
        first, second = gateway.be("first"), gateway.be("second")
        for be, key in ((first, "old"), (second, "two"), (first, "new")):
            be.say("key_exchange", {"public_key": key})
            be.ping()
        link = gateway.waiting(gateway.zmq[0], "second")

        def replayed() -> set[tuple[str, str]]:
            found = of("key_exchange", gateway.fe().ping())
            self.assertEqual(len(found), len({k["client_id"] for k in found}))
            return {(k["client_id"], k["public_key"]) for k in found}

        self.assertEqual(replayed(), {("first", "new"), ("second", "two")})
        second.close()
        self.assertIn(link.dropped(), ("", "BE_LOST"))  # reaped
        watcher.ping()
        self.assertEqual(replayed(), {("first", "new")})


class LogStreamTests(TestCase):
    """log.stream (sections 1 and 3)."""

    def lines(self, client: Control) -> list[Any]:
        client.ping()
        client.ping()
        return of("log", client.log)

    def warn(self, gateway: Gateway) -> Control:
        """Cause a warning that names `tellme`."""
        be = gateway.be("tellme")
        be.say("key_exchange", {"public_key": "p", "private_key": "q"})
        be.ping()
        return be

    @live(log={"stream": "all"})
    def test_all(self, gateway: Gateway) -> None:
        """Section 3: a log line is one string, to everybody."""
        fe, be = gateway.fe(), gateway.be()
        self.warn(gateway)
        for client in (fe, be):
            found = client.find("log", lambda line: "tellme" in str(line))["payload"]
            self.assertIsInstance(found, str)
            self.assertNotIn("\n", found.rstrip("\n"))

    @live(log={"stream": "be"})
    def test_be(self, gateway: Gateway) -> None:
        """Section 1: be means BEs only."""
        fe, be = gateway.fe(), gateway.be()
        self.warn(gateway)
        be.find("log", lambda line: "tellme" in str(line))
        self.assertEqual(self.lines(fe), [])

    @live()
    def test_off(self, gateway: Gateway) -> None:
        """Section 1: off is the default."""
        fe, be = gateway.fe(), gateway.be()
        self.warn(gateway)
        self.assertEqual(self.lines(fe) + self.lines(be), [])

    @live(log={"stream": "all", "level": "debug"})
    def test_no_line_about_lines(self, gateway: Gateway) -> None:
        """Section 3: streaming a line makes no further line; the stream comes to rest."""
        fe = gateway.fe()
        self.warn(gateway)
        fe.find("log", lambda line: "tellme" in str(line))
        before = len(self.lines(fe))
        for _ in range(5):
            fe.ping()
        self.assertTrue(len(self.lines(fe)) - before <= 2 * 7, fe.log)

    @live(log={"stream": "be"}, limits={"messages_per_second": 20000})
    def test_a_client_that_lags(self, gateway: Gateway) -> None:
        """Section 3: it loses the oldest lines, never anything else."""
        slow = gateway.be("slow", receive_buffer=4096)
        slow.ping()
        noisy = gateway.be("n" * 128)
        lines, log = 10000, Logger(namespace="relayx")

        def say_much() -> None:
            for number in range(lines // 20):
                log.info("{text}", text=f"{number}" + "n" * 200, always=True)

        for stamp in range(20):
            blockingCallFromThread(reactor, say_much)
            noisy.say("ping", {"c_send": stamp})
            _read_until_pong(noisy, stamp)
        for stamp in range(100, 150):
            slow.say("ping", {"c_send": stamp})
        noisy.say("key_exchange", {"public_key": "p", "private_key": "q"}, trace_id="the-last")
        noisy.ping()
        told, pongs = _read_until_pong(slow, 149)
        self.assertEqual(pongs, list(range(100, 150)))
        self.assertTrue(100 < told < lines, told)
        slow.ping()

    @live(log={"stream": "all", "level": "debug"})
    def test_no_secret_and_no_control_character(self, gateway: Gateway) -> None:
        """Sections 2 and 3: never a secret in a line, and nothing of a client's raw."""
        fe = gateway.fe()
        gateway.control().register("FE", "a-wrong-secret-to-look-for")
        evil = gateway.control()
        evil.say("register", {"role": "FE", "client_id": "evil\n\x1b[31mred", "secret": "x"})
        evil.rest()
        noisy = gateway.be("noisy")
        noisy.say("tele\n\x1bport", {})
        noisy.expect("error")
        self.warn(gateway)
        fe.find("log", lambda line: "tellme" in str(line))
        lines = "".join(line.rstrip("\n") for line in of("log", fe.log))
        self.assertNotIn("a-wrong-secret-to-look-for", lines)
        self.assertNotIn("loopback-secret", lines)
        self.assertEqual([c for c in lines if ord(c) < 32], [])
