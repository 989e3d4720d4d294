"""The options that every client command has, and the types of their values (contract section 1)."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
from click.core import ParameterSource

from relayx.cli.running import Failed, say
from relayx.cli.sources import env_file_option
from relayx.cli.trust import TRUST_OPTIONS, find_trust
from relayx.client import ClientTls, Gateway, TlsFailed
from relayx.client.gateway import DEFAULT_PORT
from relayx.config.durations import EXAMPLES, DurationError, parse_duration
from relayx.config.faults import ConfigError
from relayx.config.keys import LONGEST
from relayx.config.load import Environment, locate
from relayx.config.model import Secrets
from relayx.config.secretfile import is_placeholder, read_secrets
from relayx.core.codec import is_client_id
from relayx.core.hello import SERVICE, SERVICE_ALLOWED
from relayx.core.messages import Protocol

SECRET_VARIABLE = "RELAYX_SECRET"

Command = Callable[..., Any]


@dataclass(frozen=True)
class Target:
    """Which gateway a command talks to, and as whom.

    :ivar client_id: "" lets the gateway choose.
    :ivar connect_timeout: seconds within which the first connection must be had.
    :ivar verbose: how much of the log to show, 0 to 2.
    """

    gateway: Gateway
    client_id: str
    connect_timeout: float
    verbose: int


def duration(text: str) -> float:
    """Seconds of a Go style duration: ``500ms``, ``2s``, ``1m30s``."""
    try:
        seconds = parse_duration(text)
    except DurationError as error:
        raise click.BadParameter(f"{text!r} {error}; allowed: {EXAMPLES}") from None
    if not 0 <= seconds <= LONGEST:
        limits = f"0s to {LONGEST // 3600}h"
        raise click.BadParameter(f"{text!r} is out of range; allowed: {limits}")
    return seconds


def service_name(text: str) -> str:
    """A service's name (contract, words)."""
    if not SERVICE.fullmatch(text):
        raise click.BadParameter(f"{text!r} is no service's name; allowed: {SERVICE_ALLOWED}")
    return text


def client_name(text: str) -> str:
    """A client's id (contract section 2)."""
    if not is_client_id(text):
        raise click.BadParameter(f"{text!r} is no id; allowed: up to 128 printable characters")
    return text


def address(text: str) -> tuple[str, int]:
    """``HOST:PORT``, an IPv6 address in brackets."""
    return _address(text, "HOST:PORT", "", 1)


def listen_address(text: str) -> tuple[str, int]:
    """``[HOST:]PORT``; on loopback where no host is named, port 0 for any free one."""
    return _address(text, "[HOST:]PORT", "127.0.0.1", 0)


def _address(text: str, form: str, default_host: str, least: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon:
        host = default_host
    elif host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise click.BadParameter(f"{text!r} is not {form}; an IPv6 address stands in brackets")
    if not host or not (port.isascii() and port.isdigit()):
        raise click.BadParameter(f"{text!r} is not {form}")
    if not least <= int(port) <= 65535:
        raise click.BadParameter(f"port {port} is out of range; allowed: {least} to 65535")
    return host, int(port)


def service_option(command: Command) -> Command:
    """Give a command ``--service``."""
    return click.option(
        "--service", type=service_name, default="", help="Name of the service; none by default."
    )(command)


def protocol_option(command: Command) -> Command:
    """Give a command ``--protocol``."""
    return click.option(
        "--protocol",
        type=click.Choice([str(protocol) for protocol in Protocol]),
        default=str(Protocol.ZMQ),
        show_default=True,
        help="Which kind of port to use.",
    )(command)


def client_tls(
    *,
    tls: bool,
    data_tls: bool,
    ca: str | None,
    cert: str | None,
    key: str | None,
    server_name: str | None,
) -> ClientTls | None:
    """What the options say about TLS; None where none is asked for.

    :raises click.UsageError: for those that do not go together.
    :raises Failed: where a file cannot be used.
    """
    if key is not None and cert is None:
        raise click.UsageError("--key is of no use without --cert, the certificate of that key")
    if not (tls or data_tls):
        told = {"--ca": ca, "--cert": cert, "--key": key, "--server-name": server_name}
        context = click.get_current_context()
        for option, value in told.items():
            name = option.removeprefix("--").replace("-", "_")
            typed = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
            if value is not None and typed:  # one of the environment may be meant for others
                raise click.UsageError(f"{option} is of no use without --tls or --data-tls")
        return None
    found = ClientTls(ca, cert, key, server_name)
    try:
        found.check()
    except TlsFailed as error:
        raise Failed(str(error)) from None
    return found


def gateway_options(command: Command) -> Command:
    """Give a command the options of a client; it gets them as one `target`."""

    @functools.wraps(command)
    def with_target(
        gateway: str,
        client_id: str,
        env_file: str | None,
        sign_with: str | None,
        gateway_keys: str | None,
        connect_timeout: float,
        verbose: int,
        tls: bool,
        data_tls: bool,
        ca: str | None,
        cert: str | None,
        key: str | None,
        server_name: str | None,
        **others: Any,
    ) -> Any:
        try:
            named = Gateway.parse(gateway, "")
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--gateway") from None
        secured = client_tls(
            tls=tls, data_tls=data_tls, ca=ca, cert=cert, key=key, server_name=server_name
        )
        secrets = find_secrets(env_file)
        where = Gateway(
            named.host,
            named.port,
            secrets.auth_secret,
            find_trust(sign_with, gateway_keys, secrets.relay_public_key),
            tls=secured if tls else None,
            data_tls=secured if data_tls and secured else False,
        )
        return command(target=Target(where, client_id, connect_timeout, verbose), **others)

    given: Command = with_target
    for option in reversed(_OPTIONS):
        given = option(given)
    return given


_OPTIONS: list[Callable[[Command], Command]] = [
    click.option(
        "--gateway",
        metavar="HOST[:PORT]",
        envvar="RELAYX_GATEWAY",
        default=f"127.0.0.1:{DEFAULT_PORT}",
        show_default=True,
        show_envvar=True,
        help=f"The gateway's control port, {DEFAULT_PORT} unless given.",
    ),
    click.option(
        "--client-id",
        type=client_name,
        default="",
        help="What to be called; the gateway chooses by default."
        " A client that has the same id already is replaced.",
    ),
    env_file_option,
    *TRUST_OPTIONS,
    click.option(
        "--tls",
        is_flag=True,
        envvar="RELAYX_TLS",
        show_envvar=True,
        help="TLS on the control connection. The gateway's certificate must be for HOST.",
    ),
    click.option(
        "--data-tls",
        is_flag=True,
        envvar="RELAYX_DATA_TLS",
        show_envvar=True,
        help="TLS on data connections.",
    ),
    click.option(
        "--ca",
        metavar="FILE",
        envvar="RELAYX_CA",
        show_envvar=True,
        help="PEM file of the CA that signed the gateway's certificate;"
        " those that the system trusts by default.",
    ),
    click.option(
        "--cert",
        metavar="FILE",
        envvar="RELAYX_CERT",
        show_envvar=True,
        help="PEM file of our certificate, for a gateway that asks for one.",
    ),
    click.option(
        "--key",
        metavar="FILE",
        envvar="RELAYX_KEY",
        show_envvar=True,
        help="PEM file of its private key; --cert by default.",
    ),
    click.option(
        "--server-name",
        metavar="NAME",
        help="The name that the gateway's certificate is for, where that is not HOST.",
    ),
    click.option(
        "--connect-timeout",
        type=duration,
        default="3s",
        envvar="RELAYX_CONNECT_TIMEOUT",
        show_default=True,
        show_envvar=True,
        help="How long to try for the first connection.",
    ),
    click.option(
        "-v", "--verbose", count=True, help="Log to stderr what the client does; -vv: all of it."
    ),
]


def find_secrets(env_file: str | None) -> Secrets:
    """The secret from RELAYX_SECRET alone, or else what the secret file holds.

    :raises Failed: where there is none.
    """
    secret = os.environ.get(SECRET_VARIABLE, "")
    if secret:
        return Secrets(secret)
    try:
        sources = locate(os.environ, None, env_file)
        prod = sources.environment is Environment.PROD
        found, faults, warnings = read_secrets(sources.secrets, prod=prod)
    except ConfigError as error:
        raise Failed(f"no secret: {error}; or set {SECRET_VARIABLE}") from None
    if faults:
        raise Failed("the secret file is not valid\n" + "\n".join(map(str, faults)))
    for warning in warnings:
        say(f"warning: {warning}")
    return found if not is_placeholder(found.relay_public_key) else Secrets(found.auth_secret)
