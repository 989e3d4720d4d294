"""Configuration files with anything in the sections that trust goes by, and key directories.

What is wrong is named, in lines that a terminal can show; what is accepted makes a gateway
(contract section 1). Key directories: one kind of error, which shows nothing of a key.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from relayx.config.load import ConfigError, load
from relayx.config.model import Secrets
from relayx.security import keyring, secrethash
from relayx.security.keycheck import check_directory
from relayx.security.keydir import KeyFileError, signing_key, verifying_keys
from relayx.security.keys import KeyType, private_pem, public_pem
from relayx.service import GatewayService
from relayx.settings import load_data_tls
from relayx.trust import read_keys
from tests.certificates import Authority
from tests.config_files import BIG, GOOD_SECRET, PORTS, Files
from tests.fuzzing import clean_log, examples
from tests.security_keys import NOW, key

ODD: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=3,
)
NAMES = ("server.pem", "server.key", "ca.pem", "none", "broken.pem", "keys", "trusted", "")
FILES = st.sampled_from(["", *(f"FILES/{name}" for name in NAMES)])
HASH = str(secrethash.make("a client's own"))


def of(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly good, sometimes odd."""
    return st.one_of(good, good, good, ODD)


def section(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A section with some of its keys, and rarely one that it has not."""
    known = st.fixed_dictionaries({}, optional={name: of(how) for name, how in keys.items()})
    return st.one_of(known, known, known, ODD)


ADDRESSES = st.sampled_from(
    ["127.0.0.1", "10.0.0.0/8", "10.0.0.1/8", "::1", "fe80::1%lo", "::ffff:1.2.3.4", "0.0.0.0/0",
     "::ffff:0:0/96", "host.example", "1.2.3", "1.2.3.4/33", ""]
)  # fmt: skip
ENTRY = section(
    match=st.sampled_from(["*", "cam-*", "?", "[a]", "", "a\n"]) | st.text(max_size=6),
    secret_hash=st.sampled_from([HASH, "", HASH[:-4], "scrypt$14$8$1$AA==$AA=="]),
    roles=st.lists(st.sampled_from(["FE", "BE", "XE"]), max_size=3),
    protocols=st.lists(st.sampled_from(["zmq", "srt", "x"]), max_size=3),
    max_leases=st.integers(-1, 9),
    bandwidth=st.sampled_from(["10M", "1G", "0", "-1", 1000, "10 Mbit/s"]),
)
ENDPOINTS = st.sampled_from([
    "tcp:5555", "ssl:5556", "ssl:5556:privateKey=FILES/server.key:certKey=FILES/server.pem",
    "ssl:5556:privateKey=FILES/ca.pem:certKey=FILES/server.pem", "ssl:x", "unix:", "tcp:5555",
])  # fmt: skip
DOCUMENTS = st.fixed_dictionaries(
    {"relay": st.just(PORTS)},
    optional={
        "control": section(endpoints=st.lists(ENDPOINTS, max_size=3), client_ca=FILES),
        "data": section(
            tls=section(certificate=FILES, private_key=FILES, required=st.booleans()),
            admission=st.sampled_from(["open", "peer", "ticket"]),
        ),
        "security": section(
            signing=st.sampled_from(["off", "accept", "require"]),
            keys=FILES,
            trusted_keys=FILES,
            on_expired=st.sampled_from(["warn", "reject"]),
        ),
        "clients": of(st.lists(ENTRY, max_size=3)),
        "limits": section(
            control_per_source=st.integers(-1, 9),
            failures_per_minute=st.integers(-1, 9),
            failure_block=st.sampled_from(["1s", "0s", "1m"]),
            leases_per_client=st.integers(-1, 9),
        ),
        "proxy_protocol": section(trusted=st.lists(ADDRESSES, max_size=3)),
        "audit": section(file=st.sampled_from(["", "FILES/audit.jsonl", "FILES", "a\0b"])),
    },
)


class Documents(Files):
    """Whole files."""

    def setUp(self) -> None:
        super().setUp()
        self.files = self.directory / "files"
        authority = Authority(self.files)
        authority.issue("server", ["gateway.example"])
        (self.files / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")
        keyring.add_key(str(self.files / "keys"), KeyType.P256, 90, NOW, "own")
        (self.files / "trusted").mkdir()
        (self.files / "trusted" / "c.pub").write_bytes(public_pem(key().public_key()))

    @given(DOCUMENTS)
    @examples(120)
    def test_any_document(self, document: Any) -> None:
        """Refused with what is wrong, or a gateway can be made and loaded of it."""
        text = yaml.safe_dump(document).replace("FILES", str(self.files.absolute()))
        self.write(text)
        try:
            loaded = load(self.sources(), BIG)
        except ConfigError as error:
            self.assertTrue(error.faults)
            for line in str(error).split("\n"):
                self.assertTrue(line.isprintable(), line)
                self.assertNotIn(GOOD_SECRET, line)
            return
        with clean_log(self, GOOD_SECRET):
            clock = MemoryReactorClock()
            clock.advance(NOW)
            service = GatewayService(loaded.config, Secrets(auth_secret=GOOD_SECRET), clock)
            service.startService()
            read_keys(loaded.config.security)
            load_data_tls(loaded.config.data.tls)
            stopped = service.stopService()
            clock.pump([1.0] * 3)
            self.successResultOf(stopped)
            self.assertEqual(clock.getDelayedCalls(), [])


MANIFESTS = st.fixed_dictionaries(
    {},
    optional={
        "version": st.sampled_from([1, 2]) | ODD,
        "current": st.sampled_from(["one", "two", "none"]) | ODD,
        "previous": st.sampled_from(["", "one", "two"]) | ODD,
        "keys": st.dictionaries(
            st.sampled_from(["one", "two", "../x"]) | st.text(max_size=3),
            st.fixed_dictionaries(
                {"type": st.just("p256"), "created": st.just("2026-01-01T00:00:00Z")},
                optional={
                    "expires": st.sampled_from(
                        ["2026-12-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z",
                         "9999-12-31T23:59:59-23:59", None]
                    ) | ODD,
                },
            ) | ODD,
            max_size=3,
        ) | ODD,
    },
).map(lambda document: json.dumps(document).encode())  # fmt: skip


class KeyDirectories(SynchronousTestCase):
    """Directories with anything in them."""

    def setUp(self) -> None:
        self.pems = [
            private_pem(key()), public_pem(key().public_key()),
            private_pem(key(KeyType.P256, 1)), private_pem(key(KeyType.RSA2048)),
        ]  # fmt: skip
        self.folder = Path(self.mktemp())

    @given(
        st.dictionaries(
            st.sampled_from(
                ["one.key", "one.pub", "two.key", "two.pub", "manifest.json", "x y.key", ".key",
                 "-a.pub", "one", ".one.key.0123456789abcdef.tmp"]
            ),
            st.tuples(
                st.integers(0, 3), st.integers(0, 400), st.sampled_from([0o600, 0o644, 0o666])
            ) | MANIFESTS,
            max_size=5,
        ),
        st.sampled_from([NOW, 0.0, 1e11]),
    )  # fmt: skip
    @examples(100)
    def test_anything(self, files: dict[str, Any], now: float) -> None:
        """Each use of it works, or says in one line which file is in the way."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(0o700)
        for name, what in files.items():
            data, mode = (what, 0o644) if isinstance(what, bytes) else self.damaged(*what)
            (self.folder / name).write_bytes(data)
            os.chmod(self.folder / name, mode)
        path = str(self.folder)
        for use in (
            lambda: signing_key(path),
            lambda: verifying_keys(path),
            lambda: keyring.rotate_to(path, "two", now),
            lambda: keyring.rotate(path, KeyType.P256, 30, now),
            lambda: keyring.add_key(path, KeyType.P256, 30, now),
        ):
            try:
                use()
            except KeyFileError as error:
                self.check_text(str(error))
        found = check_directory(path, now)
        for error in (*found.faults, *found.warnings):
            self.check_text(str(error))
        left = [name for name in os.listdir(path) if name.endswith(".tmp") and name not in files]
        self.assertEqual(left, [])

    def damaged(self, number: int, at: int, mode: int) -> tuple[bytes, int]:
        """A key, or a part of one where `at` is inside of it."""
        pem = self.pems[number]
        return (pem[:at] if at % 3 == 0 else pem), mode

    def check_text(self, text: str) -> None:
        """One line, with nothing of a private key's."""
        self.assertTrue(text.isprintable(), text)
        for pem in self.pems:
            for line in pem.decode().splitlines():
                if not line.startswith("-----"):
                    self.assertNotIn(line, text)
