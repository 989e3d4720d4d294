"""What systemd is told, and the sockets that it passes on (sd_notify(3), sd_listen_fds(3))."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from relayx.net.inherited import Inherited
from relayx.systemd import Notifier
from tests.guide_peer import DEADLINE, Control, Data
from tests.live import CONTROL_PORT, SECRET, Control11, Data11, Peers, random_host, service_for
from tests.live_process import Subprocess, killed_in_the_end
from tests.tls_live import NAME, Trust

_WRAPPER = """
import fcntl, os, sys
passed = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100) for fd in {descriptors}]
for place, fd in enumerate(passed):
    os.dup2(fd, 3 + place)
os.environ["LISTEN_PID"] = str(os.getpid() + {off})
run = "from twisted.scripts.twistd import run; run()"
os.execv(sys.executable, [sys.executable, "-c", run, *sys.argv[1:]])
"""
"""Becomes the gateway, as a child of systemd does."""


class Supervisor:
    """The socket that NOTIFY_SOCKET names."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.socket.settimeout(4 * DEADLINE)

    def told(self) -> dict[str, str]:
        """The assignments of the next datagram."""
        lines = self.socket.recv(4096).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    def expect(self, name: str) -> dict[str, str]:
        """The first datagram with this assignment; watchdogs in between are left out."""
        while True:
            told = self.told()
            if name in told:
                return told
            if set(told) != {"WATCHDOG"}:
                raise AssertionError(f"expected {name}, got {told}")


class Activated(Subprocess):
    """A gateway that gets sockets as systemd passes them on."""

    another = False
    """Whether the sockets are said to be for another process."""

    def program(self) -> tuple[str, ...]:
        """Puts the descriptors where systemd would, and says whom they are for."""
        told = {"descriptors": list(self.inherits), "off": int(self.another)}
        return ("-c", _WRAPPER.format(**told))


class Notifications(TestCase):
    """Each notification as the supervisor reads it."""

    def supervisor(self, address: str = "") -> Supervisor:
        found = Supervisor(address or str(Path(self.mktemp()).absolute())[-100:])
        self.addCleanup(found.socket.close)
        return found

    def test_states(self) -> None:
        """READY, RELOADING, READY again, STOPPING, by an abstract name."""
        supervisor = self.supervisor(f"@relayx-test-{os.getpid()}-{time.monotonic_ns()}")
        notifier = Notifier(supervisor.address)
        notifier.ready("serves\nports")
        self.assertEqual(supervisor.told(), {"READY": "1", "STATUS": "serves ports"})
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        notifier.reloading()
        told = supervisor.told()
        self.assertEqual(told["RELOADING"], "1")
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.assertTrue(before <= int(told["MONOTONIC_USEC"]) <= after)
        notifier.stopping("draining", 2.5)
        self.assertEqual(
            supervisor.told(),
            {"STOPPING": "1", "EXTEND_TIMEOUT_USEC": "2500000", "STATUS": "draining"},
        )

    def test_watchdog(self) -> None:
        """At once, then at half of its time, until it is stopped."""
        supervisor = self.supervisor(f"@relayx-test-{os.getpid()}-{time.monotonic_ns()}")
        environ = {"NOTIFY_SOCKET": supervisor.address, "WATCHDOG_USEC": "3000000"}
        notifier = Notifier.from_environment(environ, 7)
        clock = Clock()
        notifier.start_watchdog(clock)
        for _ in range(3):
            self.assertEqual(supervisor.told(), {"WATCHDOG": "1"})
            self.assertEqual(
                [call.getTime() for call in clock.getDelayedCalls()], [clock.seconds() + 1.5]
            )
            clock.advance(1.5)
        notifier.stop_watchdog()
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_environment(self) -> None:
        """Nothing to tell, or a watchdog that is another's, or not a number."""
        for environ, watchdog in (
            ({}, 0.0),
            ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "8"}, 0.0),
            ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "7"}, 2.0),
            ({"WATCHDOG_USEC": "soon"}, 0.0),
        ):
            self.assertEqual(Notifier.from_environment(environ, 7).watchdog, watchdog)
        clock = Clock()
        for quiet in (Notifier(), Notifier.from_environment({"NOTIFY_SOCKET": "vsock:2:1"}, 7)):
            quiet.ready("x")
            quiet.start_watchdog(clock)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_nobody_there(self) -> None:
        """A socket that is not there, or is full, is no reason to fail."""
        Notifier(str(Path(self.mktemp()).absolute())).ready("x")
        supervisor = self.supervisor(f"@relayx-test-{os.getpid()}-{time.monotonic_ns()}")
        notifier = Notifier(supervisor.address, watchdog=1.0)
        clock = Clock()
        notifier.start_watchdog(clock)
        for _ in range(1000):
            clock.advance(0.5)
        self.assertEqual(len(clock.getDelayedCalls()), 1)
        notifier.stop_watchdog()


class Matching(TestCase):
    """Which socket is for what, by its own address."""

    def listening(self, host: str, family: int = socket.AF_INET, v6only: bool = False) -> Any:
        found = socket.socket(family)
        self.addCleanup(found.close)
        if family == socket.AF_INET6:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        found.bind((host, 0))
        found.listen(5)
        return found

    def inherited(self, *sockets: Any) -> Inherited:
        passed = Inherited({os.dup(found.fileno()): "" for found in sockets})
        self.addCleanup(passed.close)
        return passed

    def test_rows(self) -> None:
        """Interface as configured, address as bound: taken or not."""
        v4, v6 = socket.AF_INET, socket.AF_INET6
        for interface, host, family, v6only, taken in (
            ("", "0.0.0.0", v4, False, True),
            ("", "::", v6, False, True),
            ("", "::", v6, True, False),
            ("::", "::", v6, False, True),
            ("::", "::", v6, True, True),
            ("::", "0.0.0.0", v4, False, False),
            ("127.0.0.1", "127.0.0.1", v4, False, True),
            ("localhost", "127.0.0.1", v4, False, True),
            ("no-such-host.invalid", "127.0.0.1", v4, False, False),
            ("127.0.0.1", "0.0.0.0", v4, False, False),
            ("127.0.0.1", "::", v6, False, False),
            ("0:0::1", "::1", v6, False, True),
            ("", "127.0.0.1", v4, False, False),
        ):
            with self.subTest(interface=interface, host=host):
                sock = self.listening(host, family, v6only)
                passed = self.inherited(sock)
                port = sock.getsockname()[1]
                self.assertIsNone(passed.take(port + 1, interface))
                found = passed.take(port, interface)
                self.assertEqual(found is not None, taken)
                if found is not None:
                    with found:
                        self.assertEqual(found.getsockname(), sock.getsockname())
                        self.assertEqual(
                            (found.getblocking(), found.get_inheritable()), (False,) * 2
                        )
                self.assertEqual(len(passed.unused()), int(not taken))
                self.assertIsNone(passed.take(port, interface) if taken else None)

    def test_nearest(self) -> None:
        """The exact address goes before one that would do as well, whatever the order."""
        wide, narrow = self.pair_of_wildcards()
        passed = self.inherited(wide, narrow)
        for interface, family in (("", socket.AF_INET), ("::", socket.AF_INET6)):
            found = passed.take(wide.getsockname()[1], interface)
            self.assertIsNotNone(found)
            with found:  # type: ignore[union-attr]
                self.assertEqual(found.family, family)  # type: ignore[union-attr]

    def pair_of_wildcards(self) -> tuple[socket.socket, socket.socket]:
        """Listening sockets on :: and 0.0.0.0, on one port that is free for both."""
        for _ in range(50):
            wide = self.listening("::", socket.AF_INET6, v6only=True)
            narrow = socket.socket()
            self.addCleanup(narrow.close)
            try:
                narrow.bind(("0.0.0.0", wide.getsockname()[1]))
            except OSError:
                continue  # others have that port on an address of theirs
            narrow.listen(5)
            return wide, narrow
        raise AssertionError("no port is free")

    def test_no_listener(self) -> None:
        """What is no listening TCP socket is named, and left as it is."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, socket.socket() as idle:
            file = os.open(os.devnull, os.O_RDONLY)
            self.addCleanup(os.close, file)
            closed = os.open(os.devnull, os.O_RDONLY)
            os.close(closed)
            passed = Inherited(
                {closed: "gone", file: "a-file", datagrams.fileno(): "udp", idle.fileno(): ""}
            )
            self.assertEqual(passed.unused(), [])
            self.assertEqual(len(passed.refused), 4)
            for name, text in zip(("gone", "a-file", "udp", ""), passed.refused, strict=True):
                self.assertIn(name, text)
            os.fstat(datagrams.fileno())

    def test_environment(self) -> None:
        """For this process only, and only a number."""
        for environ in (
            {},
            {"LISTEN_PID": "8", "LISTEN_FDS": "1"},
            {"LISTEN_PID": "7"},
            {"LISTEN_PID": "7", "LISTEN_FDS": "-1"},
            {"LISTEN_PID": "7", "LISTEN_FDS": "many"},
            {"LISTEN_PID": "7", "LISTEN_FDS": "0"},
        ):
            passed = Inherited.from_environment(environ, 7)
            self.assertEqual((passed.unused(), passed.refused), ([], []))


class Restart(TestCase):
    """Sockets that outlive a gateway."""

    timeout = 120

    @contextmanager
    def unit(self) -> Iterator[tuple[Peers, Supervisor, list[socket.socket]]]:
        """The socket unit: sockets for control and two ports, in no order, and one too many."""
        peers = Peers(random_host(), 2, 0)
        with ExitStack() as stack:
            sockets = [
                stack.enter_context(socket.create_server((peers.host, port), backlog=64))
                for port in (peers.zmq[1], CONTROL_PORT, peers.zmq[0], 4999)
            ]
            name = f"@relayx-test-{os.getpid()}-{time.monotonic_ns()}"
            supervisor = Supervisor(name)
            stack.enter_context(supervisor.socket)
            yield peers, supervisor, sockets

    def start(
        self,
        like: Peers,
        supervisor: Supervisor,
        sockets: list[socket.socket],
        sections: dict[str, Any] | None = None,
        *,
        another: bool = False,
    ) -> Activated:
        """A gateway on the sockets, as systemd starts one."""
        gateway = Activated(like.host, 2, 0)
        gateway.zmq = like.zmq
        gateway.another = another
        gateway.inherits = tuple(found.fileno() for found in sockets)
        told: dict[str, Any] = {"data": {"admission": "open", "drain_timeout": 30.0}}
        gateway.write(self.mktemp(), sections or told)
        gateway.launch(
            *("-c", "config.yaml", "--env-file", "secrets.json"),
            NOTIFY_SOCKET=supervisor.address,
            WATCHDOG_USEC="3600000000",  # once at the start; who reads may stand still
            LISTEN_FDS=str(len(sockets)),
            LISTEN_FDNAMES=":".join(f"unit-{number}" for number in range(len(sockets))),
        )
        return gateway

    def test_no_connection_is_refused(self) -> None:
        """Connections made while the first drains, and after its end, are the second's."""
        with self.unit() as (peers, supervisor, sockets):
            first = self.start(peers, supervisor, sockets)
            with killed_in_the_end(first):
                status = supervisor.expect("READY")["STATUS"]
                self.assertEqual(status, f"serves 2 data ports; control on {peers.host}:5555")
                supervisor.expect("WATCHDOG")
                fe, be = first.pair(first.zmq[0])
                first.terminate()
                told = supervisor.expect("STOPPING")
                self.assertEqual(told["EXTEND_TIMEOUT_USEC"], "35000000")
                early = Control11((peers.host, CONTROL_PORT))
                fe.send(b"still served")
                self.assertEqual(be.receive(12), b"still served")
                fe.close()
                be.close()
                status, written = first.ended()
                self.assertEqual(status, 0, written)
            self.assertIn("descriptor 6 (unit-3) listens on", written)
            self.assertEqual(written.count("it is not used"), 1, written)
            late = Control((peers.host, CONTROL_PORT))
            waiting = Data11((peers.host, peers.zmq[1]))
            waiting.hello("BE")
            with killed_in_the_end(self.start(peers, supervisor, sockets)) as _:
                for client, role in ((early, "FE"), (late, "BE")):
                    self.assertEqual(client.register(role, SECRET)["status"], "ok")
                    client.close()
                waiting.expect("RLX1OK")
                waiting.close()

    def test_port_taken_out_by_a_reload(self) -> None:
        """Who dials it is reset, though systemd listens there still; it can be added again."""
        with self.unit() as (peers, supervisor, sockets):
            gateway = self.start(peers, supervisor, sockets)
            with killed_in_the_end(gateway):
                supervisor.expect("READY")
                whole, port = gateway.zmq, gateway.zmq[1]
                for ports in (whole[:1], whole):
                    gateway.zmq = ports
                    gateway.write(str(gateway.directory), {"data": {"admission": "open"}})
                    gateway.process.send_signal(signal.SIGHUP)
                    supervisor.expect("RELOADING")
                    supervisor.expect("READY")
                    if port not in ports:
                        with (
                            self.assertRaises(ConnectionResetError),
                            socket.create_connection((peers.host, port), DEADLINE) as dialled,
                        ):
                            dialled.recv(1)
                gateway.pair(port)
                gateway.close_all()
                gateway.terminate()
                status, written = gateway.ended()
            self.assertEqual(status, 0, written)
            self.assertNotIn("cannot be listened on", written)

    def test_taken_port(self) -> None:
        """Sockets for another process are not touched: the port is taken, and named."""
        with self.unit() as (peers, supervisor, sockets):
            gateway = self.start(peers, supervisor, sockets, another=True)
            with killed_in_the_end(gateway):
                status, written = gateway.ended()
            self.assertEqual(status, 1, written)
            self.assertIn("cannot listen on control endpoint", written)

    def test_tls_endpoint(self) -> None:
        """An ``ssl:`` endpoint adopts as well, and a second one that has no socket listens."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        trust = Trust(directory)
        with self.unit() as (peers, supervisor, sockets):
            endpoints = [
                f"ssl:{CONTROL_PORT}:interface={peers.host}:{trust.server.strports}",
                f"tcp:5556:interface={peers.host}",
            ]
            sections = {"control": {"endpoints": endpoints}}
            gateway = self.start(peers, supervisor, sockets, sections)
            with killed_in_the_end(gateway):
                supervisor.expect("READY")
                plain_socket = socket.create_connection((peers.host, CONTROL_PORT), DEADLINE)
                with trust.context().wrap_socket(plain_socket, server_hostname=NAME) as client:
                    register = {"role": "FE", "secret": SECRET}
                    client.sendall(json.dumps({"type": "register", "payload": register}).encode())
                    self.assertIn(b'"status":"ok"', client.recv(65536))
                plain = Control((peers.host, 5556))
                self.assertEqual(plain.register("FE", SECRET)["status"], "ok")
                plain.close()

    def test_systemd_endpoint(self) -> None:
        """Twisted's own ``systemd:`` endpoint takes the descriptor that it names."""
        with self.unit() as (peers, supervisor, sockets):
            sections = {"control": {"endpoints": ["systemd:domain=INET:index=1"]}}
            gateway = self.start(peers, supervisor, sockets, sections)
            with killed_in_the_end(gateway):
                supervisor.expect("READY")
                client = Control((peers.host, CONTROL_PORT))
                self.assertEqual(client.register("FE", SECRET)["status"], "ok")
                client.close()
                gateway.terminate()
                status, written = gateway.ended()
            self.assertEqual((status, written.count("it is not used")), (0, 1), written)


class Pool(TestCase):
    """How soon a port pool listens (issue: 200 ports in under a second)."""

    def test_two_hundred_ports(self) -> None:
        gateway = Peers(random_host(), 100, 100)
        service = service_for(gateway, {})
        began = time.process_time()
        service.privilegedStartService()
        service.startService()
        took = time.process_time() - began
        links = [Data((gateway.host, port)) for port in (*gateway.zmq, *gateway.srt)]
        self.assertEqual(len(links), 200)
        for link in links:
            link.close()
        self.assertLess(took, 1.0)
        return service.stopService()
