"""Child processes of the bench: starting, watching and always killing them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PATIENCE = 20.0
"""Seconds that a peer may take to listen, and a little less than it may take to end."""


class PeerError(Exception):
    """A peer could not be started, or did not do what it is for."""


_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


class Child:
    """A child process whose output goes to a file of its own.

    :param command: what to run.
    :param directory: where to run it, and where ``output.txt`` goes.
    """

    def __init__(
        self, command: Sequence[str], directory: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._output = directory / "output.txt"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=directory,
                env=dict(os.environ if environment is None else environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def said(self) -> str:
        """The end of what it wrote."""
        return self._output.read_text(errors="replace")[-2000:].strip()

    def pids(self) -> list[int]:
        """Its process and all descendants, as they are now."""
        return descendants(self._process.pid) if self.running else []

    def stop(self) -> None:
        """End it, and whatever it started; kills what does not end within three seconds."""
        for number, patience in ((signal.SIGTERM, 3.0), (signal.SIGKILL, PATIENCE)):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """`pid` and its children's children, each once."""
    found = [pid]
    for parent in found:
        for listed in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):
                found += [int(child) for child in listed.read_text().split()]
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time of `pids` together.

    It is the process's CPU clock: what ``/proc/PID/stat`` has as utime + stime, in nanoseconds
    instead of hundredths of a second.
    """
    total = 0.0
    for pid in pids:
        with suppress(OSError):
            total += time.clock_gettime((~pid << 3) | 2)  # CPUCLOCK_SCHED of that process
    return total


def memory_kib(pids: Sequence[int], key: str = "VmRSS") -> int:
    """Resident memory (``VmRSS``) of `pids` together, or the most it has been (``VmHWM``)."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(key + ":"):
                    total += int(line.split()[1])
    return total
