"""What joins ZeroMQ's sockets: the gateway in direct and in broker mode, and what it is beside.

Through the gateway both sides connect. Behind HAProxy in TCP mode one of them has to bind, and
``zmq.proxy`` binds twice. *none* is the load by itself, one side connected to the other.
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
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.peers.gateway import CONTROL_PORT, HTTP_PORT, ROOT
from bench.peers.proxies import HAPROXY, first_line, system_binary
from bench.peers.twisted_peers import TWISTD
from bench.processes import Child, PeerError
from bench.sockets import dial, fresh_host, until_it_listens

FRONT, BACK = 10000, 10001

CONFIG = """\
relay:
  control_port: {control}
  zmq_start_port: {front}
  zmq_end_port: {back}
control:
  endpoints: ["tcp:{control}:interface={host}"]
data:
  interface: {host}
  admission: open
zmq:
{zmq}http:
  endpoint: "tcp:{http}:interface={host}"
log:
  level: warn
"""


@dataclass
class Place:
    """Where a relay is.

    :ivar source: endpoint of libzmq for PUSH and REQ; `sink` that of PULL and REP. A ``+`` before
        it: to be bound.
    :ivar children: its processes.
    """

    host: str
    source: str
    sink: str
    children: list[Child] = field(default_factory=list)

    def pids(self) -> list[int]:
        """All processes of all children."""
        return [pid for child in self.children for pid in child.pids()]


class ZmqRelay(ABC):
    """Something that joins sockets of ZeroMQ.

    :ivar name: how it is called in tables.
    """

    name: str

    def missing(self) -> str:
        """Why it cannot be measured here, or ""."""
        return ""

    @abstractmethod
    def version(self) -> str:
        """What exactly is measured."""

    @abstractmethod
    def start(self, directory: Path, host: str) -> Place:
        """Start it, ready."""

    def counted(self, place: Place) -> int | None:
        """How many messages it says that it has moved; None where it does not count."""
        return None

    @contextmanager
    def running(self) -> Iterator[Place]:
        """On a loopback address of its own, stopped in the end whatever happens."""
        with tempfile.TemporaryDirectory(prefix="relayx-bench-") as directory:
            place = self.start(Path(directory), fresh_host())
            try:
                yield place
            finally:
                for child in place.children:
                    child.stop()


class NoRelay(ZmqRelay):
    """The sink binds, the source connects to it."""

    name = "none"

    def version(self) -> str:
        """Nothing is."""
        return "no relay"

    def start(self, directory: Path, host: str) -> Place:
        """Nothing to start."""
        return Place(host, f"tcp://{host}:{BACK}", f"+tcp://{host}:{BACK}")


class ZmqHaproxy(ZmqRelay):
    """HAProxy in tcp mode, one thread, default options; the sink binds behind it."""

    name = "haproxy"

    def missing(self) -> str:
        """Which package would bring it."""
        return "" if system_binary("haproxy") else "Debian package haproxy"

    def version(self) -> str:
        """What it says itself."""
        return first_line([system_binary("haproxy") or "haproxy", "-v"])

    def start(self, directory: Path, host: str) -> Place:
        """It takes no notice of whether somebody listens behind it."""
        file = directory / "haproxy.cfg"
        file.write_text(
            HAPROXY.format(most=1000, options="", front=f"{host}:{FRONT}", back=f"{host}:{BACK}")
        )
        child = Child([system_binary("haproxy") or "haproxy", "-db", "-f", str(file)], directory)
        until_it_listens(child, lambda: dial((host, FRONT))).close()
        return Place(host, f"tcp://{host}:{FRONT}", f"+tcp://{host}:{BACK}", [child])


class ZmqGateway(ZmqRelay):
    """relayx in direct mode, admission open: both sides connect to one port.

    :param path: a checkout to run instead of this one.
    :param zmq: keys of the section ``zmq``.
    :param profiles: a folder for a profile (pstats) of each run, which makes it much slower.
    """

    def __init__(
        self,
        name: str = "relayx",
        path: str = "",
        zmq: Mapping[str, str] | None = None,
        profiles: Path | None = None,
    ) -> None:
        self.name = name
        self._root = Path(path).resolve() if path else ROOT
        self._zmq = dict(zmq or {})
        self._profiles = profiles
        self._runs = 0

    def version(self) -> str:
        """The commit."""
        command = ["git", "-C", str(self._root), "describe", "--always", "--dirty"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        told = [f"{key}: {value}" for key, value in self._zmq.items()]
        commit = ended.stdout.strip() or "unknown commit"
        return f"relayx {commit}" + (f" ({', '.join(told)})" if told else "")

    def start(self, directory: Path, host: str) -> Place:
        """One process, whose control port is listening."""
        keys = self._zmq or {"inspect": "handshake"}
        (directory / "config.yaml").write_text(
            CONFIG.format(
                control=CONTROL_PORT,
                front=FRONT,
                back=BACK,
                http=HTTP_PORT,
                host=host,
                zmq="".join(f"  {key}: {value}\n" for key, value in keys.items()),
            )
        )
        secret_file = directory / "secrets.json"
        secret_file.touch(mode=0o600)
        secret_file.write_text(json.dumps({"auth_secret": secrets.token_hex(32)}))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RELAY")}
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(self._root), environment.get("PYTHONPATH", "")])
        )
        options: list[str] = []
        if self._profiles:
            self._runs += 1
            file = self._profiles.resolve() / f"{self.name}-{self._runs}.pstats"
            options = [f"--profile={file}", "--profiler=cprofile", "--savestats"]
        told = ["relayx", "-c", "config.yaml", "--env-file", "secrets.json"]
        command = [*TWISTD, "--pidfile=twistd.pid", *options, *told]
        child = Child(command, directory, environment)
        until_it_listens(child, lambda: dial((host, CONTROL_PORT))).close()
        return self._place(host, child)

    def counted(self, place: Place) -> int | None:
        """By its metrics, where it counts."""
        if self._zmq.get("inspect") != "messages":
            return None
        return int(metric(place.host, "relayx_zmq_messages_total"))

    def _place(self, host: str, child: Child) -> Place:
        both = f"tcp://{host}:{FRONT}"
        return Place(host, both, both, [child])


class BrokerGateway(ZmqGateway):
    """relayx in broker mode, PUSH and PULL."""

    def __init__(self, name: str = "relayx-broker", path: str = "") -> None:
        broker = f"[{{pattern: push_pull, frontend: {FRONT}, backend: {BACK}}}]"
        super().__init__(name, path, {"brokers": broker})

    def _place(self, host: str, child: Child) -> Place:
        return Place(host, f"tcp://{host}:{FRONT}", f"tcp://{host}:{BACK}", [child])


class ZmqServer(ZmqRelay):
    """A server of :mod:`bench.zmq_broker`: ``zmq.proxy`` alone, or the broker without a gateway."""

    def __init__(self, name: str, served: str) -> None:
        self.name = name
        self._served = served

    def version(self) -> str:
        """libzmq's, as pyzmq has it."""
        import zmq

        return f"{self._served} on libzmq {zmq.zmq_version()}"

    def start(self, directory: Path, host: str) -> Place:
        """It binds to free ports, and tells them."""
        words = [sys.executable, "-m", "bench.zmq_broker", "--serve", self._served]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        child = Child(words, directory, environment)
        deadline = time.monotonic() + 20
        while not child.said.count(" "):
            if not child.running or time.monotonic() > deadline:
                child.stop()
                raise PeerError(f"{self.name}: it does not listen: {child.said}")
            time.sleep(0.02)
        source, sink = (f"tcp://127.0.0.1:{port}" for port in child.said.split())
        return Place(host, source, sink, [child])


def metric(host: str, name: str) -> float:
    """The sum of a metric over its labels, as a gateway tells it."""
    url = f"http://{host}:{HTTP_PORT}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in lines
        if line.startswith((f"{name}{{", f"{name} "))
    )


def compiler_and_libzmq() -> str:
    """What the load generator lacks here, or ""."""
    compiler = shutil.which(os.environ.get("CC") or "cc")
    if not compiler:
        return "a C compiler (Debian package gcc)"
    tried = subprocess.run(
        [compiler, "-E", "-"], input=b"#include <zmq.h>\n", capture_output=True, check=False
    )
    return "libzmq's headers (Debian package libzmq3-dev)" if tried.returncode else ""
