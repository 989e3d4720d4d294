"""What relays SRT: the gateway, and srt-live-transmit.

Both are dialled by both sides, with the same latency. srt-live-transmit is one process a session;
the gateway is one for all.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.peers.gateway import CONTROL_PORT, ROOT
from bench.peers.twisted_peers import TWISTD
from bench.processes import Child
from bench.sockets import dial, fresh_host, until_it_listens

FIRST_PORT = 10000
PUBLISHER = "#!::m=publish,x-role=BE,u=bench-be"
WATCHER = "#!::m=request,x-role=FE,u=bench-fe"
"""Stream ids of the two sides; srt-live-transmit takes no notice."""

CONFIG = """\
relay:
  control_port: {control}
  srt_start_port: {first}
  srt_end_port: {last}
control:
  endpoints: ["tcp:{control}:interface={host}"]
data:
  interface: {host}
  admission: open
srt:
  enabled: yes
{srt}http:
  endpoint: ""
log:
  level: warn
"""

Address = tuple[str, int]


class SrtRelay(ABC):
    """Something that joins two SRT callers.

    :ivar name: how it is called in tables.
    """

    name: str

    @abstractmethod
    def missing(self) -> str:
        """Why it cannot be measured here, or ""."""

    @abstractmethod
    def version(self) -> str:
        """What exactly is measured."""

    @abstractmethod
    def start(self, directory: Path, host: str, sessions: int, latency: int) -> list[Child]:
        """Start it; its processes."""

    @abstractmethod
    def ends(self, host: str, index: int) -> tuple[Address, Address]:
        """Where the publisher and the watcher of a session call."""

    @contextmanager
    def running(self, sessions: int, latency: int) -> Iterator[tuple[str, list[Child]]]:
        """Its loopback address and processes, stopped in the end whatever happens.

        :param latency: in ms.
        """
        with tempfile.TemporaryDirectory(prefix="relayx-bench-") as directory:
            host = fresh_host()
            children = self.start(Path(directory), host, sessions, latency)
            try:
                yield host, children
            finally:
                for child in children:
                    child.stop()


class SrtLiveTransmit(SrtRelay):
    """libsrt's own sample, a listener on both sides."""

    name = "srt-live-transmit"

    def missing(self) -> str:
        """Which package would bring it."""
        return "" if shutil.which(self.name) else "Debian package srt-tools"

    def version(self) -> str:
        """What it says itself."""
        told = subprocess.run(
            [self.name, "-version"], capture_output=True, text=True, timeout=20, check=False
        )
        return (told.stdout + told.stderr).strip().splitlines()[-1]

    def ends(self, host: str, index: int) -> tuple[Address, Address]:
        """Two ports a session."""
        return (host, FIRST_PORT + 2 * index), (host, FIRST_PORT + 2 * index + 1)

    def start(self, directory: Path, host: str, sessions: int, latency: int) -> list[Child]:
        """A process a session. It does not say when it listens; callers try again meanwhile."""
        children = []
        for index in range(sessions):
            own = directory / str(index)
            own.mkdir()
            urls = [
                f"srt://{address}:{port}?mode=listener&latency={latency}"
                for address, port in self.ends(host, index)
            ]
            # without a chunk of this size it reads 1456 bytes, which are the same messages
            children.append(Child([self.name, "-q", "-a:no", *urls], own))
        return children


class SrtGateway(SrtRelay):
    """relayx with ``srt.enabled: yes`` and admission open.

    :param path: a checkout to run instead of this one.
    :param srt: keys of the section ``srt`` besides latency.
    """

    def __init__(
        self, name: str = "relayx", path: str = "", srt: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._root = Path(path).resolve() if path else ROOT
        self._srt = dict(srt or {})

    def missing(self) -> str:
        """SRT may not be in that checkout."""
        return "" if (self._root / "relayx" / "srt").is_dir() else "relayx.srt"

    def version(self) -> str:
        """The commit."""
        command = ["git", "-C", str(self._root), "describe", "--always", "--dirty"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        told = [f"{key}: {value}" for key, value in self._srt.items()]
        commit = ended.stdout.strip() or "unknown commit"
        return f"relayx {commit}" + (f" ({', '.join(told)})" if told else "")

    def ends(self, host: str, index: int) -> tuple[Address, Address]:
        """One port a session."""
        return (host, FIRST_PORT + index), (host, FIRST_PORT + index)

    def start(self, directory: Path, host: str, sessions: int, latency: int) -> list[Child]:
        """One process, whose control port is listening."""
        keys = {"latency": str(latency), **self._srt}
        (directory / "config.yaml").write_text(
            CONFIG.format(
                control=CONTROL_PORT,
                first=FIRST_PORT,
                last=FIRST_PORT + max(sessions, 2) - 1,
                host=host,
                srt="".join(f"  {key}: {value}\n" for key, value in keys.items()),
            )
        )
        secret_file = directory / "secrets.json"
        secret_file.touch(mode=0o600)
        secret_file.write_text(json.dumps({"auth_secret": secrets.token_hex(32)}))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RELAY")}
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(self._root), environment.get("PYTHONPATH", "")])
        )
        told = ["relayx", "-c", "config.yaml", "--env-file", "secrets.json"]
        child = Child([*TWISTD, "--pidfile=twistd.pid", *told], directory, environment)
        until_it_listens(child, lambda: dial((host, CONTROL_PORT))).close()
        # A handshake while Python still starts is slow, and by as much libsrt takes the peer's
        # clock to be behind: it would delay that connection's messages for good.
        time.sleep(1)
        return [child]


class Impaired:
    """The impairment proxy of the tests before an address, in a process of its own.

    :param loss: chance of each packet to be lost, each way.
    :param delay: ms each way.
    """

    def __init__(self, target: Address, loss: float, delay: float, seed: int) -> None:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.impairment"),
                *("--target", f"{target[0]}:{target[1]}"),
                *("--loss", str(loss), "--delay", str(delay), "--seed", str(seed)),
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        said = self._process.stdout.readline().removeprefix("listening ")
        host, _, port = said.strip().rpartition(":")
        self.address: Address = (host, int(port))

    def stop(self) -> dict[str, dict[str, int]]:
        """End it; the counts of both ways."""
        try:
            said, _ = self._process.communicate(timeout=20)
        finally:
            self._process.kill()
            self._process.wait()
        counts: dict[str, dict[str, int]] = json.loads(said)
        return counts
