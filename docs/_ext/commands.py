"""The command reference: every command with its arguments and options, as its help has them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from relayx.cli.__main__ import cli
from relayx.tap import Options

from . import rst


def commands() -> str:
    """``relayx`` and all below it."""
    top = click.Context(cli, info_name="relayx", **cli.context_settings)
    return "\n".join(line for found in walk(cli, top) for line in _command(*found, top))


def gateway() -> str:
    """What ``twistd relayx`` takes besides twistd's own options."""
    found = [*_program("twistd relayx"), rst.escaped(Options.longdesc), ""]
    for long, short, _default, text in Options.optParameters:
        names = f"-{short}, --{long}" if short else f"--{long}"
        found += _option(f"{names} FILE", str(text))
    return "\n".join(found)


def walk(
    command: click.Command, context: click.Context
) -> Iterator[tuple[click.Command, click.Context]]:
    """A command and all below it, each with its context."""
    yield command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from walk(inner, click.Context(inner, info_name=name, parent=context))


def _command(command: click.Command, context: click.Context, top: click.Context) -> Iterator[str]:
    path = context.command_path
    if context is not top:
        underline = "-" if context.parent is top else "~"
        yield from rst.heading(path, f"command-{path.replace(' ', '-')}", underline)
    yield from _program(path)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    yield from (".. code-block:: text", "", f"   {usage}", "")
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        yield from (rst.escaped(" ".join(paragraph.split())), "")
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and "--help" not in parameter.opts:
            yield from _option(*record)


def _program(path: str) -> Iterator[str]:
    yield from (f".. program:: {path}", "")


def _option(names: str, text: str) -> Iterator[str]:
    yield from (f".. option:: {names}", "", f"   {rst.escaped(text)}", "")
