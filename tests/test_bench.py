"""The bench runs: its load generator compiles, moves bytes, and the results are written."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, TestCase


def root() -> str:
    """Where ``bench/`` is."""
    found = importlib.util.find_spec("bench")
    if found is None or not found.origin:
        raise SkipTest("bench/ is not where the tests run")
    return str(Path(found.origin).parent.parent)


def run(module: str, *arguments: str, tries: int = 1) -> None:
    """Run a bench to its end.

    :param tries: more where a machine that stands still disturbs what is measured.
    """
    path = os.pathsep.join(filter(None, [root(), os.environ.get("PYTHONPATH", "")]))
    for _ in range(tries):
        ended = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if ended.returncode == 0:
            return
    raise AssertionError(ended.stdout + ended.stderr)


class Quick(TestCase):
    """One short round over a direct connection, which needs neither gateway nor peers."""

    def test_direct(self) -> None:
        """Figures in all three files, and everything sent was received."""
        root()
        if not shutil.which(os.environ.get("CC") or "cc"):
            raise SkipTest("no C compiler")
        folder = Path(self.mktemp()).absolute()
        run(
            *("bench", "--quick", "--only", "bulk1,churn", "--peers", "direct"),
            *("--out", str(folder), "--name", "quick"),
        )
        told = json.loads((folder / "quick.json").read_text())
        bulk, churn = told["measurements"]
        self.assertEqual(bulk["raw"]["sent"], bulk["raw"]["got"])
        self.assertGreater(bulk["values"]["gb_per_s"], 0.01)
        self.assertGreater(churn["values"]["pairs_per_s"], 10)
        self.assertIn("GB/s", (folder / "quick.rst").read_text())
        self.assertTrue((folder / "quick.svg").read_text().startswith("<svg"))


class Srt(TestCase):
    """The bench of SRT on srt-live-transmit, which is what the gateway is compared with."""

    def test_quick(self) -> None:
        """Every message arrives, and later than the latency of both legs."""
        root()
        if not shutil.which("srt-live-transmit"):
            raise SkipTest("srt-live-transmit is not installed (Debian package srt-tools)")
        compiler = shutil.which(os.environ.get("CC") or "cc")
        if (
            not compiler
            or subprocess.run(
                [compiler, "-E", "-"],
                input=b"#include <srt/srt.h>\n",
                capture_output=True,
                check=False,
            ).returncode
        ):
            raise SkipTest("no C compiler, or no headers of libsrt (libsrt-openssl-dev)")
        file = Path(self.mktemp()).absolute()
        run(
            *("bench.srt", "--rounds", "1", "--seconds", "1", "--only", "delay50"),
            *("--peers", "srt-live-transmit", "--json", str(file)),
            tries=3,
        )
        (result,) = json.loads(file.read_text())["rows"]["delay50"]["srt-live-transmit"]
        self.assertEqual(result["raw"]["sent"], result["raw"]["received"])
        self.assertGreater(result["raw"]["sent"], 1000)
        self.assertGreater(result["values"]["delay_p50"], 95)

    def test_judged(self) -> None:
        """What is lost, altered or out of order is a fault, and so is a wrong count of resends."""
        if importlib.util.find_spec("bench") is None:
            raise SkipTest("bench/ is not where the tests run")
        judged = importlib.import_module("bench.srt").judged
        whole = {
            "sent": 100,
            "lost": 0,
            "out_of_order": 0,
            "corrupt": 0,
            "stuck_ms": 0,
            "bytes": 2e9,
            "seconds": 2.0,
            "mbit_per_s": 8000.0,
            "cpu": 3.0,
            "load_cpu": 1.0,
            "delay": {"p50_us": 100e3, "p99_us": 120e3},
            "source": {"retransmitted": 5},
        }
        result = judged(dict(whole), [{"to_target": {"retransmitted": 5}}])
        self.assertEqual(result.faults, [])
        self.assertEqual((result.values["cpu_per_gb"], result.values["cpu_percent"]), (1.5, 150))
        for key in ("lost", "out_of_order", "corrupt", "stuck_ms"):
            self.assertEqual(len(judged({**whole, key: 1}, []).faults), 1, key)
        self.assertEqual(len(judged(dict(whole), [{"to_target": {"retransmitted": 4}}]).faults), 1)


class Zmq(TestCase):
    """The bench of ZeroMQ, on no relay and on the gateway."""

    def test_quick(self) -> None:
        """Every message arrives, questions are answered, and the gateway counts them all."""
        root()
        if importlib.util.find_spec("zmq") is None:
            raise SkipTest("pyzmq is not installed")
        if lack := importlib.import_module("bench.peers.zmq_relays").compiler_and_libzmq():
            raise SkipTest(f"needs {lack}")
        file = Path(self.mktemp()).absolute()
        run(
            *("bench.zmq", "--rounds", "1", "--seconds", "0.5", "--only", "ping,large,inspect"),
            *("--peers", "none,relayx-messages", "--json", str(file)),
            tries=3,
        )
        rows = json.loads(file.read_text())["rows"]
        (ping,), (large,) = rows["ping"]["none"], rows["large"]["none"]
        self.assertGreater(ping["values"]["p50_us"], 1)
        self.assertGreater(large["raw"]["received"], 10)
        (counted,) = rows["inspect"]["relayx-messages"]
        self.assertEqual(counted["raw"]["counted"], counted["raw"]["sent"])

    def test_judged(self) -> None:
        """What is lost, added, altered or miscounted is a fault."""
        if importlib.util.find_spec("bench") is None:
            raise SkipTest("bench/ is not where the tests run")
        zmq = importlib.import_module("bench.zmq")
        row = next(row for row in zmq.ROWS if row.name == "small")
        whole = {
            "sent": 3000, "received": 3000, "same": True, "wrong": 0, "window": 2000,
            "seconds": 2.0, "cpu": 1.0, "load_cpu": 3.0, "trips": {"count": 0}, "counted": 3000,
        }  # fmt: skip
        result = zmq.judged(row, dict(whole), 2.0)
        self.assertEqual(result.faults, [])
        self.assertEqual(result.values["messages_per_s"], 1000)
        self.assertEqual(result.values["cpu_each_us"], 500)
        for wrong in (
            {"received": 2999, "counted": 2999}, {"same": False}, {"wrong": 1}, {"window": 0},
            {"counted": 2999},
        ):  # fmt: skip
            self.assertEqual(len(zmq.judged(row, {**whole, **wrong}, 2.0).faults), 1, wrong)

    def test_ratios(self) -> None:
        """They are of the rounds; a time is to be little, a rate to be much."""
        if importlib.util.find_spec("bench") is None:
            raise SkipTest("bench/ is not where the tests run")
        zmq = importlib.import_module("bench.zmq")
        rows = {row.name: row for row in zmq.ROWS}
        found = {
            "haproxy": [zmq.Result({"p50_us": 100.0}), zmq.Result({"p50_us": 50.0})],
            "relayx": [zmq.Result({"p50_us": 130.0}), zmq.Result({})],
        }
        self.assertEqual(zmq.ratios(rows["ping"], found, "relayx"), [1.3])
        self.assertTrue(rows["ping"].reached(1.3))
        self.assertFalse(rows["ping"].reached(1.36))
        self.assertTrue(rows["large"].reached(1.3))
        self.assertFalse(rows["large"].reached(1.29))


class Operations(TestCase):
    """What is read out of what wrk says."""

    def test_wrk(self) -> None:
        """Its rate, and what went wrong; where it says nothing of use, that is a fault."""
        if importlib.util.find_spec("bench") is None:
            raise SkipTest("bench/ is not where the tests run")
        read_wrk = importlib.import_module("bench.operations").read_wrk
        self.assertEqual(read_wrk("\nRequests/sec:   1234.50\n"), (1234.5, []))
        said = "  Socket errors: connect 0, read 1, write 0, timeout 0\nRequests/sec: 7\n"
        rate, faults = read_wrk(said)
        self.assertEqual((rate, len(faults)), (7, 1))
        self.assertEqual(len(read_wrk("unable to connect")[1]), 1)
