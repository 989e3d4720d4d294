"""When a key's end is near (guide section 3.4)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from relayx.security.times import DAY, utc

ALARM_DAYS = (14, 7, 1)


class HasExpiry(Protocol):
    """Such as a `VerifyingKey` or a `SigningKey`."""

    @property
    def kid(self) -> str:
        """The key's name."""

    @property
    def expires(self) -> float | None:
        """Seconds since the epoch, None: never."""


class Alarm(msgspec.Struct, frozen=True):
    """One that is due. Its like comes with each look; who tells it tells each (kid, days) once.

    :ivar days: 14, 7 or 1: so many are left at most; 0: it has expired.
    :ivar expires: seconds since the epoch.
    """

    kid: str
    days: int
    expires: float

    def __str__(self) -> str:
        if not self.days:
            return f"key {self.kid} has expired, at {utc(self.expires)}"
        left = "1 day" if self.days == 1 else f"{self.days} days"
        return f"key {self.kid} expires in less than {left}, at {utc(self.expires)}"


def expiry_alarms(keys: Iterable[HasExpiry], now: float) -> list[Alarm]:
    """The alarm that is due for each key, if one is: the one of the fewest days.

    :param now: seconds since the epoch.
    """
    found = []
    for key in keys:
        if key.expires is not None:
            left = key.expires - now
            due = [days for days in ALARM_DAYS if left <= days * DAY]
            if due:
                found.append(Alarm(key.kid, min(due) if left > 0 else 0, key.expires))
    return found


def next_alarm(keys: Iterable[HasExpiry], now: float) -> float | None:
    """Seconds until another alarm is due, None where none will be.

    :param now: seconds since the epoch.
    """
    ends = [key.expires for key in keys if key.expires is not None]
    left = [end - days * DAY - now for end in ends for days in (*ALARM_DAYS, 0)]
    return min((seconds for seconds in left if seconds > 0), default=None)
