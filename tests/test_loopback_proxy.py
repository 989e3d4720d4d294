"""Behind a load balancer, and in front of a service that wants to know its clients (section 6)."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.internet import endpoints, reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import globalLogPublisher
from twisted.protocols.haproxy import proxyEndpoint
from twisted.trial.unittest import SkipTest, TestCase

from relayx.client import Backend, Frontend, connect_stream, join
from relayx.net.proxy import Address, Header, ProxyReader, encode_v2
from relayx.testing import LocalGateway
from tests.data_certificates import data_tls
from tests.data_tls_peer import TlsData
from tests.guide_peer import Control, EndedError, WasResetError, hello_line
from tests.live import LATE, SECRET, Data11, Gateway, live

BALANCER = "127.77.0.1"
TRUSTED: dict[str, Any] = {"trusted": ["127.77.0.0/16"]}
CLIENT, OTHER, WORKER = "198.51.100.7", "198.51.100.8", "2001:db8::7"


def version_1(host: str) -> bytes:
    """A header of version 1 with this client."""
    if ":" in host:
        return f"PROXY TCP6 {host} 2001:db8::1 40312 5555\r\n".encode()
    return f"PROXY TCP4 {host} 203.0.113.1 40312 5555\r\n".encode()


def version_2(host: str) -> bytes:
    """The same of version 2."""
    destination = "2001:db8::1" if ":" in host else "203.0.113.1"
    return encode_v2(Address(host, 40312), Address(destination, 5555))


def registered(gateway: Gateway, header: bytes, role: str, client_id: str) -> Control:
    """A client that registers through the balancer."""
    client = gateway.control(source=BALANCER)
    client.send(header)
    auth = client.register(role, SECRET, client_id)
    if auth["status"] != "ok":
        raise AssertionError(f"registration was refused: {auth}")
    return client


def said(gateway: Gateway, header: bytes, role: str, client_id: str = "", **hello: Any) -> Data11:
    """A data connection through the balancer that has said HELLO, in one segment."""
    link = gateway.dial11(gateway.zmq[0], source=BALANCER)
    link.send(header + hello_line(role, client_id, ack=True, **hello))
    return link


def read_header(link: Data11) -> Header:
    """The PROXY header that a session begins with."""
    reader = ProxyReader()
    while True:
        found = reader.feed(link.receive(1))
        if found is not None:
            return found[0]


class FromABalancer(TestCase):
    """Connections from ``proxy_protocol.trusted``."""

    @live(proxy_protocol=TRUSTED)
    def test_admission_by_the_told_address(self, gateway: Gateway) -> None:
        """Section 6: a client is admitted where the balancer says it is, and nowhere else."""
        for header in (version_1, version_2):
            fe = registered(gateway, header(CLIENT), "FE", "phone")
            be = registered(gateway, header(WORKER), "BE", "worker")
            for who, role in ((OTHER, "FE"), (CLIENT, "BE"), ("127.0.0.9", "FE")):
                self.assertEqual(said(gateway, header(who), role).refusal(), "NOT_ADMITTED")
            waiting = said(gateway, header(WORKER), "BE", "worker")
            waiting.expect("RLX1OK")
            entered = said(gateway, header(CLIENT), "FE", "phone")
            self.assertEqual(entered.expect("RLX1PAIRED")["address"], WORKER)
            self.assertEqual(waiting.expect("RLX1PAIRED")["address"], CLIENT)
            entered.send(b"through")
            self.assertEqual(waiting.receive(7), b"through")
            for peer in (entered, waiting, fe, be):
                peer.close()
            probe = gateway.fe()
            probe.state(lambda state: gateway.zmq[0] in state["zmq_empty_ports"])

    @live(proxy_protocol=TRUSTED)
    def test_bytewise(self, gateway: Gateway) -> None:
        """Whatever way it is cut, on either plane."""
        for header in (version_1(CLIENT), version_2(f"::ffff:{CLIENT}")):
            client = gateway.control(source=BALANCER)
            client.send_bytewise(header)
            self.assertEqual(client.register("BE", SECRET)["status"], "ok")
            link = gateway.dial11(gateway.zmq[0], source=BALANCER)
            link.send_bytewise(header + hello_line("BE", ack=True))
            link.expect("RLX1OK")
            link.close()
            client.state(lambda state: gateway.zmq[0] in state["zmq_empty_ports"])

    @live(proxy_protocol=TRUSTED)
    def test_its_own_connections(self, gateway: Gateway) -> None:
        """LOCAL and UNKNOWN: the balancer is the client itself."""
        gateway.be(), gateway.fe()
        local = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
        for header in (b"PROXY UNKNOWN\r\n", local):
            client = registered(gateway, header, "BE", "probe")
            link = said(gateway, header, "BE")
            link.expect("RLX1OK")
            link.close()
            client.close()
            gateway.fe().state(lambda state: gateway.zmq[0] in state["zmq_empty_ports"])

    @live(proxy_protocol=TRUSTED)
    def test_a_header_is_required(self, gateway: Gateway) -> None:
        """From a trusted address, a connection without one is closed, and the log says why."""
        lines: list[str] = []

        def observe(event: Any) -> None:
            lines.append(str(event.get("text", "")))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        client = gateway.control(source=BALANCER)
        client.send(b'{"type":"register","payload":{"role":"FE","secret":"x"}}')
        self.assertRaises((EndedError, WasResetError), client.fill)
        link = gateway.dial(gateway.zmq[0], source=BALANCER)
        link.send(hello_line("FE"))
        self.assertEqual(link.rest(), (b"", "end"))
        found = [line for line in lines if "PROXY header" in line]
        self.assertEqual(len(found), 2, lines)
        for line in found:
            self.assertIn("proxy_protocol.trusted", line)
            self.assertIn(BALANCER, line)

    @live(proxy_protocol=TRUSTED, control={"register_timeout": 0.4}, data={"hello_timeout": 0.4})
    def test_silence(self, gateway: Gateway) -> None:
        """The time for a header is that for ``register``, and that for HELLO."""
        begun = time.monotonic()
        for port in (gateway.control_port, gateway.zmq[0]):
            link = gateway.open(Data11, port, source=BALANCER)
            link.send(b"PROXY TCP4 ")
            self.assertEqual(link.rest(), (b"", "end"))
        self.assertLess(time.monotonic() - begun, 0.8 + LATE)

    @live(proxy_protocol=TRUSTED)
    def test_bad_headers(self, gateway: Gateway) -> None:
        """A wrong header is refused as bad input."""
        for header in (b"PROXY TCP4 a b c d\r\n", version_2(CLIENT)[:12] + b"\x31\x11\0\0"):
            for port in (gateway.control_port, gateway.zmq[0]):
                link = gateway.open(Data11, port, source=BALANCER)
                link.send(header)
                self.assertEqual(link.rest(), (b"", "end"))

    @live(proxy_protocol=TRUSTED, data={"tls": data_tls()})
    def test_before_tls(self, gateway: Gateway) -> None:
        """On data ports the header goes before TLS."""
        registered(gateway, version_2(CLIENT), "BE", "worker")
        link = gateway.open(TlsData, gateway.zmq[0], source=BALANCER, first=version_2(CLIENT))
        link.hello("BE", "worker")
        link.expect("RLX1OK")
        gateway.fe()
        plain = gateway.dial11(gateway.zmq[0])
        plain.hello("FE")
        self.assertEqual(plain.expect("RLX1PAIRED")["address"], CLIENT)

    @live(proxy_protocol=TRUSTED)
    def test_half_close_on_control(self, gateway: Gateway) -> None:
        """Section 2: a client that ends its stream still gets what it is owed."""
        client = gateway.control(source=BALANCER)
        client.send(version_1(CLIENT) + b'{"type":"ping"}')
        client.shutdown()
        kinds = [message["type"] for message in client.rest()]
        self.assertEqual(kinds, ["auth"])


class FromAnybodyElse(TestCase):
    """A forged header is bad input (section 6)."""

    def forged(self, gateway: Gateway) -> None:
        gateway.fe(), gateway.be()
        for header in (version_1(CLIENT), version_2(CLIENT)):
            link = gateway.dial11(gateway.zmq[0])
            link.send(header + hello_line("BE", ack=True))
            self.assertEqual(link.rest(), (b"", "end"))
            client = gateway.control()
            client.send(header)
            messages = client.rest()
            self.assertEqual([m["type"] for m in messages], ["error"])
            self.assertEqual(messages[0]["payload"]["error_code"], "INVALID_MESSAGE")

    @live(proxy_protocol=TRUSTED)
    def test_beside_a_trusted_balancer(self, gateway: Gateway) -> None:
        self.forged(gateway)

    @live()
    def test_without_any(self, gateway: Gateway) -> None:
        self.forged(gateway)


class TowardsTheBackEnd(TestCase):
    """A BE whose HELLO says ``"proxy": "v2"``."""

    @live()
    def test_what_it_tells(self, gateway: Gateway) -> None:
        """From the FE's address and port to the gateway's; before the session's bytes."""
        client = gateway.fe11("phone")
        gateway.be("worker")
        be = gateway.waiting(gateway.zmq[0], "worker", proxy="v2")
        fe = gateway.dial11(gateway.zmq[0])
        fe.hello("FE", "phone", first=b"first")
        fe.expect("RLX1PAIRED")
        be.expect("RLX1PAIRED")
        told = read_header(be)
        self.assertEqual(told.source, fe.socket.getsockname())
        self.assertEqual(told.destination, (gateway.host, gateway.zmq[0]))
        self.assertEqual(be.receive(5), b"first")
        fe.close()
        self.assertEqual(be.rest(), (b"", "end"))
        be.close()
        self.assertEqual(client.expect("session_end")["fe_to_be_bytes"], 5)

    @live(data={"drain_quiet": 0.05})
    def test_each_session_of_a_kept_back_end(self, gateway: Gateway) -> None:
        """Section 7: at the start of each."""
        witness, _ = gateway.fe(), gateway.be()
        be = gateway.dial11(gateway.zmq[0])
        be.send(hello_line("BE", proxy="v2"))
        for number in range(3):
            witness.state(lambda state: gateway.zmq[0] in state["zmq_ready_ports"])
            fe = gateway.entering(gateway.zmq[0])
            fe.expect("RLX1PAIRED")
            self.assertEqual(read_header(be).source, fe.socket.getsockname())
            fe.send(b"session %d" % number)
            self.assertEqual(be.receive(9), b"session %d" % number)
            fe.close()

    @live(proxy_protocol=TRUSTED, data={"tls": data_tls()})
    def test_what_a_balancer_told(self, gateway: Gateway) -> None:
        """Through a trusted balancer it is what that told; over TLS it is inside."""
        gateway.be("worker")
        for host in (CLIENT, WORKER):
            registered(gateway, version_1(host), "FE", "phone")
            be = gateway.open(TlsData, gateway.zmq[0])
            be.hello("BE", "worker", proxy="v2")
            be.expect("RLX1OK")
            fe = said(gateway, version_2(host), "FE", "phone")
            fe.expect("RLX1PAIRED")
            be.expect("RLX1PAIRED")
            told = read_header(be)
            destination = "2001:db8::1" if ":" in host else "203.0.113.1"
            self.assertEqual(told, Header(Address(host, 40312), Address(destination, 5555)))
            fe.close()
            self.assertEqual(be.rest(), (b"", "end"))
            be.shutdown()

    @live()
    def test_not_for_anything_else(self, gateway: Gateway) -> None:
        """Section 6: v2, of a BE."""
        gateway.fe(), gateway.be()
        for role, proxy in (("FE", "v2"), ("BE", "v1"), ("BE", "yes")):
            link = gateway.dial11(gateway.zmq[0])
            link.hello(role, proxy=proxy)
            fields = link.expect("RLX1ERR")
            self.assertEqual(fields["error_code"], "HELLO_INVALID")
            self.assertIn("allowed: v2, of a BE", fields["error"])


class Telling(Protocol):
    """A service that tells each client who it is, then ends."""

    def dataReceived(self, data: bytes) -> None:
        peer = self.transport.getPeer()
        self.transport.write(f"{peer.host} {peer.port}".encode())
        self.transport.loseConnection()


NGINX = """
worker_processes 1;
pid nginx.pid;
error_log error.log;
events {{}}
http {{
    access_log off;
    server {{
        listen unix:{socket} proxy_protocol;
        location / {{ return 200 "$proxy_protocol_addr $proxy_protocol_port"; }}
    }}
}}
"""


class Services(TestCase):
    """Services behind a BE that read the header themselves."""

    async def told(self, service: Any, ask: bytes) -> bytes:
        """What a service answers over a whole session of the library's two sides.

        :param service: its endpoint.
        """

        async def serve(session: Any) -> None:
            await join(reactor, session.stream, await connect_stream(service))

        local = LocalGateway(reactor)
        local.start()
        backend = Backend(reactor, local.gateway, "web", zmq=1, on_session=serve, proxy="v2")
        frontend = Frontend(reactor, local.gateway)
        backend.start(), frontend.start()
        answer = b""
        try:
            async with frontend.session(service="web") as session:
                await session.stream.write(ask)
                while data := await session.stream.read():
                    answer += data
        finally:
            await frontend.stop()
            await backend.stop()
            await local.stop()
        host, _, port = answer.rpartition(b"\n")[2].decode().partition(" ")
        self.assertTrue(host.startswith("127."), answer)
        self.assertTrue(1024 < int(port) < 65536, answer)
        return answer

    async def test_twisted(self) -> None:
        """Twisted's own reader of PROXY headers."""
        inner = endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port = await proxyEndpoint(inner).listen(Factory.forProtocol(Telling))
        self.addCleanup(port.stopListening)
        service = endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        await self.told(service, b"who am I?")

    async def test_nginx(self) -> None:
        """nginx, ``listen ... proxy_protocol``."""
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            raise SkipTest("there is no nginx here")
        directory = Path(tempfile.mkdtemp(prefix="relayx-nginx-"))  # its path must be short
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        directory.chmod(0o755)
        config, path = directory / "nginx.conf", directory / "socket"
        config.write_text(NGINX.format(socket=path))
        command = [program, "-p", str(directory), "-c", str(config), "-e", "error.log"]
        started = subprocess.run(command, capture_output=True, check=False)  # it goes to the back
        self.assertEqual(started.returncode, 0, started.stderr)
        self.addCleanup(subprocess.run, [*command, "-s", "stop"], capture_output=True, check=True)
        ask = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"
        service = endpoints.UNIXClientEndpoint(reactor, str(path))
        self.assertIn(b"200 OK", await self.told(service, ask))
