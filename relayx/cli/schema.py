"""``relayx schema``: the JSON Schema of what is on the wire."""

from __future__ import annotations

import json

import click

from relayx.schema import message_schema, names, wire_schema


@click.command()
@click.option(
    "--message",
    metavar="NAME",
    type=click.Choice(names()),
    help="Of one message alone, such as register, or of one line of a data connection,"
    " such as RLX1HELLO.",
)
def command(message: str | None) -> None:
    """Print the JSON Schema (2020-12) of the control plane's messages.

    Valid is any one message, of either direction; '$defs' has one definition of each, with who
    sends it under 'x-direction', and those of the JSON objects in the lines that open a data
    connection.
    """
    schema = message_schema(message) if message else wire_schema()
    click.echo(json.dumps(schema, indent=2, ensure_ascii=False))
