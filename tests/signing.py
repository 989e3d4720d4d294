"""A gateway with signed control messages, for tests: its keys, a client's, who signs by them."""

from __future__ import annotations

import functools
import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.internet import reactor, threads
from twisted.internet.defer import inlineCallbacks

from relayx.security.keydir import signing_key, verifying_keys
from relayx.security.keyring import add_key
from relayx.security.keys import KeyType
from relayx.security.signing import Signer
from relayx.testing import LocalGateway
from tests.guide_peer import Control, message

GATEWAY, FE = "gw-1", "fe-1"


class KeyFiles:
    """Key directories below one directory: the gateway's, a client's, and whom it trusts."""

    def __init__(self, where: str, kind: KeyType = KeyType.P256) -> None:
        self.where = Path(where)
        self.gateway, self.client, self.trusted = (
            str(self.where / name) for name in ("gateway", "client", "trusted")
        )
        add_key(self.gateway, kind, 90, time.time(), GATEWAY)
        add_key(self.client, kind, 90, time.time(), FE)
        Path(self.trusted).mkdir()
        self.trust(FE)

    def trust(self, kid: str) -> None:
        """Have the gateway trust a key of the client's directory."""
        public = Path(self.client, f"{kid}.pub").read_bytes()
        Path(self.trusted, f"{kid}.pub").write_bytes(public)

    def section(self, signing: str, **keys: Any) -> dict[str, Any]:
        """Section ``security``."""
        return {"signing": signing, "keys": self.gateway, "trusted_keys": self.trusted, **keys}

    def signer(self) -> Signer:
        """What the client signs with."""
        key = signing_key(self.client)
        return Signer(key.kid, key.private_key)

    @property
    def public(self) -> Any:
        """The gateway's public keys."""
        return verifying_keys(self.gateway)


def envelope(kind: str, payload: Any = None, *, ago: float = 0.0, **fields: Any) -> dict[str, Any]:
    """An unsigned message with an id and a time, `ago` seconds in the past."""
    now = int((time.time() - ago) * 1000)
    whole = {"type": kind, "payload": payload, "msg_id": f"{uuid.uuid4()}-{now}", "ts_ms": now}
    return {**whole, **fields}


def signed(signer: Signer, kind: str, payload: Any = None, **fields: Any) -> bytes:
    """A signed message as bytes."""
    line = json.dumps(envelope(kind, payload, **fields), separators=(",", ":"))
    return signer.sign_line(line.encode() + b"\n")


def signing_gateway(
    signing: str, kind: KeyType = KeyType.P256, **keys: Any
) -> Callable[[Callable[..., None]], Callable[[Any], Any]]:
    """Run a test in a thread, with a gateway and its :class:`KeyFiles` as arguments."""

    def decorate(scenario: Callable[..., None]) -> Callable[[Any], Any]:
        @functools.wraps(scenario)
        @inlineCallbacks
        def run(case: Any) -> Iterator[Any]:
            files = KeyFiles(case.mktemp(), kind)
            local = LocalGateway(reactor, security=files.section(signing, **keys))
            local.start()
            try:
                yield threads.deferToThread(scenario, case, local, files)
            finally:
                yield local.stop()

        return run

    return decorate


class SigningControl(Control):
    """A control connection of which each message may be signed."""

    signer: Signer

    def say_signed(self, kind: str, payload: Any = None, **fields: Any) -> None:
        """Send one signed message."""
        self.send(signed(self.signer, kind, payload, **fields))

    def answer_to(self, data: bytes) -> dict[str, Any]:
        """Send bytes, and read one message."""
        self.send(data)
        return self.read()


__all__ = [
    "FE", "GATEWAY", "KeyFiles", "SigningControl", "envelope", "message", "signed",
    "signing_gateway",
]  # fmt: skip
