"""``relayx doctor``: each step, how it fails, and that it takes nothing from anybody."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.trial.unittest import TestCase

from tests.guide_peer import DEADLINE
from tests.live import CONTROL_PORT, SECRET, Gateway, live, random_host
from tests.relayx_process import run_relayx
from tests.tls_live import NAME, TLS_PORT, Trust, secured

STEPS = ["name", "connect", "register", "clock", "roundtrip", "ports", "data"]


class Doctor(TestCase):
    """Runs it, and reads what it says."""

    timeout = 60

    def examine(
        self, gateway: str, *options: str, status: int = 0, **env: str
    ) -> dict[str, dict[str, Any]]:
        """The steps by name, of the run with ``--json``."""
        done = run_relayx("doctor", "--json", *options, gateway=gateway, **env)
        self.assertEqual((done.ended(), done.stderr), (status, ""), done.stdout)
        told = json.loads(done.stdout)
        self.assertEqual(told["healthy"], not status)
        self.assertNotIn(env.get("RELAYX_SECRET", SECRET), done.stdout.decode())
        return {step["step"]: step for step in told["steps"]}

    def assert_failed(self, steps: dict[str, dict[str, Any]], name: str, *texts: str) -> None:
        """That step failed, with these words in its text or advice, and the rest was left out."""
        names = list(steps)
        place = names.index(name)
        found = [steps[step]["status"] for step in names]
        self.assertNotIn("failed", found[:place], steps)
        self.assertEqual(found[place], "failed", steps)
        self.assertEqual(set(found[place + 1 :]) - {"skipped"}, set(), steps)
        told = steps[name]["text"] + steps[name]["advice"]
        for text in texts:
            self.assertIn(text, told)
        self.assertTrue(steps[name]["advice"], steps[name])


class Healthy(Doctor):
    """A gateway that works."""

    @live()
    def test_every_step(self, gateway: Gateway) -> None:
        """A back end waits on one port: all is well, in words and in JSON."""
        gateway.be11()
        waiting = gateway.waiting(gateway.zmq[0])
        steps = self.examine(gateway.host)
        self.assertEqual(list(steps), STEPS)
        self.assertEqual({step["status"] for step in steps.values()}, {"ok"}, steps)
        self.assertEqual(steps["name"]["facts"], {"addresses": [gateway.host]})
        self.assertLess(abs(steps["clock"]["facts"]["skew_seconds"]), 1)
        times = [steps["roundtrip"]["facts"][name] for name in ("min", "avg", "max")]
        self.assertEqual(times, sorted(times))
        counts = {"total": 3, "ready": 1, "busy": 0, "empty": 2, "reserved": 0}
        self.assertEqual(steps["ports"]["facts"]["zmq"], counts)
        found = steps["data"]["facts"]
        self.assertEqual(found, {"port": gateway.zmq[1], "error_code": "PORT_EMPTY"})
        done = run_relayx("doctor", f"{gateway.host}:{CONTROL_PORT}", gateway="127.0.0.1:9")
        self.assertEqual((done.ended(), done.stderr), (0, ""))
        lines = done.stdout.decode().splitlines()
        self.assertEqual(lines[0], f"examining {gateway.host}:{CONTROL_PORT}")
        self.assertEqual([line.split()[:2] for line in lines[1:-1]], [["ok", s] for s in STEPS])
        self.assertEqual(lines[-1], "nothing is wrong")
        fe = gateway.entering(gateway.zmq[0])
        fe.expect("RLX1PAIRED")
        waiting.expect("RLX1PAIRED")

    @live(zmq=1, srt=0)
    def test_ready_port_is_not_taken(self, gateway: Gateway) -> None:
        """With no empty port a ready one is asked, and its back end goes on waiting."""
        gateway.be11()
        waiting = gateway.waiting(gateway.zmq[0])
        steps = self.examine(gateway.host)
        self.assertEqual(steps["data"]["status"], "ok")
        self.assertEqual(steps["data"]["facts"]["error_code"], "NOT_ADMITTED")
        gateway.fe11()
        gateway.entering(gateway.zmq[0]).expect("RLX1PAIRED")
        waiting.expect("RLX1PAIRED")
        busy = self.examine(gateway.host)["data"]
        self.assertEqual(busy["status"], "ok")
        self.assertEqual(busy["facts"]["port"], gateway.zmq[0])

    @live()
    def test_no_back_end(self, gateway: Gateway) -> None:
        """That is a warning, with what to do."""
        steps = self.examine(gateway.host)
        self.assertEqual(steps["ports"]["status"], "warn")
        self.assertIn("relayx be", steps["ports"]["advice"])
        done = run_relayx("doctor", gateway=gateway.host)
        self.assertIn(b"it works; see the warnings above", done.stdout)

    @live(data={"admission": "ticket"})
    def test_ticket(self, gateway: Gateway) -> None:
        """A port that admits by ticket is reached; more than that cannot be told."""
        data = self.examine(gateway.host)["data"]
        self.assertEqual(data["status"], "ok")
        self.assertIn("ticket", data["text"])


class Wrong(Doctor):
    """What each step says where it fails."""

    def test_name(self) -> None:
        steps = self.examine("no-such-host.invalid", status=1)
        self.assert_failed(steps, "name", "no-such-host.invalid", "spelling")

    def test_connect(self) -> None:
        steps = self.examine(f"{random_host()}:9", status=1)
        self.assert_failed(steps, "connect", "connection refused", "systemctl status relayx")

    @live()
    def test_secret(self, gateway: Gateway) -> None:
        steps = self.examine(gateway.host, status=1, RELAYX_SECRET="not the secret at all")
        self.assert_failed(steps, "register", "AUTH_FAILED", "--env-file")

    @live(relay={"max_fe": 1})
    def test_full(self, gateway: Gateway) -> None:
        gateway.fe()
        steps = self.examine(gateway.host, status=1)
        self.assert_failed(steps, "register", "CAPACITY", "relay.max_fe")

    @live()
    def test_data_port_for_control(self, gateway: Gateway) -> None:
        steps = self.examine(f"{gateway.host}:{gateway.zmq[0]}", status=1)
        self.assert_failed(steps, "register", "no answer to register", "control port")

    @live(zmq=0, srt=0)
    def test_no_ports(self, gateway: Gateway) -> None:
        self.assert_failed(self.examine(gateway.host, status=1), "ports", "no data port")

    def test_wrong_use(self) -> None:
        done = run_relayx("doctor", "gateway.example", RELAYX_SECRET=SECRET)
        self.assertEqual(done.ended(), 2)
        self.assertIn("HOST:PORT", done.stderr)


class Tls(Doctor):
    """The handshake as a step of its own."""

    def through_tls(
        self, gateway: Gateway, trust: Trust, *options: str, status: int = 0, port: int = TLS_PORT
    ) -> dict[str, dict[str, Any]]:
        known = ("--tls", "--server-name", NAME, "--ca", trust.authority.certificate)
        return self.examine(f"{gateway.host}:{port}", *known, *options, status=status)

    @secured()
    def test_trusted(self, gateway: Gateway, trust: Trust) -> None:
        """Version, cipher, whose certificate, and for how long."""
        gateway.be11()
        gateway.waiting(gateway.zmq[0])
        tls = self.through_tls(gateway, trust)["tls"]
        self.assertIn(tls["facts"]["version"], ("TLSv1.2", "TLSv1.3"))
        self.assertEqual(tls["facts"]["subject"], "CN=server")
        if tls["facts"]["days"] < 14:
            self.assertEqual((tls["status"], tls["advice"]), ("warn", "renew it at the gateway"))
        else:
            self.assertEqual(tls["status"], "ok")

    @secured()
    def test_refused(self, gateway: Gateway, trust: Trust) -> None:
        """Another name, an unknown CA, a port without TLS, and TLS where it was not asked for."""
        steps = self.through_tls(gateway, trust, "--server-name", "other.example", status=1)
        self.assert_failed(steps, "tls", "other.example", "--server-name")
        stranger = trust.stranger.certificate
        steps = self.through_tls(gateway, trust, "--ca", stranger, status=1)
        self.assert_failed(steps, "tls", "--ca names")
        steps = self.through_tls(gateway, trust, port=CONTROL_PORT, status=1)
        self.assert_failed(steps, "tls", "does not speak TLS", "leave --tls out")
        steps = self.examine(f"{gateway.host}:{TLS_PORT}", status=1)
        self.assert_failed(steps, "register", "--tls")

    @secured(client_ca=True)
    def test_certificate_wanted(self, gateway: Gateway, trust: Trust) -> None:
        """A gateway that asks for a client's certificate; with one all is well."""
        steps = self.through_tls(gateway, trust, status=1)
        told = [step for step in steps.values() if step["status"] == "failed"]
        self.assertIn("certificate", told[0]["text"])
        own = trust.authority.issue("doctor", [])
        shown = ("--cert", own.certificate, "--key", own.key)
        self.assertEqual(self.through_tls(gateway, trust, *shown)["register"]["status"], "ok")


class Fake:
    """A gateway that is nearly one: it registers, and then does as the test says.

    :param skew: seconds that its clock is ahead.
    :param port: the data port that it tells of.
    :param leaves: what it closes the connection at.
    """

    def __init__(self, host: str, skew: float = 0.0, port: int = 9, leaves: str = "") -> None:
        self._skew = skew
        self._leaves = leaves
        self._port = port
        self._listening = socket.create_server((host, 0))
        self._listening.settimeout(DEADLINE)
        self.address = f"{host}:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listening.close()
        self._thread.join(DEADLINE)

    def _serve(self) -> None:
        for _ in range(2):  # the step that connects, and the one that registers
            peer = self._listening.accept()[0]
            try:
                with peer, peer.makefile("rwb") as stream:
                    for line in stream:
                        if json.loads(line)["type"] == self._leaves:
                            break
                        for answer in self._answers(json.loads(line)):
                            stream.write(json.dumps(answer).encode() + b"\n")
                        stream.flush()
            except ConnectionError:
                continue

    def _answers(self, said: dict[str, Any]) -> Iterator[dict[str, Any]]:
        kind, payload = said["type"], said.get("payload") or {}
        if kind == "register":
            told = {"status": "ok", "client_id": "x", "server": "fake", "protocol": "1.1"}
            yield {"type": "auth", "payload": told}
        elif kind == "ping":
            now = int((time.time() + self._skew) * 1e9)
            sent = payload["c_send"]
            yield {"type": "pong", "payload": {"c_send": sent, "s_recv": now, "s_send": now}}
        elif kind == "port_state_q":
            state = {f"zmq_{what}": n for what, n in (("total", 1), ("busy", 0))}
            state |= {"srt_total": 0, "srt_busy": 0, "srt_ready_ports": [], "srt_empty_ports": []}
            state |= {"zmq_ready_ports": [], "zmq_empty_ports": [self._port]}
            yield {"type": "port_state", "trace_id": said["trace_id"], "payload": state}


class Beyond(Doctor):
    """What no gateway of ours does: a wrong clock, a data port that is not there or not one."""

    @contextmanager
    def fake(self, **how: Any) -> Iterator[Fake]:
        gateway = Fake(random_host(), **how)
        try:
            yield gateway
        finally:
            gateway.close()

    def test_clock(self) -> None:
        """A second is noticed, half a minute is too much."""
        for skew, status, words in ((5.0, "warn", "ahead of"), (-40.0, "failed", "behind")):
            with self.fake(skew=skew) as gateway:
                done = run_relayx("doctor", "--json", gateway=gateway.address)
            steps = {step["step"]: step for step in json.loads(done.stdout)["steps"]}
            clock = steps["clock"]
            self.assertEqual(clock["status"], status)
            self.assertIn(words, clock["text"])
            self.assertIn("NTP", clock["advice"])
            self.assertLess(abs(clock["facts"]["skew_seconds"] - skew), 1)

    def test_goes_away(self) -> None:
        """It ends the connection in the middle."""
        for kind, step in (("register", "register"), ("port_state_q", "ports")):
            with self.fake(leaves=kind) as gateway:
                steps = self.examine(gateway.address, status=1)
            self.assert_failed(steps, step)

    @live()
    def test_not_trusted(self, gateway: Gateway) -> None:
        """A gateway that does not sign, to a client that verifies."""
        folder = Path(self.mktemp())
        folder.mkdir()
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        file = folder / "gateway.pub"
        file.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        steps = self.examine(gateway.host, "--gateway-keys", str(file), status=1)
        self.assert_failed(steps, "register", "not trusted", "--gateway-keys")

    def test_data_port_refused(self) -> None:
        with self.fake(port=9) as gateway:
            steps = self.examine(gateway.address, status=1)
        self.assert_failed(steps, "data", "data port 9", "relayx firewall")

    def answered(self, answer: bytes) -> dict[str, dict[str, Any]]:
        """The steps with a data port that answers HELLO with these bytes."""
        with socket.create_server((random_host(), 0)) as listening:
            listening.settimeout(DEADLINE)
            host, port = listening.getsockname()

            def serve() -> None:
                peer = listening.accept()[0]
                with peer:
                    peer.recv(4096)
                    peer.sendall(answer)
                    peer.shutdown(socket.SHUT_WR)
                    while peer.recv(4096):
                        pass

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            gateway = Fake(host, port=port)
            try:
                return self.examine(gateway.address, status=1)
            finally:
                gateway.close()
                thread.join(DEADLINE)

    def test_data_answers(self) -> None:
        """Another address than the control connection's; a code of its own; no answer at all."""
        peer = b'no FE is registered from 10.0.0.9; data.admission is peer, which admits"}'
        for answer, words in (
            (b'RLX1ERR {"error_code":"NOT_ADMITTED","error":"' + peer, "ticket at the gateway"),
            (b'RLX1ERR {"error_code":"HELLO_INVALID","error":"no TLS"}', "--data-tls"),
            (b'RLX1ERR {"error_code":"DRAINING","error":"it stops"}', "DRAINING"),
            (b"", "does not answer HELLO"),
        ):
            data = self.answered(answer and answer + b"\n")["data"]
            self.assertEqual(data["status"], "failed")
            self.assertIn(words, data["text"] + data["advice"])
