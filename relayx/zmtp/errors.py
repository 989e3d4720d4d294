"""What can be wrong with a ZMTP stream."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from relayx.core.errors import RelayError

if TYPE_CHECKING:
    from relayx.zmtp.events import Event


class Fault(StrEnum):
    """Kinds of mistakes, for metrics and logs."""

    VERSION = "version"
    """An older protocol than ZMTP 3.0."""
    MALFORMED = "malformed"
    """No ZMTP, or a greeting, frame or command that the RFCs do not have."""
    MECHANISM = "mechanism"
    """Two mechanisms that differ, one that is not known here, or two clients or two servers."""
    SOCKET_TYPE = "socket_type"
    """Two socket types that do not talk to each other."""
    TOO_BIG = "too_big"
    """A message over the limit."""


class ZmtpError(RelayError):
    """A peer's stream cannot be followed any further; its text is for logs, without controls.

    :ivar fault: what kind of mistake it was.
    :ivar text: an English sentence: what was wrong and what is allowed.
    :ivar events: what the bytes fed last held before the mistake.
    :ivar mutual: two peers do not go together, and neither has made a mistake.
    """

    def __init__(self, fault: Fault, text: str) -> None:
        super().__init__(fault, text)
        self.fault = fault
        self.text = text
        self.events: Sequence[Event] = ()
        self.mutual = False

    def __str__(self) -> str:
        return self.text


class OldVersion(ZmtpError):
    """A peer speaks ZMTP 1.0 or 2.0.

    :ivar version: "1.0" or "2.0".
    """

    def __init__(self, version: str) -> None:
        text = f"the peer speaks ZMTP {version}; 3.0 or later is needed (libzmq 4.0 or later)"
        super().__init__(Fault.VERSION, text)
        self.version = version


def malformed(text: str) -> ZmtpError:
    """A :class:`ZmtpError` of the kind ``MALFORMED``."""
    return ZmtpError(Fault.MALFORMED, text)
