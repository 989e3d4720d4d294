"""Per-client policy on real sockets (contract section 1, ``clients``)."""

from __future__ import annotations

import os
import socket
import statistics
import threading
import time
from concurrent.futures import Future
from typing import Any

from twisted.trial.unittest import TestCase

from relayx.security import secrethash
from tests.guide_peer import message
from tests.live import SECRET, Data11, Gateway, Peers, live
from tests.live_process import twistd

OWN = "the-cameras-own-secret"
PREVIOUS = "the-secret-before-this-one"
ELSEWHERE = "127.77.7.7"
CAMERAS = {
    "match": "cam-*", "secret_hash": str(secrethash.make(OWN)), "roles": ("BE",),
    "protocols": ("srt",), "max_leases": 1,
}  # fmt: skip


def answer(
    gateway: Gateway, role: str, secret: str, client_id: str, **options: Any
) -> dict[str, Any]:
    """What a registration gets."""
    return gateway.control(**options).register(role, secret, client_id)


class Secrets(TestCase):
    """A secret of its own opens a client's ids, and they alone."""

    @live(clients=[CAMERAS], secrets={"auth_secret_previous": PREVIOUS})
    def test_own_secret(self, gateway: Gateway) -> None:
        """Section 1: the shared secrets are not accepted, and its own opens no other id."""
        for secret, client_id, status in (
            (OWN, "cam-1", "ok"), (OWN, "cam-1", "ok"), (OWN, "cam-2", "ok"),
            (SECRET, "cam-1", "error"), (PREVIOUS, "cam-1", "error"), ("", "cam-1", "error"),
            (OWN, "other", "error"), (OWN, "", "error"), (SECRET, "other", "ok"),
            (PREVIOUS, "other", "ok"), (SECRET, "", "ok"), (OWN + "x", "cam-1", "error"),
        ):  # fmt: skip
            found = answer(gateway, "BE", secret, client_id)
            self.assertEqual(found["status"], status, (secret, client_id))
            if status == "error":
                self.assertEqual(found["error_code"], "AUTH_FAILED")

    @live(clients=[CAMERAS])
    def test_what_follows_register_waits_for_the_secret(self, gateway: Gateway) -> None:
        """Section 2: in order, though it takes a thread to compare."""
        client = gateway.control()
        asked = {"role": "BE", "secret": OWN, "client_id": "cam-1"}
        client.send(
            message("register", asked)
            + b"".join(message("ping", {"c_send": number}) for number in range(200))
        )
        client.say("port_acquire", {"request_id": "r", "need_srt": True})
        self.assertEqual(client.read()["payload"]["status"], "ok")
        client.expect("port_grant", request_id="r")
        pongs = [m["payload"]["c_send"] for m in client.log if m["type"] == "pong"]
        self.assertEqual(pongs, list(range(200)))
        client.ping()

    @live(clients=[CAMERAS])
    def test_one_that_ends_while_it_is_compared(self, gateway: Gateway) -> None:
        """Section 8: it is lost, and nobody waits for it."""
        client = gateway.control()
        client.say("register", {"role": "BE", "secret": OWN, "client_id": "cam-1"})
        client.reset()
        other = gateway.fe11("witness")
        self.assertEqual(answer(gateway, "BE", OWN, "cam-1")["status"], "ok")
        other.ping()

    @live(clients=[CAMERAS], limits={"failures_per_minute": 1000, "messages_per_second": 10**6})
    def test_the_reactor_goes_on_meanwhile(self, gateway: Gateway) -> None:
        """No turn of the reactor waits for a secret to be compared."""
        witness = gateway.be("witness")

        def ping() -> float:
            began = time.monotonic()
            witness.ping()
            return time.monotonic() - began

        alone = statistics.median(ping() for _ in range(50))
        guessing = [gateway.control() for _ in range(16)]
        for number, client in enumerate(guessing):
            client.say("register", {"role": "BE", "secret": f"{number}", "client_id": "cam-1"})
        ended = gateway.background(lambda: [client.rest() for client in guessing])
        times = [ping()]
        while not ended.done():
            times.append(ping())
        for said in ended.result():
            self.assertEqual(said[0]["payload"]["error_code"], "AUTH_FAILED")
        most = max(0.03, 10 * alone)
        self.assertLess(statistics.median(times), most, "the median of the round trips")

    @live(clients=[CAMERAS], limits={"failures_per_minute": 1000}, log={"stream": "all"})
    def test_too_many_at_once(self, gateway: Gateway) -> None:
        """Section 3, RATE_LIMITED: more than may wait are refused, those of others are not."""
        guessing = [gateway.control() for _ in range(64)]
        for client in guessing:
            client.say("register", {"role": "BE", "secret": "guess", "client_id": "cam-1"})
        right = answer(gateway, "BE", OWN, "cam-2", source=ELSEWHERE)
        self.assertEqual(right["status"], "ok")
        codes = [client.rest()[0]["payload"]["error_code"] for client in guessing]
        self.assertEqual(set(codes), {"AUTH_FAILED", "RATE_LIMITED"})


class Rights(TestCase):
    """Roles, protocols and leases."""

    @live(clients=[CAMERAS])
    def test_roles(self, gateway: Gateway) -> None:
        """Section 3, auth: AUTH_FAILED with what is allowed."""
        found = answer(gateway, "FE", OWN, "cam-1")
        self.assertEqual(found["error_code"], "AUTH_FAILED")
        self.assertIn("allowed: BE", found["error"])

    @live(clients=[CAMERAS])
    def test_protocols_and_leases(self, gateway: Gateway) -> None:
        """Section 3, port_grant; section 6, NOT_ADMITTED."""
        client = gateway.control()
        client.register("BE", OWN, "cam-1")
        self.assertEqual(client.acquire()["error_code"], "INVALID_REQUEST")
        link = gateway.dial11(gateway.zmq[0])
        link.hello("BE", "cam-1")
        self.assertEqual(link.refusal(), "NOT_ADMITTED")
        gateway.waiting(gateway.srt[0], "cam-1")
        lease = client.acquire(need_srt=True)
        self.assertEqual(client.acquire(need_srt=True)["error_code"], "RATE_LIMITED")
        client.say("port_release", {"session_id": lease["session_id"]})
        self.assertTrue(client.acquire(need_srt=True)["session_id"])

    @live(limits={"leases_per_client": 2})
    def test_leases_per_client(self, gateway: Gateway) -> None:
        """Section 1, limits: RATE_LIMITED with the number and what is allowed."""
        client, other = gateway.be("a"), gateway.be("b")
        client.acquire(), client.acquire()
        refused = client.acquire()
        self.assertEqual(refused["error_code"], "RATE_LIMITED")
        self.assertIn("holds 2 leases; allowed: 2", refused["error"])
        self.assertTrue(other.acquire()["session_id"])


SECONDS = 5.0
"""For which a rate is measured: as long as it is promised for."""

TRIES = 3


class Flow:
    """A session whose one side sends as fast as it can; counts what comes out at the other."""

    def __init__(self, peers: Peers, port: int, fe: str, be: str, *, back: bool = False) -> None:
        waiting, entering = peers.waiting(port, be), peers.entering(port, fe)
        entering.expect("RLX1PAIRED")
        waiting.expect("RLX1PAIRED")
        self._peers = peers
        sender, self._receiver = (waiting, entering) if back else (entering, waiting)
        threading.Thread(target=_send, args=(sender,), daemon=True).start()

    def counting(self) -> Future[float]:
        """In the background count for a while: bits/s."""
        found: Future[float] = self._peers.background(_receive, self._receiver)
        return found


def _send(link: Data11) -> None:
    link.socket.settimeout(None)
    block = bytes(1 << 18)
    try:
        while True:
            link.socket.send(block)
    except OSError:
        pass  # the test is over


def _receive(link: Data11) -> float:
    """Bits/s from the first byte on."""
    buffer = bytearray(1 << 20)
    link.socket.settimeout(SECONDS)
    link.socket.recv_into(buffer, 1, socket.MSG_PEEK)
    began = now = time.monotonic()
    count = 0
    while now - began < SECONDS:
        count += link.socket.recv_into(buffer)
        now = time.monotonic()
    return 8 * count / (now - began)


class Bandwidth(TestCase):
    """Within 5 % at the receiver, over five seconds."""

    def check(self, wanted: int, *flows: Flow) -> list[float]:
        """What flows have together; once more where the machine stood still meanwhile."""
        for _ in range(TRIES):
            counting = [flow.counting() for flow in flows]
            rates = [one.result() for one in counting]
            if 0.95 * wanted <= sum(rates) <= 1.05 * wanted:
                return rates
        raise AssertionError(f"{rates} bits/s of {wanted}")

    def test_rates(self) -> None:
        """Section 1, bandwidth: 200 kbit/s, 20 Mbit/s and 400 Mbit/s, whoever's limit it is."""
        rates = {"fe-slow": 200_000, "be-middle": 20_000_000, "fe-fast": 400_000_000}
        clients = [{"match": name, "bandwidth": rate} for name, rate in rates.items()]
        clients.append({"match": "be-faster", "bandwidth": 10 * 400_000_000})
        with twistd(self.directory(), zmq=3, clients=clients) as gateway:
            for name in ("fe-slow", "fe-fast", "fe"):
                gateway.fe11(name)
            for name in ("be", "be-middle", "be-faster"):
                gateway.be11(name)
            slow = Flow(gateway, gateway.zmq[0], "fe-slow", "be")
            middle = Flow(gateway, gateway.zmq[1], "fe", "be-middle", back=True)
            meanwhile = gateway.background(self.check, 200_000, slow)
            self.check(20_000_000, middle)
            meanwhile.result()
            self.check(400_000_000, Flow(gateway, gateway.zmq[2], "fe-fast", "be-faster"))

    def test_two_sessions_share(self) -> None:
        """Section 1, bandwidth: over all sessions of a client, both directions together."""
        clients = [{"match": "fe-*", "bandwidth": 20_000_000}]
        with twistd(self.directory(), zmq=2, clients=clients) as gateway:
            gateway.fe11("fe-1"), gateway.be11("be")
            flows = [
                Flow(gateway, port, "fe-1", "be", back=back)
                for port, back in zip(gateway.zmq, (False, True), strict=True)
            ]
            rates = self.check(20_000_000, *flows)
            self.assertGreater(min(rates), 5_000_000)

    def directory(self) -> str:
        """Where a gateway may write."""
        path = self.mktemp()
        os.mkdir(path)
        return path
