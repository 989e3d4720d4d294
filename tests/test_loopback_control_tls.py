"""TLS on the control plane (contract section 1, control.endpoints and control.client_ca)."""

from __future__ import annotations

import json
import os
import socket
import ssl
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.threads import blockingCallFromThread
from twisted.trial.unittest import TestCase

from relayx.client import Gateway as Where
from relayx.client import Refused, TlsFailed
from relayx.config.faults import ConfigError
from relayx.testing import LocalGateway
from tests.certificates import Authority, named
from tests.guide_peer import DEADLINE, Control
from tests.live import NEVER, SECRET, Control11, Gateway
from tests.tls_live import NAME, TLS_PORT, Trust, outcome, reload_tls, secured


def closed(peer: Control) -> bytes:
    """All that comes until the gateway closes, whatever way."""
    peer.socket.settimeout(DEADLINE)
    found = b""
    try:
        while data := peer.socket.recv(65536):
            found += data
    except ConnectionResetError:
        pass
    return found


def closed_below(peer: Control) -> None:
    """Wait until the gateway closes TCP, with nothing of what TLS would answer."""
    with socket.socket(fileno=os.dup(peer.socket.fileno())) as below:
        below.settimeout(DEADLINE)
        try:
            while below.recv(65536):
                pass
        except ConnectionResetError:
            pass


class ServedTests(TestCase):
    """A client that speaks TLS registers, is refused, and is told what was wrong."""

    @secured()
    def test_register(self, gateway: Gateway, trust: Trust) -> None:
        """As without TLS, up to the last word before a close."""
        client = trust.dial(gateway)
        self.assertEqual(client.register("FE", SECRET)["status"], "ok")
        client.expect("port_alloc")
        client.expect("port_state")
        client.ping()
        wrong = trust.dial(gateway)
        self.assertEqual(wrong.register("FE", "wrong")["error_code"], "AUTH_FAILED")
        self.assertEqual(wrong.rest(), [])
        broken = trust.dial(gateway)
        broken.send(b"garbage")
        broken.expect("error", error_code="INVALID_MESSAGE")
        self.assertEqual(broken.rest(), [])

    @secured()
    def test_several_endpoints(self, gateway: Gateway, trust: Trust) -> None:
        """Who registers at one hears of who registers at the other."""
        fe = gateway.fe11()
        be = trust.dial(gateway, kind=Control11)
        self.assertEqual(be.register("BE", SECRET, "b")["status"], "ok")
        be.say("key_exchange", {"public_key": "key"})
        fe.expect("key_exchange", client_id="b")
        ports = {address.port for address in gateway.service.control_addresses}
        self.assertEqual(ports, {5555, TLS_PORT})

    def test_local_gateway(self) -> None:
        """relayx.testing takes endpoints with TLS."""
        pair = Authority(Path(self.mktemp())).issue("server", [NAME])
        endpoint = f"ssl:0:interface=127.0.0.1:{pair.strports}"
        local = LocalGateway(reactor, control={"endpoints": (endpoint,)})
        local.start()
        self.addCleanup(local.stop)
        self.assertEqual(len(local.service.control_addresses), 1)

    @secured()
    def test_garbage(self, gateway: Gateway, trust: Trust) -> None:
        """10 MB of it, and plain JSON: closed, and nobody else is the worse for it."""
        witness = trust.dial(gateway)
        witness.register("FE", SECRET)
        register = {"type": "register", "payload": {"role": "FE", "secret": SECRET}}
        for said in (os.urandom(10_000_000), json.dumps(register).encode()):
            peer = gateway.open(Control, TLS_PORT)
            try:
                peer.socket.sendall(said)
            except (ConnectionResetError, BrokenPipeError):
                pass
            self.assertNotIn(b'"auth"', closed(peer))
            witness.ping()

    @secured()
    def test_cut_off(self, gateway: Gateway, trust: Trust) -> None:
        """TCP ends without a close_notify: the client is gone, as without TLS."""
        witness = gateway.fe11()
        be = trust.dial(gateway, kind=Control11)
        be.register("BE", SECRET, "b")
        link = gateway.waiting(gateway.zmq[0], "b")
        be.socket.close()
        gateway.be11("b")  # takes its place, whether it is lost or not
        link.dropped()
        witness.ping()

    @secured()
    def test_silent(self, gateway: Gateway, trust: Trust) -> None:
        """Who never ends the handshake, or never registers after it, is closed."""
        silent = gateway.open(Control, TLS_PORT)
        halfway = gateway.open(Control, TLS_PORT)
        halfway.send(b"\x16\x03\x01\x02\x00\x01")  # the head of a ClientHello
        done = trust.dial(gateway)
        blockingCallFromThread(reactor, gateway.service.control.newcomers.change, 0.3, 256, 128)
        done.expect("auth", error_code="REGISTER_REQUIRED")
        for peer in (silent, halfway, done):
            closed(peer)

    @secured(max_unregistered=2, register_timeout=60.0)
    def test_crowded_out(self, gateway: Gateway, trust: Trust) -> None:
        """The oldest of those who have not even ended the handshake goes."""
        first, second = (gateway.open(Control, TLS_PORT) for _ in range(2))
        third = trust.dial(gateway)
        self.assertEqual(closed(first), b"")
        self.assertEqual(third.register("FE", SECRET)["status"], "ok")
        second.close()

    @secured(max_unregistered=1)
    def test_crowded_out_without_an_answer(self, gateway: Gateway, trust: Trust) -> None:
        """Who does not answer our close_notify is closed all the same, and registers no more."""
        blockingCallFromThread(reactor, gateway.service.control.leaving.change, NEVER, 1)
        witness = gateway.fe11()
        first = trust.dial(gateway)
        second = trust.dial(gateway)
        register = {"role": "BE", "secret": SECRET, "client_id": "late"}
        first.say("register", register)
        first.say("key_exchange", {"public_key": "of nobody"})
        reload_tls(gateway)  # it lingers for its own time again
        closed_below(first)
        second.register("FE", SECRET)
        self.assertNotIn("key_exchange", [message["type"] for message in witness.ping()])

    @secured()
    def test_stop_without_an_answer(self, gateway: Gateway, trust: Trust) -> None:
        """A stop ends with no connection left, whoever does not answer our close_notify."""
        client = trust.dial(gateway)
        client.register("FE", SECRET)
        gateway.stop().result(DEADLINE)
        closed_below(client)

    @secured(idle_timeout=0.3)
    def test_idle(self, gateway: Gateway, trust: Trust) -> None:
        """The periodic look reaches through TLS."""
        client = trust.dial(gateway)
        client.register("FE", SECRET)
        closed(client)

    @secured()
    def test_keepalive(self, gateway: Gateway, trust: Trust) -> None:
        """The options are on the TCP socket below."""
        client = trust.dial(gateway)
        client.register("FE", SECRET)

        def options() -> list[tuple[int, int]]:
            everyone = gateway.service.switchboard.clients()
            found = [gateway.service.control.get(one.conn) for one in everyone]
            return [
                (
                    one.tcp_socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                    one.tcp_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
                )
                for one in found
            ]

        (told,) = blockingCallFromThread(reactor, options)
        self.assertTrue(all(told), told)


class ReloadTests(TestCase):
    """Certificates are read again without dropping anybody."""

    def serial(self, peer: Control) -> int:
        return int(peer.socket.getpeercert()["serialNumber"], 16)

    @secured()
    def test_renewed(self, gateway: Gateway, trust: Trust) -> None:
        """Who is there stays, who comes sees the new certificate."""
        old = trust.server.serial
        client = trust.dial(gateway)
        client.register("FE", SECRET)
        self.assertEqual(self.serial(client), old)
        renewed = trust.authority.issue("renewed", [NAME])
        trust.renew(gateway, renewed)
        self.assertEqual(self.serial(trust.dial(gateway)), renewed.serial)
        client.ping()
        self.assertEqual(self.serial(client), old)

    @secured()
    def test_bad_file(self, gateway: Gateway, trust: Trust) -> None:
        """All stays as it was, and the fault says which file."""
        other = trust.authority.issue("other", [NAME])
        Path(trust.server.key).write_bytes(Path(other.key).read_bytes())
        with self.assertRaises(ConfigError) as caught:
            reload_tls(gateway)
        self.assertIn(f"{trust.server.key}: does not match", str(caught.exception))
        self.assertEqual(self.serial(trust.dial(gateway)), trust.server.serial)

    @secured(client_ca=True)
    def test_other_ca(self, gateway: Gateway, trust: Trust) -> None:
        """So are the CAs of clients."""
        known = trust.authority.issue("one")
        foreign = trust.stranger.issue("other", subject=named("one"))
        their_context = trust.context(foreign)
        self.assertEqual(trust.register(gateway, "one", known)["status"], "ok")
        Path(trust.authority.certificate).write_bytes(Path(trust.stranger.certificate).read_bytes())
        reload_tls(gateway)
        peer = trust.dial(gateway, context=their_context)
        self.assertEqual(peer.register("FE", SECRET, "one")["status"], "ok")


class ClientCaTests(TestCase):
    """A certificate names the client (control.client_ca)."""

    @secured(client_ca=True)
    def test_common_name(self, gateway: Gateway, trust: Trust) -> None:
        """The right one registers, in its own name or in none; another does not."""
        own = trust.authority.issue("camera-1")
        self.assertEqual(trust.register(gateway, "camera-1", own)["client_id"], "camera-1")
        self.assertEqual(trust.register(gateway, "", own)["client_id"], "camera-1")
        refused = trust.register(gateway, "camera-2", own)
        self.assertEqual(refused["error_code"], "AUTH_FAILED")
        self.assertIn('"camera-2"', refused["error"])
        self.assertIn('"camera-1", its common name', refused["error"])
        wrong = trust.dial(gateway, own).register("FE", "wrong", "camera-1")
        self.assertIn("secret", wrong["error"])

    @secured(client_ca=True)
    def test_no_name_takes_no_place(self, gateway: Gateway, trust: Trust) -> None:
        """Two that share a certificate live side by side, until one says the name."""
        own = trust.authority.issue("twin")
        first, second = (trust.dial(gateway, own, kind=Control11) for _ in range(2))
        for client in (first, second):
            self.assertEqual(client.register("FE", SECRET)["client_id"], "twin")
        first.ping()
        third = trust.dial(gateway, own, kind=Control11)
        third.register("FE", SECRET, "twin")
        first.expect("error", error_code="TAKEN_OVER")

    @secured(client_ca=True)
    def test_stolen_instance(self, gateway: Gateway, trust: Trust) -> None:
        """An instance that another has leads to nobody else's place."""
        mine = trust.dial(gateway, trust.authority.issue("mine"), kind=Control11)
        mine.register("FE", SECRET)
        thief = trust.authority.issue("thief")
        told = trust.register(gateway, "", thief, instance=mine.instance)
        self.assertEqual(told["client_id"], "thief")
        mine.ping()

    @secured(client_ca=True)
    def test_subjects(self, gateway: Gateway, trust: Trust) -> None:
        """No common name, several, or one that is no id."""
        for number, (subject, expected) in enumerate(
            (
                (named(), "not exactly one common name"),
                (named("a", "b"), "not exactly one common name"),
                (named("a\nb"), "printable"),
            )
        ):
            own = trust.authority.issue(f"odd-{number}", subject=subject)
            for client_id in ("", "a"):
                refused = trust.register(gateway, client_id, own)
                self.assertEqual(refused["error_code"], "AUTH_FAILED")
                self.assertIn(expected, refused["error"])

    @secured(client_ca=True)
    def test_subject_that_cannot_be_read(self, gateway: Gateway, trust: Trust) -> None:
        """A T61String with Latin-1 in it, which OpenSSL takes: as if there was no name."""
        own = trust.authority.issue("latin", subject=named("zzzz"))
        trust.authority.spell(own, b"\x0c\x04zzzz", b"\x14\x04z\xe9\xe9z")
        self.assertEqual(trust.register(gateway, "", own)["error_code"], "AUTH_FAILED")

    @secured(client_ca=True)
    def test_refused_handshakes(self, gateway: Gateway, trust: Trust) -> None:
        """None, another CA's, an expired one: it comes to no message."""
        for shown in (
            None,
            trust.stranger.issue("camera-1"),
            trust.authority.issue("camera-2", days=(-3, -1)),
        ):
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                context = trust.context(shown)
                context.minimum_version = context.maximum_version = version
                with self.assertRaises((ssl.SSLError, ConnectionError)):
                    peer = trust.dial(gateway, context=context)
                    peer.socket.sendall(b"{}")
                    while peer.socket.recv(65536):
                        pass
                    raise ConnectionError  # an end of stream, where the alert was lost

    @secured(client_ca=True)
    def test_plain(self, gateway: Gateway, trust: Trust) -> None:
        """Without TLS nobody is asked, and any name goes."""
        self.assertEqual(gateway.fe11("anybody").auth["client_id"], "anybody")

    @secured(client_ca=True)
    def test_library(self, gateway: Gateway, trust: Trust) -> None:
        """The library shows its certificate, with the chain that it is given."""
        between = Authority(trust.directory, "between", trust.authority)
        own = between.issue("camera-1")
        where = Where(gateway.host, TLS_PORT, SECRET, tls=trust.tls(own))
        self.assertEqual(outcome(where), "camera-1")
        refused = outcome(where, "camera-2")
        self.assertIsInstance(refused, Refused)
        for shown, expected in ((None, "certificate"), (trust.stranger.issue("x"), "certificate")):
            failed = outcome(Where(gateway.host, TLS_PORT, SECRET, tls=trust.tls(shown)))
            self.assertIsInstance(failed, TlsFailed)
            self.assertIn(expected, str(failed))
