"""``relayx top``, ``relayx drain`` and ``relayx reload`` as processes."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from tests.admin_peer import HTTP, TOKEN, get, http_address
from tests.guide_peer import DEADLINE
from tests.live import SECRET, Gateway, live
from tests.relayx_process import RelayxProcess, command_line, environment, run_relayx
from tests.reloading import Filed, filed

SECRETS = {"admin_token": TOKEN}


def where(gateway: Gateway) -> str:
    """Its admin API's address."""
    host, port = http_address(gateway)
    return f"http://{host}:{port}"


class Commands(TestCase):
    """What each does, and how it fails."""

    def run_in(self, *arguments: str, **env: str) -> RelayxProcess:
        """A command in an empty directory."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        return run_relayx(*arguments, cwd=str(self.directory), **env)

    def said(self, running: RelayxProcess, status: int = 0) -> str:
        """What it wrote, where it ended as it should."""
        text = running.stdout.decode() + running.stderr
        self.assertEqual(running.ended(), status, text)
        self.assertNotIn("Traceback", text)
        return text

    @live(http=HTTP, data={"be_on_fe_close": "close"})
    def test_once(self, gateway: Gateway) -> None:
        """Numbers and sessions, without a terminal."""
        gateway.fe("f"), gateway.be("[red]camera[/]")
        fe, be = gateway.pair(gateway.zmq[0])
        fe.send(b"x" * 2_000_000)
        be.receive(2_000_000)
        narrow = self.run_in("top", "--once", RELAYX_ADMIN=where(gateway), COLUMNS="80")
        lines = self.said(narrow).splitlines()
        self.assertIn(f" {gateway.zmq[0]} ", lines[-1])
        self.assertIn("2.0 MB", lines[-1])
        self.assertLessEqual(max(map(len, lines)), 80)
        text = self.said(self.run_in("top", "--once", RELAYX_ADMIN=where(gateway), COLUMNS="120"))
        self.assertIn("ready", text)
        self.assertIn("[red]camera[/]", text)
        self.assertIn("2.0 MB", text)
        self.assertIn("1 sessions", text)

    @live(http=HTTP)
    def test_in_a_terminal(self, gateway: Gateway) -> None:
        """It follows what happens, and ends by q with the terminal as it was."""
        for keys, number in ((b"q", None), (b"", signal.SIGINT)):
            with Terminal("top", "--interval", "200ms", RELAYX_ADMIN=where(gateway)) as terminal:
                terminal.until(b"sessions")
                client = gateway.fe("watched")
                terminal.until(b"1/50")
                client.close()
                if number is None:
                    os.write(terminal.master, keys)
                else:
                    terminal.process.send_signal(number)
                self.assertEqual(terminal.ended(), 0, terminal.written)
                self.assertIn(b"\x1b[?1049l", terminal.written)  # the screen of before is back

    @live(http=HTTP)
    def test_wrong_use(self, gateway: Gateway) -> None:
        """Status 2, and what is wrong."""
        self.assertIn("--once", self.said(self.run_in("top", RELAYX_ADMIN=where(gateway)), 2))
        for url in ("127.0.0.1:8080", "ftp://x", "http://", "http://x:y", "http://x/api"):
            self.assertIn("http://HOST:PORT", self.said(self.run_in("drain", "--admin", url), 2))

    @live(http=HTTP, secrets=SECRETS)
    def test_token(self, gateway: Gateway) -> None:
        """From the environment or the secret file; never told again."""
        url = where(gateway)
        self.assertIn("no admin_token", self.said(self.run_in("top", "--once", "--admin", url), 1))
        wrong = self.run_in("top", "--once", "--admin", url, RELAYX_ADMIN_TOKEN="wrong-one")
        self.assertIn("not the right one", self.said(wrong, 1))
        self.assertNotIn("wrong-one", self.said(wrong, 1))
        right = self.run_in("top", "--once", "--admin", url, RELAYX_ADMIN_TOKEN=TOKEN)
        self.assertIn("ready", self.said(right))
        path = self.directory / "secrets.json"
        path.write_text(json.dumps({"auth_secret": SECRET, "admin_token": TOKEN}))
        path.chmod(0o600)
        by_file = run_relayx("top", "--once", "--admin", url, "--env-file", str(path))
        self.assertIn("ready", self.said(by_file))
        path.write_text("{")
        broken = run_relayx("top", "--once", "--admin", url, "--env-file", str(path))
        self.assertIn("no token", self.said(broken, 1))

    def test_nobody_there(self) -> None:
        """Refused, silent, or not a gateway: one line, status 1."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
            silent = self.run_in("drain", "--admin", url, "--timeout", "300ms")
            self.assertIn("did not answer within 0.3 s", self.said(silent, 1))
        self.assertIn("cannot be reached", self.said(self.run_in("drain", "--admin", url), 1))
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
            answering = threading.Thread(target=self.answer_with_a_page, args=(server,))
            answering.start()
            page = self.run_in("drain", "--admin", url)
            self.assertIn("is no relayx admin API", self.said(page, 1))
            answering.join()

    def answer_with_a_page(self, server: socket.socket) -> None:
        """Be a web server of another kind, once."""
        peer, _ = server.accept()
        with peer:
            peer.settimeout(DEADLINE)
            peer.recv(65536)
            peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html")

    @live(http=HTTP, data={"drain_timeout": 300.0, "be_on_fe_close": "close"})
    def test_drain(self, gateway: Gateway) -> None:
        """It says how many sessions still run."""
        gateway.fe("f"), gateway.be("b")
        gateway.pair(gateway.zmq[0])
        text = self.said(self.run_in("drain", "--admin", where(gateway)))
        self.assertEqual(text, "draining; 1 session still runs\n")
        self.assertEqual(get(gateway, "/readyz").status, 503)
        gateway.stop()

    @filed(http=HTTP)
    def test_reload(self, gateway: Filed) -> None:
        """A line a thing, or all of it as JSON; status 1 where it is refused."""
        url = where(gateway)
        gateway.write(relay={"max_fe": 7})
        text = self.said(self.run_in("reload", "--dry-run", "--admin", url))
        self.assertIn("relay.max_fe: 50 -> 7 (now)", text)
        self.assertIn("nothing was changed", text)
        told = json.loads(self.said(self.run_in("reload", "--json", "--admin", url)))
        self.assertEqual((told["applied"], told["revision"]), (True, 2))
        self.assertIn("nothing is different", self.said(self.run_in("reload", "--admin", url)))
        gateway.write(data={"interface": "127.0.0.1"})
        text = self.said(self.run_in("reload", "--dry-run", "--admin", url), 1)
        self.assertIn("a restart is needed", text)
        text = self.said(self.run_in("reload", "--admin", url), 1)
        self.assertIn("a restart is needed", text)


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, *arguments: str, **env: str) -> None:
        self.master, slave = pty.openpty()
        known = environment(TERM="xterm", COLUMNS="100", LINES="30", **env)
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            command_line(*arguments), stdin=slave, stdout=slave, stderr=slave, env=known
        )
        os.close(slave)
        self.written = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)

    def read(self, within: float) -> bool:
        """Read some; False where there is no more."""
        if not select.select([self.master], [], [], max(0.0, within))[0]:
            raise AssertionError(f"it wrote {self.written!r}")
        try:
            data = os.read(self.master, 65536)
        except OSError:  # of Linux, where the other side is closed
            return False
        self.written += data
        return bool(data)

    def until(self, part: bytes) -> None:
        """Read until something is there."""
        deadline = time.monotonic() + DEADLINE
        while part not in self.written:
            if not self.read(deadline - time.monotonic()):
                raise AssertionError(f"it wrote {self.written!r}")

    def ended(self) -> int:
        """Its exit status, once all it wrote is read."""
        deadline = time.monotonic() + DEADLINE
        while self.read(deadline - time.monotonic()):
            pass
        return self.process.wait(DEADLINE)
