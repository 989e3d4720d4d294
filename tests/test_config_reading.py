"""Files that are not what they should be, whatever is in them."""

from __future__ import annotations

import json
import os
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from relayx.config.convert import section_keys, sections
from relayx.config.files import MOST_BYTES
from relayx.config.load import ConfigError, Environment, Sources, load
from tests.config_files import BIG, Files, with_key

KEYS = sorted(key.name for section in sections().values() for key in section_keys(section).values())


class Reading(Files):
    """Files that are not what they should be."""

    def test_missing(self) -> None:
        self.write("")
        self.config.unlink()
        self.secrets.unlink()
        error = self.assertRaises(ConfigError, load, self.sources(), BIG)
        config, secrets = error.faults
        self.assertEqual((config.file, secrets.file), (str(self.config), str(self.secrets)))
        for fault, flag in ((config, "--config"), (secrets, "--env-file")):
            self.assertIn("relayx init", str(fault))
            self.assertIn(flag, str(fault))

    def test_not_a_file(self) -> None:
        os.mkfifo(self.directory / "pipe")
        long = self.directory / "long"
        long.write_bytes(b" " * (MOST_BYTES + 1))
        self.write("")
        exact = self.directory / "exact"
        exact.write_bytes(b" " * MOST_BYTES)
        load(Sources(Environment.DEV, str(exact), str(self.secrets)), BIG)
        for path, words in (
            (self.directory, "Is a directory"),
            (self.directory / "pipe", "not a regular file"),
            (long, "too long"),
            ("a\0b", "cannot be read"),
            (self.config / "x", "cannot be read: Not a directory"),
        ):
            sources = Sources(Environment.DEV, str(path), str(self.secrets))
            self.assertIn(words, str(self.assertRaises(ConfigError, load, sources, BIG)))

    def test_line_and_column(self) -> None:
        self.assertIn("line 2, column 11", self.fault("relay:\n  max_fe: : 1\n").problem)
        self.assertIn("line 2, column 3", self.fault(b"relay:\n# \x01").problem)
        self.assertIn("line 2, column 1", self.fault("", '{"auth_secret": "hush"\n"').problem)
        self.assertIn("line 2", self.fault("", '{"auth_secret":\nhush}').problem)
        self.assertNotIn("hush", str(self.fault("", '{"auth_secret":\nhush}')))

    def test_not_utf8(self) -> None:
        self.assertIn("not UTF-8 at byte 3", self.fault(b"lo\n\xff").problem)
        self.assertIn("not UTF-8", self.fault("", b'{"auth_secret": "\xff"}').problem)
        self.assertEqual(self.load("﻿relay: {max_fe: 2}").config.relay.max_fe, 2)

    def test_top_level(self) -> None:
        for text in ("[]", "5", "text"):
            self.assertIn("top level", self.fault(text).problem)
        self.assertIn("top level", self.faults("", "[]")[0].problem)
        self.assertEqual(self.fault("relay: []").key, "relay")
        self.assertIn("single value", self.fault("relay: 5").problem)

    def test_repeated_keys(self) -> None:
        fault = self.fault("relay:\n  max_fe: 1\n  max_be: 1\n  max_fe: 2\n")
        self.assertEqual(fault.key, "relay.max_fe")
        self.assertIn("line 4", fault.problem)
        self.assertEqual(self.fault("log:\nlog:\n").key, "log")
        fault = self.fault("", '{"auth_secret": "hush", "auth_secret": "hush"}')
        self.assertEqual((fault.key, fault.value), ("auth_secret", ""))

    def test_depth(self) -> None:
        deep = "[" * 100_000
        self.assertIn("too deeply", self.fault(deep).problem)
        self.assertIn("too deeply", self.fault("", deep).problem)

    def test_odd_documents(self) -> None:
        for text in (
            "!!timestamp x",
            "!!bool x",
            "!!int x",
            "!!python/object:os.system x",
            "? [a]\n: 1\n",
            "a: 1\n---\nb: 1\n",
            "relay: *nothing",
            "&a [*a]",
            "relay: {max_fe: &a [*a]}",
            f"relay: {{max_fe: !!int 0x{'f' * 9000}}}",
            f"relay: {{max_fe: {'9' * 5000}}}",
            "relay: {max_fe: 010}",
            "relay: {max_fe: 1_0}",
            "data: {drain_limit: 1:30}",
            "? !!binary aGk=\n: 1",
        ):
            self.assertTrue(self.faults(text))
        self.assertIn("thousands of digits", self.fault("", f'{{"a": {"1" * 5000}}}').problem)

    def test_words_stay_words(self) -> None:
        self.assertEqual(self.load("log: {stream: off}").config.log.stream, "off")
        self.assertEqual(self.load("data: {advertise_host: no}").config.data.advertise_host, "no")
        host = self.load("data: {advertise_host: 2024-01-01}").config.data.advertise_host
        self.assertEqual(host, "2024-01-01")

    @given(st.binary(max_size=200), st.binary(max_size=200))
    def test_any_bytes(self, config: bytes, secrets: bytes) -> None:
        self.only_config_error(config, secrets)

    @given(
        st.text(alphabet=" \n:-{}[]&*!?|>'\"#%@`,relaymx_fdt0159.~", max_size=80),
        st.text(alphabet=' \n:{}[]",auth_secret\\u019', max_size=60),
    )
    def test_any_text(self, config: str, secrets: str) -> None:
        self.only_config_error(config.encode(), secrets.encode())

    @given(
        st.sampled_from(KEYS),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
            max_leaves=5,
        )
        | st.from_regex(r"(tcp6?|ssl|tls|unix|systemd|haproxy|stdio)(:[a-z0-9=\\.]{0,9}){0,4}"),
    )
    def test_any_value(self, key: str, value: Any) -> None:
        self.only_config_error(yaml.safe_dump(with_key(key, value)).encode(), b"{}")

    @given(
        st.sampled_from(["auth_secret", "auth_secret_previous", "relay_public_key", "x\n"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()),
    )
    def test_any_secret(self, key: str, value: Any) -> None:
        self.only_config_error(b"", json.dumps({key: value}).encode())

    def only_config_error(self, config: bytes, secrets: bytes) -> None:
        self.write(config, secrets)
        try:
            load(self.sources(), BIG)
        except ConfigError as error:
            for line in str(error).split("\n"):
                self.assertTrue(line.isprintable(), line)
