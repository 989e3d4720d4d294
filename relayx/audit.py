"""The record of who did what: one JSON object a line, in a file of its own (``audit.file``).

A line has ``time`` (RFC 3339, UTC), ``event``, ``client`` (its id), ``role``, ``address`` and
``trace_id``, "" where there is none, ``text`` for people, and what else the event has. Never a
secret, a ticket or a key: the fields come from the same notes as the log's.

Lines are written by a thread of its own, since a disk may stand still and the relay must not.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from relayx.logs import shown

AUDITED = frozenset({
    "registered", "register_failed", "taken_over", "takeovers", "lost", "reaped", "granted",
    "lease_ended", "refused", "dropped", "blocked", "private_key", "previous_secret",
    "secret_changed", "key_changed", "key_expiry", "message_refused", "admin", "admin_denied",
    "reloaded", "reload_failed", "started", "stopping", "stopped",
})  # fmt: skip
"""The events of the log that belong in the record."""

MOST_WAITING = 8192
"""Lines that wait to be written; what comes on top is lost, and counted."""

MODE = 0o600
_CLOSE_TIMEOUT = 2.0


class AuditLog:
    """Appends to one file. What cannot be written is reported once, counted, and lost.

    :param path: the file, made with mode 0600 where it does not exist.
    :param report: called in the writing thread with a text, where writing begins to fail and
        where it works again.
    :raises OSError: where the file cannot be opened.
    """

    def __init__(self, path: str, report: Callable[[str], None]) -> None:
        self._path = path
        self._file = os.path.abspath(path)  # the working directory may change until it is reopened
        self._report = report
        self._descriptor = _open(path)
        self._lines: queue.Queue[bytes | None] = queue.Queue(MOST_WAITING)
        self._dropped = 0  # by the reactor's thread
        self._dropped_told = 0
        self._lost = 0
        self._lost_ever = 0
        self._reopen = False
        self._thread = threading.Thread(target=self._run, name="relayx-audit", daemon=True)
        self._thread.start()

    def record(self, when: float, event: str, text: str, fields: dict[str, Any]) -> None:
        """Have one line written.

        :param when: seconds since the epoch.
        :param fields: those of a note; what the log would not show is left out.
        """
        stamp = datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": stamp.replace("+00:00", "Z"),
            "event": event,
            "client": fields.get("client_id", ""),
            **{name: fields.get(name, "") for name in ("role", "address", "trace_id")},
            "text": text,
            **{name: value for name, value in shown(fields).items() if name != "client_id"},
        }
        try:
            self._lines.put_nowait(msgspec.json.encode(line) + b"\n")
        except queue.Full:
            self._dropped += 1

    @property
    def lost(self) -> int:
        """Lines that could not be written, since the start."""
        return self._lost_ever + self._dropped

    def reopen(self) -> None:
        """Write to a new file of the same name from now on, as after a rotation."""
        self._reopen = True

    def close(self) -> None:
        """Write what waits, for two seconds at most, and close the file."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=_CLOSE_TIMEOUT)
        self._thread.join(_CLOSE_TIMEOUT)

    # in the thread

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            if self._reopen:
                self._reopen = False
                self._change_file()
            self._write(line)
        os.close(self._descriptor)

    def _change_file(self) -> None:
        try:
            descriptor = _open(self._file)
        except OSError as failed:
            self._report(f"audit: {self._path} cannot be opened again: {failed.strerror}")
            return
        os.close(self._descriptor)
        self._descriptor = descriptor

    def _write(self, line: bytes) -> None:
        try:
            _append(self._descriptor, line)
        except OSError as failed:
            if not self._lost:
                self._report(f"audit: {self._path} cannot be written: {failed.strerror}")
            self._lost += 1
            self._lost_ever += 1
            return
        dropped = self._dropped - self._dropped_told
        if self._lost or dropped:
            lost, self._lost = self._lost + dropped, 0
            self._dropped_told += dropped
            self._report(f"audit: {self._path} is written again; {lost} lines are lost")


class Record:
    """The record of who did what, in the file that is configured now, or nowhere.

    :param reactor: an IReactorThreads.
    :param report: told in the reactor's thread of what cannot be written.
    """

    def __init__(self, reactor: Any, report: Callable[[str], None]) -> None:
        self._reactor = reactor
        self._report = report
        self._log: AuditLog | None = None
        self._lost = 0

    def open(self, path: str) -> AuditLog | None:
        """A file to :meth:`use`; None for "", which is nowhere.

        :raises OSError: where it cannot be opened.
        """
        if not path:
            return None
        return AuditLog(path, lambda text: self._reactor.callFromThread(self._report, text))

    def use(self, log: AuditLog | None) -> None:
        """Write there from now on. What the one before has still to write, it writes."""
        before, self._log = self._log, log
        if before is not None:
            self._lost += before.lost
            self._reactor.callInThread(before.close)

    @property
    def lost(self) -> int:
        """How many lines could not be written, since the start."""
        return self._lost + (self._log.lost if self._log is not None else 0)

    def reopen(self) -> None:
        """See :meth:`AuditLog.reopen`."""
        if self._log is not None:
            self._log.reopen()

    def write(self, when: float, event: str, text: str, fields: dict[str, Any]) -> None:
        """See :meth:`AuditLog.record`; events that do not belong there are left out."""
        if self._log is not None and event in AUDITED:
            self._log.record(when, event, text, fields)

    def close(self) -> None:
        """Write what waits, and write no more."""
        if self._log is not None:
            self._log.close()
            self._lost += self._log.lost
            self._log = None


def _open(path: str) -> int:
    # Without O_NONBLOCK, a named pipe would be waited for.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    return os.open(path, flags, MODE)


def _append(descriptor: int, line: bytes) -> None:
    """Write a line whole or not at all."""
    written = os.write(descriptor, line)
    if written == len(line):
        return
    try:
        written += os.write(descriptor, line[written:])  # says why it was not all
        if written == len(line):
            return
        raise OSError(None, "the line does not fit")
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
        raise
