"""When to reload: files that changed and have settled, and requests that come in storms.

The system tells when something happens to the files (:mod:`relayx.notices`). Where it does not,
they are looked at each second. What counts is always what a look finds: it sees a file that is
replaced by a rename, by a link that is turned elsewhere, or on a network file system alike.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from relayx.notices import INOTIFY, NoNoticesError, Notices

LOOK = 1.0
"""Seconds between two looks at the files, where the system does not tell, and from what it tells
to the look. What has not changed for so long has settled: whoever replaces several files is given
that long to be done."""

REST = 30.0
"""Seconds between two looks where the system tells: it does not of what another machine does to a
network file system, nor of a directory that was moved with all that is above it."""

GAP = 0.25
"""Seconds between two reloads that were asked for, at least."""

Mark = tuple[object, ...]


def mark(path: str) -> Mark:
    """What tells whether a file, or any file in a directory, is another."""
    if not os.path.isdir(path):
        return (_identity(path),)
    try:
        inside = sorted(os.listdir(path))
    except OSError as error:
        inside = [type(error).__name__]
    return (_identity(path), *((name, _identity(os.path.join(path, name))) for name in inside))


def _identity(path: str) -> object:
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        return type(error).__name__
    return (
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns,
        status.st_mode,
    )  # fmt: skip


class FileWatch:
    """Says when files have changed and settled.

    :param reactor: an IReactorTime, and an IReactorFDSet where the system is to tell.
    :param paths: gives the files and directories, anew at each look.
    :param changed: called where they have; what is wrong with them is its business.
    :param say: called with why the system does not tell of changes, where it does not.
    :param inotify: as for :class:`~relayx.notices.Notices`.
    """

    def __init__(
        self,
        reactor: Any,
        paths: Callable[[], Iterable[str]],
        changed: Callable[[], None],
        say: Callable[[str], None],
        inotify: Callable[[Any], Any] | None = INOTIFY,
    ) -> None:
        self._reactor = reactor
        self._paths = paths
        self._changed = changed
        self._say = say
        self._notices = Notices(reactor, self._noticed, inotify)
        self._is_told = self._has_settled = False
        self._why = ""
        self._call: Any = None
        self._known: dict[str, Mark] = {}
        self._last: dict[str, Mark] = {}

    @property
    def watching(self) -> bool:
        """Whether it looks."""
        return self._call is not None

    def start(self) -> None:
        """Look from now on, for what is other than when note was taken of it.

        Where it looks already, the files are others now, or it is time to try inotify again.
        """
        self._be_told()
        if self._call is None:
            self._last = {}
            self._call = self._reactor.callLater(LOOK, self._look)

    def stop(self) -> None:
        """Look no more."""
        self._notices.close()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def take_note(self) -> None:
        """The files are about to be read: what they are now is known."""
        self._known = self._marks()

    def take_note_of_others(self) -> None:
        """The files may be others than those that note was taken of: they are as they are now."""
        self._known = self._marks() | self._known

    def _marks(self) -> dict[str, Mark]:
        return {path: mark(path) for path in self._paths()}

    def _be_told(self) -> None:
        try:
            self._notices.watch(self._paths())
        except NoNoticesError as error:
            self._is_told, why = False, str(error)
            if why != self._why:
                self._say(f"the files are looked at each second, for {why}")
            self._why = why
        else:
            self._is_told, self._why = True, ""

    def _noticed(self) -> None:
        """Something happens to the files: look when it has been still for a while."""
        self._has_settled = True
        if self._call is not None:
            self._call.reset(LOOK)

    def _look(self) -> None:
        if self._is_told:
            self._be_told()  # first: what happens behind the look is told again
        now, before = self._marks(), self._last
        settled, self._has_settled = self._has_settled or now == before, False
        self._last = now
        known = {path: self._known.get(path) for path in now}
        done = settled or now == known
        self._call = self._reactor.callLater(REST if self._is_told and done else LOOK, self._look)
        if now != known and settled:
            self._known = now
            self._changed()


class Requests:
    """Makes one reload of many requests that come at once.

    One that comes while a reload is under way, or right after it, is followed by another reload:
    what changed before a request is always read after it.

    :param clock: an IReactorTime.
    :param reload: does it.
    """

    def __init__(self, clock: Any, reload: Callable[[], None]) -> None:
        self._clock = clock
        self._reload = reload
        self._call: Any = None
        self._reloading = self._again = False
        self._not_before = 0.0

    def ask(self) -> None:
        """One more request, in the reactor's thread."""
        if self._reloading:
            self._again = True
        elif self._call is None:
            wait = self._not_before - self._clock.seconds()
            self._call = self._clock.callLater(max(0.0, wait), self._do)

    def stop(self) -> None:
        """Forget what has been asked for."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _do(self) -> None:
        self._call = None
        self._reloading = True
        try:
            self._reload()
        finally:
            self._not_before = self._clock.seconds() + GAP
            self._reloading = False
            if self._again:
                self._again = False
                self.ask()
