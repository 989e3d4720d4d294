"""Refusals of a data connection that share a code and yet tell apart (contract section 6).

On a TCP connection the code says enough, with the sentence. SRT has codes of its own for what
are all ``NOT_ADMITTED`` here, see :mod:`relayx.core.streamid`.
"""

from __future__ import annotations

from relayx.core.errors import Code, PeerError


class NotAdmittedError(PeerError):
    """The source of a connection is not one that may come (`seen` is its address)."""

    def __init__(self, text: str, seen: str = "") -> None:
        super().__init__(Code.NOT_ADMITTED, text)
        self.seen = seen


class WrongTransportError(NotAdmittedError):
    """A connection by TCP where only SRT may come, or the other way round."""


class WrongServiceError(NotAdmittedError):
    """The port, or the lease on it, is of another service."""


class UnknownLeaseError(NotAdmittedError):
    """The port knows no lease of the ticket or session id in HELLO."""


class BadModeError(PeerError):
    """What a stream id wants to do, by ``m``, is nothing that can be done on the port."""

    def __init__(self, text: str) -> None:
        super().__init__(Code.HELLO_INVALID, text)


class ForbiddenError(PeerError):
    """An entry of ``clients`` does not allow the protocol of the port."""

    def __init__(self, error: PeerError) -> None:
        super().__init__(error.code, error.text)


class RetiredError(PeerError):
    """A change of the port ranges took the port out.

    Its leases have ended; who comes with one is told so (``TTL_EXPIRED``), and may ask for
    another. Anybody else gets ``DRAINING``.
    """

    def __init__(self, number: int, under_lease: bool) -> None:
        gone = f"port {number} is taken out of service"
        if under_lease:
            super().__init__(Code.TTL_EXPIRED, f"the lease has ended, since {gone}")
        else:
            super().__init__(Code.DRAINING, gone)
