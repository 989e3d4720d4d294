"""Each key of the configuration: what reloads live, what needs a restart, what is refused."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from twisted.trial.unittest import SynchronousTestCase, TestCase

from relayx.config.convert import section_keys, sections
from relayx.config.diff import APPLIES, HIDDEN, Applies, Files, changes, named_files
from relayx.config.faults import ConfigError
from relayx.config.model import ClientPolicy, Config, Secrets
from relayx.config.srt import DialRole, Srt, SrtDial
from relayx.config.zmq import Pattern, Zmq, ZmqBroker
from relayx.security import secrethash
from tests.data_certificates import write_pair
from tests.live import SECRET
from tests.reloading import Filed, filed
from tests.signing import KeyFiles

LIVE, RESTART = "live", "restart"


class Row(NamedTuple):
    """A key: another value that may be, whether it may be live, one that may not be at all.

    `also` are the other keys that have to change with it.
    """

    other: Any
    how: str
    invalid: Any
    also: dict[str, Any] = {}


CA, KEY = "{ca}", "{key}"
ROWS: dict[str, Row] = {
    "relay.max_fe": Row(7, LIVE, 0),
    "relay.max_be": Row(7, LIVE, "many"),
    "relay.ring_buffer_size": Row(2097152, LIVE, 1024),
    "relay.reaper_timeout": Row("7s", LIVE, "7"),
    "relay.control_port": Row(5556, RESTART, 0),
    "relay.srt_start_port": Row("{srt+1}", LIVE, 70000),
    "relay.srt_end_port": Row("{srt}", LIVE, 1),
    "relay.zmq_start_port": Row("{zmq+1}", LIVE, "{srt}"),
    "relay.zmq_end_port": Row("{zmq}", LIVE, None),
    "control.endpoints": Row(["tcp:5557:interface={host}"], RESTART, ["carrier-pigeon"]),
    "control.register_timeout": Row("7s", LIVE, "soon"),
    "control.idle_timeout": Row("7h", LIVE, "-1s"),
    "control.max_message_bytes": Row(70000, LIVE, 1),
    "control.max_outbox_bytes": Row(70000, LIVE, 1),
    "control.max_unregistered": Row(70, LIVE, 0),
    "control.client_ca": Row(CA, LIVE, "absent.pem"),
    "data.interface": Row("127.0.0.1", RESTART, "nowhere"),
    "data.advertise_host": Row("gateway.example", LIVE, "two words"),
    "data.hello_timeout": Row("7s", LIVE, 7),
    "data.max_waiting_hello": Row(70, LIVE, 0),
    "data.admission": Row("ticket", LIVE, "nobody"),
    "data.be_on_fe_close": Row("close", LIVE, "never"),
    "data.drain_quiet": Row("7s", LIVE, "7"),
    "data.drain_limit": Row("7s", LIVE, "7"),
    "data.session_idle_timeout": Row("7h", LIVE, "7"),
    "data.half_close_timeout": Row("7h", LIVE, "7"),
    "data.keepalive": Row("7s", LIVE, "0s"),
    "data.splice": Row("off", RESTART, "perhaps"),
    "data.drain_timeout": Row("7s", LIVE, "7"),
    "data.tls.certificate": Row(CA, LIVE, CA, {"data.tls.private_key": KEY}),
    "data.tls.private_key": Row(KEY, LIVE, KEY, {"data.tls.certificate": CA}),
    "data.tls.required": Row(
        True, LIVE, True, {"data.tls.certificate": CA, "data.tls.private_key": KEY}
    ),
    "srt.enabled": Row("auto", RESTART, "maybe"),
    "srt.bridge": Row("yes", LIVE, "maybe"),
    "srt.fan_out": Row(7, LIVE, 0),
    "srt.latency": Row(70, LIVE, 70000),
    "srt.peerlatency": Row(70, LIVE, -1),
    "srt.maxbw": Row(0, LIVE, -2),
    "srt.inputbw": Row(70, LIVE, -1),
    "srt.oheadbw": Row(70, LIVE, 4),
    "srt.pbkeylen": Row(24, LIVE, 25),
    "srt.rcvbuf": Row(1472000, LIVE, 100),
    "srt.sndbuf": Row(1472000, LIVE, 100),
    "srt.mss": Row(1400, LIVE, 1000),
    "srt.fc": Row(10000, LIVE, 100),
    "srt.snddropdelay": Row(-1, LIVE, -2),
    "srt.tlpktdrop": Row("no", LIVE, "maybe"),
    "srt.lossmaxttl": Row(7, LIVE, -1),
    "srt.conntimeo": Row(7000, LIVE, 700000),
    "srt.payloadsize": Row(188, LIVE, 1457),
    "srt.packetfilter": Row("fec,cols:10,rows:5", RESTART, "fec,cols:0"),
    "srt.dial": Row(
        [{"port": "{srt}", "address": "192.0.2.7:9000", "role": "BE", "streamid": "HUSH"}],
        RESTART,
        [{"port": "{zmq}", "address": "192.0.2.7:9000", "role": "BE", "streamid": "HUSH"}],
    ),
    "zmq.inspect": Row("messages", LIVE, "sometimes"),
    "zmq.max_message_bytes": Row(70, LIVE, -1),
    "zmq.brokers": Row(
        [{"pattern": "pub_sub", "frontend": "{zmq}", "backend": "{zmq+1}"}],
        RESTART,
        [{"pattern": "pub_sub", "frontend": "{zmq}", "backend": "{zmq}"}],
    ),
    "http.endpoint": Row("tcp:8081:interface={host}", RESTART, "carrier-pigeon"),
    "http.hosts": Row(["gateway.example"], LIVE, ["gateway.example:8080"]),
    "http.heap": Row(True, RESTART, "perhaps"),
    "log.level": Row("error", LIVE, "loud"),
    "log.format": Row("json", LIVE, "xml"),
    "log.stream": Row("be", LIVE, "some"),
    "reload.watch": Row("on", LIVE, "sometimes"),
    "security.signing": Row("accept", LIVE, "maybe"),
    "security.keys": Row("{keys}", LIVE, "absent", {"security.signing": "accept"}),
    "security.trusted_keys": Row("{trusted}", LIVE, "absent", {"security.signing": "accept"}),
    "security.on_expired": Row("reject", LIVE, "wait"),
    "proxy_protocol.trusted": Row(["192.0.2.0/24"], LIVE, ["everybody"]),
    "limits.control_per_source": Row(70, LIVE, 0),
    "limits.unregistered_per_source": Row(70, LIVE, 0),
    "limits.failures_per_minute": Row(70, LIVE, 0),
    "limits.failure_block": Row("7s", LIVE, "0s"),
    "limits.waiting_hello_per_source": Row(70, LIVE, 0),
    "limits.messages_per_second": Row(70, LIVE, 0),
    "limits.leases_per_client": Row(70, LIVE, 0),
    "audit.file": Row("{folder}/audit.jsonl", LIVE, "{folder}"),
    "clients": Row([{"match": "cam-*", "roles": ["BE"]}], LIVE, [{"match": ""}]),
    "auth_secret": Row("another secret of a good length", LIVE, ""),
    "auth_secret_previous": Row("another secret of a good length", LIVE, 7),
    "admin_token": Row("another token of a good length", LIVE, 7),
    "srt_passphrase": Row("another secret of a good length", LIVE, "HUSH"),
    "relay_public_key": Row("", LIVE, "no PEM"),
}
"""One for each key; a new key needs one, and an entry in relayx.config.diff.APPLIES."""

NOT_AT_A_CHECK = {"audit.file"}
"""Keys whose invalid values are found by trying them alone."""


def every_key() -> set[str]:
    """The keys of both files."""
    found = {key.name for section in sections().values() for key in section_keys(section).values()}
    return {*found, "clients", *(field.name for field in msgspec.structs.fields(Secrets))}


class Completeness(SynchronousTestCase):
    """No key is forgotten."""

    def test_every_key_has_a_row(self) -> None:
        self.assertEqual(set(ROWS), every_key())

    def test_every_key_says_how_it_applies(self) -> None:
        self.assertEqual(set(APPLIES), every_key())

    def test_rows_agree_with_the_table(self) -> None:
        restart = {key for key, applies in APPLIES.items() if applies is Applies.RESTART}
        self.assertEqual({key for key, row in ROWS.items() if row.how == RESTART}, restart)


class Matrix(TestCase):
    """Each key at a running gateway that is started from files."""

    def value(self, gateway: Filed, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self.value(gateway, each) for name, each in value.items()}
        if isinstance(value, list):
            return [self.value(gateway, each) for each in value]
        if not isinstance(value, str):
            return value
        known = {
            "{ca}": self.pair[0], "{key}": self.pair[1], "{zmq+1}": gateway.zmq[1],
            "{keys}": self.keys.gateway, "{trusted}": self.keys.trusted,
            "{zmq}": gateway.zmq[0], "{srt+1}": gateway.srt[1], "{srt}": gateway.srt[0],
        }  # fmt: skip
        if value in known:
            return known[value]
        return value.replace("{host}", gateway.host).replace("{folder}", str(self.folder))

    def changed(self, gateway: Filed, values: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """Sections and secrets with these keys changed."""
        changed: dict[str, Any] = {}
        secrets: dict[str, Any] = {}
        for key, value in values.items():
            section, _, bare = key.rpartition(".")
            filled = self.value(gateway, value)
            if key == "clients":
                changed["clients"] = filled
            elif not section:
                secrets[key] = filled
            elif section == "data.tls":
                changed.setdefault("data", {}).setdefault("tls", {})[bare] = filled
            else:
                changed.setdefault(section, {})[bare] = filled
        return changed, secrets

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.keys = KeyFiles(str(self.folder / "signing"))
        self.pair = tuple(str(path) for path in write_pair(self.folder / "..", "matrix"))

    @filed()
    def test_other_values(self, gateway: Filed) -> None:
        """A live key is applied, alone; one that needs a restart is named, and nothing applied."""
        for key, row in random.sample(sorted(ROWS.items()), len(ROWS)):
            if key == "relay_public_key":
                continue  # there is one other value alone, which is a PEM text
            changed, secrets = self.changed(gateway, {**row.also, key: row.other})
            if row.how == RESTART:
                told = gateway.refused(secrets, **changed)
                self.assertIn("a restart is needed", told, key)
                self.assertIn(f" {key} = ", told)
                self.assertNotIn("HUSH", told)
                self.assertEqual(len(told.splitlines()), 1, told)
                continue
            impact = gateway.reload(secrets, **changed)
            found = {change.key.partition("[")[0] for change in impact.changes}
            self.assertEqual(found, {key, *row.also}, key)
            self.assertEqual(impact.restart, ())
            self.assertNotIn("another secret", repr(impact))
            gateway.reload()

    @filed()
    def test_invalid_values(self, gateway: Filed) -> None:
        """All stays as it was, and the fault names the key."""
        for key, row in sorted(ROWS.items()):
            also = {k: v for k, v in row.also.items() if k.startswith("security")}
            changed, secrets = self.changed(gateway, {**also, key: row.invalid})
            told = gateway.refused(secrets, **changed)
            self.assertIn(key.rpartition(".")[0], told)
            self.assertNotIn(SECRET, told)
            self.assertNotIn("HUSH", told)
            if key not in NOT_AT_A_CHECK:
                gateway.write(secrets, **changed)
                self.assertRaises(ConfigError, gateway.service.plan_reload)
        impact = gateway.reload()
        self.assertEqual((impact.changes, impact.ports_kept), ((), (*gateway.srt, *gateway.zmq)))


class Differences(SynchronousTestCase):
    """What is told of a change."""

    def found(self, old: Config, new: Config, *secrets: Secrets) -> list[str]:
        one, two = secrets or (Secrets("s"), Secrets("s"))
        return [str(c) for c in changes(Files.read(old, one), Files.read(new, two))]

    def clients(self, *entries: ClientPolicy) -> Config:
        return Config(clients=entries)

    def test_clients_by_their_patterns(self) -> None:
        old = self.clients(ClientPolicy("a"), ClientPolicy("b", bandwidth=5), ClientPolicy("c"))
        new = self.clients(ClientPolicy("c"), ClientPolicy("b", bandwidth=7), ClientPolicy("d"))
        self.assertEqual(
            self.found(old, new),
            ["clients[a]: there -> absent", "clients[b].bandwidth: 5 -> 7",
             "clients[d]: absent -> there", "clients: b, c -> c, b"],
        )  # fmt: skip

    def test_secrets_are_hidden(self) -> None:
        hashed = str(secrethash.make("HUSH"))
        old, new = self.clients(ClientPolicy("a")), self.clients(ClientPolicy("a", hashed))
        found = self.found(old, new, Secrets("HUSH"), Secrets("ALSO HUSH", "HUSH"))
        self.assertEqual(found[0], f'clients[a].secret_hash: "" -> {HIDDEN}')
        self.assertEqual(len(found), 3)
        self.assertNotIn("HUSH", repr(found))
        self.assertNotIn(hashed, repr(found))

    def test_entries_of_lists(self) -> None:
        """What is not a default of theirs, and no stream id."""
        dial = SrtDial(port=5, address="a:6", role=DialRole.FE, streamid="HUSH")
        broker = ZmqBroker(pattern=Pattern.PUB_SUB, frontend=7, backend=8, ipv6=True)
        new = Config(srt=Srt(dial=(dial,)), zmq=Zmq(brokers=(broker,)))
        told = f'{{port: 5, address: "a:6", role: FE, streamid: {HIDDEN}}}'
        self.assertEqual(
            self.found(Config(), new),
            [
                f"srt.dial: [] -> [{told}]",
                "zmq.brokers: [] -> [{pattern: pub_sub, frontend: 7, backend: 8, ipv6: true}]",
            ],
        )
        other = Config(srt=Srt(dial=(msgspec.structs.replace(dial, streamid="HUSH 2"),)))
        self.assertEqual(self.found(new, msgspec.structs.replace(other, zmq=new.zmq)),
                         [f"srt.dial: [{told}] -> [{told}]"])  # fmt: skip

    def test_what_holds_for_whom(self) -> None:
        """Options for new connections, what the rules go by at once, sockets at a restart."""
        for key, when in (
            ("srt.latency", Applies.NEW_CONNECTIONS), ("srt.packetfilter", Applies.RESTART),
            ("srt_passphrase", Applies.NEW_CONNECTIONS), ("srt.bridge", Applies.NOW),
            ("srt.fan_out", Applies.NOW), ("zmq.inspect", Applies.NEW_SESSIONS),
            ("zmq.max_message_bytes", Applies.NEW_SESSIONS), ("zmq.brokers", Applies.RESTART),
        ):  # fmt: skip
            self.assertIs(APPLIES[key], when, key)
        options = set(section_keys(Srt)) - {"enabled", "dial", "bridge", "fan_out"}
        self.assertEqual(
            {APPLIES[f"srt.{name}"] for name in options - {"packetfilter"}},
            {Applies.NEW_CONNECTIONS},
        )

    def test_contents_of_files(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "ca.pem").write_text("one")
        (folder / "keys").mkdir()
        (folder / "clients").mkdir()
        config = Config(
            control=msgspec.structs.replace(
                Config().control, client_ca=str(folder / "ca.pem"), endpoints=("ssl:1",)
            ),
            security=msgspec.structs.replace(Config().security, keys=str(folder / "keys")),
            zmq=Zmq(
                brokers=(
                    ZmqBroker(
                        pattern=Pattern.PUB_SUB,
                        frontend=1,
                        backend=2,
                        curve_clients=str(folder / "clients"),
                    ),
                )
            ),
        )
        self.assertEqual(
            named_files(config),
            {
                "control.client_ca": (str(folder / "ca.pem"),),
                "control.endpoints": ("server.pem", "server.pem"),
                "security.keys": (str(folder / "keys"),),
                "zmq.brokers": (str(folder / "clients"),),
            },
        )
        before = Files.read(config, Secrets("s"))
        (folder / "ca.pem").write_text("two")
        (folder / "keys" / "a.pem").write_text("new")
        (folder / "clients" / "cam.pub").write_text("new")
        found = changes(before, Files.read(config, Secrets("s")))
        self.assertEqual(
            [c.key for c in found], ["control.client_ca", "zmq.brokers", "security.keys"]
        )
        self.assertIs(found[1].applies, Applies.NEW_CONNECTIONS)
        self.assertIn("other contents", str(found[0]))
