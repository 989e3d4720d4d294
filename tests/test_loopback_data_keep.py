"""Sessions in keep mode: one BE connection serves one FE after another (section 7)."""

from __future__ import annotations

import select
import time

from twisted.trial.unittest import TestCase

from tests.guide_peer import DEADLINE, Control, Data
from tests.live import LATE, NEVER, Data11, Gateway, live
from tests.reloading import Filed, filed, in_the_reactor
from tests.test_loopback_data_close import too_slow_after, unless_too_slow

QUIET = {"drain_quiet": 0.2}


class Keeping(TestCase):
    """An FE's end, and the BE's connection after it (section 7)."""

    def enter(self, gateway: Gateway, **hello: str) -> Data11:
        fe = gateway.entering(gateway.zmq[0], **hello)
        fe.expect("RLX1PAIRED")
        return fe

    def waits(self, gateway: Gateway, session_id: str) -> Data11:
        """An FE that waits; refused for as long as the end of the one before it is on its way."""
        port, deadline = gateway.zmq[0], time.monotonic() + DEADLINE
        seen = gateway.service.switchboard.board.ports[port]
        while time.monotonic() < deadline:
            fe = gateway.entering(port, session_id=session_id)
            while not select.select([fe.socket], [], [], 0.01)[0]:
                if in_the_reactor(lambda: seen.waiting_fe):
                    return fe
            self.assertEqual(fe.refusal(), "PORT_BUSY")
        raise AssertionError("the end is not seen")

    def ready(self, witness: Control, gateway: Gateway) -> None:
        witness.state(lambda state: state["zmq_ready_ports"] == gateway.zmq[:1])

    @live(data=QUIET)
    def test_one_after_another(self, gateway: Gateway) -> None:
        """Section 7: several FEs in turn, no byte of one reaches the next."""
        client, _ = gateway.fe(), gateway.be()
        be = gateway.kept(gateway.zmq[0], client)
        for number, leave in enumerate((Data.close, Data.shutdown, Data.reset, Data.close)):
            fe = self.enter(gateway)
            fe.send(b"from %d" % number)
            self.assertEqual(be.receive(6), b"from %d" % number)
            be.send(b"back %d" % number)
            self.assertEqual(fe.receive(6), b"back %d" % number)
            leave(fe)
            self.ready(client, gateway)

    @live(data=QUIET)
    def test_late_bytes_do_not_cross(self, gateway: Gateway) -> None:
        """Section 7: what reaches the gateway before the port is ready again is dropped."""
        client, _ = gateway.fe(), gateway.be()
        be = gateway.kept(gateway.zmq[0], client)
        first = self.enter(gateway)
        first.send(b"ask")
        self.assertEqual(be.receive(3), b"ask")
        first.reset()
        client.ping()
        be.send(b"answer to nobody" * 1000)
        self.ready(client, gateway)
        second = self.enter(gateway)
        be.send(b"for the second")
        self.assertEqual(second.receive(14), b"for the second")
        self.assertEqual(second.held, b"")

    @live(data=QUIET)
    def test_bytes_between_sessions_are_discarded(self, gateway: Gateway) -> None:
        """Section 7: a kept BE's bytes between sessions; those before its first are kept."""
        client, _ = gateway.fe(), gateway.be()
        be = gateway.kept(gateway.zmq[0], client)
        be.send(b"banner")
        first = self.enter(gateway)
        self.assertEqual(first.receive(6), b"banner")
        first.close()
        self.ready(client, gateway)
        be.send(b"noise while nobody is there")
        client.ping()
        self.assertRaises(TimeoutError, be.fill, 0.1)
        second = self.enter(gateway)
        be.send(b"signal")
        self.assertEqual(second.receive(6), b"signal")

    @live(data={"drain_quiet": 0.02})
    def test_much_noise_between_sessions(self, gateway: Gateway) -> None:
        """Section 7: all of what came before the next FE said HELLO is discarded."""
        client, _ = gateway.fe(), gateway.be()
        be = gateway.kept(gateway.zmq[0], client)
        self.enter(gateway).close()
        for _ in range(10):
            self.ready(client, gateway)
            fe = gateway.dial11(gateway.zmq[0])
            be.send(b"noise" * 60_000)
            be.wait_until_acknowledged()
            fe.hello("FE")
            fe.expect("RLX1PAIRED")
            be.send(b"signal")
            self.assertEqual(fe.receive(6), b"signal")
            fe.close()

    @live(data={"drain_quiet": 1.0})
    def test_the_answer_after_the_fes_end(self, gateway: Gateway) -> None:
        """Section 7: what the BE sends still goes to an FE that has only ended its stream."""
        client, _ = gateway.fe(), gateway.be()
        be = gateway.kept(gateway.zmq[0], client)
        unless_too_slow(lambda: self.answer_after_the_end(gateway, be))
        self.ready(client, gateway)
        self.assertRaises(TimeoutError, be.fill, 0.05)

    def answer_after_the_end(self, gateway: Gateway, be: Data) -> None:
        fe = self.enter(gateway)
        fe.send(b"request" * 1000)
        last = time.monotonic()
        fe.shutdown()
        self.assertEqual(be.receive(7000), b"request" * 1000)
        for _ in range(4):
            with too_slow_after(1.0, last):
                last = time.monotonic()
                be.send(b"answer")
                self.assertEqual(fe.receive(6), b"answer")
                self.assertRaises(TimeoutError, fe.fill, 0.3)
        self.assertEqual(fe.rest(), (b"", "end"))

    @filed(data={"drain_quiet": NEVER})
    def test_quiet_is_counted(self, gateway: Filed) -> None:
        """Section 7: over when nothing has come from the BE for drain_quiet; busy until then."""
        client, be_client = gateway.fe11("phone"), gateway.be11("worker")
        gateway.kept(gateway.zmq[0], client, "worker")
        fe = self.enter(gateway, client_id="phone")
        begun = time.monotonic()
        fe.shutdown()
        self.assertEqual(client.state()["zmq_busy"], 1)
        gateway.reload(data={"drain_quiet": 1.0})
        self.assertEqual(fe.rest(), (b"", "end"))
        self.assertTrue(0.95 < time.monotonic() - begun < 1 + LATE, time.monotonic() - begun)
        for who in (client, be_client):
            end = who.expect("session_end")
            self.assertEqual((end["cause"], end["fe_to_be_bytes"]), ("fe_closed", 0))

    @live(data={"drain_quiet": 0.4}, log={"stream": "be"})
    def test_closes_while_the_echo_is_on_its_way(self, gateway: Gateway) -> None:
        """Section 7: an ordinary end, never resets the BE, nothing above info in the log."""
        client, be_client = gateway.fe11("phone"), gateway.be11("worker")
        be = gateway.kept(gateway.zmq[0], client, "worker")
        fe = self.enter(gateway, client_id="phone")
        fe.send(b"say that again" * 1000)
        echo = be.receive(14000)
        be.send(echo)
        fe.fill()
        be_client.ping()
        before = len(be_client.log)
        fe.close()
        be.send(b"and some more")
        for who in (client, be_client):
            end = who.expect("session_end")
            self.assertEqual((end["cause"], end["fe_to_be_bytes"]), ("fe_closed", 14000))
        self.ready(client, gateway)
        be_client.ping()
        lines = [m["payload"].lower() for m in be_client.log[before:] if m["type"] == "log"]
        lines = [line for line in lines if "no pipe" not in line]  # that is about the system
        self.assertEqual([x for x in lines if "error" in x or "warn" in x or "trace" in x], [])
        self.enter(gateway).send(b"next")
        self.assertEqual(be.receive(4), b"next")

    @live(data=QUIET)
    def test_all_of_the_fes_bytes_arrive(self, gateway: Gateway) -> None:
        """Section 7: what the FE sent before its end is still delivered, to a slow BE too."""
        client, _ = gateway.fe(), gateway.be()
        be = gateway.dial(gateway.zmq[0], receive_buffer=8192)
        be.hello("BE")
        self.ready(client, gateway)
        fe = self.enter(gateway)
        fe.send(b"z" * 900_000)
        fe.close()
        self.assertRaises(TimeoutError, gateway.dial(gateway.zmq[1]).fill, 0.4)
        self.assertEqual(client.state()["zmq_busy"], 1)
        received = 0
        while received < 900_000:
            received += len(be.receive(min(20_000, 900_000 - received)))
        self.ready(client, gateway)
        self.enter(gateway).send(b"next")
        self.assertEqual(be.receive(4), b"next")

    @live(data=QUIET)
    def test_what_it_sent_before_a_reset_arrives_too(self, gateway: Gateway) -> None:
        """Section 7: a reset of the FE is an ordinary end, and cuts nothing off."""
        client, _ = gateway.fe11("phone"), gateway.be()
        be = gateway.dial(gateway.zmq[0], receive_buffer=8192)
        be.hello("BE")
        self.ready(client, gateway)
        fe = self.enter(gateway, client_id="phone")
        fe.send(b"z" * 300_000)
        fe.wait_until_acknowledged()
        fe.reset()
        self.assertRaises(TimeoutError, gateway.dial(gateway.zmq[1]).fill, 0.3)
        self.assertEqual(client.state()["zmq_busy"], 1)
        self.assertEqual(be.receive(300_000), b"z" * 300_000)
        end = client.expect("session_end")
        self.assertEqual((end["cause"], end["fe_to_be_bytes"]), ("fe_closed", 300_000))
        self.ready(client, gateway)
        self.enter(gateway).send(b"next")
        self.assertEqual(be.receive(4), b"next")

    @live(data=QUIET)
    def test_busy_while_drained(self, gateway: Gateway) -> None:
        """Sections 4 and 5: busy to others; an FE with a lease waits, and is paired after."""
        client, _ = gateway.fe(), gateway.be()
        be = gateway.dial(gateway.zmq[0], receive_buffer=8192)
        be.hello("BE")
        self.ready(client, gateway)
        session_id = client.acquire()["session_id"]
        first = self.enter(gateway, session_id=session_id)
        first.send(b"z" * 900_000)  # drained for as long as the BE does not read
        first.close()
        second = self.waits(gateway, session_id)
        second.send(b"early")
        self.assertEqual(be.receive(900_000), b"z" * 900_000)
        self.assertEqual(second.expect("RLX1PAIRED")["session_id"], session_id)
        self.assertEqual(be.receive(5), b"early")
        second.send(b"z" * 900_000)
        second.close()
        client.say("port_release", {"session_id": session_id})
        self.assertEqual(gateway.entering(gateway.zmq[0]).refusal(), "PORT_BUSY")
        self.assertEqual(be.receive(900_000), b"z" * 900_000)
        self.ready(client, gateway)
