"""What the documentation is made of: every key, message and command is in the references."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
from twisted.trial.unittest import SynchronousTestCase

from docs._ext import commands, metrics, settings, wire
from relayx import schema
from relayx.cli.__main__ import COMMANDS, cli
from relayx.config.convert import section_keys, sections
from relayx.config.model import ClientPolicy, Secrets
from relayx.core.codec import Envelope
from relayx.core.errors import Code
from relayx.core.messages import Cause

DOCS = Path(__file__).resolve().parent.parent / "docs"


def parts(text: str, target: str) -> dict[str, str]:
    """The text under each label that begins with `target`, by the rest of the label."""
    found = {}
    for part in text.split(f".. _{target}")[1:]:
        name, _, body = part.partition(":\n")
        found[name] = body
    return found


class Wire(SynchronousTestCase):
    """The protocol reference."""

    def test_messages(self) -> None:
        """A part for each, with its fields, who sends it, and its schema."""
        found = parts(wire.messages() + "\n" + wire.lines(), "message-")
        self.assertEqual(list(found), schema.names())
        for name, text in found.items():
            kind = schema.payload_type(name)
            for field in msgspec.structs.fields(kind) if kind else ():
                self.assertIn(f"   * - ``{field.name}``\n", text)
            self.assertIn("x-direction", text)

    def test_row(self) -> None:
        """A field with its type, limit, default and meaning."""
        text = parts(wire.messages(), "message-")["port_acquire"]
        row = text.partition("   * - ``ttl_seconds``\n")[2].splitlines()[:3]
        self.assertEqual(
            row,
            ["     - integer, 0 to 600", "     - ``0``", "     - how long the lease holds; 0: 30"],
        )

    def test_envelope(self) -> None:
        for field in msgspec.structs.fields(Envelope):
            self.assertIn(f"``{field.name}``", wire.envelope())

    def test_codes(self) -> None:
        for each in (*Code, *Cause):
            self.assertIn(f"``{each}``", wire.codes())


class Settings(SynchronousTestCase):
    """The configuration reference."""

    def test_keys(self) -> None:
        """Every key of the file, in its order, with a type and what it means."""
        keys = []
        for key in [k for kind in sections().values() for k in section_keys(kind).values()]:
            entries = section_keys(key.entry, f"{key.name}[]") if key.entry else {}
            keys += [key, *entries.values()]
        self.assertIn("srt.dial[].streamid", [key.name for key in keys])
        keys += section_keys(ClientPolicy, "clients[]").values()
        found = settings.configuration().split(".. confval:: ")[1:]
        self.assertEqual([text.split("\n")[0] for text in found], [key.name for key in keys])
        for text, key in zip(found, keys, strict=True):
            self.assertIn("   :type: ", text)
            self.assertEqual(":default:" in text, key.default is not msgspec.NODEFAULT, text)
            self.assertTrue(key.meta.description)

    def test_default(self) -> None:
        """As the file has it."""
        text = settings.configuration()
        for key, allowed, default in (
            ("data.drain_quiet", "a duration with its unit", "``200ms``"),
            ("data.admission", r"open \| peer \| ticket", "``peer``"),
            ("relay.srt_start_port", "an integer from 1 to 65535", "absent"),
            ("control.endpoints", "a list of texts", "``[]``"),
            ("relay.max_fe", "an integer, 1 or more", "``50``"),
            ("srt.maxbw", "an integer, -1 or more", "``-1``"),
            ("srt.pbkeylen", r"0 \| 16 \| 24 \| 32", "``0``"),
            ("srt.dial", "a list of mappings", "``[]``"),
            ("zmq.brokers[].security", r"null \| plain \| curve", "``null``"),
        ):
            lines = text.partition(f".. confval:: {key}\n")[2].splitlines()
            self.assertIn(allowed, lines[0])
            self.assertEqual(lines[1], f"   :default: {default}")

    def test_secrets(self) -> None:
        for field in msgspec.structs.fields(Secrets):
            self.assertIn(f".. confval:: {field.name}\n", settings.secrets())


class CommandLine(SynchronousTestCase):
    """The command reference."""

    def test_commands(self) -> None:
        """Every command of the group, and those below them, with every option."""
        found = parts(commands.commands(), "command-relayx-")
        self.assertEqual([name for name in found if name in COMMANDS], list(COMMANDS))
        self.assertIn("secret-rotate", found)
        for command, context in commands.walk(
            cli, click.Context(cli, info_name="relayx", **cli.context_settings)
        ):
            if context.parent is None:
                continue
            text = found[context.command_path.partition(" ")[2].replace(" ", "-")]
            for parameter in command.params:
                for option in parameter.opts if isinstance(parameter, click.Option) else ():
                    self.assertIn(option, text)

    def test_gateway(self) -> None:
        self.assertIn(".. option:: -c, --config FILE\n", commands.gateway())


class Pages(SynchronousTestCase):
    """The pages use every part."""

    def test_every_part_is_used(self) -> None:
        """Each public function that takes nothing stands on one page."""
        text = "\n".join(page.read_text() for page in DOCS.glob("*.rst"))
        for part in ("messages", "lines", "envelope", "codes", "configuration", "secrets",
                     "commands", "gateway"):  # fmt: skip
            self.assertEqual(text.count(f".. relayx:: {part}\n"), 1, part)


class Metrics(SynchronousTestCase):
    """The reference of metrics."""

    def test_all(self) -> None:
        """A row for each, those without samples and those of the guide included."""
        text = metrics.metrics()
        for name in (
            *("zmq_msg_duration_seconds", "srt_conn_total", "relay_port_state"),
            *("relayx_session_stall_seconds_total", "relayx_key_expiry_days"),
        ):
            self.assertIn(f"``{name}``", text)
        self.assertIn("``protocol``, ``side``", text)
        self.assertNotIn("process_", text)
