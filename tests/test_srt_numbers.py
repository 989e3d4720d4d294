"""Numbers of SRT links: measured, added up by port, told to Prometheus, and who is slow."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

from prometheus_client import generate_latest
from rich.console import Console
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from relayx.admin import model
from relayx.cli.topview import Seen, bits, screen
from relayx.core.messages import Protocol, Role
from relayx.metrics.exposition import Registry
from relayx.metrics.srtlinks import SrtLinks
from relayx.planes import Planes
from relayx.slowlinks import APART, QUIET, SlowLinks, Watched
from relayx.srt.dropping import RECENTLY, Dropped, Dropping
from relayx.srt.statistics import Gauge, LinkState
from relayx.srt.totals import Drops, Totals
from tests.scrapes import Scrape

PORT = 7001


def stats(**fields: float) -> Any:
    """What libsrt says of a link on which nothing has happened but this."""
    names = (
        "pktSentTotal", "pktRecvTotal", "pktSndLossTotal", "pktRcvLossTotal", "pktRetransTotal",
        "pktRecvACKTotal", "pktRecvNAKTotal", "pktSndDropTotal", "pktRcvDropTotal",
        "pktRcvUndecryptTotal", "byteSentTotal", "byteRecvTotal", "pktFlightSize", "msRTT",
        "byteSndBuf", "msSndBuf", "msRcvBuf", "msSndTsbPdDelay", "msRcvTsbPdDelay",
    )  # fmt: skip
    return SimpleNamespace(**dict.fromkeys(names, 0) | fields)


class Measuring(SynchronousTestCase):
    """Rates and losses are since the measurement before; counts are of the connection."""

    def test_rates(self) -> None:
        gauge = Gauge(10.0, stats())
        gauge.measure(12.0, stats(byteSentTotal=1_000_000, byteRecvTotal=500_000))
        self.assertEqual(gauge.state.send_rate_bps, 4_000_000)
        self.assertEqual(gauge.state.recv_rate_bps, 2_000_000)
        gauge.measure(13.0, stats(byteSentTotal=1_000_000, byteRecvTotal=500_001))
        self.assertEqual((gauge.state.send_rate_bps, gauge.state.recv_rate_bps), (0, 8))

    def test_what_was_before_is_no_rate(self) -> None:
        """A BE that has waited for an hour begins its session at 0, with its counts."""
        before = {"byteRecvTotal": 10**9, "pktRecvTotal": 10**6, "pktRcvLossTotal": 50}
        gauge = Gauge(10.0, stats(**before, pktRetransTotal=3, msRTT=7))
        self.assertEqual(gauge.state.recv_rate_bps, 0)
        self.assertEqual((gauge.state.lost_received, gauge.state.retransmitted), (50, 3))
        self.assertEqual(gauge.state.rtt_ms, 7)
        gauge.measure(11.0, stats(**before))
        self.assertEqual((gauge.state.recv_rate_bps, gauge.state.recv_loss_percent), (0, 0))

    def test_losses(self) -> None:
        gauge = Gauge(0.0, stats())
        gauge.measure(1.0, stats(pktSentTotal=200, pktSndLossTotal=10))
        self.assertEqual(gauge.state.send_loss_percent, 5)
        gauge.measure(2.0, stats(pktSentTotal=300, pktSndLossTotal=10))
        self.assertEqual(gauge.state.send_loss_percent, 0)
        gauge.measure(3.0, stats(pktRecvTotal=90, pktRcvLossTotal=10, pktSentTotal=300))
        self.assertEqual(gauge.state.recv_loss_percent, 10)

    def test_a_look_too_soon_only_counts(self) -> None:
        """As at a session's end: rates and losses stay what they were."""
        gauge = Gauge(0.0, stats())
        gauge.measure(1.0, stats(byteSentTotal=1000, pktSentTotal=100, pktSndLossTotal=1))
        gauge.measure(1.01, stats(byteSentTotal=9000, pktSentTotal=109, pktSndLossTotal=9,
                                  pktRetransTotal=8))  # fmt: skip
        self.assertEqual((gauge.state.send_rate_bps, gauge.state.send_loss_percent), (8000, 1))
        self.assertEqual((gauge.state.sent_packets, gauge.state.retransmitted), (109, 8))
        gauge.measure(2.0, stats(byteSentTotal=9000, pktSentTotal=200, pktSndLossTotal=11))
        self.assertEqual((gauge.state.send_rate_bps, gauge.state.send_loss_percent), (64000, 10))

    def test_silence(self) -> None:
        """A peer is last heard when it sent something, or when nothing was to be heard."""
        gauge = Gauge(0.0, stats())
        gauge.measure(1.0, stats(pktRecvACKTotal=1, pktSentTotal=5, pktFlightSize=2))
        self.assertEqual(gauge.heard, 1.0)
        gauge.measure(2.0, stats(pktRecvACKTotal=1, pktSentTotal=9, pktFlightSize=6))
        self.assertEqual(gauge.heard, 1.0)
        gauge.measure(3.0, stats(pktRecvACKTotal=1, pktSentTotal=9))
        self.assertEqual(gauge.heard, 3.0)


class DroppingTests(SynchronousTestCase):
    """What was dropped, and the time in which that was."""

    def test_no_room(self) -> None:
        """To the tenth of a second in which the pump counted."""
        dropping = Dropping(0.0)
        for tenth, full in enumerate((0, 5, 5, 9, 9), 1):
            dropping.counted(tenth / 10, full)
        self.assertEqual(dropping.dropped(0.5, 9), Dropped(9, 0.2, True))

    def test_too_late(self) -> None:
        """To the second between two measurements; what the link gave up before is not counted."""
        dropping = Dropping(0.0, late=100)
        for second, late in enumerate((100, 107, 107), 1):
            dropping.measured(float(second), late)
        self.assertEqual(dropping.dropped(3.0, 0), Dropped(7, 1.0, True))
        self.assertEqual(dropping.dropped(2.0 + RECENTLY, 0), Dropped(7, 1.0, False))

    def test_both_in_one_second(self) -> None:
        """The second counts once."""
        dropping = Dropping(0.0)
        for tenth in range(1, 11):
            dropping.counted(tenth / 10, 3 if tenth > 4 else 0)
        dropping.measured(1.0, 20)
        self.assertEqual(dropping.dropped(1.0, 3), Dropped(23, 1.0, True))
        dropping.measured(2.0, 20)
        self.assertEqual(dropping.seconds, 1.0)

    def test_nothing(self) -> None:
        self.assertEqual(Dropping(5.0, 3).dropped(9.0, 0), Dropped(0, 0.0, False))


class TotalsTests(SynchronousTestCase):
    """By port and role; counters never go back."""

    def setUp(self) -> None:
        self.totals = Totals()

    def measured(self, link: int, role: Role = Role.FE, port: int = PORT, **state: Any) -> None:
        self.totals.measured(link, port, role, LinkState(**state))

    def test_the_links_of_a_port(self) -> None:
        """The worst RTT and loss, all rates and counts together."""
        self.measured(1, rtt_ms=10, send_rate_bps=5, send_loss_percent=1, retransmitted=4,
                      send_latency_ms=120)  # fmt: skip
        self.measured(2, rtt_ms=30, send_rate_bps=6, recv_loss_percent=2.5, send_dropped=3,
                      receive_latency_ms=200, recv_dropped=8, recv_rate_bps=7)  # fmt: skip
        self.measured(3, Role.BE, rtt_ms=1, retransmitted=100)
        found = self.totals.by_port()
        fe = found[PORT, Role.FE]
        self.assertEqual((fe.links, fe.rtt_ms, fe.loss_percent, fe.latency_ms), (2, 30, 2.5, 200))
        self.assertEqual((fe.send_rate_bps, fe.recv_rate_bps), (11, 7))
        self.assertEqual(fe.drops, Drops(retransmitted=4, sent_late=3, received_late=8))
        self.assertEqual(found[PORT, Role.BE].drops, Drops(100))

    def test_a_link_that_ends_stays_counted(self) -> None:
        self.measured(1, retransmitted=4, rtt_ms=5)
        self.measured(2, retransmitted=6, rtt_ms=9)
        self.totals.ended(2)
        self.totals.ended(2)
        found = self.totals.by_port()[PORT, Role.FE]
        self.assertEqual((found.links, found.rtt_ms, found.drops.retransmitted), (1, 5, 10))
        self.totals.ended(1)
        found = self.totals.by_port()[PORT, Role.FE]
        self.assertEqual((found.links, found.rtt_ms, found.drops.retransmitted), (0, 0, 10))

    def test_a_kept_be(self) -> None:
        """Between its sessions it is in none, and what it counted is not counted again."""
        self.measured(1, Role.BE, retransmitted=4)
        self.totals.rests(1)
        self.assertEqual(self.totals.by_port()[PORT, Role.BE].links, 0)
        self.measured(1, Role.BE)  # before the first measurement of its next session
        self.measured(1, Role.BE, retransmitted=5)
        self.totals.ended(1)
        self.assertEqual(self.totals.by_port()[PORT, Role.BE].drops.retransmitted, 5)

    def test_messages(self) -> None:
        self.measured(1)
        self.measured(2, Role.BE)
        for count in (3, 5):
            self.totals.dropped("p-1", PORT, {Role.FE: count, Role.BE: 1})
        self.totals.dropped("p-2", PORT, {Role.FE: 10, Role.BE: 0})
        self.totals.session_over("p-1")
        self.totals.session_over("p-1")
        found = self.totals.by_port()
        self.assertEqual(found[PORT, Role.FE].messages_dropped, 15)
        self.assertEqual(found[PORT, Role.BE].messages_dropped, 1)

    def test_bounded(self) -> None:
        """As much is kept after 10,000 links on two ports as after two."""
        for link in range(10_000):
            self.measured(link, port=PORT + link % 2, retransmitted=1)
            self.totals.dropped(str(link), PORT + link % 2, {Role.FE: 1})
            self.totals.ended(link)
            self.totals.session_over(str(link))
        kept = [len(value) for value in vars(self.totals).values()]
        self.assertEqual(sum(kept), 4)
        self.assertEqual(self.totals.by_port()[PORT, Role.FE].drops.retransmitted, 5000)


class Exposed(SynchronousTestCase):
    """What Prometheus reads."""

    def test_samples(self) -> None:
        totals = Totals()
        totals.measured(1, PORT, Role.FE, LinkState(
            rtt_ms=12.5, send_rate_bps=8e6, send_loss_percent=1.5, retransmitted=7,
            send_dropped=2, recv_dropped=3, send_latency_ms=120,
        ))  # fmt: skip
        totals.dropped("p", PORT, {Role.FE: 9})
        planes = SimpleNamespace(srt_links=totals.by_port, srt_rejected=lambda: {1404: 6, 1599: 1})
        registry = Registry()
        registry.register(SrtLinks(cast(Planes, planes)))
        found = Scrape(generate_latest(registry))
        for name, value in (
            ("srt_links", 1), ("srt_rtt_ms", 12.5), ("srt_send_rate_bps", 8e6),
            ("srt_recv_rate_bps", 0), ("srt_loss_percent", 1.5), ("srt_latency_ms", 120),
            ("srt_retrans_packets_total", 7), ("srt_sent_late_packets_total", 2),
            ("srt_received_late_packets_total", 3), ("relayx_srt_messages_dropped_total", 9),
        ):  # fmt: skip
            labels = {"port": str(PORT), "role": "FE"}
            self.assertTrue(found.has(name, **labels), name)
            self.assertEqual(found.of(name, **labels), value, name)
        self.assertEqual(found.of("srt_rejected_total", code="1404"), 6)
        self.assertEqual(found.of("srt_rejected_total", code="1599"), 1)
        self.assertTrue(found.has("srt_rejected_total", code="1409"))


NOW = datetime(2030, 1, 1, tzinfo=UTC)
QUIET_LINK = model.SrtLink(
    rtt_ms=0.4, send_rate_bps=0, recv_rate_bps=8_000_000, send_loss_percent=0,
    recv_loss_percent=0.25, retransmitted=0, sent_late=0, received_late=7, send_buffer_bytes=0,
    send_buffer_ms=0, send_latency_ms=120, receive_latency_ms=250, messages_dropped=0,
    dropping_seconds=0, dropping=False,
)  # fmt: skip
BUSY_LINK = model.SrtLink(
    rtt_ms=48.26, send_rate_bps=8_120_000, recv_rate_bps=950, send_loss_percent=1.5,
    recv_loss_percent=0, retransmitted=1421, sent_late=39, received_late=0,
    send_buffer_bytes=9000, send_buffer_ms=60, send_latency_ms=160, receive_latency_ms=120,
    messages_dropped=41, dropping_seconds=0.2, dropping=True,
)  # fmt: skip


class Top(SynchronousTestCase):
    """SRT links in ``relayx top``: a line for each side."""

    def session(
        self, number: int, fe: model.SrtLink | None, be: model.SrtLink | None
    ) -> model.Session:
        """The lower its number, the faster it is."""

        def end(name: str, link: model.SrtLink | None) -> model.End:
            return model.End(
                client_id=f"{name}-{number}", address="192.0.2.1",
                transport="tcp" if link is None else "srt", link=link, pushed_back=False,
                held_back=False, stalled=0.0, throttled=0.0,
            )  # fmt: skip

        return model.Session(
            pairing_id=f"p-{number}", session_id="", trace_id="", protocol=Protocol.SRT,
            port=PORT + number, service="cam", state=model.SessionState.RUNNING, cause="",
            keep=False, fe=end("eye", fe), be=end("camera", be), started_at=NOW, seconds=65,
            fe_to_be_bytes=0, be_to_fe_bytes=10**9, fe_to_be_rate=0, be_to_fe_rate=10**6 - number,
            zmtp=None,
        )  # fmt: skip

    def lines(
        self, *sessions: model.Session, width: int = 80, most: int | None = None
    ) -> list[str]:
        """What is on the screen."""
        ports = model.PortCount(total=5, ready=0, busy=5, empty=0, reserved=0)
        status = model.Status(
            version="1", state=model.GatewayState.READY, pid=1, started_at=NOW, uptime=70,
            revision=1, last_reload=None, ports={Protocol.SRT: ports}, leases=0,
            clients={Role.FE: model.ClientCount(registered=1, lost=0, most=50)},
            sessions=model.SessionCount(running=len(sessions), ended={}), bytes_moved=0,
            throughput=0,
        )  # fmt: skip
        page = model.Page(items=sessions, total=len(sessions), limit=1000, offset=0)
        seen = Seen(status, page, model.History(interval=5, points=()))
        console = Console(width=width, highlight=False, color_system=None)
        with console.capture() as captured:
            console.print(screen(seen, "http://x", most))
        return captured.get().splitlines()

    def test_both_sides(self) -> None:
        """All numbers and both ids are whole in a terminal of 80 columns."""
        lines = self.lines(self.session(0, BUSY_LINK, QUIET_LINK))
        at = next(index for index, line in enumerate(lines) if "SRT links" in line)
        self.assertEqual(lines[at].split(), ["2", "SRT", "links"])
        for column in ("RTT ms", "send bps", "recv bps", "loss %", "resent", "dropped", "late"):
            self.assertIn(column, lines[at + 1])
        self.assertEqual(
            [line.split() for line in lines[at + 2 :]],
            [
                ["eye-0", "FE", "7001", "48.3", "8.1", "M", "950", "1.5", "1421", "41", "0",
                 "160", "ms"],
                ["camera-0", "BE", "7001", "0.4", "0", "8.0", "M", "0.2", "0", "0", "7", "250",
                 "ms"],
            ],
        )  # fmt: skip
        (session,) = [line for line in lines[:at] if "FE drops" in line]
        self.assertEqual(session.split()[:3], ["eye-0", "camera-0", "7001"])
        self.assertLessEqual(max(map(len, lines)), 80)

    def test_narrow_and_wide(self) -> None:
        """Ids give way, then everything; nothing wraps."""
        for width in (50, 60, 100, 200):
            lines = self.lines(self.session(0, BUSY_LINK, QUIET_LINK), width=width)
            at = next(index for index, line in enumerate(lines) if "SRT links" in line)
            self.assertEqual(len(lines[at:]), 4, width)
            self.assertLessEqual(max(map(len, lines)), width)

    def test_one_side(self) -> None:
        """A session of SRT and TCP has one line, one of TCP none."""
        lines = self.lines(self.session(0, None, QUIET_LINK), self.session(1, None, None))
        self.assertEqual(lines[-1].split()[:3], ["camera-0", "BE", "7001"])
        self.assertIn("1 SRT links", lines[-3])
        self.assertFalse(
            [line for line in self.lines(self.session(1, None, None)) if "SRT" in line]
        )

    def test_room(self) -> None:
        """Sessions and links share the lines; what is left out is told."""
        sessions = [self.session(number, QUIET_LINK, QUIET_LINK) for number in range(10)]

        def shown(most: int | None) -> tuple[int, int, str]:
            lines = self.lines(*sessions, most=most)
            of_links = [line for line in lines if " FE " in line or " BE " in line]
            of_links = [line for line in of_links if line.endswith(" ms")]
            told = ", ".join(line.strip() for line in lines if "fastest" in line or "them" in line)
            return sum("running" in line for line in lines), len(of_links), told

        self.assertEqual(shown(None), (10, 20, ""))
        self.assertEqual(shown(32), (10, 20, ""))
        self.assertEqual(shown(31), (10, 19, "20 SRT links, 19 of them"))
        told = "10 sessions, the fastest 4, 20 SRT links, 2 of them"
        self.assertEqual(shown(8), (4, 2, told))
        told = "10 sessions, the fastest 1, 20 SRT links, 1 of them"
        self.assertEqual(shown(1), (1, 1, told))
        mixed = [*sessions[:1], *(self.session(number, None, None) for number in range(1, 10))]
        sessions[:] = mixed
        self.assertEqual(shown(8), (4, 2, "10 sessions, the fastest 4"))
        self.assertEqual(shown(14), (10, 2, ""))
        sessions[:] = [*mixed[1:], self.session(10, QUIET_LINK, None)]  # a slow one's too
        self.assertEqual(shown(8), (5, 1, "10 sessions, the fastest 5"))
        sessions[:] = mixed[1:]
        self.assertEqual(shown(8), (8, 0, "9 sessions, the fastest 8"))

    def test_bits(self) -> None:
        self.assertEqual([bits(rate) for rate in (0, 950, 12_040, 8.12e6, 2e9)],
                         ["0", "950", "12.0 k", "8.1 M", "2.0 G"])  # fmt: skip


class Slow(SynchronousTestCase):
    """One line when a side begins to be slow, while it is, and when it is over."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.lines: list[tuple[float, str]] = []
        self.fields: list[dict[str, Any]] = []
        self.slow = SlowLinks(self.clock, self.say)
        self.counts = {"p-1": 0}

    def say(self, level: str, event: str, text: str, **fields: Any) -> None:
        self.assertEqual((level, event), ("warn", "slow"))
        self.lines.append((self.clock.seconds(), text))
        self.fields.append(fields)

    def run_for(self, seconds: int, drops: Callable[[int], int] = lambda second: 0) -> None:
        """Look each second, with so many messages dropped in it."""
        for _ in range(seconds):
            self.clock.advance(1)
            link = LinkState(rtt_ms=48, send_loss_percent=3, send_latency_ms=120)
            for name in self.counts:
                self.counts[name] += drops(int(self.clock.seconds()))
            self.slow.look(
                Watched(name, PORT, Role.FE, "eye", "10.0.0.9", "t", link,
                        Dropped(count, count / 100, True))
                for name, count in self.counts.items()
            )  # fmt: skip

    def test_from_begin_to_end(self) -> None:
        self.run_for(5)
        self.run_for(25, lambda second: 10)
        self.run_for(20)
        self.assertEqual([when for when, _ in self.lines], [6, 16, 26, 36])
        begins, on, still, over = (text for _, text in self.lines)
        self.assertEqual(
            begins,
            f"session p-1 on srt port {PORT}: FE eye at 10.0.0.9 reads too slowly; 10 messages "
            "dropped in 0.1 s so far: RTT 48 ms, loss 3.0 %, latency 120 ms",
        )
        self.assertIn("FE eye at 10.0.0.9 still reads too slowly; 110 messages", on)
        self.assertIn("still reads too slowly; 210 messages", still)
        self.assertIn("keeps up again; 250 messages dropped in 2.5 s so far", over)
        self.assertEqual(self.fields[0]["messages_dropped"], 10)
        self.assertEqual(self.fields[0]["role"], "FE")

    def test_at_most_one_line_in_ten_seconds(self) -> None:
        """However often it begins anew."""
        self.run_for(200, lambda second: second % 5 == 0)
        whens = [when for when, _ in self.lines]
        self.assertGreaterEqual(len(whens), 15)
        self.assertGreaterEqual(min(after - before for before, after in pairwise(whens)), APART)

    def test_the_end_waits_for_its_turn(self) -> None:
        self.run_for(1, lambda second: 10)
        self.run_for(int(APART + QUIET) + 5)
        self.assertEqual([when for when, _ in self.lines], [1, 1 + APART])
        self.assertIn("keeps up again", self.lines[1][1])

    def test_sessions_apart(self) -> None:
        self.counts["p-2"] = 0
        self.run_for(2, lambda second: 1)
        self.assertEqual(len(self.lines), 2)
        del self.counts["p-2"]
        self.run_for(1)
        self.counts["p-2"] = 0  # another with its name: nothing is left of the one before
        self.run_for(1, lambda second: 1)
        self.assertEqual(len(self.lines), 3)

    def test_nobody_drops(self) -> None:
        self.run_for(60)
        self.assertEqual(self.lines, [])
