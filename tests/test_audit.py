"""The record of who did what (``audit.file``)."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase, TestCase

from relayx.audit import AUDITED, MOST_WAITING, AuditLog
from relayx.listening import StartError
from tests.live import SECRET, Gateway, Peers, live, random_host, service_for
from tests.live_process import twistd

FULL = "/dev/full"
"""A file that can be opened and takes nothing, as on a full disk."""


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class Writing(SynchronousTestCase):
    """One file, written by a thread."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.reports: list[str] = []

    def log(self, path: str = "") -> AuditLog:
        return AuditLog(path or str(self.path), self.reports.append)

    def test_line(self) -> None:
        log = self.log()
        log.record(
            1.7e9 + 0.5, "granted", "FE a leases", {"client_id": "a", "zmq_port": 7, "ticket": "t"}
        )
        log.close()
        (line,) = lines_of(self.path)
        self.assertEqual(
            line,
            {
                "time": "2023-11-14T22:13:20.500Z", "event": "granted", "client": "a", "role": "",
                "address": "", "trace_id": "", "text": "FE a leases", "zmq_port": 7,
            },
        )  # fmt: skip
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_appends(self) -> None:
        for number in range(2):
            log = self.log()
            log.record(float(number), "lost", "\n\u2028", {})
            log.close()
        self.assertEqual(len(self.path.read_bytes().splitlines()), 2)

    def test_cannot_be_opened(self) -> None:
        self.assertRaises(OSError, self.log, str(self.path / "no" / "file"))
        self.path.mkdir()
        self.assertRaises(OSError, self.log)
        os.mkfifo(self.path / "pipe")
        self.assertRaises(OSError, self.log, str(self.path / "pipe"))

    def test_full_disk_is_told_once(self) -> None:
        log = self.log(FULL)
        for _ in range(50):
            log.record(0.0, "lost", "", {})
        log.close()
        self.assertEqual(len(self.reports), 1)
        self.assertIn("No space left", self.reports[0])

    def test_rotation(self) -> None:
        log = self.log()
        old = self.path.rename(self.path.with_suffix(".1"))
        log.reopen()
        log.record(0.0, "lost", "after", {})
        log.close()
        self.assertEqual(lines_of(old), [])
        self.assertEqual([line["text"] for line in lines_of(self.path)], ["after"])

    def test_still_disk(self) -> None:
        """It holds up nobody, memory stays bounded, and the loss is told with its size."""
        link = self.path.with_suffix(".link")
        link.symlink_to(FULL)
        told, going_on = threading.Event(), threading.Event()

        def report(text: str) -> None:
            self.reports.append(text)
            told.set()
            going_on.wait(30)  # as long as the disk stands still

        log = AuditLog(str(link), report)
        log.record(0.0, "lost", "", {})
        self.assertTrue(told.wait(30))
        for _ in range(MOST_WAITING + 500):
            log.record(0.0, "lost", "", {})
        link.unlink()
        log.reopen()
        going_on.set()
        log.close()
        self.assertIn("cannot be written", self.reports[0])
        self.assertIn("is written again; 501 lines are lost", self.reports[1])
        self.assertEqual(len(lines_of(link)), MOST_WAITING)

    def test_file_size_limit(self) -> None:
        """A line of which only a part fits leaves no part behind."""
        import resource
        import signal

        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        log = self.log()
        try:
            log.record(0.0, "lost", "x" * 50, {})
            resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
            for _ in range(5):
                log.record(0.0, "lost", "x" * 50, {})
            log.close()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, before)
        self.assertEqual([line["text"] for line in lines_of(self.path)], ["x" * 50])
        self.assertIn("cannot be written", self.reports[0])


class Recorded(TestCase):
    """What a gateway records."""

    def test_cannot_start(self) -> None:
        path = str(Path(self.mktemp()) / "no" / "audit.jsonl")
        service = service_for(Peers(random_host(), 1, 0), {"audit": {"file": path}})
        error = self.assertRaises(StartError, service.privilegedStartService)
        self.assertIn(path, str(error))
        self.assertIn("No such file", str(error))

    def test_events(self) -> None:
        directory = self.mktemp()
        os.mkdir(directory)
        with twistd(directory, audit={"file": "audit.jsonl"}) as gateway:
            be = gateway.be("be-1")
            gateway.fe11("fe-1")
            fe = gateway.fe11("fe-1")
            wrong = gateway.control()
            wrong.register("FE", "not-the-secret", "who")
            be.say("key_exchange", {"public_key": "PEM-P", "private_key": "PEM-S"})
            port = gateway.zmq[0]
            gateway.waiting(port)
            fe.state(lambda state: port in state["zmq_ready_ports"])
            fe.say("port_acquire", {"request_id": "r", "need_zmq": True}, trace_id="t-1")
            grant = fe.expect("port_grant")
            fe.say("port_acquire", {"request_id": "r", "need_zmq": True})
            fe.expect("port_grant")
            fe.say("port_release", {"session_id": grant["session_id"]})
            be.expect("port_release")
            gateway.entering(gateway.zmq[1]).refusal()
            garbage = gateway.dial(port)
            garbage.send(b"GET / HTTP/1.1\r\n\r\n")
            garbage.rest()
            gateway.terminate()
            self.assertEqual(gateway.ended()[0], 0)
        path = Path(directory) / "audit.jsonl"
        lines = lines_of(path)
        found = {line["event"] for line in lines}
        self.assertLessEqual(
            {
                "started", "registered", "taken_over", "register_failed", "private_key", "granted",
                "lease_ended", "refused", "stopping", "stopped",
            },
            found,
        )  # fmt: skip
        self.assertLessEqual(found, AUDITED)
        for line in lines:
            self.assertLessEqual({"time", "client", "role", "address", "trace_id"}, set(line))
        for event in ("granted", "register_failed", "refused", "lease_ended", "private_key"):
            line = next(line for line in lines if line["event"] == event)
            self.assertTrue(line["address"], line)
        granted = next(line for line in lines if line["event"] == "granted")
        self.assertEqual((granted["client"], granted["trace_id"]), ("fe-1", "t-1"))
        failed = next(line for line in lines if line["event"] == "register_failed")
        self.assertEqual((failed["client"], failed["role"]), ("who", "FE"))
        text = path.read_text()
        for secret in (SECRET, "not-the-secret", grant["ticket"], "PEM-S", "PEM-P"):
            self.assertNotIn(secret, text)

    @live(audit={"file": FULL})
    def test_full_disk_stops_nothing(self, gateway: Gateway) -> None:
        gateway.fe()
        gateway.be()
        fe, be = gateway.pair(gateway.zmq[0])
        fe.send(b"x")
        self.assertEqual(be.receive(1), b"x")
