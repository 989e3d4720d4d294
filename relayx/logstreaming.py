"""The log stream of one gateway, from ``log.stream`` to the publisher of the log."""

from __future__ import annotations

from typing import Any

from twisted.logger import globalLogPublisher

from relayx.config.model import Log
from relayx.control.factory import ControlFactory
from relayx.control.logstream import LogStream
from relayx.core.messages import Role
from relayx.core.switchboard import Switchboard
from relayx.logs import Renderer
from relayx.repeats import Repeats, Unrepeating


class LogStreaming:
    """Begins, ends and replaces it, and keeps its sums.

    :param reactor: an IReactorTime and IReactorThreads.
    :param repeats: what is left out of each log, where that of the stream is one.
    :ivar stream: the stream itself, None where ``log.stream`` is off.
    :ivar left_out_before: lines that were left out of streams that have ended.
    """

    def __init__(
        self,
        reactor: Any,
        control: ControlFactory,
        switchboard: Switchboard,
        repeats: list[Repeats],
        log: Log,
    ) -> None:
        self._reactor = reactor
        self._control = control
        self._switchboard = switchboard
        self._repeats = repeats
        self._dropped_before = self.left_out_before = 0
        self.stream: LogStream | None = None
        self._build(log)

    def _build(self, log: Log) -> None:
        if log.stream == "off":
            return
        role = Role.BE if log.stream == "be" else None
        renderer = Renderer(log.level, log.format)
        self.stream = LogStream(
            self._reactor,
            self._control,
            renderer,
            lambda: [client.conn for client in self._switchboard.clients(role)],
        )
        self._unrepeating = Unrepeating(self._reactor, self.stream, renderer)
        self._repeats.append(self._unrepeating.repeats)

    def start(self) -> None:
        """Send lines from now on."""
        if self.stream is not None:
            globalLogPublisher.addObserver(self._unrepeating)

    def stop(self) -> None:
        """Send no more."""
        if self.stream is not None:
            globalLogPublisher.removeObserver(self._unrepeating)
            self._unrepeating.close()
            self.stream.close()
            self._dropped_before += self.stream.lines_dropped
            self.left_out_before += self._unrepeating.repeats.left_out
            self._repeats.remove(self._unrepeating.repeats)
            self.stream = None

    def change(self, log: Log) -> None:
        """Go by another ``log`` from now on."""
        self.stop()
        self._build(log)
        self.start()

    @property
    def lines_dropped(self) -> int:
        """Lines that found no room in the queue, since the start."""
        return self._dropped_before + (self.stream.lines_dropped if self.stream else 0)
