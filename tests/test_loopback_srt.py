"""Real SRT through a real gateway: sessions, their ends, refusals, as unmodified peers see them."""

from __future__ import annotations

import time

from tests.guide_peer import DEADLINE, WasResetError
from tests.live import Data11, Gateway, live
from tests.srt_live import BE, FE, KEEP, OPEN, SrtCase, numbered
from tests.test_loopback_data_close import too_slow_after, unless_too_slow


class SessionTests(SrtCase):
    """Messages from one side to the other."""

    @live(real_srt={}, data=OPEN)
    def test_publish_and_watch(self, gateway: Gateway) -> None:
        watcher = gateway.fe11("watcher")
        be = self.call(gateway, BE)
        self.ready(watcher, gateway.srt[0])
        fe = self.call(gateway, FE)
        self.watched(gateway, watcher, 1)
        messages = numbered(0, 300)
        for message in messages:
            be.send(message)
        self.assertEqual([fe.receive() for _ in messages], messages)

    @live(real_srt={}, data=OPEN)
    def test_both_ways(self, gateway: Gateway) -> None:
        watcher = gateway.fe11("watcher")
        be = self.call(gateway, "#!::x-role=BE")
        self.ready(watcher, gateway.srt[0])
        fe = self.call(gateway, "#!::x-role=FE")
        for one, two in ((fe, be), (be, fe)):
            for message in numbered(0, 10):
                one.send(message)
                self.assertEqual(two.receive(), message)

    @live(real_srt={}, data=OPEN)
    def test_nothing_is_lost_at_the_end(self, gateway: Gateway) -> None:
        """Though what the FE has been sent is due a latency after the BE has gone."""
        watcher = gateway.fe11("watcher")
        be = self.call(gateway, BE, latency=400)
        self.ready(watcher, gateway.srt[0])
        fe = self.call(gateway, FE, latency=400)
        be.send(b"first")
        self.assertEqual(fe.receive(), b"first")
        messages = numbered(0, 500)
        for message in messages:
            be.send(message)
        be.drain()
        be.close()
        self.assertEqual(fe.receive_all(late=False), messages)

    @live(real_srt={}, data=OPEN)
    def test_refused(self, gateway: Gateway) -> None:
        for streamid, code in ((FE, 1404), ("#!::m=play", 1405), (b"#!::u=\xff", 1400)):
            self.assertEqual(self.rejected(gateway, streamid), code)

    @live(real_srt={}, data=KEEP)
    def test_kept(self, gateway: Gateway) -> None:
        watcher = gateway.fe11("watcher")
        be = self.call(gateway, BE)
        port = gateway.srt[0]
        for turn in range(3):
            self.ready(watcher, port)
            fe = self.call(gateway, FE)
            self.watched(gateway, watcher, 1)
            messages = numbered(turn * 100, 20)
            for message in messages:
                be.send(message)
            self.assertEqual([fe.receive() for _ in messages], messages)
            fe.close()
            watcher.state(lambda state: state["srt_busy"] == 0)

    @live(real_srt={}, data=KEEP)
    def test_what_came_before_the_port_was_ready_is_nobodys(self, gateway: Gateway) -> None:
        """Though it is due a latency later, when the next session runs."""
        watcher = gateway.fe11("watcher")
        port = gateway.srt[0]
        be = self.call(gateway, BE, latency=600)
        self.ready(watcher, port)
        fe = self.call(gateway, FE)
        be.send(b"first")
        self.assertEqual(fe.receive(), b"first")
        for _ in range(10):
            be.send(b"not for you")
        be.drain()
        fe.close()
        watcher.state(lambda state: state["srt_busy"] == 0)
        self.ready(watcher, port)
        self.assertRaises(TimeoutError, be.receive, 0.1)  # a moment, in which nothing comes
        fe = self.call(gateway, FE)
        self.watched(gateway, watcher, 1)
        be.send(b"second")
        self.assertEqual(fe.receive(), b"second")

    @live(real_srt={"bridge": True}, data=OPEN)
    def test_bridge_to_a_tcp_fe(self, gateway: Gateway) -> None:
        watcher = gateway.fe11("watcher")
        be = self.call(gateway, "#!::x-role=BE,x-on-fe-close=close")
        self.ready(watcher, gateway.srt[0])
        fe = gateway.entering(gateway.srt[0], "eye")
        fe.expect("RLX1PAIRED")
        messages = numbered(0, 100)
        for message in messages:
            be.send(message)
        self.assertEqual(fe.receive(sum(map(len, messages))), b"".join(messages))
        fe.send(bytes(5000))
        self.assertEqual([len(be.receive()) for _ in range(4)], [1316, 1316, 1316, 1052])
        be.close()
        self.assertEqual(fe.rest(), (b"", "end"))
        fe.close()
        self.assertEqual(watcher.state(lambda state: state["srt_busy"] == 0)["srt_busy"], 0)

    @live(real_srt={"bridge": True, "mss": 1000, "payloadsize": 0, "rcvbuf": 10**6}, data=OPEN)
    def test_bridge_with_small_packets(self, gateway: Gateway) -> None:
        """Messages are no longer than what a packet takes."""
        be = gateway.waiting(gateway.srt[0], "store")
        fe = self.call(gateway, FE)
        be.expect("RLX1PAIRED")
        be.send(bytes(5000))
        self.assertEqual([len(fe.receive()) for _ in range(6)], [956] * 5 + [220])

    @live(real_srt={"fan_out": 2, "payloadsize": 188}, data=OPEN)
    def test_every_size_goes_on(self, gateway: Gateway) -> None:
        """What an SRT peer sends in one packet arrives in one, whatever becomes of TCP's bytes."""
        watcher = gateway.fe11()
        for publisher, watchers in (("#!::m=publish,x-role=BE", 2), (BE, 1)):
            be = self.call(gateway, publisher, payloadsize=1456)
            self.ready(watcher, gateway.srt[0])
            fes = [self.call(gateway, FE) for _ in range(watchers)]
            self.watched(gateway, watcher, watchers)
            messages = [bytes([n]) * size for n, size in enumerate((1316, 1456, 1, 1400, 188))]
            for message in messages:
                be.send(message)
            for fe in fes:
                self.assertEqual([fe.receive() for _ in messages], messages)
            be.close()
            watcher.state(lambda state: state["srt_empty_ports"] == gateway.srt)

    @live(real_srt={"payloadsize": 0}, data=OPEN)
    def test_a_callers_own_packet_filter(self, gateway: Gateway) -> None:
        """It takes some bytes of each packet, whatever was configured for messages."""
        watcher = gateway.fe11()
        fec = {"packetfilter": "fec,cols:10,rows:-2", "payloadsize": 1452}
        be = self.call(gateway, BE, **fec)
        self.ready(watcher, gateway.srt[0])
        fe = self.call(gateway, FE, **fec)
        self.watched(gateway, watcher, 1)
        messages = [bytes([n]) * 1452 for n in range(50)]
        for message in messages:
            be.send(message)
        self.assertEqual([fe.receive() for _ in messages], messages)

    @live(real_srt={"bridge": True}, data=KEEP)
    def test_bridge_to_a_kept_be(self, gateway: Gateway) -> None:
        """FEs by TCP and by SRT in turn get what one publisher sends while they are there."""
        watcher = gateway.fe11("watcher")
        port = gateway.srt[0]
        be = self.call(gateway, BE)
        for turn in range(4):
            self.ready(watcher, port)
            messages = numbered(turn * 100, 50)
            if turn % 2:
                by_tcp = gateway.entering(port, "eye")
                by_tcp.expect("RLX1PAIRED")
                self.obeyed(gateway)
                for message in messages:
                    be.send(message)
                self.assertEqual(by_tcp.receive(sum(map(len, messages))), b"".join(messages))
                by_tcp.close()
            else:
                by_srt = self.call(gateway, FE)
                self.watched(gateway, watcher, 1)
                for message in messages:
                    be.send(message)
                self.assertEqual([by_srt.receive() for _ in messages], messages)
                by_srt.close()
            watcher.state(lambda state: state["srt_busy"] == 0)

    @live(real_srt={"bridge": True}, data=OPEN)
    def test_bridge_to_a_tcp_be(self, gateway: Gateway) -> None:
        be = gateway.waiting(gateway.srt[0], "store")
        fe = self.call(gateway, "#!::x-role=FE")
        be.expect("RLX1PAIRED")
        messages = numbered(0, 100)
        for message in messages:
            fe.send(message)
        fe.drain()
        fe.close()
        self.assertEqual(be.receive(sum(map(len, messages))), b"".join(messages))
        self.assertEqual(be.rest(), (b"", "end"))

    @live(real_srt={"bridge": True}, data=OPEN)
    def test_bridge_to_one_that_goes_on(self, gateway: Gateway) -> None:
        """Who sends by TCP to one that has closed, which is gone altogether, is closed too."""
        port, witness = gateway.srt[0], gateway.fe11("eye", source="127.0.0.1")
        for role, streamid in (
            ("BE", "#!::u=eye,x-role=FE"),
            ("FE", "#!::x-role=BE,x-on-fe-close=close"),
        ):
            if role == "BE":
                by_tcp = gateway.waiting(port, "store")
                peer = self.call(gateway, streamid)
            else:
                peer = self.call(gateway, streamid)
                self.ready(witness, port)
                by_tcp = gateway.entering(port, "eye")
            by_tcp.expect("RLX1PAIRED")
            peer.send(b"the last")
            self.assertEqual(by_tcp.receive(8), b"the last")
            peer.close()
            self.assertRaises(WasResetError, self.goes_on, by_tcp)
            end = witness.expect("session_end")
            self.assertEqual(end["cause"], "be_closed" if role == "FE" else "fe_closed")
            self.empty(witness, port)

    def goes_on(self, by_tcp: Data11) -> None:
        """Send until the connection is over."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            by_tcp.send(bytes(1000))

    @live(real_srt={}, data=OPEN)
    def test_buffer_mode(self, gateway: Gateway) -> None:
        watcher = gateway.fe11("watcher")
        be = self.call(gateway, "#!::x-role=BE,t=file", live=False)
        self.ready(watcher, gateway.srt[0])
        fe = self.call(gateway, "#!::x-role=FE,t=file", live=False)
        whole = bytes(range(256)) * 4000
        sending = gateway.background(be.send, whole)
        got = b""
        while len(got) < len(whole):
            got += fe.receive()
        self.assertEqual(got, whole)
        sending.result()

    @live(real_srt={"fan_out": 3}, data=OPEN)
    def test_fan_out(self, gateway: Gateway) -> None:
        watcher = gateway.fe11("watcher")
        be = self.call(gateway, BE)
        self.ready(watcher, gateway.srt[0])
        fes = [self.call(gateway, FE) for _ in range(3)]
        self.watched(gateway, watcher, len(fes))
        self.assertEqual(self.rejected(gateway, FE), 1409)
        messages = numbered(0, 100)
        for message in messages:
            be.send(message)
        for fe in fes:
            self.assertEqual([fe.receive() for _ in messages], messages)
        fes[0].close()
        fes[1].close()
        be.send(b"last")
        self.assertEqual(fes[2].receive(), b"last")

    @live(real_srt={}, data=OPEN, secrets={"srt_passphrase": "a passphrase"})
    def test_passphrase(self, gateway: Gateway) -> None:
        watcher = gateway.fe11("watcher")
        for wrong in ("", "another passphrase"):
            self.assertEqual(self.rejected(gateway, BE, passphrase=wrong), 11 if not wrong else 10)
        be = self.call(gateway, BE, passphrase="a passphrase")
        self.ready(watcher, gateway.srt[0])
        fe = self.call(gateway, FE, passphrase="a passphrase")
        be.send(b"hidden")
        self.assertEqual(fe.receive(), b"hidden")


class Idle(SrtCase):
    """session_idle_timeout (contract sections 1 and 7)."""

    @live(real_srt={}, data={**KEEP, "session_idle_timeout": 1.5})
    def test_idle(self, gateway: Gateway) -> None:
        """Counted from the last message of either side; then both are closed."""
        self.witness = gateway.fe11("eye", source="127.0.0.1")
        unless_too_slow(lambda: self.idle(gateway))

    def idle(self, gateway: Gateway) -> None:
        self.empty(self.witness, gateway.srt[0])
        be = self.call(gateway, "#!::x-role=BE")
        self.ready(self.witness, gateway.srt[0])
        last = time.monotonic()
        fe = self.call(gateway, FE)
        for one, two in ((fe, be), (be, fe), (fe, be)):
            with too_slow_after(1.5, last):
                self.assertRaises(TimeoutError, two.receive, 0.6)
                last = time.monotonic()
                one.send(b"?")
                self.assertEqual(two.receive(), b"?")
        self.assertEqual([one.receive_all(late=False) for one in (fe, be)], [[], []])
        self.assertGreater(time.monotonic() - last, 1.4)
        end = self.witness.expect("session_end")
        self.assertEqual((end["cause"], end["fe_to_be_bytes"]), ("idle_timeout", 2))
        self.assertEqual(end["error"], "nothing moved for 1.5 s")
        self.empty(self.witness, gateway.srt[0])

    @live(real_srt={"fan_out": 2}, data={**OPEN, "session_idle_timeout": 0.5})
    def test_watchers(self, gateway: Gateway) -> None:
        """All of them see that nothing comes; waiting before and after it is not idle."""
        watcher, port = gateway.fe11(), gateway.srt[0]
        be = self.call(gateway, BE)
        self.ready(watcher, port)
        self.assertRaises(TimeoutError, be.receive, 1.0)
        fes = [self.call(gateway, FE) for _ in range(2)]
        self.assertEqual([one.receive_all(late=False) for one in (*fes, be)], [[], [], []])
        self.empty(watcher, port)
