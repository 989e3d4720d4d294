"""The alert rules and the dashboard in ops/: by promtool, and by a Prometheus on a gateway."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.admin_peer import HTTP, http_address
from tests.guide_peer import DEADLINE
from tests.live import Gateway, live
from tests.scrapes import scrape, unstarted
from tests.test_loopback_data_regressions import OPEN

OPS = Path(__file__).resolve().parent.parent / "ops"
RULES = OPS / "prometheus" / "alerts.yml"
METRIC = re.compile(r"\b(?:(?:relayx?|process|srt)_\w+|zmq_(?:conn|msg)\w+)")
SEVERITIES = {"critical", "warning", "info"}
SRT = ("srt_rtt", "srt_loss", "srt_send", "srt_recv", "srt_retrans", "srt_received", "relayx_srt")
BROKERS = ("relayx_broker", "zmq_msg_duration")
MAY_BE_EMPTY = ("relayx_key_expiry_days", "> 0", *SRT, *BROKERS)
"""Queries that find nothing at a gateway without keys, trouble, SRT, or brokers."""


def missing(name: str) -> str | None:
    """Why a test of Debian's package ``prometheus`` is skipped, None where it is not."""
    return None if shutil.which(name) else f"{name} is not installed (Debian: prometheus)"


def rules() -> list[dict[str, Any]]:
    """The alert rules."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries() -> list[str]:
    """What the panels of the dashboard ask, with its variables filled in."""
    dashboard = json.loads((OPS / "grafana" / "relayx.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    asked += [annotation["expr"] for annotation in dashboard["annotations"]["list"]]
    return [text.replace("$__rate_interval", "10s").replace("$instance", ".*") for text in asked]


class Files(SynchronousTestCase):
    """What the files say, without Prometheus."""

    def test_metrics_are_there(self) -> None:
        """No rule and no panel asks for what no gateway has."""
        scraped = scrape(unstarted(self).metrics)
        found = {name for name, _ in scraped.series()}
        for family in scraped.families.values():  # those whose series are not from the start
            if not family.samples:
                found.add(family.name + "_total" * (family.type == "counter"))
        for text in (*queries(), *(rule["expr"] for rule in rules())):
            asked = set(METRIC.findall(text))
            self.assertTrue(asked or "up{" in text, text)
            self.assertLessEqual(asked, found, text)

    def test_rules_say_what_to_do(self) -> None:
        tested = (OPS / "prometheus" / "alerts_test.yml").read_text()
        names = [rule["alert"] for rule in rules()]
        self.assertEqual(len(set(names)), len(names))
        for rule in rules():
            self.assertIn(rule["labels"]["severity"], SEVERITIES)
            self.assertEqual(set(rule["annotations"]), {"summary", "runbook"})
            self.assertIn(rule["alert"], tested)

    def test_panels(self) -> None:
        """Each has a title, a place of its own, and a text that says what it shows."""
        panels = json.loads((OPS / "grafana" / "relayx.json").read_text())["panels"]
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            place = panel["gridPos"]
            self.assertTrue(panel["title"])
            self.assertTrue(panel["type"] == "row" or panel["description"], panel["title"])
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            self.assertFalse(cells & taken, panel["title"])
            self.assertLessEqual(place["x"] + place["w"], 24)
            taken |= cells
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))


class Promtool(SynchronousTestCase):
    """What Prometheus's own checker says."""

    skip = missing("promtool")

    def promtool(self, *arguments: str) -> None:
        done = subprocess.run(
            ["promtool", *arguments], cwd=RULES.parent, capture_output=True, text=True,
            timeout=4 * DEADLINE, check=False,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_rules(self) -> None:
        self.promtool("check", "rules", "alerts.yml")

    def test_configuration(self) -> None:
        self.promtool("check", "config", "prometheus.yml")

    def test_when_they_fire(self) -> None:
        self.promtool("test", "rules", "alerts_test.yml")

    def test_the_text_itself(self) -> None:
        """Names and HELP as Prometheus's linter wants them, but for those of the guide."""
        text = unstarted(self).metrics.render()
        done = subprocess.run(
            ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
        )
        self.assertEqual(done.stderr + done.stdout, b"")


class Prometheus:
    """One that scrapes a gateway, in a process of its own, on the gateway's loopback address."""

    PORT = 9090

    def __init__(self, directory: Path, host: str, target: str) -> None:
        config = yaml.safe_load((OPS / "prometheus" / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "250ms", "evaluation_interval": "250ms"}
        config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
        shutil.copy(RULES, directory)
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._address = f"{host}:{self.PORT}"
        self.written = b""
        self.process = subprocess.Popen(
            [
                "prometheus",
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=data",
                f"--web.listen-address={self._address}",
            ],
            cwd=directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def get(self, path: str, **arguments: str) -> bytes:
        """What it answers; b"" where it does not yet."""
        url = f"http://{self._address}{path}?{urllib.parse.urlencode(arguments)}"
        try:
            with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
                found: bytes = answer.read()
                return found
        except urllib.error.HTTPError as error:
            if error.code == 503:  # not ready
                return b""
            raise AssertionError(f"{url}: {error} {error.read().decode()}") from None
        except OSError:
            return b""

    def query(self, text: str) -> list[Any]:
        """The samples that a query finds."""
        answer = json.loads(self.get("/api/v1/query", query=text))
        if answer["status"] != "success":
            raise AssertionError(answer)
        found: list[Any] = answer["data"]["result"]
        return found

    def until(self, true: Callable[[], object], what: str) -> None:
        """Look until something is so; between two looks, read what it writes for a moment."""
        deadline = time.monotonic() + 2 * DEADLINE
        stdout = self.process.stdout
        assert stdout is not None
        while not true():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError(f"never {what}; it wrote {self.written.decode()}")
            if select.select([stdout], [], [], 0.1)[0]:
                self.written += os.read(stdout.fileno(), 65536)

    def end(self) -> None:
        """End it, and wait for that."""
        self.process.terminate()
        try:
            self.process.communicate(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


@contextmanager
def watched(gateway: Gateway, directory: str) -> Iterator[Prometheus]:
    """A Prometheus that is ready, and scrapes the gateway's ``/metrics``."""
    where = Path(directory)
    where.mkdir()
    address = ":".join(map(str, http_address(gateway)))
    prometheus = Prometheus(where, gateway.host, address)
    try:
        prometheus.until(lambda: prometheus.get("/-/ready"), "ready")
        yield prometheus
    finally:
        prometheus.end()


class Watched(TestCase):
    """Every query of the dashboard, and every rule, on a gateway at work."""

    skip = missing("prometheus")

    @live(data=OPEN, http=HTTP)
    def test_a_gateway_at_work(self, gateway: Gateway) -> None:
        client = gateway.fe11("f")
        gateway.be("b").say("port_alloc", {})
        with watched(gateway, self.mktemp()) as prometheus:
            for port in (gateway.zmq[0], gateway.srt[0]):
                be = gateway.waiting(port, "b")
                kind = {"need_zmq": True} if port in gateway.zmq else {"need_srt": True}
                client.state(
                    lambda state, port=port: (
                        port in state["zmq_ready_ports"] + state["srt_ready_ports"]
                    )
                )
                lease = client.acquire(**kind)
                fe = gateway.entering(port, "f", session_id=lease["session_id"])
                fe.send(b"x" * 1000)
                be.expect("RLX1PAIRED")
                be.receive(1000)
                fe.close()
                be.rest()
                be.close()
            client.send(b'{"type":"nonsense"}')
            client.expect("error")
            gateway.pair(gateway.zmq[1])
            left = [text for text in queries() if not any(one in text for one in MAY_BE_EMPTY)]
            for text in queries():
                prometheus.query(text)  # is one, whatever it finds

            def answered() -> bool:
                left[:] = [text for text in left if not prometheus.query(text)]
                return not left

            prometheus.until(answered, f"with an answer to {left}")
            self.check_rules(prometheus)
            self.assertEqual(
                prometheus.query('sum(relay_pipe_bytes_total{direction="fe_to_be"})')[0]["value"][
                    1
                ],
                "2000",
            )
            self.assertEqual(len(prometheus.query("relayx_sessions_ended_total > 0")), 2)

    def check_rules(self, prometheus: Prometheus) -> None:
        """All are loaded, and none fails on what there is."""

        def evaluated() -> bool:
            answer = json.loads(prometheus.get("/api/v1/rules"))
            loaded = [rule for group in answer["data"]["groups"] for rule in group["rules"]]
            self.assertEqual(len(loaded), len(rules()))
            self.assertEqual([rule for rule in loaded if rule["health"] == "err"], [])
            return all(rule["health"] == "ok" for rule in loaded)

        prometheus.until(evaluated, "done with every rule")
        self.assertEqual(prometheus.query('ALERTS{alertstate="firing"}'), [])
