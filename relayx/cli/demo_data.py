"""What the demo sends: parts of a file, or of bytes that it makes as they are needed."""

from __future__ import annotations

import hashlib
import os
import random
from dataclasses import dataclass
from threading import Event
from typing import Protocol

BLOCK = 1024 * 1024
MADE_BYTES = 256 * BLOCK
CHUNK = 256 * 1024


class Source(Protocol):
    """Bytes that can be read from anywhere in them, by more than one at a time.

    :ivar size: how many there are.
    """

    size: int

    def read(self, offset: int, count: int) -> bytes:
        """1 to `count` bytes from `offset` on, b"" past the end."""


class FileSource:
    """The bytes of a file.

    :raises OSError: where it cannot be opened, or is no regular file.
    """

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb")  # noqa: SIM115  closed with the demo
        self.size = self._file.seek(0, os.SEEK_END)

    def read(self, offset: int, count: int) -> bytes:
        """As `Source` has it."""
        return os.pread(self._file.fileno(), count, offset)


class MadeSource:
    """Pseudo-random bytes, always the same, of which only 2 MiB are in memory.

    Each MiB is cut from these at another place, so that no two are alike, and none of them
    can be lost, doubled or changed for another without a change of the digest.
    """

    def __init__(self, size: int = MADE_BYTES) -> None:
        self.size = size
        self._bytes = random.Random(0).randbytes(2 * BLOCK)

    def read(self, offset: int, count: int) -> bytes:
        """As `Source` has it."""
        block, at = divmod(offset, BLOCK)
        count = min(count, BLOCK - at, self.size - offset)
        if count <= 0:
            return b""
        start = block * 4093 % BLOCK + at  # a prime: 2^20 blocks before one comes again
        return self._bytes[start : start + count]


@dataclass(frozen=True)
class Part:
    """What one session carries: `size` bytes from `offset` on."""

    offset: int
    size: int


def parts(size: int, count: int) -> list[Part]:
    """Cut `size` bytes into `count` parts, none more than a byte longer than another."""
    least, longer = divmod(size, count)
    found = []
    offset = 0
    for index in range(count):
        length = least + (index < longer)
        found.append(Part(offset, length))
        offset += length
    return found


def whole_sha256(source: Source, given_up: Event) -> str:
    """SHA-256 of all the bytes of a source, in hex; blocks while it reads.

    :param given_up: nobody wants it any more; what comes then is of no use.
    """
    digest = hashlib.sha256()
    offset = 0
    while not given_up.is_set() and (data := source.read(offset, CHUNK)):
        digest.update(data)
        offset += len(data)
    return digest.hexdigest()
