"""Messages and commands behind the handshake, counted without looking at their content.

A frame is its flags, its size in one byte or eight, and as many bytes (RFC 37, Framing). Traffic
is mostly many messages of one size. Where some in a row were, the same is expected of those that
follow, which says where their headers would be: these are all compared at once, byte by byte of
the header in strides through the segment, and the first that differs is read by itself again.
"""

from __future__ import annotations

import struct

from relayx.zmtp.commands import name_of, read_error
from relayx.zmtp.errors import Fault, ZmtpError, malformed
from relayx.zmtp.events import Command, Event, Message

MORE, LONG, COMMAND = 1, 2, 4
MAX_FRAME = 2**63 - 1
"""The most bytes in a frame that the RFC allows."""

_LONG_SIZE = struct.Struct(">Q")
_KEPT = 7 + 255
"""Bytes kept of a command: any name, and any reason of an ERROR."""
_ALIKE = 3
"""Messages of one size in a row after which the same is expected of those that follow."""
_WRONG = -16
"""Where counting those starts again after an expectation that did not hold."""


def check_flags(flags: int) -> None:
    """
    :raises ZmtpError: these are not the flags of a frame.
    """
    if flags > 7 or flags in (COMMAND | MORE, COMMAND | MORE | LONG):
        raise malformed(f"a frame with flags 0x{flags:02x}; allowed are 0 to 3, 4 and 6")


def header_bytes(flags: int) -> int:
    """How many bytes stand before a frame's content."""
    return 9 if flags & LONG else 2


def size_in(header: bytes | bytearray) -> int:
    """The size in a whole header.

    :raises ZmtpError: it is past what the RFC allows.
    """
    size = int.from_bytes(header[1:], "big")
    if size > MAX_FRAME:
        raise malformed(f"a frame of {size} bytes; {MAX_FRAME} is most")
    return size


class Traffic:
    """Follows one direction behind its handshake.

    :param max_message: the most bytes in a message, all its frames together, and in a command.
    :param opaque: whether all of it is encrypted, and MESSAGE commands are messages (RFC 25).
    :ivar messages: whole messages so far.
    :ivar message_bytes: content of all their frames.
    """

    __slots__ = (
        "_command",
        "_flags",
        "_header",
        "_held",
        "_left",
        "_limit",
        "_opaque",
        "_parts",
        "_size",
        "message_bytes",
        "messages",
    )

    def __init__(self, max_message: int = MAX_FRAME, opaque: bool = False) -> None:
        self.messages = 0
        self.message_bytes = 0
        self._limit = min(max_message, MAX_FRAME)
        self._opaque = opaque
        self._header = b""  # of a frame whose header is not whole yet
        self._flags = 0  # of the frame under way
        self._size = 0  # of the frame under way
        self._left = 0  # bytes to come of the frame under way
        self._command = bytearray()  # the start of the command under way
        self._parts = 0  # whole frames of the message under way
        self._held = 0  # bytes in those

    def read(self, data: bytes | memoryview, pos: int, out: list[Event] | None) -> None:
        """Take the bytes from `pos` on.

        :param out: what it gets to know goes here; None wants nothing but the counts.
        :raises ZmtpError: what comes is no frame, or a message is over the limit.
        """
        end = len(data)
        if self._left or self._header or self._parts:
            pos = self._read_carefully(data, pos, end, out)
        limit, unpack = self._limit, _LONG_SIZE.unpack_from
        messages = total = alike = 0
        last_size = last_parts = -1
        try:
            # Messages that are whole in this segment; whatever is not is left to another method.
            while pos < end:
                flags = data[pos]
                parts = 1
                if flags == LONG:
                    body = pos + 9
                    after = body + unpack(data, pos + 1)[0] if body <= end else end + 1
                    size = after - body
                elif flags == 0:
                    body = pos + 2
                    after = body + data[pos + 1] if body <= end else end + 1
                    size = after - body
                elif flags <= MORE | LONG:
                    parts, size, after = _whole_message(data, pos, end)
                else:
                    after = size = end + 1
                if after > end or size > limit:
                    pos = self._read_carefully(data, pos, end, out)
                    continue
                messages += 1
                total += size
                if size != last_size or parts != last_parts:
                    last_size, last_parts, alike = size, parts, 0
                    if out is not None:
                        message = Message(parts, size)
                        out.append(message)
                    pos = after
                    continue
                if out is not None:
                    out.append(message)
                alike += 1
                if alike >= _ALIKE:
                    stride = after - pos
                    fit = (end - after) // stride
                    run = _count_alike(data, pos, stride, fit) if fit >= _ALIKE else 0
                    messages += run
                    total += run * size
                    if out is not None:
                        out += [message] * run
                    after += run * stride
                    alike = _WRONG if run < fit else 0
                pos = after
        finally:
            self.messages += messages
            self.message_bytes += total

    def _read_carefully(
        self, data: bytes | memoryview, pos: int, end: int, out: list[Event] | None
    ) -> int:
        """Go through a command or a message, or on with it, in pieces and in any number of frames.

        Return where it ends, or `end`.
        """
        while pos < end:
            if not self._left:
                pos = self._begin(data, pos, end)
                if self._header:
                    return end
            taken = min(self._left, end - pos)
            if self._flags & COMMAND:
                kept = min(taken, _KEPT - len(self._command))
                self._command += data[pos : pos + kept]
            pos += taken
            self._left -= taken
            if self._left:
                return end
            if self._flags & COMMAND:
                self._end_command(out)
                return pos
            self._parts += 1
            self._held += self._size
            if not self._flags & MORE:
                self._end_message(self._parts, self._held, out)
                self._parts = self._held = 0
                return pos
        return end

    def _begin(self, data: bytes | memoryview, pos: int, end: int) -> int:
        """Read a frame's header, or on with it; return where it stops."""
        header = self._header
        flags = header[0] if header else data[pos]
        check_flags(flags)
        more = header_bytes(flags) - len(header)
        header += bytes(data[pos : pos + more])
        if pos + more > end:
            self._header = header
            return end
        self._header = b""
        size = size_in(header)
        if flags & COMMAND and self._parts:
            raise malformed("a command between the frames of a message, where none is allowed")
        if self._held + size > self._limit:
            least = f"{self._held + size} bytes" + (" or more" if flags & MORE else "")
            what = "command" if flags & COMMAND else "message"
            raise ZmtpError(Fault.TOO_BIG, f"a {what} of {least}; {self._limit} is most")
        self._flags, self._size, self._left = flags, size, size
        self._command.clear()
        return pos + more

    def _end_message(self, parts: int, size: int, out: list[Event] | None) -> None:
        self.messages += 1
        self.message_bytes += size
        if out is not None:
            out.append(Message(parts, size))

    def _end_command(self, out: list[Event] | None) -> None:
        name = name_of(self._command)
        if name == "MESSAGE" and self._opaque:
            self._end_message(1, self._size, out)
        elif out is not None:
            is_error = name == "ERROR"
            out.append(read_error(bytes(self._command[6:])) if is_error else Command(name))


def _whole_message(data: bytes | memoryview, pos: int, end: int) -> tuple[int, int, int]:
    """The parts and bytes of a message at `pos`, and where it ends: past `end` where it does not.

    It ends past `end` too where one of its frames is none.
    """
    parts = size = 0
    while pos < end:
        flags = data[pos]
        if flags > MORE | LONG:
            break
        if flags & LONG:
            body = pos + 9
            pos = body + _LONG_SIZE.unpack_from(data, pos + 1)[0] if body <= end else end + 1
        else:
            body = pos + 2
            pos = body + data[pos + 1] if body <= end else end + 1
        parts += 1
        size += pos - body
        if not flags & MORE:
            return parts, size, pos
    return parts, size, end + 1


def _count_alike(data: bytes | memoryview, pos: int, stride: int, most: int) -> int:
    """How many messages behind the one at `pos` have its very headers, up to `most` in a row.

    :param stride: how many bytes it takes, headers included.
    """
    at, after = pos, pos + stride
    while at < after:
        header = data[at : at + header_bytes(data[at])]
        for column in range(len(header) - 1, -1, -1):
            first = at + column + stride
            bytes_there = bytes(data[first : first + (most - 1) * stride + 1 : stride])
            most -= len(bytes_there.lstrip(bytes((header[column],))))
            if not most:
                return 0
        at += len(header) + int.from_bytes(header[1:], "big")
    return most
