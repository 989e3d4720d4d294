"""Configuration keys: types, ranges, defaults, files by flag and environment (section 1)."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import yaml
from rich.console import Console
from twisted.trial.unittest import TestCase

from relayx.config.convert import section_keys, sections
from relayx.config.load import ConfigError, Environment, Loaded, Sources, locate
from relayx.config.model import Config, Relay, Secrets
from relayx.config.srt import DialRole, SrtDial
from relayx.config.zmq import BrokerSecurity, Pattern, ZmqBroker
from relayx.security import keyring
from tests.certificates import Authority
from tests.config_files import GOOD_SECRET, PORTS, Files, with_key
from tests.signing import KeyFiles

DEFAULTS = """
relay:
  max_fe: 50
  max_be: 50
  ring_buffer_size: 33554432
  reaper_timeout: 10s
  control_port: 5555
control:
  endpoints: []
  register_timeout: 5s
  idle_timeout: 0s
  max_message_bytes: 65536
  max_outbox_bytes: 1048576
  max_unregistered: 256
  client_ca: ""
data:
  interface: ""
  advertise_host: ""
  hello_timeout: 2s
  max_waiting_hello: 1024
  admission: peer
  be_on_fe_close: keep
  drain_quiet: 200ms
  drain_limit: 30s
  session_idle_timeout: 0s
  half_close_timeout: 10m
  keepalive: 15s
  drain_timeout: 5s
  splice: auto
  tls:
    certificate: ""
    private_key: ""
    required: false
srt:
  enabled: auto
  bridge: no
  fan_out: 1
  latency: 120
  peerlatency: 0
  maxbw: -1
  inputbw: 0
  oheadbw: 25
  pbkeylen: 0
  rcvbuf: 12058624
  sndbuf: 12058624
  mss: 1500
  fc: 25600
  snddropdelay: 0
  tlpktdrop: yes
  lossmaxttl: 0
  conntimeo: 3000
  payloadsize: 1316
  packetfilter: ""
  dial: []
zmq:
  inspect: handshake
  max_message_bytes: 0
  brokers: []
security:
  signing: off
  keys: ""
  trusted_keys: ""
  on_expired: warn
proxy_protocol:
  trusted: []
limits:
  control_per_source: 4096
  unregistered_per_source: 128
  failures_per_minute: 30
  failure_block: 1m
  waiting_hello_per_source: 512
  messages_per_second: 1000
  leases_per_client: 1024
audit:
  file: ""
clients: []
http:
  endpoint: tcp:8080:interface=127.0.0.1
  hosts: []
  heap: false
log:
  level: info
  format: text
  stream: off
reload:
  watch: off
"""
"""As they stand in the contract and the files of configs/, without the port keys, whose default
is to be absent."""

CHANGED: dict[str, tuple[Any, Any]] = {
    "relay.max_fe": (7, 7),
    "relay.max_be": (8, 8),
    "relay.ring_buffer_size": (1 << 20, 1 << 20),
    "relay.reaper_timeout": ("0s", 0.0),
    "relay.control_port": (6000, 6000),
    "relay.srt_start_port": (40100, 40100),
    "relay.srt_end_port": (40110, 40110),
    "relay.zmq_start_port": (40200, 40200),
    "relay.zmq_end_port": (40210, 40210),
    "control.endpoints": (["tcp:6001", "unix:/run/x"], ("tcp:6001", "unix:/run/x")),
    "control.register_timeout": ("1m30s", 90.0),
    "control.idle_timeout": ("1h", 3600.0),
    "control.max_message_bytes": (1024, 1024),
    "control.max_outbox_bytes": (4096, 4096),
    "control.max_unregistered": (1, 1),
    "data.interface": ("::", "::"),
    "data.advertise_host": ("gw.example.com", "gw.example.com"),
    "data.hello_timeout": ("250ms", 0.25),
    "data.max_waiting_hello": (1, 1),
    "data.admission": ("ticket", "ticket"),
    "data.be_on_fe_close": ("close", "close"),
    "data.drain_quiet": ("100us", 0.0001),
    "data.drain_limit": ("1.5h", 5400.0),
    "data.session_idle_timeout": ("2m", 120.0),
    "data.half_close_timeout": (0, 0.0),
    "data.keepalive": ("1s", 1.0),
    "data.drain_timeout": ("0", 0.0),
    "data.splice": ("off", "off"),
    "srt.enabled": ("no", "no"),
    "srt.bridge": ("yes", True),
    "srt.fan_out": (2, 2),
    "srt.latency": (0, 0),
    "srt.peerlatency": (65535, 65535),
    "srt.maxbw": (0, 0),
    "srt.inputbw": (1, 1),
    "srt.oheadbw": (5, 5),
    "srt.pbkeylen": (16, 16),
    "srt.rcvbuf": (32 * 48, 32 * 48),
    "srt.sndbuf": (32 * 48, 32 * 48),
    "srt.mss": (76, 76),
    "srt.fc": (32, 32),
    "srt.snddropdelay": (-1, -1),
    "srt.tlpktdrop": ("off", False),
    "srt.lossmaxttl": (1, 1),
    "srt.conntimeo": (0, 0),
    "srt.payloadsize": (28, 28),
    "srt.packetfilter": ("fec,cols:8,rows:4", "fec,cols:8,rows:4"),
    "srt.dial": (
        [{"port": 40100, "address": "cam:9000", "role": "BE"}],
        (SrtDial(port=40100, address="cam:9000", role=DialRole.BE),),
    ),
    "zmq.inspect": ("off", "off"),
    "zmq.max_message_bytes": (1, 1),
    "zmq.brokers": (
        [
            {
                "pattern": "req_rep",
                "frontend": 40200,
                "backend": 40210,
                "security": "curve",
                "curve_key": "broker",
            }
        ],
        (
            ZmqBroker(
                pattern=Pattern.REQ_REP,
                frontend=40200,
                backend=40210,
                security=BrokerSecurity.CURVE,
                curve_key="broker",
            ),
        ),
    ),
    "control.client_ca": ("ca.pem", "ca.pem"),
    "data.tls.certificate": ("chain.pem", "chain.pem"),
    "data.tls.private_key": ("key.pem", "key.pem"),
    "data.tls.required": ("yes", True),
    "security.signing": ("accept", "accept"),
    "security.keys": ("keys", "keys"),
    "security.trusted_keys": ("trusted", "trusted"),
    "security.on_expired": ("reject", "reject"),
    "proxy_protocol.trusted": (["10.0.0.0/8", "::1"], ("10.0.0.0/8", "::1")),
    "limits.control_per_source": (1, 1),
    "limits.unregistered_per_source": (1, 1),
    "limits.failures_per_minute": (1, 1),
    "limits.failure_block": ("1s", 1.0),
    "limits.waiting_hello_per_source": (1, 1),
    "limits.messages_per_second": (1, 1),
    "limits.leases_per_client": (1, 1),
    "audit.file": ("audit.jsonl", "audit.jsonl"),
    "http.endpoint": ("", ""),
    "http.hosts": (["gateway.example"], ("gateway.example",)),
    "http.heap": (True, True),
    "log.level": ("error", "error"),
    "log.format": ("json", "json"),
    "log.stream": ("all", "all"),
    "reload.watch": ("on", "on"),
}
"""For each key a value that is not its default, at its least where it has one."""

REFUSED: dict[str, list[Any]] = {
    "relay.max_fe": [0, -1, 2**31, 10**30, "5", 5.0, True, None, []],
    "relay.max_be": [0, "many", False],
    "relay.ring_buffer_size": [(1 << 20) - 1, 2**40 + 1, "32MB"],
    "relay.reaper_timeout": ["-1s", "169h", 10, 1.5, "10", "10 s", "s", "", True, None, ["1s"]],
    "relay.control_port": [0, 65536, "5555"],
    "relay.srt_start_port": [0, 65536],
    "relay.srt_end_port": [0, 65536],
    "relay.zmq_start_port": [0, 65536],
    "relay.zmq_end_port": [0, 65536, "x"],
    "control.endpoints": ["tcp:5555", None, [5555], {"a": 1}],
    "control.register_timeout": ["-1ms", 5],
    "control.idle_timeout": ["-1ms", 5],
    "control.max_message_bytes": [1023, (64 << 20) + 1],
    "control.max_outbox_bytes": [4095, (1 << 30) + 1],
    "control.max_unregistered": [0],
    "data.interface": ["localhost", "300.0.0.1", 5, None],
    "data.advertise_host": ["a b", "a\nb", "\ud800", "x" * 254, 5, None],
    "data.hello_timeout": ["-1ms", 5],
    "data.max_waiting_hello": [0],
    "data.admission": ["any", "", "PEER", 1, None, "\ud800"],
    "data.be_on_fe_close": ["drop", True],
    "data.drain_quiet": ["-1ms", 5],
    "data.drain_limit": ["-1ms", 5],
    "data.session_idle_timeout": ["-1ms", 5],
    "data.half_close_timeout": ["-1ms", 5],
    "data.keepalive": ["999ms", "0s", "32768s"],
    "data.drain_timeout": ["-1ms", 5],
    "data.splice": ["on", True],
    "srt.enabled": ["maybe", True, 1, None],
    "srt.bridge": ["maybe", 1, None],
    "srt.fan_out": [0, 1001, "2", True],
    "srt.latency": [-1, 65536, "120ms", None],
    "srt.peerlatency": [-1, 65536, 0.5],
    "srt.maxbw": [-2, 2**63, "1M"],
    "srt.inputbw": [-1, 2**63],
    "srt.oheadbw": [4, 101],
    "srt.pbkeylen": [-1, 8, 17, 33, "16", True, None],
    "srt.rcvbuf": [0, 32 * 1472 - 1, 25600 * 1472 + 1, 2**31],
    "srt.sndbuf": [0, 32 * 1472 - 1, 2**31],
    "srt.mss": [75, 65537, "1500"],
    "srt.fc": [31, 2**31],
    "srt.snddropdelay": [-2, 2**31, "0ms"],
    "srt.tlpktdrop": ["maybe", 0, None],
    "srt.lossmaxttl": [-1, 2**31],
    "srt.conntimeo": [-1, 600_001, "3s"],
    "srt.payloadsize": [-1, 1457, "1316"],
    "srt.packetfilter": ["fec,cols:1", "xor", 5, None],
    "srt.dial": ["cam:9000", {"port": 5}, None],
    "zmq.inspect": ["on", False, None],
    "zmq.max_message_bytes": [-1, 2**63, "1M"],
    "zmq.brokers": ["pub_sub", {"pattern": "pub_sub"}, None],
    "control.client_ca": [5, None],
    "data.tls.certificate": [5, None],
    "data.tls.private_key": [5, None],
    "data.tls.required": ["maybe", 1, None],
    "security.signing": ["on", True],
    "security.keys": [5, None],
    "security.trusted_keys": [5, None],
    "security.on_expired": ["stop", None],
    "proxy_protocol.trusted": ["10.0.0.1", [5]],
    "limits.control_per_source": [0],
    "limits.unregistered_per_source": [0],
    "limits.failures_per_minute": [0],
    "limits.failure_block": ["999ms", 5],
    "limits.waiting_hello_per_source": [0],
    "limits.messages_per_second": [0],
    "limits.leases_per_client": [0],
    "audit.file": [5, None],
    "http.hosts": ["gateway.example", [5], None],
    "http.heap": ["yes please", None],
    "http.endpoint": ["8080", "tcp:x", "tcp:70000", 8080, None],
    "log.level": ["warning", 1],
    "log.format": ["xml", 1],
    "log.stream": ["fe", False],
    "reload.watch": ["always", False],
}
"""For each key what its file may not say."""


def _dotted(whole: dict[str, Any], above: str = "") -> Iterator[str]:
    """The names of the keys of a mapping of mappings."""
    for name, value in whole.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{above}{name}.")
        else:
            yield above + name


def _value(config: Config, key: str) -> Any:
    return functools.reduce(getattr, key.split("."), config)


class Keys(Files):
    """Types, ranges and defaults, one key at a time."""

    def test_defaults(self) -> None:
        written = self.load(DEFAULTS).config
        self.assertEqual(written, Config())
        self.assertEqual(self.load("").config, Config())
        listed = set(_dotted(yaml.safe_load(DEFAULTS))) - {"clients"}
        every = {key.name for s in sections().values() for key in section_keys(s).values()}
        self.assertEqual(every - listed, {k for k in every if "srt_" in k or "zmq_" in k})
        self.assertEqual(listed - every, set())
        self.assertEqual(set(CHANGED), every)
        self.assertEqual(set(REFUSED), every)

    def test_every_key_is_read(self) -> None:
        whole: dict[str, Any] = {}
        for key, (text, _) in CHANGED.items():
            *sections, name = key.split(".")
            inner = whole
            for section in sections:
                inner = inner.setdefault(section, {})
            inner[name] = text
        pair = Authority(self.directory)
        whole["control"]["client_ca"] = whole["data"]["tls"]["certificate"] = pair.certificate
        whole["data"]["tls"]["private_key"] = pair.key
        keys = KeyFiles(self.mktemp())
        keyring.add_curve(keys.gateway, 0.0, "broker")
        whole["security"] |= {"keys": keys.gateway, "trusted_keys": keys.trusted}
        config = self.load(whole).config
        files = {"control.client_ca": pair.certificate, "data.tls.certificate": pair.certificate}
        files["data.tls.private_key"] = pair.key
        files |= {"security.keys": keys.gateway, "security.trusted_keys": keys.trusted}
        for key, (_, told) in CHANGED.items():
            value = files.get(key, told)
            found, default = _value(config, key), _value(Config(), key)
            self.assertEqual(found, value, key)
            self.assertNotEqual(found, default, key)

    def test_every_key_has_its_range(self) -> None:
        for key, values in REFUSED.items():
            for value in values:
                faults = self.faults(with_key(key, value))
                here = [f for f in faults if f.key.startswith(key)]
                self.assertTrue(here, (key, value))
                self.assertEqual(here[0].file, str(self.config))
                self.assertTrue(here[0].allowed or "[" in here[0].key, here[0])
                self.assertTrue(here[0].value, here[0])

    def test_all_faults_at_once(self) -> None:
        config = {
            "relay": {"max_fe": 0, "max_be": "x", "colour": 1, **PORTS, "srt_end_port": 40001},
            "data": {"interface": "nowhere", "keepalive": "0s"},
            "extra": {},
        }
        faults = self.faults(config, {"auth_secret": "", "relay_public_key": "no"})
        self.assertEqual(
            {(Path(fault.file).name, fault.key) for fault in faults},
            {
                ("config.yaml", "relay.max_fe"),
                ("config.yaml", "relay.max_be"),
                ("config.yaml", "relay.colour"),
                ("config.yaml", "relay.srt_end_port"),
                ("config.yaml", "data.interface"),
                ("config.yaml", "data.keepalive"),
                ("config.yaml", "extra"),
                ("secrets.json", "auth_secret"),
                ("secrets.json", "relay_public_key"),
            },
        )

    def test_fault_is_a_line(self) -> None:
        fault = self.fault({"relay": {"max_fe": 0}})
        self.assertEqual(
            str(fault),
            f"{self.config}: relay.max_fe = 0 is out of range;"
            " allowed: an integer from 1 to 2147483647",
        )

    def test_problem_and_what_is_allowed(self) -> None:
        for key, value, words in (
            ("data.admission", None, "null is empty; allowed: open | peer | ticket"),
            ("data.admission", "any", "'any' is none of its values; allowed: open | peer"),
            ("relay.max_fe", "5", "'5' is of the wrong type; allowed: an integer from 1 to"),
            ("data.keepalive", "0s", "'0s' is out of range; allowed: a duration with its unit"),
            ("control.endpoints", "tcp:1", "'tcp:1' is of the wrong type; allowed: a list"),
            ("data.interface", 5, "5 is of the wrong type; allowed: a text"),
        ):
            self.assertIn(f"{key} = {words}", str(self.fault(with_key(key, value))))
        fault = self.fault(with_key("control.endpoints", ["tcp:1", 5]))
        self.assertEqual((fault.key, fault.value), ("control.endpoints[1]", "5"))

    def test_unknown_keys_name_the_nearest(self) -> None:
        for config, key, nearest in (
            ({"relay": {"max_fee": 1}}, "relay.max_fee", "relay.max_fe"),
            ({"data": {"control_port": 1}}, "data.control_port", "relay.control_port"),
            ({"max_fe": 1}, "max_fe", "relay.max_fe"),
            ({"relai": {}}, "relai", "relay"),
            ({5: 1}, "5", ""),
            ({"log": {"qqqq": 1}}, "log.qqqq", "log."),
        ):
            fault = self.fault(config)
            self.assertEqual(fault.key, key)
            self.assertIn(f"the nearest is {nearest}", fault.problem)
        fault = self.fault("", {"auth_secret": GOOD_SECRET, "auth_secrets": "hidden-value"})
        self.assertEqual(fault.key, "auth_secrets")
        self.assertIn("the nearest is auth_secret", str(fault))
        self.assertNotIn("hidden-value", str(fault))

    def test_null(self) -> None:
        self.assertEqual(self.load("relay:\ncontrol: ~\n").config, Config())
        self.assertIsNone(self.load("relay: {zmq_start_port: }").config.relay.zmq_start_port)

    def test_units_are_asked_for(self) -> None:
        self.assertIn("needs a unit", self.fault({"data": {"drain_limit": 30}}).problem)
        self.assertIn("needs a unit", self.fault({"data": {"drain_limit": "30"}}).problem)
        self.assertIn("needs a unit", self.fault({"data": {"drain_limit": 1.5}}).problem)

    def test_ports(self) -> None:
        relay = Relay(zmq_start_port=5, zmq_end_port=7)
        self.assertEqual(list(relay.ports("zmq")), [5, 6, 7])
        self.assertEqual(list(relay.ports("srt")), [])

    def test_secrets_are_never_shown(self) -> None:
        secrets = Secrets("hush-1", "hush-2", relay_public_key="k", srt_passphrase="hush-3-hush")
        output = StringIO()
        Console(file=output).print(secrets)
        text = repr(secrets) + str(secrets) + output.getvalue()
        self.assertNotIn("hush", text)
        self.assertNotIn("hush", repr(Loaded(Config(), secrets, self.sources(), ())))
        self.assertIn("<set>", text)

    def test_frozen(self) -> None:
        for struct in (Config(), Relay(), Secrets("x")):
            field = msgspec.structs.fields(struct)[0].name
            self.assertRaises(AttributeError, setattr, struct, field, 1)


class Locating(TestCase):
    """Which files, from flags and environment."""

    def test_defaults(self) -> None:
        expected = Sources(Environment.DEV, "configs/config.yaml", ".env.local.json")
        self.assertEqual(locate({}), expected)
        self.assertEqual(locate({"RELAY_ENV": "", "RELAY_CONFIG": ""}), expected)

    def test_environment(self) -> None:
        for name in ("dev", "test", "prod"):
            self.assertEqual(
                locate({"RELAY_ENV": name}),
                Sources(Environment(name), f"configs/config.{name}.yaml", f".env.{name}.json"),
            )

    def test_relay_config(self) -> None:
        found = locate({"RELAY_ENV": "prod", "RELAY_CONFIG": "a.yaml"})
        self.assertEqual(found, Sources(Environment.PROD, "a.yaml", ".env.prod.json"))
        found = locate({"RELAY_CONFIG": "a.yaml"})
        self.assertEqual(found, Sources(Environment.DEV, "a.yaml", ".env.local.json"))

    def test_a_flag_beats_the_environment(self) -> None:
        environ = {"RELAY_ENV": "prod", "RELAY_CONFIG": "a.yaml"}
        found = locate(environ, "b.yaml", "b.json")
        self.assertEqual(found, Sources(Environment.PROD, "b.yaml", "b.json"))

    def test_unknown_environment(self) -> None:
        for name in ("staging", "PROD", " prod"):
            error = self.assertRaises(ConfigError, locate, {"RELAY_ENV": name}, "a", "b")
            self.assertIn("dev | test | prod", str(error))
            self.assertIn(repr(name), str(error))
