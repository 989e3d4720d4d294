"""Many short sessions leave nothing behind: no descriptor, no memory (contract section 7)."""

from __future__ import annotations

import gc
import os
import socket
import sys
from pathlib import Path

from twisted.trial.unittest import TestCase

from tests.guide_peer import DEADLINE, hello_line
from tests.live import Gateway, live

WARM = 1_000
SESSIONS = 2_000
WORKERS = 4
MOST_BLOCKS = SESSIONS // 4
"""Blocks of Python's allocator that may be in use more than before: one object kept of every
session is four times as many."""
MOST_GROWTH = 2 << 20
"""Bytes, for what is not in such blocks; a KiB kept of every session is as many."""


def blocks() -> int:
    """How many blocks of memory Python's objects take, after everything unreachable is gone."""
    gc.collect()
    return sys.getallocatedblocks()


def resident() -> int:
    """Bytes of this process in RAM."""
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
    """Some thousand sessions, with every object that is kept counted."""

    @live(zmq=WORKERS, srt=0, data={"admission": "open"}, log={"level": "error"})
    def test_nothing_is_left(self, gateway: Gateway) -> None:
        """Sections 4 and 7: every session is whole; descriptors and memory are as before."""

        def run(total: int) -> None:
            """Run so many sessions, until their ports are free and nobody notes what was said."""
            each = total // WORKERS
            jobs = [
                gateway.background(run_sessions, gateway.host, port, each) for port in gateway.zmq
            ]
            self.assertEqual(sum(job.result(100) for job in jobs), each * WORKERS)
            witness.state(lambda state: state["zmq_empty_ports"] == gateway.zmq)
            witness.log.clear()

        witness = gateway.fe()
        run(WARM)
        before = blocks(), resident(), descriptors()
        run(SESSIONS)
        self.assertLess(blocks() - before[0], MOST_BLOCKS)
        self.assertLess(resident() - before[1], MOST_GROWTH)
        self.assertLessEqual(descriptors(), before[2] + 2)
