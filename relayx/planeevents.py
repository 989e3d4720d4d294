"""What happens on the planes, of TCP and of SRT, told to the rules, the metrics and the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from relayx.authentication import Say
from relayx.core import effects as fx
from relayx.core.errors import Code
from relayx.core.hello import Hello
from relayx.core.messages import Protocol, Role
from relayx.core.pairing import Outcome
from relayx.core.switchboard import Switchboard
from relayx.metrics import Metrics
from relayx.srt.connection import SrtConnection


class PlaneEvents:
    """See planes.Events, whose methods these are.

    :param clock: an IReactorTime.
    :param perform: carries out what the rules answer.
    :param metrics: gives those that count; asked each time, since planes are made before them.
    :param say: writes a line in the log.
    :param measured: called when the state of SRT links is new.
    """

    def __init__(
        self,
        clock: Any,
        switchboard: Switchboard,
        perform: Callable[[list[fx.Effect]], None],
        metrics: Callable[[], Metrics],
        say: Say,
        measured: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._switchboard = switchboard
        self._perform = perform
        self._metrics = metrics
        self._say = say
        self._measured = measured

    def said_hello(self, link: int, port: int, address: str, hello: Hello) -> None:
        """See data.events.Events."""
        now = self._clock.seconds()
        found = self._switchboard.board.ports.get(port)
        if found is not None:
            self._metrics().said_hello(found.protocol, hello.role)
        self._perform(self._switchboard.hello(now, link, port, address, hello))

    def takes_zmtp(self, port: int) -> bool:
        """See data.events.Events."""
        found = self._switchboard.board.ports.get(port)
        return found is not None and found.protocol is Protocol.ZMQ

    def role_by_state(self, port: int, address: str, kind: str, shown: bool) -> Role:
        """See data.events.Events."""
        now = self._clock.seconds()
        return self._switchboard.role_by_state(now, port, address, kind, shown=shown)

    def said_zmtp(
        self, link: int, port: int, address: str, credentials: tuple[str, str] | None, kind: str
    ) -> None:
        """See data.events.Events."""
        role = self.role_by_state(port, address, kind, credentials is not None)
        self._metrics().said_hello(Protocol.ZMQ, role)
        now = self._clock.seconds()
        self._perform(self._switchboard.zmtp(now, link, port, address, credentials, kind))

    def hello_failed(self, port: int, address: str, text: str) -> None:
        """See data.events.Events."""
        self._say(
            "info", "refused", f"port {port} refuses {address}: HELLO_INVALID: {text}",
            port=port, address=address, error_code="HELLO_INVALID",
        )  # fmt: skip

    def connected_by_srt(self, connection: SrtConnection) -> None:
        """See srt.plane.Events."""
        came = connection
        self._metrics().said_hello(Protocol.SRT, came.hello.role)
        self._perform(
            self._switchboard.hello(
                self._clock.seconds(), came.link, came.port, came.address, came.hello, came.way
            )
        )  # fmt: skip

    def refused_by_srt(self, port: int, address: str, code: str, reject: int, text: str) -> None:
        """See srt.plane.Events."""
        self._say(
            "warn" if code == Code.NOT_ADMITTED else "info", "refused",
            f"srt port {port} refuses {address} with {reject or 'a reason of libsrt'}: "
            f"{code}: {text}",
            port=port, address=address, error_code=str(code),
        )  # fmt: skip

    def links_measured(self) -> None:
        """See srt.plane.Events."""
        self._measured()

    def link_lost(self, link: int) -> None:
        """See data.events.Events."""
        self._perform(self._switchboard.link_lost(self._clock.seconds(), link))

    def session_draining(self, pairing_id: str) -> None:
        """See data.events.Events."""
        self._perform(self._switchboard.session_draining(pairing_id))

    def session_over(self, pairing_id: str, outcome: Outcome) -> None:
        """See data.events.Events."""
        now = self._clock.seconds()
        self._perform(self._switchboard.session_over(now, pairing_id, outcome))

    def zmq_replied(self, pattern: str, seconds: list[float]) -> None:
        """See data.events.Events."""
        self._metrics().zmq_replied(pattern, seconds)
