"""``twistd relayx`` as a process: its files, its log, its listeners, its daemon (sections 1, 9)."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from tests.guide_peer import DEADLINE, Control
from tests.live import CONTROL_PORT, SECRET, random_host
from tests.live_process import Subprocess, killed_in_the_end

LISTENING = "0A"
"""The state of a listening socket in /proc/net/tcp."""
PORT_ATTEMPTS = 5
FILES = ("-c", "config.yaml", "--env-file", "secrets.json")


def listeners(pid: int) -> set[tuple[str, int]]:
    """Where a process listens on IPv4, as address and port."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            inodes.add(os.readlink(link))
    found = set()
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        local, state, inode = (line.split()[place] for place in (1, 3, 9))
        if state == LISTENING and f"socket:[{inode}]" in inodes:
            address, _, port = local.partition(":")
            host = socket.inet_ntoa(int(address, 16).to_bytes(4, "little"))
            found.add((host, int(port, 16)))
    return found


def free_port() -> int:
    """A port that nobody listens on now, on any address."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        return int(server.getsockname()[1])


class ProcessCase(TestCase):
    """Starts gateways in folders of their own."""

    @contextmanager
    def launched(
        self, sections: dict[str, dict[str, Any]], *, zmq: int = 3, srt: int = 2, mode: int = 0o600
    ) -> Iterator[Subprocess]:
        """A gateway that listens."""
        gateway = Subprocess(random_host(), zmq, srt)
        gateway.write(self.mktemp(), sections, mode=mode)
        gateway.launch(*FILES)
        with killed_in_the_end(gateway):
            gateway.wait_until_listening()
            yield gateway

    def stopped(self, gateway: Subprocess) -> list[str]:
        """Stop a gateway, which must go well; the lines that it wrote."""
        gateway.terminate()
        status, written = gateway.ended()
        self.assertEqual((status, "Traceback" in written), (0, False), written)
        self.assertNotIn(SECRET, written)
        return written.splitlines()


class StartLines(ProcessCase):
    """What is told at start, and how ``log`` has it (section 1)."""

    DESCRIPTORS = f"{50 + 50 + 256 + 1024 + (1 + 5) + 2 * 5} descriptors"
    MEMORY = f"{5 * 2 * 33554432} bytes"

    def busy(self, gateway: Subprocess) -> None:
        """Bring about a line of level info, and one of level warn."""
        gateway.fe("somebody").ping()
        stranger = gateway.dial11(gateway.zmq[0], source="127.0.0.1")
        stranger.hello("BE")
        self.assertEqual(stranger.refusal(), "NOT_ADMITTED")

    def one(self, lines: list[str], *parts: str) -> str:
        """The one line that has all of the parts."""
        found = [line for line in lines if all(part in line for part in parts)]
        self.assertEqual(len(found), 1, (parts, lines))
        return found[0]

    def test_text(self) -> None:
        """The descriptor sum, the worst case of memory and every warning of the configuration."""
        with self.launched({"relay": {"ring_buffer_size": 1 << 40}}, mode=0o644) as gateway:
            self.busy(gateway)
            lines = self.stopped(gateway)
        self.assertIn(" info ", self.one(lines, self.DESCRIPTORS))
        self.assertIn(" info ", self.one(lines, f"{5 * 2 << 40} bytes", " info "))
        self.assertIn("chmod 600", self.one(lines, " warn ", "secrets.json"))
        self.one(lines, " warn ", "config.yaml", "relay.ring_buffer_size", "memory")
        self.assertTrue([line for line in lines if " info " in line and "somebody" in line], lines)
        self.one(lines, " warn ", "data.admission")

    def test_json_from_warn_on(self) -> None:
        """Each line is JSON; below warn there are the two lines of the start, and no other."""
        with self.launched({"log": {"level": "warn", "format": "json"}}, mode=0o644) as gateway:
            self.busy(gateway)
            lines = [json.loads(line) for line in self.stopped(gateway)]
        texts = [line["message"] for line in lines]
        self.one(texts, "secrets.json", "chmod 600")
        self.one(texts, "data.admission")
        start = {self.one(texts, self.DESCRIPTORS), self.one(texts, self.MEMORY)}
        below = {line["message"] for line in lines if line["level"] in ("debug", "info")}
        self.assertTrue(below <= start, lines)

    def test_json_of_all(self) -> None:
        """Each line is JSON at level debug too, with what Twisted itself has to tell."""
        with self.launched({"log": {"level": "debug", "format": "json"}}) as gateway:
            self.busy(gateway)
            lines = [json.loads(line) for line in self.stopped(gateway)]
        self.assertEqual({line["level"] for line in lines}, {"debug", "info", "warn"})
        for line in lines:
            self.assertTrue(line["time"].endswith("Z") and line["message"], line)


class Limited(Subprocess):
    """A gateway that begins with other limits of descriptors."""

    soft, hard = 0, 0

    def program(self) -> tuple[str, ...]:
        """Set them, then twistd."""
        return (
            "-c",
            f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, {(self.soft, self.hard)})"
            "; from twisted.scripts.twistd import run; run()",
        )


class Impatient(Subprocess):
    """A gateway that is told to stop once it listens, before its reactor runs."""

    how = signal.SIGTERM

    def program(self) -> tuple[str, ...]:
        """Have the signal come at that time, then twistd."""
        return (
            "-c",
            "import os; from relayx.tap import Runner; start = Runner.startService\n"
            f"Runner.startService = lambda self: (os.kill(os.getpid(), {int(self.how)}),"
            " start(self))\n"
            "from twisted.scripts.twistd import run; run()",
        )


class Early(ProcessCase):
    """Signals that come while the gateway starts (section 9)."""

    def test_stopped_as_soon_as_it_listens(self) -> None:
        """It ends in order, with status 0, whoever saw it listen and had enough of it."""
        for how in (signal.SIGTERM, signal.SIGINT):
            gateway = Impatient(random_host(), 3, 0)
            gateway.how = how
            gateway.start(self.mktemp(), {})
            with killed_in_the_end(gateway):
                status, written = gateway.ended()
            self.assertEqual((status, "Traceback" in written), (0, False), written)
            self.assertIn("stopped; sessions ended: none", written)
            self.assertFalse(gateway.pid_file.exists())


class Descriptors(ProcessCase):
    """The limit of descriptors (section 1)."""

    NEEDED = 50 + 50 + 256 + 1024 + (1 + 3) + 2 * 3

    def limited(self, soft: int, hard: int) -> Limited:
        """A gateway that has been started with these limits."""
        gateway = Limited(random_host(), 3, 0)
        gateway.soft, gateway.hard = soft, hard
        gateway.start(self.mktemp(), {})
        return gateway

    def test_raised(self) -> None:
        """Where the hard limit allows, the soft one is raised to what is needed, at least."""
        gateway = self.limited(200, self.NEEDED)
        with killed_in_the_end(gateway):
            gateway.wait_until_listening()
            gateway.fe().ping()
            soft, hard = resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE)
            self.assertEqual((soft, hard), (self.NEEDED, self.NEEDED))
            self.stopped(gateway)

    def test_too_few(self) -> None:
        """Where it does not: one error that says by how much it falls short, and exit 1."""
        gateway = self.limited(200, self.NEEDED - 7)
        with killed_in_the_end(gateway):
            status, written = gateway.ended()
        self.assertEqual((status, "Traceback" in written), (1, False), written)
        self.assertEqual(len([x for x in written.splitlines() if "7 too few" in x]), 1, written)


class Listeners(ProcessCase):
    """Where it listens (section 1)."""

    def own(self, gateway: Subprocess) -> set[tuple[str, int]]:
        """The control port and the data ports on the gateway's host."""
        return {(gateway.host, port) for port in (CONTROL_PORT, *gateway.zmq, *gateway.srt)}

    def assert_registers(self, address: tuple[str, int]) -> None:
        """A client that dials there is taken."""
        client = Control(address)
        self.addCleanup(client.close)
        self.assertEqual(client.register("FE", SECRET)["status"], "ok")

    def test_several_control_endpoints(self) -> None:
        """Two ports and two addresses: clients register at each."""
        gateway, other = Subprocess(random_host(), 1, 0), random_host()
        where = [(gateway.host, 5555), (gateway.host, 5556), (other, 5555)]
        endpoints = [f"tcp:{port}:interface={host}" for host, port in where]
        gateway.write(self.mktemp(), {"control": {"endpoints": endpoints}})
        gateway.launch(*FILES)
        with killed_in_the_end(gateway):
            gateway.wait_until_listening()
            for address in where:
                self.assert_registers(address)
            self.assertEqual(listeners(gateway.process.pid), self.own(gateway) | set(where))

    def test_default_control_endpoint(self) -> None:
        """Without endpoints it is relay.control_port, on every address."""
        for attempt in range(PORT_ATTEMPTS):
            gateway = Subprocess(random_host(), 1, 0)
            gateway.control_port = free_port()
            gateway.write(self.mktemp(), {"control": {"endpoints": []}})
            gateway.launch(*FILES)
            with killed_in_the_end(gateway):
                try:
                    gateway.wait_until_listening()
                except AssertionError:
                    taken = f"{gateway.control_port}" in gateway.ended()[1]
                    if taken and attempt < PORT_ATTEMPTS - 1:
                        continue
                    raise
                for host in (gateway.host, "127.0.0.1"):
                    self.assert_registers((host, gateway.control_port))
                wanted = {("0.0.0.0", gateway.control_port), (gateway.host, gateway.zmq[0])}
                self.assertEqual(listeners(gateway.process.pid), wanted)
                return

    def test_http_endpoint(self) -> None:
        """Where ``http.endpoint`` says, and nowhere where that is taken: one error, exit 1."""
        gateway = Subprocess(random_host(), 1, 0)
        endpoint = f"tcp:8080:interface={gateway.host}"
        gateway.write(self.mktemp(), {"http": {"endpoint": endpoint}})
        with socket.create_server((gateway.host, 8080)), killed_in_the_end(gateway):
            gateway.launch(*FILES)
            status, written = gateway.ended()
        self.assertEqual(status, 1, written)
        naming = [line for line in written.splitlines() if "8080" in line]
        self.assertEqual(len(naming), 1, written)
        self.assertIn(f"http endpoint {endpoint}", naming[0])
        self.assertNotIn("Traceback", written)
        gateway.launch(*FILES)
        with killed_in_the_end(gateway):
            gateway.wait_for("serves")  # the last to listen is HTTP
            wanted = self.own(gateway) | {(gateway.host, 8080)}
            self.assertEqual(listeners(gateway.process.pid), wanted)


class WhichFiles(ProcessCase):
    """The files are found by their default paths, the environment, or the options (section 1)."""

    def test_all_ways(self) -> None:
        """One folder with all of the files: each way takes the two that it should."""
        folder = self.mktemp()
        names = ("configs/config.yaml", "configs/config.test.yaml", "other.yaml", "flag.yaml")
        hosts = {name: random_host() for name in names}
        ways: list[tuple[str, str, tuple[str, ...], dict[str, str]]] = [
            ("configs/config.yaml", ".env.local.json", (), {}),
            ("configs/config.test.yaml", ".env.test.json", (), {"RELAY_ENV": "test"}),
            (
                *("other.yaml", ".env.test.json", ()),
                {"RELAY_ENV": "test", "RELAY_CONFIG": "other.yaml"},
            ),
            (
                *("flag.yaml", "flag.json", ("-c", "flag.yaml", "--env-file", "flag.json")),
                {"RELAY_ENV": "test", "RELAY_CONFIG": "other.yaml"},
            ),
        ]
        with ExitStack() as stack:
            gateways = []
            for config, secrets, _, _ in ways:
                gateway = Subprocess(hosts[config], 1, 0)
                # Its mode makes the gateway name, in a warning, the secret file that it read.
                gateway.write(folder, {}, config, secrets, mode=0o644)
                gateways.append(gateway)
            for gateway, (_, _, options, env) in zip(gateways, ways, strict=True):
                gateway.launch(*options, **env)
                stack.enter_context(killed_in_the_end(gateway))
            for gateway, (_, secrets, _, _) in zip(gateways, ways, strict=True):
                gateway.wait_until_listening()
                gateway.fe().ping()
                lines = self.stopped(gateway)
                named = [line for line in lines if "chmod 600" in line]
                self.assertEqual(len(named), 1, lines)
                self.assertIn(f"{secrets}:", named[0])


class Daemon(ProcessCase):
    """``twistd relayx`` without ``-n`` (section 9)."""

    def test_taken_port(self) -> None:
        """Exit status 1, no traceback, and one line of the log that names the port."""
        for place in ("control", "data"):
            gateway = Subprocess(random_host(), 2, 0)
            port = gateway.zmq[1] if place == "data" else CONTROL_PORT
            gateway.write(self.mktemp(), {})
            with socket.create_server((gateway.host, port)), killed_in_the_end(gateway):
                gateway.launch(*FILES, daemon=True)
                status, written = gateway.ended()
            log = (gateway.directory / "twistd.log").read_text()
            self.assertEqual(status, 1, (written, log))
            self.assertNotIn("Traceback", log + written)
            naming = [line for line in log.splitlines() if str(port) in line]
            self.assertEqual(len(naming), 1, log)
            self.assertFalse(gateway.pid_file.exists())

    def test_serves(self) -> None:
        """It outlives the process that started it, and ends on SIGTERM to the pid in its file."""
        gateway = Subprocess(random_host(), 1, 0)
        gateway.write(self.mktemp(), {})
        gateway.launch(*FILES, daemon=True)
        with killed_in_the_end(gateway):
            status, written = gateway.ended()
            self.assertEqual(status, 0, written)
            pid = int(gateway.pid_file.read_text())
            daemon = os.pidfd_open(pid)
            try:
                self.assertNotEqual(pid, gateway.process.pid)
                gateway.fe().ping()
                signal.pidfd_send_signal(daemon, signal.SIGTERM)
                ended = select.select([daemon], [], [], DEADLINE)[0]
                log = (gateway.directory / "twistd.log").read_text()
                self.assertEqual((bool(ended), "Traceback" in log), (True, False), log)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(daemon, signal.SIGKILL)
                os.close(daemon)
        self.assertIn("stopped", log)
        self.assertFalse(gateway.pid_file.exists())
        with self.assertRaises(ConnectionRefusedError):
            gateway.control()
