"""Durations, endpoints, and the texts that relayx writes itself."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from relayx.config.durations import DurationError, format_duration, parse_duration
from relayx.config.endpoints import EndpointError, endpoint_port
from relayx.config.faults import plain, shown
from relayx.config.model import Config
from relayx.config.template import CONFIGS, config_text, secrets_example
from tests.config_files import Files


class Durations(TestCase):
    """Go style durations."""

    def test_values(self) -> None:
        for text, seconds in (
            ("0", 0.0),
            ("0.0", 0.0),
            ("0s", 0.0),
            ("500ms", 0.5),
            ("2s", 2.0),
            ("1m30s", 90.0),
            ("1.5h", 5400.0),
            (".5s", 0.5),
            ("1.s", 1.0),
            ("100us", 0.0001),
            ("100µs", 0.0001),
            ("100μs", 0.0001),
            ("7ns", 7e-9),
            ("-1s", -1.0),
            ("+1s", 1.0),
            ("1h2m3s4ms", 3723.004),
        ):
            self.assertEqual(parse_duration(text), seconds, text)

    def test_refused(self) -> None:
        for text in (
            "",
            "s",
            "1",
            "1.5",
            "-3",
            "1 s",
            "1x",
            "1s ",
            "--1s",
            "1d",
            "٣s",
            "1s" * 40,
            "0" * 64 + "s",
        ):
            self.assertRaises(DurationError, parse_duration, text)

    def test_longest(self) -> None:
        self.assertEqual(parse_duration("0" * 63 + "s"), 0.0)

    def test_written(self) -> None:
        for seconds, text in ((0, "0s"), (600, "10m"), (0.2, "200ms"), (90, "1m30s"), (-1.5, "")):
            self.assertEqual(format_duration(seconds), text or "-1s500ms")

    @given(st.integers(-(10**16), 10**16))
    def test_back_and_forth(self, microseconds: int) -> None:
        seconds = microseconds / 1e6
        self.assertEqual(parse_duration(format_duration(seconds)), seconds)


class Endpoints(TestCase):
    """Strports strings and their ports."""

    def test_ports(self) -> None:
        for text, port in (
            ("tcp:5555", 5555),
            ("tcp:port=5555:interface=127.0.0.1", 5555),
            ("tcp6:80:interface=\\:\\:", 80),
            ("haproxy:tcp:81", 81),
            ("tcp6:interface=\\:\\:1:port=82", 82),
            ("tcp:0", None),
            ("unix:/run/relayx.sock", None),
            ("unix:/run/a\\:b", None),
            ("systemd:domain=INET:index=0", None),
        ):
            self.assertEqual(endpoint_port(text), port, text)

    def test_tls(self) -> None:
        directory = self.mktemp()
        os.mkdir(directory)
        self.assertEqual(endpoint_port(f"tls:{directory}"), 443)
        self.assertEqual(endpoint_port(f"tls:{directory}:444"), 444)

    def test_refused(self) -> None:
        for text in ("", "5555", "tcp", "tcp:", "tcp:x", "tcp:-1", "tcp:65536", "tcp:1:colour=red"):
            self.assertRaises(EndpointError, endpoint_port, text)
        for text in (
            "ssl:443:privateKey=/nowhere.pem",
            "tcp:1\n",
            "tcp:1\\",
            "systemd:domain=INET",
        ):
            self.assertRaises(EndpointError, endpoint_port, text)


class Templates(Files):
    """The files in ``configs/``."""

    def test_checked_in_files_are_made_from_the_model(self) -> None:
        configs = Path(__file__).parent.parent / "configs"
        for kind in CONFIGS:
            yaml_file = configs / f"config{'.' if kind else ''}{kind}.yaml"
            self.assertEqual(yaml_file.read_text(), config_text(kind), "see relayx.config.template")
            example = configs / f"env.{kind or 'local'}.json.example"
            self.assertEqual(example.read_text(), secrets_example(kind))

    def test_they_load_as_what_they_were_made_from(self) -> None:
        for kind, config in CONFIGS.items():
            loaded = self.load(config_text(kind), prod=kind == "prod")
            self.assertEqual(loaded.config, config)
            self.assertEqual(loaded.warnings, ())

    def test_default_file_has_the_defaults_and_the_ports_of_the_plan(self) -> None:
        config = CONFIGS[""]
        self.assertEqual(list(config.relay.ports("srt")), list(range(30000, 30101)))
        self.assertEqual(list(config.relay.ports("zmq")), list(range(30101, 30201)))
        bare = {f"{p}_{e}_port": None for p in ("srt", "zmq") for e in ("start", "end")}
        relay = msgspec.structs.replace(config.relay, **bare)
        self.assertEqual(msgspec.structs.replace(config, relay=relay), Config())

    def test_values_of_the_guide(self) -> None:
        for kind, expected in (
            ("dev", (50, 50, 32 << 20, 10.0, 30000, 30020, 30101, 30120, "debug")),
            ("test", (200, 200, 64 << 20, 5.0, 30000, 30100, 30101, 30200, "info")),
            ("prod", (1000, 2000, 128 << 20, 30.0, 30000, 30100, 30101, 30200, "warn")),
        ):
            r = CONFIGS[kind].relay
            self.assertEqual(
                (
                    *(r.max_fe, r.max_be, r.ring_buffer_size, r.reaper_timeout),
                    *(r.srt_start_port, r.srt_end_port, r.zmq_start_port, r.zmq_end_port),
                    CONFIGS[kind].log.level,
                ),
                expected,
            )

    def test_every_key_has_a_comment(self) -> None:
        for kind in CONFIGS:
            lines = config_text(kind).splitlines()
            for before, line in pairwise(lines):
                bare = line.lstrip()
                if bare != line and not bare.startswith("#"):
                    self.assertTrue(before.lstrip().startswith("# "), line)

    def test_example_secrets_are_for_replacing(self) -> None:
        self.load("", secrets_example("dev"))
        keys = {fault.key for fault in self.faults("", secrets_example("prod"), prod=True)}
        self.assertEqual(keys, {"admin_token", "auth_secret", "relay_public_key"})


class Showing(TestCase):
    """Values and names in a line."""

    def test_values(self) -> None:
        for value, text in (
            (None, "null"),
            (True, "true"),
            (False, "false"),
            ({"a": 1}, "{…}"),
            ([1], "[…]"),
            ("a\n\x1b", r"'a\n\x1b'"),
            (5, "5"),
        ):
            self.assertEqual(shown(value), text)
        self.assertLess(len(shown("x" * 1000)), 100)

    def test_names(self) -> None:
        self.assertEqual(plain("relay"), "relay")
        self.assertEqual(plain("a\nb"), r"'a\nb'")
        self.assertEqual(plain(""), "''")
        self.assertEqual(plain(5), "5")
