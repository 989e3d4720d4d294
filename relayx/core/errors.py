"""What can go wrong, a peer's doing apart from our own (contract section 3, Codes).

A :class:`PeerError` carries the answer that the peer gets. A :class:`StateError` means that
the gateway's own code asked for something its rules do not have; it is never caused by bytes
from outside.
"""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """The error codes of the contract, section 3."""

    AUTH_FAILED = "AUTH_FAILED"
    REGISTER_REQUIRED = "REGISTER_REQUIRED"
    CAPACITY = "CAPACITY"
    TAKEN_OVER = "TAKEN_OVER"
    INVALID_MESSAGE = "INVALID_MESSAGE"
    INVALID_REQUEST = "INVALID_REQUEST"
    PORT_EXHAUSTED = "PORT_EXHAUSTED"
    TTL_EXPIRED = "TTL_EXPIRED"
    BE_LOST = "BE_LOST"
    HELLO_INVALID = "HELLO_INVALID"
    PORT_BUSY = "PORT_BUSY"
    PORT_EMPTY = "PORT_EMPTY"
    PORT_RESERVED = "PORT_RESERVED"
    NOT_ADMITTED = "NOT_ADMITTED"
    SIGNATURE_INVALID = "SIGNATURE_INVALID"
    REPLAYED = "REPLAYED"
    RATE_LIMITED = "RATE_LIMITED"
    DRAINING = "DRAINING"


class RelayError(Exception):
    """Base of every error that relayx raises itself."""


class PeerError(RelayError):
    """A peer did something that the contract does not allow.

    :ivar code: what kind of mistake it was.
    :ivar text: an English sentence for the peer: what was wrong and what is allowed.
    :ivar msg_id: the ``msg_id`` of the message that caused it, "" where it had none.
    :ivar trace_id: its ``trace_id``, "" where it had none.
    """

    def __init__(self, code: Code, text: str, *, msg_id: str = "", trace_id: str = "") -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text
        self.msg_id = msg_id
        self.trace_id = trace_id

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


class FramingError(PeerError):
    """The stream of JSON objects is broken; the connection cannot go on (contract section 2)."""

    def __init__(self, text: str) -> None:
        super().__init__(Code.INVALID_MESSAGE, text)


class StateError(RelayError):
    """The gateway's own code asked for a transition that its rules do not have."""
