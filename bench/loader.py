"""Builds the load generator (bench/load, C) and runs it on sockets that it inherits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.processes import PeerError

SOURCES = Path(__file__).with_name("load")
FLAGS = ("-std=c99", "-O2", "-Wall", "-Wextra", "-pthread")
PROGRAMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "load": (("main.c", "measure.c", "streams.c", "churn.c"), ()),
    "srtload": (("srtload.c", "measure.c"), ("-lsrt",)),
    "zmqload": (("zmqload.c", "measure.c"), ("-lzmq",)),
}
"""Sources and libraries of each load generator."""
SLACK = 60.0
"""Seconds after which a load generator that does not end is killed, beyond what it was told."""


def compiler() -> str | None:
    """The system's C compiler, or $CC."""
    return shutil.which(os.environ.get("CC") or "cc")


def build(directory: Path, program: str = "load") -> Path:
    """Compile one of :data:`PROGRAMS` into `directory`, and return it.

    :raises PeerError: where there is no compiler, or it fails.
    """
    found = compiler()
    if not found:
        raise PeerError("no C compiler: the load generator needs cc (Debian package gcc)")
    target = directory / program
    names, libraries = PROGRAMS[program]
    sources = [str(SOURCES / name) for name in names]
    command = [found, *FLAGS, "-o", str(target), *sources, *libraries]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if ended.returncode:
        raise PeerError(f"{' '.join(command)}: {ended.stderr}")
    return target


class Loader:
    """The compiled program, and how long it is to run.

    :ivar seconds: of each measurement, after `warmup` seconds that are not counted.
    """

    def __init__(self, program: Path, seconds: float, warmup: float) -> None:
        self._program = program
        self.seconds = seconds
        self.warmup = warmup

    def run(
        self,
        words: Sequence[str],
        descriptors: Sequence[int],
        watched: Sequence[int],
        options: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Run it, and return what it printed.

        :raises PeerError: where it failed.
        """
        command = [str(self._program), "--warmup", str(self.warmup)]
        command += ["--seconds", str(self.seconds), *options]
        if watched:
            command += ["--watch", ",".join(map(str, watched))]
        try:
            ended = subprocess.run(
                [*command, *words],
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=self.seconds + self.warmup + SLACK,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PeerError("the load generator did not end") from None
        if ended.returncode:
            raise PeerError(f"the load generator: {ended.stderr.strip()}")
        result: dict[str, Any] = json.loads(ended.stdout)
        return result
