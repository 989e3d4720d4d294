"""What ``relayx send`` and ``relayx recv`` tell each other and the person who runs them.

The sender's bytes are the session's, from its first to the end of the stream. The receiver
answers with one JSON line, the receipt, and then ends its own direction.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

import msgspec

MOST_ANSWER = 4096
"""Bytes; what is longer is no receipt."""


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the receiver has, for good. `sha256` is in hex."""

    bytes: int
    sha256: str


def encode_receipt(receipt: Receipt) -> bytes:
    """The line that says `receipt`, newline included."""
    return msgspec.json.encode(receipt) + b"\n"


def decode_receipt(answer: bytes) -> Receipt | None:
    """The receipt that the whole of an answer is; None where it is something else."""
    if len(answer) > MOST_ANSWER or not answer.endswith(b"\n"):
        return None
    try:
        return msgspec.json.decode(answer, type=Receipt)
    except msgspec.DecodeError:
        return None


class Tally:
    """Counts bytes, their SHA-256 and the seconds since it was made.

    :param clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.bytes = 0
        self._sha256 = hashlib.sha256()
        self._clock = clock
        self._since = clock()

    def add(self, data: bytes) -> None:
        """Count these bytes."""
        self.bytes += len(data)
        self._sha256.update(data)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return self._clock() - self._since

    @property
    def receipt(self) -> Receipt:
        """What has been counted so far."""
        return Receipt(self.bytes, self._sha256.hexdigest())

    def summary(self) -> str:
        """Bytes, seconds and rate on one line, SHA-256 on the next."""
        seconds = self.seconds
        rate = self.bytes / seconds / 1e6 if seconds else 0.0
        return (
            f"{self.bytes} bytes in {seconds:.3f} s, {rate:.1f} MB/s\n"
            f"sha256 {self._sha256.hexdigest()}"
        )
