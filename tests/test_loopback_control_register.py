"""Registration, its refusals and the limits on control connections (contract section 3)."""

from __future__ import annotations

import time

import msgspec
from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from relayx.core.messages import Role
from tests.guide_peer import Control, EndedError, WasResetError
from tests.live import CONTROL_PORT, LATE, SECRET, Control11, Gateway, live
from tests.test_loopback_data_regressions import ask


class Registering(TestCase):
    """register and auth (section 3)."""

    def refused(self, client: Control, code: str) -> str:
        """The answer is auth with this code, then an end of stream; what its error says."""
        found = client.rest()
        self.assertEqual([m["type"] for m in found], ["auth"])
        payload = found[0]["payload"]
        self.assertEqual((payload["status"], payload["error_code"]), ("error", code))
        self.assertTrue(payload["error"])
        self.assertNotIn(SECRET, payload["error"])
        return str(payload["error"])

    @live()
    def test_auth_ok(self, gateway: Gateway) -> None:
        """Section 3: what auth carries."""
        for kind in (Control, Control11):
            client = gateway.open(kind, CONTROL_PORT)
            auth = client.register("FE", SECRET, f"client {kind.__name__}")
            self.assertEqual(auth["status"], "ok")
            self.assertEqual(auth["client_id"], f"client {kind.__name__}")
            self.assertEqual(auth["protocol"], "1.1")
            self.assertTrue(auth["server"])
            self.assertFalse(auth.get("error_code"))

    @live()
    def test_empty_client_id(self, gateway: Gateway) -> None:
        """Section 3: "" lets the gateway name the client, each differently."""
        names = {gateway.fe().auth["client_id"], gateway.fe().auth["client_id"]}
        client = gateway.control()
        client.say("register", {"role": "FE", "secret": SECRET})
        names.add(client.expect("auth")["client_id"])
        self.assertEqual(len(names), 3)
        self.assertNotIn("", names)

    @live()
    def test_after_auth_fe(self, gateway: Gateway) -> None:
        """Section 3: an FE gets port_alloc, port_state, then key_exchange, in this order."""
        be = gateway.be("keyed")
        be.say("key_exchange", {"public_key": "PUB"})
        be.ping()
        client = gateway.fe()
        found = [client.read() for _ in range(3)]
        self.assertEqual([m["type"] for m in found], ["port_alloc", "port_state", "key_exchange"])
        self.assertEqual(
            found[0]["payload"],
            {"zmq_start_port": gateway.zmq[0], "zmq_end_port": gateway.zmq[-1],
             "srt_start_port": gateway.srt[0], "srt_end_port": gateway.srt[-1]},
        )  # fmt: skip
        self.assertEqual(found[2]["payload"], {"public_key": "PUB", "client_id": "keyed"})

    @live()
    def test_after_auth_be(self, gateway: Gateway) -> None:
        """Section 3: a BE gets port_state."""
        client = gateway.be()
        self.assertEqual(client.read()["type"], "port_state")
        self.assertEqual(client.ping(), [])

    @live()
    def test_auth_failed(self, gateway: Gateway) -> None:
        """Section 3: a wrong secret, none, or one that only begins right."""
        for secret in ("wrong", "", SECRET[:-1], SECRET + "x", "gehéim"):
            client = gateway.control()
            client.say("register", {"role": "FE", "secret": secret})
            self.refused(client, "AUTH_FAILED")
        client = gateway.control()
        client.say("register", {"role": "BE"})
        self.refused(client, "AUTH_FAILED")

    @live(secrets={"auth_secret_previous": "the-one-before"})
    def test_previous_secret(self, gateway: Gateway) -> None:
        """Section 1: the previous secret is accepted while a secret is rotated."""
        self.assertEqual(gateway.control().register("FE", "the-one-before")["status"], "ok")
        self.assertEqual(gateway.control().register("FE", SECRET)["status"], "ok")
        self.assertEqual(gateway.control().register("FE", "other")["error_code"], "AUTH_FAILED")

    @live()
    def test_register_required(self, gateway: Gateway) -> None:
        """Section 3: a first message that is not register."""
        for kind, payload in (("ping", {"c_send": 1}), ("port_state_q", {}), ("teleport", {})):
            client = gateway.control()
            client.say(kind, payload)
            self.assertIn(f'"{kind}"', self.refused(client, "REGISTER_REQUIRED"))

    @live()
    def test_register_timeout(self, gateway: Gateway) -> None:
        """Section 3: who does not register in time; half a message does not count."""
        begun = time.monotonic()
        silent, slow = gateway.control(), gateway.control()
        slow.send(b'{"type":"register","payl')
        registered = gateway.fe()
        control = gateway.service.control
        short = msgspec.structs.replace(control.settings, register_timeout=0.3)
        ask(lambda: control.change(short))
        self.refused(silent, "REGISTER_REQUIRED")
        self.refused(slow, "REGISTER_REQUIRED")
        self.assertTrue(0.25 < time.monotonic() - begun < 0.3 + LATE, time.monotonic() - begun)
        registered.ping()

    @live()
    def test_unknown_role(self, gateway: Gateway) -> None:
        """Section 3: role is FE or BE."""
        for role in ("XX", "fe", ""):
            client = gateway.control()
            client.say("register", {"role": role, "secret": SECRET})
            found = client.rest()
            self.assertEqual([m["type"] for m in found], ["auth"], role)
            self.assertEqual(found[0]["payload"]["status"], "error")
            self.assertIn(found[0]["payload"]["error_code"], ("INVALID_REQUEST", "INVALID_MESSAGE"))

    @live()
    def test_client_id_limits(self, gateway: Gateway) -> None:
        """Section 2: 0 to 128 printable characters."""
        self.assertEqual(gateway.fe("é" * 128).auth["client_id"], "é" * 128)
        for client_id in ("x" * 129, "line\nbreak", "nul\0", "esc\x1b[31m", "del\x7f"):
            client = gateway.control()
            client.say("register", {"role": "FE", "secret": SECRET, "client_id": client_id})
            self.refused(client, "INVALID_REQUEST")

    @live(relay={"max_fe": 2, "max_be": 1})
    def test_capacity(self, gateway: Gateway) -> None:
        """Section 3: past max_fe or max_be; each role has its own places, freed at the end."""
        first, _ = gateway.fe("one"), gateway.fe("two")
        be = gateway.be("three")
        for role in ("FE", "BE"):
            client = gateway.control()
            client.say("register", {"role": role, "secret": SECRET})
            self.refused(client, "CAPACITY")
        first.shutdown()
        first.rest()
        self.assertEqual(gateway.fe("four").auth["status"], "ok")
        be.ping()

    @live(relay={"max_fe": 1})
    def test_secret_before_capacity(self, gateway: Gateway) -> None:
        """Section 3: who has no secret learns nothing of the places."""
        gateway.fe()
        client = gateway.control()
        client.say("register", {"role": "FE", "secret": "wrong"})
        self.refused(client, "AUTH_FAILED")


class Limits(TestCase):
    """Limits on connections (sections 1 and 3)."""

    @live(control={"max_unregistered": 2})
    def test_max_unregistered(self, gateway: Gateway) -> None:
        """Section 1: past it the oldest is closed; registered ones do not count."""
        gateway.fe("a"), gateway.fe("b"), gateway.be("c")
        oldest = gateway.control()
        second = gateway.control()
        third = gateway.control()
        with self.assertRaises((EndedError, WasResetError)):
            oldest.read()
        for client in (second, third):
            self.assertEqual(client.register("FE", SECRET)["status"], "ok")

    @live(control={"idle_timeout": 4.0})
    def test_idle_timeout(self, gateway: Gateway) -> None:
        """Section 1: a client silent for this long is dropped, one that pings is not."""
        begun = time.monotonic()
        silent, lively = gateway.fe(), gateway.be()
        silent.expect("port_state")
        control = gateway.service.control
        [client] = gateway.service.switchboard.clients(Role.FE)

        def be_silent() -> None:  # for three of the four seconds
            control.get(client.conn).last_heard = reactor.seconds() - 3  # type: ignore[attr-defined]

        ask(be_silent)
        ended = gateway.background(silent.rest)
        beats = 0
        while not ended.done() or beats < 2:
            lively.ping()
            beats += 1
        ended.result()
        self.assertTrue(0.9 < time.monotonic() - begun < 1 + LATE, time.monotonic() - begun)

    @live()
    def test_no_idle_timeout_by_default(self, gateway: Gateway) -> None:
        """Section 1: idle_timeout 0 is never."""
        client = gateway.fe()
        client.expect("port_state")
        with self.assertRaises(TimeoutError):
            client.fill(0.6)
        client.ping()

    @live(control={"max_outbox_bytes": 65536})
    def test_slow_reader(self, gateway: Gateway) -> None:
        """Section 1: who reads too slowly to stay under max_outbox_bytes is dropped."""
        slow = gateway.fe("slow", receive_buffer=4096)
        quick = gateway.fe("quick")
        be = gateway.be()
        quick.expect("port_state")
        for number in range(250):
            be.say("key_exchange", {"public_key": f"{number} " + "k" * 50000})
            quick.find("key_exchange")
        received = 0
        with self.assertRaises((EndedError, WasResetError)):
            while True:
                slow.fill()
                received += len(slow.held)
                slow.held = b""
        self.assertTrue(received < 250 * 50000, received)
        quick.ping()
        be.ping()
        self.assertEqual(gateway.fe("another").auth["status"], "ok")
