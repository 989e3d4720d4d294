"""The ``relayx`` command as a process of its own, for tests that run in a thread."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tests.live import SECRET

DEADLINE = 120.0
"""Seconds that anything may take before a test gives up: its start alone takes 20 s, where ten
others start on the same two cores."""


def command_line(*arguments: str) -> list[str]:
    """What to run for ``relayx`` with these arguments.

    Where the tests are measured, so is this: coverage starts in every child (``patch`` in
    setup.cfg), and a ``coverage run`` here would be the second in one process.
    """
    return [sys.executable, "-m", "relayx.cli", *arguments]


def environment(**more: str) -> dict[str, str]:
    """An environment that finds the relayx that is tested, and nobody's settings."""
    origin = importlib.util.find_spec("relayx").origin  # type: ignore[union-attr]
    root = str(Path(origin).parent.parent)  # type: ignore[arg-type]
    ours = {n: v for n, v in os.environ.items() if not n.startswith(("RELAY_", "RELAYX_"))}
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    known = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "RELAYX_CONNECT_TIMEOUT": "30s"}
    return {**ours, **known, **more}


class RelayxProcess:
    """One ``relayx`` that runs, with all that it has written so far."""

    def __init__(
        self,
        *arguments: str,
        stdin: Any,
        stderr: Any,
        cwd: str | None,
        env: dict[str, str],
    ) -> None:
        self.process = subprocess.Popen(
            command_line(*arguments),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=cwd,
            env=env,
        )
        self._written = {"stdout": b"", "stderr": b""}
        self._news = threading.Condition()
        self._readers = [
            threading.Thread(
                target=self._collect, args=(name, getattr(self.process, name)), daemon=True
            )
            for name in self._written
            if getattr(self.process, name) is not None
        ]
        for reader in self._readers:
            reader.start()

    def _collect(self, name: str, stream: BinaryIO) -> None:
        with stream:
            while data := os.read(stream.fileno(), 65536):
                with self._news:
                    self._written[name] += data
                    self._news.notify_all()
        try:
            self.process.wait(DEADLINE)
        finally:
            with self._news:
                self._news.notify_all()

    @property
    def stdout(self) -> bytes:
        """What it has written to its standard output."""
        return self._written["stdout"]

    @property
    def stderr(self) -> str:
        """What it has written to its standard error."""
        return self._written["stderr"].decode()

    def line(self, part: str) -> str:
        """The first line of its stderr with `part` in it, as soon as it is there."""

        def find() -> str:
            complete = self.stderr.rpartition("\n")[0].splitlines()
            return next((line for line in complete if part in line), "")

        self.wait_for(find)
        return find()

    def wait_for(self, there: Callable[[], object]) -> None:
        """Wait until what it has written is enough."""
        with self._news:
            self._news.wait_for(lambda: there() or self.process.poll() is not None, DEADLINE)
        if self.process.poll() is not None:
            self.ended()  # so that all of it has been read
        if not there():
            raise AssertionError(f"it wrote {self.stdout!r} and {self.stderr!r}")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for its end; its exit status."""
        status = self.process.wait(DEADLINE)  # Popen lets several threads wait
        for reader in self._readers:
            reader.join(DEADLINE)
        return status

    def interrupted(self) -> int:
        """Ctrl-C, and its exit status."""
        self.signal(signal.SIGINT)
        return self.ended()


@contextmanager
def relayx(
    *arguments: str,
    gateway: str = "",
    stdin: Any = subprocess.DEVNULL,
    stderr: Any = subprocess.PIPE,
    cwd: str | None = None,
    **env: str,
) -> Iterator[RelayxProcess]:
    """Run ``relayx`` beside the test; killed at the end where it still runs.

    :param gateway: the address of one, whose secret it has then.
    """
    known = {"RELAYX_GATEWAY": gateway, "RELAYX_SECRET": SECRET} if gateway else {}
    running = RelayxProcess(
        *arguments, stdin=stdin, stderr=stderr, cwd=cwd, env=environment(**(known | env))
    )
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.ended()
        if running.process.stdin is not None:
            running.process.stdin.close()


def run_relayx(
    *arguments: str, gateway: str = "", stdin: bytes = b"", cwd: str | None = None, **env: str
) -> RelayxProcess:
    """Run ``relayx`` to its end."""
    with relayx(*arguments, gateway=gateway, stdin=subprocess.PIPE, cwd=cwd, **env) as running:
        try:
            running.process.stdin.write(stdin)  # type: ignore[union-attr]
            running.process.stdin.close()  # type: ignore[union-attr]
        except BrokenPipeError:
            pass  # it has ended without reading all
        running.ended()
    return running
