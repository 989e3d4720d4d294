"""What a reload changes of SRT, on real connections."""

from __future__ import annotations

import socket

from relayx.zmtp import greeting_bytes
from tests.guide_peer import EndedError
from tests.reloading import Filed, filed
from tests.srt_live import BE, FE, OPEN, SrtCase

SRT = {"latency": 100}


class ReloadCase(SrtCase):
    """What the tests here share."""

    def takes_srt(self, gateway: Filed, port: int) -> None:
        """A UDP port answers callers; it is nobody's, so an FE is refused there."""
        self.assertEqual(self.rejected(gateway, "#!::x-role=FE", port), 1404)

    def takes_no_srt(self, gateway: Filed, port: int) -> None:
        """It does not, though a caller asks again after a second."""
        self.assertEqual(self.rejected(gateway, "#!::x-role=FE", port, timeout=2.5), 16)

    def takes_zmtp(self, gateway: Filed, port: int) -> bool:
        """Whether who greets by ZMTP is greeted; the connection is closed where not."""
        link = gateway.dial(port)
        link.send(greeting_bytes())
        try:
            self.assertEqual(link.receive(1), greeting_bytes()[:1])
        except EndedError:
            return False
        link.close()
        return True


class Options(ReloadCase):
    """libsrt's, for connections that come from then on."""

    @filed(real_srt=SRT, data=OPEN)
    def test_latency(self, gateway: Filed) -> None:
        watcher, port = gateway.fe11(), gateway.srt[0]
        be = self.call(gateway, BE)
        self.ready(watcher, port)
        fe = self.call(gateway, FE)
        self.assertEqual((fe.get("rcvlatency"), fe.get("peerlatency")), (100, 100))
        for latency, peer in ((300, 250), (40, 60)):
            gateway.reload(srt={"latency": latency, "peerlatency": peer})
            other = self.call(gateway, "#!::u=other,m=publish", gateway.srt[1])
            self.assertEqual((other.get("peerlatency"), other.get("rcvlatency")), (latency, peer))
            other.close()
            self.empty(watcher, gateway.srt[1])
        be.send(b"goes on")
        self.assertEqual(fe.receive(), b"goes on")
        self.assertEqual((fe.get("rcvlatency"), fe.get("peerlatency")), (100, 100))

    @filed(real_srt=SRT, data=OPEN)
    def test_passphrase(self, gateway: Filed) -> None:
        """There from now on, another one, and gone again; what runs goes on."""
        watcher, port = gateway.fe11(), gateway.srt[0]
        be = self.call(gateway, BE)
        self.ready(watcher, port)
        fe = self.call(gateway, FE)
        for passphrase in ("the first one", "the second one", ""):
            gateway.reload({"srt_passphrase": passphrase} if passphrase else None)
            wrong = "the one before" if passphrase else "any at all"
            self.assertIn(self.rejected(gateway, BE, gateway.srt[1], passphrase=wrong), (10, 11))
            other = self.call(gateway, BE, gateway.srt[1], passphrase=passphrase)
            self.ready(watcher, gateway.srt[1])
            other.close()
            self.empty(watcher, gateway.srt[1])
        be.send(b"goes on")
        self.assertEqual(fe.receive(), b"goes on")

    @filed(real_srt=SRT, data=OPEN)
    def test_every_other(self, gateway: Filed) -> None:
        """There and back."""
        more = {
            "rcvbuf": 3_000_000, "sndbuf": 2_000_000, "fc": 5000,
            "payloadsize": 1300, "tlpktdrop": False, "pbkeylen": 16, "mss": 1400,
            "snddropdelay": 20, "lossmaxttl": 5, "maxbw": 10**7, "conntimeo": 2000,
        }  # fmt: skip
        watcher, port = gateway.fe11(), gateway.srt[0]
        for changed in (more, dict.fromkeys(more)):
            gateway.reload(srt=changed)
            be = self.call(gateway, BE)
            self.ready(watcher, port)
            fe = self.call(gateway, FE)
            be.send(bytes(1000))
            self.assertEqual(fe.receive(), bytes(1000))
            be.close()
            self.empty(watcher, port)


class Rules(ReloadCase):
    """What the gateway decides by, at once."""

    @filed(real_srt=SRT, data=OPEN)
    def test_fan_out(self, gateway: Filed) -> None:
        watcher = gateway.fe11()
        gateway.reload(srt={"fan_out": 2})
        be = self.call(gateway, BE)
        self.ready(watcher, gateway.srt[0])
        fes = [self.call(gateway, FE) for _ in range(2)]
        self.watched(gateway, watcher, len(fes))
        self.assertEqual(self.rejected(gateway, FE), 1409)
        gateway.reload(srt={"fan_out": 3})
        self.refreshed(gateway)
        fes.append(self.call(gateway, FE))
        self.watched(gateway, watcher, len(fes))
        gateway.reload(srt={"fan_out": 1})
        self.refreshed(gateway)
        self.assertEqual(self.rejected(gateway, FE), 1409)
        be.send(b"to all three")
        self.assertEqual([fe.receive() for fe in fes], [b"to all three"] * 3)

    @filed(real_srt=SRT, data=OPEN)
    def test_bridge(self, gateway: Filed) -> None:
        port = gateway.srt[0]
        gateway.waiting(port)
        self.refreshed(gateway)
        self.assertEqual(self.rejected(gateway, FE), 1406)
        gateway.reload(srt={"bridge": True})
        self.refreshed(gateway)
        self.assertTrue(self.call(gateway, FE).connected)

    @filed(real_srt=SRT, data=OPEN)
    def test_idle_timeout(self, gateway: Filed) -> None:
        """Of sessions that run, too."""
        watcher, port = gateway.fe11(), gateway.srt[0]
        be = self.call(gateway, BE)
        self.ready(watcher, port)
        fe = self.call(gateway, FE)
        be.send(b"begins")
        self.assertEqual(fe.receive(), b"begins")
        gateway.reload(data={**OPEN, "session_idle_timeout": "300ms"})
        self.assertEqual([one.receive_all(late=False) for one in (fe, be)], [[], []])
        self.empty(watcher, port)


class Ports(ReloadCase):
    """The UDP side of ports that come and go."""

    @filed(real_srt=SRT, data=OPEN)
    def test_added_and_removed(self, gateway: Filed) -> None:
        more = gateway.srt[-1] + 1
        self.takes_no_srt(gateway, more)
        for _ in range(3):
            gateway.reload(relay=gateway.ports(3, 3))
            self.takes_srt(gateway, more)
            gateway.reload(relay=gateway.ports(3, 2))
        self.takes_no_srt(gateway, more)
        self.takes_srt(gateway, gateway.srt[0])

    @filed(real_srt=SRT, data=OPEN)
    def test_who_waits_on_a_removed_port(self, gateway: Filed) -> None:
        """It is closed; a session there goes on to its end."""
        watcher = gateway.fe11()
        one, two = gateway.srt
        be = self.call(gateway, BE, two)
        self.ready(watcher, two)
        running = self.call(gateway, BE, one)
        self.ready(watcher, one)
        fe = self.call(gateway, FE, one)
        watcher.state(lambda state: state["srt_busy"] == 1)
        gateway.reload(relay=gateway.ports(3, 0))
        self.assertEqual(be.receive_all(late=False), [])
        running.send(b"goes on")
        self.assertEqual(fe.receive(), b"goes on")
        gateway.reload()
        self.refreshed(gateway)
        # libsrt has had the port all the time, for the session's sake
        self.assertEqual(self.rejected(gateway, BE, one), 1409)
        running.send(b"still")
        self.assertEqual(fe.receive(), b"still")

    @filed(real_srt=SRT, data=OPEN)
    def test_other_protocol(self, gateway: Filed) -> None:
        """A port has what its protocol has: SRT, or ZMTP without HELLO."""
        zmq, srt = gateway.zmq, gateway.srt
        swapped = {
            "zmq_start_port": srt[0], "zmq_end_port": srt[-1],
            "srt_start_port": zmq[0], "srt_end_port": zmq[-1],
        }  # fmt: skip
        for relay, of_zmq, of_srt in ((None, zmq, srt), (swapped, srt, zmq), (None, zmq, srt)):
            gateway.reload(**({"relay": relay} if relay else {}))
            self.assertEqual([self.takes_zmtp(gateway, n) for n in (of_zmq[0], of_srt[0])], [1, 0])
            self.takes_no_srt(gateway, of_zmq[0])
            self.takes_srt(gateway, of_srt[0])

    @filed(real_srt=SRT, data=OPEN)
    def test_other_protocol_that_cannot_be(self, gateway: Filed) -> None:
        """Somebody else has the UDP port: all is as it was."""
        zmq, srt = gateway.zmq, gateway.srt
        swapped = {
            "zmq_start_port": None, "zmq_end_port": None,
            "srt_start_port": zmq[0], "srt_end_port": zmq[-1],
        }  # fmt: skip
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind((gateway.host, zmq[1]))
            self.assertIn(f"{zmq[1]}", gateway.refused(relay=swapped))
            self.assertTrue(self.takes_zmtp(gateway, zmq[0]))
            self.takes_no_srt(gateway, zmq[0])
            self.takes_srt(gateway, srt[0])
        gateway.reload(relay=swapped)
        self.takes_srt(gateway, zmq[0])

    @filed(srt=0, real_srt=SRT, data=OPEN)
    def test_the_first_ones(self, gateway: Filed) -> None:
        """SRT begins with them."""
        port = gateway.zmq[0] - 100
        keys = {"srt_start_port": port, "srt_end_port": port}
        gateway.reload(relay=keys)
        self.takes_srt(gateway, port)
