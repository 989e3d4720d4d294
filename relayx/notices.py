"""Being told by the system that files may be others now: inotify, on Linux.

Directories are watched rather than files, for whoever replaces a file by a rename, or turns a link
elsewhere, changes a directory and not the file. What has changed, if anything, is looked at by
whoever is told.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from twisted.python.filepath import FilePath

try:
    from twisted.internet import inotify as _inotify
except ImportError:  # pragma: no cover  # another system than Linux
    _inotify = None  # type: ignore[assignment]  # in place of the module

INOTIFY: Any = None if _inotify is None else _inotify.INotify
"""What tells of changes here; None where nothing does."""

_MASK = 0 if _inotify is None else (
    _inotify.IN_CLOSE_WRITE | _inotify.IN_ATTRIB | _inotify.IN_CREATE | _inotify.IN_DELETE
    | _inotify.IN_MOVED | _inotify.IN_MOVE_SELF | _inotify.IN_UNMOUNT
)  # fmt: skip
"""Not each write: a log in the same directory is written all the time, and closed in the end."""

MOST_LINKS = 40
"""Links that are followed for one path, as Linux does."""

Places = dict[str, set[str] | None]
"""Directories to watch, each with the names in it that matter; None for all."""


class NoNoticesError(Exception):
    """The system does not tell of changes; says why not."""


def places(paths: Iterable[str]) -> Places:
    """Where something happens when one of these files, or a file in one of these directories,
    becomes another: the directory that it is in, those of the links on the way there, and, where
    a part of the way is missing, the one that it would be in.

    :param paths: absolute.
    """
    found: Places = {}
    for path in paths:
        last = _on_the_way(path, found)
        if last is not None and os.path.isdir(last):
            found[last] = None
    return found


def _on_the_way(path: str, found: Places) -> str | None:
    """Add what is on the way to a path; where it leads, None where it leads nowhere."""
    here, parts, links = os.sep, _parts(path), 0
    while parts:
        name = parts.pop(0)
        if name == os.pardir:
            here = os.path.dirname(here)
            continue
        there = os.path.join(here, name)
        try:
            target = os.readlink(there) if os.path.islink(there) else None
        except (OSError, ValueError):
            return None
        if target is not None or not parts or not os.path.isdir(there):
            names = found.setdefault(here, set())
            if names is not None:
                names.add(name)
        if target is None:
            if parts and not os.path.isdir(there):
                return None
            here = there
            continue
        links += 1
        if links > MOST_LINKS:
            return None
        parts[:0] = _parts(target)
        if os.path.isabs(target):
            here = os.sep
    return here


def _parts(path: str) -> list[str]:
    return [part for part in path.split(os.sep) if part not in ("", os.curdir)]


class Notices:
    """Tells that one of some files may be another, as often as the system does.

    :param reactor: an IReactorFDSet.
    :param told: called each time, in the reactor's thread.
    :param inotify: makes what tells, of a reactor; None where nothing does.
    """

    def __init__(
        self, reactor: Any, told: Callable[[], None], inotify: Callable[[Any], Any] | None = INOTIFY
    ) -> None:
        self._reactor = reactor
        self._told = told
        self._inotify = inotify
        self._source: Any = None
        self._watched: dict[str, tuple[int, int]] = {}
        self._places: Places = {}

    def watch(self, paths: Iterable[str]) -> None:
        """Tell of these paths from now on, and of no others.

        Directories that are gone, or are others behind the same name, are watched anew.

        :raises NoNoticesError: where that cannot be; nothing is told then.
        """
        self._places = places(paths)
        watched = {path: of for path in self._places if (of := _identity(path)) is not None}
        if self._source is not None and self._source.connected and watched == self._watched:
            return
        self.close()
        if self._inotify is None:
            raise NoNoticesError("this system has no inotify")
        try:
            self._source = self._inotify(self._reactor)
        except Exception:  # inotify's own kind, which another system does not have
            text = "inotify gives no descriptor (fs.inotify.max_user_instances, LimitNOFILE)"
            raise NoNoticesError(text) from None
        for path in watched:
            self._add(path)
        self._watched = watched
        self._source.startReading()

    def _add(self, path: str) -> None:
        try:
            self._source.watch(FilePath(path), _MASK, callbacks=[self._happened])
        except Exception:  # as above; it does not say why
            if _identity(path) is None:  # it has just gone; the next look finds another
                return
            self.close()
            why = (
                "fs.inotify.max_user_watches is reached"
                if os.access(path, os.R_OK)
                else "it may not be read"
            )
            raise NoNoticesError(f"inotify cannot watch {path}: {why}") from None

    def close(self) -> None:
        """Tell nothing more."""
        source, self._source, self._watched = self._source, None, {}
        if source is not None:
            source.loseConnection()

    def _happened(self, _: object, path: Any, mask: int) -> None:
        """Something has happened in a directory, or, without a name, to it."""
        at = os.fsdecode(path.path)
        names = self._places.get(os.path.dirname(at), set())
        if at in self._places or names is None or os.path.basename(at) in names:
            self._told()


def _identity(path: str) -> tuple[int, int] | None:
    """Which directory it is; None where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
