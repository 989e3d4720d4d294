"""Many clients and much coming and going at once (contract sections 4 to 7)."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from tests.guide_peer import Data, EchoBackEnd
from tests.live import Gateway, live


class Churn(TestCase):
    """Sessions one after another from several FEs at once."""

    def rounds(self, gateway: Gateway, number: int, count: int) -> int:
        """Acquire, use and release; what must hold at each step; how many sessions it was."""
        fe = gateway.fe11(f"fe-{number}")
        used = 0
        while used < count:
            grant = fe.acquire(need_zmq=number % 2 == 0, need_srt=number % 2 == 1)
            if grant.get("error_code") == "PORT_EXHAUSTED":
                fe.find("port_state")
                continue
            self.assertFalse(grant.get("error_code"), grant)
            port = grant.get("zmq_port") or grant["srt_port"]
            link = gateway.entering(port, fe.auth["client_id"], session_id=grant["session_id"])
            self.assertEqual(link.expect("RLX1PAIRED")["session_id"], grant["session_id"])
            said = b"%d:%d " % (number, used) * (1 + used * 50)
            link.send(said)
            self.assertEqual(link.receive(len(said)), said)
            (Data.reset if used % 5 == 4 else Data.close)(link)
            end = fe.expect("session_end", session_id=grant["session_id"])
            self.assertEqual((end["cause"], end["fe_to_be_bytes"]), ("fe_closed", len(said)))
            fe.say("port_release", {"session_id": grant["session_id"]})
            used += 1
        return used

    @live(zmq=2, srt=2, data={"drain_quiet": 0.02})
    def test_kept_bes_serve_many_fes(self, gateway: Gateway) -> None:
        """Sections 4, 5 and 7: nobody gets another's bytes, and the counts add up after."""
        be = gateway.be("worker")
        back_end = EchoBackEnd(gateway.dial, gateway.zmq + gateway.srt, "worker")
        gateway.before_closing(back_end.stop)
        be.state(lambda state: state["srt_ready_ports"] == gateway.srt)
        running = [gateway.background(self.rounds, gateway, n, 15) for n in range(6)]
        self.assertEqual([future.result() for future in running], [15] * 6)
        state = be.state(
            lambda state: (
                state["zmq_ready_ports"] + state["srt_ready_ports"] == gateway.zmq + gateway.srt
            )
        )
        self.assertEqual((state["zmq_busy"], state["srt_busy"]), (0, 0))
        self.assertEqual((state["zmq_empty_ports"], state["srt_empty_ports"]), ([], []))
        self.assertEqual(back_end.ended, {})

    @live(zmq=3, srt=0)
    def test_counts_always_add_up(self, gateway: Gateway) -> None:
        """Section 4: ready + empty + busy + reserved is the total in every push."""
        fe, be = gateway.fe(), gateway.be()
        for _ in range(25):
            waiting = [gateway.waiting(port) for port in gateway.zmq]
            grants = [fe.acquire() for _ in gateway.zmq[1:]]
            port = grants[0]["zmq_port"]
            link = gateway.entering(port, session_id=grants[0]["session_id"])
            link.expect("RLX1PAIRED")
            for peer in (link, *waiting):
                peer.close()
            for grant in grants:
                fe.say("port_release", {"session_id": grant["session_id"]})
            be.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)
        fe.state()
        for client in (fe, be):
            states = [m["payload"] for m in client.log if m["type"] == "port_state"]
            self.assertTrue(len(states) >= 5, len(states))
            for state in states:
                lists = state["zmq_ready_ports"] + state["zmq_empty_ports"]
                self.assertEqual(len(lists), len(set(lists)))
                reserved = state["zmq_total"] - len(lists) - state["zmq_busy"]
                self.assertTrue(0 <= reserved <= 2, state)
