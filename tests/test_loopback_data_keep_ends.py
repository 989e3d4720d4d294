"""How a kept BE itself ends, and when it is ended (contract section 7, keep)."""

from __future__ import annotations

import time

from twisted.trial.unittest import TestCase

from tests.guide_peer import EndedError, WasResetError
from tests.live import LATE, NEVER, Gateway, live
from tests.reloading import in_the_reactor

QUIET = {"drain_quiet": 0.2}


class Limits(TestCase):
    """A BE that does not come to rest (section 7)."""

    @live(data={"drain_quiet": NEVER, "drain_limit": 0.6})
    def test_drain_limit(self, gateway: Gateway) -> None:
        """Section 7: a BE that is still sending drain_limit after the last FE byte is closed."""
        client, _ = gateway.fe11("phone"), gateway.be("worker")
        be = gateway.kept(gateway.zmq[0], client, "worker")
        fe = gateway.entering(gateway.zmq[0], "phone")
        fe.expect("RLX1PAIRED")
        begun = time.monotonic()
        fe.close()

        def chatter() -> float:
            while time.monotonic() - begun < 1 + LATE:
                try:
                    be.send(b"blah")
                    be.fill(0.02)
                except TimeoutError:
                    continue
                except (WasResetError, EndedError):
                    break
            return time.monotonic() - begun

        took = gateway.background(chatter).result()
        self.assertTrue(0.5 < took < 0.6 + LATE, took)
        self.assertEqual(client.expect("session_end")["cause"], "limit")
        client.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)

    @live(data={"drain_quiet": 0.1, "half_close_timeout": 0.5})
    def test_a_be_that_takes_nothing(self, gateway: Gateway) -> None:
        """Section 7: one that takes nothing for half_close_timeout is closed."""
        client, _ = gateway.fe(), gateway.be()
        be = gateway.dial(gateway.zmq[0], receive_buffer=4096)
        be.hello("BE")
        client.state(lambda state: state["zmq_ready_ports"] == gateway.zmq[:1])
        fe = gateway.entering(gateway.zmq[0])
        fe.expect("RLX1PAIRED")
        fe.send(b"q" * 900_000)
        begun = time.monotonic()
        fe.close()
        client.find("port_state", lambda state: state["zmq_empty_ports"] == gateway.zmq)
        self.assertTrue(0.3 < time.monotonic() - begun < 0.5 + LATE, time.monotonic() - begun)
        self.assertTrue(len(be.rest()[0]) < 900_000)

    @live(data={"drain_quiet": 0.1, "half_close_timeout": 0.5})
    def test_one_that_takes_nothing_but_talks(self, gateway: Gateway) -> None:
        """Section 7: closed all the same; what it sends is no progress of what it owes."""
        client, _ = gateway.fe(), gateway.be()
        be = gateway.dial(gateway.zmq[0], receive_buffer=4096)
        be.hello("BE")
        client.state(lambda state: state["zmq_ready_ports"] == gateway.zmq[:1])
        fe = gateway.entering(gateway.zmq[0])
        fe.expect("RLX1PAIRED")
        fe.send(b"q" * 900_000)
        fe.close()
        begun = time.monotonic()
        bystander = gateway.fe()
        bystander.ping()
        while bystander.state()["zmq_empty_ports"] != gateway.zmq:
            took = time.monotonic() - begun
            self.assertTrue(took < 0.5 + LATE, f"its port is still busy after {took} s")
            try:
                be.send(b"blah")
            except WasResetError:
                continue  # closed, as it should be; the port state follows

    @live(data={"drain_quiet": 0.1})
    def test_over_only_when_all_is_delivered(self, gateway: Gateway) -> None:
        """Section 7: the BE has long been quiet, but its answer is still on its way."""
        client, _ = gateway.fe11("phone"), gateway.be()
        be = gateway.kept(gateway.zmq[0], client)
        fe = gateway.dial11(gateway.zmq[0], receive_buffer=4096)
        fe.hello("FE", "phone")
        fe.expect("RLX1PAIRED")
        be.send(b"a" * 300_000)
        be.wait_until_acknowledged()
        fe.shutdown()
        self.assertRaises(TimeoutError, gateway.dial(gateway.zmq[1]).fill, 0.5)
        self.assertEqual(client.state()["zmq_busy"], 1)
        self.assertEqual(fe.rest(), (b"a" * 300_000, "end"))
        end = client.expect("session_end")
        self.assertEqual((end["cause"], end["be_to_fe_bytes"]), ("fe_closed", 300_000))

    @live(data={"drain_quiet": 0.2})
    def test_quiet_counts_only_while_it_is_read(self, gateway: Gateway) -> None:
        """Section 7: an FE that reads late still gets all of the answer."""
        client, _ = gateway.fe(), gateway.be()
        be = gateway.kept(gateway.zmq[0], client)
        fe = gateway.dial11(gateway.zmq[0], receive_buffer=65536)
        fe.hello("FE")
        fe.expect("RLX1PAIRED")
        fe.send(b"get")
        self.assertEqual(be.receive(3), b"get")
        (session,) = (one.session for one in gateway.service.data.data.sessions.running())
        taker = session.be.transport
        answer, sent = bytes(range(256)) * 256 * 1024, 0
        be.socket.setblocking(False)
        pushed_back = session.pump.pushed_back
        while not in_the_reactor(lambda: pushed_back(taker) and taker.has_unread()):
            try:
                sent += be.socket.send(answer[sent : sent + 65536])
            except BlockingIOError:
                continue
        self.assertTrue(sent < len(answer), "the answer fits the buffers; nothing was tested")
        fe.shutdown()
        self.assertRaises(TimeoutError, gateway.dial(gateway.zmq[1]).fill, 0.8)
        self.assertEqual(client.state()["zmq_busy"], 1)
        self.assertTrue(fe.rest() == (answer[:sent], "end"))
        client.state(lambda state: state["zmq_ready_ports"] == gateway.zmq[:1])


class ItsOwnEnd(TestCase):
    """A kept BE that ends by itself (section 7)."""

    @live(data=QUIET)
    def test_end_of_stream(self, gateway: Gateway) -> None:
        """Section 7: as in close: passed on after its bytes, the port is empty then."""
        client, _ = gateway.fe11("phone"), gateway.be("worker")
        be = gateway.kept(gateway.zmq[0], client, "worker")
        fe = gateway.entering(gateway.zmq[0], "phone")
        fe.expect("RLX1PAIRED")
        be.send(b"goodbye" * 1000)
        be.shutdown()
        self.assertEqual(fe.rest(), (b"goodbye" * 1000, "end"))
        fe.send(b"you too")
        self.assertEqual(be.receive(7), b"you too")
        fe.close()
        self.assertEqual(client.expect("session_end")["be_to_fe_bytes"], 7000)
        client.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)

    @live(data=QUIET)
    def test_reset(self, gateway: Gateway) -> None:
        """Section 7: a reset is passed on as a reset."""
        client, _ = gateway.fe11("phone"), gateway.be("worker")
        be = gateway.kept(gateway.zmq[0], client, "worker")
        fe = gateway.entering(gateway.zmq[0], "phone")
        fe.expect("RLX1PAIRED")
        be.send(b"one thing")
        self.assertEqual(fe.receive(9), b"one thing")
        be.reset()
        self.assertEqual(fe.rest(), (b"", "reset"))
        self.assertEqual(client.expect("session_end")["cause"], "be_reset")
        client.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)

    @live(data={"drain_quiet": NEVER})
    def test_reset_while_drained(self, gateway: Gateway) -> None:
        """Section 7: an FE that still reads sees that the answer was cut off."""
        client, _ = gateway.fe11("phone"), gateway.be("worker")
        be = gateway.kept(gateway.zmq[0], client, "worker")
        fe = gateway.entering(gateway.zmq[0], "phone")
        fe.expect("RLX1PAIRED")
        fe.shutdown()
        client.state(lambda state: state["zmq_busy"] == 1)
        be.send(b"half an ans")
        be.wait_until_acknowledged()
        be.reset()
        self.assertEqual(fe.rest(), (b"half an ans", "reset"))
        self.assertEqual(client.expect("session_end")["cause"], "be_reset")
        client.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)

    @live(data={"drain_quiet": NEVER})
    def test_end_while_drained(self, gateway: Gateway) -> None:
        """Section 7: an orderly end of the BE ends the FE's stream at once."""
        client, _ = gateway.fe11("phone"), gateway.be("worker")
        be = gateway.kept(gateway.zmq[0], client, "worker")
        fe = gateway.entering(gateway.zmq[0], "phone")
        fe.expect("RLX1PAIRED")
        fe.send(b"ask")
        fe.shutdown()
        self.assertEqual(be.receive(3), b"ask")
        be.send(b"answer")
        be.close()
        self.assertEqual(fe.rest(), (b"answer", "end"))
        end = client.expect("session_end")
        self.assertEqual((end["fe_to_be_bytes"], end["be_to_fe_bytes"]), (3, 6))

    @live(data={"drain_quiet": NEVER})
    def test_while_drained(self, gateway: Gateway) -> None:
        """Section 7: a BE that ends while it is drained leaves an empty port at once."""
        client, _ = gateway.fe(), gateway.be()
        be = gateway.kept(gateway.zmq[0], client)
        fe = gateway.entering(gateway.zmq[0])
        fe.expect("RLX1PAIRED")
        fe.close()
        be.close()
        client.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)

    @live(data=QUIET)
    def test_between_sessions(self, gateway: Gateway) -> None:
        """Section 6: a kept BE that ends while it waits again is gone."""
        client, _ = gateway.fe(), gateway.be()
        be = gateway.kept(gateway.zmq[0], client)
        fe = gateway.entering(gateway.zmq[0])
        fe.expect("RLX1PAIRED")
        fe.close()
        client.state(lambda state: state["zmq_ready_ports"] == gateway.zmq[:1])
        be.shutdown()
        client.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)
