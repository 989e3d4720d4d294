"""The gateway: ``twistd relayx`` as a child process, with a front end and a back end."""

from __future__ import annotations

import json
import os
import secrets
import selectors
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from bench.peers.base import Pair, Peer, Running
from bench.peers.twisted_peers import TWISTD
from bench.processes import Child, PeerError
from bench.sockets import dial, read_line, until_it_listens

CONTROL_PORT = 5555
HTTP_PORT = 8080
FIRST_PORT = 10000
"""Of the data ports: below those that the system hands out."""
FEWEST_PORTS = 200
"""About as many as the shipped configuration has."""
FE, BE = "bench-fe", "bench-be"
ROOT = Path(__file__).resolve().parents[2]

CONFIG = """\
relay:
  control_port: {control}
  zmq_start_port: {first}
  zmq_end_port: {last}
control:
  endpoints: ["tcp:{control}:interface={host}"]
data:
  interface: {host}
{data}http:
  endpoint: "{http}"
log:
  level: warn
"""


class Gateway(Peer):
    """relayx.

    :param data: keys of the section ``data`` besides the defaults, as they stand in the file.
    :param reactor: what twistd is told, "" for its default.
    :param path: a checkout to run instead of this one, to compare before and after.
    :param profiles: a folder for a profile of each run, which makes it much slower.
    :param http: whether its admin HTTP listens, at HTTP_PORT.
    """

    def __init__(
        self,
        name: str = "relayx",
        data: Mapping[str, str] | None = None,
        reactor: str = "",
        path: str = "",
        profiles: Path | None = None,
        http: bool = False,
    ) -> None:
        self.name = name
        self.descriptors_each = 3  # a listening port besides
        self._data = dict(data or {})
        self._reactor = reactor
        self._root = Path(path).resolve() if path else ROOT
        self._profiles = profiles
        self._http = http
        self._runs = 0

    def version(self) -> str:
        """The commit, and how this variant is set."""
        command = ["git", "-C", str(self._root), "describe", "--always", "--dirty"]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
            commit = ended.stdout.strip() or "unknown commit"
        except OSError:
            commit = "unknown commit"
        told = [f"{key}: {value}" for key, value in self._data.items()]
        told += [f"reactor {self._reactor}"] if self._reactor else []
        return f"relayx {commit}" + (f" ({', '.join(told)})" if told else "")

    def run(self, sessions: int) -> GatewayRunning:
        """With a port for each session."""
        ports = max(FEWEST_PORTS, sessions)
        chosen = [f"--reactor={self._reactor}"] if self._reactor else []
        if self._profiles:
            self._runs += 1
            file = self._profiles.resolve() / f"{self.name}-{self._runs}.pstats"
            chosen += [f"--profile={file}", "--profiler=cprofile", "--savestats"]
        return GatewayRunning(self._root, ports, self._data, chosen, self._http)


class GatewayRunning(Running):
    """One gateway, on which one FE and one BE are registered, as admission asks by default."""

    def __init__(
        self,
        root: Path,
        ports: int,
        data: Mapping[str, str],
        options: Sequence[str],
        http: bool = False,
    ) -> None:
        super().__init__()
        self._root, self._ports, self._data, self._options = root, ports, data, options
        self._http = f"tcp:{HTTP_PORT}:interface={self.host}" if http else ""
        self._controls: list[socket.socket] = []
        self._drain: threading.Thread | None = None
        self._stopped = threading.Event()

    def start(self) -> None:
        """Write the files, run it, register both."""
        secret = secrets.token_hex(32)
        (self.directory / "config.yaml").write_text(
            CONFIG.format(
                control=CONTROL_PORT,
                first=FIRST_PORT,
                last=FIRST_PORT + self._ports - 1,
                host=self.host,
                http=self._http,
                data="".join(f"  {key}: {value}\n" for key, value in self._data.items()),
            )
        )
        secret_file = self.directory / "secrets.json"
        secret_file.touch(mode=0o600)
        secret_file.write_text(json.dumps({"auth_secret": secret}))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RELAY")}
        paths = [str(self._root), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        told = ["relayx", "-c", "config.yaml", "--env-file", "secrets.json"]
        command = [*TWISTD, "--pidfile=twistd.pid", *self._options, *told]
        self.child = Child(command, self.directory, environment)
        for role, name in (("FE", FE), ("BE", BE)):
            payload = {"role": role, "client_id": name, "secret": secret}
            self._register(self.child, json.dumps({"type": "register", "payload": payload}))
        self._drain = threading.Thread(target=self._read_and_drop, daemon=True)
        self._drain.start()

    def _register(self, child: Child, line: str) -> None:
        first = line.encode() + b"\n"
        control = until_it_listens(child, lambda: dial((self.host, CONTROL_PORT), first))
        self._controls.append(control)
        answer = json.loads(read_line(control))
        if answer["type"] != "auth" or answer["payload"]["status"] != "ok":
            raise PeerError(f"not registered: {answer}")

    def _read_and_drop(self) -> None:
        """Read what the gateway tells its clients, as a live client would."""
        with selectors.DefaultSelector() as selector:
            for control in self._controls:
                selector.register(control, selectors.EVENT_READ)
            while not self._stopped.is_set() and selector.get_map():
                for key, _ in selector.select(0.2):
                    with suppress(OSError):
                        if os.read(key.fd, 1 << 20):
                            continue
                    selector.unregister(key.fd)

    def pair(self, index: int) -> Pair:
        """The BE waits on the port of that number, then the FE comes; both are told."""
        address = (self.host, FIRST_PORT + index)
        back = dial(address, hello(role="BE", client_id=BE, ack=True, on_fe_close="close"))
        front: socket.socket | None = None
        try:
            _expect(back, b"RLX1OK ")
            front = dial(address, hello(role="FE", client_id=FE, ack=True))
            _expect(front, b"RLX1PAIRED ")
            _expect(back, b"RLX1PAIRED ")
        except BaseException:
            back.close()
            if front:
                front.close()
            raise
        return front, back

    def churn(self) -> list[str]:
        """Every port in turn, with a BE that waits on half of them."""
        front = hello(role="FE", client_id=FE).decode()
        back = hello(role="BE", client_id=BE, on_fe_close="close").decode()
        return [
            *(f"connect={self.host}:{FIRST_PORT}", "spread=1", "dial=1", f"slots={FEWEST_PORTS}"),
            *(f"client_prefix={front}", f"server_prefix={back}"),
        ]

    def stop(self) -> None:
        """Leave, and end it."""
        self._stopped.set()
        if self._drain:
            self._drain.join()
        for control in self._controls:
            control.close()
        super().stop()


def hello(**fields: str | bool) -> bytes:
    """The first line of a data connection (contract section 6)."""
    return b"RLX1HELLO " + json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def _expect(connection: socket.socket, word: bytes) -> None:
    line = read_line(connection)
    if not line.startswith(word):
        raise PeerError(f"the gateway answered {line!r}")
