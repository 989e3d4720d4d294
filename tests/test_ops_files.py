"""What operators get besides the program: units, the image, compose, and what they name."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import SkipTest, TestCase

from relayx.cli.systemdunits import Paths, service_unit, socket_unit
from relayx.config.limits import descriptors_needed
from relayx.config.load import Environment, Sources, load
from relayx.config.model import Config, Control, Data, Relay
from relayx.config.template import CONFIGS
from tests.certificates import Authority
from tests.config_files import BIG, GOOD_SECRET
from tests.test_cli_init_check import Commands

ROOT = Path(__file__).resolve().parent.parent
INSTALLED = Paths(
    "/opt/relayx/bin/twistd",
    "/etc/relay-x/config.yaml",
    "/etc/relay-x/secrets.json",
    "/etc/relay-x",
    "prod",
)


def verified(case: TestCase, folder: Path) -> str:
    """What systemd-analyze says against the units of a folder, "" for nothing."""
    if shutil.which("systemd-analyze") is None:
        raise SkipTest("systemd-analyze is not installed")
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, sorted(folder.iterdir()))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "Failed to" in done.stderr and "manager" in done.stderr:
        raise SkipTest(f"systemd-analyze does not work here: {done.stderr.strip()}")
    return done.stderr if done.returncode or str(folder) in done.stderr else ""


class Units(TestCase):
    """``ops/systemd``, and what ``relayx systemd`` makes of other configurations."""

    def test_files_are_what_is_printed(self) -> None:
        """The units in the repository are those of the prod template, in /opt and /etc."""
        folder = ROOT / "ops" / "systemd"
        self.assertEqual(
            (folder / "relayx.service").read_text(), service_unit(INSTALLED, CONFIGS["prod"])
        )
        self.assertEqual(
            (folder / "relayx.socket").read_text(),
            socket_unit("configs/config.prod.yaml", CONFIGS["prod"]),
        )

    def test_verified(self) -> None:
        """systemd takes them; the program is one that is there."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        there = Paths(
            shutil.which("true") or "/bin/true", "/a b/50%.yaml", '/$x/"y".json', str(folder), ""
        )
        (folder / "relayx.service").write_text(service_unit(there, Config()))
        (folder / "relayx.socket").write_text(socket_unit("x", CONFIGS[""]))
        self.assertEqual(verified(self, folder), "")

    def test_service(self) -> None:
        """Words as systemd reads them, and as many descriptors as the configuration needs."""
        paths = Paths("/opt/a b/twistd", "/c%d/x.yaml", "/e$f/y.json", "/c%d")
        text = service_unit(paths, Config())
        self.assertIn('ExecStart="/opt/a b/twistd" --nodaemon --pidfile= relayx -c /c%%d/x', text)
        self.assertIn("--env-file /e$$f/y.json\n", text)
        self.assertIn("WorkingDirectory=/c%%d\n", text)
        self.assertNotIn("RELAY_ENV", text)
        self.assertIn("LimitNOFILE=65536\n", text)
        big = Config(relay=Relay(max_fe=100000))
        needed = descriptors_needed(big)
        found = re.search(r"LimitNOFILE=(\d+)", service_unit(paths, big))
        self.assertGreater(int(found[1]), needed)  # type: ignore[index]

    def streams(self, config: Config) -> list[str]:
        return re.findall(r"^ListenStream=(.*)$", socket_unit("x", config), re.MULTILINE)

    def test_sockets(self) -> None:
        """A line a port, at the address that the gateway would take it for."""
        relay = Relay(zmq_start_port=30101, zmq_end_port=30102)
        self.assertEqual(
            self.streams(Config(relay=relay)),
            ["0.0.0.0:5555", "0.0.0.0:30101", "0.0.0.0:30102"],
        )
        pair = Authority(Path(self.mktemp()).absolute())
        endpoints = ("tcp:5555:interface=localhost", f"ssl:5556:{pair.strports}")
        control = Control(endpoints=(*endpoints, "tcp6:5557", "tcp:5558:interface=gw.example"))
        config = Config(relay=relay, control=control, data=Data(interface="::"))
        self.assertEqual(
            self.streams(config),
            ["127.0.0.1:5555", "0.0.0.0:5556", "[::]:5557", "[::]:30101", "[::]:30102"],
        )
        text = socket_unit("x", config)
        self.assertIn("# control on gw.example: systemd needs its address here", text)
        other = Control(endpoints=("systemd:domain=INET:index=0", "unix:/run/x"))
        text = socket_unit("x", Config(control=other))
        self.assertIn("# systemd:domain=INET:index=0 is not for this unit", text)


class Command(Commands):
    """``relayx systemd``."""

    def test_prints(self) -> None:
        """Absolute paths of this installation and these files."""
        self.good()
        text = self.relayx("systemd").stdout
        self.assertIn(f"-c {self.directory}/configs/config.yaml", text)
        self.assertIn(f"--env-file {self.directory}/.env.local.json", text)
        self.assertIn(f"WorkingDirectory={self.directory}\n", text)
        self.assertIn("/twistd --nodaemon", text)
        text = self.relayx("systemd", "--sockets").stdout
        self.assertIn("ListenStream=0.0.0.0:30102\n", text)
        Path("configs/config.yaml").rename("configs/config.test.yaml")
        Path(".env.local.json").rename(".env.test.json")
        text = self.relayx("systemd", RELAY_ENV="test").stdout
        self.assertIn("Environment=RELAY_ENV=test\n", text)


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile and what follows each, lines joined."""
    plain = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    lines = re.sub(r"\\\n\s*", " ", plain).splitlines()
    return [(line.split()[0], line.split(None, 1)[1]) for line in lines if line]


class Image(TestCase):
    """``Dockerfile``: what its linter does not look at. ``ops/try_image.py`` runs its steps."""

    def setUp(self) -> None:
        self.told = instructions((ROOT / "Dockerfile").read_text())

    def of(self, word: str) -> list[str]:
        return [rest for found, rest in self.told if found == word]

    def test_words(self) -> None:
        """Instructions that there are, one each of those of which the last one counts."""
        known = {"FROM", "WORKDIR", "RUN", "COPY", "LABEL", "ENV", "USER", "EXPOSE"}
        known |= {"STOPSIGNAL", "HEALTHCHECK", "CMD"}
        self.assertEqual({word for word, _ in self.told} - known, set())
        for word in ("USER", "HEALTHCHECK", "CMD", "STOPSIGNAL"):
            self.assertEqual(len(self.of(word)), 1, word)

    def test_base(self) -> None:
        """A slim base whose version is named, the same for both stages."""
        bases = {rest.split()[0] for rest in self.of("FROM")}
        self.assertEqual(len(bases), 1)
        self.assertRegex(bases.pop(), r"^python:3\.\d+-slim$")

    def test_user(self) -> None:
        """A number, not root's: Kubernetes can tell then that it is not."""
        (user,) = self.of("USER")
        self.assertGreater(int(user), 0)
        self.assertIn(f"--uid {user} ", " ".join(self.of("RUN")))

    def test_copied(self) -> None:
        """What is copied is there, and nothing is copied with secrets in it."""
        told = configparser.ConfigParser()
        told.read(ROOT / "setup.cfg")
        packages = {name.split(".")[0] for name in told["options"]["packages"].split()}
        for rest in self.of("COPY"):
            *sources, _ = rest.split()
            if not sources[0].startswith("--from="):
                for source in sources:
                    self.assertTrue(source in packages or (ROOT / source).exists(), source)
                    self.assertIn(f"!{source}", (ROOT / ".dockerignore").read_text().split())
        self.assertEqual((ROOT / ".dockerignore").read_text().split("\n")[1], "*")

    def test_commands(self) -> None:
        """Run without a shell, which would keep signals; no cache of pip's in a layer."""
        for word in ("CMD", "HEALTHCHECK"):
            (rest,) = self.of(word)
            words = json.loads(rest[rest.index("[") :])
            self.assertIn(words[0], ("twistd", "relayx"))
        self.assertNotIn('"ping"', self.of("HEALTHCHECK")[0])  # refused where max_fe is reached
        self.assertIn("libsrt", " ".join(self.of("RUN")))
        for rest in self.of("RUN"):
            self.assertEqual("pip install" in rest, "--no-cache-dir" in rest)


class Compose(TestCase):
    """``docker-compose.yml`` and what it mounts."""

    def setUp(self) -> None:
        self.whole: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
        self.services: dict[str, Any] = self.whole["services"]

    def test_services(self) -> None:
        """Gateway, Prometheus, Grafana, a back and a front end; names that are there."""
        wanted = {"gateway", "prometheus", "grafana", "be", "fe"}
        self.assertEqual(wanted - set(self.services), set())
        built = {s["image"] for s in self.services.values() if "build" in s}
        self.assertEqual(built, {"relayx"})
        for name, service in self.services.items():
            for needed in service.get("depends_on", ()):
                self.assertIn(needed, self.services, name)
            if service["image"] not in built:
                self.assertRegex(service["image"], r":[v0-9][\w.-]+$")

    def test_mounts(self) -> None:
        """Every file and folder is there, every volume is declared."""
        for name, service in self.services.items():
            for mount in service.get("volumes", ()):
                source = mount.split(":")[0]
                if source.startswith("."):
                    self.assertTrue((ROOT / source).exists(), (name, source))
                else:
                    self.assertIn(source, self.whole["volumes"], name)

    def test_ports(self) -> None:
        """The gateway's ports are published as it has them, everything else on loopback alone."""
        config = self.gateway_config()
        published = self.services["gateway"]["ports"]
        spans = [config.relay.ports(protocol) for protocol in ("srt", "zmq")]
        wanted = [f"{span[0]}-{span[-1]}:{span[0]}-{span[-1]}" for span in spans]
        srt, zmq = wanted
        self.assertEqual(published, ["5555:5555", srt, f"{srt}/udp", zmq])
        for name, service in self.services.items():
            if name != "gateway":
                for port in service.get("ports", ()):
                    self.assertTrue(port.startswith("127.0.0.1:"), (name, port))

    def gateway_config(self) -> Config:
        """The configuration that is mounted, which is valid."""
        folder = Path(self.mktemp())
        folder.mkdir()
        secrets = folder / "secrets.json"
        secrets.write_text(
            json.dumps({"auth_secret": GOOD_SECRET, "admin_token": GOOD_SECRET[::-1]})
        )
        secrets.chmod(0o600)
        path = str(ROOT / "ops" / "docker" / "config.yaml")
        loaded = load(Sources(Environment.PROD, path, str(secrets)), BIG)
        # The admin HTTP is reached from the network of the containers, and from this host.
        self.assertEqual([warning.key for warning in loaded.warnings], ["http.endpoint"])
        return loaded.config

    def test_grace(self) -> None:
        """A stop waits for longer than sessions get."""
        grace = self.services["gateway"]["stop_grace_period"]
        self.assertGreater(float(grace.rstrip("s")), self.gateway_config().data.drain_timeout)

    def test_prometheus(self) -> None:
        """It scrapes the gateway's HTTP endpoint, by its name in the file."""
        told = yaml.safe_load((ROOT / "ops" / "prometheus" / "prometheus.yml").read_text())
        targets = told["scrape_configs"][0]["static_configs"][0]["targets"]
        port = self.gateway_config().http.endpoint.split(":")[1]
        self.assertEqual(targets, [f"gateway:{port}"])
        if shutil.which("promtool"):
            path = str(ROOT / "ops" / "prometheus" / "prometheus.yml")
            done = subprocess.run(["promtool", "check", "config", path], capture_output=True)
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_grafana(self) -> None:
        """Its source is the Prometheus beside it; its dashboards are looked for where they are."""
        folder = ROOT / "ops" / "grafana" / "provisioning"
        source = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())
        self.assertIn(source["datasources"][0]["url"], "http://prometheus:9090")
        provider = yaml.safe_load((folder / "dashboards" / "relayx.yml").read_text())
        path = provider["providers"][0]["options"]["path"]
        mounted = [mount.split(":")[1] for mount in self.services["grafana"]["volumes"]]
        self.assertIn(path, mounted)
