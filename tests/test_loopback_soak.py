"""Many short sessions leave nothing behind: no descriptor, no memory (contract section 7)."""

from __future__ import annotations

import gc
import os
import socket
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.guide_peer import DEADLINE, hello_line
from tests.live import Gateway, live

SESSIONS = 10_000
WARM = 2_000
WORKERS = 4
MOST_GROWTH = 6 << 20
"""Bytes: what the allocator may take between the two looks without anything being kept."""


def resident() -> int:
    """Bytes of this process in RAM, after everything unreachable is gone."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def run_sessions(host: str, port: int, count: int) -> int:
    """Run short sessions one after another on one port; return how many were whole."""
    whole = 0
    be_hello = hello_line("BE", on_fe_close="close", ack=True)
    fe_hello = hello_line("FE")
    for _ in range(count):
        with socket.create_connection((host, port), DEADLINE) as be:
            be.sendall(be_hello)
            if not be.recv(100).startswith(b"RLX1OK"):
                continue
            with socket.create_connection((host, port), DEADLINE) as fe:
                fe.sendall(fe_hello + b"?")
                got = b""
                while not got.endswith(b"?"):
                    got += be.recv(1000)
                be.sendall(b"!")
                be.shutdown(socket.SHUT_WR)
                answer = fe.recv(10)
                fe.shutdown(socket.SHUT_WR)
                whole += answer == b"!" and not fe.recv(10) and not be.recv(10)
    return whole


class Soak(TestCase):
    """Ten thousand sessions."""

    timeout = 120

    @live(zmq=WORKERS, srt=0, data={"admission": "open"}, log={"level": "error"})
    def test_nothing_is_left(self, gateway: Gateway) -> None:
        """Sections 4 and 7: every session is whole; descriptors and memory are as before."""

        def run(total: int) -> None:
            each = total // WORKERS
            jobs = [
                gateway.background(run_sessions, gateway.host, port, each) for port in gateway.zmq
            ]
            self.assertEqual(sum(job.result(100) for job in jobs), each * WORKERS)

        witness = gateway.fe()
        run(WARM)
        witness.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)
        before = resident(), descriptors()
        run(SESSIONS - WARM)
        witness.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)
        self.assertLess(resident() - before[0], MOST_GROWTH)
        self.assertLessEqual(descriptors(), before[1] + 2)
