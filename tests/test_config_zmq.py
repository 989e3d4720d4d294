"""Section ``zmq``: entries of ``zmq.brokers``, rules, warnings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from relayx.config.limits import Machine, descriptor_line, descriptors_needed
from relayx.config.zmq import OWN_DESCRIPTORS, Pattern, ZmqBroker
from relayx.security import keyring
from tests.config_files import Files
from tests.data_certificates import pair

RELAY = {"zmq_start_port": 40001, "zmq_end_port": 40004}
BROKER = {"pattern": "pub_sub", "frontend": 40001, "backend": 40002}


def curve_directory(path: str, kid: str) -> str:
    """A directory with a pair of CURVE's keys."""
    Path(path).mkdir(parents=True, exist_ok=True)
    keyring.add_curve(path, 0.0, kid)
    return str(Path(path).absolute())


def section(**keys: Any) -> dict[str, Any]:
    """A configuration with four zmq ports."""
    return {"relay": RELAY, "zmq": keys}


class Brokers(Files):
    """A list of mappings, each checked key by key and together."""

    def test_read(self) -> None:
        config = self.load(section(brokers=[BROKER])).config
        broker = ZmqBroker(pattern=Pattern.PUB_SUB, frontend=40001, backend=40002)
        self.assertEqual(config.zmq.brokers, (broker,))
        self.assertEqual(
            (broker.sndhwm, broker.rcvhwm, broker.linger, broker.reconnect_ivl,
             broker.reconnect_ivl_max, broker.max_msg_size, broker.immediate, broker.heartbeat_ivl,
             broker.backlog, broker.max_connections, broker.ipv6,
             broker.security, broker.curve_key, broker.curve_clients),
            (1000, 1000, 0, 100, 0, -1, False, 0, 100, 1024, False, "null", "", ""),
        )  # fmt: skip

    def test_each_key(self) -> None:
        """At its limits, and past them."""
        for key, fine, wrong in (
            ("pattern", ("pub_sub", "push_pull", "req_rep"), ("pair", True, None)),
            ("frontend", (40004,), (0, 65536, "40001", None)),
            ("backend", (40004,), (0, 65536, "40001", None)),
            ("sndhwm", (0, 2**31 - 1), (-1, 2**31, "5")),
            ("rcvhwm", (0, 2**31 - 1), (-1, 2**31)),
            ("linger", (0, 600_000), (-1, 600_001, "0ms")),
            ("reconnect_ivl", (-1, 2**31 - 1), (-2, 2**31)),
            ("reconnect_ivl_max", (0, 100, 2**31 - 1), (-1, 99, 2**31)),
            ("max_msg_size", (-1, 1, 2**63 - 1), (-2, 0, 2**63)),
            ("immediate", (True, "yes", "no"), ("maybe", 1, None)),
            ("heartbeat_ivl", (0, 2**31 - 1), (-1, 2**31)),
            ("backlog", (1, 2**31 - 1), (0, 2**31)),
            ("max_connections", (1, 1_000_000), (0, 1_000_001, "5")),
            ("ipv6", (True, "on", "off"), ("maybe", None)),
            ("security", ("null", None, "plain"), ("curve25519", True, 5)),
            ("curve_key", ("",), ("a/b", 5, None)),
            ("curve_clients", ("",), ("absent", 5, None)),
        ):
            with_curve = {"security": "curve", "curve_key": "k"} if key.startswith("curve") else {}
            keys = curve_directory(self.mktemp(), "k")
            for value in fine:
                self.load(section(brokers=[{**BROKER, key: value}]))
            for value in wrong:
                config = section(brokers=[{**BROKER, **with_curve, key: value}])
                config["security"] = {"keys": keys}
                fault = self.fault(config)
                self.assertEqual(fault.key, f"zmq.brokers[0].{key}", value)
                self.assertTrue(fault.allowed)

    def test_null_is_a_word_here(self) -> None:
        """YAML takes it for nothing."""
        text = (
            "zmq: {brokers: [{pattern: req_rep, frontend: 40001, backend: 40002, security: null}]}"
        )
        config = self.load(f"relay: {{zmq_start_port: 40001, zmq_end_port: 40002}}\n{text}").config
        self.assertEqual(config.zmq.brokers[0].security, "null")

    def test_faults_name_the_entry(self) -> None:
        faults = self.faults(section(brokers=[{"pattern": "pub_sub", "frontend": 40001}, 5]))
        self.assertEqual(
            [fault.key for fault in faults], ["zmq.brokers[0].backend", "zmq.brokers[1]"]
        )
        fault = self.fault(section(brokers=[{**BROKER, "sndhwn": 1}]))
        self.assertIn("the nearest is zmq.brokers[0].sndhwm", fault.problem)

    def test_ports(self) -> None:
        """Within the zmq range, each used once."""
        other = {"pattern": "req_rep", "frontend": 40003, "backend": 40004}
        self.load(section(brokers=[BROKER, other]))
        for brokers, key, word in (
            ([{**BROKER, "frontend": 40000}], "[0].frontend", "no zmq port"),
            ([{**BROKER, "backend": 40005}], "[0].backend", "no zmq port"),
            ([{**BROKER, "backend": 40001}], "[0].backend", "is zmq.brokers[0].frontend too"),
            ([BROKER, {**other, "backend": 40002}], "[1].backend", "is zmq.brokers[0].backend"),
            ([BROKER, {**other, "frontend": 40002}], "[1].frontend", "is zmq.brokers[0].backend"),
        ):
            fault = self.fault(section(brokers=brokers))
            self.assertEqual(fault.key, f"zmq.brokers{key}")
            self.assertIn(word, fault.problem)
        faults = self.faults({"zmq": {"brokers": [BROKER]}})
        self.assertEqual([fault.allowed for fault in faults], ["none: there are no zmq ports"] * 2)
        relay = {**RELAY, "zmq_end_port": "x"}
        fault = self.fault({"relay": relay, "zmq": {"brokers": [BROKER]}})
        self.assertEqual(fault.key, "relay.zmq_end_port")

    def test_curve(self) -> None:
        """A key, a directory that it is in, and one of the clients' where there is one."""
        keys, clients = (curve_directory(self.mktemp(), kid) for kid in ("broker", "client"))
        curve = {**BROKER, "security": "curve", "curve_key": "broker", "curve_clients": clients}
        config = {**section(brokers=[curve]), "security": {"keys": keys}}
        loaded = self.load(config)
        self.assertEqual(loaded.config.zmq.brokers[0].curve_key, "broker")
        self.assertEqual(loaded.warnings, ())
        fault = self.fault(section(brokers=[curve]))
        self.assertEqual(fault.key, "security.keys")
        for key, value, problem in (
            ("curve_key", "", "is missing"),
            ("curve_key", "other", "does not exist"),
            ("curve_clients", keys + "/broker.curve-pub", "cannot be read"),
            ("curve_clients", str(Path(keys).parent), "holds no key"),
        ):
            fault = self.fault({**config, **section(brokers=[{**curve, key: value}])})
            self.assertEqual(fault.key, f"zmq.brokers[0].{key}")
            self.assertIn(problem, fault.problem)
        Path(keys, "broker.curve-key").write_text("no key")
        self.assertIn("holds no CURVE key", self.fault(config).problem)
        Path(clients, "other.curve-pub").write_text("no key")
        faults = [fault.key for fault in self.faults(config)]
        self.assertEqual(faults, [f"zmq.brokers[0].curve_{name}" for name in ("key", "clients")])

    def test_no_part_of_any_size(self) -> None:
        """0, which is "no limit" elsewhere."""
        fault = self.fault(section(brokers=[{**BROKER, "max_msg_size": 0}]))
        self.assertEqual(fault.allowed, "-1 for no limit, or 1 or more")

    def test_tls(self) -> None:
        """What wants TLS wants no plain text either: CURVE alone encrypts."""
        curve = {**BROKER, "security": "curve", "curve_key": "k"}
        certificate, private_key = pair()[:2]
        tls = {"certificate": str(certificate), "private_key": str(private_key), "required": True}
        config = {"security": {"keys": curve_directory(self.mktemp(), "k")}, "data": {"tls": tls}}
        self.load({**config, **section(brokers=[curve])})
        for security in ("null", "plain"):
            broker = {**BROKER, "security": security}
            fault = self.fault({**config, **section(brokers=[broker])})
            self.assertEqual(
                (fault.key, fault.value, fault.allowed),
                ("zmq.brokers[0].security", security, "curve"),
            )
            self.assertIn("data.tls.required", fault.problem)
            config["data"]["tls"] = {**tls, "required": False}
            self.load({**config, **section(brokers=[broker])})
            config["data"]["tls"] = {**tls, "required": True}
        config["data"]["admission"] = "ticket"
        fault = self.fault({**config, **section(brokers=[BROKER])})
        self.assertEqual(fault.allowed, "curve")  # said once
        config["data"]["tls"] = {**tls, "required": "perhaps"}
        config["data"]["admission"] = "open"
        fault = self.fault({**config, **section(brokers=[BROKER])})
        self.assertEqual(fault.key, "data.tls.required")

    def test_descriptors(self) -> None:
        """Connections of both sides are in the sum, with some for the broker itself."""
        config = section(brokers=[{**BROKER, "max_connections": 300, "backlog": 20}])
        without = descriptors_needed(self.load(section()).config)
        loaded = self.load(config).config
        needed = without + 2 * (300 + 20) + OWN_DESCRIPTORS
        self.assertEqual(descriptors_needed(loaded), needed)
        self.assertIn(f"{640 + OWN_DESCRIPTORS} zmq.brokers", descriptor_line(loaded))
        self.load(config, machine=Machine(needed, 0))
        self.assertIn("1 too few", self.fault(config, machine=Machine(needed - 1, 0)).problem)
        config["zmq"]["brokers"][0]["max_connections"] = 0
        fault = self.fault(config, machine=Machine(10, 0))
        self.assertEqual(fault.key, "zmq.brokers[0].max_connections")

    def test_ticket(self) -> None:
        """NULL asks for nothing, and ticket wants something."""
        curve = {**BROKER, "security": "curve", "curve_key": "k"}
        config = {"security": {"keys": curve_directory(self.mktemp(), "k")}}
        config["data"] = {"admission": "ticket"}
        for broker in ({**BROKER, "security": "plain"}, curve):
            self.load({**config, **section(brokers=[broker])})
        fault = self.fault({**config, **section(brokers=[BROKER])})
        self.assertEqual((fault.key, fault.allowed), ("zmq.brokers[0].security", "plain or curve"))
        config["data"] = {"admission": "tickets"}
        fault = self.fault({**config, **section(brokers=[BROKER])})
        self.assertEqual(fault.key, "data.admission")


class Warnings(Files):
    """What is allowed and hardly meant."""

    def test_each(self) -> None:
        for keys, expected in (
            ({}, []),
            ({"inspect": "off", "max_message_bytes": 1}, ["zmq.max_message_bytes"]),
            ({"max_message_bytes": 1}, ["zmq.max_message_bytes"]),
            ({"inspect": "messages", "max_message_bytes": 1}, []),
            ({"brokers": [{**BROKER, "curve_key": "k"}]}, ["zmq.brokers[0].curve_key"]),
            (
                {"brokers": [{**BROKER, "security": "plain", "curve_clients": "d"}]},
                ["zmq.brokers[0].curve_clients"],
            ),
        ):
            warnings = self.load(section(**keys)).warnings
            self.assertEqual([warning.key for warning in warnings], expected, keys)

    def test_proxies(self) -> None:
        """libzmq reads no PROXY header."""
        trusted = {"proxy_protocol": {"trusted": ["192.0.2.0/24"]}}
        self.assertEqual(self.load({**section(), **trusted}).warnings, ())
        (warning,) = self.load({**section(brokers=[BROKER]), **trusted}).warnings
        self.assertEqual(warning.key, "zmq.brokers")
        self.assertIn("PROXY", warning.problem)
        self.assertEqual(self.load(section(brokers=[BROKER])).warnings, ())
