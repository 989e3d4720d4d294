"""The client commands' options: what is wrong use, and where the secret is from (section 1)."""

from __future__ import annotations

import json
import os
from typing import Any

import click
from click.testing import CliRunner, Result
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionRefusedError as Refusal
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relayx.cli import options
from relayx.cli.__main__ import cli
from relayx.cli.running import Failed, reason, report
from relayx.client import ControlLost, Gateway, Refused

CLIENTS = ("be", "fe", "send", "recv", "ping", "status")


class UsageTests(SynchronousTestCase):
    """Exit status 2 and a word about what would be right."""

    def run_cli(self, *arguments: str, **env: str) -> Result:
        """Run the command line in this process, in an empty folder."""
        runner = CliRunner(env={"RELAYX_SECRET": "s" * 32, "RELAY_ENV": None, **env})
        with runner.isolated_filesystem():
            return runner.invoke(cli, list(arguments))

    def assert_usage(self, text: str, *arguments: str, **env: str) -> None:
        """Wrong use, with `text` in what is said about it."""
        result = self.run_cli(*arguments, **env)
        self.assertEqual(result.exit_code, 2, result.output)
        self.assertIn(text, result.output)

    def test_every_client_has_the_options(self) -> None:
        """They are those of the contract, and none takes the secret itself."""
        for name in CLIENTS:
            result = self.run_cli(name, "--help")
            self.assertEqual(result.exit_code, 0)
            for option in ("--gateway", "--client-id", "--env-file", "RELAYX_GATEWAY"):
                self.assertIn(option, result.output)
            self.assertIn("default: 127.0.0.1:5555", result.output)
            self.assertNotIn("--secret", result.output)

    def test_help_of_the_group(self) -> None:
        """The one line of `send` is what it takes: one file or '-'."""
        result = self.run_cli("--help")
        line = next(line for line in result.output.splitlines() if line.split()[:1] == ["send"])
        self.assertIn("one FILE", line)
        self.assertIn("'-'", line)

    def test_be_serves_one_way(self) -> None:
        """Exactly one of the three, and at least one port."""
        needed = "exactly one of --forward, --exec and --echo"
        self.assert_usage(needed, "be")
        self.assert_usage(needed, "be", "--echo", "--exec", "cat")
        self.assert_usage(needed, "be", "--forward", "h:1", "--echo")
        self.assert_usage("no port to wait on", "be", "--echo", "--zmq", "0")
        self.assert_usage("no port to wait on", "be", "--echo", "--zmq", "0", "--srt", "0")
        self.assert_usage("--proxy goes with", "be", "--zmq", "0", "--proxy", "v2")
        self.assert_usage("-1", "be", "--echo", "--srt", "-1")
        self.assert_usage("--proxy goes with", "be", "--echo", "--proxy", "v2")
        self.assert_usage("--json goes with --link-telemetry", "be", "--echo", "--json")
        self.assert_usage(needed, "be", "--link-telemetry", "--srt", "1")
        self.assert_usage("'v1'", "be", "--exec", "cat", "--proxy", "v1")

    def test_addresses(self) -> None:
        """HOST:PORT, and where it may be shorter."""
        for text in ("host", "host:", ":80", "host:http", "::1:80", "host:80:90"):
            self.assert_usage("is not HOST:PORT", "be", "--forward", text)
        self.assert_usage("allowed: 1 to 65535", "be", "--forward", "host:0")
        self.assert_usage("allowed: 0 to 65535", "fe", "--listen", "65536")
        self.assert_usage("is not [HOST:]PORT", "fe", "--listen", "host:")
        self.assert_usage("--listen", "fe")
        for text in ("host:port", "a:b:c", "[::1", "[host]:1"):
            self.assert_usage("is not HOST[:PORT]", "ping", "--gateway", text)
        self.assert_usage("allowed: 1 to 65535", "ping", "--gateway", "host:0")
        self.assert_usage("is not HOST[:PORT]", "ping", RELAYX_GATEWAY="a:b:c")

    def test_values(self) -> None:
        """Names, protocols, numbers and durations."""
        self.assert_usage("no service's name", "send", "--service", "Web")
        self.assert_usage("no service's name", "recv", "--service", "w" * 65)
        self.assert_usage("zmq", "send", "--protocol", "tcp")
        self.assert_usage("no id", "ping", "--client-id", "a\nb")
        self.assert_usage("no id", "ping", "--client-id", "i" * 129)
        self.assert_usage("needs a unit", "ping", "--interval", "3")
        self.assert_usage("out of range", "ping", "--connect-timeout", "-1s")
        self.assert_usage("--count", "ping", "--count", "-1")
        self.assert_usage("1<=x<=64", "demo", "--sessions", "0")
        self.assert_usage("No such option", "ping", "--secret", "x")

    def test_no_secret(self) -> None:
        """Neither in the environment nor in a file: refused, and both are named."""
        for name in ("ping", "status", "recv"):
            result = self.run_cli(name, RELAYX_SECRET="")
            self.assertEqual(result.exit_code, 1)
            self.assertIn(".env.local.json: does not exist", result.output)
            self.assertIn("RELAYX_SECRET", result.output)
        result = self.run_cli("ping", RELAYX_SECRET="", RELAY_ENV="test")
        self.assertIn(".env.test.json: does not exist", result.output)
        result = self.run_cli("ping", RELAYX_SECRET="", RELAY_ENV="staging")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("RELAY_ENV", result.output)

    def test_file_that_cannot_be_read(self) -> None:
        """`send` of a missing file and `demo` of one say so, with status 1."""
        for arguments in (("send", "missing"), ("demo", "--file", "missing")):
            result = self.run_cli(*arguments)
            self.assertEqual(result.exit_code, 1)
            self.assertIn("missing cannot be read: No such file", result.output)
        for arguments in (("send", os.curdir), ("send", "/proc/self/mem/x")):
            result = self.run_cli(*arguments)
            self.assertEqual(result.exit_code, 1)
            self.assertIn(f"{arguments[1]} cannot be read: ", result.output)
            self.assertRegex(result.output, "[Dd]irectory")
        self.assertIn("not a regular file", self.run_cli("demo", "--file", os.curdir).output)


class SecretTests(SynchronousTestCase):
    """Where the secret is from."""

    def file(self, content: dict[str, Any], mode: int = 0o600) -> str:
        """A secret file."""
        path = self.mktemp()
        with open(path, "w") as file:
            json.dump(content, file)
        os.chmod(path, mode)
        return path

    def setUp(self) -> None:
        for name in ("RELAYX_SECRET", "RELAY_ENV"):
            self.patch(os, "environ", {n: v for n, v in os.environ.items() if n != name})
        self.said: list[str] = []
        self.patch(options, "say", self.said.append)

    def test_file(self) -> None:
        """The file's current secret."""
        path = self.file({"auth_secret": "new one", "auth_secret_previous": "old one"})
        self.assertEqual(options.find_secrets(path).auth_secret, "new one")
        self.assertEqual(self.said, [])

    def test_environment_beats_the_file(self) -> None:
        """RELAYX_SECRET is taken though the file is broken."""
        os.environ["RELAYX_SECRET"] = "from the environment"
        self.assertEqual(options.find_secrets("/nowhere").auth_secret, "from the environment")

    def test_warning(self) -> None:
        """Others who may read the file are a warning, in prod a fault; the secret is in neither."""
        path = self.file({"auth_secret": "quite-secret-" * 4}, 0o644)
        self.assertEqual(options.find_secrets(path).auth_secret, "quite-secret-" * 4)
        self.assertIn("chmod 600", self.said[0])
        self.assertNotIn("quite-secret", self.said[0])
        os.environ["RELAY_ENV"] = "prod"
        refused = self.assertRaises(Failed, options.find_secrets, path)
        self.assertIn("chmod 600", refused.message)
        self.assertNotIn("quite-secret", refused.message)

    def test_faults(self) -> None:
        """All faults are told."""
        failed = self.assertRaises(Failed, options.find_secrets, self.file({"auth_secre": ""}))
        self.assertIn("nearest is auth_secret", failed.message)
        self.assertIn("is missing", failed.message)

    def test_hidden(self) -> None:
        """No repr has it."""
        target = options.Target(Gateway("h", 1, "quite-secret"), "", 3.0, 0)
        self.assertNotIn("quite-secret", repr(target))


class ValueTests(SynchronousTestCase):
    """What the options' values become."""

    def test_address(self) -> None:
        """Host and port."""
        self.assertEqual(options.address("[::1]:80"), ("::1", 80))
        self.assertEqual(options.address("example.org:65535"), ("example.org", 65535))
        self.assertEqual(options.listen_address("9000"), ("127.0.0.1", 9000))
        self.assertEqual(options.listen_address("0.0.0.0:0"), ("0.0.0.0", 0))

    def test_duration(self) -> None:
        """Seconds."""
        self.assertEqual(options.duration("1m30s"), 90.0)
        self.assertEqual(options.duration("250ms"), 0.25)
        self.assertRaises(click.BadParameter, options.duration, "200h")


class ReportTests(SynchronousTestCase):
    """The line on stderr for each kind of failure."""

    def told(self, error: BaseException) -> tuple[int, str]:
        """Exit status and line."""
        lines: list[str] = []
        self.patch(click, "echo", lambda text, **_: lines.append(str(text)))
        self.patch(click.exceptions, "echo", lambda text, **_: lines.append(str(text)))
        status = report(Failure(error))
        self.assertEqual(len(lines), 1)
        self.assertNotIn("\n", lines[0])
        return status, lines[0]

    def test_known(self) -> None:
        """Refusals, losses, the system's errors, Ctrl-C."""
        self.assertEqual(self.told(Failed("no way")), (1, "Error: no way"))
        self.assertEqual(self.told(Refused("CAPACITY", "full")), (1, "Error: CAPACITY: full"))
        self.assertEqual(self.told(ControlLost("gone")), (1, "Error: gone"))
        self.assertEqual(self.told(CancelledError()), (1, "Error: interrupted"))
        self.assertEqual(
            self.told(OSError(28, "No space left", "f")), (1, "Error: f: No space left")
        )

    def test_unknown(self) -> None:
        """Even a mistake of ours is one line, with control characters written out."""
        status, line = self.told(KeyError("a\x1bb"))
        self.assertEqual(status, 1)
        self.assertIn("KeyError", line)
        self.assertNotIn("\x1b", line)

    def test_reason(self) -> None:
        """Twisted's words about a dial are shortened."""
        self.assertEqual(reason(Refusal(111, "Connection refused")), "connection refused")
        self.assertEqual(reason(Refusal()), reason(Refusal()).lower())
        self.assertEqual(reason(ValueError()), "ValueError")
