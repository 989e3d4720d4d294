"""Numbers of real SRT links at a real gateway: metrics, API, link feedback, and slow watchers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from threading import Event
from typing import Any

from twisted.internet import reactor, threads
from twisted.trial.unittest import TestCase

from relayx.admin.model import Happened
from relayx.srt import session as srt_session
from tests.admin_peer import HTTP, get
from tests.guide_peer import DEADLINE
from tests.impairment import Impairment
from tests.live import NEVER, SECRET, Control11, Gateway, live
from tests.relayx_process import relayx, run_relayx
from tests.scrapes import Scrape, scrape_of, scrape_until
from tests.srt_live import number_of, numbered
from tests.srt_peer import Ended, Rejected, SrtPeer, missing
from tests.test_cli_top import where

BE = "#!::u=cam,m=publish"
FE = "#!::u=eye,m=request"
OPEN = {"admission": "open"}
MESSAGE = bytes(1316)
PACE = 0.002
"""Seconds from one message to the next."""


class Feeding:
    """Sends messages at a steady pace until it is ended, or the connection is.

    :param message: makes each from its number.
    :ivar sent: how many so far.
    """

    def __init__(
        self,
        gateway: Gateway,
        peer: SrtPeer,
        pace: float = PACE,
        message: Callable[[int], bytes] = lambda number: MESSAGE,
    ) -> None:
        self.sent = 0
        self._over = Event()
        self._done = gateway.background(self._feed, peer, pace, message)
        gateway.before_closing(self._over.set)

    def _feed(self, peer: SrtPeer, pace: float, message: Callable[[int], bytes]) -> int:
        try:
            while not self._over.wait(pace):
                peer.send(message(self.sent))
                self.sent += 1
        except Ended:
            pass
        return self.sent

    def end(self) -> int:
        """Send no more; how many were sent."""
        self._over.set()
        count: int = self._done.result(DEADLINE)
        return count


def reading(peer: SrtPeer) -> int:
    """How many messages come until the end, or until none comes for a while."""
    count = 0
    try:
        while True:
            peer.receive()
            count += 1
    except (Ended, TimeoutError):
        return count


class NumbersCase(TestCase):
    """What these tests have in common."""

    skip = missing() or None

    def call(self, gateway: Gateway, streamid: str, **options: Any) -> SrtPeer:
        address, port = options.pop("via", (gateway.host, gateway.srt[0]))
        peer = SrtPeer.connect(address, port, streamid, **options)
        gateway.before_closing(peer.close)
        return peer

    def publisher(self, gateway: Gateway, **options: Any) -> SrtPeer:
        """A BE that publishes, whose port is ready."""
        watcher = gateway.fe11("watcher")
        be = self.call(gateway, BE, **options)
        watcher.state(lambda state: gateway.srt[0] in state["srt_native_ready_ports"])
        return be

    def watcher(self, gateway: Gateway, streamid: str, **options: Any) -> SrtPeer:
        """An FE; libsrt's thread may see a moment after port_state that a BE is there."""

        def called() -> SrtPeer | None:
            try:
                return self.call(gateway, streamid, **options)
            except Rejected as refused:
                if refused.code != 1404:
                    raise
                return None

        found: SrtPeer = self.until(called, "let in")
        return found

    def registered(self, gateway: Gateway, **more: Any) -> Control11:
        """A 1.1 BE with more fields of ``register``."""
        client = gateway.open(Control11, gateway.control_port)
        told = {"role": "BE", "secret": SECRET, "client_id": "cam", "protocol": "1.1", **more}
        client.say("register", told)
        self.assertEqual(client.expect("auth")["status"], "ok")
        return client

    def until(self, true: Callable[[], Any], what: str) -> Any:
        """Look until something is so."""
        deadline = time.monotonic() + DEADLINE
        while not (found := true()):
            if time.monotonic() > deadline:
                raise AssertionError(f"never {what}")
        return found

    def lines(self, gateway: Gateway, event: str) -> list[Happened]:
        """What was logged of one kind."""
        admin = gateway.service.admin
        assert admin is not None
        found: tuple[Happened, ...] = threads.blockingCallFromThread(reactor, admin.recent_events)
        return [one for one in found if one.event == event]


class Links(NumbersCase):
    """What is known of links that are well."""

    def sent(self, gateway: Gateway, rate: int) -> Any:
        """The session, where its FE is sent that many bits a second by the latest measurement."""
        (session,) = get(gateway, "/api/v1/sessions").json["items"]
        return session["fe"]["link"]["send_rate_bps"] > rate and session

    @live(real_srt={}, data={"admission": "open", "be_on_fe_close": "keep"}, http=HTTP)
    def test_metrics_and_api(self, gateway: Gateway) -> None:
        """Of a session, by port and role, and of the port after it."""
        be, port = self.publisher(gateway, latency=250), str(gateway.srt[0])
        fe = self.watcher(gateway, FE)
        feeding = Feeding(gateway, be)
        gateway.background(reading, fe)
        found = scrape_until(gateway, 100_000, "srt_recv_rate_bps", port=port, role="BE")
        self.assertEqual(found.of("srt_links", port=port, role="FE"), 1)
        self.assertEqual(found.of("srt_links", port=port, role="BE"), 1)
        self.assertEqual(found.of("srt_latency_ms", port=port, role="BE"), 250)
        self.assertEqual(found.of("srt_latency_ms", port=port, role="FE"), 120)
        self.assertGreater(found.of("srt_rtt_ms", port=port, role="FE"), 0)
        self.assertLess(found.of("srt_send_rate_bps", port=port, role="FE"), 20e6)
        session = self.until(lambda: self.sent(gateway, 100_000), "sent so much")
        self.assertEqual((session["fe"]["transport"], session["be"]["transport"]), ("srt", "srt"))
        self.assertEqual(session["be"]["link"]["receive_latency_ms"], 250)
        self.assertEqual(session["fe"]["link"]["messages_dropped"], 0)
        self.assertFalse(session["fe"]["link"]["dropping"])
        shown = get(gateway, "/api/v1/ports?protocol=srt&state=busy").json["items"][0]
        self.assertEqual((shown["transport"], shown["sessions"]), ("srt", 1))
        fe.close()
        self.until(
            lambda: scrape_of(gateway).of("srt_links", port=port, role="BE") == 0, "out of session"
        )
        feeding.end()
        shown = get(gateway, "/api/v1/ports?protocol=srt&state=ready").json["items"][0]
        self.assertEqual((shown["transport"], shown["sessions"]), ("srt", 0))
        self.assertEqual(scrape_of(gateway).of("srt_rtt_ms", port=port, role="FE"), 0)
        self.assertEqual(scrape_of(gateway).of("srt_conn_total", role="FE"), 1)

    @live(real_srt={}, data=OPEN, http=HTTP)
    def test_tcp_has_no_link(self, gateway: Gateway) -> None:
        gateway.pair(gateway.srt[0])
        (session,) = get(gateway, "/api/v1/sessions").json["items"]
        self.assertEqual((session["fe"]["transport"], session["fe"]["link"]), ("tcp", None))
        shown = get(gateway, "/api/v1/ports?state=busy").json["items"][0]
        self.assertEqual((shown["transport"], shown["sessions"]), ("tcp", 1))
        self.assertFalse(scrape_of(gateway).has("srt_links", port=str(gateway.srt[0]), role="FE"))

    @live(real_srt={"bridge": True}, data=OPEN, http=HTTP)
    def test_a_session_with_tcp(self, gateway: Gateway) -> None:
        """The side that is SRT is measured all the same."""
        port = str(gateway.srt[0])
        client = self.registered(gateway, link_telemetry=True)
        be = gateway.waiting(gateway.srt[0], "cam")
        fe = self.watcher(gateway, FE)
        be.expect("RLX1PAIRED")
        gateway.background(reading, fe)
        over = Event()
        gateway.before_closing(over.set)

        def feed() -> None:
            while not over.wait(PACE):
                be.send(MESSAGE)

        gateway.background(feed)
        scrape_until(gateway, 1, "srt_send_rate_bps", port=port, role="FE")
        session = self.until(lambda: self.sent(gateway, 100_000), "sent so much")
        self.assertIsNone(session["be"]["link"])
        link = client.find("telemetry")["payload"]["link"]
        self.assertEqual(link["pairing_id"], session["pairing_id"])
        over.set()

    @live(real_srt={}, data=OPEN)
    def test_rejected(self, gateway: Gateway) -> None:
        """A caller that has no answer soon asks again, and is refused again."""
        ports, asked = gateway.service.data.srt.ports, []  # type: ignore[union-attr]
        decide = ports._decide
        self.patch(ports, "_decide", lambda *came: asked.append(came) or decide(*came))
        for _ in range(3):
            self.assertRaises(Rejected, self.call, gateway, FE)
        self.assertGreaterEqual(len(asked), 3)
        self.until(
            lambda: scrape_of(gateway).of("srt_rejected_total", code="1404") == len(asked),
            "counted",
        )
        self.assertEqual(scrape_of(gateway).of("srt_rejected_total", code="1409"), 0)

    def leaves(self, gateway: Gateway, be: SrtPeer) -> None:
        """What is sent while the FE's end is seen was not dropped for it."""
        fe = self.watcher(gateway, FE)
        feeding = Feeding(gateway, be)
        for _ in range(20):
            fe.receive()
        fe.close()
        (ended,) = self.until(lambda: self.lines(gateway, "session_end"), "over")
        feeding.end()
        self.assertTrue(ended.text.endswith("BE to FE"), ended.text)
        self.assertIn("fe_closed, the FE closed its connection; 0 bytes FE to BE", ended.text)
        self.assertNotIn("messages_dropped", ended.fields)
        found = scrape_of(gateway).of(
            "relayx_srt_messages_dropped_total", port=str(gateway.srt[0]), role="FE"
        )
        self.assertEqual(found, 0)

    @live(real_srt={"fan_out": 2, "snddropdelay": 30_000}, data=OPEN, http=HTTP)
    def test_who_leaves_a_stream_of_many(self, gateway: Gateway) -> None:
        self.leaves(gateway, self.publisher(gateway))

    @live(real_srt={"snddropdelay": 30_000}, data=OPEN, http=HTTP)
    def test_who_leaves_its_own(self, gateway: Gateway) -> None:
        self.leaves(gateway, self.publisher(gateway))


class Impaired(NumbersCase):
    """Retransmissions as they were, by the account of the tests' own proxy."""

    def of(self, found: Scrape, name: str, port: str) -> float:
        return found.of(name, port=port, role="FE")

    @live(real_srt={"snddropdelay": 30_000}, data=OPEN)
    def test_feedback(self, gateway: Gateway) -> None:
        """What is lost on the FE's leg is told to the BE that asked, and counted for good."""
        port = str(gateway.srt[0])
        client = self.registered(gateway, link_telemetry=True)
        silent = self.registered(gateway, client_id="other")
        be = self.publisher(gateway)
        with Impairment((gateway.host, gateway.srt[0]), loss=0.05, delay=0.01) as proxy:
            fe = self.watcher(gateway, FE, via=proxy.address, latency=1000)
            gateway.background(reading, fe)
            feeding = Feeding(gateway, be)
            told: list[dict[str, Any]] = []
            while len(told) < 3:
                told.append(client.find("telemetry")["payload"])
            feeding.end()
            fe.close()
            done = self.until(
                lambda: (
                    (found := scrape_of(gateway)).of("srt_links", port=port, role="FE") == 0
                    and found
                ),
                "over",
            )
        for one in told:
            self.assertIn("current_speed", one)
            link = one["link"]
            self.assertEqual(link["port"], gateway.srt[0])
            self.assertGreaterEqual(link["rtt_ms"], 15)
            self.assertEqual(link["latency_ms"], 1000)
            self.assertEqual(link["dropped"], 0)
        self.assertEqual(len({one["link"]["pairing_id"] for one in told}), 1)
        self.assertGreater(sum(one["link"]["loss_percent"] for one in told), 0)
        self.assertGreater(told[-1]["current_speed"], 0)
        resent = self.of(done, "srt_retrans_packets_total", port)
        self.assertGreaterEqual(resent, sum(one["link"]["retransmitted"] for one in told) or 1)
        self.assertLessEqual(resent, proxy.from_target.retransmitted)
        self.assertGreaterEqual(resent, 0.5 * proxy.from_target.retransmitted)
        silent.ping()
        self.assertEqual([one for one in silent.log if one["type"] == "telemetry"], [])


class SlowWatchers(NumbersCase):
    """One that does not read: only it is dropped for, and that is said."""

    def check(self, gateway: Gateway, pace: float = PACE) -> None:
        self.patch(srt_session, "SILENT", NEVER)
        be, port = self.publisher(gateway), str(gateway.srt[0])
        client = self.registered(gateway, link_telemetry=True)
        fast = self.watcher(gateway, FE, latency=4000)
        slow = self.watcher(gateway, "#!::u=sleeper,m=request", fc=64, rcvbuf=64 * 1472)
        moving = gateway.service.data.srt._sessions._sessions  # type: ignore[union-attr]
        self.until(lambda: len(moving) == 2, "moving")
        counted = gateway.background(reading, fast)
        feeding = Feeding(gateway, be, pace)
        (line,) = self.until(lambda: self.lines(gateway, "slow")[:1], "told")
        self.assertIn("FE sleeper", line.text)
        self.assertIn("reads too slowly", line.text)
        self.assertIn("latency 120 ms", line.text)
        sessions = get(gateway, "/api/v1/sessions").json["items"]
        links = {session["fe"]["client_id"]: session["fe"]["link"] for session in sessions}
        self.assertTrue(links["sleeper"]["dropping"])
        self.assertGreater(links["sleeper"]["messages_dropped"], 0)
        self.assertEqual((links["eye"]["dropping"], links["eye"]["messages_dropped"]), (False, 0))
        shown = get(gateway, "/api/v1/ports?state=busy").json["items"][0]
        self.assertEqual(shown["sessions"], 2)
        names = {session["fe"]["client_id"]: session["pairing_id"] for session in sessions}
        dropped = dict.fromkeys(names.values(), 0)
        while not dropped[names["sleeper"]]:
            link = client.find("telemetry")["payload"]["link"]
            dropped[link["pairing_id"]] += link["dropped"]
        self.assertEqual(dropped[names["eye"]], 0)
        before = scrape_of(gateway)
        slow.close()
        self.until(lambda: self.lines(gateway, "session_end"), "over")
        (ended,) = self.lines(gateway, "session_end")
        self.assertRegex(
            ended.text,
            r"the FE closed its connection; dropped \d+ messages \(\d+\.\d s of \d+ s\) since the "
            r"FE read too slowly: RTT \d+ ms, loss \d+\.\d %, latency 120 ms",
        )
        self.assertGreater(ended.fields["messages_dropped"], 0)
        end = client.find("session_end")["payload"]
        self.assertIn("since the FE read too slowly", end["error"])
        sent = feeding.end()
        be.finish()
        self.assertEqual(counted.result(DEADLINE), sent)
        after = scrape_of(gateway)
        name = "relayx_srt_messages_dropped_total"
        self.assertGreater(before.of(name, port=port, role="FE"), 0)
        self.assertEqual(after.of(name, port=port, role="FE"), ended.fields["messages_dropped"])
        self.assertGreaterEqual(
            after.of(name, port=port, role="FE"), before.of(name, port=port, role="FE")
        )

    @live(real_srt={"fan_out": 3}, data=OPEN, http=HTTP)
    def test_too_late(self, gateway: Gateway) -> None:
        """libsrt gives up what is too late for it."""
        self.check(gateway)
        found = scrape_of(gateway)
        late = found.of("srt_sent_late_packets_total", port=str(gateway.srt[0]), role="FE")
        self.assertGreater(late, 0)

    @live(real_srt={"fan_out": 3, "sndbuf": 250_000, "snddropdelay": -1}, data=OPEN, http=HTTP)
    def test_no_room(self, gateway: Gateway) -> None:
        """Where libsrt gives nothing up, its send buffer is full some time."""
        self.check(gateway, 1 / 50)
        found = scrape_of(gateway)
        late = found.of("srt_sent_late_packets_total", port=str(gateway.srt[0]), role="FE")
        self.assertEqual(late, 0)


def tagged(number: int) -> bytes:
    """A message that tells which it is."""
    return numbered(number, 1)[0]


class SlowFe(NumbersCase):
    """One to one, an FE that reads nothing for seconds, and then reads again."""

    def check(self, gateway: Gateway) -> Scrape:
        """What is too late is dropped and counted, and the session goes on with what is new.

        libsrt ends a connection whose sender has dropped more than the receiver has room for, so
        the FE has room for four seconds.

        :returns: what was counted when something had been dropped.
        """
        self.patch(srt_session, "SILENT", NEVER)
        be, port = self.publisher(gateway), str(gateway.srt[0])
        fe = self.watcher(gateway, FE, fc=500, rcvbuf=500 * 1472)
        feeding = Feeding(gateway, be, 1 / 125, tagged)
        name = "relayx_srt_messages_dropped_total"
        found = scrape_until(gateway, 20, name, port=port, role="FE")
        (session,) = get(gateway, "/api/v1/sessions").json["items"]
        self.assertGreater(session["fe"]["link"]["messages_dropped"], 0)
        self.assertEqual(session["be"]["link"]["messages_dropped"], 0)
        now, got = feeding.sent, [fe.receive()]
        while number_of(got[-1]) < now + 50:
            got.append(fe.receive())
        sent = feeding.end()
        while number_of(got[-1]) < sent - 1:
            got.append(fe.receive())
        numbers = [number_of(message) for message in got]
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertEqual(got, [tagged(number) for number in numbers])
        self.assertTrue(be.connected and fe.connected)
        fe.close()
        (ended,) = self.until(lambda: self.lines(gateway, "session_end"), "over")
        self.assertIn("since the FE read too slowly", ended.text)
        dropped = ended.fields["messages_dropped"]
        self.assertTrue(0 < dropped <= sent - len(got), (dropped, sent, len(got)))
        self.assertEqual(scrape_of(gateway).of(name, port=port, role="FE"), dropped)
        return found

    def stalled(self, found: Scrape) -> float:
        """Seconds for which the BE was not read."""
        return found.of("relayx_session_stall_seconds_total", protocol="srt", side="FE")

    @live(real_srt={}, data=OPEN, http=HTTP)
    def test_too_late(self, gateway: Gateway) -> None:
        """The send buffer has room for all that is not too late: nothing is held."""
        self.assertEqual(self.stalled(self.check(gateway)), 0)

    @live(real_srt={"sndbuf": 16 * 1472}, data=OPEN, http=HTTP)
    def test_held_and_too_late(self, gateway: Gateway) -> None:
        """It is full sooner, and what comes is held until libsrt drops what is too late."""
        self.assertGreater(self.stalled(self.check(gateway)), 0)


class Commands(NumbersCase):
    """What people see of links."""

    @live(real_srt={}, data=OPEN, http=HTTP)
    def test_be_and_top(self, gateway: Gateway) -> None:
        """``relayx be --link-telemetry`` beside an encoder, as text and as JSON, and ``top``."""
        told = ("be", "--link-telemetry")
        with (
            relayx(*told, "--client-id", "cam", gateway=gateway.host) as text,
            relayx(*told, "--client-id", "cam2", "--json", gateway=gateway.host) as lines,
        ):
            text.line("registered")
            lines.line("registered")
            be, second = self.publisher(gateway), "#!::u=cam2,m=publish"
            other = self.call(gateway, second, via=(gateway.host, gateway.srt[1]))
            fe = self.watcher(gateway, FE)
            watching = self.watcher(gateway, FE, via=(gateway.host, gateway.srt[1]))
            for one in (fe, watching):
                gateway.background(reading, one)
            for one in (be, other):
                Feeding(gateway, one)
            shown = text.line("RTT ")
            self.assertIn(f"on srt port {gateway.srt[0]}: RTT ", shown)
            self.assertIn("of 120 ms wait to be acknowledged", shown)
            lines.wait_for(lambda: b"\n" in lines.stdout)
            link = json.loads(lines.stdout.splitlines()[0])
            self.assertEqual((link["port"], link["dropped"]), (gateway.srt[1], 0))
            self.assertGreater(link["send_rate_bps"], 0)
            top = run_relayx("top", "--once", RELAYX_ADMIN=where(gateway), COLUMNS="80")
            self.assertEqual(top.ended(), 0, top.stderr)
            self.check_top(top.stdout.decode().splitlines(), gateway)
            self.assertEqual((text.interrupted(), lines.interrupted()), (0, 0))

    def check_top(self, lines: list[str], gateway: Gateway) -> None:
        """A line for each side of both sessions, with all that is measured."""
        at = next(index for index, line in enumerate(lines) if "4 SRT links" in line)
        for part in ("RTT ms", "send bps", "recv bps", "loss %", "resent", "dropped", "late"):
            self.assertIn(part, lines[at + 1])
        of_links = [line.split() for line in lines[at + 2 :]]
        self.assertEqual(
            sorted((words[0], words[1], words[2]) for words in of_links),
            sorted(
                (name, role, str(port))
                for port, cam in zip(gateway.srt, ("cam", "cam2"), strict=False)
                for name, role in (("eye", "FE"), (cam, "BE"))
            ),
        )
        for words in of_links:
            self.assertEqual(words[-2:], ["120", "ms"])
            self.assertGreaterEqual(float(words[3]), 0)
            self.assertTrue(all(count.isdecimal() for count in words[-5:-2]), words)
            if words[:2] == ["eye", "FE"] and words[2] == str(gateway.srt[0]):
                self.assertIn(words[5], ("k", "M"), "what it is sent a second")

    @live(data=OPEN, http=HTTP)
    def test_top_without_srt(self, gateway: Gateway) -> None:
        gateway.pair(gateway.srt[0])
        top = run_relayx("top", "--once", RELAYX_ADMIN=where(gateway), COLUMNS="160")
        self.assertEqual(top.ended(), 0, top.stderr)
        self.assertNotIn("SRT links", top.stdout.decode())
