"""What a reload changes, and whom it touches: told before anything changes."""

from __future__ import annotations

import msgspec

from relayx.config.diff import Applies, Change
from relayx.config.faults import Fault


class Impact(msgspec.Struct, frozen=True, kw_only=True):
    """What a reload changes, and whom it touches.

    :ivar revision: of the configuration that it makes.
    :ivar changes: each key, with its values as they may be shown.
    :ivar ports_removed: ports that listen no more; each is gone when its session has ended.
    :ivar sessions: pairing ids of the sessions on them, which go on.
    :ivar leases: session ids of the leases that end on them.
    :ivar clients: ids of those whose sessions, leases or waiting connections these are, and of
        those whose entry in ``clients`` is another.
    :ivar waiting: connections that wait on them and are closed.
    :ivar faults: why it is refused, () where it is not.
    """

    revision: int
    changes: tuple[Change, ...] = ()
    ports_added: tuple[int, ...] = ()
    ports_removed: tuple[int, ...] = ()
    ports_kept: tuple[int, ...] = ()
    sessions: tuple[str, ...] = ()
    leases: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()
    waiting: int = 0
    faults: tuple[Fault, ...] = ()

    @property
    def restart(self) -> tuple[str, ...]:
        """The keys that need a restart."""
        return tuple(c.key for c in self.changes if c.applies is Applies.RESTART)

    def __str__(self) -> str:
        parts = [_count(len(self.changes), "key") + " changed"]
        if self.ports_added:
            parts.append(_count(len(self.ports_added), "port") + " added")
        if self.ports_removed:
            touched = (
                f"{_count(len(self.sessions), 'session')} on them, "
                f"{_count(len(self.leases), 'lease')} and {self.waiting} waiting connections ended"
            )
            parts.append(f"{_count(len(self.ports_removed), 'port')} removed ({touched})")
        return f"configuration revision {self.revision}: {', '.join(parts)}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
