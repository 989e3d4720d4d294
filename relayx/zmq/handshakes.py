"""Which handshakes libzmq gave up without saying so."""

from __future__ import annotations

LONGEST = 35.0
"""Seconds, more than libzmq's ``ZMQ_HANDSHAKE_IVL`` (30 s): who is there longer has succeeded."""


class Handshakes:
    """Tells the connections of one side that ended with no outcome of their handshake.

    Nothing is said, up to 4.3.5, of a peer whose socket type does not fit and of one of ZMTP
    1.0 or 2.0: it is accepted, and gone. A monitor names the descriptor where it accepts and
    where it closes, and none where a handshake succeeds or is refused. So where several
    handshakes go on at once, some of those that ended may have succeeded before. What cannot
    be told apart is counted when it can, which `LONGEST` bounds, and never too high.

    Times are seconds of any clock that only goes forward.

    :ivar unfit: how many there have been.
    """

    def __init__(self) -> None:
        self.unfit = 0
        self._going: dict[int, float] = {}  # since when, of those whose outcome is not known
        self._outcomes = 0  # told, of one of these or of the silent ones
        self._silent = 0  # ended, and libzmq said nothing with it

    @property
    def unsettled(self) -> bool:
        """Whether some have ended that may or may not have succeeded."""
        return self._silent > 0

    def accepted(self, descriptor: int, now: float) -> None:
        """A connection has come."""
        self._going.pop(descriptor, None)
        self._going[descriptor] = now

    def outcome(self, now: float) -> None:
        """Some handshake has succeeded, or its peer was refused."""
        self._outcomes += 1
        self.settle(now)

    def ended(self, descriptor: int, told: bool, now: float) -> None:
        """A connection has gone.

        :param told: whether it is known why: its handshake failed, or it was ended by us.
        """
        if self._going.pop(descriptor, None) is not None:
            self._silent += not told
            self.settle(now)

    def settle(self, now: float) -> None:
        """Count what can be told by now."""
        for descriptor, since in list(self._going.items()):
            if now - since < LONGEST:
                break
            del self._going[descriptor]
            self._outcomes = max(0, self._outcomes - 1)
        if self._silent > self._outcomes:
            self.unfit += self._silent - self._outcomes
            self._silent = self._outcomes
        if self._outcomes >= self._silent + len(self._going):  # each has had one
            self._going.clear()
            self._outcomes = self._silent = 0
