"""Section ``srt`` and the passphrase: limits that join keys, entries of ``srt.dial``, warnings."""

from __future__ import annotations

from io import StringIO
from typing import Any

from rich.console import Console

from relayx.config.limits import Machine, descriptor_parts
from relayx.config.srt import DialMode, DialRole, SrtDial
from tests.config_files import GOOD_SECRET, Files

RELAY = {"srt_start_port": 40100, "srt_end_port": 40101}
CAMERA = {"port": 40100, "address": "cam:9000", "role": "BE"}
STREAM = "hush-stream-key"
PASSPHRASE = "hush hush hush"


def section(**keys: Any) -> dict[str, Any]:
    """A configuration with two srt ports."""
    return {"relay": RELAY, "srt": keys}


class Limits(Files):
    """What joins several options is checked as libsrt would, or where it says nothing."""

    def test_at_the_limit(self) -> None:
        """Each holds at its limit, and one past it is refused by the key."""
        for key, keys, fine, wrong in (
            ("rcvbuf", {"fc": 64}, 64 * 1472, 64 * 1472 + 1),
            ("rcvbuf", {}, 32 * 1472, 32 * 1472 - 1),
            ("rcvbuf", {"mss": 76, "payloadsize": 0, "sndbuf": 2000}, 32 * 48, 32 * 48 - 1),
            ("sndbuf", {}, 32 * 1472, 32 * 1472 - 1),
            ("payloadsize", {}, 1456, 1457),
            ("payloadsize", {"mss": 1400}, 1356, 1357),
            ("payloadsize", {"mss": 9000}, 1456, 1457),
            ("payloadsize", {"packetfilter": "fec,cols:10"}, 1452, 1453),
            ("payloadsize", {"mss": 1400, "packetfilter": "fec"}, 1352, 1353),
            ("packetfilter", {"fc": 8192}, "fec,cols:64,rows:128", "fec,cols:64,rows:129"),
            ("packetfilter", {"rcvbuf": 50 * 1472}, "fec,cols:10,rows:-5", "fec,cols:51"),
            ("latency", {}, 65535, 65536),
            ("conntimeo", {}, 600_000, 600_001),
            ("conntimeo", {"dial": [{**CAMERA, "mode": "rendezvous"}]}, 60_000, 60_001),
            ("conntimeo", {"dial": [CAMERA]}, 600_000, 600_001),
            ("fan_out", {}, 1000, 1001),
        ):
            told = self.load(section(**keys, **{key: fine})).config.srt
            self.assertEqual(getattr(told, key), fine)
            fault = self.fault(section(**keys, **{key: wrong}))
            self.assertEqual(fault.key, f"srt.{key}", (keys, wrong))
            self.assertTrue(fault.allowed, fault)

    def test_nothing_is_said_of_what_could_not_be_read(self) -> None:
        for keys in (
            {"mss": "x", "rcvbuf": 1, "payloadsize": 1400},
            {"fc": "x", "rcvbuf": 2**30, "packetfilter": "fec,cols:99999"},
            {"packetfilter": 5, "payloadsize": 1456},
            {"conntimeo": "x", "dial": [{**CAMERA, "mode": "rendezvous"}]},
        ):
            self.assertEqual(
                self.fault(section(**keys)).value, "'x'" if "x" in keys.values() else "5"
            )
        relay = {"srt_start_port": "x", "srt_end_port": 40101}
        fault = self.fault({"relay": relay, "srt": {"dial": [CAMERA]}})
        self.assertEqual(fault.key, "relay.srt_start_port")

    def test_packet_filters(self) -> None:
        longest = "fec,cols:2,rows:1,arq:onreq,layout:even"
        for text in (
            *("", "fec", "fec,cols:2", "fec,cols:10,rows:5,layout:staircase,arq:onreq", longest),
            *("fec,rows:-2,cols:3", "fec,arq:never", "fec,arq:always,layout:even", "fec,rows:1"),
        ):
            told = self.load(section(packetfilter=text)).config.srt
            self.assertEqual(told.packetfilter, text)
        for text, word in (
            ("FEC,cols:2", "no filter"), ("xor", "no filter"), (" fec", "no filter"),
            ("fec,", "something else"), ("fec,cols", "something else"),
            ("fec,colour:2", "something else"), ("fec,Cols:2", "something else"),
            ("fec,cols:1", "cols"), ("fec,cols:", "cols"), ("fec,cols:2x", "cols"),
            ("fec,cols:-2", "cols"), ("fec,cols:2,cols:2", "cols twice"),
            ("fec,cols:2,rows:0", "rows"), ("fec,cols:2,rows:-1", "rows"),
            ("fec,cols:2,rows:٣", "rows"), ("fec,layout:round", "layout"), ("fec,arq:ever", "arq"),
            ("fec,cols:" + "1" * 10, "cols"), ("fec,cols:2," + "rows:1," * 8, "longer than 64"),
        ):  # fmt: skip
            fault = self.fault(section(packetfilter=text))
            self.assertEqual(fault.key, "srt.packetfilter")
            self.assertIn(word, fault.problem, text)

    def test_descriptors(self) -> None:
        """A UDP socket a port, and one for each peer that is called."""
        for keys, listeners, dial in (
            ({}, 2 * 2 + 2, None),
            ({"enabled": "yes"}, 2 * 2 + 2, None),
            ({"enabled": "no", "dial": [CAMERA]}, 2 + 2, None),
            ({"dial": [CAMERA, {**CAMERA, "role": "FE"}]}, 2 * 2 + 2, 2),
        ):
            parts = descriptor_parts(self.load(section(**keys)).config)
            self.assertEqual((parts["listeners"], parts.get("srt.dial")), (listeners, dial))
        needed = 50 + 50 + 256 + 1024 + (2 + 2 + 1 + 1) + 2 * 2
        self.load(section(), machine=Machine(needed, 0))
        fault = self.fault(section(), machine=Machine(needed - 1, 0))
        self.assertIn("6 listeners", fault.problem)


class Dialling(Files):
    """Entries of ``srt.dial``."""

    def test_read(self) -> None:
        config = self.load(
            section(
                dial=[
                    {**CAMERA, "streamid": STREAM},
                    {
                        "port": 40101,
                        "address": "[2001:db8::1]:9",
                        "role": "FE",
                        "mode": "rendezvous",
                    },
                ]
            )
        ).config
        one, two = config.srt.dial
        self.assertEqual(one, SrtDial(40100, "cam:9000", DialRole.BE, STREAM, DialMode.CALLER))
        self.assertEqual((one.host, one.peer_port), ("cam", 9000))
        self.assertEqual((two.host, two.peer_port, two.mode), ("2001:db8::1", 9, "rendezvous"))

    def test_faults_name_the_entry(self) -> None:
        faults = self.faults(
            section(
                dial=[
                    {"port": 40100, "address": "cam:9000"},
                    {"role": "XX", "address": "cam:1", "port": 0, "colour": 1},
                    "text",
                    {**CAMERA, "mode": "listener", "streamid": 5123},
                ]
            )
        )
        self.assertEqual(
            [fault.key for fault in faults],
            [
                "srt.dial[0].role", "srt.dial[1].colour", "srt.dial[1].port", "srt.dial[1].role",
                "srt.dial[2]", "srt.dial[3].streamid", "srt.dial[3].mode",
            ],
        )  # fmt: skip
        self.assertIn("srt.dial[1].", faults[1].problem)
        self.assertEqual(faults[3].allowed, "FE | BE")
        self.assertNotIn("5123", str(faults[5]))

    def test_rules(self) -> None:
        for change, key in (
            ({"port": 40102}, "port"),
            *(({"address": text}, "address") for text in (
                "", "cam", "cam:", "cam:0", "cam:65536", ":9000", "::1:9000", "[::1]", "a b:9000",
                "srt://cam:9000", "cam:9000\n", "[x]:9000", "[1:2]:9", "[1.2.3.4]:9", "[]:9",
            )),
            ({"streamid": STREAM + "x" * 500}, "streamid"),
            ({"streamid": "é" * 257}, "streamid"),
            ({"streamid": STREAM + "\n"}, "streamid"),
        ):  # fmt: skip
            fault = self.fault(section(dial=[{**CAMERA, **change}]))
            self.assertEqual(fault.key, f"srt.dial[0].{key}", change)
            self.assertNotIn(STREAM, str(fault))
        self.load(section(dial=[{**CAMERA, "streamid": "é" * 256}]))
        fault = self.fault({"srt": {"dial": [CAMERA]}})
        self.assertIn("no srt ports", fault.allowed)

    def test_one_of_each_role_a_port(self) -> None:
        self.load(section(dial=[CAMERA, {**CAMERA, "role": "FE"}, {**CAMERA, "port": 40101}]))
        fault = self.fault(section(dial=[CAMERA, {**CAMERA, "address": "other:1"}]))
        self.assertEqual(fault.key, "srt.dial[1].port")
        self.assertIn("srt.dial[0]", fault.problem)

    def test_stream_ids_are_never_shown(self) -> None:
        config = self.load(section(dial=[{**CAMERA, "streamid": STREAM}])).config
        output = StringIO()
        Console(file=output, width=1000).print(config, config.srt.dial[0])
        self.assertIn("cam:9000", output.getvalue())
        self.assertNotIn("hush", repr(config) + str(config.srt.dial[0]) + output.getvalue())


class Warnings(Files):
    """What is allowed and hardly meant."""

    def warned(self, config: dict[str, Any], passphrase: str = "") -> list[str]:
        secrets = {"auth_secret": GOOD_SECRET, "srt_passphrase": passphrase}
        return [warning.key for warning in self.load(config, secrets).warnings]

    def test_each(self) -> None:
        zmq = {"zmq_start_port": 40001, "zmq_end_port": 40001}
        for config, passphrase, keys in (
            (section(), "", []),
            (section(enabled="yes"), "", []),
            ({"relay": zmq, "srt": {"enabled": "yes"}}, "", ["srt.enabled"]),
            ({"relay": zmq, "srt": {"enabled": "auto"}}, "", []),
            (section(enabled="no", dial=[CAMERA]), "", ["srt.dial"]),
            (section(inputbw=1), "", ["srt.inputbw"]),
            (section(inputbw=1, maxbw=0), "", []),
            (section(conntimeo=0), "", []),
            (section(conntimeo=0, dial=[CAMERA]), "", ["srt.conntimeo"]),
            (section(dial=[{**CAMERA, "mode": "rendezvous", "streamid": STREAM}]), "",
             ["srt.dial[0].streamid"]),
            (section(pbkeylen=32), "", ["srt.pbkeylen"]),
            (section(pbkeylen=32), PASSPHRASE, []),
            (section(), PASSPHRASE, []),
            (section(), "replace-me-now", ["srt_passphrase"]),
        ):  # fmt: skip
            self.assertEqual(self.warned(config, passphrase), keys, config)


class Passphrase(Files):
    """Its length is libsrt's, and it is not shown."""

    def with_it(self, value: Any) -> dict[str, Any]:
        return {"auth_secret": GOOD_SECRET, "srt_passphrase": value}

    def test_length(self) -> None:
        """In bytes, whatever the environment."""
        for value in ("x" * 10, "x" * 79, "é" * 5, "é" * 39, "", None):
            secrets = self.load(section(), self.with_it(value), prod=True).secrets
            self.assertEqual(secrets.srt_passphrase, value or "")
        for value in ("hush", "hush" + "x" * 5, "hush" + "x" * 76, "é" * 4, "é" * 40):
            for prod in (False, True):
                fault = self.fault(section(), self.with_it(value), prod=prod)
                self.assertEqual((fault.key, fault.value), ("srt_passphrase", ""))
                self.assertIn("10 to 79 bytes", fault.allowed)
                self.assertNotIn(value, str(fault))

    def test_placeholder(self) -> None:
        fault = self.fault(section(), self.with_it("replace-me-now"), prod=True)
        self.assertEqual(fault.key, "srt_passphrase")
        self.assertNotIn("replace", str(fault))

    def test_in_the_wrong_file(self) -> None:
        """Whoever writes it to the configuration is told where it belongs, and it is not shown."""
        for name in ("passphrase", "srt_passphrase"):
            fault = self.fault(section(**{name: PASSPHRASE}), self.with_it(""))
            self.assertEqual((fault.key, fault.value), (f"srt.{name}", ""))
            self.assertIn("it is srt_passphrase of the secret file", fault.problem)

    def test_never_shown(self) -> None:
        loaded = self.load(section(), self.with_it(PASSPHRASE))
        output = StringIO()
        Console(file=output, width=1000).print(loaded.secrets, loaded)
        text = output.getvalue() + repr(loaded) + f"{loaded.secrets}"
        self.assertNotIn("hush", text)
        self.assertNotIn(GOOD_SECRET, text)
