"""What /metrics looks like: names, labels, units, and what a scrape costs."""

from __future__ import annotations

import re
import sys
import time

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relayx.core.errors import Code
from relayx.core.messages import REPLIES, REQUESTS, Cause, Pattern
from relayx.core.streamid import Reject
from relayx.metrics import CONTENT_TYPE
from relayx.metrics.lag import INTERVAL, LoopLag
from relayx.zmq.counts import REASONS
from relayx.zmtp import PATTERNS, Fault
from tests.cpu import slowness
from tests.live import Gateway, live
from tests.scrapes import Scrape, scrape, scrape_of, unstarted
from tests.test_loopback_data_regressions import OPEN, ask

GUIDE = {
    "srt_conn": {"role"},
    "zmq_conn": {"role"},
    "relay_port_state": {"protocol", "state"},
    "relay_pipe_bytes": {"direction", "protocol"},
    "zmq_msg_duration_seconds": {"pattern", "le"},
}
"""Section 10.4 of the guide; the parser leaves ``_total`` out."""

SRT = {
    "srt_links", "srt_rtt_ms", "srt_send_rate_bps", "srt_recv_rate_bps", "srt_loss_percent",
    "srt_latency_ms", "srt_retrans_packets", "srt_sent_late_packets", "srt_received_late_packets",
    "srt_rejected",
}  # fmt: skip
"""In the words and units of libsrt."""

ALLOWED = {
    "role": {"FE", "BE", "frontend", "backend"},
    "side": {"FE", "BE", "frontend", "backend"},
    "protocol": {"zmq", "srt"},
    "state": {"ready", "empty", "busy", "reserved", "running", "stalled", "ended"},
    "pattern": {str(pattern) for pattern in Pattern} | set(PATTERNS),
    "direction": {"fe_to_be", "be_to_fe", "received", "sent"},
    "cause": {str(cause) for cause in Cause},
    "code": {str(code) for code in Code} | {str(code.value) for code in Reject},
    "stage": {"register", "lease", "data"},
    "reason": {
        "released",
        "TTL_EXPIRED",
        "BE_LOST",
        "ended",
        *REASONS,
        *(str(fault) for fault in Fault),
    },
    "result": {"success", "failure"},
    "plane": {"control", "data"},
    "kind": {"early", "memory", "pipe"},
    "where": {"stream", "client", "repeated"},
    "type": {*REQUESTS, *REPLIES, "log", "unknown"},
}
"""Every label but those of the process, and ``kid``; none is a client's to choose."""

NOT_OURS = ("process_", "python_")
MOST_SERIES = 500


def check_labels(case: TestCase, found: Scrape) -> None:
    """Check that each label has one of few values."""
    for name, labels in found.series():
        for label, value in labels:
            if label in ("le", "version") or name.startswith(NOT_OURS):
                continue
            case.assertIn(value, ALLOWED[label], name)


class Names(SynchronousTestCase):
    """Of a gateway that has not been started."""

    def setUp(self) -> None:
        self.service = unstarted(self, 3, 2)
        self.scrape = scrape(self.service.metrics)

    def test_the_guides(self) -> None:
        for name, labels in GUIDE.items():
            samples = self.scrape.families[name].samples
            self.assertEqual({key for one in samples for key in one.labels}, labels, name)
        text = self.service.metrics.render().decode()
        self.assertIn("# TYPE zmq_msg_duration_seconds histogram", text)

    def test_ours(self) -> None:
        """Prometheus's conventions: a prefix, base units, _total for counters alone, a HELP."""
        for name, family in self.scrape.families.items():
            self.assertTrue(family.documentation, name)
            if name.startswith(NOT_OURS):
                continue
            self.assertTrue(name.startswith("relayx_") or name in GUIDE or name in SRT, name)
            if name in SRT:
                continue
            self.assertNotRegex(name, "milli|minutes|hours|_ms$|kilo|mega", name)
            for sample in family.samples:
                self.assertEqual(sample.name.endswith("_total"), family.type == "counter", name)
                self.assertFalse(sample.name.endswith("_created"), name)

    def test_labels(self) -> None:
        check_labels(self, self.scrape)
        self.assertLess(len(self.scrape.series()), MOST_SERIES)

    def test_of_the_process(self) -> None:
        for name in ("process_open_fds", "process_max_fds", "process_resident_memory_bytes"):
            self.assertGreater(self.scrape[name], 0, name)

    def test_ports(self) -> None:
        found = {
            (dict(labels)["protocol"], dict(labels)["state"]): value
            for (name, labels), value in self.scrape.values.items()
            if name == "relay_port_state"
        }
        self.assertEqual(len(found), 8)
        self.assertEqual((found["zmq", "empty"], found["srt", "empty"]), (3, 2))
        self.assertEqual(sum(found.values()), 5)

    def test_content_type(self) -> None:
        self.assertTrue(re.match(r"text/plain; version=[01]\.0\.[04]; charset=utf-8", CONTENT_TYPE))

    def test_two_gateways_in_a_process(self) -> None:
        other = unstarted(self)
        self.service.metrics.noted("granted", {"role": "FE"})
        self.assertEqual(
            scrape(self.service.metrics).of("relayx_leases_granted_total", role="FE"), 1
        )
        self.assertEqual(scrape(other.metrics).of("relayx_leases_granted_total", role="FE"), 0)


class Lag(SynchronousTestCase):
    """How late the reactor is."""

    def test_late(self) -> None:
        clock, seen = Clock(), []
        lag = LoopLag(clock, seen.append)
        lag.start()
        clock.advance(INTERVAL)
        clock.advance(INTERVAL + 0.5)
        clock.rightNow -= 100  # set back
        clock.advance(100 + INTERVAL)
        self.assertEqual([round(seconds, 6) for seconds in seen], [0, 0.5, 0])
        lag.close()
        lag.close()
        self.assertEqual(clock.getDelayedCalls(), [])


class Cost(TestCase):
    """A scrape is short, however much there is (a turn of the reactor is as long)."""

    @live(zmq=100, srt=100, relay={"max_fe": 1000}, data=OPEN)
    def test_200_sessions_and_1000_clients(self, gateway: Gateway) -> None:
        for port in (*gateway.zmq, *gateway.srt):
            gateway.pair(port)
        for number in range(1000):
            gateway.fe(f"client-{number}")

        def cpu() -> float:
            began = time.thread_time()
            gateway.service.metrics.render()
            return time.thread_time() - began

        took = sorted(ask(cpu) for _ in range(9))
        found = scrape_of(gateway)
        self.assertEqual(found.of("relayx_control_clients", role="FE"), 1000)
        self.assertEqual(found.of("relayx_sessions", protocol="zmq"), 100)
        self.assertLess(len(found.series()), MOST_SERIES)
        limit = 0.02 if sys.gettrace() is None and "coverage" not in sys.modules else 0.08
        self.assertLess(took[4], limit * slowness(), f"CPU seconds of scrapes: {took}")
