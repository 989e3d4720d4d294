"""The rules of contract section 1 that join keys, environment and machine."""

from __future__ import annotations

import os
import resource
from typing import Any

from twisted.trial.unittest import TestCase

from relayx.config import limits
from relayx.config.limits import Machine
from relayx.config.load import ConfigError, load
from relayx.config.model import Config
from relayx.config.zmq import Pattern, Zmq, ZmqBroker
from tests.config_files import PORTS, Files, with_key


class Rules(Files):
    """What joins several keys, the environment and the machine."""

    def test_reaper_timeout_in_prod(self) -> None:
        config = {"relay": {"reaper_timeout": "999ms", **PORTS}}
        self.assertEqual(self.load(config).config.relay.reaper_timeout, 0.999)
        fault = self.fault(config, prod=True)
        self.assertEqual((fault.key, fault.value), ("relay.reaper_timeout", "999ms"))
        self.load({"relay": {"reaper_timeout": "1s"}}, prod=True)

    def test_one_port_key_alone(self) -> None:
        for protocol in ("srt", "zmq"):
            for end, other in (("start", "end"), ("end", "start")):
                fault = self.fault({"relay": {f"{protocol}_{end}_port": 40000}})
                self.assertEqual(fault.key, f"relay.{protocol}_{end}_port")
                self.assertIn(f"relay.{protocol}_{other}_port", fault.problem)

    def test_broken_key_is_reported_once(self) -> None:
        fault = self.fault({"relay": {"zmq_start_port": "x", "zmq_end_port": 40000}})
        self.assertEqual(fault.key, "relay.zmq_start_port")
        fault = self.fault({"control": {"endpoints": 5}}, machine=Machine(1, 0))
        self.assertEqual(fault.key, "control.endpoints")

    def test_start_after_end(self) -> None:
        for protocol in ("srt", "zmq"):
            keys = {f"{protocol}_start_port": 40001, f"{protocol}_end_port": 40000}
            fault = self.fault({"relay": keys})
            self.assertEqual((fault.key, fault.value), (f"relay.{protocol}_start_port", "40001"))

    def test_one_port_is_a_range(self) -> None:
        keys = {"zmq_start_port": 65535, "zmq_end_port": 65535}
        self.assertEqual(list(self.load({"relay": keys}).config.relay.ports("zmq")), [65535])

    def test_ports_are_disjoint(self) -> None:
        zmq = {"zmq_start_port": 40000, "zmq_end_port": 40010}
        for config, key, words in (
            (
                {"relay": {**zmq, "srt_start_port": 40010, "srt_end_port": 40020}},
                "relay.zmq_start_port",
                "port 40010 with relay.srt_start_port = 40010 (to 40020)",
            ),
            (
                {"relay": {**zmq, "srt_start_port": 40009, "srt_end_port": 40020}},
                "relay.zmq_start_port",
                "ports 40009 to 40010",
            ),
            ({"relay": {**zmq, "control_port": 40005}}, "relay.control_port", "port 40005"),
            ({"relay": {"control_port": 8080}}, "http.endpoint", "port 8080"),
            ({"relay": zmq, "http": {"endpoint": "tcp:40000"}}, "http.endpoint", "port 40000"),
            (
                {"relay": zmq, "control": {"endpoints": ["tcp:1", "tcp6:port=40001"]}},
                "control.endpoints[1]",
                "port 40001",
            ),
            (
                {"control": {"endpoints": ["haproxy:tcp:8080:interface=10.0.0.1"]}},
                "http.endpoint",
                "port 8080",
            ),
        ):
            fault = self.fault(config)
            self.assertEqual(fault.key, key)
            self.assertIn(words, fault.problem)

    def test_control_port_counts_without_endpoints_alone(self) -> None:
        keys = {"control_port": 40001, **PORTS}
        self.fault({"relay": keys})
        self.load({"relay": keys, "control": {"endpoints": ["tcp:1:interface=127.0.0.1"]}})

    def test_free_port_is_disjoint_from_any(self) -> None:
        self.load({"control": {"endpoints": ["tcp:0"]}, "http": {"endpoint": "tcp:0"}})

    def test_two_control_endpoints(self) -> None:
        both = ["tcp:9:interface=127.0.0.1", "tcp:9:interface=127.0.0.2"]
        self.load({"control": {"endpoints": both}})
        fault = self.fault({"control": {"endpoints": ["tcp:9", "tcp:9"]}})
        self.assertEqual((fault.key, fault.problem), ("control.endpoints[1]", "is there twice"))

    def test_bad_endpoint_is_named(self) -> None:
        fault = self.fault({"control": {"endpoints": ["tcp:9", "nonsense:1"]}})
        self.assertEqual((fault.key, fault.value), ("control.endpoints[1]", "'nonsense:1'"))

    def test_interfaces(self) -> None:
        for interface in ("", "0.0.0.0", "127.0.0.1", "::", "fe80::1"):
            config = self.load({"data": {"interface": interface}}).config
            self.assertEqual(config.data.interface, interface)

    def test_warns_of_no_port(self) -> None:
        self.assertIn("no port", str(self.load("").warnings[0]))
        self.assertEqual(self.load({"relay": PORTS}).warnings, ())

    def test_warns_of_no_time(self) -> None:
        for key in ("control.register_timeout", "data.hello_timeout"):
            (warning,) = self.load({"relay": PORTS, **with_key(key, "0s")}).warnings
            self.assertEqual(warning.key, key)

    def test_descriptors(self) -> None:
        config = {"relay": {"max_fe": 10, "max_be": 20, **PORTS}}
        needed = 10 + 20 + 256 + 1024 + (2 + 1 + 1) + 2 * 2
        self.load(config, machine=Machine(needed, 0))
        fault = self.fault(config, machine=Machine(needed - 3, 0))
        self.assertIn("3 too few", fault.problem)
        for part in ("10 relay.max_fe", "20 relay.max_be", "4 listeners", "4 2 x ports"):
            self.assertIn(part, fault.problem)
        self.assertIn("256 control.max_unregistered", fault.problem)
        self.assertIn("1024 data.max_waiting_hello", fault.problem)

    def test_listeners(self) -> None:
        loaded = self.load({"control": {"endpoints": ["tcp:1", "tcp:2"]}, "http": {"endpoint": ""}})
        self.assertEqual(limits.descriptor_parts(loaded.config)["listeners"], 2)
        self.assertEqual(limits.descriptors_needed(loaded.config), 50 + 50 + 256 + 1024 + 2)

    def test_memory(self) -> None:
        config = {"relay": {**PORTS, "ring_buffer_size": 1 << 20}}
        worst = 2 * 2 * (1 << 20)
        loaded = self.load(config, machine=Machine(2**63, worst))
        self.assertEqual(loaded.warnings, ())
        self.assertEqual(limits.worst_case_memory(loaded.config), worst)
        self.assertIn(str(worst), limits.memory_line(loaded.config))
        (warning,) = self.load(config, machine=Machine(2**63, worst - 1)).warnings
        self.assertEqual(warning.key, "relay.ring_buffer_size")
        self.assertIn(str(worst), str(warning))

    def test_this_machine(self) -> None:
        self.write({"relay": {**PORTS, "max_fe": 2**31 - 1, "max_be": 2**31 - 1}})
        error = self.assertRaises(ConfigError, load, self.sources())
        self.assertIn("too few", str(error))


class Limits(TestCase):
    """Raising the limit of descriptors, on limits of the test's own."""

    NEEDED = limits.descriptors_needed(Config())
    WANTED = NEEDED + 256 + 1024 + limits.OWN_DESCRIPTORS
    """Beside the sum, as many as are turned away and linger."""

    def raised(self, soft: int, hard: int, error: Exception | None = None) -> tuple[int, list[Any]]:
        calls: list[Any] = []

        def setrlimit(which: int, pair: tuple[int, int]) -> None:
            calls.append((which, pair))
            if error:
                raise error

        found = limits.raise_descriptor_limit(
            Config(), "file", getrlimit=lambda which: (soft, hard), setrlimit=setrlimit
        )
        return found, calls

    def test_enough(self) -> None:
        infinite = resource.RLIM_INFINITY
        self.assertEqual(self.raised(self.WANTED, 10**6), (self.WANTED, []))
        self.assertEqual(self.raised(infinite, infinite), (infinite, []))

    def test_brokers(self) -> None:
        """More is taken where there are brokers, since libzmq knows no limit itself."""
        broker = ZmqBroker(pattern=Pattern.PUB_SUB, frontend=1, backend=2)
        config = Config(zmq=Zmq(brokers=(broker,)))
        wanted = self.WANTED - self.NEEDED + limits.descriptors_needed(config) + limits.BROKER_RUSH
        for hard, soft in ((10**6, wanted), (wanted - 1, wanted - 1)):
            calls: list[Any] = []
            limits.raise_descriptor_limit(
                config,
                getrlimit=lambda which, hard=hard: (100, hard),
                setrlimit=lambda which, pair, calls=calls: calls.append(pair),
            )
            self.assertEqual(calls, [(soft, hard)])

    def test_raised(self) -> None:
        for hard in (10**6, resource.RLIM_INFINITY):
            call = (resource.RLIMIT_NOFILE, (self.WANTED, hard))
            self.assertEqual(self.raised(100, hard), (self.WANTED, [call]))

    def test_raised_as_far_as_it_goes(self) -> None:
        call = (resource.RLIMIT_NOFILE, (self.NEEDED, self.NEEDED))
        self.assertEqual(self.raised(100, self.NEEDED), (self.NEEDED, [call]))

    def test_too_few(self) -> None:
        error = self.assertRaises(ConfigError, self.raised, 100, self.NEEDED - 5)
        self.assertIn("5 too few", str(error))
        self.assertIn("50 relay.max_fe", str(error))

    def test_system_refuses(self) -> None:
        error = self.assertRaises(ConfigError, self.raised, 100, 10**6, OSError("no"))
        self.assertIn(f"{self.NEEDED - 100} too few", str(error))
        found, _ = self.raised(self.NEEDED, 10**6, ValueError("no"))
        self.assertEqual(found, self.NEEDED)

    def test_machine(self) -> None:
        machine = Machine.here(lambda which: (5, 6))
        self.assertEqual(machine.descriptors, 6)
        self.assertGreater(machine.memory, 1 << 20)
        self.assertGreater(Machine.here(lambda which: (5, -1)).descriptors, 2**40)

    def test_unknown_memory(self) -> None:
        def nothing(name: str) -> int:
            raise ValueError(name)

        self.patch(os, "sysconf", nothing)
        self.assertEqual(Machine.here().memory, 0)
