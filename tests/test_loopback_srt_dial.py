"""Peers that the gateway calls itself (``srt.dial``), and rendezvous."""

from __future__ import annotations

import socket
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from msgspec import structs
from twisted.internet import reactor, threads

from relayx.config.srt import DialMode, DialRole, Enabled, SrtDial
from relayx.srt import dialing
from relayx.srt.binding import Library
from tests.guide_peer import DEADLINE, Control, Data
from tests.live import Gateway, hosted, on_free_ports, random_host, service_for
from tests.srt_live import BE, FE, MISSING, Lines, SrtCase, logged, numbered

if not MISSING:
    from tests.srt_peer import SrtPeer

SOON = 0.05
"""Seconds until the gateway calls again, so that a test need not wait for longer."""


def free_port() -> int:
    """A UDP port that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Calling(Gateway):
    """A gateway that calls.

    :ivar at: the UDP port that it calls at 127.0.0.1.
    """

    at: int


def calling(
    role: DialRole,
    mode: DialMode = DialMode.CALLER,
    streamid: str = "",
    host: str = "127.0.0.1",
    **keys: Any,
) -> Callable[[Callable[..., None]], Any]:
    """As live: with a gateway whose first srt port has such a peer.

    :param keys: of the section ``srt``.
    """

    def start(case: Any) -> Gateway:
        case.patch(dialing, "FIRST_WAIT", SOON)
        case.patch(dialing, "LONGEST_WAIT", SOON)
        return on_free_ports(begin)

    def begin() -> Gateway:
        gateway = Calling(random_host(), 1, 2)
        gateway.at = free_port()
        dial = SrtDial(gateway.srt[0], f"{host}:{gateway.at}", role, streamid, mode)
        srt: dict[str, Any] = {
            "enabled": Enabled.YES,
            "dial": (dial,),
            "latency": 20,
            "conntimeo": 50_000,
        }
        srt["bridge"] = mode is DialMode.RENDEZVOUS
        srt.update(keys)
        service = service_for(gateway, {"srt": srt, "data": {"admission": "peer"}})
        service.privilegedStartService()
        service.startService()
        gateway.service = service
        return gateway

    return hosted(start)


class CallCase(SrtCase):
    """What tests of calls share."""

    def note(self, name: str) -> SimpleQueue[int]:
        """The time-outs of calls from now on, in milliseconds; `name`: of Library's method."""
        timeouts: SimpleQueue[int] = SimpleQueue()
        call = getattr(Library, name)

        def noted(library: Library, sock: int, *where: Any) -> None:
            timeouts.put(library.get(sock, "conntimeo"))
            call(library, sock, *where)

        self.patch(Library, name, noted)
        return timeouts

    def forget_told(self, gateway: Calling, lines: Lines) -> None:
        """Have every trouble told once more, and no more than that."""

        def forget() -> None:
            next(iter(gateway.service.data.srt.callers))._told.clear()  # type: ignore[union-attr]
            lines.all.clear()

        threads.blockingCallFromThread(reactor, forget)


class Sources(CallCase):
    """A BE that waits to be called."""

    def serving(self, gateway: Calling, **options: Any) -> SrtPeer:
        """One that listens where the gateway calls."""
        options.setdefault("latency", 20)
        peer = SrtPeer.listen(port=gateway.at, **options)
        gateway.before_closing(peer.close)
        return peer

    def accepted(self, gateway: Calling, listener: SrtPeer) -> SrtPeer:
        """The gateway's call."""
        peer = listener.accept()
        gateway.before_closing(peer.close)
        return peer

    @calling(DialRole.BE)
    def test_packet_filter_of_the_source(self, gateway: Calling) -> None:
        """It decides on one, and every message that fits beside it goes on."""
        filtered = {"payloadsize": 1452, "packetfilter": "fec,cols:10"}
        be = self.accepted(gateway, self.serving(gateway, **filtered))
        self.ready(gateway.fe11(), gateway.srt[0])
        fe = self.call(gateway, FE)
        be.send(bytes(1452))
        self.assertEqual(fe.receive(), bytes(1452))

    @calling(DialRole.BE, streamid="#!::r=cam-7,m=request")
    def test_source(self, gateway: Calling) -> None:
        """It is called by its stream id, is let in from wherever it is, and serves FEs."""
        asked: list[bytes] = []

        def answer(streamid: bytes) -> int:
            asked.append(streamid)
            return 0

        be = self.accepted(gateway, self.serving(gateway, answer=answer))
        self.assertEqual(set(asked), {b"#!::r=cam-7,m=request"})
        watcher, port = gateway.fe11("eye", source="127.0.0.1"), gateway.srt[0]
        self.ready(watcher, port)
        fe = self.call(gateway, FE)
        messages = numbered(0, 50)
        for message in messages:
            be.send(message)
        self.assertEqual([fe.receive() for _ in messages], messages)
        fe.send(b"back")
        self.assertEqual(be.receive(), b"back")

    @calling(DialRole.BE, conntimeo=300)
    def test_nobody_there(self, gateway: Calling) -> None:
        """It is called again and again, which the log tells once; and when it goes, too."""
        watcher, port = gateway.fe11("eye", source="127.0.0.1"), gateway.srt[0]
        with logged() as lines:
            text = f"srt port {port} calls BE 127.0.0.1:{gateway.at}: no answer; tries again in"
            self.forget_told(gateway, lines)
            lines.wait_for(text)
            ports, timeouts = gateway.service.data.srt.ports, self.note("connect")
            options = (*ports._settings.options, ("conntimeo", 50_000))
            ports.change(structs.replace(ports._settings, options=options))
            while timeouts.get(timeout=DEADLINE) == 300:
                pass  # which ends before it has an answer where the machine is busy
            listener = self.serving(gateway)
            be = self.accepted(gateway, listener)
            self.ready(watcher, port)
            self.assertEqual(len([line for line in lines.all if text in line]), 1)
            be.close()
            self.empty(watcher, port)
            be = self.accepted(gateway, listener)
            self.ready(watcher, port)
        fe = self.call(gateway, FE)
        be.send(b"back again")
        self.assertEqual(fe.receive(), b"back again")

    @calling(DialRole.BE)
    def test_refused(self, gateway: Calling) -> None:
        """Why is in the log."""
        with logged() as lines:
            self.serving(gateway, answer=lambda streamid: 1403)
            lines.wait_for(f"calls BE 127.0.0.1:{gateway.at}: refused: ", "(1403); tries again in")

    @calling(DialRole.BE, host="no-such-host.invalid")
    def test_no_such_name(self, gateway: Calling) -> None:
        with logged() as lines:
            self.forget_told(gateway, lines)
            lines.wait_for("calls BE no-such-host.invalid:", "; tries again in")

    @calling(DialRole.BE, conntimeo=300)
    def test_port_is_another_bes(self, gateway: Calling) -> None:
        """While somebody has come by itself, nobody is called."""
        client = gateway.be11("cam", source="127.0.0.1")
        watcher, port = gateway.fe11("eye", source="127.0.0.1"), gateway.srt[0]
        be = self.call(gateway, BE)
        self.ready(watcher, port)
        listener = self.serving(gateway)
        try:
            begun_before = listener.accept(0.5)
        except TimeoutError:  # such a call lasts 300 ms, and none is left of it
            pass
        else:
            self.assertEqual(begun_before.receive_all(late=False), [])
            begun_before.close()
        self.assertRaises(TimeoutError, listener.accept, 0.5)
        be.close()
        self.accepted(gateway, listener)
        self.ready(watcher, port)
        client.close()

    @calling(DialRole.FE)
    def test_sink(self, gateway: Calling) -> None:
        """An FE is called as soon as there is a BE for it, and again for the next one."""
        watcher = gateway.be11("cam", source="127.0.0.1")
        listener = self.serving(gateway)
        self.assertRaises(TimeoutError, listener.accept, 0.3)
        for turn in range(2):
            self.empty(watcher, gateway.srt[0])
            be = self.call(gateway, BE)
            fe = self.accepted(gateway, listener)
            said = b"turn %d" % turn
            be.send(said)
            self.assertEqual(fe.receive(), said)
            be.drain()
            be.close()
            self.assertEqual(fe.receive_all(late=False), [])


class Refused(SrtCase):
    """A peer that the rules would refuse is not called, and the log says once why."""

    def setUp(self) -> None:
        self.calls: SimpleQueue[tuple[str, int]] = SimpleQueue()
        connect = Library.connect

        def noted(library: Library, sock: int, host: str, port: int) -> None:
            self.calls.put((host, port))
            connect(library, sock, host, port)

        self.patch(Library, "connect", noted)

    def why(self, lines: Lines, code: str) -> list[str]:
        """The lines that say why nobody is called, one of which is there."""
        lines.wait_for("not now, ", code)
        return [line for line in lines.all if code in line]

    @calling(DialRole.FE)
    def test_sink_for_a_be_by_tcp(self, gateway: Calling) -> None:
        """Nobody is called until there is a BE by SRT."""
        watcher, port = gateway.be11("cam", source="127.0.0.1"), gateway.srt[0]
        for turn in range(3):
            with logged() as lines:
                by_tcp = gateway.waiting(port, source="127.0.0.1")
                watcher.state(lambda state: port in state["srt_ready_ports"])
                if not turn:
                    (line,) = self.why(lines, "NOT_ADMITTED")
                    self.assertIn("connected by TCP, the FE by SRT; srt.bridge is off", line)
                by_tcp.close()
                self.empty(watcher, port)
            if turn:
                self.assertEqual([line for line in lines.all if "NOT_ADMITTED" in line], [])
        self.assertTrue(self.calls.empty())
        listener = SrtPeer.listen(port=gateway.at, latency=20)
        gateway.before_closing(listener.close)
        be = self.call(gateway, BE)
        with listener.accept() as fe:
            be.send(b"by SRT")
            self.assertEqual(fe.receive(), b"by SRT")

    @calling(DialRole.BE, conntimeo=300)
    def test_source_on_anothers_lease(self, gateway: Calling) -> None:
        """It is called as soon as the lease is over."""
        owner = gateway.be11("cam", source=gateway.host)
        self.calls.get(timeout=DEADLINE)
        with logged() as lines:
            grant = owner.acquire(need_srt=True, transport="srt", ttl_seconds=600)
            self.assertEqual(grant["srt_port"], gateway.srt[0])
            (line,) = self.why(lines, "PORT_RESERVED")
            self.assertIn('is kept for BE "cam" by a lease', line)
            before = self.calls.qsize()
            listener = SrtPeer.listen(port=gateway.at, latency=20)
            gateway.before_closing(listener.close)
            gateway.be11("other").acquire(need_srt=True)  # the rules' state changes
            self.assertRaises(TimeoutError, listener.accept, 0.5)
            self.assertEqual(self.calls.qsize(), before)
            self.assertEqual(len(self.why(lines, "PORT_RESERVED")), 1)
        owner.say("port_release", {"session_id": grant["session_id"]})
        listener.accept().close()

    @calling(DialRole.BE)
    def test_source_that_closes_at_once(self, gateway: Calling) -> None:
        """Each call counts as one that failed."""
        ends = self.ends(gateway)
        with logged() as lines:
            listener = SrtPeer.listen(port=gateway.at, latency=20)
            gateway.before_closing(listener.close)
            while ends.empty():
                listener.accept().close()
            line = lines.wait_for("it closed the connection at once")
        self.assertIn("tries again in", line)
        self.assertEqual(ends.get(), {"served": False, "by_peer": True})
        self.assertEqual([line for line in lines.all if "Unknown or erroneous" in line], [])

    def ends(self, gateway: Calling) -> SimpleQueue[dict[str, bool]]:
        """How the connections of the gateway's calls end from now on."""
        ends: SimpleQueue[dict[str, bool]] = SimpleQueue()
        caller = next(iter(gateway.service.data.srt.callers))  # type: ignore[union-attr]
        ended = caller.ended
        self.patch(caller, "ended", lambda **how: (ends.put(how), ended(**how)))
        return ends

    @calling(DialRole.FE)
    def test_who_ends_a_sinks_session(self, gateway: Calling) -> None:
        """The BE, or the sink by itself."""
        watcher = gateway.be11("cam", source="127.0.0.1")
        self.end_sessions(gateway, watcher, lambda: self.call(gateway, BE))

    @calling(DialRole.FE, bridge=True)
    def test_who_ends_a_sinks_session_with_tcp(self, gateway: Calling) -> None:
        watcher = gateway.be11("cam", source="127.0.0.1")
        self.end_sessions(
            gateway, watcher, lambda: gateway.waiting(gateway.srt[0], source="127.0.0.1")
        )

    def end_sessions(
        self, gateway: Calling, watcher: Control, new_be: Callable[[], SrtPeer | Data]
    ) -> None:
        """One by the BE, and one by the sink."""
        ends = self.ends(gateway)
        listener = SrtPeer.listen(port=gateway.at, latency=20)
        gateway.before_closing(listener.close)
        for by_sink in (False, True):  # a BE that is left is there for the next call
            self.empty(watcher, gateway.srt[0])
            be = new_be()
            sink = listener.accept()
            be.send(b"begins")
            self.assertEqual(sink.receive(), b"begins")
            (sink if by_sink else be).close()
            end = ends.get(timeout=DEADLINE)
            self.assertEqual(end, {"served": True, "by_peer": by_sink})
            be.close()
            sink.close()


class WithinLeases(CallCase):
    """A call lasts no longer than the lease that its port is under."""

    @calling(DialRole.FE)
    def test_caller(self, gateway: Calling) -> None:
        timeouts = self.note("connect")
        owner = gateway.be11("cam", source="127.0.0.1")
        grant = owner.acquire(need_srt=True, transport="srt", ttl_seconds=40)
        self.assertEqual(grant["srt_port"], gateway.srt[0])
        self.call(gateway, BE)
        timeout = timeouts.get(timeout=DEADLINE)
        self.assertLessEqual(timeout, 40_000)
        self.assertGreater(timeout, 0)

    @calling(DialRole.FE, DialMode.RENDEZVOUS)
    def test_rendezvous(self, gateway: Calling) -> None:
        timeouts = self.note("rendezvous")
        owner = gateway.be11("cam", source="127.0.0.1")
        grant = owner.acquire(need_srt=True, ttl_seconds=40)
        self.assertEqual(grant["srt_port"], gateway.srt[0])
        gateway.waiting(gateway.srt[0], "cam", source="127.0.0.1")
        timeout = timeouts.get(timeout=DEADLINE)
        self.assertLessEqual(timeout, 4_000)
        self.assertGreater(timeout, 0)


class Rendezvous(SrtCase):
    """Both sides call."""

    @calling(DialRole.BE, DialMode.RENDEZVOUS)
    def test_source(self, gateway: Calling) -> None:
        """It meets the gateway at the data port's number, on which no SRT caller is let in."""
        port = gateway.srt[0]
        watcher = gateway.fe11("eye", source="127.0.0.1")
        be = SrtPeer.rendezvous(gateway.host, port, ("127.0.0.1", gateway.at), latency=20)
        gateway.before_closing(be.close)
        self.ready(watcher, port)
        fe = gateway.dial11(port, source="127.0.0.1")
        fe.hello("FE", "eye")
        fe.expect("RLX1PAIRED")
        be.send(b"met")
        self.assertEqual(fe.receive(3), b"met")
        fe.send(b"back")
        self.assertEqual(be.receive(), b"back")
        self.assertEqual(self.rejected(gateway, FE, port, timeout=0.5), 16)
        be.close()
        self.assertEqual(fe.rest(), (b"", "end"))
        fe.close()
        self.empty(watcher, port)
