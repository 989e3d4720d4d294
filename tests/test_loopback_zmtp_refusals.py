"""Who is refused, with real libraries and bare sockets: types, keys, credentials, versions."""

from __future__ import annotations

import threading
from typing import Any

import msgspec

from relayx.core import pairing
from relayx.data import direct
from relayx.zmtp import error_command, greeting_bytes
from tests.data_certificates import data_tls
from tests.data_tls_peer import TlsData
from tests.fuzzing import clean_log
from tests.guide_peer import WasResetError
from tests.live import NEVER, Gateway, live
from tests.test_loopback_proxy import BALANCER, TRUSTED, registered, version_1, version_2
from tests.test_loopback_zmtp import OPEN, ZmtpCase, in_the_reactor, zmq
from tests.test_loopback_zmtp_numbers import scrape
from tests.zmtp_bed import credentials, message, opening, ready

if zmq is not None:
    from zmq.utils.monitor import recv_monitor_message

TICKET = {"admission": "ticket"}
FE_SIDE, BE_SIDE = "127.0.0.11", "127.0.0.12"


class Authenticator:
    """Answers ZAP for a context, by a table of user names and passwords (RFC 27)."""

    def __init__(self, context: Any, known: dict[bytes, bytes]) -> None:
        self.asked: list[tuple[bytes, bytes]] = []
        self._socket = context.socket(zmq.REP)
        self._socket.bind("inproc://zeromq.zap.01")
        self._known = known
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                version, request, _, _, _, _, username, password = self._socket.recv_multipart()
            except zmq.ZMQError:
                self._socket.close(linger=0)
                return
            self.asked.append((username, password))
            status = b"200" if self._known.get(username) == password else b"400"
            self._socket.send_multipart([version, request, status, b"", b"", b""])


class Events:
    """What happens to the connections of a socket, from before it connects."""

    def __init__(self) -> None:
        self._monitor: Any = None
        self._of: Any = None

    def __call__(self, socket: Any) -> None:
        """Begin to watch a socket."""
        self._of, self._monitor = socket, socket.get_monitor_socket()

    def wait(self, event: int, times: int = 1, *, more: bool = False) -> None:
        """Until something has happened so often; watch no longer then, unless for more."""
        while times:
            if not self._monitor.poll(60_000):
                raise AssertionError(f"event {event} does not happen")
            times -= recv_monitor_message(self._monitor)["event"] == event
        if not more:
            self._of.disable_monitor()  # libzmq waits for ever for a monitor that was merely closed


class Refusals(ZmtpCase):
    """Who does not fit, of unmodified libraries."""

    @live(data=OPEN)
    def test_wrong_type_leaves_the_be_waiting(self, gateway: Gateway) -> None:
        pull = self.waiting(gateway, zmq.PULL)
        watcher = gateway.fe11("watching")
        events = Events()
        pub = self.socket(gateway, zmq.PUB, watch=events)
        pub.send(b"nobody")
        events.wait(zmq.EVENT_DISCONNECTED)
        push = self.socket(gateway, zmq.PUSH)
        push.send(b"right")
        self.assertEqual(pull.recv(), b"right")
        self.assertEqual(scrape(gateway).of("relayx_zmtp_faults_total", reason="socket_type"), 1)
        watcher.close()

    @live(data=OPEN)
    def test_a_successor_of_a_killed_pull(self, gateway: Gateway) -> None:
        push = self.waiting(gateway, zmq.PUSH)
        pull = self.socket(gateway, zmq.PULL)
        push.send(b"1")
        self.assertEqual(pull.recv(), b"1")
        watcher = gateway.fe11("another watcher")
        pull.close(linger=0)
        watcher.state(lambda state: gateway.zmq[0] in state["zmq_ready_ports"])
        second = self.socket(gateway, zmq.PULL)
        push.send(b"2")
        self.assertEqual(second.recv(), b"2")

    def curve(self, gateway: Gateway) -> tuple[Any, bytes]:
        """A REP that is a server of CURVE, and its public key."""
        public, secret = zmq.curve_keypair()
        rep = self.waiting(
            gateway, zmq.REP, CURVE_SERVER=1, CURVE_PUBLICKEY=public, CURVE_SECRETKEY=secret
        )
        return rep, public

    def curve_client(self, gateway: Gateway, server: bytes) -> Any:
        public, secret = zmq.curve_keypair()
        return self.socket(
            gateway, zmq.REQ, CURVE_SERVERKEY=server, CURVE_PUBLICKEY=public,
            CURVE_SECRETKEY=secret,
        )  # fmt: skip

    @live(data=OPEN)
    def test_a_wrong_key_of_curve(self, gateway: Gateway) -> None:
        """The BE itself refuses it; libzmq gives up then, and another has to take its place."""
        public, secret = zmq.curve_keypair()
        events = Events()
        own = {"CURVE_SERVER": 1, "CURVE_PUBLICKEY": public, "CURVE_SECRETKEY": secret}
        self.waiting(gateway, zmq.REP, watch=events, **own)
        wrong = self.curve_client(gateway, zmq.curve_keypair()[0])
        wrong.send(b"?")
        events.wait(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
        wrong.close(linger=0)
        rep = self.socket(gateway, zmq.REP, **own)
        right = self.curve_client(gateway, public)
        right.send(b"!")
        self.assertEqual(rep.recv(), b"!")

    @live(data=OPEN)
    def test_null_with_curve(self, gateway: Gateway) -> None:
        rep, public = self.curve(gateway)
        events = Events()
        plain = self.socket(gateway, zmq.REQ, watch=events)
        plain.send(b"?")
        events.wait(zmq.EVENT_DISCONNECTED)
        right = self.curve_client(gateway, public)
        right.send(b"!")
        self.assertEqual(rep.recv(), b"!")

    def plain_rep(self, gateway: Gateway, context: Any) -> Any:
        """A REP that is a server of PLAIN and connects, in the context of its authenticator."""
        rep = context.socket(zmq.REP)
        rep.setsockopt(zmq.PLAIN_SERVER, 1)
        rep.setsockopt(zmq.ZAP_DOMAIN, b"global")
        rep.setsockopt(zmq.RCVTIMEO, 60_000)
        rep.connect(f"tcp://{gateway.host}:{gateway.zmq[0]}")
        return rep

    def plain_server(self, gateway: Gateway, known: dict[bytes, bytes]) -> tuple[Any, Any]:
        context = zmq.Context()
        authenticator = Authenticator(context, known)
        rep = self.plain_rep(gateway, context)
        gateway.before_closing(lambda: (rep.close(linger=0), context.term()))
        watcher = gateway.fe11("for the server")
        watcher.state(lambda state: gateway.zmq[0] in state["zmq_ready_ports"])
        watcher.close()
        return rep, authenticator

    @live(data=OPEN)
    def test_plain(self, gateway: Gateway) -> None:
        """End to end: the gateway reads the credentials and has nothing to say to them."""
        rep, authenticator = self.plain_server(gateway, {b"u": b"p"})
        events = Events()
        wrong = self.socket(
            gateway, zmq.REQ, PLAIN_USERNAME=b"u", PLAIN_PASSWORD=b"wrong", watch=events
        )
        wrong.send(b"?")
        events.wait(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        watcher = gateway.fe11("again")
        watcher.state(lambda state: gateway.zmq[0] in state["zmq_ready_ports"])
        right = self.socket(gateway, zmq.REQ, PLAIN_USERNAME=b"u", PLAIN_PASSWORD=b"p")
        right.send(b"!")
        self.assertEqual(rep.recv(), b"!")
        self.assertEqual(authenticator.asked, [(b"u", b"wrong"), (b"u", b"p")])

    @live(data=OPEN)
    def test_both_clients(self, gateway: Gateway) -> None:
        own = {"PLAIN_USERNAME": b"u", "PLAIN_PASSWORD": b"p"}
        self.waiting(gateway, zmq.REP, **own)
        events = Events()
        req = self.socket(gateway, zmq.REQ, **own, watch=events)
        req.send(b"?")
        events.wait(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
        watcher = gateway.fe11("again")
        watcher.state(lambda state: gateway.zmq[0] in state["zmq_ready_ports"])
        found = scrape(gateway)
        # "ended", where the first has not said its HELLO yet when the second comes.
        reasons = [found.of("relayx_zmtp_faults_total", reason=r) for r in ("mechanism", "ended")]
        self.assertIn(1, reasons)

    @live(data=TICKET)
    def test_ticket_by_plain(self, gateway: Gateway) -> None:
        """The client_id for a user name, the session_id or the ticket for a password."""
        gateway.be11("worker")
        frontend = gateway.fe11("phone")
        rep, authenticator = None, None
        for told in ("wrong", "session_id", "ticket"):
            known: dict[bytes, bytes] = {}
            if rep is None:
                rep, authenticator = self.plain_server(gateway, known)
                authenticator._known = known
            frontend.state(lambda state: gateway.zmq[0] in state["zmq_ready_ports"])
            grant = frontend.acquire()
            self.assertEqual(grant["zmq_port"], gateway.zmq[0])
            password = grant.get(told, "wrong").encode()
            authenticator._known[b"phone"] = password
            asked = len(authenticator.asked)
            with clean_log(self, grant["ticket"]) as lines:
                events = Events()
                req = self.socket(
                    gateway, zmq.REQ, watch=events if told == "wrong" else None,
                    PLAIN_USERNAME=b"phone", PLAIN_PASSWORD=password,
                )  # fmt: skip
                req.send(b"?")
                if told == "wrong":
                    events.wait(zmq.EVENT_DISCONNECTED)
                    self.assertEqual(len(authenticator.asked), asked)
                    self.assertTrue(any("NOT_ADMITTED" in line or "refuses" in line
                                        for line in lines), lines)  # fmt: skip
                else:
                    self.assertEqual(rep.recv(), b"?")
                    rep.send(b"!")
                    self.assertEqual(req.recv(), b"!")
                    self.assertEqual(authenticator.asked[asked:], [(b"phone", password)])
            req.close(linger=0)
            frontend.say("port_release", {"session_id": grant["session_id"]})

    @live(data=TICKET)
    def test_a_be_restarts_on_one_host(self, gateway: Gateway) -> None:
        """Its client, which is back first, does not take its place, but waits under its lease."""
        gateway.be11("worker")
        frontend = gateway.fe11("phone")
        context = zmq.Context()
        known: dict[bytes, bytes] = {}
        authenticator = Authenticator(context, known)
        rep = self.plain_rep(gateway, context)
        gateway.before_closing(lambda: (rep.close(linger=0), context.term()))
        frontend.state(lambda state: gateway.zmq[0] in state["zmq_ready_ports"])
        ticket = frontend.acquire()["ticket"].encode()
        known[b"phone"] = ticket
        events = Events()
        req = self.socket(
            gateway, zmq.REQ, watch=events, PLAIN_USERNAME=b"phone", PLAIN_PASSWORD=ticket
        )
        for number in range(2):
            req.send(b"%d" % number)
            self.assertEqual(rep.recv(), b"%d" % number)
            rep.send(b"!")
            self.assertEqual(req.recv(), b"!")
            rep.close(linger=0)
            if not number:
                events.wait(zmq.EVENT_CONNECTED, 2)
                rep = self.plain_rep(gateway, context)
        self.assertEqual(authenticator.asked, [(b"phone", ticket)] * 2)

    @live(data=TICKET)
    def test_a_client_without_a_lease_makes_no_port_ready(self, gateway: Gateway) -> None:
        self.patch(direct, "SILENT_FOR", NEVER)  # a slow client is no server
        gateway.be11("worker")
        watcher = gateway.fe11("watching")
        events = Events()
        req = self.socket(
            gateway, zmq.REQ, watch=events, PLAIN_USERNAME=b"nobody", PLAIN_PASSWORD=b"x"
        )
        req.send(b"?")
        events.wait(zmq.EVENT_DISCONNECTED, 3)
        watcher.state()
        states = [said["payload"] for said in watcher.log if said["type"] == "port_state"]
        self.assertEqual([state["zmq_ready_ports"] for state in states], [[]] * len(states))


class Addresses(ZmtpCase):
    """``peer`` admission: the role by where a connection comes from."""

    @live()
    def test_apart(self, gateway: Gateway) -> None:
        """On the same port, whoever connects first; a stranger is refused."""
        gateway.be11("worker", source=BE_SIDE)
        watcher = gateway.fe11("phone", source=FE_SIDE)
        events = Events()
        req = self.socket(gateway, zmq.REQ, source=FE_SIDE, watch=events)
        req.send(b"?")
        events.wait(zmq.EVENT_DISCONNECTED, 2)  # PORT_EMPTY, and again
        events = Events()
        stranger = self.socket(gateway, zmq.REP, source="127.0.0.13", watch=events)
        events.wait(zmq.EVENT_DISCONNECTED, 2)
        stranger.close(linger=0)
        rep = self.socket(gateway, zmq.REP, source=BE_SIDE)
        self.assertEqual(rep.recv(), b"?")
        rep.send(b"!")
        self.assertEqual(req.recv(), b"!")
        watcher.close()

    @live()
    def test_one_host(self, gateway: Gateway) -> None:
        gateway.be11("worker")
        rep = self.waiting(gateway, zmq.REP)
        gateway.fe11("phone")
        req = self.socket(gateway, zmq.REQ)
        req.send(b"?")
        self.assertEqual(rep.recv(), b"?")


class Pending(ZmtpCase):
    """A BE that waits longer than its library's handshake may take."""

    @live(data=OPEN)
    def test_no_flap(self, gateway: Gateway) -> None:
        self.patch(pairing, "KEPT_FOR", NEVER)
        watcher = gateway.fe11("watching")
        events = Events()
        rep = self.socket(gateway, zmq.REP, watch=events, HANDSHAKE_IVL=500, RECONNECT_IVL=100)
        watcher.state(lambda state: gateway.zmq[0] in state["zmq_ready_ports"])
        seen = len(watcher.log)
        events.wait(zmq.EVENT_CONNECTED, 4, more=True)
        watcher.state()
        pushed = [m for m in watcher.log[seen:] if m["type"] == "port_state"]
        self.assertEqual(len(pushed), 1, pushed)  # the answer that was asked for
        self.assertIn(gateway.zmq[0], pushed[0]["payload"]["zmq_ready_ports"])
        req = self.socket(gateway, zmq.REQ)
        events.wait(zmq.EVENT_HANDSHAKE_SUCCEEDED)  # no handshake ends behind the question
        for number in range(3):
            req.send(b"%d" % number)
            self.assertEqual(rep.recv(), b"%d" % number)
            rep.send(b"!")
            self.assertEqual(req.recv(), b"!")

    @live(data=OPEN)
    def test_gone_for_good(self, gateway: Gateway) -> None:
        rep = self.waiting(gateway, zmq.REP)
        watcher = gateway.fe11("watching")
        rep.close(linger=0)
        watcher.state(lambda state: gateway.zmq[0] not in state["zmq_ready_ports"])


class Bare(ZmtpCase):
    """Sockets that speak for themselves."""

    def refused(self, gateway: Gateway, link: Any, text: str, lines: list[str]) -> None:
        told, how = link.rest()
        self.assertEqual(how, "end")
        self.assertNotIn(b"ERROR", told)
        found = [line for line in lines if text in line]
        self.assertEqual(len(found), 1, lines)
        self.assertTrue(found[0].startswith(f"port {gateway.zmq[0]}: ZMTP with 127."), found)

    @live(data=OPEN)
    def test_zmtp_2(self, gateway: Gateway) -> None:
        """As libzmq 3.2 opens: ten bytes, then as much as its peer's revision asks for."""
        link = gateway.dial(gateway.zmq[0])
        with clean_log(self) as lines:
            link.send(b"\xff" + bytes(7) + b"\x01\x7f")
            self.assertEqual(link.receive(11), greeting_bytes()[:11])
            link.send(b"\x01\x08\x00\x00")
            self.refused(gateway, link, "the peer speaks ZMTP 2.0; 3.0 or later is needed", lines)
        self.assertEqual(scrape(gateway).of("relayx_zmtp_faults_total", reason="version"), 1)

    @live(data=OPEN)
    def test_zmtp_1(self, gateway: Gateway) -> None:
        """libzmq 2 sends a short length at once, which is no HELLO either."""
        link = gateway.dial(gateway.zmq[0])
        link.send(b"\x01\x00")
        self.assertEqual(link.rest(), (b"", "end"))

    @live(data=OPEN)
    def test_garbage_after_the_greeting(self, gateway: Gateway) -> None:
        link = gateway.dial(gateway.zmq[0])
        with clean_log(self) as lines:
            link.send(greeting_bytes() + b"\x99garbage")
            self.refused(gateway, link, "a frame with flags 0x99", lines)

    @live(data=OPEN)
    def test_one_that_refuses_the_gateway(self, gateway: Gateway) -> None:
        """As libzmq does whose own ZAP handler takes nobody from there; its port is not ready."""
        watcher = gateway.fe11("watching")
        link = gateway.dial(gateway.zmq[0])
        with clean_log(self) as lines:
            link.send(greeting_bytes() + error_command("400"))
            self.refused(gateway, link, "it refused the handshake: 400", lines)
        self.assertNotIn(gateway.zmq[0], watcher.state()["zmq_ready_ports"])
        self.assertEqual(scrape(gateway).of("relayx_zmtp_faults_total", reason="ended"), 1)

    @live(data=OPEN)
    def test_10_mb_of_garbage(self, gateway: Gateway) -> None:
        """It is not kept, and nobody else waits for it."""
        pull = self.waiting(gateway, zmq.PULL, port=gateway.zmq[0])
        link = gateway.dial(gateway.zmq[1])
        with clean_log(self) as lines:
            try:
                link.send(b"\xff" + b"garbage!" * 1_250_000)
            except WasResetError:
                pass
            push = self.socket(gateway, zmq.PUSH)
            push.send(b"x")
            self.assertEqual(pull.recv(), b"x")
        self.assertEqual(len([line for line in lines if "byte 10 of the greeting" in line]), 1)

    @live(data=OPEN)
    def test_silence(self, gateway: Gateway) -> None:
        link = gateway.dial(gateway.zmq[0])
        plane = gateway.service.data.data
        short = msgspec.structs.replace(plane._settings, hello_timeout=0.4)
        with clean_log(self) as lines:
            link.send(greeting_bytes()[:10])
            self.assertEqual(link.receive(11), greeting_bytes()[:11])  # it is taken for ZMTP
            in_the_reactor(lambda: plane.change(short))
            link.rest()
        self.assertTrue(any("did not say what it is within 0.4 s" in line for line in lines))

    @live(data=OPEN, srt=1)
    def test_on_an_srt_port(self, gateway: Gateway) -> None:
        link = gateway.dial(gateway.srt[0])
        link.send(greeting_bytes())
        self.assertEqual(link.rest(), (b"", "end"))

    @live(data=OPEN)
    def test_a_wrong_type_is_told(self, gateway: Gateway) -> None:
        self.waiting(gateway, zmq.PULL)
        link = gateway.dial(gateway.zmq[0])
        link.send(opening("SUB"))
        told, how = link.rest()
        text = "SUB does not talk to PULL; it does to PUB or XPUB"
        self.assertEqual((told, how), (greeting_bytes() + error_command(text), "end"))

    @live(data=OPEN)
    def test_a_sub_of_30(self, gateway: Gateway) -> None:
        """libzmq's XPUB of 3.1 understands its subscriptions, which are messages."""
        pub = self.waiting(gateway, zmq.XPUB)
        link = gateway.dial(gateway.zmq[0])
        link.send(opening("SUB", minor=0) + message(b"\x01a"))
        self.assertEqual(pub.recv(), b"\x01a")
        pub.send(b"a1")
        expected = greeting_bytes(minor=0) + ready("XPUB") + message(b"a1")
        self.assertEqual(link.receive(64), expected[:64])
        got = b""
        while message(b"a1") not in got:
            got += link.receive(1)

    @live(data=OPEN)
    def test_a_pub_of_30(self, gateway: Gateway) -> None:
        """libzmq's SUB of 3.1 that comes behind it subscribes by messages."""
        link = gateway.dial(gateway.zmq[0])
        link.send(opening("PUB", minor=0))
        self.assertEqual(link.receive(64), greeting_bytes(minor=0))
        sub = self.socket(gateway, zmq.SUB, SUBSCRIBE=b"a")
        got = b""
        while message(b"\x01a") not in got:
            got += link.receive(1)
        link.send(message(b"a1"))
        self.assertEqual(sub.recv(), b"a1")


class Wrapped(ZmtpCase):
    """TLS and PROXY before ZMTP."""

    @live(data={**OPEN, "tls": data_tls()})
    def test_tls(self, gateway: Gateway) -> None:
        """A PUSH inside TLS, as stunnel makes it, and a PULL without."""
        pull = self.waiting(gateway, zmq.PULL)
        link = TlsData((gateway.host, gateway.zmq[0]))
        link.send(opening("PUSH") + message(b"sealed"))
        self.assertEqual(pull.recv(), b"sealed")
        link.close()

    @live(data={**OPEN, "tls": data_tls(required=True)})
    def test_tls_required(self, gateway: Gateway) -> None:
        link = gateway.dial(gateway.zmq[0])
        link.send(opening("PUSH"))
        self.assertEqual(link.rest(), (b"", "end"))
        pull = TlsData((gateway.host, gateway.zmq[0]))
        pull.send(opening("PULL"))
        self.assertEqual(pull.receive(64), greeting_bytes())
        push = TlsData((gateway.host, gateway.zmq[0]))
        push.send(opening("PUSH") + message(b"both sealed"))
        expected = ready("PUSH") + message(b"both sealed")
        self.assertEqual(pull.receive(len(expected)), expected)
        pull.close()
        push.close()

    @live(proxy_protocol=TRUSTED)
    def test_proxy(self, gateway: Gateway) -> None:
        """Admission is by the address that the header tells."""
        registered(gateway, version_1("198.51.100.1"), "BE", "worker")
        registered(gateway, version_2("198.51.100.2"), "FE", "phone")
        be = gateway.dial(gateway.zmq[0], source=BALANCER)
        be.send(version_1("198.51.100.1") + opening("PULL"))
        self.assertEqual(be.receive(64), greeting_bytes())
        stranger = gateway.dial(gateway.zmq[0], source=BALANCER)
        stranger.send(version_1("198.51.100.3") + opening("PUSH"))
        self.assertEqual(stranger.rest(), (greeting_bytes(), "end"))
        fe = gateway.dial(gateway.zmq[0], source=BALANCER)
        fe.send_bytewise(version_2("198.51.100.2") + opening("PUSH") + message(b"x"))
        expected = ready("PUSH") + message(b"x")
        self.assertEqual(be.receive(len(expected)), expected)


class Credentialed(ZmtpCase):
    """``ticket`` admission, by hand."""

    @live(data=TICKET)
    def test_null_has_no_credentials(self, gateway: Gateway) -> None:
        gateway.be11("worker")
        frontend = gateway.fe11("phone")
        self.waiting(gateway, zmq.REP)
        frontend.acquire()
        link = gateway.dial(gateway.zmq[0])
        link.send(opening("REQ"))
        self.assertEqual(link.rest(), (greeting_bytes(), "end"))

    @live(data=TICKET)
    def test_a_be_that_is_nobody(self, gateway: Gateway) -> None:
        link = gateway.dial(gateway.zmq[0])
        link.send(greeting_bytes("PLAIN") + credentials("worker", "x"))
        self.assertEqual(link.rest(), (greeting_bytes("PLAIN"), "end"))
