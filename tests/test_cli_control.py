"""``relayx ping`` and ``relayx status``, and how a command fails without a gateway."""

from __future__ import annotations

import json
import socket
from contextlib import ExitStack

from twisted.trial.unittest import TestCase

from tests.live import SECRET, Gateway, live
from tests.relayx_process import DEADLINE, relayx, run_relayx


class PingTests(TestCase):
    """``relayx ping``."""

    @live()
    def test_count(self, gateway: Gateway) -> None:
        """So many, then the sums."""
        done = run_relayx("ping", "--count", "3", "--interval", "10ms", gateway=gateway.host)
        self.assertEqual((done.ended(), done.stderr), (0, ""))
        lines = done.stdout.decode().splitlines()
        self.assertIn(f"PING {gateway.host}:5555 relayx/", lines[0])
        self.assertEqual([line.split()[0] for line in lines[1:4]], ["seq=1", "seq=2", "seq=3"])
        self.assertEqual(lines[4], "3 sent, 3 answered, 0 % lost")
        least, mean, most = map(float, lines[5].split(" = ")[1].split()[0].split("/"))
        self.assertTrue(0 < least <= mean <= most)

    @live()
    def test_interrupted(self, gateway: Gateway) -> None:
        """Ctrl-C: the sums all the same, and status 0."""
        with relayx("ping", "--count", "0", "--interval", "1m", gateway=gateway.host) as it:
            it.wait_for(lambda: b"seq=1" in it.stdout)
            self.assertEqual(it.interrupted(), 0)
        self.assertIn(b"1 sent, 1 answered", it.stdout)

    @live()
    def test_interrupted_before_an_answer(self, gateway: Gateway) -> None:
        """Ctrl-C before it is registered: nothing was answered, so status 1, as the help says."""
        with socket.create_server((gateway.host, 0)) as silent:
            silent.settimeout(DEADLINE)
            where = f"{gateway.host}:{silent.getsockname()[1]}"
            with relayx("ping", "--connect-timeout", "1m", gateway=where) as it:
                with silent.accept()[0]:
                    self.assertEqual(it.interrupted(), 1)
        self.assertEqual((it.stdout, it.stderr), (b"", "Error: interrupted\n"))
        told = run_relayx("ping", "--help").stdout.decode().split()
        self.assertIn("Exit status 1 where no ping is answered", " ".join(told))


class StatusTests(TestCase):
    """``relayx status``."""

    @live(zmq=3, srt=2)
    def test_json(self, gateway: Gateway) -> None:
        """All numbers add up to the total, a named service's ports included."""
        be = gateway.be11()
        gateway.waiting(gateway.zmq[0])
        gateway.waiting(gateway.zmq[1], service="web")
        be.state(lambda state: len(state["zmq_empty_ports"]) == 1)
        done = run_relayx("status", "--json", gateway=gateway.host)
        self.assertEqual(done.ended(), 0)
        told = json.loads(done.stdout)
        self.assertEqual(told["gateway"], f"{gateway.host}:5555")
        self.assertTrue(told["server"].startswith("relayx/"))
        zmq = told["ports"]["zmq"]
        self.assertEqual(zmq["ready_ports"], [gateway.zmq[0]])
        self.assertEqual(zmq["empty_ports"], [gateway.zmq[2]])
        counts = [zmq[state] for state in ("total", "ready", "busy", "empty", "reserved")]
        self.assertEqual(counts, [3, 2, 0, 1, 0])
        self.assertEqual(told["ports"]["srt"]["total"], 2)
        self.assertEqual(told["services"]["web"], {"zmq_ready": 1, "srt_ready": 0})
        self.assertEqual(told["services"][""], {"zmq_ready": 1, "srt_ready": 0})

    @live(zmq=3, srt=2)
    def test_tables(self, gateway: Gateway) -> None:
        """The same for a person."""
        done = run_relayx("status", gateway=gateway.host)
        self.assertEqual(done.ended(), 0)
        text = done.stdout.decode()
        self.assertIn(f"at {gateway.host}:5555", text)
        rows = [[cell.strip() for cell in line.split("│")] for line in text.splitlines()]
        self.assertIn(["", "zmq", "3", "0", "0", "3", "0", ""], rows)
        self.assertIn(["", "srt", "2", "0", "0", "2", "0", ""], rows)

    @live(zmq=1, srt=1)
    def test_watch(self, gateway: Gateway) -> None:
        """Every change is a line, until Ctrl-C, which is no failure."""
        with relayx("status", "--json", "--watch", gateway=gateway.host) as it:
            it.wait_for(lambda: b"\n" in it.stdout)
            gateway.be11()
            gateway.waiting(gateway.zmq[0])
            it.wait_for(lambda: b'"ready": 1' in it.stdout)
            self.assertEqual(it.interrupted(), 0)
        states = [json.loads(line)["ports"]["zmq"]["ready"] for line in it.stdout.splitlines()]
        self.assertEqual((states[0], states[-1]), (0, 1))


class FailureTests(TestCase):
    """One line on stderr, no traceback, status 1."""

    def assert_failed(self, text: str, *commands: list[str], gateway: str, **env: str) -> None:
        """Run them all at once, and look."""
        with ExitStack() as stack:
            running = [
                stack.enter_context(relayx(*arguments, gateway=gateway, **env))
                for arguments in commands
            ]
            for done in running:
                self.assertEqual(done.ended(), 1, done.stderr)
                self.assertIn(text, done.stderr)
                self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
                self.assertNotIn(env.get("RELAYX_SECRET", SECRET), done.stderr)
                self.assertEqual(done.stdout, b"")

    @live()
    def test_wrong_secret(self, gateway: Gateway) -> None:
        """It says where, why and what to look at, and not the secret."""
        self.assert_failed(
            f"the gateway at {gateway.host}:5555 refuses: AUTH_FAILED: the secret is wrong; check",
            ["be", "--echo"],
            ["fe", "--listen", "0"],
            ["recv"],
            gateway=gateway.host,
            RELAYX_SECRET="not-the-right-secret",
        )

    @live()
    def test_no_gateway(self, gateway: Gateway) -> None:
        """It says where it looked and what happened there."""
        nowhere = f"{gateway.host}:9"
        at_once = ["--connect-timeout", "4s"]
        self.assert_failed(
            f"no gateway at {nowhere} within 4 s: connection refused",
            ["be", "--echo", *at_once],
            ["send", *at_once],
            gateway=nowhere,
        )

    @live(relay={"max_fe": 1})
    def test_full(self, gateway: Gateway) -> None:
        """What the gateway says of it."""
        gateway.fe()
        command = ["ping", "--connect-timeout", "4s"]
        self.assert_failed("refuses: CAPACITY", command, gateway=gateway.host)

    @live()
    def test_taken_over(self, gateway: Gateway) -> None:
        """A back end of the same id takes the place of the first, which ends and says why."""
        command = ("be", "--echo", "--client-id", "twin")
        with relayx(*command, gateway=gateway.host) as first:
            first.line("registered")
            with relayx(*command, gateway=gateway.host) as second:
                self.assertEqual(first.ended(), 1)
                self.assertIn("TAKEN_OVER", first.stderr)
                self.assertIn("--client-id", first.stderr)
                second.line("registered")
                self.assertEqual(second.interrupted(), 0)

    @live()
    def test_side_by_side(self, gateway: Gateway) -> None:
        """Without --client-id the gateway names each, and nobody takes another's place."""
        with (
            relayx("be", "--echo", gateway=gateway.host) as one,
            relayx("be", "--echo", gateway=gateway.host) as other,
        ):
            names = {it.line("registered").rpartition(" as ")[2] for it in (one, other)}
            self.assertEqual(len(names), 2)
            self.assertEqual((one.interrupted(), other.interrupted()), (0, 0))
