"""The admin API, for the commands that speak it: its options, and one request at a time."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import click
import msgspec
from OpenSSL import SSL
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, TimeoutError
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    HTTPConnectionPool,
    ResponseFailed,
    readBody,
)
from twisted.web.http_headers import Headers

from relayx.admin.access import MARK
from relayx.admin.model import Failed as Refused
from relayx.cli.options import duration
from relayx.cli.running import Failed, reason, say
from relayx.cli.sources import env_file_option
from relayx.config.faults import ConfigError
from relayx.config.load import Environment, locate
from relayx.config.secretfile import is_placeholder, read_secrets
from relayx.net.address import is_loopback

TOKEN_VARIABLE = "RELAYX_ADMIN_TOKEN"
DEFAULT_ADMIN = "http://127.0.0.1:8080"
MOST_BYTES = 16 * 1024 * 1024

T = TypeVar("T")
Command = Callable[..., Any]


@dataclass(frozen=True)
class Admin:
    """Which gateway's admin API a command speaks to.

    :ivar url: without a path.
    :ivar token: "" for none.
    :ivar ca: PEM file, None for the system's CAs.
    :ivar timeout: seconds that one request may take.
    """

    url: str
    token: str
    ca: str | None
    timeout: float

    def __repr__(self) -> str:
        return f"Admin({self.url!r}, token={'<set>' if self.token else ''!r})"


class AdminClient:
    """Asks the admin API.

    :param reactor: an IReactorTCP and IReactorTime.
    :raises Failed: where the CA file cannot be used.
    """

    def __init__(self, reactor: Any, admin: Admin) -> None:
        self._reactor = reactor
        self._admin = admin
        self._pool = HTTPConnectionPool(reactor)
        policy = BrowserLikePolicyForHTTPS(_trusted(admin.ca))
        self._agent = Agent(reactor, policy, connectTimeout=admin.timeout, pool=self._pool)

    async def ask(self, method: str, path: str, wanted: type[T]) -> T:
        """One request.

        :raises Failed: where there is no such answer, in words for a person.
        """
        url = self._admin.url
        headers = {"accept": ["application/json"], MARK: ["1"]}
        if self._admin.token:
            headers["authorization"] = [f"Bearer {self._admin.token}"]
        try:
            asked = self._agent.request(
                method.encode(), (url + path).encode(), Headers(headers), None
            )
            response: Any = await asked.addTimeout(self._admin.timeout, self._reactor, _too_late)
            if isinstance(response.length, int) and response.length > MOST_BYTES:
                raise Failed(f"{url}: the answer is too long")
            read = readBody(response)
            body = await read.addTimeout(self._admin.timeout, self._reactor, _too_late)
        except CancelledError:
            raise
        except TimeoutError:
            raise Failed(f"{url} did not answer within {self._admin.timeout:g} s") from None
        except ResponseFailed as error:
            why = "; ".join(_why(failure.value, url) for failure in error.reasons)
            raise Failed(f"{url}: {why}") from None
        except (ConnectError, OSError) as error:
            raise Failed(f"{url} cannot be reached: {reason(error)}") from None
        return self._decode(response.code, body, wanted)

    def _decode(self, status: int, body: bytes, wanted: type[T]) -> T:
        url = self._admin.url
        try:
            if status < 300:
                return msgspec.json.decode(body, type=wanted)
            refused = msgspec.json.decode(body, type=Refused)
        except msgspec.MsgspecError:
            raise Failed(f"{url} is no relayx admin API, it answered {status}") from None
        if status == 401:
            have = "the admin_token is not the right one" if self._admin.token else "no admin_token"
            raise Failed(f"{url}: {have}; set {TOKEN_VARIABLE} or give its secret file")
        raise Failed("\n".join([f"{url}: {refused.error}", *refused.problems]))

    async def close(self) -> None:
        """Close the connections that are kept."""
        await self._pool.closeCachedConnections()


def _why(error: BaseException, url: str) -> str:
    """Why there was no answer, and what to do where that is known."""
    if isinstance(error, VerificationError):
        return f"its certificate is not for {urlsplit(url).hostname}: use a name that is in it"
    if isinstance(error, SSL.Error):
        queue = error.args[0] if error.args else ()
        text = "; ".join(entry[-1] for entry in queue if isinstance(entry, tuple))
        if "certificate verify failed" in text:
            return "its certificate is not to be trusted; --ca names the CA that signed it"
        return f"TLS failed: {text or 'for no reason that OpenSSL tells'}"
    if isinstance(error, ConnectionClosed) and url.startswith("http:"):
        return f"{reason(error)} Where http.endpoint is ssl:, say https://"
    return reason(error)


def _too_late(result: object, seconds: float) -> NoReturn:
    """Whatever comes of giving up."""
    raise TimeoutError(seconds)


def _trusted(path: str | None) -> Any:
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            return trustRootFromCertificates([Certificate.loadPEM(file.read())])
    except OSError as error:
        raise Failed(f"--ca: {reason(error)}") from None
    except Exception:  # of OpenSSL, which has no common one
        raise Failed(f"--ca: {path} is no certificate in PEM") from None


def admin_options(command: Command) -> Command:
    """Give a command the options of the admin API; it gets them as one `admin`."""

    @functools.wraps(command)
    def with_admin(
        admin: str, env_file: str | None, ca: str | None, timeout: float, **others: Any
    ) -> Any:
        url = _url(admin)
        token = find_token(env_file)
        parts = urlsplit(url)
        here = parts.hostname == "localhost" or is_loopback(parts.hostname or "")
        if token and parts.scheme == "http" and not here:
            say(f"warning: the admin_token goes to {url} without TLS")
        return command(admin=Admin(url, token, ca, timeout), **others)

    given: Command = with_admin
    for option in (
        click.option(
            "--timeout",
            type=duration,
            default="10s",
            show_default=True,
            help="How long one request may take.",
        ),
        click.option(
            "--ca",
            metavar="FILE",
            envvar="RELAYX_CA",
            show_envvar=True,
            help="PEM file of the CA that signed the gateway's certificate, for https.",
        ),
        env_file_option,
        click.option(
            "--admin",
            metavar="URL",
            envvar="RELAYX_ADMIN",
            default=DEFAULT_ADMIN,
            show_default=True,
            show_envvar=True,
            help="The gateway's http.endpoint.",
        ),
    ):
        given = option(given)
    return given


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        _ = parts.port
        sound = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        sound = False
    if not sound or parts.path not in ("", "/") or parts.query or parts.username is not None:
        raise click.BadParameter(
            f"{text!r} is not http://HOST:PORT or https://HOST:PORT", param_hint="--admin"
        )
    return f"{parts.scheme}://{parts.netloc}"


def find_token(env_file: str | None) -> str:
    """The token from RELAYX_ADMIN_TOKEN, or of the secret file where there is one, else ""."""
    token = os.environ.get(TOKEN_VARIABLE, "")
    if token:
        return token
    try:
        sources = locate(os.environ, None, env_file)
        if env_file is None and not os.path.exists(sources.secrets):
            return ""
        prod = sources.environment is Environment.PROD
        found, faults, _ = read_secrets(sources.secrets, prod=prod)
    except ConfigError as error:
        raise Failed(f"no token: {error}; or set {TOKEN_VARIABLE}") from None
    if any(fault.key == "admin_token" for fault in faults):
        raise Failed("the secret file is not valid\n" + "\n".join(map(str, faults)))
    return "" if is_placeholder(found.admin_token) else found.admin_token
