"""Limits against abuse, on real sockets from several addresses (contract section 1, ``limits``)."""

from __future__ import annotations

import contextlib
import os
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import TestCase

from tests.guide_peer import Control, Data, EndedError, Peer, WasResetError
from tests.live import CONTROL_PORT, SECRET, Gateway, Peers, live
from tests.live_process import Timed, twistd
from tests.test_loopback_data_corners import gateway_held
from tests.test_loopback_proxy import BALANCER, TRUSTED, version_2

HERE, ELSEWHERE = "127.55.0.1", "127.55.0.2"


def register(peers: Peers, secret: str = SECRET, source: str = HERE) -> dict[str, Any]:
    """What one more registration gets."""
    return peers.control(source=source).register("FE", secret)


class Case(TestCase):
    """What the tests here share."""

    def closed(self, peer: Peer) -> None:
        """Wait until the gateway closes a connection."""
        with self.assertRaises((EndedError, WasResetError)):
            while True:
                peer.fill()


class ControlConnections(Case):
    """Connections of one source on the control plane."""

    @live(limits={"control_per_source": 3}, log={"stream": "be"})
    def test_at_once(self, gateway: Gateway) -> None:
        """Section 1: past it a connection is closed as it comes, with a warning a minute."""
        witness = gateway.be()
        mine = [gateway.fe(source=HERE) for _ in range(3)]
        for _ in range(5):
            try:
                one_more = gateway.control(source=HERE)
            except ConnectionResetError:
                continue  # it was reset before the system told us that it was there
            self.closed(one_more)
        gateway.fe(source=ELSEWHERE)
        line = witness.find("log", lambda line: "control_per_source" in str(line))["payload"]
        self.assertIn(HERE, line)
        mine[0].close()
        mine[1].ping(), mine[2].ping()
        told = [m for m in witness.ping() if "control_per_source" in str(m["payload"])]
        self.assertEqual(told, [])

    @live(limits={"control_per_source": 2})
    def test_those_that_ended_do_not_count(self, gateway: Gateway) -> None:
        """Section 1: connections at once."""
        first, second = gateway.fe(source=HERE), gateway.fe("x", source=HERE)
        first.shutdown()
        self.closed(first)
        gateway.fe(source=HERE), second.ping()

    @live(limits={"unregistered_per_source": 2})
    def test_unregistered(self, gateway: Gateway) -> None:
        """Section 1: past it the source's own oldest is closed."""
        other = gateway.control(source=ELSEWHERE)
        registered = gateway.fe(source=HERE)
        oldest, second, third = (gateway.control(source=HERE) for _ in range(3))
        self.closed(oldest)
        for client in (second, third, other):
            self.assertEqual(client.register("FE", SECRET)["status"], "ok")
        registered.ping()


class FailedRegistrations(Case):
    """A source whose registrations fail too often is refused for a while."""

    @live(limits={"failures_per_minute": 3, "failure_block": 60.0})
    def test_blocked(self, gateway: Gateway) -> None:
        """Section 1: with the seconds that are left, before any secret is compared."""
        before = gateway.fe(source=HERE)
        for _ in range(3):
            self.assertEqual(register(gateway, "wrong")["error_code"], "AUTH_FAILED")
        for secret in ("wrong", SECRET):
            refused = register(gateway, secret)
            self.assertEqual((refused["status"], refused["error_code"]), ("error", "RATE_LIMITED"))
            self.assertRegex(refused["error"], r"another (60|[345]\d) s")
        self.assertEqual(register(gateway, source=ELSEWHERE)["status"], "ok")
        before.ping()

    @live(limits={"failures_per_minute": 2, "failure_block": 1.0})
    def test_for_a_while(self, gateway: Gateway) -> None:
        """Section 1: failure_block."""
        for number in range(3, 9):  # where it is over before it is seen, with another source
            source = f"127.55.0.{number}"
            register(gateway, "wrong", source), register(gateway, "wrong", source)
            answers = [register(gateway, source=source)]
            while answers[-1]["status"] != "ok":
                self.assertEqual(answers[-1]["error_code"], "RATE_LIMITED")
                answers.append(register(gateway, source=source))
            if len(answers) > 1:
                break
        self.assertGreater(len(answers), 1)

    @live(limits={"failures_per_minute": 2}, proxy_protocol=TRUSTED)
    def test_ipv6_by_64_bits(self, gateway: Gateway) -> None:
        """Section 1: a source of IPv6 is a /64, whatever address of it comes."""

        def come(address: str, secret: str) -> dict[str, Any]:
            client = gateway.control(source=BALANCER)
            client.send(version_2(address))
            return client.register("FE", secret)

        for address in ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2"):
            self.assertEqual(come(address, "wrong")["error_code"], "AUTH_FAILED")
        self.assertEqual(come("2001:db8:0:1::3", SECRET)["error_code"], "RATE_LIMITED")
        self.assertEqual(come("2001:db8:0:2::3", SECRET)["status"], "ok")

    @live(limits={"failures_per_minute": 2})
    def test_other_mistakes_are_no_guesses(self, gateway: Gateway) -> None:
        """Section 1: what is not about a secret does not count."""
        for _ in range(4):
            client = gateway.control(source=HERE)
            client.say("ping", {"c_send": 1})
            client.rest()
            answer = gateway.control(source=HERE).register("XE", SECRET)
            self.assertEqual(answer["error_code"], "INVALID_REQUEST")
        self.assertEqual(register(gateway)["status"], "ok")

    @live(limits={"failures_per_minute": 10**6})
    def test_guesses_do_not_slow_others(self, gateway: Gateway) -> None:
        """100 wrong secrets a second from one address, even where they are all compared."""
        self.check_others(gateway, "AUTH_FAILED")

    @live()
    def test_refused_guesses_do_not_slow_others(self, gateway: Gateway) -> None:
        """The same with the limit that is the default."""
        self.check_others(gateway, "RATE_LIMITED")

    def check_others(self, gateway: Gateway, last: str) -> None:
        def guess() -> tuple[int, str]:
            began, count, code = time.monotonic(), 0, ""
            while time.monotonic() - began < 2.0 or count < 200:
                guessing = Control((gateway.host, CONTROL_PORT), source=HERE)
                code = guessing.register("FE", "wrong")["error_code"]
                guessing.close()
                count += 1
            return count, code

        def come() -> float:
            began = time.monotonic()
            client = Control((gateway.host, CONTROL_PORT), source=ELSEWHERE)
            self.assertEqual(client.register("FE", SECRET)["status"], "ok")
            took = time.monotonic() - began
            client.close()
            return took

        alone = statistics.median(come() for _ in range(50))
        guessing = gateway.background(guess)
        times = [come()]
        while not guessing.done():
            times.append(come())
        count, code = guessing.result()
        self.assertGreaterEqual(count, 200)
        self.assertEqual(code, last)
        # A machine that is busy is so without the guesses, too.
        self.assertLess(statistics.median(times), max(0.1, 10 * alone))


class WaitingForHello(Case):
    """Data connections of one source that have not said who they are."""

    @live(limits={"waiting_hello_per_source": 2}, data={"admission": "open"})
    def test_at_once(self, gateway: Gateway) -> None:
        """Section 1: past it the source's own oldest is closed, on whatever port."""
        witness = gateway.fe(source=ELSEWHERE)
        other = gateway.dial(gateway.zmq[0], source=ELSEWHERE)
        oldest = gateway.dial(gateway.zmq[0], source=HERE)
        witness.ping(), witness.ping()  # a whole turn of the reactor: it has been accepted
        second = gateway.dial11(gateway.zmq[1], source=HERE)
        third = gateway.dial11(gateway.srt[0], source=HERE)
        self.closed(oldest)
        for link in (second, third):
            link.hello("BE")
            link.expect("RLX1OK")
        fourth = gateway.dial(gateway.zmq[0], source=HERE)
        fourth.hello("BE")
        other.hello("FE")
        fourth.send(b"x")
        self.assertEqual(other.receive(1), b"x")


class Messages(Case):
    """Control messages of one client."""

    @live(limits={"messages_per_second": 50})
    def test_too_many(self, gateway: Gateway) -> None:
        """Section 3: RATE_LIMITED, not acted upon, and the connection stays."""
        client, other = gateway.be(), gateway.fe()
        with gateway_held():  # no time passes between them
            for number in range(150):
                client.say("ping", {"c_send": number}, msg_id=f"m-{number}", trace_id=f"t-{number}")
        answers = self.answers(client, 150)
        pongs = [m for m in answers if m["type"] == "pong"]
        errors = [m for m in answers if m["type"] == "error"]
        self.assertTrue(95 <= len(pongs) <= 130, len(pongs))
        for error in errors:
            told = error["payload"]
            self.assertEqual(told["error_code"], "RATE_LIMITED")
            self.assertIn("50 a second", told["error"])
            self.assertEqual(error["trace_id"], told["in_reply_to"].replace("m-", "t-"))
        other.ping()
        while self.answers(client, 1, ping=True)[0]["type"] != "pong":
            continue  # until a message is allowed again

    def answers(self, client: Control, count: int, ping: bool = False) -> list[dict[str, Any]]:
        if ping:
            client.say("ping", {"c_send": 0})
        found: list[dict[str, Any]] = []
        while len(found) < count:
            message = client.read()
            if message["type"] in ("pong", "error"):
                found.append(message)
        return found

    @live(limits={"messages_per_second": 50})
    def test_not_acted_upon(self, gateway: Gateway) -> None:
        """Section 3: a request too many does nothing, and says which it was."""
        client = gateway.be()
        with gateway_held():
            for number in range(101):
                client.say("ping", {"c_send": number})
            client.say("port_acquire", {"request_id": "r", "need_zmq": True}, msg_id="too-many")
        error = client.expect("error", in_reply_to="too-many")
        self.assertEqual(error["error_code"], "RATE_LIMITED")
        self.assertEqual(gateway.fe().state()["zmq_empty_ports"], gateway.zmq)

    @live(limits={"messages_per_second": 50}, log={"stream": "all"})
    def test_far_too_many(self, gateway: Gateway) -> None:
        """Section 3: a client ten times over is dropped, and the log says why."""
        witness, client = gateway.fe(), gateway.be("babbler")
        with contextlib.suppress(WasResetError):
            client.send(b'{"type":"ping","payload":{"c_send":1}}' * 2000)
        self.closed(client)
        line = witness.find("log", lambda line: "messages_per_second" in str(line))["payload"]
        self.assertIn("babbler", line)

    @live()
    def test_ordinary_clients_do_not_meet_it(self, gateway: Gateway) -> None:
        """The default: a thousand a second, twice as many at once."""
        client = gateway.be()
        for number in range(1500):
            client.say("ping", {"c_send": number})
        self.assertEqual({m["type"] for m in self.answers(client, 1500)}, {"pong"})


SILENT = 2000


class SlowLoris(Case):
    """Thousands of silent connections leave those served who are registered."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = SILENT + 1024
        if hard != resource.RLIM_INFINITY and hard < wanted:
            self.skipTest(f"{wanted} descriptors are needed, {hard} may be had")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))

    def check(self, dial: Callable[[Peers, str], Peer]) -> None:
        with twistd(self.directory, zmq=2, kind=Timed) as gateway:
            witness, be = gateway.fe("witness"), gateway.be("worker")
            times: list[float] = []

            def ping(count: int) -> None:
                for _ in range(count):
                    began = time.monotonic()
                    witness.ping()
                    times.append(time.monotonic() - began)

            def p99() -> float:
                return statistics.quantiles(times, n=100)[98]

            ping(200)
            alone = p99()
            times.clear()
            pinging = gateway.background(ping, 1000)
            silent: list[Peer] = []
            gateway.before_closing(lambda: [peer.close() for peer in silent] and None)
            for number in range(SILENT):
                silent.append(dial(gateway, f"127.66.0.{1 + number % 8}"))
            pinging.result()
            ping(200)
            # A machine that is busy is so without the silent ones, too.
            self.assertLess(p99(), max(0.05, 10 * alone), "p99 of the round trips")
            gateway.waiting(gateway.zmq[0], "worker")
            gateway.entering(gateway.zmq[0], "witness").expect("RLX1PAIRED")
            gateway.fe("another")
            be.ping()
            gateway.terminate()
            self.assertEqual(gateway.ended()[0], 0)
        # By the thread's CPU time: the clock has in it what the rest of the machine does.
        self.assertLess(max(turn.cpu for turn in gateway.turns()), 0.05, "one turn of the reactor")

    def test_control(self) -> None:
        """2,000 connections that never register."""
        self.check(lambda gateway, source: Control((gateway.host, CONTROL_PORT), source=source))

    def test_data(self) -> None:
        """2,000 data connections that never say HELLO."""
        self.check(lambda gateway, source: Data((gateway.host, gateway.zmq[1]), source=source))
