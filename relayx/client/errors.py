"""What a client's calls fail with (contract section 3, Codes)."""

from __future__ import annotations

from twisted.internet.error import ConnectionLost

from relayx.core.errors import RelayError


class ClientError(RelayError):
    """Base of all that a client's Deferreds fail with. `str()` is a sentence for a person."""

    def __str__(self) -> str:
        return " ".join(str(part) for part in self.args)


class Refused(ClientError):
    """The gateway said no.

    :ivar code: the contract's error code; one of a newer gateway is kept as it came.
    :ivar text: the gateway's sentence about it.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(code, text)
        self.code = str(code)
        self.text = text

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"


class ControlLost(ClientError, ConnectionLost):
    """The control connection ended before the answer, or did not come back in time."""


class Distrusted(ControlLost):
    """The gateway's messages are not what its key would have signed: nothing it says counts.

    :ivar code: ``SIGNATURE_INVALID``, ``REPLAYED`` or ``RATE_LIMITED``.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = str(code)


class TlsFailed(ClientError):
    """TLS with the gateway could not begin: whom it did not trust, or what did not fit.

    Trying again seldom helps, unless somebody changes a certificate meanwhile.
    """


class TimedOut(ClientError):
    """The gateway is there, and did not answer within the time given."""


class Stopped(ClientError):
    """The client was told to stop."""


class DataLost(ClientError, ConnectionLost):
    """A data connection ended before it was paired."""


class StreamReset(ClientError, ConnectionLost):
    """A session's connection was reset, or broke: what came before is not the whole."""


class StreamEnded(ClientError):
    """Something was written after the end of our own direction."""
