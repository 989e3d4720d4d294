"""Sessions in close mode: ends, resets, time-outs and what is told of them (section 7)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from twisted.trial.unittest import TestCase

from tests.guide_peer import Control, Data, EndedError, WasResetError
from tests.live import LATE, NEVER, Data11, Gateway, live
from tests.test_loopback_control_messages import of


class TooSlowError(Exception):
    """A step took so long that a time-out was right to end what was tested."""


@contextmanager
def too_slow_after(seconds: float, since: float) -> Iterator[None]:
    """What fails in here is a fault only where less time than that has passed since then."""
    try:
        yield
    except (AssertionError, EndedError, WasResetError) as error:
        if time.monotonic() - since < seconds:
            raise
        raise TooSlowError from error


def unless_too_slow(scenario: Callable[[], None]) -> None:
    """Play a scenario, again where a step of it was too slow."""
    for _ in range(7):
        try:
            return scenario()
        except TooSlowError:
            continue
    return scenario()


class Pair:
    """A session in close mode on the first zmq port, with a 1.1 client at both ends."""

    def __init__(self, gateway: Gateway) -> None:
        self.fe_client: Control = gateway.fe11("the-fe")
        self.be_client: Control = gateway.be11("the-be")
        self.be: Data11 = gateway.waiting(gateway.zmq[0], "the-be")
        self.session_id = self.fe_client.acquire()["session_id"]
        self.fe: Data11 = gateway.entering(gateway.zmq[0], "the-fe", session_id=self.session_id)
        self.pairing_id = self.fe.expect("RLX1PAIRED")["pairing_id"]
        self.be.expect("RLX1PAIRED")

    def end(self) -> dict[str, object]:
        """session_end, which must be the same at both ends."""
        ends = [c.expect("session_end") for c in (self.fe_client, self.be_client)]
        if ends[0] != ends[1]:
            raise AssertionError(f"the two ends are told different things: {ends}")
        return ends[0]


class Ends(TestCase):
    """End of stream in either direction (section 7)."""

    @live()
    def test_half_close_by_the_fe(self, gateway: Gateway) -> None:
        """Section 7: passed on after all its bytes; the other direction goes on to its end."""
        pair = Pair(gateway)
        pair.fe.send(b"question" * 5000)
        pair.fe.shutdown()
        self.assertEqual(pair.be.rest(), (b"question" * 5000, "end"))
        for number in range(3):
            pair.be.send(b"answer %d" % number)
            self.assertEqual(pair.fe.receive(8), b"answer %d" % number)
        state = pair.fe_client.state()
        self.assertEqual(state["zmq_busy"], 1)
        pair.be.close()
        self.assertEqual(pair.fe.rest(), (b"", "end"))
        end = pair.end()
        self.assertEqual((end["fe_to_be_bytes"], end["be_to_fe_bytes"]), (40000, 24))
        self.assertEqual(end["cause"], "fe_closed")  # who began to end it

    @live()
    def test_half_close_by_the_be(self, gateway: Gateway) -> None:
        """Section 7: the same the other way round."""
        pair = Pair(gateway)
        pair.be.send(b"banner" * 5000)
        pair.be.shutdown()
        self.assertEqual(pair.fe.rest(), (b"banner" * 5000, "end"))
        pair.fe.send(b"late words")
        self.assertEqual(pair.be.receive(10), b"late words")
        pair.fe.close()
        self.assertEqual(pair.be.rest(), (b"", "end"))
        end = pair.end()
        self.assertEqual((end["fe_to_be_bytes"], end["be_to_fe_bytes"]), (10, 30000))
        self.assertEqual(end["cause"], "be_closed")

    @live()
    def test_the_port_is_empty_after(self, gateway: Gateway) -> None:
        """Section 7: the port is empty when both directions have ended, and serves again."""
        pair = Pair(gateway)
        pair.fe.close()
        pair.be.rest()
        pair.be.close()
        pair.fe_client.say("port_release", {"session_id": pair.session_id})
        pair.fe_client.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)
        fe, be = gateway.pair(gateway.zmq[0])
        fe.send(b"second session")
        self.assertEqual(be.receive(14), b"second session")

    @live()
    def test_nothing_sent(self, gateway: Gateway) -> None:
        """Section 7: a session of 0 bytes each way ends in order."""
        pair = Pair(gateway)
        pair.fe.shutdown()
        self.assertEqual(pair.be.rest(), (b"", "end"))
        pair.be.shutdown()
        self.assertEqual(pair.fe.rest(), (b"", "end"))
        end = pair.end()
        self.assertEqual((end["fe_to_be_bytes"], end["be_to_fe_bytes"]), (0, 0))

    @live()
    def test_end_with_hello(self, gateway: Gateway) -> None:
        """Sections 6 and 7: HELLO, data and end of stream in one go."""
        gateway.fe(), gateway.be()
        be = gateway.waiting(gateway.zmq[0])
        fe = gateway.dial(gateway.zmq[0])
        fe.hello("FE", first=b"all there is")
        fe.shutdown()
        be.expect("RLX1PAIRED")
        self.assertEqual(be.rest(), (b"all there is", "end"))
        be.send(b"thanks")
        be.close()
        self.assertEqual(fe.rest(), (b"thanks", "end"))

    @live()
    def test_the_end_waits_for_delivery(self, gateway: Gateway) -> None:
        """Section 7: when, and only when, all bytes have been delivered."""
        gateway.fe(), gateway.be()
        be = gateway.dial11(gateway.zmq[0], receive_buffer=8192)
        be.hello("BE")
        be.expect("RLX1OK")
        fe = gateway.entering(gateway.zmq[0])
        be.paired()
        fe.expect("RLX1PAIRED")
        fe.send(b"x" * 1_000_000)
        fe.close()
        received = 0
        while received < 1_000_000:
            received += len(be.receive(min(10_000, 1_000_000 - received)))
        self.assertEqual(be.rest(), (b"", "end"))


class Resets(TestCase):
    """A side that resets (section 7)."""

    @live()
    def test_passed_on(self, gateway: Gateway) -> None:
        """Section 7: the other side is reset too, after what was sent has been delivered."""
        for who, cause in (("fe", "fe_reset"), ("be", "be_reset")):
            pair = Pair(gateway)
            one, other = (pair.fe, pair.be) if who == "fe" else (pair.be, pair.fe)
            one.send(b"last words")
            self.assertEqual(other.receive(10), b"last words")
            one.reset()
            self.assertEqual(other.rest(), (b"", "reset"), who)
            end = pair.end()
            self.assertEqual(end["cause"], cause)
            counts = (end["fe_to_be_bytes"], end["be_to_fe_bytes"])
            self.assertEqual(counts, (10, 0) if who == "fe" else (0, 10))
            pair.fe_client.say("port_release", {"session_id": pair.session_id})
            pair.fe_client.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)

    @live()
    def test_after_what_the_gateway_holds(self, gateway: Gateway) -> None:
        """Section 7: what had been taken from the side that resets still reaches the other."""
        gateway.fe(), gateway.be()
        be = gateway.dial11(gateway.zmq[0], receive_buffer=8192)
        be.hello("BE")
        be.expect("RLX1OK")
        fe = gateway.entering(gateway.zmq[0])
        fe.expect("RLX1PAIRED")
        be.paired()
        fe.send(b"y" * 300_000)
        fe.wait_until_acknowledged()
        self.assertEqual(len(be.receive(50_000)), 50_000)
        fe.reset()
        # The reset has long been seen when the other side takes the rest.
        self.assertRaises(TimeoutError, gateway.dial(gateway.zmq[1]).fill, 0.2)
        self.assertEqual(be.rest(), (b"y" * 250_000, "reset"))

    @live()
    def test_reset_after_the_others_end(self, gateway: Gateway) -> None:
        """Section 7: an answer that is cut off by a reset is not taken for a whole one."""
        pair = Pair(gateway)
        pair.fe.shutdown()
        self.assertEqual(pair.be.rest(), (b"", "end"))
        pair.be.send(b"half an ans")
        pair.be.wait_until_acknowledged()
        pair.be.reset()
        self.assertEqual(pair.fe.rest(), (b"half an ans", "reset"))
        end = pair.end()
        self.assertEqual((end["cause"], end["be_to_fe_bytes"]), ("be_reset", 11))

    @live()
    def test_reset_after_its_end(self, gateway: Gateway) -> None:
        """Section 7: a side that has ended its stream may still reset."""
        pair = Pair(gateway)
        pair.fe.shutdown()
        self.assertEqual(pair.be.rest(), (b"", "end"))
        pair.fe.reset()
        end = pair.end()
        self.assertEqual(end["cause"], "fe_reset")


class Timeouts(TestCase):
    """half_close_timeout and session_idle_timeout (sections 1 and 7)."""

    @live(data={"half_close_timeout": 1.5})
    def test_half_close(self, gateway: Gateway) -> None:
        """Section 7: one direction ended and no progress in the other; progress extends it."""
        unless_too_slow(lambda: self.half_close(gateway))

    def half_close(self, gateway: Gateway) -> None:
        pair = Pair(gateway)
        last = time.monotonic()
        pair.fe.shutdown()
        self.assertEqual(pair.be.rest(), (b"", "end"))
        for _ in range(3):
            with too_slow_after(1.5, last):
                self.assertRaises(TimeoutError, pair.fe.fill, 0.6)
                last = time.monotonic()
                pair.be.send(b"!")
                self.assertEqual(pair.fe.receive(1), b"!")
        self.assertEqual(pair.fe.rest()[0], b"")
        self.assertTrue(1.4 < time.monotonic() - last < 1.5 + LATE, time.monotonic() - last)
        end = pair.end()
        self.assertEqual((end["cause"], end["be_to_fe_bytes"]), ("half_close_timeout", 3))

    @live(data={"half_close_timeout": 0.3, "session_idle_timeout": NEVER})
    def test_not_while_both_directions_are_open(self, gateway: Gateway) -> None:
        """Section 7: half_close_timeout is no idle time-out."""
        pair = Pair(gateway)
        self.assertRaises(TimeoutError, pair.fe.fill, 0.8)
        pair.fe.send(b"awake")
        self.assertEqual(pair.be.receive(5), b"awake")

    @live(data={"session_idle_timeout": 1.5})
    def test_idle(self, gateway: Gateway) -> None:
        """Section 1: counted from the last byte that made progress; both sides are closed."""
        unless_too_slow(lambda: self.idle(gateway))

    def idle(self, gateway: Gateway) -> None:
        last = time.monotonic()
        pair = Pair(gateway)
        for _ in range(3):
            with too_slow_after(1.5, last):
                self.assertRaises(TimeoutError, pair.be.fill, 0.6)
                last = time.monotonic()
                pair.fe.send(b"?")
                self.assertEqual(pair.be.receive(1), b"?")
        self.assertEqual(pair.fe.rest()[0], b"")
        self.assertEqual(pair.be.rest()[0], b"")
        self.assertTrue(1.4 < time.monotonic() - last < 1.5 + LATE, time.monotonic() - last)
        end = pair.end()
        self.assertEqual((end["cause"], end["fe_to_be_bytes"]), ("idle_timeout", 3))

    @live(data={"session_idle_timeout": 0.3})
    def test_waiting_is_not_idle(self, gateway: Gateway) -> None:
        """Section 1: it is a session's time-out; a BE waits for as long as it likes."""
        gateway.fe(), gateway.be()
        be = gateway.waiting(gateway.zmq[0])
        self.assertRaises(TimeoutError, be.fill, 0.8)
        gateway.entering(gateway.zmq[0]).expect("RLX1PAIRED")


class SessionEnd(TestCase):
    """session_end (section 3)."""

    @live()
    def test_what_it_carries(self, gateway: Gateway) -> None:
        """Section 3: every field of it."""
        pair = Pair(gateway)
        pair.fe.send(b"12345")
        self.assertEqual(pair.be.receive(5), b"12345")
        self.assertRaises(TimeoutError, pair.fe.fill, 0.1)
        pair.fe.reset()
        end = pair.end()
        self.assertEqual(
            {key: end[key] for key in end if key not in ("error", "seconds")},
            {"pairing_id": pair.pairing_id, "session_id": pair.session_id, "protocol": "zmq",
             "port": gateway.zmq[0], "cause": "fe_reset", "fe_to_be_bytes": 5,
             "be_to_fe_bytes": 0},
        )  # fmt: skip
        self.assertTrue(0.09 < end["seconds"] < LATE, end)
        self.assertTrue(end["error"])

    @live()
    def test_who_is_told(self, gateway: Gateway) -> None:
        """Section 3: 1.1 clients at both ends; no v1 client, nobody else."""
        fe, be = gateway.fe("old-fe"), gateway.be("old-be")
        bystanders = [gateway.fe11("other-fe"), gateway.be11("other-be")]
        waiting = gateway.waiting(gateway.srt[0], "old-be")
        entered = gateway.entering(gateway.srt[0], "old-fe")
        entered.expect("RLX1PAIRED")
        entered.close(), waiting.close()
        fe.state(lambda state: state["srt_busy"] == 0)
        for client in (fe, be, *bystanders):
            client.ping()
            self.assertEqual(of("session_end", client.log), [])

    @live()
    def test_whose_connection_it_is(self, gateway: Gateway) -> None:
        """Section 6: without a lease an FE's connection is that of its HELLO's client_id."""
        fe, be = gateway.fe11("phone"), gateway.be11("worker")
        link = gateway.waiting(gateway.srt[1], "a name that nobody has")
        entered = gateway.entering(gateway.srt[1], "phone")
        pairing_id = entered.expect("RLX1PAIRED")["pairing_id"]
        entered.reset()
        self.assertEqual(link.paired()["pairing_id"], pairing_id)
        for client in (fe, be):
            end = client.expect("session_end", pairing_id=pairing_id)
            self.assertEqual((end["protocol"], end["port"]), ("srt", gateway.srt[1]))
            self.assertFalse(end["session_id"])

    @live()
    def test_the_newest_of_an_id(self, gateway: Gateway) -> None:
        """Section 6: where several live under one id, a connection is the newest's."""
        older, newest = (gateway.be11("twin", instance="") for _ in range(2))
        gateway.fe()
        waiting = gateway.waiting(gateway.zmq[0], "twin")
        entered = gateway.entering(gateway.zmq[0])
        pairing_id = entered.expect("RLX1PAIRED")["pairing_id"]
        entered.close(), waiting.close()
        self.assertEqual(newest.expect("session_end")["pairing_id"], pairing_id)
        older.ping()
        self.assertEqual(of("session_end", older.log), [])


class Modes(TestCase):
    """Which mode a session has (sections 1, 6 and 7)."""

    def is_closed_with_the_fe(self, gateway: Gateway, witness: Control, **hello: str) -> bool:
        """Whether an FE's end of stream reaches a v1 BE that said this."""
        be: Data = gateway.kept(gateway.zmq[0], witness, **hello)
        fe = gateway.entering(gateway.zmq[0])
        fe.expect("RLX1PAIRED")
        fe.send(b"x")
        self.assertEqual(be.receive(1), b"x")
        witness.state(lambda state: state["zmq_busy"] == 1)
        fe.close()
        state = witness.find("port_state", lambda state: state["zmq_busy"] == 0)["payload"]
        closed = state["zmq_ready_ports"] == []
        be.close()
        witness.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)
        return closed

    @live(data={"drain_quiet": 0.1, "half_close_timeout": 0.2})
    def test_keep_is_the_default(self, gateway: Gateway) -> None:
        """Section 7: keep, unless HELLO asks for close."""
        fe, _ = gateway.fe(), gateway.be()
        self.assertFalse(self.is_closed_with_the_fe(gateway, fe))
        self.assertFalse(self.is_closed_with_the_fe(gateway, fe, on_fe_close="keep"))
        self.assertTrue(self.is_closed_with_the_fe(gateway, fe, on_fe_close="close"))

    @live(data={"drain_quiet": 0.1, "half_close_timeout": 0.2, "be_on_fe_close": "close"})
    def test_configured(self, gateway: Gateway) -> None:
        """Section 1: be_on_fe_close, for a BE whose HELLO does not say."""
        fe, _ = gateway.fe(), gateway.be()
        self.assertTrue(self.is_closed_with_the_fe(gateway, fe))
        self.assertFalse(self.is_closed_with_the_fe(gateway, fe, on_fe_close="keep"))
