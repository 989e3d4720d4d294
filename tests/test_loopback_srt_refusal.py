"""Why an SRT caller is turned away: by the reason that libsrt tells it, and by the log."""

from __future__ import annotations

from tests.live import Gateway, live
from tests.srt_live import BE, FE, MISSING, OPEN, Lines, SrtCase, logged

if not MISSING:
    from tests.srt_peer import Ended

BAD_SECRET, UNSECURE = 10, 11
"""Two of libsrt's own reasons (SRT_REJECT_REASON)."""
A_PASSPHRASE = {"srt_passphrase": "a passphrase"}
CALLERS = 20
"""Of whom a quarter took no notice where they were closed as soon as they were there."""


class RefusalCase(SrtCase):
    """What the tests here share."""

    def told(
        self, gateway: Gateway, lines: Lines, reason: int, code: str, text: str, port: int = 0
    ) -> None:
        """The log has a line with port, address, reason and text."""
        begin = f"srt port {port or gateway.srt[0]} refuses 127.0.0.1 with {reason}: {code}: "
        lines.wait_for(begin, text)


class OpenAdmission(RefusalCase):
    """With ``data.admission`` open, everything but the address counts."""

    @live(real_srt={}, data=OPEN)
    def test_stream_ids(self, gateway: Gateway) -> None:
        """What cannot be read is a bad request, and what cannot be done a bad mode."""
        cases: tuple[tuple[str | bytes, int, str, str], ...] = (
            (b"#!::u=\xff\xfe", 1400, "HELLO_INVALID", "is not UTF-8"),
            (b"name\x01", 1400, "HELLO_INVALID", "control characters"),
            ("#!:{u=cam}", 1400, "HELLO_INVALID", "allowed: #!::key=value"),
            ("#!::u", 1400, "HELLO_INVALID", "is not key=value"),
            ("#!::u=a,u=b", 1400, "HELLO_INVALID", "u more than once"),
            ("#!::x-role=CAMERA", 1400, "HELLO_INVALID", 'x-role is "CAMERA"'),
            ("#!::s=" + "x" * 300, 1400, "HELLO_INVALID", "longer than 256 bytes"),
            ("#!::m=play", 1405, "HELLO_INVALID", 'm is "play"; allowed: request, publish'),
        )
        with logged() as lines:
            for streamid, reason, code, text in cases:
                self.assertEqual(self.rejected(gateway, streamid), reason, streamid)
                self.told(gateway, lines, reason, code, text)

    @live(real_srt={}, data=OPEN)
    def test_no_be(self, gateway: Gateway) -> None:
        with logged() as lines:
            for streamid in (FE, "#!::x-role=FE", "#!::x-role=FE,m=publish"):
                self.assertEqual(self.rejected(gateway, streamid), 1404, streamid)
            self.told(gateway, lines, 1404, "PORT_EMPTY", "no BE waits on port")

    @live(real_srt={}, data=OPEN)
    def test_busy(self, gateway: Gateway) -> None:
        """Another BE on a port that has one, and anybody on a port with a session."""
        watcher, port = gateway.fe11(), gateway.srt[0]
        self.call(gateway, BE)
        self.ready(watcher, port)
        with logged() as lines:
            self.assertEqual(self.rejected(gateway, "#!::u=other,m=publish"), 1409)
            self.told(gateway, lines, 1409, "PORT_BUSY", "another BE waits")
            self.call(gateway, FE)
            watcher.state(lambda state: state["srt_busy"] == 1)
            for streamid in (FE, "", "somebody's own name", "#!::u=other,m=publish"):
                self.assertEqual(self.rejected(gateway, streamid), 1409, streamid)
            self.told(gateway, lines, 1409, "PORT_BUSY", "a session runs on port")

    @live(real_srt={}, data=OPEN)
    def test_both_publish(self, gateway: Gateway) -> None:
        watcher = gateway.fe11()
        self.call(gateway, BE)
        self.ready(watcher, gateway.srt[0])
        with logged() as lines:
            self.assertEqual(self.rejected(gateway, "#!::x-role=FE,m=publish"), 1405)
            self.told(gateway, lines, 1405, "HELLO_INVALID", "publishes, and so does the FE")
        fe = self.call(gateway, "#!::x-role=FE,m=request")  # the port is none the worse for it
        self.assertTrue(fe.connected)

    @live(real_srt={}, data=OPEN)
    def test_wrong_transport(self, gateway: Gateway) -> None:
        """A BE by TCP takes no FE by SRT without a bridge, nor the other way."""
        watcher = gateway.fe11()
        one, two = gateway.srt
        gateway.waiting(one)
        self.refreshed(gateway)
        with logged() as lines:
            self.assertEqual(self.rejected(gateway, FE, one), 1406)
            self.told(gateway, lines, 1406, "NOT_ADMITTED", "is connected by TCP, the FE by SRT")
        self.call(gateway, BE, two)
        self.ready(watcher, two)
        fe = gateway.entering(two)
        self.assertEqual(fe.refusal(), "NOT_ADMITTED")

    @live(real_srt={}, data=OPEN)
    def test_live_and_buffer_mode(self, gateway: Gateway) -> None:
        watcher = gateway.fe11()
        self.call(gateway, "#!::x-role=BE,t=file", live=False)
        self.ready(watcher, gateway.srt[0])
        with logged() as lines:
            self.assertEqual(self.rejected(gateway, "#!::x-role=FE"), 1406)
            self.told(gateway, lines, 1406, "NOT_ADMITTED", "in SRT's buffer mode, the FE in live")

    @live(real_srt={}, data=OPEN)
    def test_buffer_mode_that_was_not_announced(self, gateway: Gateway) -> None:
        """libsrt itself refuses it, and the log tells that too."""
        self.rejected(gateway, "#!::x-role=BE", live=False)
        with logged() as lines:
            reason = self.rejected(gateway, "#!::x-role=BE", live=False)
            self.assertTrue(0 < reason < 1000, reason)
            lines.wait_for("refuses 127.0.0.1", "its handshake failed", "without t=file")

    @live(real_srt={}, data=OPEN)
    def test_zmq_ports_have_no_udp(self, gateway: Gateway) -> None:
        """Nobody answers there, which is libsrt's time-out."""
        self.assertEqual(self.rejected(gateway, BE, gateway.zmq[0], timeout=0.5), 16)

    @live(real_srt={}, data=OPEN)
    def test_unknown_session(self, gateway: Gateway) -> None:
        watcher = gateway.fe11()
        self.call(gateway, BE)
        self.ready(watcher, gateway.srt[0])
        with logged() as lines:
            for streamid in ("#!::s=nobody's,m=request", "#!::s=nobody's", "#!::x-ticket=nobody's"):
                self.assertEqual(self.rejected(gateway, streamid), 1404, streamid)
            self.told(gateway, lines, 1404, "NOT_ADMITTED", "")

    @live(real_srt={}, data=OPEN)
    def test_reserved(self, gateway: Gateway) -> None:
        """A port under a lease is for whoever has the lease: forbidden to others."""
        owner, port = gateway.fe11("owner", source="127.66.6.6"), gateway.srt[0]
        self.call(gateway, BE)
        self.ready(owner, port)
        grant = owner.acquire(need_srt=True, transport="srt")
        self.assertEqual(grant["srt_port"], port)
        with logged() as lines:
            self.assertEqual(self.rejected(gateway, FE), 1403)
            self.told(gateway, lines, 1403, "PORT_RESERVED", "kept for another FE by a lease")
        fe = self.call(gateway, f"#!::s={grant['session_id']}")
        self.assertTrue(fe.connected)

    @live(real_srt={}, data=OPEN)
    def test_reserved_for_a_be(self, gateway: Gateway) -> None:
        owner = gateway.be11("cam", source="127.77.7.7")
        grant = owner.acquire(need_srt=True, transport="srt")
        with logged() as lines:
            self.assertEqual(self.rejected(gateway, "#!::m=publish", grant["srt_port"]), 1403)
            self.told(gateway, lines, 1403, "PORT_RESERVED", "", grant["srt_port"])
        be = self.call(gateway, BE, grant["srt_port"])
        self.ready(owner, grant["srt_port"])
        self.assertTrue(be.connected)

    @live(
        real_srt={}, data=OPEN,
        clients=[{"match": "cam", "roles": ("BE",), "protocols": ("zmq",)}],
    )  # fmt: skip
    def test_policy(self, gateway: Gateway) -> None:
        """Who may not use srt ports is forbidden to."""
        gateway.be11("cam", source="127.66.6.6")
        with logged() as lines:
            self.assertEqual(self.rejected(gateway, BE), 1403)
            self.told(gateway, lines, 1403, "NOT_ADMITTED", "zmq")
        self.assertTrue(self.call(gateway, "#!::u=other,m=publish").connected)

    @live(real_srt={}, data=OPEN)
    def test_after_the_handshake(self, gateway: Gateway) -> None:
        """Who was let in by what was so a moment ago is told, and not left to find out."""
        watcher, port = gateway.fe11(), gateway.srt[0]
        handshakes = gateway.service.data.srt.handshakes
        for name in ("changed", "refresh"):  # it goes on deciding by the empty port
            self.patch(handshakes, name, lambda: None)
        self.call(gateway, "#!::u=one,m=publish")
        self.ready(watcher, port)
        told = 0
        for _ in range(CALLERS):
            caller = self.call(gateway, "#!::u=two,m=publish", peeridletimeo=600_000)
            try:
                self.assertRaises(Ended, caller.receive, 20)
                told += 1
            except self.failureException:
                pass  # it stood still itself, as it can on a busy machine
            caller.close()
        self.assertGreaterEqual(told, CALLERS - 1)

    @live(real_srt={}, data={**OPEN, "drain_timeout": 20.0})
    def test_draining(self, gateway: Gateway) -> None:
        """A gateway that stops takes nobody, and what runs goes on."""
        watcher, port = gateway.fe11(), gateway.srt[0]
        be = self.call(gateway, BE)
        self.ready(watcher, port)
        fe = self.call(gateway, FE)
        watcher.state(lambda state: state["srt_busy"] == 1)
        with logged() as lines:
            gateway.stop()
            lines.wait_for("stopping: 1 sessions run")
            self.refreshed(gateway)
            self.assertEqual(self.rejected(gateway, BE, gateway.srt[1]), 1402)
            self.told(gateway, lines, 1402, "DRAINING", "the gateway is stopping", gateway.srt[1])
        be.send(b"to the end")
        self.assertEqual(fe.receive(), b"to the end")
        be.close()


class Secured(RefusalCase):
    """With a passphrase, which libsrt compares by itself after the gateway has decided."""

    def failed_handshake(self, gateway: Gateway, lines: Lines, passphrase: str) -> int:
        """Fail at it; the reason that the caller gets, which libsrt tells nobody else."""
        reason = self.rejected(gateway, BE, passphrase=passphrase)
        begin = f"srt port {gateway.srt[0]} refuses 127.0.0.1 with a reason of libsrt: "
        lines.wait_for(begin, "NOT_ADMITTED: its handshake failed", "the passphrase is another")
        lines.all.clear()
        return reason

    @live(real_srt={}, data=OPEN, secrets=A_PASSPHRASE)
    def test_wrong_passphrase(self, gateway: Gateway) -> None:
        with logged() as lines:
            for passphrase, reason in (("another one", BAD_SECRET), ("", UNSECURE)):
                self.assertEqual(self.failed_handshake(gateway, lines, passphrase), reason)
        self.assertFalse([line for line in lines.all if "a passphrase" in line])

    @live(real_srt={}, data=OPEN)
    def test_none_here(self, gateway: Gateway) -> None:
        with logged() as lines:
            self.assertEqual(self.failed_handshake(gateway, lines, "one of its own"), UNSECURE)

    @live(real_srt={"pbkeylen": 32}, data=OPEN, secrets=A_PASSPHRASE)
    def test_longer_key(self, gateway: Gateway) -> None:
        watcher = gateway.fe11()
        be = self.call(gateway, BE, passphrase="a passphrase", pbkeylen=16)
        self.ready(watcher, gateway.srt[0])
        fe = self.call(gateway, FE, passphrase="a passphrase", pbkeylen=32)
        be.send(b"hidden")
        self.assertEqual(fe.receive(), b"hidden")


class PeerAdmission(RefusalCase):
    """With ``data.admission`` peer, the default, addresses of registered clients are let in."""

    @live(real_srt={})
    def test_by_address(self, gateway: Gateway) -> None:
        port = gateway.srt[0]
        with logged() as lines:
            for streamid, role in ((BE, "BE"), (FE, "FE"), ("", "BE"), ("#!::x-role=FE", "FE")):
                self.assertEqual(self.rejected(gateway, streamid), 1401, streamid)
                self.told(gateway, lines, 1401, "NOT_ADMITTED", f"no {role} is registered from")
        client = gateway.be11("cam", source="127.0.0.1")
        self.assertEqual(self.rejected(gateway, FE), 1401)
        be = self.call(gateway, BE)
        self.ready(gateway.fe11("eye", source="127.0.0.1"), port)
        fe = self.call(gateway, FE)
        be.send(b"let in")
        self.assertEqual(fe.receive(), b"let in")
        client.close()

    @live(real_srt={})
    def test_roles_by_who_is_registered(self, gateway: Gateway) -> None:
        """Without a stream id: BE first, then FE."""
        gateway.be11("cam", source="127.0.0.1")
        watcher = gateway.fe11("eye", source="127.0.0.1")
        be = self.call(gateway)
        self.ready(watcher, gateway.srt[0])
        fe = self.call(gateway, "a name of its own")
        be.send(b"x")
        self.assertEqual(fe.receive(), b"x")
        fe.send(b"y")
        self.assertEqual(be.receive(), b"y")


class TicketAdmission(RefusalCase):
    """With ``data.admission`` ticket, an FE has its lease's ticket, a BE a registered id."""

    @live(real_srt={}, data={"admission": "ticket"})
    def test_ticket(self, gateway: Gateway) -> None:
        port = gateway.srt[0]
        with logged() as lines:
            self.assertEqual(self.rejected(gateway, BE), 1401)
            self.told(gateway, lines, 1401, "NOT_ADMITTED", 'no BE of client_id "cam"')
            gateway.be11("cam", source="127.0.0.1")
            be = self.call(gateway, BE)
            owner = gateway.fe11("eye", source="127.66.6.6")
            self.ready(owner, port)
            for streamid in (FE, "#!::m=request,x-ticket="):
                self.assertEqual(self.rejected(gateway, streamid), 1401, streamid)
            self.told(gateway, lines, 1401, "NOT_ADMITTED", "no ticket of a lease")
            self.assertEqual(self.rejected(gateway, "#!::m=request,x-ticket=guessed"), 1404)
            grant = owner.acquire(need_srt=True, transport="srt")
            ticket = grant["ticket"]
            self.assertEqual(self.rejected(gateway, f"#!::s={grant['session_id']}"), 1401)
            fe = self.call(gateway, f"#!::x-ticket={ticket}")
            be.send(b"by ticket")
            self.assertEqual(fe.receive(), b"by ticket")
        self.assertFalse([line for line in lines.all if ticket in line])
