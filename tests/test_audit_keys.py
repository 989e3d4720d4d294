"""What the record of who did what says of keys and secrets that change while a gateway runs."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from relayx.security.keyring import rotate
from relayx.security.keys import KeyType
from tests.live import SECRET
from tests.live_process import twistd
from tests.relayx_process import run_relayx
from tests.signing import KeyFiles, SigningControl, envelope, signed
from tests.test_reload_process import hang_up

DAY = 86400.0


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class Changes(TestCase):
    """``relayx keys`` and ``relayx secret`` change files; a reload puts them in force."""

    def test_rotations(self) -> None:
        """Names of old and new keys, and which secret is accepted; never a key or a secret."""
        directory = Path(self.mktemp()).absolute()
        files = KeyFiles(str(directory))
        security = {"signing": "accept", "keys": "gateway", "trusted_keys": "trusted"}
        secrets = directory / "secrets.json"
        with twistd(str(directory), audit={"file": "audit.jsonl"}, security=security) as gateway:
            witness = gateway.fe()

            def reload(*command: str) -> list[tuple[str, str, str]]:
                """What is recorded of keys and secrets at a reload after a command."""
                done = run_relayx(*command, cwd=str(directory))
                self.assertEqual(done.ended(), 0, done.stderr)
                before = len(lines_of(directory / "audit.jsonl"))
                hang_up(gateway)
                gateway.wait_for("configuration revision")
                deadline = time.monotonic() + 60
                while True:  # another thread writes it
                    lines = lines_of(directory / "audit.jsonl")[before:]
                    if any("configuration revision" in line["text"] for line in lines):
                        break
                    self.assertLess(time.monotonic(), deadline, lines)
                    witness.ping()
                return [
                    (line["event"], line.get("kid", ""), line.get("kid_before", ""))
                    for line in lines
                    if line["event"] in ("key_changed", "secret_changed")
                ]

            told = reload("keys", "rotate", "--dir", files.gateway, "--kid", "gw-2")
            self.assertEqual(told, [("key_changed", "gw-2", "gw-1")])
            told = reload("keys", "rotate", "--dir", files.gateway, "--to", "gw-1")
            self.assertEqual(told, [("key_changed", "gw-1", "gw-2")])
            shutil.move(Path(files.trusted, "fe-1.pub"), Path(files.trusted, "fe-2.pub"))
            told = reload("keys", "list", "--dir", files.gateway)
            self.assertEqual(told, [("key_changed", "fe-2", ""), ("key_changed", "", "fe-1")])
            told = reload("secret", "rotate", "--env-file", str(secrets))
            self.assertEqual(told, [("secret_changed", "", "")])
            new = json.loads(secrets.read_text())["auth_secret"]
            old = gateway.control()
            old.register("BE", SECRET, "late")
            told = reload("secret", "retire", "--env-file", str(secrets))
            self.assertEqual(told, [("secret_changed", "", "")])
            gateway.terminate()
            self.assertEqual(gateway.ended()[0], 0)
        lines = lines_of(directory / "audit.jsonl")
        first = [(line["event"], line.get("kid", "")) for line in lines[:3]]
        self.assertEqual(first, [("key_changed", "gw-1"), ("key_changed", "fe-1"), ("started", "")])
        (previous,) = [line for line in lines if line["event"] == "previous_secret"]
        self.assertEqual((previous["client"], previous["role"]), ("late", "BE"))
        self.assertEqual(previous["address"], "127.0.0.1")
        texts = [line["text"] for line in lines if line["event"] == "secret_changed"]
        self.assertIn("accepted as auth_secret_previous", texts[0])
        self.assertIn("not accepted any more", texts[1])
        whole = (directory / "audit.jsonl").read_text()
        for secret in (SECRET, new, "PRIVATE KEY", "PUBLIC KEY"):
            self.assertNotIn(secret, whole)


class Refused(TestCase):
    """Keys past their time, and messages that a client had no right to send."""

    def test_expired_key(self) -> None:
        """It is in the record from the start, and with ``reject`` nobody registers by it."""
        directory = Path(self.mktemp()).absolute()
        files = KeyFiles(str(directory))
        rotate(files.client, KeyType.P256, 1, time.time() - 2 * DAY, "stale")
        security = {"signing": "require", "trusted_keys": "client", "on_expired": "reject"}
        with twistd(str(directory), audit={"file": "audit.jsonl"}, security=security) as gateway:
            control = gateway.open(SigningControl, gateway.control_port)
            control.signer = files.signer()
            control.say_signed("register", {"role": "FE", "secret": SECRET})
            self.assertEqual(control.read()["payload"]["error_code"], "SIGNATURE_INVALID")
            gateway.terminate()
            self.assertEqual(gateway.ended()[0], 0)
        (failed,) = [
            line
            for line in lines_of(directory / "audit.jsonl")
            if line["event"] == "register_failed"
        ]
        self.assertIn('key "stale" expired at', failed["text"])
        (expired,) = [
            line for line in lines_of(directory / "audit.jsonl") if line["event"] == "key_expiry"
        ]
        self.assertEqual(expired["kid"], "stale")
        self.assertIn("has expired", expired["text"])
        self.assertIn("security.on_expired is reject", expired["text"])

    def test_messages(self) -> None:
        """Once a minute for each connection and code, however often it tries."""
        directory = Path(self.mktemp()).absolute()
        files = KeyFiles(str(directory))
        security = {"signing": "require", "trusted_keys": "trusted"}
        with twistd(str(directory), audit={"file": "audit.jsonl"}, security=security) as gateway:
            control = gateway.open(SigningControl, gateway.control_port)
            control.signer = files.signer()
            control.say_signed("register", {"role": "FE", "secret": SECRET, "client_id": "fe"})
            control.expect("auth", status="ok")
            control.expect("port_state")
            unsigned = json.dumps(envelope("ping", {"c_send": 1}, trace_id="t-1")).encode()
            twice = signed(control.signer, "ping", {"c_send": 2})
            for data, code in (
                (unsigned, "SIGNATURE_INVALID"), (unsigned, "SIGNATURE_INVALID"),
                (twice, ""), (twice, "REPLAYED"),
                (signed(control.signer, "port_release", {"session_id": "s"}), "INVALID_REQUEST"),
            ):  # fmt: skip
                answer = control.answer_to(data)
                self.assertEqual(answer["payload"].get("error_code", ""), code)
            gateway.terminate()
            self.assertEqual(gateway.ended()[0], 0)
        refused = [
            line
            for line in lines_of(directory / "audit.jsonl")
            if line["event"] == "message_refused"
        ]
        self.assertEqual(
            [line["error_code"] for line in refused],
            ["SIGNATURE_INVALID", "REPLAYED", "INVALID_REQUEST"],
        )
        self.assertEqual(refused[0]["trace_id"], "t-1")
        self.assertEqual({(line["client"], line["address"]) for line in refused},
                         {("fe", "127.0.0.1")})  # fmt: skip
