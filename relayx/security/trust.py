"""What one side signs its messages with, and what it verifies the other's by."""

from __future__ import annotations

from collections.abc import Callable

from relayx.core.codec import Envelope
from relayx.security.signing import Signer, Verifier


class Trust:
    """Both halves, each of which may be missing, and may be another one from now on.

    :ivar signer: signs what is sent; None: it goes out unsigned.
    :ivar verifier: looks at what is received; None: signatures are not looked at.
    :param renew: puts the newest keys there, where they may have changed; None: they stay.
    """

    __slots__ = ("_renew", "signer", "verifier")

    def __init__(
        self,
        signer: Signer | None = None,
        verifier: Verifier | None = None,
        renew: Callable[[Trust], None] | None = None,
    ) -> None:
        self.signer = signer
        self.verifier = verifier
        self._renew = renew

    def renew(self) -> None:
        """Go by the newest keys; a client does so before each connection."""
        if self._renew is not None:
            self._renew(self)

    def of_one_client(self) -> Trust:
        """The same for one client of several in a process.

        See :meth:`~relayx.security.signing.Verifier.fresh`.
        """
        return Trust(self.signer, self.verifier.fresh() if self.verifier else None, self._renew)

    def sign(self, line: bytes) -> bytes:
        """A line of :func:`relayx.core.codec.encode` as it is to go out."""
        return line if self.signer is None else self.signer.sign_line(line)

    def check(self, raw: bytes, envelope: Envelope, now: float) -> str:
        """The kid of a message that may be acted upon.

        See :meth:`~relayx.security.signing.Verifier.check`.
        """
        return "" if self.verifier is None else self.verifier.check(raw, envelope, now)
