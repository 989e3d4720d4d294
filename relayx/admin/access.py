"""Who may ask what: the token, and pages of other sites.

A browser on the operator's machine reaches a gateway on loopback, and so does any page that is
open in it. Such a page can send simple requests anywhere, and under a name of its own that
resolves to 127.0.0.1 (DNS rebinding) it can read the answers too. So

* ``Host`` must be an address, ``localhost`` or a name of ``http.hosts``: a name that an
  attacker's DNS answers for is none of them;
* an ``Origin`` must be that host, and ``Sec-Fetch-Site`` must not say that another site asks;
* what changes something needs ``X-Relayx-Request`` or ``Authorization``, which no form can send,
  and for which a script of another site must ask first, and is refused.
"""

from __future__ import annotations

import hmac
import ipaddress
from enum import Enum
from urllib.parse import urlsplit

import msgspec

from relayx.admin.errors import Refusal

MARK = "x-relayx-request"
"""The header that a form cannot send."""

_SAME = ("same-origin", "none")


class Needs(Enum):
    """What a route asks of who asks."""

    NOTHING = "answers everybody"
    NOTHING_BEYOND = "answers everybody beyond loopback, where it is for the network to read"
    TOKEN = "needs the token"
    PAGE = "an empty page, without which no token can be entered"
    CHANGE = "needs the token, and a header that a form cannot send"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What of a request counts here. A header that is not there is None."""

    host: str | None
    origin: str | None
    fetch_site: str | None
    fetch_mode: str | None
    authorization: str | None
    mark: str | None


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one listening address.

    :ivar private: whether it can be reached from this machine alone.
    :ivar token: what is asked for, "" for none.
    :ivar hosts: names by which it is reached.
    """

    private: bool
    token: str
    hosts: tuple[str, ...] = ()

    def check(self, needs: Needs, asked: Asked) -> None:
        """Let a request through.

        :raises Refusal: where it may not be.
        """
        if needs is Needs.NOTHING or (needs is Needs.NOTHING_BEYOND and not self.private):
            return
        self._check_site(needs, asked)
        if needs is Needs.CHANGE and asked.mark is None and asked.authorization is None:
            text = "what changes something needs the header X-Relayx-Request or Authorization"
            raise Refusal(403, "HEADER_REQUIRED", text)
        if needs in (Needs.TOKEN, Needs.CHANGE):
            self._check_token(asked.authorization)

    def _check_site(self, needs: Needs, asked: Asked) -> None:
        if not self._is_ours(asked.host):
            text = "Host is none of ours; allowed: an address, localhost or a name of http.hosts"
            raise Refusal(421, "HOST_REFUSED", text)
        host = (asked.host or "").lower()
        if asked.origin is not None and _authority(asked.origin) != _with_port(host, asked.origin):
            raise Refusal(403, "ORIGIN_REFUSED", "another site asks")
        visited = needs is Needs.PAGE and asked.fetch_mode == "navigate"  # a link leads here
        if asked.fetch_site is not None and asked.fetch_site not in _SAME and not visited:
            raise Refusal(403, "ORIGIN_REFUSED", "another site asks")

    def _is_ours(self, host: str | None) -> bool:
        name = _name(host)
        if name is None:
            return False
        if name == "localhost" or name in self.hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _check_token(self, authorization: str | None) -> None:
        if not self.token:
            if self.private:
                return
            text = "without admin_token in the secret file, this is for loopback alone"
            raise Refusal(403, "TOKEN_NOT_SET", text)
        scheme, _, given = (authorization or "").partition(" ")
        told = given.strip().encode("utf-8", "replace")
        right = hmac.compare_digest(told, self.token.encode("utf-8", "replace"))
        if scheme.lower() != "bearer" or not right:
            text = "the admin_token of the secret file is needed, as Authorization: Bearer"
            challenge = {"WWW-Authenticate": 'Bearer realm="relayx"'}
            raise Refusal(401, "TOKEN_REFUSED", text, headers=challenge)


def _name(host: str | None) -> str | None:
    """The name or address in a Host header, small, without port and brackets; None for none."""
    try:
        parts = urlsplit(f"//{host or ''}")
        _ = parts.port
    except ValueError:
        return None
    if parts.path or parts.query or parts.fragment or parts.username is not None:
        return None
    name = parts.hostname
    return name.rstrip(".") if name else None


def _authority(origin: str) -> str | None:
    """``host:port`` of an origin, the port of its scheme where it has none; None for none."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    return f"{parts.hostname}:{port or _usual(origin)}"


def _with_port(host: str, origin: str) -> str:
    parts = urlsplit(f"//{host}")  # checked before
    return f"{parts.hostname}:{parts.port or _usual(origin)}"


def _usual(origin: str) -> int:
    return 443 if origin.lower().startswith("https:") else 80
