"""``relayx init``, ``relayx check`` and the group they are in (contract section 1)."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from io import StringIO
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import TestCase

from relayx.cli import __main__ as group
from relayx.cli import init
from relayx.config.load import Environment, Sources, load
from relayx.config.template import CONFIGS, config_text
from tests.config_files import BIG, GOOD_SECRET

UNSET = {"RELAY_ENV": None, "RELAY_CONFIG": None}


class Commands(TestCase):
    """Runs ``relayx`` in a directory of the test's own."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.directory)

    def relayx(self, *words: str, status: int = 0, **environ: str) -> Result:
        result = CliRunner().invoke(group.cli, words, env={**UNSET, **environ}, prog_name="relayx")
        self.assertEqual(result.exit_code, status, result.output)
        return result

    def files(self) -> set[str]:
        return {
            str(path.relative_to(self.directory))
            for path in self.directory.rglob("*")
            if not path.is_dir()
        }

    def write(self, name: str, text: str, mode: int = 0o600) -> Path:
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def good(self) -> None:
        """Two files that there is nothing to say about."""
        ports = "  zmq_start_port: 30101\n  zmq_end_port: 30102\n  ring_buffer_size: 1048576\n"
        self.write("configs/config.yaml", f"relay:\n{ports}")
        self.write(".env.local.json", json.dumps({"auth_secret": GOOD_SECRET}))


class Init(Commands):
    """``relayx init``"""

    def test_default_files(self) -> None:
        self.relayx("init")
        self.assertEqual(self.files(), {"configs/config.yaml", ".env.local.json"})
        self.assertEqual(Path("configs/config.yaml").read_text(), config_text(""))
        loaded = load(Sources(Environment.PROD, "configs/config.yaml", ".env.local.json"), BIG)
        self.assertEqual(loaded.config, CONFIGS[""])
        self.assertEqual(loaded.warnings, ())

    def test_secret(self) -> None:
        found = set()
        for name in ("a.json", "b.json"):
            output = self.relayx("init", "-c", f"{name}.yaml", "--env-file", name).output
            secret = json.loads(Path(name).read_text())["auth_secret"]
            self.assertGreaterEqual(len(secret), 32)
            self.assertNotIn(secret, output)
            found.add(secret)
        self.assertEqual(len(found), 2)

    def test_modes(self) -> None:
        self.addCleanup(os.umask, os.umask(0))
        self.relayx("init")
        self.assertEqual(stat.S_IMODE(os.stat(".env.local.json").st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat("configs/config.yaml").st_mode), 0o644)

    def test_mode_from_the_first_byte(self) -> None:
        seen = []
        real = os.open

        def spying(path: str, flags: int, mode: int = 0o777) -> int:
            seen.append((path, flags & (os.O_EXCL | os.O_CREAT), mode))
            return real(path, flags, mode)

        self.patch(os, "open", spying)
        init.write_all({"x": (0o600, "text")})
        self.assertEqual(seen, [("x", os.O_EXCL | os.O_CREAT, 0o600)])

    def test_flags_and_environment(self) -> None:
        self.relayx("init", "--config", "deep/er/a.yaml", "--env-file", "b.json")
        self.relayx("init", RELAY_CONFIG="c.yaml")
        self.relayx("init", RELAY_ENV="prod")
        self.assertEqual(
            self.files(),
            {
                *("deep/er/a.yaml", "b.json", "c.yaml", ".env.local.json"),
                *("configs/config.prod.yaml", ".env.prod.json"),
            },
        )
        self.assertEqual(Path("configs/config.prod.yaml").read_text(), config_text("prod"))

    def test_overwrites_nothing(self) -> None:
        for name in ("configs/config.yaml", ".env.local.json"):
            self.write(name, "mine")
            result = self.relayx("init", status=1)
            self.assertIn(f"{name} exists", result.stderr)
            self.assertEqual(self.files(), {name})
            self.assertEqual(Path(name).read_text(), "mine")
            os.unlink(name)

    def test_link_to_nowhere_counts_as_a_file(self) -> None:
        os.symlink("elsewhere", ".env.local.json")
        self.relayx("init", status=1)
        self.assertEqual(self.files(), {".env.local.json"})
        self.assertFalse(os.path.exists("elsewhere"))

    def test_all_or_none(self) -> None:
        self.write("taken", "mine")
        files = {"new": (0o600, "text"), "taken": (0o600, "text")}
        self.assertRaises(FileExistsError, init.write_all, files)
        self.assertEqual(self.files(), {"taken"})
        self.assertEqual(Path("taken").read_text(), "mine")

    def test_cannot_be_written(self) -> None:
        self.write("file", "")
        result = self.relayx("init", "-c", "file/config.yaml", status=1)
        self.assertIn("nothing was written", result.stderr)
        self.assertIn(os.strerror(errno.EEXIST), result.stderr)
        self.relayx("init", "-c", "x", "--env-file", "file/secrets.json", status=1)
        self.relayx("init", "-c", "a\0b", status=1)
        self.assertEqual(self.files(), {"file"})

    def test_full_disk(self) -> None:
        """Nothing is left, and the error names the file."""
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGXFSZ, ignored)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
        result = self.relayx("init", "-c", "a.yaml", status=1)
        self.assertIn(f"nothing was written: a.yaml: {os.strerror(errno.EFBIG)}", result.stderr)
        self.assertEqual(self.files(), set())

    def test_secret_only(self) -> None:
        self.write("configs/config.yaml", "mine")
        self.assertIn("--secret-only", self.relayx("init", status=1).stderr)
        self.relayx("init", "--secret-only")
        self.assertEqual(self.files(), {"configs/config.yaml", ".env.local.json"})
        self.assertEqual(Path("configs/config.yaml").read_text(), "mine")
        self.relayx("init", "--secret-only", status=1)

    def test_one_file_for_both(self) -> None:
        self.relayx("init", "-c", "x", "--env-file", "x", status=2)
        self.assertEqual(self.files(), set())

    def test_unknown_environment(self) -> None:
        self.assertIn("RELAY_ENV", self.relayx("init", status=1, RELAY_ENV="x").stderr)
        self.assertEqual(self.files(), set())

    def test_says_how_to_go_on(self) -> None:
        output = self.relayx("init", "-c", "a b.yaml").output
        self.assertIn("relayx check -c 'a b.yaml' --env-file .env.local.json", output)
        self.assertIn("twistd -n relayx -c 'a b.yaml' --env-file .env.local.json", output)


class Check(Commands):
    """``relayx check``"""

    def test_valid(self) -> None:
        self.good()
        output = self.relayx("check").stdout
        self.assertIn("1388 descriptors needed = 50 relay.max_fe + ", output)
        self.assertIn("4194304 bytes (0.0 GiB) of buffers in the worst case", output)
        self.assertIn("configs/config.yaml and .env.local.json are valid for dev", output)
        self.assertNotIn("fault", output)
        self.assertNotIn("warning", output)

    def test_every_fault_is_a_line(self) -> None:
        self.write(
            "configs/config.yaml",
            "relay: {max_fe: 0, max_be: -1}\ncontrol: {endpoints: [" + "x" * 300 + "]}\nlgo: {}",
        )
        self.write(".env.local.json", '{"auth_secret": ""}', 0o644)
        lines = self.relayx("check", status=1).stdout.splitlines()
        labels = [line.partition(":")[0] for line in lines]
        self.assertEqual(labels[:-1], ["fault"] * 5 + ["warning"] * labels.count("warning"))
        for words in (
            "fault: configs/config.yaml: relay.max_fe = 0 ",
            "fault: configs/config.yaml: relay.max_be = -1 ",
            "fault: configs/config.yaml: control.endpoints[0] = 'xxx",
            "fault: configs/config.yaml: lgo is not a known key; the nearest is log",
            "fault: .env.local.json: auth_secret is empty",
            "warning: .env.local.json: can be read or written by others",
            "5 faults; the gateway would not start",
        ):
            self.assertTrue([line for line in lines if line.startswith(words)], words)

    def test_one_fault(self) -> None:
        self.good()
        os.unlink(".env.local.json")
        lines = self.relayx("check", status=1).stdout.splitlines()
        self.assertIn("1 fault; the gateway would not start", lines)
        self.assertIn("relayx init", lines[0])

    def test_warnings(self) -> None:
        self.good()
        os.chmod(".env.local.json", 0o604)
        output = self.relayx("check").stdout
        self.assertIn("warning: .env.local.json: can be read or written by others", output)
        self.assertIn("are valid", output)
        sources = ["-c", "configs/config.yaml", "--env-file", ".env.local.json"]
        output = self.relayx("check", *sources, status=1, RELAY_ENV="prod").stdout
        self.assertIn("fault: .env.local.json: can be read or written by others", output)

    def test_markup_stays_text(self) -> None:
        self.good()
        self.write("configs/config.yaml", 'data: {interface: "[bold]x[/bold]"}')
        self.assertIn("'[bold]x[/bold]'", self.relayx("check", status=1).stdout)

    def test_flags_and_environment(self) -> None:
        self.good()
        os.rename("configs/config.yaml", "other.yaml")
        os.rename(".env.local.json", "other.json")
        self.relayx("check", status=1)
        self.relayx("check", "-c", "other.yaml", "--env-file", "other.json")
        self.relayx("check", "--config", "other.yaml", "--env-file", "other.json")
        self.relayx("check", "--env-file", "other.json", RELAY_CONFIG="other.yaml")
        os.rename("other.yaml", "configs/config.test.yaml")
        os.rename("other.json", ".env.test.json")
        self.assertIn("valid for test", self.relayx("check", RELAY_ENV="test").stdout)

    def test_unknown_environment(self) -> None:
        self.assertIn("dev | test | prod", self.relayx("check", status=1, RELAY_ENV="x").stdout)

    def test_limits(self) -> None:
        self.good()
        infinite = resource.RLIM_INFINITY
        self.patch(resource, "getrlimit", lambda which: (1024, infinite))
        self.assertIn("soft limit 1024, hard limit no", self.relayx("check").stdout)

    def test_after_init(self) -> None:
        self.relayx("init")
        self.relayx("check")


class Group(Commands):
    """The group of sub-commands."""

    def test_version(self) -> None:
        self.assertIn("relayx", self.relayx("--version").stdout)

    def test_wrong_use(self) -> None:
        self.relayx("nonsense", status=2)
        self.relayx("check", "--nonsense", status=2)
        self.relayx("init", "surplus", status=2)

    def test_help(self) -> None:
        for word in ("-h", "--help"):
            self.assertIn(group.COMMANDS["check"], self.relayx(word).stdout)
            self.assertIn("--env-file", self.relayx("check", word).stdout)

    def test_commands_of_the_contract(self) -> None:
        first = ["init", "check", "firewall", "systemd", "keys", "secret"]
        then = ["demo", "be", "fe", "send", "recv", "doctor", "ping", "status"]
        then += ["top", "reload", "drain", "schema"]
        self.assertEqual(list(group.COMMANDS), first + then)

    def test_missing_module_breaks_no_other(self) -> None:
        self.patch(group, "COMMANDS", {"init": "Init.", "missing": "Missing."})
        output = self.relayx("--help").stdout
        self.assertIn("Init.", output)
        self.assertNotIn("Missing.", output)
        self.relayx("missing", status=2)
        self.relayx("init")

    def test_help_imports_no_command(self) -> None:
        program = (
            "import sys; from relayx.cli.__main__ import cli; cli(['--help'], standalone_mode=0);"
            "sys.exit(bool({'twisted', 'yaml', 'rich', 'relayx.cli.init'} & set(sys.modules)))"
        )
        self.assertEqual(self.status("-c", program), 0)

    def test_as_a_process(self) -> None:
        self.assertEqual(self.status("-m", "relayx.cli", "check"), 1)
        self.assertEqual(self.status("-m", "relayx.cli", "init"), 0)
        self.assertEqual(self.status("-m", "relayx.cli", "check"), 0)
        self.assertEqual(self.status("-m", "relayx.cli", "check", "surplus"), 2)

    def test_main(self) -> None:
        self.patch(sys, "argv", ["relayx", "nonsense"])
        self.patch(sys, "stderr", StringIO())
        self.assertEqual(self.assertRaises(SystemExit, group.main).code, 2)

    def status(self, *words: str) -> int:
        """The exit status of Python, run with `words` in the test's directory."""
        root = str(Path(group.__file__).parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        environ = {k: v for k, v in os.environ.items() if k not in UNSET}
        environ["PYTHONPATH"] = path
        return subprocess.run(
            [sys.executable, *words],
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        ).returncode
