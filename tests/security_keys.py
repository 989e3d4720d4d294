"""Keys for tests, made once, and the messages that they sign."""

from __future__ import annotations

import base64
import functools
import shutil
import subprocess

from relayx.core.codec import Envelope, decode_envelope, encode
from relayx.core.errors import PeerError
from relayx.core.messages import Message, Ping
from relayx.security.keys import KeyType, PrivateKey, VerifyingKey, generate, sign
from relayx.security.signing import Signer, Signing, Verifier

NOW = 1_795_549_346.0
NOW_MS = 1_795_549_346_000
KID = "k1"

NO_OPENSSL = "" if shutil.which("openssl") else "openssl's command line is not installed"


@functools.cache
def key(kind: KeyType = KeyType.P256, number: int = 0) -> PrivateKey:
    """The same key for the same arguments."""
    return generate(kind)


def verifying(private: PrivateKey | None = None, kid: str = KID) -> VerifyingKey:
    """The public half of a key."""
    return VerifyingKey(kid, (private or key()).public_key())


def verifier(*keys: VerifyingKey, signing: Signing = Signing.REQUIRE) -> Verifier:
    """One with these keys, or with that of `KID` alone."""
    return Verifier(keys or [verifying()], signing)


def signed(
    message: Message | None = None,
    *,
    msg_id: str = "m1",
    ts_ms: int = NOW_MS,
    trace_id: str = "t1",
    signer: Signer | None = None,
) -> bytes:
    """A line of the control plane with its signature."""
    line = encode(message or Ping(c_send=7), msg_id=msg_id, ts_ms=ts_ms, trace_id=trace_id)
    return (signer or Signer(KID, key())).sign_line(line)


def signed_text(payload: bytes, canonical: bytes) -> bytes:
    """A message with a payload as it stands, signed over what its canonical form has to be."""
    body = b'{"msg_id":"m1","payload":%b,"trace_id":"","ts_ms":%d,"type":"x"}' % (canonical, NOW_MS)
    signature = base64.b64encode(sign(key(), body))
    return b'{"type":"x","ts_ms":%d,"msg_id":"m1","payload":%b,"sign":"%b","kid":"k1"}' % (
        NOW_MS,
        payload,
        signature,
    )


def check(one: Verifier, raw: bytes, now: float = NOW) -> str:
    """The kid of a message as it came."""
    return one.check(raw, envelope(raw), now)


def envelope(raw: bytes) -> Envelope:
    """Of the same bytes."""
    return decode_envelope(raw)


def refusal(one: Verifier, raw: bytes, now: float = NOW) -> PeerError:
    """The error that a message is refused with."""
    try:
        check(one, raw, now)
    except PeerError as error:
        return error
    raise AssertionError(f"{raw!r} was taken")


def openssl(*words: str, data: bytes = b"") -> bytes:
    """What openssl's command line writes to standard output."""
    done = subprocess.run(["openssl", *words], input=data, capture_output=True, check=False)
    if done.returncode:
        raise AssertionError(f"openssl {' '.join(words)}: {done.stderr.decode()}")
    return done.stdout
