"""``twistd relayx`` in a process of its own, for the same tests as :mod:`tests.live`."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tests import turns
from tests.guide_peer import DEADLINE
from tests.live import SECRET, Peers, Sections, random_host, settings


class Subprocess(Peers):
    """``twistd -n relayx`` with a configuration of its own, in a directory of its own."""

    process: subprocess.Popen[bytes]
    not_passed_on: tuple[str, ...] = ("RELAY", "LISTEN_", "NOTIFY_", "WATCHDOG_")
    inherits: tuple[int, ...] = ()
    """Descriptors that the process gets, under the numbers that they have here."""

    def __init__(self, host: str, zmq: int, srt: int) -> None:
        super().__init__(host, zmq, srt)
        self.written = b""
        self._read = 0

    def start(self, where: str, sections: Sections) -> None:
        """Write the files and start the process; does not wait for it to listen."""
        self.write(where, sections)
        self.launch("-c", "config.yaml", "--env-file", "secrets.json")

    def write(
        self,
        where: str,
        sections: Sections,
        config: str = "config.yaml",
        secrets: str = "secrets.json",
        mode: int = 0o600,
    ) -> None:
        """Write the two files, by their names inside of the directory.

        :param mode: of the secret file.
        """
        self.directory = Path(where).absolute()
        self.pid_file = self.directory / f"{self.host}.pid"
        whole = settings(self, sections)
        config_file, secret_file = self.directory / config, self.directory / secrets
        config_file.parent.mkdir(parents=True, exist_ok=True)
        config_file.write_text(config_text(whole))
        secret_file.write_text(json.dumps({"auth_secret": SECRET}))
        secret_file.chmod(mode)

    def launch(self, *arguments: str, daemon: bool = False, **env: str) -> None:
        """Start the process in the directory.

        :param arguments: what ``twistd relayx`` gets.
        :param daemon: leave ``-n`` out; the log is in ``twistd.log`` of the directory then.
        :param env: on top of an environment without relayx's own variables.
        """
        origin = importlib.util.find_spec("relayx").origin  # type: ignore[union-attr]
        root = Path(origin).parent.parent  # type: ignore[arg-type]
        path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
        how = [f"--logfile={self.directory / 'twistd.log'}"] if daemon else ["-n"]
        known = {k: v for k, v in os.environ.items() if not k.startswith(self.not_passed_on)}
        self.process = subprocess.Popen(
            [
                *(sys.executable, *self.program(), *how),
                *(f"--pidfile={self.pid_file}", "relayx", *arguments),
            ],
            cwd=self.directory,
            env={**known, "PYTHONPATH": path, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=self.inherits,
        )

    def program(self) -> tuple[str, ...]:
        """What Python runs, which gets the arguments of twistd."""
        return ("-c", "from twisted.scripts.twistd import run; run()")

    def wait_until_listening(self) -> None:
        """Try to connect whenever the process has written something, until that works.

        Data ports listen a moment after the control endpoint.
        """
        deadline = time.monotonic() + 2 * DEADLINE
        stdout = self.process.stdout
        while time.monotonic() < deadline and self.process.poll() is None:
            if select.select([stdout], [], [], 0.05)[0]:
                self.written += os.read(stdout.fileno(), 65536)  # type: ignore[union-attr]
            try:
                self.control().close()
            except ConnectionRefusedError:
                continue
            if all(map(self._is_taken, (*self.zmq, *self.srt)[-1:])):
                return
        raise AssertionError(f"the gateway does not listen; it wrote {self.written.decode()}")

    def _is_taken(self, port: int) -> bool:
        """Whether somebody listens there, who is not asked; a bound socket is in nobody's way."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, port))
            except OSError as error:
                return error.errno == errno.EADDRINUSE
        return False

    def wait_for(self, text: str) -> None:
        """Wait until the process has written some text since the last call."""
        deadline = time.monotonic() + 2 * DEADLINE
        stdout: Any = self.process.stdout
        while text.encode() not in self.written[self._read :]:
            left = deadline - time.monotonic()
            if left <= 0 or self.process.poll() is not None:
                raise AssertionError(f"no {text!r} in {self.written.decode()}")
            if select.select([stdout], [], [], left)[0]:
                self.written += os.read(stdout.fileno(), 65536)
        self._read = self.written.index(text.encode(), self._read) + len(text)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def ended(self) -> tuple[int, str]:
        """Wait for the process's own end: exit status, and all that it wrote."""
        written, _ = self.process.communicate(timeout=2 * DEADLINE)
        self.written += written
        return self.process.returncode, self.written.decode()

    def resident(self) -> int:
        """Bytes of memory that the process has in RAM."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024


class Timed(Subprocess):
    """The same, with the turns of its reactor timed; coverage, which takes most of the time of
    what it looks at, leaves this process alone. Its log is in ``twistd.log``."""

    not_passed_on = (*Subprocess.not_passed_on, "COVERAGE_PROCESS")

    @property
    def _timed(self) -> Path:
        return self.directory / "turns"

    def program(self) -> tuple[str, ...]:
        """See :mod:`tests.turns`."""
        return ("-P", turns.__file__, str(self._timed), "--logfile=twistd.log")

    def turns(self) -> list[turns.Turn]:
        """The turns of its reactor, once it has ended."""
        return turns.read(self._timed)


def config_text(whole: Sections) -> str:
    """A configuration file."""
    return yaml.safe_dump(
        {
            name: {k: _written(v) for k, v in keys.items()} if name != "clients" else keys
            for name, keys in whole.items()
        }
    )


def _written(value: Any) -> Any:
    """A configuration value as YAML has it; a float is a duration."""
    if isinstance(value, Enum):
        return value.value
    return f"{round(value * 1000)}ms" if isinstance(value, float) else value


SubprocessType = TypeVar("SubprocessType", bound=Subprocess)


@contextmanager
def twistd(
    directory: str,
    *,
    zmq: int = 2,
    srt: int = 0,
    kind: type[SubprocessType] = Subprocess,  # type: ignore[assignment]
    real_srt: dict[str, Any] | None = None,
    **sections: dict[str, Any],
) -> Iterator[SubprocessType]:
    """A listening gateway in a process of its own; killed in the end where it still runs.

    :param real_srt: see :func:`live`.
    """
    if real_srt is not None:
        sections["srt"] = {"enabled": "yes", **real_srt}
    gateway = kind(random_host(), zmq, srt)
    gateway.start(directory, sections)
    with killed_in_the_end(gateway):
        gateway.wait_until_listening()
        yield gateway


@contextmanager
def killed_in_the_end(gateway: Subprocess) -> Iterator[None]:
    """Close a gateway's peers and end its process, where that still runs."""
    try:
        yield
    finally:
        gateway.close_all()
        if gateway.process.poll() is None:
            gateway.process.kill()
        gateway.process.communicate()
