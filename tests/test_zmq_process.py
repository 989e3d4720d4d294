"""``twistd relayx`` with brokers: from its configuration to its exit status."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from relayx.cli import __main__ as group
from relayx.config.zmq import BrokerSecurity, Pattern, ZmqBroker
from relayx.listening import BindError, StartError
from relayx.security import curve, keyring
from tests.live import CONTROL_PORT, SECRET, Peers, Sections, random_host, service_for
from tests.live_process import Subprocess, killed_in_the_end, twistd
from tests.zmq_gateway import BROKERS, NO_ZMQ, Meeting, entries, meeting

NO_PYZMQ = "raise ImportError('there is none here')\n"


class BrokeredProcess(Subprocess):
    """A gateway with a broker of each pattern on its first zmq ports, by CURVE and PLAIN too."""

    brokers: tuple[dict[str, Any], ...] = BROKERS

    def write(self, where: str, sections: Sections, *args: Any, **options: Any) -> None:
        """See Subprocess."""
        keys = Path(where).absolute() / "keys"
        clients = keys.parent / "clients"
        for directory, kid in ((keys, "broker"), (clients, "one")):
            directory.mkdir(parents=True)
            keyring.add_curve(str(directory), 0.0, kid)
        told = {
            "security": {"keys": str(keys)},
            "data": {**sections.get("data", {}), "admission": "open", "drain_timeout": 5.0},
            "zmq": {
                "brokers": [
                    {key: str(clients) if key == "curve_clients" else value
                     for key, value in one.items()}
                    for one in entries(self, self.brokers)
                ]
            },
        }  # fmt: skip
        super().write(where, {**sections, **told}, *args, **options)


class Secured(BrokeredProcess):
    """Brokers that ask for something."""

    brokers = (
        {"pattern": "push_pull", "security": "plain"},
        {"pattern": "push_pull", "security": "curve", "curve_key": "broker"},
        {"pattern": "push_pull", "security": "curve", "curve_key": "broker",
         "curve_clients": "clients"},
    )  # fmt: skip


class Serving(TestCase):
    """Many to many in another process"""

    skip = NO_ZMQ

    def test_patterns(self) -> None:
        """Every pattern with two on each side; SIGTERM ends it with status 0."""
        with twistd(self.mktemp(), zmq=8, kind=BrokeredProcess) as gateway:
            gateway.wait_for("a req_rep broker serves ports")
            with meeting(gateway) as peers:
                self.check_push_pull(peers)
                self.check_pub_sub(peers)
                self.check_req_rep(peers)
                gateway.terminate()
                status, written = gateway.ended()
        self.assertEqual(status, 0, written)
        self.assertIn("3 brokers have stopped", written)
        self.assertNotIn("Traceback", written)

    def check_push_pull(self, peers: Meeting) -> None:
        pushes = [peers.connect("PUSH") for _ in range(2)]
        pulls = [peers.connect("PULL") for _ in range(2)]
        for push in pushes:
            for number in range(100):
                push.send(b"%d" % number)
        found: list[int] = []
        while len(found) < 200:
            for pull in pulls:
                if pull.poll(50):
                    found.append(int(pull.recv()))
        self.assertEqual(sorted(found), sorted([*range(100)] * 2))

    def check_pub_sub(self, peers: Meeting) -> None:
        subs = [peers.connect("SUB", 1) for _ in range(2)]
        pubs = [peers.socket("XPUB") for _ in range(2)]
        for sub in subs:
            sub.subscribe(b"news")
        for pub in pubs:
            pub.connect(f"tcp://{peers.peers.host}:{peers.peers.zmq[2]}")
            self.assertEqual(pub.recv(), b"\x01news")
        for number, pub in enumerate(pubs):
            pub.send_multipart([b"news", b"%d" % number])
        for sub in subs:
            self.assertEqual({sub.recv_multipart()[1] for _ in pubs}, {b"0", b"1"})

    def check_req_rep(self, peers: Meeting) -> None:
        reps = [peers.connect("REP", 2) for _ in range(2)]

        def answer(rep: Any) -> None:
            while rep.poll(200) or not done.is_set():
                if rep.poll(0):
                    rep.send(b"re: " + rep.recv())

        done = threading.Event()
        answering = [peers.peers.background(answer, rep) for rep in reps]
        reqs = [peers.connect("REQ", 2) for _ in range(2)]
        for turn in range(25):
            for number, req in enumerate(reqs):
                req.send(b"%d %d" % (turn, number))
            for number, req in enumerate(reqs):
                self.assertEqual(req.recv(), b"re: %d %d" % (turn, number))
        done.set()
        for one in answering:
            one.result()

    def test_doors(self) -> None:
        """PLAIN by the gateway's secret, CURVE by its keys; SIGINT ends it all."""
        with twistd(self.mktemp(), zmq=8, kind=Secured) as gateway, meeting(gateway) as peers:
            gateway.wait_for("serves 8 data ports")
            for password, good in ((SECRET, True), ("wrong", False)):
                plain = {"plain_username": b"c", "plain_password": password.encode()}
                self.assertIs(peers.admitted("PUSH", 0, **plain), good)
                self.assertIs(peers.admitted("PULL", 0, **plain), good)
            server = curve.read_public(str(gateway.directory / "keys"), "broker")
            listed = curve.read_pair(str(gateway.directory / "clients"), "one")
            other = curve.generate_pair()
            for broker, pair, key, good in (
                (1, other, server, True), (1, other, other.public, False),
                (2, listed, server, True), (2, other, server, False),
            ):  # fmt: skip
                options = {
                    "curve_serverkey": key.encode(),
                    "curve_publickey": pair.public.encode(),
                    "curve_secretkey": pair.secret.encode(),
                }
                self.assertIs(peers.admitted("PUSH", broker, **options), good)
            gateway.terminate()
            status, written = gateway.ended()
        self.assertEqual(status, 0, written)
        self.assertIn("the name or the password is wrong", written)
        for secret in (listed.secret, SECRET, curve.read_pair(
            str(gateway.directory / "keys"), "broker").secret):  # fmt: skip
            self.assertNotIn(secret, written)

    def test_killed(self) -> None:
        """A second SIGTERM does not wait for a backend that takes nothing."""
        with twistd(self.mktemp(), zmq=8, kind=BrokeredProcess) as gateway:
            gateway.wait_for("serves 8 data ports")
            with meeting(gateway) as peers:
                peers.connect("PULL", rcvhwm=1)
                push = peers.connect("PUSH", sndhwm=0)
                for _ in range(2000):
                    push.send(bytes(200_000))
                gateway.terminate()
                gateway.wait_for("stopping")
                gateway.terminate()
                status, written = gateway.ended()
        self.assertEqual(status, 0, written)


class Starting(TestCase):
    """All or none"""

    skip = NO_ZMQ

    def test_taken(self) -> None:
        """A taken port of a broker: one line, status 1, and nothing listens."""
        gateway = BrokeredProcess(random_host(), 8, 0)
        with socket.create_server((gateway.host, gateway.zmq[3])):
            gateway.start(self.mktemp(), {})
            with killed_in_the_end(gateway):
                status, written = gateway.ended()
        self.assertEqual(status, 1)
        self.assertNotIn("Traceback", written)
        (line,) = [line for line in written.splitlines() if line.startswith("relayx: ")]
        self.assertIn(f"{gateway.host}:{gateway.zmq[3]}", line)
        self.assertIn("Address already in use", line)

    def service(self, taken: int = -1) -> tuple[Peers, Any]:
        peers = Peers(random_host(), 4, 0)
        brokers = [
            ZmqBroker(pattern=Pattern.PUSH_PULL, frontend=peers.zmq[0], backend=peers.zmq[1])
        ]
        return peers, service_for(peers, {"zmq": {"brokers": brokers}})

    def test_nothingHalfStarted(self) -> Deferred[None]:
        """Neither libzmq's ports nor the others, and no thread."""
        peers, service = self.service()
        with socket.create_server((peers.host, peers.zmq[1])):
            error = self.assertRaises(BindError, service.privilegedStartService)
        self.assertIn(str(peers.zmq[1]), str(error))
        return self.nothing(peers)

    def test_brokersFirst(self) -> Deferred[None]:
        """Where another port is taken, brokers do not listen either."""
        peers, service = self.service()
        with socket.create_server((peers.host, peers.zmq[3])):
            self.assertRaises(BindError, service.privilegedStartService)
        return self.nothing(peers)

    def test_keys(self) -> Deferred[None]:
        """A key that was there when it was checked and is not now."""
        peers = Peers(random_host(), 4, 0)
        broker = ZmqBroker(
            pattern=Pattern.PUSH_PULL, frontend=peers.zmq[0], backend=peers.zmq[1],
            security=BrokerSecurity.CURVE, curve_key="gone",
        )  # fmt: skip
        told = {"zmq": {"brokers": [broker]}, "security": {"keys": self.mktemp()}}
        service = service_for(peers, told)
        error = self.assertRaises(StartError, service.privilegedStartService)
        self.assertIn("gone.curve-key", str(error))
        return self.nothing(peers)

    def nothing(self, peers: Peers) -> Deferred[None]:
        def look() -> None:
            for port in (CONTROL_PORT, *peers.zmq):
                self.assertRaises(ConnectionRefusedError, peers.dial, port)
            peers.close_all()
            names = [one.name for one in threading.enumerate()]
            self.assertEqual([name for name in names if name.startswith("relayx")], [])

        return deferLater(reactor, 0, look)


class WithoutPyzmq(TestCase):
    """Where pyzmq cannot be imported"""

    def test_wanted(self) -> None:
        """With brokers: one line that says what to install, status 1."""
        gateway = BrokeredProcess(random_host(), 8, 0)
        gateway.write(where := self.mktemp(), {})
        Path(where, "zmq.py").write_text(NO_PYZMQ)
        gateway.launch("-c", "config.yaml", "--env-file", "secrets.json")
        with killed_in_the_end(gateway):
            status, written = gateway.ended()
        self.assertEqual(status, 1)
        self.assertNotIn("Traceback", written)
        (line,) = [line for line in written.splitlines() if line.startswith("relayx: ")]
        self.assertIn("pip install relayx[zmq]", line)
        self.assertIn("there is none here", line)

    def test_unwanted(self) -> None:
        """Without brokers nothing asks for it."""
        gateway = Subprocess(random_host(), 2, 0)
        gateway.write(where := self.mktemp(), {"data": {"admission": "open"}})
        Path(where, "zmq.py").write_text("import os\nos._exit(7)\n")
        gateway.launch("-c", "config.yaml", "--env-file", "secrets.json")
        with killed_in_the_end(gateway):
            gateway.wait_for("serves")
            fe, be = gateway.pair(gateway.zmq[0])
            gateway.terminate()
            fe.close()
            be.close()
            status, written = gateway.ended()
        self.assertEqual(status, 0, written)


class Checking(TestCase):
    """relayx check"""

    def test_faults(self) -> None:
        """Every fault of a broker has its key."""
        gateway = BrokeredProcess(random_host(), 8, 0)
        gateway.brokers = (
            {"pattern": "push_pull", "security": "curve", "curve_key": "nobody"},
            {"pattern": "pub_sub", "security": "curve", "curve_key": "broker"},
        )
        gateway.write(where := self.mktemp(), {})
        text = Path(where, "config.yaml").read_text()
        Path(where, "config.yaml").write_text(text.replace("admission: open", "admission: ticket"))
        Path(where, "keys", "broker.curve-key").chmod(0o644)
        told = CliRunner().invoke(
            group.cli,
            ["check", "-c", os.path.join(where, "config.yaml"),
             "--env-file", os.path.join(where, "secrets.json")],
            prog_name="relayx",
        )  # fmt: skip
        self.assertEqual(told.exit_code, 1)
        self.assertIn("zmq.brokers[0].curve_key", told.output)
        self.assertIn("zmq.brokers[1].curve_key", told.output)
        self.assertNotIn("Traceback", told.output)
