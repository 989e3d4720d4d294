"""Reloads of ``twistd relayx``: SIGHUP, storms of it, watched files (section 1)."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from tests.guide_peer import DEADLINE, Data
from tests.live import NEVER, SECRET, random_host
from tests.live_process import Subprocess, killed_in_the_end, twistd
from tests.relayx_process import run_relayx

CHUNK = 1 << 16


class Endless:
    """Sends random bytes until it is stopped, then ends its stream; digests of both sides."""

    def __init__(self, gateway: Subprocess, source: Data, sink: Data, seed: int) -> None:
        self._stop = threading.Event()
        self._random = random.Random(seed)
        self.sent: Future[tuple[str, int]] = gateway.background(self._send, source)
        self.received: Future[tuple[str, int]] = gateway.background(self._receive, sink)

    def _send(self, link: Data) -> tuple[str, int]:
        digest, count = hashlib.sha256(), 0
        while not self._stop.is_set():
            data = self._random.randbytes(CHUNK)
            link.send(data)
            digest.update(data)
            count += len(data)
        link.shutdown()
        return digest.hexdigest(), count

    def _receive(self, link: Data) -> tuple[str, int]:
        digest, count = hashlib.sha256(), 0
        while data := link.socket.recv(CHUNK):
            digest.update(data)
            count += len(data)
        return digest.hexdigest(), count

    def stop(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """What was sent and what came."""
        self._stop.set()
        return self.sent.result(2 * DEADLINE), self.received.result(2 * DEADLINE)


def hang_up(gateway: Subprocess) -> None:
    gateway.process.send_signal(signal.SIGHUP)


def drained_by_command(gateway: Subprocess) -> None:
    url = f"http://{gateway.host}:8080"
    assert run_relayx("drain", "--admin", url).ended() == 0


def rewrite(gateway: Subprocess, where: str, sections: dict[str, Any]) -> None:
    """Write the files again, each in one step."""
    gateway.write(where, sections, config="config.new", secrets="secrets.new")
    for name in ("secrets.json", "config.yaml"):
        os.replace(gateway.directory / f"{name.partition('.')[0]}.new", gateway.directory / name)


class Hangups(TestCase):
    """SIGHUP."""

    def stopped(self, gateway: Subprocess) -> str:
        gateway.terminate()
        status, written = gateway.ended()
        self.assertEqual((status, "Traceback" in written), (0, False), written)
        self.assertNotIn(SECRET, written)
        return written

    def test_reloads(self) -> None:
        """What the files say now is in force, ports included; a bad file is told of."""
        where = self.mktemp()
        with twistd(where, zmq=2) as gateway:
            gateway.zmq.append(gateway.zmq[-1] + 1)
            rewrite(gateway, where, {"relay": {"max_fe": 9}, "log": {"format": "json"}})
            hang_up(gateway)
            gateway.wait_for("configuration revision 2")
            gateway.fe(), gateway.be()
            gateway.pair(gateway.zmq[-1])
            gateway.directory.joinpath("config.yaml").unlink()
            hang_up(gateway)
            gateway.wait_for("stays at revision 2")
            gateway.fe()
            rewrite(gateway, where, {"relay": {"max_be": 1}, "log": {"level": "error"}})
            hang_up(gateway)
            deadline = time.monotonic() + DEADLINE
            while "max_be" not in self.refusal_of_a_probe(gateway):
                self.assertLess(time.monotonic(), deadline)
            gateway.fe("quiet").ping()
            written = self.stopped(gateway)
        self.assertNotIn("quiet", written)
        self.assertIn('"message":"relay.max_fe: 50 -> 9"', written)
        self.assertIn("relay.zmq_end_port", written)
        self.assertIn("config.yaml: does not exist", written)

    def refusal_of_a_probe(self, gateway: Subprocess) -> str:
        """Why one more back end is refused, "" where it is not."""
        probe = gateway.control()
        told: str = probe.register("BE", SECRET, "probe").get("error", "")
        probe.close()
        return told

    def test_storm(self) -> None:
        """100 in a second while sessions run: few reloads, the last one counts, no byte is lost."""
        where = self.mktemp()
        with twistd(where, zmq=4, data={"admission": "open"}) as gateway:
            first = gateway.zmq
            pairs = [gateway.pair(port) for port in first[:2]]
            streams = [
                Endless(gateway, *ends, seed)
                for seed, ends in enumerate(e for fe, be in pairs for e in ((fe, be), (be, fe)))
            ]
            client = gateway.fe()
            began = time.monotonic()
            for number in range(100):
                # Now and then ports go, those of the sessions among them, and come back.
                gateway.zmq = first if number % 10 else first[2:]
                sections = {"data": {"admission": "open"}, "relay": {"max_fe": 100 + number}}
                rewrite(gateway, where, sections)
                hang_up(gateway)
                client.ping()
            gateway.zmq = first
            rewrite(gateway, where, {"data": {"admission": "open"}, "relay": {"max_fe": 7}})
            hang_up(gateway)
            seconds = time.monotonic() - began
            gateway.wait_for("-> 7\n")
            client.ping()
            for (sent, count), received in [stream.stop() for stream in streams]:
                self.assertEqual(received, (sent, count))
                self.assertGreater(count, 0)
            for fe, be in pairs:
                fe.close(), be.close()
            client.state(lambda state: state["zmq_total"] == 4 and state["zmq_busy"] == 0)
            gateway.pair(first[0])
            written = self.stopped(gateway)
        reloads = len(re.findall(r"configuration revision \d+: ", written))
        self.assertLessEqual(reloads, 2 + seconds / 0.25)
        self.assertGreater(reloads, 0)
        self.assertNotIn("stays at revision", written)

    def test_while_draining(self) -> None:
        """Ignored, with a line that says so: neither applied nor a reload that failed."""
        where = self.mktemp()
        for drain in (Subprocess.terminate, drained_by_command):
            sections = {
                "data": {"drain_timeout": NEVER, "admission": "open"},
                "http": {"endpoint": "tcp:8080:interface={host}"},
            }
            with twistd(where, **sections) as gateway:
                fe, be = gateway.pair(gateway.zmq[0])
                drain(gateway)
                gateway.wait_for("stopping: 1 sessions run")
                rewrite(gateway, where, {**sections, "relay": {"max_fe": 9}})
                hang_up(gateway)
                gateway.wait_for("is ignored: the gateway is stopping")
                fe.close(), be.close()
                status, written = gateway.ended()
            self.assertEqual((status, "Traceback" in written), (0, False), written)
            self.assertNotIn("revision", written)

    def test_relative_paths_of_a_daemon_elsewhere(self) -> None:
        """``--rundir`` leaves the directory that the files are in."""
        gateway = Elsewhere(random_host(), 1, 0)
        where = self.mktemp()
        gateway.write(where, {"audit": {"file": "audit.jsonl"}})
        (gateway.directory / "away").mkdir()
        gateway.launch("-c", "config.yaml", "--env-file", "secrets.json")
        with killed_in_the_end(gateway):
            gateway.wait_until_listening()
            rewrite(gateway, where, {"relay": {"max_fe": 9}, "audit": {"file": "other.jsonl"}})
            hang_up(gateway)
            gateway.wait_for("configuration revision 2")
            gateway.terminate()
            status, written = gateway.ended()
        self.assertEqual(status, 0, written)
        found = {path.name for path in gateway.directory.iterdir()}
        self.assertTrue({"audit.jsonl", "other.jsonl"} <= found, found)
        self.assertEqual(list((gateway.directory / "away").glob("*.jsonl")), [])


class Elsewhere(Subprocess):
    """A gateway whose process goes to another directory."""

    def program(self) -> tuple[str, ...]:
        return (*super().program(), "--rundir=away")


class Watched(TestCase):
    """``reload.watch: on``."""

    def test_files_are_replaced(self) -> None:
        """By renames, one after the other; a deleted file keeps the old.

        That is one reload, of both, unless the machine stands still between the two.
        """
        where = self.mktemp()
        watch = {"reload": {"watch": "on"}}
        with twistd(where, **watch) as gateway:
            gateway.fe()
            rewrite(gateway, where, {**watch, "relay": {"max_fe": 9}})
            gateway.wait_for("relay.max_fe: 50 -> 9")
            gateway.wait_for("configuration revision ")
            (gateway.directory / "secrets.json").unlink()
            gateway.wait_for("stays at revision ")
            rewrite(gateway, where, {**watch, "relay": {"max_fe": 11}})
            gateway.wait_for("relay.max_fe: 9 -> 11")
            gateway.wait_for("configuration revision ")
            rewrite(gateway, where, {"relay": {"max_fe": 12}})
            gateway.wait_for("reload.watch: on -> off")
            gateway.wait_for("configuration revision ")
            rewrite(gateway, where, watch)
            hang_up(gateway)
            gateway.wait_for("reload.watch: off -> on")
            gateway.wait_for("configuration revision ")
            Path(gateway.directory / "config.yaml").write_text("relay: [")
            gateway.wait_for("stays at revision ")
            gateway.terminate()
            status, written = gateway.ended()
        self.assertEqual((status, "Traceback" in written), (0, False), written)
        self.assertNotIn("inotify", written)

    def test_where_inotify_fails(self) -> None:
        """No watches are left for this user: that is logged once, and changes are seen."""
        if not may_limit_watches():
            self.skipTest("a user namespace with a limit of its own cannot be made here")
        gateway = Unwatched(random_host(), 1, 0)
        where, watch = self.mktemp(), {"reload": {"watch": "on"}}
        gateway.write(where, watch)
        gateway.launch("-c", "config.yaml", "--env-file", "secrets.json")
        with killed_in_the_end(gateway):
            gateway.wait_for("fs.inotify.max_user_watches")
            gateway.wait_until_listening()
            for before, after in ((50, 9), (9, 11)):
                rewrite(gateway, where, {**watch, "relay": {"max_fe": after}})
                gateway.wait_for(f"relay.max_fe: {before} -> {after}")
                gateway.wait_for("configuration revision ")
            gateway.terminate()
            status, written = gateway.ended()
        self.assertEqual((status, "Traceback" in written), (0, False), written)
        self.assertEqual(written.count("looked at each second"), 1)


LIMIT_WATCHES = ("unshare", "--user", "--map-root-user", "sh", "-c")
NO_WATCHES = "echo 0 > /proc/sys/user/max_inotify_watches"


def may_limit_watches() -> bool:
    """Whether a process may be given a limit of inotify watches of its own."""
    try:
        return subprocess.run([*LIMIT_WATCHES, NO_WATCHES], check=False).returncode == 0
    except FileNotFoundError:
        return False


class Unwatched(Subprocess):
    """A gateway that may watch no directory."""

    def program(self) -> tuple[str, ...]:
        flag, code = super().program()
        run = (*LIMIT_WATCHES, f'{NO_WATCHES} && exec "$@"', "sh", sys.executable, flag, code)
        return ("-c", f"import os, sys; os.execvp({run[0]!r}, [*{run!r}, *sys.argv[1:]])")
