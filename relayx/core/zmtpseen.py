"""What the data plane saw of the ZMTP of a session (RFC 23 and 37), to be told."""

from __future__ import annotations

from typing import Any

import msgspec


class ZmtpSeen(msgspec.Struct, frozen=True):
    """The handshake of a session, and its messages where they are counted.

    :ivar mechanism: ``NULL``, ``PLAIN`` or ``CURVE``.
    :ivar fe_type: the FE's kind of socket, such as ``PUSH``; "" where it is encrypted (CURVE).
    :ivar be_type: the BE's.
    :ivar fe_to_be_messages: whole messages from the FE, all frames of each as one; None where
        ``zmq.inspect`` is not ``messages``.
    :ivar be_to_fe_messages: those from the BE.
    """

    mechanism: str
    fe_type: str
    be_type: str
    fe_to_be_messages: int | None = None
    be_to_fe_messages: int | None = None

    def __str__(self) -> str:
        """For people."""
        fe, be = self.fe_type or "encrypted", self.be_type or "encrypted"
        text = f"ZMTP of {self.mechanism}, {fe} to {be}"
        if self.fe_to_be_messages is None:
            return text
        there, back = self.fe_to_be_messages, self.be_to_fe_messages
        return f"{text}, {there} messages FE to BE, {back} BE to FE"

    def fields(self) -> dict[str, Any]:
        """For programs that read the log."""
        found: dict[str, Any] = {
            "zmtp_mechanism": self.mechanism,
            "zmtp_fe_type": self.fe_type,
            "zmtp_be_type": self.be_type,
        }
        if self.fe_to_be_messages is not None:
            found["fe_to_be_messages"] = self.fe_to_be_messages
            found["be_to_fe_messages"] = self.be_to_fe_messages
        return found
