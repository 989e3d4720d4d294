"""Where one TLS record ends and the next begins."""

from __future__ import annotations

_HEADER = 5


class RecordCounter:
    """Counts through a stream of TLS records (RFC 8446 section 5.1), whatever way it is cut.

    A kept BE's bytes between two sessions are thrown away, also those of a record that has only
    come in part when the next session begins.

    :ivar complete: how many records have come as a whole.
    """

    __slots__ = ("_header", "_left", "complete")

    def __init__(self) -> None:
        self._header = b""
        self._left = 0
        self.complete = 0

    @property
    def inside(self) -> bool:
        """Whether a record has come in part."""
        return bool(self._header) or self._left > 0

    def rest(self, data: bytes) -> int:
        """How many bytes at the front of `data` are of the record that has come in part."""
        if not self._header:
            return min(self._left, len(data))
        missing = _HEADER - len(self._header)
        header = self._header + data[:missing]
        if len(header) < _HEADER:
            return len(data)
        return min(missing + int.from_bytes(header[3:], "big"), len(data))

    def feed(self, data: bytes) -> None:
        """Bytes of the stream, the next ones."""
        at, size = 0, len(data)
        while at < size:
            if self._left:
                step = min(self._left, size - at)
                self._left -= step
                at += step
                self.complete += not self._left
                continue
            missing = _HEADER - len(self._header)
            self._header += data[at : at + missing]
            at += missing
            if len(self._header) == _HEADER:
                self._left = int.from_bytes(self._header[3:], "big")
                self._header = b""
                self.complete += not self._left
