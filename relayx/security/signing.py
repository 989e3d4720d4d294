"""Signatures of control messages (contract sections 2 and 3, guide section 4.5).

What is signed is the canonical JSON of an object with the ``type``, ``payload``, ``msg_id``,
``ts_ms`` and ``trace_id`` of a message as it was sent (:mod:`relayx.security.canonical`), absent
ones being null, "", 0 and "". ``sign`` is the signature in base64 (RFC 4648 section 4, padded)
and ``kid`` the name of the key.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any, NoReturn

import msgspec

from relayx.core.codec import Envelope, shown
from relayx.core.errors import Code, PeerError
from relayx.security.canonical import CanonicalError, canonical, parse
from relayx.security.keys import (
    ANY_KID,
    PrivateKey,
    VerifyingKey,
    checked_kid,
    fingerprint,
    matches,
    sign,
)
from relayx.security.policy import OnExpired, Signing
from relayx.security.replay import MOST_PER_KEY, WINDOW_MS, ReplayTable, Seen
from relayx.security.times import utc

__all__ = ["OnExpired", "Signer", "Signing", "Verifier", "VerifyingKey", "signed_bytes"]

_MOST_SIGN = 1024
"""Characters of ``sign``; the longest, of RSA with 4096 bits, has 684."""


def signed_bytes(document: dict[str, Any]) -> bytes:
    """What the signature of a message is over.

    :param document: the message, of :func:`relayx.security.canonical.parse`.
    :raises CanonicalError: where that has no canonical form.
    """
    return canonical(
        {
            "type": document.get("type", ""),
            "payload": document.get("payload"),
            "msg_id": document.get("msg_id", ""),
            "ts_ms": document.get("ts_ms", 0),
            "trace_id": document.get("trace_id", ""),
        }
    )


class Signer:
    """Signs what is sent, with one key.

    :param kid: the key's name, for those who verify.
    :param expires: seconds since the epoch, None: never.
    :param on_expired: with `REJECT`, messages of a later time than `expires` stay unsigned.
    :raises ValueError: where `kid` cannot name a key.
    """

    def __init__(
        self,
        kid: str,
        private_key: PrivateKey,
        expires: float | None = None,
        on_expired: OnExpired = OnExpired.WARN,
    ) -> None:
        self.kid = checked_kid(kid)
        self.expires = expires
        self._key = private_key
        rejects = expires is not None and on_expired is OnExpired.REJECT
        self._until_ms = expires * 1000 if rejects and expires is not None else None

    def sign_line(self, line: bytes) -> bytes:
        """A message with ``sign`` and ``kid`` added, every other byte as it was.

        :param line: one line of :func:`relayx.core.codec.encode`, with ``msg_id`` and ``ts_ms``,
            without which nobody takes a signed message.
        :raises ValueError: where it is not such a line, or has a ``sign`` or ``kid`` already.
        """
        try:
            document = parse(line)
            body = signed_bytes(document)
        except (CanonicalError, AttributeError) as error:
            raise ValueError(f"not a message that can be signed: {error}") from None
        if not line.endswith(b"}\n") or "type" not in document:
            raise ValueError("not a line of the control plane")
        if "sign" in document or "kid" in document:
            raise ValueError("the message is signed already")
        if self._until_ms is not None and document.get("ts_ms", 0) >= self._until_ms:
            return line
        signature = base64.b64encode(sign(self._key, body))
        return b'%b,"sign":"%b","kid":"%b"}\n' % (line[:-2], signature, self.kid.encode())


class _Known(msgspec.Struct, frozen=True):
    key: VerifyingKey
    fingerprint: bytes


class Verifier:
    """Verifies what is received, each message once.

    :param keys: by whom messages may be signed. A key of the kid `ANY_KID` stands for every kid
        that has none of its own.
    :param most_per_key: most messages of one key inside the clock's window.
    """

    def __init__(
        self,
        keys: Iterable[VerifyingKey],
        signing: Signing,
        on_expired: OnExpired = OnExpired.WARN,
        *,
        most_per_key: int = MOST_PER_KEY,
    ) -> None:
        self.signing = signing
        self.on_expired = on_expired
        self._most = most_per_key
        self._replays = ReplayTable(most_per_key)
        self._keys: dict[str, _Known] = {}
        self.replace(keys)

    def fresh(self) -> Verifier:
        """One with the same keys that has seen nothing yet.

        Each client of a process needs its own: a broadcast reaches all of them with one msg_id.
        """
        keys = [known.key for known in self._keys.values()]
        return Verifier(keys, self.signing, self.on_expired, most_per_key=self._most)

    def replace(self, keys: Iterable[VerifyingKey]) -> None:
        """Verify with these keys from now on. What was seen already stays seen."""
        self._keys = {key.kid: _Known(key, fingerprint(key.public_key)) for key in keys}

    def check(self, raw: bytes, envelope: Envelope, now: float) -> str:
        """The kid that a message is signed with; "" where it is not and need not be.

        :param raw: the message as it was received.
        :param envelope: of the same bytes.
        :param now: seconds since the epoch.
        :raises PeerError: ``SIGNATURE_INVALID`` where the signature is missing, is wrong, is of
            an unknown or expired key, or is of a time outside the window; ``REPLAYED`` where the
            key has signed this ``msg_id`` inside the window; ``RATE_LIMITED`` where it has
            signed too many.
        """
        if self.signing is Signing.OFF:
            return ""
        if not envelope.sign and not envelope.kid:
            if self.signing is Signing.ACCEPT:
                return ""
            _refuse(envelope, "the message is not signed; allowed: messages with sign and kid")
        known = self._known(envelope, now)
        now_ms = round(now * 1000)
        _check_clock(envelope, now_ms)
        signature = _signature(envelope)
        try:
            body = signed_bytes(parse(raw))
        except CanonicalError as error:
            _refuse(envelope, f"the message cannot be verified: {error}; allowed: I-JSON")
        if not matches(known.key.public_key, signature, body):
            _refuse(
                envelope,
                f"sign is not the signature of this message by key {shown(envelope.kid)}; allowed:"
                " that of the RFC 8785 JSON of type, payload, msg_id, ts_ms and trace_id",
            )
        self._check_new(envelope, known, now_ms)
        return envelope.kid

    def _known(self, envelope: Envelope, now: float) -> _Known:
        if not envelope.kid:
            _refuse(envelope, "sign without kid; allowed: kid, the name of the key, beside it")
        if not envelope.sign:
            _refuse(envelope, "kid without sign; allowed: sign, the signature, beside it")
        if not envelope.msg_id:
            _refuse(envelope, "a signed message without msg_id; allowed: one of its own in each")
        known = self._keys.get(envelope.kid) if envelope.kid != ANY_KID else None
        known = known or self._keys.get(ANY_KID)
        if known is None:
            _refuse(
                envelope,
                f"key {shown(envelope.kid)} is not known here; allowed: the kid of a key whose"
                " public half was given to this side",
            )
        expires = known.key.expires
        if self.on_expired is OnExpired.REJECT and expires is not None and now >= expires:
            _refuse(
                envelope,
                f"key {shown(envelope.kid)} expired at {utc(expires)}, and it is {utc(now)};"
                " allowed: a key that has not",
            )
        return known

    def _check_new(self, envelope: Envelope, known: _Known, now_ms: int) -> None:
        seen = self._replays.enter(known.fingerprint, envelope.msg_id, envelope.ts_ms, now_ms)
        if seen is Seen.AGAIN:
            text = (
                f"msg_id {shown(envelope.msg_id)} was signed by key {shown(envelope.kid)} before;"
                " allowed: a new msg_id in each message"
            )
            _refuse(envelope, text, Code.REPLAYED)
        if seen is Seen.FULL:
            text = (
                f"key {shown(envelope.kid)} has signed too many messages in the last"
                f" {WINDOW_MS // 1000} s; allowed: fewer, or more keys"
            )
            _refuse(envelope, text, Code.RATE_LIMITED)
        if seen is Seen.FORGOTTEN:
            _refuse(
                envelope,
                "the clock here was set back, so whether the message is new cannot be told;"
                " allowed: messages of a later time",
            )


def _check_clock(envelope: Envelope, now_ms: int) -> None:
    if abs(now_ms - envelope.ts_ms) > WINDOW_MS:
        _refuse(
            envelope,
            f"ts_ms is {envelope.ts_ms}, and the clock here is at {now_ms}, which is"
            f" {abs(now_ms - envelope.ts_ms)} ms apart; allowed: {WINDOW_MS} ms either way",
        )


def _signature(envelope: Envelope) -> bytes:
    """The bytes of ``sign``, in the one spelling that each signature has."""
    signature = b""
    if len(envelope.sign) <= _MOST_SIGN:
        try:
            signature = base64.b64decode(envelope.sign, validate=True)
        except ValueError:
            pass
    if base64.b64encode(signature).decode() != envelope.sign:
        _refuse(envelope, "sign is not base64; allowed: A-Z a-z 0-9 + / padded with =")
    return signature


def _refuse(envelope: Envelope, text: str, code: Code = Code.SIGNATURE_INVALID) -> NoReturn:
    raise PeerError(code, text, msg_id=envelope.msg_id, trace_id=envelope.trace_id)
