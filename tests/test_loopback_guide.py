"""A client that knows only the guide, under the default configuration.

Nothing here uses ``ack``, ``protocol``, ``instance``, tickets or services; admission is
``peer`` and BEs are kept, as the defaults have it. Sections 2, 4, 6 and 7 of the contract.
"""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from tests.guide_peer import (
    DEADLINE,
    Control,
    Data,
    EchoBackEnd,
    EndedError,
    WasResetError,
    message,
)
from tests.live import SECRET, Gateway, live


class Guide(TestCase):
    """The guide's back end and front end, unchanged."""

    def echo(self, gateway: Gateway, client_id: str = "be-01", hello_id: str = "be-01") -> Control:
        """The guide's BE: registers, reads port_state, connects each empty port once."""
        control = gateway.be(client_id)
        state = control.expect("port_state")
        ports = state["zmq_empty_ports"] + state["srt_empty_ports"]
        back_end = EchoBackEnd(gateway.dial, ports, hello_id)
        gateway.before_closing(back_end.stop)
        self.back_end = back_end
        return control

    def front_end(self, gateway: Gateway) -> Control:
        """The guide's FE, when every port is ready."""
        control = gateway.fe("fe-01")
        control.expect("port_alloc")
        control.expect("port_state", zmq_ready_ports=gateway.zmq, srt_ready_ports=gateway.srt)
        return control

    def use(self, gateway: Gateway, port: int, said: bytes, client_id: str = "fe-01") -> None:
        """One session as the guide has it: HELLO, send, read the echo, close."""
        link = gateway.dial(port)
        link.hello("FE", client_id)
        link.send(said)
        self.assertEqual(link.receive(len(said)), said)
        link.close()

    @live()
    def test_with_acquire(self, gateway: Gateway) -> None:
        """Sections 5 to 7: acquire two ports, connect without a session_id, release; again."""
        be = self.echo(gateway)
        fe = self.front_end(gateway)
        used = set()
        for number in range(6):
            fe.state(lambda state: state["zmq_ready_ports"] and state["srt_ready_ports"])
            grant = fe.acquire(need_zmq=True, need_srt=True, ttl_seconds=30)
            self.assertFalse(grant.get("error"))
            told = be.expect("port_grant", session_id=grant["session_id"])
            self.assertEqual(told["zmq_port"], grant["zmq_port"])
            self.use(gateway, grant["zmq_port"], b"zmq %d" % number)
            self.use(gateway, grant["srt_port"], b"srt %d" % number)
            fe.say("port_release", {"session_id": grant["session_id"]})
            be.expect("port_release", session_id=grant["session_id"])
            used |= {grant["zmq_port"], grant["srt_port"]}
        self.assertEqual(used, set(gateway.zmq + gateway.srt))
        self.assertEqual(self.back_end.ended, {})

    @live(data={"drain_quiet": 0.1})
    def test_without_acquire(self, gateway: Gateway) -> None:
        """Sections 4 and 6: an FE that takes ready ports straight from port_state."""
        self.echo(gateway)
        fe = self.front_end(gateway)
        for number in range(4):
            state = fe.state(lambda state: gateway.zmq[0] in state["zmq_ready_ports"])
            self.use(gateway, state["zmq_ready_ports"][0], b"straight %d" % number)
        self.assertEqual(self.back_end.ended, {})

    @live()
    def test_empty_client_ids(self, gateway: Gateway) -> None:
        """Section 6: registered without a client_id, another one in HELLO."""
        self.echo(gateway, "", "be-in-hello")
        fe = gateway.fe("")
        fe.expect("port_state", zmq_ready_ports=gateway.zmq, srt_ready_ports=gateway.srt)
        grant = fe.acquire()
        self.use(gateway, grant["zmq_port"], b"hello", client_id="fe-in-hello")

    @live(relay={"reaper_timeout": 0.4})
    def test_empty_client_ids_are_reaped_too(self, gateway: Gateway) -> None:
        """Sections 6 and 8: that BE's connections are its own by their address."""
        control = self.echo(gateway, "", "be-in-hello")
        fe = self.front_end(gateway)
        control.close()
        fe.expect("port_state", zmq_empty_ports=gateway.zmq, srt_empty_ports=gateway.srt)
        for thread in self.back_end.threads:
            thread.join(DEADLINE)
        self.assertEqual(set(self.back_end.ended), set(gateway.zmq + gateway.srt))

    @live()
    def test_loose_json(self, gateway: Gateway) -> None:
        """Section 2: no newline, several lines, two objects in one segment."""
        self.echo(gateway)
        fe = gateway.control()
        register = message("register", {"role": "FE", "secret": SECRET, "client_id": "fe-01"})
        acquire = message(
            "port_acquire",
            {"request_id": "", "need_zmq": True, "need_srt": False, "ttl_seconds": 9},
        )
        fe.send(register.replace(b",", b",\n\n"))
        fe.find("auth")
        fe.expect("port_state", zmq_ready_ports=gateway.zmq)
        fe.send(acquire + message("ping", {"c_send": 1}))
        grant = fe.expect("port_grant")
        self.assertTrue(grant["session_id"])
        fe.expect("pong", c_send=1)
        self.use(gateway, grant["zmq_port"], b"works")

    @live()
    def test_hello_and_data_together(self, gateway: Gateway) -> None:
        """Section 6: HELLO and the first data in one segment, and byte by byte."""
        self.echo(gateway)
        fe = self.front_end(gateway)
        for bytewise in (False, True):
            link = gateway.dial(fe.acquire()["zmq_port"])
            line = b'RLX1HELLO {"role":"FE","client_id":"fe-01"}\nfirst data'
            (link.send_bytewise if bytewise else link.send)(line)
            self.assertEqual(link.receive(10), b"first data")

    @live(data={"drain_quiet": 0.1})
    def test_closes_before_the_echo(self, gateway: Gateway) -> None:
        """Section 7: an FE that goes while the echo is on its way leaves a BE that serves on."""
        self.echo(gateway)
        fe = self.front_end(gateway)
        for leave in (Data.close, Data.reset, Data.close):
            link = gateway.dial(gateway.zmq[0])
            link.hello("FE", "fe-01", first=b"nobody waits for this" * 2000)
            fe.state(lambda state: state["zmq_busy"] == 1)
            leave(link)
            fe.state(lambda state: gateway.zmq[0] in state["zmq_ready_ports"])
        self.use(gateway, gateway.zmq[0], b"and one who waits")
        self.assertEqual(self.back_end.ended, {})

    @live()
    def test_the_echo_after_the_end(self, gateway: Gateway) -> None:
        """Section 7: an FE that ends its stream still reads the whole echo."""
        self.echo(gateway)
        self.front_end(gateway)
        link = gateway.dial(gateway.srt[0])
        said = bytes(range(256)) * 4000
        link.hello("FE", "fe-01")
        sending = gateway.background(lambda: (link.send(said), link.shutdown()))
        self.assertEqual(link.rest(), (said, "end"))
        sending.result()

    @live()
    def test_heartbeat_and_keys(self, gateway: Gateway) -> None:
        """Section 3: ping, key_exchange, port_alloc and telemetry as the guide lists them."""
        be = self.echo(gateway)
        fe = self.front_end(gateway)
        be.say("key_exchange", {"public_key": "PEM", "private_key": ""})
        self.assertEqual(fe.expect("key_exchange")["public_key"], "PEM")
        fe.say("ping", {"c_send": 123})
        self.assertEqual(fe.expect("pong")["c_send"], 123)
        be.say("port_alloc", {"zmq_start_port": 30101, "zmq_end_port": 30200,
                              "srt_start_port": 30000, "srt_end_port": 30100})  # fmt: skip
        self.assertEqual(fe.expect("port_alloc")["zmq_start_port"], gateway.zmq[0])
        self.assertIn("current_speed", be.expect("telemetry"))

    @live()
    def test_refusals_are_a_close(self, gateway: Gateway) -> None:
        """Section 6: the guide's client sees a refusal as a closed connection."""
        gateway.be()
        fe = gateway.fe()
        empty = gateway.dial(gateway.zmq[0])
        empty.hello("FE", "fe-01")
        self.assertEqual(empty.rest()[0], b"")
        grant = fe.acquire()
        self.assertEqual((grant["session_id"], grant["expires_at"]), ("", 0))
        self.assertTrue(grant["error"])
        wrong = gateway.control()
        self.assertEqual(wrong.register("FE", "not the secret")["status"], "error")
        self.assertRaises((EndedError, WasResetError), wrong.fill)
